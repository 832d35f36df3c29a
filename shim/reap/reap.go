// Package reap waits for children and says which process it was that ended, not only which pid: waitid(2) shows a child that
// has ended and leaves it, so that /proc can still be asked about it. x/sys/unix has the call but hides the pid, hence unsafe.
package reap

import (
	"bytes"
	"strconv"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sock-runtime/sock/shim/wire"
)

// siginfo is the part of siginfo_t that waitid(2) fills, on 64-bit machines.
type siginfo struct {
	signo, errno, code, _ int32
	pid, uid, status, _   int32
	utime, stime          int64
	_                     [20]int32 // the structure has 128 bytes
}

func waitid(options int) (pid int, err error) {
	var info siginfo
	for {
		_, _, errno := syscall.Syscall6(unix.SYS_WAITID, unix.P_ALL, 0, uintptr(unsafe.Pointer(&info)), uintptr(options), 0, 0)
		if errno == 0 {
			return int(info.pid), nil
		}
		if errno != unix.EINTR {
			return 0, errno
		}
	}
}

// Wait waits until a child has ended, and leaves it. Errors: unix.ECHILD if there are no children.
func Wait() error {
	_, err := waitid(unix.WEXITED | unix.WNOWAIT)
	return err
}

// Next reaps one child that has ended; ok is false if there is none.
func Next() (e wire.Exit, ok bool) {
	pid, err := waitid(unix.WEXITED | unix.WNOWAIT | unix.WNOHANG)
	if err != nil || pid == 0 {
		return wire.Exit{}, false
	}
	// From wait4 on the pid may be another process's.
	e = wire.Exit{Pid: pid, At: Now()}
	e.Comm, e.Start = stat(pid)
	for {
		reaped, err := unix.Wait4(pid, &e.Status, unix.WNOHANG, nil)
		if err != unix.EINTR {
			return e, err == nil && reaped == pid
		}
	}
}

// Now is the time since boot.
func Now() time.Duration {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &t) // fails only for a bad address or clock
	return time.Duration(t.Nano())
}

// stat returns fields 2, without its parentheses, and 22 of /proc/PID/stat; "" and 0 if they can't be read.
func stat(pid int) (comm string, start uint64) {
	fd, err := unix.Open("/proc/"+strconv.Itoa(pid)+"/stat", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", 0
	}
	defer unix.Close(fd)
	var buf [1024]byte
	n, err := unix.Read(fd, buf[:])
	if err != nil {
		return "", 0
	}
	// The name may hold anything.
	from, to := bytes.IndexByte(buf[:n], '('), bytes.LastIndexByte(buf[:n], ')')
	if from < 0 || to < from {
		return "", 0
	}
	const start22 = 19 // counted from field 3
	fields := bytes.Fields(buf[to+1 : n])
	if len(fields) > start22 {
		start, _ = strconv.ParseUint(string(fields[start22]), 10, 64) // 0 after an error
	}
	return string(buf[from+1 : to]), start
}
