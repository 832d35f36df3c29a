// Package nofile remembers the RLIMIT_NOFILE that the process was started with.
//
// Package syscall raises the soft limit to the hard one in its init, and a raw execve hands the raised value on to the
// container (os/exec restores it, we don't go through it). This package must therefore be initialised before syscall: it
// imports nothing that has an init of its own, and the linker initialises such packages first.
package nofile

import _ "unsafe" // for go:linkname

const rlimitNofile = 7

// Limit is a soft and a hard resource limit, getrlimit(2).
type Limit struct{ Soft, Hard uint64 }

// Original is the limit at the process's start; Known is false where it could not be read.
var (
	Original Limit
	Known    bool
)

//go:linkname rawSyscall6 syscall.RawSyscall6
func rawSyscall6(trap, a1, a2, a3, a4, a5, a6 uintptr) (r1, r2, errno uintptr)

func init() {
	_, _, errno := rawSyscall6(sysPrlimit64, 0, rlimitNofile, 0, addressOf(&Original), 0, 0)
	Known = errno == 0
}
