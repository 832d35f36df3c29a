package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Pids lists the processes in the group and, if recursive, in the cgroups below
// it. Processes that our PID namespace doesn't show are left out.
func (g *Group) Pids(recursive bool) ([]int, error) {
	d, err := g.main()
	if err != nil {
		return nil, err
	}
	list := pidsIn
	if recursive {
		list = pidsBelow
	}
	pids, err := list(d.path)
	return visible(pids), err
}

// visible removes the zeros that stand for processes of other PID namespaces.
// As an argument of kill(2) they would mean our own process group.
func visible(pids []int) []int {
	return slices.DeleteFunc(pids, func(pid int) bool { return pid <= 0 })
}

func pidsIn(path string) ([]int, error) {
	list, err := readFile(path + "/cgroup.procs")
	if errors.Is(err, unix.EOPNOTSUPP) { // a threaded cgroup
		list, err = readFile(path + "/cgroup.threads")
	}
	if err != nil {
		return nil, err
	}
	var pids []int
	for line := range strings.Lines(list) {
		pid, err := strconv.Atoi(strings.TrimSpace(line))
		if err != nil {
			return nil, fmt.Errorf("parse %s/cgroup.procs: %w", path, err)
		}
		pids = append(pids, pid)
	}
	return pids, nil
}

func pidsBelow(path string) ([]int, error) {
	pids, err := pidsIn(path)
	if err != nil {
		return nil, err
	}
	children, err := subdirs(path)
	if err != nil {
		return nil, err
	}
	for _, child := range children {
		more, err := pidsBelow(filepath.Join(path, child))
		if err != nil && !isGone(err) {
			return nil, err
		}
		pids = append(pids, more...)
	}
	return pids, nil
}

// Signal sends a signal to every process in the group and below it. They are
// frozen meanwhile, so that none escapes by forking. A group that was frozen
// before stays so, except after SIGKILL. The error is fs.ErrNotExist if the
// cgroup doesn't exist.
func (g *Group) Signal(sig unix.Signal) error {
	d, err := g.main()
	if err != nil {
		return err
	}
	if g.mode == Unified && sig == unix.SIGKILL {
		// Linux 5.14; it also wakes frozen processes up to die.
		err := writeFile(d.path+"/cgroup.kill", "1")
		if err == nil || !g.Exists() || !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	frozen, err := g.Frozen()
	if err == nil && !frozen {
		// Without a freezer, or one that gives up, most processes are still
		// reached.
		_ = g.Freeze()
	}
	pids, err := pidsBelow(d.path)
	for _, pid := range visible(pids) {
		killErr := unix.Kill(pid, sig)
		if killErr != nil && killErr != unix.ESRCH {
			err = errors.Join(err, fmt.Errorf("kill %d: %w", pid, killErr))
		}
	}
	if !frozen || sig == unix.SIGKILL {
		if thawErr := g.Thaw(); thawErr != nil && !isGone(thawErr) {
			err = errors.Join(err, thawErr)
		}
	}
	return err
}

// How long Freeze tries. Under v1 a cgroup in which processes keep appearing
// may not freeze at the first attempt, or at all.
const freezePatience = 2 * time.Second

// Freeze stops all processes of the group and returns when they are stopped. If
// that fails, they go on.
func (g *Group) Freeze() error {
	d := g.dir("freezer")
	switch {
	case g.None():
		return fmt.Errorf("freeze: %w", errNone)
	case d == nil:
		return errors.New("freeze: freezer hierarchy is not mounted")
	}
	freeze := freezeLegacy
	if g.mode == Unified {
		freeze = freezeUnified
	}
	err := freeze(d.path)
	if err != nil {
		_ = g.Thaw()
		return fmt.Errorf("freeze: %w", err)
	}
	return nil
}

func freezeLegacy(path string) error {
	deadline := time.Now().Add(freezePatience)
	for try := 1; ; try++ {
		if err := writeFile(path+"/freezer.state", "FROZEN"); err != nil {
			return err
		}
		state, err := readTrimmed(path, "freezer.state")
		if err != nil || state == "FROZEN" {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s is still %s after %s", path, state, freezePatience)
		}
		// Writing again soon helps most (cgroup-v1/freezer-subsystem.rst).
		// Letting everything run for a moment helps when it does not.
		if try%50 == 0 {
			_ = writeFile(path+"/freezer.state", "THAWED")
			time.Sleep(10 * time.Millisecond)
		} else if try%10 == 0 {
			time.Sleep(50 * time.Microsecond)
		}
	}
}

func freezeUnified(path string) error {
	events, err := open(path+"/cgroup.events", unix.O_RDONLY)
	if err != nil {
		return err
	}
	defer unix.Close(events)
	if err := writeFile(path+"/cgroup.freeze", "1"); err != nil {
		return err
	}
	deadline := time.Now().Add(freezePatience)
	for buf := make([]byte, 128); ; {
		n, err := unix.Pread(events, buf, 0)
		if err != nil && err != unix.EINTR {
			return &fs.PathError{Op: "read", Path: path + "/cgroup.events", Err: err}
		}
		if n > 0 && strings.Contains(string(buf[:n]), "frozen 1") {
			return nil
		}
		left := time.Until(deadline)
		if left <= 0 {
			return fmt.Errorf("%s is not frozen after %s", path, freezePatience)
		}
		_, err = unix.Poll([]unix.PollFd{{Fd: int32(events), Events: unix.POLLPRI}}, int(left.Milliseconds())+1)
		if err != nil && err != unix.EINTR {
			return fmt.Errorf("poll %s/cgroup.events: %w", path, err)
		}
	}
}

// Thaw lets the group's processes go on.
func (g *Group) Thaw() error {
	d := g.dir("freezer")
	if d == nil {
		return nil
	}
	file, state := "/freezer.state", "THAWED"
	if g.mode == Unified {
		file, state = "/cgroup.freeze", "0"
	}
	if err := writeFile(d.path+file, state); err != nil {
		return fmt.Errorf("thaw: %w", err)
	}
	return nil
}

// Frozen tells whether the group was frozen: itself, not one above it.
func (g *Group) Frozen() (bool, error) {
	d := g.dir("freezer")
	if d == nil {
		return false, nil
	}
	file := "freezer.self_freezing"
	if g.mode == Unified {
		file = "cgroup.freeze"
	}
	state, err := readTrimmed(d.path, file)
	if err != nil {
		if isGone(err) {
			err = nil
		}
		return false, err
	}
	return state == "1", nil
}
