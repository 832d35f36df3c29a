package libsock

import "golang.org/x/sys/unix"

// Reaper tells a Runtime how its processes ended, where somebody else waits for them: the caller's parent, if they are
// made its children (Runtime.CloneParent), which then outlive the caller. Its methods are called from many goroutines.
type Reaper interface {
	// Launch calls clone, which makes processes and calls Expect for each. One may end before its pid is known, so no end
	// of an unknown process may be forgotten meanwhile. Calls nest.
	Launch(clone func() error) error
	// Expect says that pid is the Runtime's. It began at startTime, in clock ticks since boot; 0 if it has ended already and
	// that can't be known any more.
	Expect(pid int, startTime uint64)
	// Wait waits for the end of a process that was expected, and forgets it. The Runtime waits for hooks and for processes
	// that failed to start: the others are for the caller, who knows their pids.
	Wait(pid int) (unix.WaitStatus, error)
}

// launching has the reaper, if there is one, watch over clone.
func (r *Runtime) launching(clone func() error) error {
	if r.Reaper == nil {
		return clone()
	}
	return r.Reaper.Launch(clone)
}
