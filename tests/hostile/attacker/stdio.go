package main

import (
	"fmt"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"
)

// changeStdio gives whatever its stdio and its devices are another mode and another owner.
func changeStdio([]string) {
	for fd := range 3 {
		step(unix.Fchmod(fd, 0o777), "mode of %d", fd)
		step(unix.Fchown(fd, 12, 12), "owner of %d", fd)
		step(unix.Fchmodat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), 0o777, 0), "mode of /proc/self/fd/%d", fd)
		step(unix.Fsetxattr(fd, "user.attacked", []byte("x"), 0), "attribute of %d", fd)
	}
	for _, name := range []string{"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty", "/dev/console", "/dev/ptmx"} {
		step(unix.Chmod(name, 0o777), "mode of %s", name)
		step(unix.Chown(name, 12, 12), "owner of %s", name)
	}
}

// inherit executes a command with all the inheritable and ambient capabilities that it can have.
func inherit(args []string) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	must(unix.Capget(&header, &data[0]))
	for i := range data {
		data[i].Inheritable = data[i].Permitted
	}
	must(unix.Capset(&header, &data[0]))
	for c := range 64 {
		_ = unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, uintptr(c), 0, 0)
	}
	file, err := exec.LookPath(args[0])
	must(err)
	must(unix.Exec(file, args, os.Environ()))
}
