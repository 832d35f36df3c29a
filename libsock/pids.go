package libsock

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/sock-runtime/sock/libsock/state"
)

// pidsInside lists the processes of a container that has no cgroup to list them: those in its PID namespace and what they
// have made, perhaps in PID namespaces below. Errors: it has no PID namespace of its own, ErrNotRunning.
func (c *Container) pidsInside() ([]int, error) {
	if !c.state.OwnPIDs {
		return nil, errors.New("the container has neither a cgroup nor a PID namespace of its own to tell its processes by")
	}
	if !state.Alive(c.state.Pid, c.state.StartTime) {
		return nil, ErrNotRunning
	}
	namespace, err := pidNamespace(c.state.Pid)
	if err != nil {
		return nil, fmt.Errorf("find the container's PID namespace: %w", err)
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	inside, parents := map[int]bool{}, map[int]int{}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		// Whatever can't be looked at is gone, or somebody else's.
		parents[pid], _ = state.Parent(pid)
		if own, err := pidNamespace(pid); err == nil && own == namespace {
			inside[pid] = true
		}
	}
	var pids []int
	for pid := range parents {
		at, known := pid, true
		for known && !inside[at] {
			at, known = parents[at]
		}
		if known {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids, nil
}

// pidNamespace identifies the PID namespace of a process, namespaces(7).
func pidNamespace(pid int) (uint64, error) {
	var st unix.Stat_t
	err := unix.Stat(fmt.Sprintf("/proc/%d/ns/pid", pid), &st)
	return st.Ino, err
}

// signalAll is Kill with all where there is no cgroup.
func (c *Container) signalAll(sig unix.Signal) error {
	pids, err := c.pidsInside()
	if err != nil {
		return err
	}
	for _, pid := range pids {
		if killed := unix.Kill(pid, sig); killed != nil && killed != unix.ESRCH {
			err = errors.Join(err, fmt.Errorf("kill %d: %w", pid, killed))
		}
	}
	return err
}
