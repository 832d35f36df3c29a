package libsock

import (
	"errors"
	"fmt"
	"path"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/sock-runtime/sock/libsock/cgroup"
	"github.com/sock-runtime/sock/libsock/host"
	"github.com/sock-runtime/sock/libsock/plan"
	"github.com/sock-runtime/sock/spec"
)

// ExecOptions say what to execute in a container.
type ExecOptions struct {
	Process       *specs.Process
	Detach        bool
	ConsoleSocket string
	PidfdSocket   string
	PidFile       string
	PreserveFDs   int
	IgnorePaused  bool
	Cgroups       map[string]string // cgroups below the container's own, by controller; "" is for all others
	Stdio         *Stdio            // nil: the process inherits the caller's

	// beforeExec, if not nil, runs while the process waits to execute.
	beforeExec func(*child, *terminal) error
}

// Exec runs a process in the container. It returns the process's exit status, or 0 at once when detached. Errors of the
// launch begin with "unable to start container process".
func (c *Container) Exec(o ExecOptions) (int, error) {
	o.Process = c.complete(o.Process)
	if err := spec.ValidateProcess(o.Process); err != nil {
		return 0, err
	}
	for _, warning := range spec.Warnings(&specs.Spec{Process: o.Process}) {
		c.runtime.Log.Warn(warning)
	}
	caught, err := -1, error(nil)
	if !o.Detach {
		if caught, err = catchSignals(); err != nil {
			return 0, err
		}
	}
	if o.Process.Terminal && !o.Detach {
		o.beforeExec = func(_ *child, t *terminal) error { return t.prepare() }
	}
	pidfds, err := openPidfdSocket(o.PidfdSocket)
	if err != nil {
		return 0, err
	}
	defer pidfds.close()
	var between *pipes
	if !o.Detach && o.Stdio == nil {
		if between, err = openPipes(o.Process, c.hostUID(o.Process.User.UID)); err != nil {
			return 0, err
		}
		defer between.close()
		o.Stdio = between.files()
	}
	child, terminal, err := c.startExec(o, pidfds)
	if err != nil {
		return 0, err
	}
	defer child.close()
	if o.PidFile != "" {
		if err := writePidFile(o.PidFile, child.pid); err != nil {
			child.kill()
			return 0, err
		}
	}
	if o.Detach {
		return 0, nil
	}
	return foreground(child, terminal, between, caught, nil)
}

// Process is one that StartProcess started.
type Process struct {
	Pid       int
	StartTime uint64 // clock ticks since boot
	PidFD     int    // the caller's to close
	Console   int    // its pty's master, non-blocking and the caller's to close, or -1
}

// StartProcess runs a process in the container and returns when it has executed. record is called while it waits for that:
// whoever is killed before record returns leaves a process that ends by itself. When record fails, or the start after it,
// nothing is left of the process or its descriptors. Detach, PidFile and the sockets have no meaning here.
func (c *Container) StartProcess(o ExecOptions, record func(*Process) error) (*Process, error) {
	o.Process, o.Detach, o.ConsoleSocket = c.complete(o.Process), false, ""
	if err := spec.ValidateProcess(o.Process); err != nil {
		return nil, err
	}
	p := &Process{PidFD: -1, Console: -1}
	o.beforeExec = func(child *child, terminal *terminal) (err error) {
		p.Pid, p.StartTime = child.pid, child.start
		if terminal != nil {
			if p.Console, err = receiveMaster(terminal.socket); err != nil {
				return err
			}
		}
		if p.PidFD, err = unix.FcntlInt(uintptr(child.pidfd), unix.F_DUPFD_CLOEXEC, 3); err != nil {
			return fmt.Errorf("duplicate pidfd: %w", err)
		}
		return record(p)
	}
	child, terminal, err := c.startExec(o, nil)
	if err != nil {
		p.close()
		return nil, err
	}
	child.close()
	terminal.close()
	return p, nil
}

func (p *Process) close() {
	for _, fd := range []int{p.PidFD, p.Console} {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
}

// complete gives a process the container's own settings for those that it leaves open, as runc does.
func (c *Container) complete(p *specs.Process) *specs.Process {
	full, own := *p, c.state.Process
	if full.Capabilities == nil {
		full.Capabilities = own.Capabilities
	}
	if len(full.Rlimits) == 0 {
		full.Rlimits = own.Rlimits
	}
	if full.OOMScoreAdj == nil {
		full.OOMScoreAdj = own.OOMScoreAdj
	}
	if full.Scheduler == nil {
		full.Scheduler = own.Scheduler
	}
	if full.IOPriority == nil {
		full.IOPriority = own.IOPriority
	}
	if full.User.Umask == nil {
		full.User.Umask = own.User.Umask
	}
	if full.ExecCPUAffinity == nil {
		full.ExecCPUAffinity = own.ExecCPUAffinity
	}
	if full.ApparmorProfile == "" {
		full.ApparmorProfile = own.ApparmorProfile
	}
	if full.SelinuxLabel == "" {
		full.SelinuxLabel = own.SelinuxLabel
	}
	return &full
}

// startExec launches the process and waits until it has executed.
func (c *Container) startExec(o ExecOptions, pidfds *pidfdSocket) (*child, *terminal, error) {
	child, terminal, opt, err := c.launchExec(o)
	if err != nil {
		return nil, nil, err
	}
	if err = pidfds.send(child, "setns"); err == nil {
		err = c.untilExecuted(o, child, terminal, opt)
	}
	if err != nil {
		child.kill()
		terminal.close()
		return nil, nil, fmt.Errorf("unable to start container process: %w", err)
	}
	return child, terminal, nil
}

// launchExec clones the process with the container's lock held. From then on it can only fail by itself; in a paused
// container it waits, and must not keep others out.
func (c *Container) launchExec(o ExecOptions) (*child, *terminal, plan.Options, error) {
	var none plan.Options
	dir, status, err := c.lock()
	if err != nil {
		return nil, nil, none, err
	}
	defer dir.Unlock()
	switch {
	case status == "stopped" || status == "creating":
		return nil, nil, none, fmt.Errorf("cannot exec in a %s container", status)
	case status == "paused" && !o.IgnorePaused:
		return nil, nil, none, errors.New("cannot exec in a paused container (use --ignore-paused to override)")
	}
	pidfd, err := c.openInit()
	if err != nil {
		return nil, nil, none, err
	}
	defer unix.Close(pidfd)
	group, err := c.group()
	if err != nil {
		return nil, nil, none, err
	}
	sub, err := group.Sub(o.Cgroups)
	if err != nil {
		return nil, nil, none, err
	}
	child, terminal, opt, err := c.cloneExec(o, pidfd, sub)
	if group.Unified() && len(o.Cgroups) == 0 && (errors.Is(err, unix.EBUSY) || errors.Is(err, unix.ENOENT) && !group.Exists()) {
		// Its init has made cgroups below its own, which may then hold no process (cgroup-v2.rst, "No Internal Process
		// Constraint"), or has left for another one: join init where it is.
		if sub, err = group.Of(c.state.Pid); err == nil {
			child, terminal, opt, err = c.cloneExec(o, pidfd, sub)
		}
	}
	if err != nil {
		return nil, nil, none, fmt.Errorf("unable to start container process: %w", err)
	}
	return child, terminal, opt, nil
}

// cloneExec plans and clones the process.
func (c *Container) cloneExec(o ExecOptions, pidfd int, group *cgroup.Group) (*child, *terminal, plan.Options, error) {
	opt := plan.Options{
		ID: c.state.ID, Console: o.Process.Terminal, PreserveFDs: o.PreserveFDs, NoKeyring: c.state.NoKeyring, Stdio: o.Stdio != nil,
	}
	h, join, facts, err := c.execHost(o, pidfd, group)
	if err != nil {
		return nil, nil, opt, err
	}
	opt.Pause = notifies(facts.Filter) || o.Process.Terminal || o.beforeExec != nil
	terminal, socket, err := openTerminal(o.Process, o.Detach, o.ConsoleSocket)
	if err != nil {
		h.Close()
		return nil, nil, opt, err
	}
	if socket >= 0 {
		h.Keep("console", socket)
	}
	if err := o.Stdio.keep(h); err != nil {
		h.Close()
		terminal.close()
		return nil, nil, opt, err
	}
	p, err := plan.BuildExec(o.Process, join, opt, facts)
	if err != nil {
		h.Close()
		terminal.close()
		return nil, nil, opt, err
	}
	c.runtime.logPlan(p)
	child, err := c.runtime.launch(p, h, o.PreserveFDs, c.visibility())
	if err != nil {
		terminal.close()
	}
	return child, terminal, opt, err
}

// untilExecuted waits for execve, and before it for a pause in which the terminal is set up and the seccomp listener is
// passed on.
func (c *Container) untilExecuted(o ExecOptions, child *child, terminal *terminal, opt plan.Options) error {
	if opt.Pause {
		if err := c.ready(child, opt.PreserveFDs); err != nil {
			return err
		}
		if o.beforeExec != nil {
			if err := o.beforeExec(child, terminal); err != nil {
				return err
			}
		}
		if err := child.send(1); err != nil {
			return err
		}
	}
	return c.executed(child)
}

// execHost prepares the host side: descriptors of the container, its cgroup, and what the plan must know.
func (c *Container) execHost(o ExecOptions, pidfd int, group *cgroup.Group) (*host.Host, plan.Join, plan.Facts, error) {
	join := plan.Join{
		Flags: c.state.Namespaces, Root: c.state.Chroot, Personality: c.state.Personality, MemoryPolicy: c.state.MemoryPolicy,
	}
	h := &host.Host{}
	fail := func(err error) (*host.Host, plan.Join, plan.Facts, error) {
		h.Close()
		return nil, join, plan.Facts{}, err
	}
	if err := c.keepInit(h, join, pidfd); err != nil {
		return fail(err)
	}
	h.Group = group
	root := h.Descriptors()["rootdir"] // of its init
	facts, err := c.runtime.processFacts(o.Process, func(uid uint32) string { return homeOf(uid, root, "etc/passwd") })
	if err != nil {
		return fail(err)
	}
	facts.Cgroup = cgroupFacts(group)
	if c.state.Resctrl != nil && c.state.Resctrl.Exists() { // it may be unmounted
		h.Resctrl, facts.Resctrl = c.state.Resctrl, resctrlFacts(c.state.Resctrl)
	}
	if facts.Filter, err = c.filter(); err != nil {
		return fail(err)
	}
	if !o.Process.Terminal {
		var null []int
		facts.OwnStdio, null = o.Stdio.sort(c.hostUID(o.Process.User.UID))
		if len(null) > 0 && join.Flags&unix.CLONE_NEWUSER == 0 {
			if fd := openNull(root); fd >= 0 {
				h.Keep("devnull", fd)
				facts.NullStdio = null
			}
		}
	}
	return h, join, facts, nil
}

// openNull opens the /dev/null of a container whose root is given; -1 where it has none, or something else in its place.
func openNull(root int) int {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	node, err := unix.Openat2(root, "dev/null", &how)
	if err != nil {
		return -1
	}
	defer unix.Close(node)
	var st unix.Stat_t
	if unix.Fstat(node, &st) != nil || !isNull(&st) {
		return -1
	}
	fd, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", node), unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1
	}
	return fd
}

// keepInit opens what joining needs of the init process.
func (c *Container) keepInit(h *host.Host, join plan.Join, pidfd int) error {
	if join.Flags == 0 && !join.Root {
		return nil
	}
	fd, err := unix.FcntlInt(uintptr(pidfd), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return fmt.Errorf("duplicate descriptor: %w", err)
	}
	h.Keep("pidfd", fd)
	proc := path.Join("/proc", fmt.Sprint(c.state.Pid))
	for name, o := range map[string]struct {
		path  string
		flags int
	}{
		"rootdir": {path.Join(proc, "root"), unix.O_PATH | unix.O_DIRECTORY},
		"pidns":   {path.Join(proc, "ns/pid"), unix.O_RDONLY},
	} {
		if fd, err = unix.Open(o.path, o.flags|unix.O_CLOEXEC, 0); err != nil {
			return fmt.Errorf("open %s: %w", o.path, err)
		}
		h.Keep(name, fd)
	}
	// Had init ended and its number been used again, this would fail.
	if err := unix.PidfdSendSignal(pidfd, 0, nil, 0); err != nil {
		return ErrNotRunning
	}
	return nil
}
