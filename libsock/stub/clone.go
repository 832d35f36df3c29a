package stub

import (
	"fmt"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// These two are what syscall.forkExec calls around its own clone. BeforeFork blocks all signals on this thread and makes any
// growth of the stack fatal. gVisor's systrap relies on the same names, so Go keeps them open to linkname.

//go:linkname beforeFork syscall.runtime_BeforeFork
func beforeFork()

//go:linkname afterFork syscall.runtime_AfterFork
func afterFork()

// cloneRun is clone3(2) with a child that calls code(p), which never returns, on the stack that args name.
func cloneRun(args *cloneArgs, size uintptr, p *image, code uintptr) (pid, errno uintptr)

// entry is where the code of f is.
func entry(f func(*image)) uintptr { return **(**uintptr)(unsafe.Pointer(&f)) }

// Clone says how the child is made.
type Clone struct {
	Flags uint64 // CLONE_NEW* of clone(2)
	// PIDNamespace is a descriptor of the PID namespace that the child is born into, or -1. It can't be combined
	// with CLONE_NEWPID.
	PIDNamespace int
	// Parent makes it a child of this process's parent, which then is the one that can wait for it (CLONE_PARENT).
	Parent bool
	// Cgroup is a directory of cgroup v2 that the child is born into (CLONE_INTO_CGROUP, Linux 5.7), or -1.
	Cgroup int
}

// cloneArgs is struct clone_args of clone3(2), Linux 5.7.
type cloneArgs struct {
	flags, pidfd, _, _, exitSignal, stack, stackSize, tls, _, _, cgroup uint64
}

// Start clones a child that runs p and returns its process ID and a pidfd (close-on-exec). Errors: those of clone3(2) and,
// for PIDNamespace, of setns(2).
func (p *Program) Start(c Clone) (pid, pidfd int, err error) {
	loaded, err := p.load()
	if err != nil {
		return 0, -1, err
	}
	defer loaded.free()
	args := loaded.args()
	args.flags |= c.Flags | unix.CLONE_PIDFD
	args.exitSignal = uint64(unix.SIGCHLD)
	if c.Parent {
		args.flags |= unix.CLONE_PARENT
		args.exitSignal = 0 // it is ours, clone3 insists
	}
	if c.Cgroup >= 0 {
		args.flags |= unix.CLONE_INTO_CGROUP
		args.cgroup = uint64(c.Cgroup)
	}
	own := -1
	if c.PIDNamespace >= 0 {
		if own, err = unix.Open("/proc/self/ns/pid", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
			return 0, -1, fmt.Errorf("open own PID namespace: %w", err)
		}
		defer unix.Close(own)
	}
	needless := loaded.needless()
	syscall.ForkLock.Lock()
	for _, e := range needless {
		e.copied(false)
	}
	child, failed, errno := cloneAndRun(loaded.image, entry(run), args, c.PIDNamespace, own)
	for _, e := range needless {
		e.copied(true)
	}
	syscall.ForkLock.Unlock()
	runtime.KeepAlive(args)
	switch {
	case failed == setnsBack:
		// This thread's children would be born elsewhere. Its goroutine keeps it, so it ends with it.
		runtime.LockOSThread()
		return 0, -1, fmt.Errorf("return to own PID namespace: %w", errno)
	case failed == setnsThere:
		return 0, -1, fmt.Errorf("join PID namespace: %w", errno)
	case failed == cloned:
		return 0, -1, fmt.Errorf("clone: %w", errno)
	}
	return int(child), int(loaded.pidfd), nil
}

// step is what cloneAndRun failed in.
type step int

const (
	nothing step = iota
	setnsThere
	cloned
	setnsBack
)

// cloneAndRun returns in the parent only. If namespace is not -1, the child is born in that PID namespace: it is set for
// this thread's children and set back to own. BeforeFork has blocked the signals with which Go preempts, and nothing in
// between enters the scheduler, so the thread stays the same without being locked.
//
// The child shares nothing with the parent (no CLONE_VM), has only this thread and none of Go's heap. So nothing that it
// runs may grow the stack, allocate, take a lock or call into the scheduler; hence nosplit below, and norace and nocheckptr
// because instrumented code calls functions that may.
//
//go:norace
//go:nocheckptr
//go:noinline
func cloneAndRun(p *image, code uintptr, args *cloneArgs, namespace, own int) (child uintptr, failed step, errno syscall.Errno) {
	beforeFork()
	if namespace >= 0 {
		_, _, errno = syscall.RawSyscall6(unix.SYS_SETNS, uintptr(namespace), unix.CLONE_NEWPID, 0, 0, 0, 0)
		if errno != 0 {
			afterFork()
			return 0, setnsThere, errno
		}
	}
	child, number := cloneRun(args, unsafe.Sizeof(*args), p, code)
	if number != 0 {
		failed, errno = cloned, syscall.Errno(number)
	}
	if namespace >= 0 {
		_, _, back := syscall.RawSyscall6(unix.SYS_SETNS, uintptr(own), unix.CLONE_NEWPID, 0, 0, 0, 0)
		if back != 0 {
			failed, errno = setnsBack, back
		}
	}
	afterFork()
	return child, failed, errno
}

// signals is the highest signal number of Linux.
const signals = 64

// sigaction is the kernel's struct on all architectures that sock is built for.
type sigaction struct{ handler, flags, restorer, mask uint64 }

// run interprets p and never returns.
//
//go:norace
//go:nosplit
//go:nocheckptr
//go:noinline
func run(p *image) {
	// A caller's ignored signals (nohup's SIGHUP, say) and blocked ones would reach the container's process.
	var dflt sigaction
	for sig := uintptr(1); sig <= signals; sig++ {
		if sig != uintptr(unix.SIGKILL) && sig != uintptr(unix.SIGSTOP) {
			call(unix.SYS_RT_SIGACTION, sig, uintptr(unsafe.Pointer(&dflt)), 0, 8, 0, 0)
		}
	}
	var none uint64
	call(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&none)), 0, 8, 0, 0)

	ops := unsafe.Pointer(p.ops)
	slots := unsafe.Pointer(&p.slots)
	for pc, end := int32(0), p.end; pc < end; {
		o := (*op)(unsafe.Add(ops, uintptr(pc)*unsafe.Sizeof(op{})))
		var a [6]uintptr
		for i := uintptr(0); i < 6; i++ {
			word := *(*uintptr)(unsafe.Add(unsafe.Pointer(&o.args), i*8))
			if o.slotted&(1<<i) != 0 {
				word = *(*uintptr)(unsafe.Add(slots, word*8))
			}
			*(*uintptr)(unsafe.Add(unsafe.Pointer(&a), i*8)) = word
		}
		result, errno := call(o.sys, a[0], a[1], a[2], a[3], a[4], a[5])
		for tries := o.tries; errno == uintptr(unix.EAGAIN) && tries > 0; tries-- {
			result, errno = call(o.sys, a[0], a[1], a[2], a[3], a[4], a[5])
		}
		if errno == 0 && o.exact && result != o.want {
			errno = uintptr(unix.EPIPE)
		}
		if errno == 0 {
			if o.into >= 0 {
				*(*uintptr)(unsafe.Add(slots, uintptr(o.into)*8)) = result
			}
			pc = o.then
			continue
		}
		next := int32(-1)
		for i := uintptr(0); i < maxErrnos; i++ {
			if *(*uint16)(unsafe.Add(unsafe.Pointer(&o.errnos), i*2)) == uint16(errno) {
				next = *(*int32)(unsafe.Add(unsafe.Pointer(&o.onErrno), i*4))
				break
			}
		}
		if next < 0 {
			fail(p, uint32(pc), uint32(errno))
			break
		}
		pc = next
	}
	for {
		call(unix.SYS_EXIT_GROUP, ExitFailed, 0, 0, 0, 0, 0)
	}
}

// ExitFailed is the exit status of a child whose program failed or ended without execve.
const ExitFailed = 255

// fail writes the record that says where the program ended.
//
//go:norace
//go:nosplit
//go:nocheckptr
//go:noinline
func fail(p *image, event, errno uint32) {
	record := unsafe.Pointer(&p.record)
	*(*uint32)(record) = event
	*(*uint32)(unsafe.Add(record, 4)) = errno
	report := *(*uintptr)(unsafe.Pointer(&p.slots))
	call(unix.SYS_WRITE, report, uintptr(record), RecordSize, 0, 0, 0)
}
