package stub

import (
	"reflect"
	"unsafe"
)

// call makes a system call. It is syscall.RawSyscall6, but among our code: see Code.
func call(number, a1, a2, a3, a4, a5, a6 uintptr) (result, errno uintptr)

// callAddress is where call is; to Go it may be a function that calls it.
func callAddress() uintptr

// largest is more than the size of any of the child's functions, in bytes.
const largest = 4096

// Code is where the code of the interpreter is, in whole pages of pageSize, and what is there. It is all of this program
// that the child needs to go on; it may take the rest away.
//
//go:nocheckptr
func Code(pageSize int) (address uint64, code []byte) {
	low, high := callAddress(), callAddress()
	for _, f := range []any{run, fail, call} {
		pc := reflect.ValueOf(f).Pointer()
		low, high = min(low, pc), max(high, pc)
	}
	low &^= uintptr(pageSize) - 1
	high = (high + largest + uintptr(pageSize) - 1) &^ (uintptr(pageSize) - 1)
	return uint64(low), unsafe.Slice((*byte)(unsafe.Add(nil, low)), high-low)
}
