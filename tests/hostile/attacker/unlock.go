package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// unlock tries to take from mounts what was given to them: its arguments are a directory that is mounted read-only and a
// file that is masked. It plays everything once more in user and mount namespaces of its own.
func unlock(args []string) {
	runtime.LockOSThread()
	play := func(where string) {
		dir, masked := args[0], args[1]
		touch := func(err error) error {
			if err != nil {
				return err
			}
			fd, err := unix.Open(filepath.Join(dir, "unlocked"), unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o644)
			if err == nil {
				unix.Close(fd)
			}
			return err
		}
		step(touch(nil), "%s write", where)
		step(touch(unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_BIND, "")), "%s remount the bind", where)
		step(touch(unix.Mount("", dir, "", unix.MS_REMOUNT, "")), "%s remount", where)
		step(touch(unix.MountSetattr(unix.AT_FDCWD, dir, 0, &unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY})), "%s mount_setattr", where)
		step(touch(cloneWritable(dir, 0)), "%s clone the mount", where)
		step(touch(cloneWritable(dir, unix.AT_RECURSIVE)), "%s clone the tree", where)
		step(touch(cloneWritable("/", unix.AT_RECURSIVE)), "%s clone the root", where)
		step(unix.Unmount(dir, 0), "%s unmount it", where)
		step(unix.Unmount(dir, unix.MNT_DETACH), "%s detach it", where)
		step(unix.Mount(dir, "/tmp", "", unix.MS_MOVE, ""), "%s move it", where)
		step(unix.Unmount(masked, unix.MNT_DETACH), "%s unmount the mask", where)
		step(unix.Mount(masked, "/tmp", "", unix.MS_MOVE, ""), "%s move the mask", where)
		step(unix.Unmount("/proc", unix.MNT_DETACH), "%s unmount /proc", where)
		step(unix.Mount("/proc", "/tmp", "", unix.MS_BIND, ""), "%s bind /proc without its masks", where)
		step(unix.Mount("proc", "/tmp", "proc", 0, ""), "%s mount another procfs", where)
	}
	if len(args) > 2 {
		play(args[2])
		return
	}
	step(inNamespaces("unlock", args[0], args[1], "further inside"), "further inside")
	play("inside")
}

// inNamespaces executes the attacker anew, as root of new user and mount namespaces.
func inNamespaces(args ...string) error {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	mapping := []syscall.SysProcIDMap{{Size: 1}}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS, UidMappings: mapping, GidMappings: mapping}
	return cmd.Run()
}

// cloneWritable makes a copy of a mount, writable, and puts it on /mnt; /mnt/unlocked would be in it.
func cloneWritable(dir string, flags uint) error {
	fd, err := unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|flags)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|flags, &unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY}); err != nil {
		return err
	}
	file, err := unix.Openat(fd, "unlocked", unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o644)
	if err == nil {
		unix.Close(file)
	}
	return err
}
