package stub

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// heapTLS says whether this thread's local storage, where Go's code looks for g after each call of assembly, is in the heap:
// then the child needs one of its own. With cgo, it is libc's.
//
//go:norace
//go:nosplit
//go:nocheckptr
func heapTLS(heap arena) bool {
	const getFS = 0x1003 // ARCH_GET_FS of arch_prctl(2)
	var fs uintptr
	call(unix.SYS_ARCH_PRCTL, getFS, uintptr(unsafe.Pointer(&fs)), 0, 0, 0, 0)
	return fs-uintptr(heap) < arenaSize
}
