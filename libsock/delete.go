package libsock

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sock-runtime/sock/libsock/state"
)

// Delete removes a container that has stopped; with force it is killed first. The poststop hooks run last; their errors
// are warnings, runtime.md "Lifecycle" step 13.
func (c *Container) Delete(force bool) error {
	if force {
		c.killInit() // a command that waits for it, a create whose seccomp agent is silent for one, has the lock until then
	}
	dir, status, err := c.lock()
	if err != nil {
		return err
	}
	defer dir.Unlock()
	switch {
	case status == "stopped":
	case force, status == "created":
		// A container that was never started may be deleted as it is, as with runc.
		if err := c.stop(); err != nil {
			return err
		}
	default:
		return fmt.Errorf("cannot delete container %s that is not stopped: %s", c.state.ID, status)
	}
	if err := c.undo(dir); err != nil {
		return err
	}
	c.runPoststopHooks()
	return nil
}

// killInit kills the init process, if there is one, without the lock.
func (c *Container) killInit() {
	if pidfd, err := c.openInit(); err == nil {
		_ = unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0)
		_ = unix.Close(pidfd)
	}
}

// stopTimeout is how long killed processes get to end.
const stopTimeout = 10 * time.Second

// Purge removes what is left under an ID that is no container: a directory without a state. It is no error if there is
// nothing.
func (r *Runtime) Purge(id string) error {
	dir, err := state.Open(r.Root, id)
	if err == ErrNotExist {
		return nil
	}
	if err != nil {
		return err
	}
	defer dir.Unlock()
	if _, err := state.Read(r.Root, id); err != ErrNotExist {
		return err
	}
	return dir.Remove()
}

// orphanTimeout is how long a child may take to notice that the sock that cloned it was killed.
const orphanTimeout = 500 * time.Millisecond

// stop kills the init process and waits until it is gone.
func (c *Container) stop() error {
	pidfd, err := c.openInit()
	if err == ErrNotRunning {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(pidfd)
	if err := unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0); err != nil && err != unix.ESRCH {
		return fmt.Errorf("kill init process: %w", err)
	}
	if frozen, err := c.frozen(); err == nil && frozen {
		if err := c.Resume(); err != nil {
			return fmt.Errorf("thaw for the kill: %w", err)
		}
	}
	poll := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	for deadline := time.Now().Add(stopTimeout); ; {
		n, err := unix.Poll(poll, int(time.Until(deadline).Milliseconds())+1)
		if n > 0 {
			return nil
		}
		if err != nil && err != unix.EINTR {
			return fmt.Errorf("wait for init process: %w", err)
		}
		if time.Now().After(deadline) {
			return errors.New("init process does not end")
		}
	}
}

// undo takes back what creating made: the processes that are left, the cgroup, mounts on the host, the state. The state
// goes last, so that after an error, or a kill, delete can be called again.
func (c *Container) undo(dir *state.Dir) error {
	if err := c.undoCgroup(); err != nil {
		return err
	}
	if c.state.Resctrl != nil {
		if err := c.state.Resctrl.Remove(); err != nil {
			return err
		}
	}
	for i := len(c.state.Unmount) - 1; i >= 0; i-- {
		if err := unmount(c.state.Unmount[i]); err != nil {
			return err
		}
	}
	return dir.Remove()
}

func (c *Container) undoCgroup() error {
	group, err := c.group()
	if err != nil {
		return err
	}
	if c.state.Pid == 0 {
		// Create was killed before the clone, perhaps before it made the cgroup. Who is in it is not ours.
		// A child of ours would end by itself, soon.
		for deadline := time.Now().Add(orphanTimeout); ; time.Sleep(time.Millisecond) {
			pids, err := group.Pids(true)
			if len(pids) == 0 {
				break // also where some of its directories were never made
			}
			if err != nil || time.Now().After(deadline) {
				return nil
			}
		}
	} else if !c.state.OwnPIDs && group.Exists() {
		// Without a PID namespace of its own, a container's processes survive their init.
		if err := group.Thaw(); err != nil {
			return err
		}
		if err := group.Signal(unix.SIGKILL); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return group.Destroy()
}

// unmount takes away the mount that the container put at a path of the host's, and those on top of it. What was there
// before stays.
func unmount(m state.Mount) error {
	if now := mountID(m.Path); now == m.Over || now == 0 {
		return nil
	}
	if err := unix.Unmount(m.Path, unix.MNT_DETACH); err != nil && err != unix.EINVAL {
		return fmt.Errorf("unmount %s: %w", m.Path, err)
	}
	return nil
}
