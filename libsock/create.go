package libsock

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/sock-runtime/sock/libsock/host"
	"github.com/sock-runtime/sock/libsock/plan"
	"github.com/sock-runtime/sock/libsock/state"
	"github.com/sock-runtime/sock/libsock/stub"
)

// Create makes a container whose process waits for Start. After an error nothing is left of it.
func (r *Runtime) Create(o CreateOptions) (*Container, error) {
	p, err := r.prepare(o, true)
	if err != nil {
		return nil, err
	}
	if err := p.protected(); err != nil {
		return nil, err
	}
	if o.KeepConsole && !p.config.Process.Terminal {
		return nil, errors.New("process.terminal: a terminal is asked for that config.json doesn't have")
	}
	terminal, console, err := openTerminal(p.config.Process, !o.KeepConsole, o.ConsoleSocket)
	if err != nil {
		return nil, err
	}
	defer terminal.close()
	c, child, err := r.create(p, o, console)
	if err != nil {
		return nil, err
	}
	defer child.close()
	if terminal != nil {
		if c.console, err = receiveMaster(terminal.socket); err != nil {
			return nil, errors.Join(err, c.Delete(true))
		}
	}
	return c, nil
}

// openConsole connects to the console socket of a detached container.
func openConsole(terminal bool, socket string) (int, error) {
	switch {
	case terminal && socket == "":
		return -1, errors.New("cannot allocate tty if sock will detach without setting console socket")
	case !terminal && socket != "":
		return -1, errors.New("cannot use console socket if sock will not detach or allocate tty")
	case !terminal:
		return -1, nil
	}
	fd, err := connectUnix(socket)
	if err != nil {
		return -1, fmt.Errorf("console socket: %w", err)
	}
	return fd, nil
}

// create carries out a prepared plan up to where its process waits: at the gate, or (run) for its state to be recorded
// and the startContainer hooks. console, if not -1, takes the pty's master; it is closed.
func (r *Runtime) create(p *prepared, o CreateOptions, console int) (*Container, *child, error) {
	h := &host.Host{Group: p.group, Rootfs: p.opt.Rootfs, StateDir: filepath.Join(r.Root, o.ID)}
	defer h.Close()
	if console >= 0 {
		h.Keep("console", console)
	}
	if err := o.Stdio.keep(h); err != nil {
		return nil, nil, err
	}
	if p.config.Linux != nil {
		h.Resources, h.IntelRdt = p.config.Linux.Resources, p.config.Linux.IntelRdt
	}
	h.Resctrl = p.resctrl
	var err error
	if p.pidfds, err = openPidfdSocket(o.PidfdSocket); err != nil {
		return nil, nil, err
	}
	defer p.pidfds.close()
	defer p.beside.Close()
	c := &Container{runtime: r, state: r.newState(p, o), console: -1}
	dir, err := state.Create(r.Root, c.state, filterOf(p))
	if err != nil {
		if err == state.ErrExists {
			return nil, nil, fmt.Errorf("%w: %s", err, o.ID)
		}
		return nil, nil, err
	}
	defer dir.Unlock()
	var child *child
	if err = c.offerNotifySocket(p, dir.Path, o.NotifySocket); err == nil {
		child, err = c.launchInit(dir, p, h, o.PreserveFDs)
	}
	if err == nil && o.PidFile != "" {
		if err = writePidFile(o.PidFile, child.pid); err != nil {
			child.kill()
		}
	}
	if err != nil {
		if returned := p.beside.ReturnDevices(); returned != nil {
			err = errors.Join(err, returned)
		}
		if undone := c.undoCreate(dir, h); undone != nil {
			r.Log.Warn("clean up after a failed create", "id", o.ID, "error", undone)
		}
		if c.state.Pid != 0 { // there was something that hooks may have to clean up, runtime.md "Lifecycle" step 13
			c.runPoststopHooks()
		}
		return nil, nil, fmt.Errorf("unable to start container process: %w", err)
	}
	return c, child, nil
}

// filterOf is the filter as the state keeps it for exec.
func filterOf(p *prepared) *state.Filter {
	if p.filter == nil {
		return nil
	}
	return &state.Filter{Program: p.filter.Program, Flags: p.filter.Flags, Notify: p.filter.Notify}
}

// undoCreate takes back a create that failed. A cgroup, or a class of service, that we could not make is somebody else's.
func (c *Container) undoCreate(dir *state.Dir, h *host.Host) error {
	c.state.Resctrl = nil
	if h.Resctrl != nil {
		if err := h.Resctrl.Unmake(); err != nil {
			return err
		}
	}
	if !h.MadeCgroup {
		return dir.Remove()
	}
	return c.undo(dir)
}

func (r *Runtime) newState(p *prepared, o CreateOptions) *state.State {
	saved := p.group.Saved()
	s := &state.State{
		ID: o.ID, Version: p.config.Version, Bundle: o.Bundle, Rootfs: p.opt.Rootfs, Created: time.Now().UTC(),
		UID: os.Geteuid(), Profile: p.opt.Profile, FastPaths: p.plan.Fast, Cgroup: &saved, Resctrl: p.resctrl,
		Namespaces: joinFlags(p.config), OwnPIDs: makesPIDs(p.config), NoKeyring: o.NoNewKeyring, Process: p.config.Process,
		Hooks: p.config.Hooks, Annotations: p.config.Annotations,
	}
	if p.config.Linux != nil {
		s.Personality, s.MemoryPolicy = p.config.Linux.Personality, p.config.Linux.MemoryPolicy
	}
	if notifies(p.filter) {
		s.Listener = &state.Listener{Path: p.config.Linux.Seccomp.ListenerPath, Metadata: p.config.Linux.Seccomp.ListenerMetadata}
	}
	for _, u := range p.plan.Undo {
		if u.Unmount != "" {
			s.Chroot = true
			s.Unmount = append(s.Unmount, state.Mount{Path: u.Unmount, Over: mountID(u.Unmount)})
		}
	}
	return s
}

// mountID identifies the mount that a path is on, statx(2) with STATX_MNT_ID (Linux 5.8); 0 if it doesn't exist.
func mountID(path string) uint64 {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_MNT_ID, &st); err != nil {
		return 0
	}
	return st.Mnt_id
}

// launchInit clones the init process, records it, runs the hooks of create and waits until it is ready. The child gets
// its go-ahead only when its pid is on disk: killed before that, we leave a child that ends by itself.
func (c *Container) launchInit(dir *state.Dir, p *prepared, h *host.Host, preserve int) (*child, error) {
	child, err := c.runtime.launch(p.plan, h, preserve, initVisibility(c.state.Namespaces, c.state.OwnPIDs))
	if err != nil {
		return nil, err
	}
	if err := c.accompany(dir, p, child, preserve); err != nil {
		child.kill()
		return nil, err
	}
	return child, nil
}

// accompany sees a cloned child through to where it waits for start or, without a gate, has executed.
func (c *Container) accompany(dir *state.Dir, p *prepared, child *child, preserve int) error {
	if child.start == 0 { // somebody else reaps, and was quicker; what it failed with is in the socket
		return child.elseWhy(errors.New("container init has ended already, or there is no /proc"))
	}
	hooks := hooksOfCreate(p.config.Hooks)
	if err := c.record(dir, state.Init{Pid: child.pid, StartTime: child.start, Creating: hooks || p.opt.Pause}); err != nil {
		return err
	}
	if err := c.meanwhile(p, child); err != nil {
		return err
	}
	if hooks {
		if err := c.pauseForHooks(dir, p, child); err != nil {
			return err
		}
	}
	if err := p.pidfds.send(child, "standard"); err != nil {
		return err
	}
	if err := child.send(1); err != nil {
		return err
	}
	if p.opt.Gate || p.opt.Pause {
		if err := c.ready(child, preserve); err != nil {
			return err
		}
	}
	if p.opt.Pause {
		if err := c.pauseBeforeExec(dir, p, child); err != nil {
			return err
		}
	}
	// The socket closes when the child executes, or has nothing left to do but to read its gate.
	return c.executed(child)
}

// ready waits until the child has everything set up, and on the way passes its seccomp listener on, without which it
// might not get there.
func (c *Container) ready(child *child, preserve int) error {
	record, err := child.await()
	if err == nil && record.Event == stub.Listening {
		if err := c.passListener(child, preserve); err != nil {
			return err
		}
		record, err = child.await()
	}
	if err != nil {
		return c.died(child, err)
	}
	if record.Event != stub.Ready {
		return fmt.Errorf("unexpected record %#x from the child", record.Event)
	}
	return nil
}

func (c *Container) record(dir *state.Dir, init state.Init) error {
	c.state.Init = init
	return dir.WriteInit(init)
}

// meanwhile does what the child pauses for, in the plan's order.
func (c *Container) meanwhile(p *prepared, child *child) error {
	p.beside.Child = child.pid
	for _, line := range p.plan.Child {
		if len(line.Meanwhile) == 0 {
			continue
		}
		if _, err := child.await(); err != nil {
			return c.died(child, err)
		}
		if err := p.beside.Do(line.Meanwhile); err != nil {
			return err
		}
		if err := child.send(1); err != nil {
			return err
		}
	}
	return nil
}

// pauseForHooks runs the hooks that want the mounts made and the root not yet changed.
func (c *Container) pauseForHooks(dir *state.Dir, p *prepared, child *child) error {
	if _, err := child.await(); err != nil {
		return c.died(child, err)
	}
	if err := c.runCreateHooks(p.config.Hooks, child); err != nil {
		return err
	}
	if !p.opt.Pause {
		init := c.state.Init
		init.Creating = false
		if err := c.record(dir, init); err != nil {
			return err
		}
	}
	return child.send(1)
}

// pauseBeforeExec does what start does where there is a gate, while a child without one waits.
func (c *Container) pauseBeforeExec(dir *state.Dir, p *prepared, child *child) error {
	if p.beforeExec != nil {
		if err := p.beforeExec(); err != nil {
			return err
		}
	}
	if err := c.runStartHooks(child.pidfd); err != nil {
		return err
	}
	init := c.state.Init
	init.Creating = false
	if err := c.record(dir, init); err != nil {
		return err
	}
	return child.send(1)
}

// executed waits for the proof that the child's execve succeeded: its end of the socket is closed without a word.
func (c *Container) executed(child *child) error {
	record, err := child.await()
	switch err {
	case errGone:
		return nil
	case nil:
		return fmt.Errorf("unexpected record %#x from the child", record.Event)
	}
	return err
}

// died makes errGone of a child that should have reported say how the child ended.
func (c *Container) died(child *child, err error) error {
	if err != errGone {
		return err
	}
	status, waitErr := child.wait()
	if waitErr != nil {
		return fmt.Errorf("container init went away: %w", waitErr)
	}
	if status.Signaled() {
		return fmt.Errorf("container init was killed by signal %d (%s)", status.Signal(), unix.SignalName(status.Signal()))
	}
	return fmt.Errorf("container init ended with status %d before it was ready", status.ExitStatus())
}

func hooksOfCreate(h *specs.Hooks) bool {
	//lint:ignore SA1019 prestart is deprecated, and Docker 20.10 uses it
	return h != nil && len(h.Prestart)+len(h.CreateRuntime)+len(h.CreateContainer) > 0
}

// writePidFile writes the pid by rename, so that whoever waits for the file finds the whole number in it.
func writePidFile(path string, pid int) error {
	temp := filepath.Join(filepath.Dir(path), fmt.Sprintf(".%s.%d", filepath.Base(path), os.Getpid()))
	fd, err := unix.Open(temp, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return fmt.Errorf("write pid file %s: %w", path, err)
	}
	_, err = unix.Write(fd, []byte(strconv.Itoa(pid)))
	if closed := unix.Close(fd); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(temp, path)
	}
	if err != nil {
		_ = os.Remove(temp)
		return fmt.Errorf("write pid file %s: %w", path, err)
	}
	return nil
}

// Start has the waiting process execute, runtime.md "Lifecycle" steps 6 to 9. The poststart hooks run without the lock:
// they may call us for this container.
func (c *Container) Start() error { return c.StartNotifying("") }

// start opens the gate. Where a service manager listens at notify, it returns what passes notifications on to it.
func (c *Container) start(notify string) (n *notifier, err error) {
	dir, status, err := c.lock()
	if err != nil {
		return nil, err
	}
	defer dir.Unlock()
	switch status {
	case "created":
	case "stopped":
		return nil, errors.New("cannot start a container that has stopped")
	case "running", "paused":
		return nil, errors.New("cannot start an already running container")
	default:
		return nil, fmt.Errorf("cannot start a container in the %s state", status)
	}
	if hasStartHooks(c.state.Hooks) {
		if err := initVisibility(c.state.Namespaces, c.state.OwnPIDs).check(); err != nil {
			return nil, err
		}
	}
	pidfd, err := c.openInit()
	if err != nil {
		return nil, err
	}
	defer unix.Close(pidfd)
	if notify != "" {
		n, err = listenNotify(dir.Path, notify, c.runtime.Log)
		if errors.Is(err, os.ErrNotExist) {
			c.runtime.Log.Warn("the container was created without NOTIFY_SOCKET, so it can't notify", "id", c.state.ID)
		} else if err != nil {
			return nil, err
		}
	}
	if err := c.runStartHooks(pidfd); err != nil {
		return n, errors.Join(err, c.stop())
	}
	if err := openGate(dir.Path); err != nil {
		return n, err
	}
	if err := executeError(dir.Path, c.state.Process.Args[0]); err != nil {
		return n, errors.Join(err, c.stop()) // it ends by itself; wait for that
	}
	return n, nil
}

// openFIFO opens a FIFO for writing, without waiting for somebody who reads it. Errors: ENXIO if nobody does.
func openFIFO(name string) (int, error) {
	fd, err := unix.Open(name, unix.O_WRONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFIFO {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("%s is no FIFO", name)
	}
	return fd, nil
}

// openGate writes the start byte and waits for the proof that it was read: when the last reader of the FIFO is gone,
// the process has executed or failed.
func openGate(dir string) error {
	gate := filepath.Join(dir, plan.GateFile)
	used := filepath.Join(dir, plan.GateUsed)
	fd, err := openFIFO(gate)
	if err == unix.ENOENT {
		fd, err = openFIFO(used)
	}
	if err == unix.ENXIO {
		return errors.New("cannot start: the container's process does not wait for it")
	}
	if err != nil {
		return fmt.Errorf("open the container's gate: %w", err)
	}
	defer unix.Close(fd)
	// From here on a FIFO that nobody reads means running, no more creating.
	if err := unix.Rename(gate, used); err != nil && err != unix.ENOENT {
		return fmt.Errorf("mark the container's gate as used: %w", err)
	}
	if _, err := unix.Write(fd, []byte{0}); err != nil && err != unix.EPIPE {
		return fmt.Errorf("open the container's gate: %w", err)
	}
	poll := []unix.PollFd{{Fd: int32(fd)}} // POLLERR: no reader is left
	for poll[0].Revents&unix.POLLERR == 0 {
		if _, err := unix.Poll(poll, -1); err != nil && err != unix.EINTR {
			return fmt.Errorf("wait for the container's process: %w", err)
		}
	}
	return nil
}

// Started says of a container that start refuses when an earlier start has let its process go, and how that ended. The time is
// zero if none has.
func (c *Container) Started() (time.Time, error) {
	dir := filepath.Join(c.runtime.Root, c.state.ID)
	var st unix.Stat_t
	if err := unix.Lstat(filepath.Join(dir, plan.GateUsed), &st); err != nil {
		return time.Time{}, nil
	}
	return time.Unix(st.Ctim.Unix()), executeError(dir, c.state.Process.Args[0])
}

// executeError reads the record that a process leaves behind that could not execute name.
func executeError(dir, name string) error {
	data, err := os.ReadFile(filepath.Join(dir, plan.ErrorFile))
	if err != nil || len(data) == 0 {
		return nil
	}
	record, err := stub.DecodeRecord(data)
	if err != nil {
		return err
	}
	return fmt.Errorf("exec %s: %w", name, record.Errno)
}
