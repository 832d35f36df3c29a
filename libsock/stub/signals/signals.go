// Package signals catches signals without Go's help: a handler of ours, in assembly, writes each signal's number into a
// pipe.
//
// signal.Notify takes about 25 µs for each signal, on and off, and starts two threads: for the sixty that a runtime passes
// on to a container, more than the rest of a start. This takes one system call each.
package signals

import (
	"fmt"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sigaction is the kernel's struct on all architectures that sock is built for, rt_sigaction(2).
type sigaction struct{ handler, flags, restorer, mask uint64 }

const (
	onStack  = 0x08000000 // SA_ONSTACK: Go's threads have an alternate stack, and their own is too small
	restart  = 0x10000000 // SA_RESTART
	restorer = 0x04000000 // SA_RESTORER
	maskSize = 8
)

// writeEnd is where the handler writes.
//
//lint:ignore U1000 the assembly reads it
var writeEnd int32 = -1

// handlerAddress and restorerAddress are in assembly.
func handlerAddress() uint64

func restorerAddress() uint64

var pipe = sync.OnceValues(func() (int, error) {
	var ends [2]int
	// The handler must never wait: what a full pipe can't take is lost, 64 KiB of signals that nobody read.
	if err := unix.Pipe2(ends[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return -1, fmt.Errorf("pipe for signals: %w", err)
	}
	writeEnd = int32(ends[1])
	return ends[0], nil
})

// Catch has each of the signals write its number, one byte, into a pipe, and returns the end to read, which stays open.
// There is one pipe for the process. Signals that are ignored stay so: nohup's SIGHUP.
func Catch(list []unix.Signal) (int, error) {
	fd, err := pipe()
	if err != nil {
		return -1, err
	}
	action := sigaction{handler: handlerAddress(), flags: onStack | restart | restorer, restorer: restorerAddress(), mask: ^uint64(0)}
	const ignored = 1 // SIG_IGN
	for _, s := range list {
		var old sigaction
		_, _, errno := syscall.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(s), uintptr(unsafe.Pointer(&action)), uintptr(unsafe.Pointer(&old)), maskSize, 0, 0)
		if errno == 0 && old.handler == ignored {
			_, _, errno = syscall.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(s), uintptr(unsafe.Pointer(&old)), 0, maskSize, 0, 0)
		}
		if errno != 0 {
			return -1, fmt.Errorf("catch signal %d: %w", s, errno)
		}
	}
	return fd, nil
}
