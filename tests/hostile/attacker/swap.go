package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// swap exchanges two names all the time, until it is killed. It leaves its victim some of the processor: who is stopped makes
// no mistakes.
func swap(args []string) {
	fmt.Println("ready")
	for {
		must(unix.Renameat2(unix.AT_FDCWD, args[0], unix.AT_FDCWD, args[1], unix.RENAME_EXCHANGE))
		time.Sleep(time.Duration(rand.IntN(100)) * time.Microsecond)
	}
}

// naiveMkdir makes a directory below a root as long as that seems to be right: it looks whether the parent is inside, then
// makes it by its path. It ends when the directory that is named last has something in it.
func naiveMkdir(args []string) {
	root, parent, outside := args[0], filepath.Join(args[0], args[1]), args[2]
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); {
		real, err := filepath.EvalSymlinks(parent)
		if err != nil || !strings.HasPrefix(real, root+"/") {
			continue
		}
		_ = os.Mkdir(filepath.Join(parent, "made"), 0o755)
		if entries, _ := os.ReadDir(outside); len(entries) > 0 {
			fmt.Println("escaped")
			return
		}
	}
}

// naiveBind does the same with mounts, in a mount namespace of its own.
func naiveBind(args []string) {
	alone()
	root, target, outside := args[0], filepath.Join(args[0], args[1]), args[2]
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); {
		real, err := filepath.EvalSymlinks(target)
		if err != nil || !strings.HasPrefix(real, root+"/") {
			continue
		}
		if unix.Mount("tmpfs", target, "tmpfs", 0, "") != nil {
			continue
		}
		var st unix.Statfs_t
		must(unix.Statfs(outside, &st))
		if st.Type == unix.TMPFS_MAGIC {
			fmt.Println("escaped")
			return
		}
		for unix.Unmount(target, unix.MNT_DETACH) == nil {
			break
		}
	}
}
