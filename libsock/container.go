package libsock

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/sock-runtime/sock/libsock/cgroup"
	"github.com/sock-runtime/sock/libsock/plan"
	"github.com/sock-runtime/sock/libsock/state"
	"github.com/sock-runtime/sock/spec"
)

// Container is one container that exists, or did when it was loaded. It is for one goroutine; others take a Copy.
type Container struct {
	runtime *Runtime
	state   *state.State  // not changed once the container exists
	cgroup  *cgroup.Group // once it was asked for
	console int           // the pty's master, or -1
}

// Copy is the same container for another goroutine.
func (c *Container) Copy() *Container {
	again := *c
	again.console = -1
	return &again
}

// TakeConsole gives the pty's master of a container that was made with KeepConsole to the caller, once; -1 if there is
// none. It is non-blocking.
func (c *Container) TakeConsole() int {
	fd := c.console
	c.console = -1
	return fd
}

// Pid is the init process's, and StartTime when it began, in clock ticks since boot; 0 before it was cloned.
func (c *Container) Pid() (pid int, startTime uint64) { return c.state.Pid, c.state.StartTime }

// Status is what the state command prints, in runc's fields and order.
type Status struct {
	OCIVersion  string            `json:"ociVersion"`
	ID          string            `json:"id"`
	Pid         int               `json:"pid"`
	Status      string            `json:"status"`
	Bundle      string            `json:"bundle"`
	Rootfs      string            `json:"rootfs"`
	Created     time.Time         `json:"created"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Owner       string            `json:"owner"`
	FastPaths   []plan.FastPath   `json:"fastPaths,omitempty"`
}

// Status says what the container is now: what was recorded, checked against the kernel.
func (c *Container) Status() (Status, error) {
	name, err := c.statusName()
	if err != nil {
		return Status{}, err
	}
	s := c.state
	status := Status{
		OCIVersion: s.Version, ID: s.ID, Pid: s.Pid, Status: name, Bundle: s.Bundle, Rootfs: s.Rootfs, Created: s.Created,
		Annotations: s.Annotations, Owner: owner(s.UID), FastPaths: s.FastPaths,
	}
	if name == "stopped" {
		status.Pid = 0
	}
	return status, nil
}

func (c *Container) statusName() (string, error) {
	s := c.state
	if !state.Alive(s.Pid, s.StartTime) {
		if s.Creating && s.Pid == 0 && c.locked() {
			return "creating", nil
		}
		return "stopped", nil
	}
	if s.Creating {
		return "creating", nil
	}
	if frozen, err := c.frozen(); err != nil {
		return "", err
	} else if frozen {
		return "paused", nil
	}
	dir := filepath.Join(c.runtime.Root, s.ID)
	for _, name := range []string{plan.GateFile, plan.GateUsed} {
		fd, err := openFIFO(filepath.Join(dir, name))
		switch err {
		case nil:
			_ = unix.Close(fd)
			return "created", nil
		case unix.ENXIO: // nobody reads it
			if name == plan.GateFile {
				return "creating", nil
			}
		}
	}
	return "running", nil
}

// locked says whether a command is at work on the container.
func (c *Container) locked() bool {
	fd, err := unix.Open(filepath.Join(c.runtime.Root, c.state.ID), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	return unix.Flock(fd, unix.LOCK_SH|unix.LOCK_NB) == unix.EWOULDBLOCK
}

func owner(uid int) string {
	if uid == 0 {
		return "root"
	}
	u, err := user.LookupId(fmt.Sprint(uid))
	if err != nil {
		return fmt.Sprintf("#%d", uid)
	}
	return u.Username
}

// lock takes the container's lock, reads its state anew and says what it is now.
func (c *Container) lock() (*state.Dir, string, error) {
	dir, err := state.Open(c.runtime.Root, c.state.ID)
	if err != nil {
		return nil, "", err
	}
	s, err := dir.Refresh(c.runtime.Root, c.state)
	if err != nil {
		dir.Unlock()
		return nil, "", err
	}
	if s.Cgroup != c.state.Cgroup { // another container by now
		c.cgroup = nil
	}
	c.state = s
	status, err := c.statusName()
	if err != nil {
		dir.Unlock()
		return nil, "", err
	}
	return dir, status, nil
}

// openInit returns a pidfd of the init process. Errors: ErrNotRunning.
func (c *Container) openInit() (int, error) {
	if c.state.Pid <= 0 {
		return -1, ErrNotRunning
	}
	fd, err := unix.PidfdOpen(c.state.Pid, 0)
	// EINVAL: until some Linux after 6.1, where the number lives on as that of a session or group of what init left.
	if err == unix.ESRCH || err == unix.EINVAL {
		return -1, ErrNotRunning
	}
	if err != nil {
		return -1, fmt.Errorf("open init process: %w", err)
	}
	// Only now can't the pid be given to another process any more.
	if !state.Alive(c.state.Pid, c.state.StartTime) {
		_ = unix.Close(fd)
		return -1, ErrNotRunning
	}
	return fd, nil
}

// OpenProcess returns a pidfd of the process that began at startTime, in clock ticks since boot, and that time; 0 means
// whatever process has that pid. Errors: ErrNotRunning.
func OpenProcess(pid int, startTime uint64) (pidfd int, began uint64, err error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err == unix.ESRCH || err == unix.EINVAL {
		return -1, 0, ErrNotRunning
	}
	if err != nil {
		return -1, 0, fmt.Errorf("open process %d: %w", pid, err)
	}
	// Only now can't the pid be given to another process any more.
	began, err = state.StartTime(pid)
	if err != nil || startTime != 0 && began != startTime {
		_ = unix.Close(fd)
		return -1, 0, ErrNotRunning
	}
	return fd, began, nil
}

// OwnsPIDs says whether all its processes end with init: it has a PID namespace of its own.
func (c *Container) OwnsPIDs() bool { return c.state.OwnPIDs }

// group is the container's cgroup.
func (c *Container) group() (*cgroup.Group, error) {
	if c.state.Cgroup == nil {
		return nil, errors.New("container has no cgroup")
	}
	var err error
	if c.cgroup == nil {
		c.cgroup, err = cgroup.Open(*c.state.Cgroup)
	}
	return c.cgroup, err
}

func (c *Container) frozen() (bool, error) {
	group, err := c.group()
	if err != nil {
		return false, err
	}
	frozen, err := group.Frozen()
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return frozen, err
}

// Process is config.json's process as it was at create.
func (c *Container) Process() *specs.Process {
	p := *c.state.Process
	return &p
}

// Kill sends sig to the init process, or with all to every process of the container. SIGKILL to a container without a
// PID namespace of its own is for all of them, since they would outlive init, and perhaps have. Errors: ErrNotRunning.
func (c *Container) Kill(sig unix.Signal, all bool) error {
	if all {
		group, err := c.group()
		if err != nil {
			return err
		}
		if group.None() {
			return c.signalAll(sig)
		}
		return group.Signal(sig)
	}
	pidfd, err := c.openInit()
	if err == ErrNotRunning && sig == unix.SIGKILL && c.state.Pid > 0 && !c.state.OwnPIDs {
		return c.killOrphans()
	}
	if err != nil {
		return err
	}
	defer unix.Close(pidfd)
	err = unix.PidfdSendSignal(pidfd, sig, nil, 0)
	if err == unix.ESRCH {
		return ErrNotRunning
	}
	if err != nil {
		return fmt.Errorf("send signal %d to init process: %w", sig, err)
	}
	if sig == unix.SIGKILL {
		if !c.state.OwnPIDs { // without a PID namespace of its own, the others would outlive init
			if group, err := c.group(); err == nil && group.Exists() {
				return group.Signal(sig)
			}
		}
		// A frozen v1 cgroup keeps even SIGKILL waiting.
		if frozen, err := c.frozen(); err == nil && frozen {
			return c.Resume()
		}
	}
	return nil
}

// killOrphans kills what is left of a container whose init has ended. Errors: ErrNotRunning, nothing is.
func (c *Container) killOrphans() error {
	group, err := c.group()
	if err != nil {
		return err
	}
	if pids, err := group.Pids(true); err != nil || len(pids) == 0 {
		return ErrNotRunning
	}
	return group.Signal(unix.SIGKILL)
}

// Pids lists the container's processes.
func (c *Container) Pids() ([]int, error) {
	group, err := c.group()
	if err != nil {
		return nil, err
	}
	if group.None() {
		return c.pidsInside()
	}
	return group.Pids(true)
}

// Pause freezes all processes. Errors: the container is not running.
func (c *Container) Pause() error {
	dir, status, err := c.lock()
	if err != nil {
		return err
	}
	defer dir.Unlock()
	if status != "running" && status != "created" {
		return fmt.Errorf("container not running or created: %s", status)
	}
	group, err := c.group()
	if err != nil {
		return err
	}
	return group.Freeze()
}

// Resume thaws all processes. Errors: the container is not paused.
func (c *Container) Resume() error {
	group, err := c.group()
	if err != nil {
		return err
	}
	frozen, err := c.frozen()
	if err != nil {
		return err
	}
	if !frozen {
		return errors.New("container not paused")
	}
	return group.Thaw()
}

// Update changes the limits that r gives, and the lines of the class of service's schemata, and leaves the others.
func (c *Container) Update(r *specs.LinuxResources, schemata ...string) error {
	dir, status, err := c.lock()
	if err != nil {
		return err
	}
	defer dir.Unlock()
	if status == "stopped" {
		return ErrNotRunning
	}
	group, err := c.group()
	if err != nil {
		return err
	}
	for _, warning := range spec.ResourceWarnings(r) {
		c.runtime.Log.Warn(warning)
	}
	if len(schemata) > 0 && c.state.Resctrl == nil {
		return errors.New("updating a non-existent Intel RDT configuration is not supported") // runc's words
	}
	if err := group.UpdateSet(r); err != nil || len(schemata) == 0 {
		return err
	}
	return c.state.Resctrl.Set(schemata...)
}

// Stats reads the cgroup's counters and those of the class of service.
func (c *Container) Stats() (*cgroup.Stats, error) {
	group, err := c.group()
	if err != nil {
		return nil, err
	}
	stats, err := group.Stats()
	if err != nil || c.state.Resctrl == nil {
		return stats, err
	}
	rdt, err := c.state.Resctrl.Stats()
	if err != nil {
		return nil, err
	}
	stats.IntelRdt = *rdt
	return stats, nil
}

// OOMKills is how many processes of the container the kernel has killed for want of memory.
func (c *Container) OOMKills() (uint64, error) {
	group, err := c.group()
	if err != nil {
		return 0, err
	}
	return group.OOMKills()
}

// NotifyOOM sends on the channel whenever the kernel kills a process of the container for want of memory. The channel is
// closed when the cgroup is gone or ctx is done.
func (c *Container) NotifyOOM(ctx context.Context) (<-chan struct{}, error) {
	group, err := c.group()
	if err != nil {
		return nil, err
	}
	return group.NotifyOOM(ctx)
}
