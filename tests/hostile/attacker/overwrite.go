package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// overwrite opens whatever it can see other processes execute, until there is a file of the name that its argument says,
// and then tries to write to each by all ways that there are.
func overwrite(args []string) {
	var own unix.Stat_t
	if err := unix.Stat("/proc/self/exe", &own); err != nil {
		panic(err)
	}
	type file struct{ device, inode uint64 }
	seen := map[file]bool{{own.Dev, own.Ino}: true}
	var found []int
	fmt.Println("ready")
	for unix.Access(args[0], unix.F_OK) != nil {
		for _, pid := range candidates() {
			fd, err := unix.Open(fmt.Sprintf("/proc/%d/exe", pid), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
			if err != nil {
				continue
			}
			var st unix.Stat_t
			if err := unix.Fstat(fd, &st); err == nil && !seen[file{st.Dev, st.Ino}] {
				seen[file{st.Dev, st.Ino}] = true
				fmt.Printf("saw %d:%d\n", st.Dev, st.Ino)
				found = append(found, fd)
				continue
			}
			unix.Close(fd)
		}
	}
	for i, fd := range found {
		for _, way := range ways {
			step(way.do(fd), "%d %s", i, way.name)
		}
	}
}

// candidates are the processes that exist, and those that will be next.
func candidates() []int {
	var list []int
	if data, err := os.ReadFile("/proc/loadavg"); err == nil { // its last field is the last process ID of our namespace
		f := strings.Fields(string(data))
		last, _ := strconv.Atoi(f[len(f)-1])
		for pid := last - 2; pid <= last+3; pid++ {
			list = append(list, pid)
		}
	}
	return list
}

var payload = []byte("#!/bin/attacked\n")

// ways of writing to a file that is open for reading.
var ways = []struct {
	name string
	do   func(fd int) error
}{
	{"write", func(fd int) error { return writeTo(self(fd)) }},
	{"truncate", func(fd int) error { return unix.Truncate(self(fd), 16) }},
	{"chmod", func(fd int) error { return unix.Fchmod(fd, 0o7777) }},
	{"chown", func(fd int) error { return unix.Fchown(fd, 1000, 1000) }},
	{"set times", func(fd int) error { return unix.Futimes(fd, []unix.Timeval{{Sec: 1}, {Sec: 1}}) }},
	{"set an attribute", func(fd int) error { return unix.Fsetxattr(fd, "security.attacked", []byte("x"), 0) }},
	{"clear flags and write", func(fd int) error {
		flags, err := unix.IoctlGetInt(fd, unix.FS_IOC_GETFLAGS)
		if err != nil {
			return err
		}
		if err := unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, flags&^unix.STATX_ATTR_IMMUTABLE); err != nil {
			return err
		}
		return writeTo(self(fd))
	}},
	{"link and write", func(fd int) error {
		if err := unix.Linkat(fd, "", unix.AT_FDCWD, "/linked", unix.AT_EMPTY_PATH); err != nil {
			return err
		}
		return writeTo("/linked")
	}},
	{"remount and write", func(fd int) error {
		if err := unix.Mount("", self(fd), "", unix.MS_REMOUNT|unix.MS_BIND, ""); err != nil {
			return err
		}
		return writeTo(self(fd))
	}},
	{"change the mount and write", func(fd int) error {
		attr := &unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY}
		if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, attr); err != nil {
			return err
		}
		return writeTo(self(fd))
	}},
	{"clone the mount and write", func(fd int) error {
		tree, err := unix.OpenTree(fd, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
		if err != nil {
			return err
		}
		if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY}); err != nil {
			return err
		}
		return writeTo(self(tree))
	}},
	{"bind and write", func(fd int) error {
		target, err := os.CreateTemp("/", "bound")
		if err != nil {
			return err
		}
		defer target.Close()
		if err := unix.Mount(self(fd), target.Name(), "", unix.MS_BIND, ""); err != nil {
			return err
		}
		if err := unix.Mount("", target.Name(), "", unix.MS_REMOUNT|unix.MS_BIND, ""); err != nil {
			return err
		}
		return writeTo(target.Name())
	}},
	{"reconfigure the file system", func(fd int) error {
		fs, err := unix.Fspick(fd, "", unix.FSPICK_EMPTY_PATH|unix.FSPICK_CLOEXEC)
		if err != nil {
			return err
		}
		defer unix.Close(fs)
		return unix.FsconfigReconfigure(fs) // changes nothing, but tells whether it may
	}},
	{"open by handle and write", func(fd int) error {
		handle, _, err := unix.NameToHandleAt(fd, "", unix.AT_EMPTY_PATH)
		if err != nil {
			return err
		}
		opened, err := unix.OpenByHandleAt(fd, handle, unix.O_WRONLY)
		if err != nil {
			return err
		}
		_, err = unix.Write(opened, payload)
		return err
	}},
	{"write to a mapping", func(fd int) error {
		writable, err := unix.Open(self(fd), unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		memory, err := unix.Mmap(writable, 0, len(payload), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		if err != nil {
			return err
		}
		copy(memory, payload)
		return nil
	}},
}

func self(fd int) string { return fmt.Sprintf("/proc/self/fd/%d", fd) }

// writeTo waits until nobody executes the file any more.
func writeTo(name string) error {
	for range 200 {
		fd, err := unix.Open(name, unix.O_WRONLY|unix.O_CLOEXEC, 0)
		if err == unix.ETXTBSY {
			time.Sleep(5 * time.Millisecond)
			continue
		}
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		_, err = unix.Write(fd, payload)
		return err
	}
	return unix.ETXTBSY
}
