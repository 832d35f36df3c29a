package cgroup

import (
	"errors"
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"
)

// Delegate gives the group's v2 directory to a user, and those of its files that the kernel says are meant for it
// (cgroup-v2.rst, "Model of Delegation"). A rootless group that may not be given away stays ours.
func (g *Group) Delegate(uid int) error {
	d := g.v2()
	if d == nil {
		return nil
	}
	files, err := readFile("/sys/kernel/cgroup/delegate")
	if errors.Is(err, fs.ErrNotExist) { // Linux 4.14 and older, and where /sys is not sysfs
		files, err = "cgroup.procs\ncgroup.subtree_control\ncgroup.threads\n", nil
	}
	if err != nil {
		return err
	}
	for _, name := range append([]string{""}, strings.Fields(files)...) {
		file := strings.TrimSuffix(d.path+"/"+name, "/")
		err := unix.Lchown(file, uid, -1)
		switch {
		case err == nil, err == unix.ENOENT && name != "": // of a controller that the group hasn't got
		case err == unix.EPERM && g.rootless:
			return nil
		default:
			return &fs.PathError{Op: "chown", Path: file, Err: err}
		}
	}
	return nil
}
