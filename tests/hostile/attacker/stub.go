package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// pry looks into every process but itself that it can see, once there are as many as its first argument says, by all ways
// that there are.
func pry(args []string) {
	want, err := strconv.Atoi(args[0])
	must(err)
	fmt.Println("ready")
	var others []int
	for len(others) < want {
		others = others[:0]
		entries, err := os.ReadDir("/proc")
		must(err)
		for _, e := range entries {
			if pid, err := strconv.Atoi(e.Name()); err == nil && pid != os.Getpid() {
				others = append(others, pid)
			}
		}
		time.Sleep(time.Millisecond)
	}
	for _, pid := range others {
		pryInto(pid)
	}
	fmt.Println("over")
	if len(args) > 1 { // as process 1, others would end with us
		time.Sleep(time.Hour)
	}
}

func pryInto(pid int) {
	open := func(name string, flags int) error {
		fd, err := unix.Open(fmt.Sprintf("/proc/%d/%s", pid, name), flags|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err == nil {
			unix.Close(fd)
		}
		return err
	}
	for _, name := range []string{"mem", "exe", "root", "cwd", "ns/mnt", "ns/user", "fd/0"} {
		step(open(name, unix.O_RDONLY), "%s", name)
	}
	step(open("mem", unix.O_RDWR), "mem for writing")
	step(open("root/", unix.O_RDONLY|unix.O_DIRECTORY), "root directory")
	for _, name := range []string{"environ", "maps", "auxv", "syscall"} { // of some only reading is refused
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, name))
		if err == nil && len(data) == 0 {
			err = errors.New("empty")
		}
		step(err, "%s", name)
	}
	// The gate that it waits at, wherever that is among its descriptors.
	gate := error(unix.ENOENT)
	for fd := range 256 {
		if err := open(fmt.Sprint("fd/", fd), unix.O_WRONLY); err == nil {
			gate = nil
		} else if err != unix.ENOENT && gate != nil {
			gate = err
		}
	}
	step(gate, "descriptors for writing")
	err := ptrace(unix.PTRACE_SEIZE, pid)
	step(err, "ptrace seize")
	if err != nil {
		step(ptrace(unix.PTRACE_ATTACH, pid), "ptrace attach")
	}
	buffer := make([]byte, 8)
	_, err = unix.ProcessVMReadv(pid, []unix.Iovec{{Base: &buffer[0], Len: 8}}, []unix.RemoteIovec{{Base: mapped(pid), Len: 8}}, 0)
	step(err, "process_vm_readv")
	pidfd, err := unix.PidfdOpen(pid, 0)
	must(err)
	defer unix.Close(pidfd)
	fd, err := unix.PidfdGetfd(pidfd, 0, 0)
	step(err, "pidfd_getfd")
	if err == nil {
		unix.Close(fd)
	}
	_, _, errno := unix.Syscall6(unix.SYS_KCMP, uintptr(os.Getpid()), uintptr(pid), 0, 0, 0, 0)
	step(failed(errno), "kcmp")
	step(unix.Setns(pidfd, unix.CLONE_NEWNS), "setns")
}

// mapped is an address that every process has something at, if maps may be read.
func mapped(pid int) uintptr {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil || len(data) == 0 {
		return 0x400000
	}
	var start uintptr
	fmt.Sscanf(string(data), "%x-", &start)
	return start
}

func ptrace(request, pid int) error {
	_, _, errno := unix.Syscall6(unix.SYS_PTRACE, uintptr(request), uintptr(pid), 0, 0, 0, 0)
	return failed(errno)
}

func failed(errno unix.Errno) error {
	if errno == 0 {
		return nil
	}
	return errno
}
