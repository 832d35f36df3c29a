package stub

import (
	"encoding/binary"
	"fmt"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// image is a program as the child finds it. It is in memory of its own, beside Go's heap, with all that it points to and with
// the child's stack: see needless.
type image struct {
	// g is what the child's Go code takes for the structure of its goroutine; it needs nothing of it.
	g      [1 << 10]byte
	tls    [2]uintptr // where it looks for g: room for a pointer, and where the register points; Go has this on its heap
	ops    *op
	end    int32 // number of ops
	pidfd  int32 // the kernel writes it
	slots  [Slots]uintptr
	record [RecordSize]byte
}

// stackSize is enough for run and what it calls, also without optimisation, in bytes.
const stackSize = 16 << 10

// loaded is an image, and the memory that it is in: stack, image, ops, bytes.
type loaded struct {
	*image
	memory []byte
}

// load puts p into memory and fills in all addresses.
func (p *Program) load() (*loaded, error) {
	const opSize = int(unsafe.Sizeof(op{}))
	const ops = stackSize + int(unsafe.Sizeof(image{})+unsafe.Alignof(op{})-1)&^int(unsafe.Alignof(op{})-1)
	data := ops + len(p.ops)*opSize
	memory, err := unix.Mmap(-1, 0, data+len(p.bytes), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_POPULATE)
	if err != nil {
		return nil, fmt.Errorf("memory for the child: %w", err)
	}
	at := func(offset int) unsafe.Pointer { return unsafe.Pointer(&memory[offset]) }
	address := func(offset int) uintptr { return uintptr(at(data)) + uintptr(offset) }
	l := &loaded{(*image)(at(stackSize)), memory}
	for i := range l.slots {
		l.slots[i] = ^uintptr(0) // a slot that was never filled is descriptor -1: EBADF, not descriptor 0
	}
	l.slots[Report] = uintptr(p.report)
	copy(memory[data:], p.bytes)
	for _, d := range p.dataPointers {
		binary.NativeEndian.PutUint64(memory[data+d[0]:], uint64(address(d[1])))
	}
	if l.end = int32(len(p.ops)); l.end > 0 {
		l.ops = (*op)(at(ops))
		list := unsafe.Slice(l.ops, len(p.ops))
		copy(list, p.ops)
		for _, a := range p.argPointers {
			list[a[0]].args[a[1]] = address(a[2])
		}
	}
	return l, nil
}

// args are the arguments for a child of this image.
func (l *loaded) args() *cloneArgs {
	args := &cloneArgs{
		pidfd:     uint64(uintptr(unsafe.Pointer(&l.pidfd))),
		stack:     uint64(uintptr(unsafe.Pointer(&l.memory[0]))),
		stackSize: stackSize,
	}
	if !iscgo {
		args.flags, args.tls = unix.CLONE_SETTLS, uint64(uintptr(unsafe.Pointer(&l.tls[1])))
	}
	return args
}

// free gives the memory back; the child has its own copy.
func (l *loaded) free() { _ = unix.Munmap(l.memory) }

// iscgo says whether there is C in this program: other threads that may fork, and libc's thread-local storage.
//
//go:linkname iscgo runtime.iscgo
var iscgo bool

// extent is a part of the address space.
type extent struct{ start, end uintptr }

// needless lists what children of this image don't need of this process's memory: what lies between its data and the kernel's
// own pages, that is Go's heap and what Go keeps about it, but for the image. With cgo, it is the first area of the heap.
func (l *loaded) needless() [2]extent {
	// The size, and the alignment, of the areas in which Go grows its heap on 64-bit machines.
	const arenaSize = 64 << 20
	first := uintptr(unsafe.Pointer(l)) &^ (arenaSize - 1)
	if iscgo {
		return [2]extent{{first, first + arenaSize}}
	}
	image := uintptr(unsafe.Pointer(&l.memory[0]))
	return [2]extent{{first, image}, {(image + uintptr(len(l.memory)) + pageSize - 1) &^ (pageSize - 1), kernelPages()}}
}

// pageSize is a multiple of what it is on any machine.
const pageSize = 64 << 10

// kernelPages is below the pages of the kernel's that vdso(7) tells of, which can't be left out and got back, and below the stack
// of the first thread, where ps finds the command line. Which of them comes first depends on the kernel.
var kernelPages = sync.OnceValue(func() uintptr {
	const (
		random      = 25       // AT_RANDOM of getauxval(3): on the stack, near its top
		sysinfoEHDR = 33       // AT_SYSINFO_EHDR: the vDSO
		stack       = 64 << 20 // more than what is used of the stack, less than what the kernel leaves free for it
		data        = 64 << 10 // more than what the vDSO reads, which is in front of it
	)
	auxv, err := unix.Auxv()
	if err != nil {
		return 0
	}
	end := uintptr(0)
	below := func(address uintptr) {
		if end == 0 || address < end {
			end = address
		}
	}
	for _, entry := range auxv {
		switch entry[0] {
		case random:
			below(entry[1] - stack)
		case sysinfoEHDR:
			below(entry[1] - data)
		}
	}
	return end &^ (pageSize - 1)
})

// copied says whether children get a copy. Those that wait shouldn't hold any of the heap, the clone copies no page tables for
// what they don't get, and this process doesn't have to copy each page that it changes while a child has it, too. The child
// depends on none of it being there or not.
func (e extent) copied(copied bool) {
	if e.end <= e.start {
		return
	}
	advice := uintptr(unix.MADV_DONTFORK)
	if copied {
		advice = unix.MADV_DOFORK
	}
	call(unix.SYS_MADVISE, e.start, e.end-e.start, advice, 0, 0, 0) // it says so where there are gaps
}
