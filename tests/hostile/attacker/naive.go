package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// What is naive does by a careless sequence what a runtime does, on the host, as the control of a test: the attack must
// work on it.

// naiveCwd keeps a descriptor of the host's root, changes root and enters the directory that its arguments name: the
// root and the working directory. It prints what is there.
func naiveCwd(args []string) {
	fd, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY, 0)
	must(err)
	must(unix.Dup2(fd, 7))
	must(unix.Chroot(args[0]))
	must(unix.Chdir("/"))
	must(unix.Chdir(args[1]))
	list("." + args[2])
}

// list prints the names in a directory.
func list(dir string) {
	entries, err := os.ReadDir(dir)
	must(err)
	for _, e := range entries {
		fmt.Println(e.Name())
	}
}

// naiveMask masks a file of the root directory with that directory's /dev/null, both by path, in a mount namespace of its
// own, and writes to it.
func naiveMask(args []string) {
	alone()
	root, masked := args[0], args[1]
	must(unix.Mount("proc", filepath.Join(root, "proc"), "proc", 0, ""))
	must(unix.Chroot(root)) // links are the root's
	must(unix.Chdir("/"))
	must(unix.Mount("/dev/null", masked, "", unix.MS_BIND, ""))
	data, err := os.ReadFile(masked)
	step(err, "read %q", data)
}

// alone leaves the host's mount namespace.
func alone() {
	runtime.LockOSThread() // the others stay
	must(unix.Unshare(unix.CLONE_NEWNS))
	must(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
