package libsock

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/sock-runtime/sock/libsock/host"
	"github.com/sock-runtime/sock/libsock/plan"
	"github.com/sock-runtime/sock/spec"
	"github.com/sock-runtime/sock/spec/coldjson"
)

// The hooks of a container's life, in the order and with the consequences of runtime.md "Lifecycle" and config.md
// "POSIX-platform Hooks":
//
//	prestart, createRuntime   runtime's namespaces     mounts are made, the root is still the host's
//	createContainer           container's namespaces   the same moment, the host's files are in sight
//	startContainer            container's namespaces   in the container's root, before its process executes
//	poststart, poststop       runtime's namespaces     after it executed; after it was deleted

// hookOutput is how much of a failing hook's output its error quotes, in bytes.
const hookOutput = 4096

// runCreateHooks runs those that want the namespaces made and the root not yet changed.
func (c *Container) runCreateHooks(h *specs.Hooks, child *child) error {
	steps := []struct {
		name   string
		hooks  []specs.Hook
		join   plan.Join
		status string
	}{
		//lint:ignore SA1019 prestart is deprecated, and Docker 20.10 uses it
		{"prestart", h.Prestart, plan.Join{}, "created"},
		{"createRuntime", h.CreateRuntime, plan.Join{}, "creating"},
		{"createContainer", h.CreateContainer, plan.Join{Flags: c.state.Namespaces}, "creating"},
	}
	for _, s := range steps {
		if err := c.runHooks(s.name, s.hooks, s.join, child.pidfd, s.status, nil); err != nil {
			return err
		}
	}
	return nil
}

// runStartHooks runs startContainer with the rights of the container's process.
func (c *Container) runStartHooks(pidfd int) error {
	if c.state.Hooks == nil {
		return nil
	}
	join := plan.Join{Flags: c.state.Namespaces, Root: c.state.Chroot}
	return c.runHooks("startContainer", c.state.Hooks.StartContainer, join, pidfd, "created", c.state.Process)
}

// runPoststartHooks stops the container when one fails. Before version 1.3 of the spec each failure was a warning, and
// everything went on; what counts is the version that config.json was written for.
func (c *Container) runPoststartHooks() error {
	if c.state.Hooks == nil {
		return nil
	}
	if spec.Older(c.state.Version, 3) {
		for i, hook := range c.state.Hooks.Poststart {
			if err := c.runHook(hook, plan.Join{}, -1, "running", nil); err != nil {
				c.runtime.Log.Warn(fmt.Sprintf("hooks.poststart[%d]: %s", i, err), "id", c.state.ID)
			}
		}
		return nil
	}
	err := c.runHooks("poststart", c.state.Hooks.Poststart, plan.Join{}, -1, "running", nil)
	if err == nil {
		return nil
	}
	if stopErr := c.stop(); stopErr != nil {
		c.runtime.Log.Warn("stop after a failed poststart hook", "id", c.state.ID, "error", stopErr)
	}
	return err
}

// runPoststopHooks runs all of them; each one's error is a warning.
func (c *Container) runPoststopHooks() {
	if c.state.Hooks == nil {
		return
	}
	for i := range c.state.Hooks.Poststop {
		if err := c.runHook(c.state.Hooks.Poststop[i], plan.Join{}, -1, "stopped", nil); err != nil {
			c.runtime.Log.Warn(fmt.Sprintf("hooks.poststop[%d]: %s", i, err), "id", c.state.ID)
		}
	}
}

func (c *Container) runHooks(name string, hooks []specs.Hook, join plan.Join, pidfd int, status string, p *specs.Process) error {
	for i, hook := range hooks {
		if err := c.runHook(hook, join, pidfd, status, p); err != nil {
			return fmt.Errorf("error running %s hook #%d: %w", name, i, err)
		}
	}
	return nil
}

// runHook executes one hook with the container's state on its standard input and waits for it, for as long as its
// timeout allows.
func (c *Container) runHook(hook specs.Hook, join plan.Join, pidfd int, status string, p *specs.Process) error {
	pid := c.state.Pid
	switch {
	case status == "stopped":
		pid = 0
	case join.Flags != 0:
		inside, err := pidInside(pid)
		if err != nil {
			return err
		}
		pid = inside
	}
	input, err := memoryFile("state", c.hookState(status, pid))
	if err != nil {
		return err
	}
	output, err := memoryFile("output", nil)
	if err != nil {
		_ = unix.Close(input)
		return err
	}
	defer unix.Close(output)
	h := &host.Host{}
	h.Keep(plan.FDHookInput, input)
	keep, err := unix.FcntlInt(uintptr(output), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		h.Close()
		return fmt.Errorf("duplicate descriptor: %w", err)
	}
	h.Keep(plan.FDHookOutput, keep)
	if err := c.keepInit(h, join, pidfd); err != nil {
		h.Close()
		return err
	}
	made, err := c.planHook(hook, join, p, h)
	if err != nil {
		h.Close()
		return err
	}
	seen := hidden
	if join.Flags != 0 || join.Root {
		seen = initVisibility(c.state.Namespaces, c.state.OwnPIDs)
	}
	child, err := c.runtime.launch(made, h, 0, seen)
	if err != nil {
		return err
	}
	defer child.close()
	if p != nil && c.state.Listener != nil {
		if err = c.ready(child, 0); err == nil {
			err = child.send(1)
		}
	}
	if err == nil {
		err = c.executed(child)
	}
	if err != nil {
		_ = unix.PidfdSendSignal(child.pidfd, unix.SIGKILL, nil, 0)
		_, _ = child.wait()
		return err
	}
	return child.finishHook(hook, output)
}

// planHook plans a hook; one that is held like the container's process p needs the same facts.
func (c *Container) planHook(hook specs.Hook, join plan.Join, p *specs.Process, h *host.Host) (*plan.Plan, error) {
	if p == nil {
		facts := plan.Facts{Cgroup: plan.Cgroup{None: true}}
		c.runtime.rights(&facts)
		return plan.BuildHook(hook, join, nil, facts)
	}
	root := h.Descriptors()["rootdir"] // of the container's init
	facts, err := c.runtime.processFacts(p, func(uid uint32) string { return homeOf(uid, root, "etc/passwd") })
	if err != nil {
		return nil, err
	}
	if h.Group, err = c.group(); err != nil {
		return nil, err
	}
	facts.Cgroup = cgroupFacts(h.Group)
	h.Resctrl, facts.Resctrl = c.state.Resctrl, resctrlFacts(c.state.Resctrl)
	facts.Filter, err = c.filter()
	if err != nil {
		return nil, err
	}
	return plan.BuildHook(hook, join, p, facts)
}

// finishHook waits for a hook that has executed.
func (c *child) finishHook(hook specs.Hook, output int) error {
	timeout := -1
	if hook.Timeout != nil {
		timeout = *hook.Timeout * int(time.Second/time.Millisecond)
	}
	late, err := waitReadable(c.pidfd, timeout)
	if err != nil {
		return err
	}
	if late {
		_ = unix.PidfdSendSignal(c.pidfd, unix.SIGKILL, nil, 0)
	}
	status, err := c.wait()
	if err != nil {
		return fmt.Errorf("wait for the hook: %w", err)
	}
	said := quoteOutput(output)
	switch {
	case late:
		return fmt.Errorf("%s: hook ran past specified timeout of %ds%s", hook.Path, *hook.Timeout, said)
	case status.Signaled():
		return fmt.Errorf("%s: signal: %s%s", hook.Path, status.Signal(), said)
	case status.ExitStatus() != 0:
		return fmt.Errorf("%s: exit status %d%s", hook.Path, status.ExitStatus(), said)
	}
	return nil
}

// waitReadable polls fd for timeout milliseconds (-1: for ever) and says whether the time ran out.
func waitReadable(fd, timeout int) (late bool, err error) {
	deadline := time.Now().Add(time.Duration(timeout) * time.Millisecond)
	for {
		left := -1
		if timeout >= 0 {
			left = max(int(time.Until(deadline).Milliseconds())+1, 0)
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, left)
		switch {
		case n > 0:
			return false, nil
		case err != nil && err != unix.EINTR:
			return false, fmt.Errorf("poll: %w", err)
		case timeout >= 0 && time.Now().After(deadline):
			return true, nil
		}
	}
}

func quoteOutput(fd int) string {
	buf := make([]byte, hookOutput)
	n, err := unix.Pread(fd, buf, 0)
	if err != nil || n == 0 {
		return ""
	}
	return ": " + strings.TrimSpace(string(buf[:n]))
}

// pidInside is the process's number in its own PID namespace, which hooks there are told, proc_pid_status(5).
func pidInside(pid int) (int, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		if numbers, ok := strings.CutPrefix(line, "NSpid:"); ok {
			fields := strings.Fields(numbers)
			return strconv.Atoi(fields[len(fields)-1])
		}
	}
	return 0, fmt.Errorf("/proc/%d/status has no NSpid", pid)
}

// hookState is the JSON that hooks read, runtime.md "State".
func (c *Container) hookState(status string, pid int) []byte {
	data, err := coldjson.Append(nil, specs.State{
		Version: c.state.Version, ID: c.state.ID, Status: specs.ContainerState(status), Pid: pid, Bundle: c.state.Bundle,
		Annotations: c.state.Annotations,
	})
	if err != nil {
		panic(err) // strings and numbers always have a JSON form
	}
	return data
}

// memoryFile makes an unlinked file in memory with data in it, to be read from its beginning.
func memoryFile(name string, data []byte) (int, error) {
	fd, err := unix.MemfdCreate("sock-"+name, unix.MFD_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("memfd_create: %w", err)
	}
	if _, err = unix.Pwrite(fd, data, 0); err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("write memfd: %w", err)
	}
	return fd, nil
}
