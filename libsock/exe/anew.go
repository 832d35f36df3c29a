package exe

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/sock-runtime/sock/libsock/stub/nofile"
)

// executeAnew executes this program anew with all its arguments, from a read-only mount or, by those who can't make one,
// from a sealed copy. It returns only if that failed.
func executeAnew() error {
	path, err := os.Readlink(self)
	if err != nil {
		return err
	}
	if strings.HasPrefix(path, "/memfd:") {
		return errors.New("it is a copy already, but not sealed") // by whom, we don't know
	}
	mount, err := readOnlyMount(path)
	if err == nil {
		defer unix.Close(mount)
		return execute(fmt.Sprintf("/proc/self/fd/%d/%s", mount, filepath.Base(path)))
	}
	fd, err := sealedFile(copyProgram)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return execute(fmt.Sprintf("/proc/self/fd/%d", fd))
}

func execute(file string) error {
	if nofile.Known { // the new program must find the soft limit as it was before Go raised it
		_ = unix.Prlimit(0, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: nofile.Original.Soft, Max: nofile.Original.Hard}, nil)
	}
	return &os.PathError{Op: "execute", Path: file, Err: syscall.Exec(file, os.Args, os.Environ())}
}

// readOnlyMount makes a mount of the directory of this program's file, in no namespace; nobody can change it any more once
// what is returned is closed. It isn't the file's own mount, for fspick(2) changes a whole file system by a path that is
// the root of a mount.
func readOnlyMount(path string) (int, error) {
	mount, err := unix.OpenTree(unix.AT_FDCWD, filepath.Dir(path), unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return -1, err
	}
	err = unix.MountSetattr(mount, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
	var ours, its unix.Stat_t
	if err == nil {
		err = errors.Join(unix.Stat(self, &ours), unix.Fstatat(mount, filepath.Base(path), &its, unix.AT_SYMLINK_NOFOLLOW))
	}
	if err == nil && (ours.Dev != its.Dev || ours.Ino != its.Ino) {
		err = errors.New("another file is in its place") // or a mount is on it
	}
	if err != nil {
		_ = unix.Close(mount)
		return -1, err
	}
	return mount, nil
}

// seals keep a file in memory from being changed for good, fcntl(2).
const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE

// sealed tells whether this process was executed from a sealed copy.
func sealed() bool {
	fd, err := unix.Open(self, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	set, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0)
	return err == nil && set&seals == seals
}

// nameCopy undoes that the kernel has named a process that was executed from a copy after its descriptor.
var nameCopy = sync.OnceFunc(func() {
	_ = os.WriteFile("/proc/self/comm", []byte(filepath.Base(os.Args[0])), 0)
})

// sealedFile makes an executable file in memory that nobody can change; nobody has it open for writing either, which the
// kernel insists on.
func sealedFile(fill func(fd int) error) (int, error) {
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := unix.MemfdCreate("sock", flags|unix.MFD_EXEC)
	if err == unix.EINVAL { // MFD_EXEC came with Linux 6.3
		fd, err = unix.MemfdCreate("sock", flags)
	}
	if err != nil {
		return -1, fmt.Errorf("memfd_create: %w", err)
	}
	defer unix.Close(fd)
	if err = fill(fd); err == nil {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals)
	}
	if err != nil {
		return -1, fmt.Errorf("copy this program into memory: %w", err)
	}
	name := "/proc/self/fd/" + strconv.Itoa(fd)
	file, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return file, nil
}

func copyProgram(fd int) error {
	program, err := unix.Open(self, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: self, Err: err}
	}
	defer unix.Close(program)
	for {
		const atOnce = 1 << 30
		if n, err := unix.Sendfile(fd, program, nil, atOnce); err != nil || n == 0 {
			return err
		}
	}
}
