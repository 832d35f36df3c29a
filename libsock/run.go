package libsock

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/containerd/console"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// RunOptions are the arguments of run.
type RunOptions struct {
	CreateOptions
	Detach      bool
	Keep        bool // don't delete the container when it has ended
	NoSubreaper bool
}

// Run creates and starts a container in one go: the process doesn't stop at a gate. It waits for the end, deletes the
// container and returns the exit status, unless detached.
func (r *Runtime) Run(o RunOptions) (int, error) {
	o.pipes = !o.Detach && o.Stdio == nil
	p, err := r.prepare(o.CreateOptions, false)
	if err != nil {
		return 0, err
	}
	defer p.pipes.close()
	if p.pipes != nil {
		o.Stdio = p.pipes.files()
	}
	if err := p.protected(); err != nil {
		return 0, err
	}
	if !o.Detach && !o.NoSubreaper {
		// The container's orphans become ours, not those of the process that called us.
		if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
			return 0, fmt.Errorf("become a subreaper: %w", err)
		}
	}
	terminal, socket, err := openTerminal(p.config.Process, o.Detach, o.ConsoleSocket)
	if err != nil {
		return 0, err
	}
	caught := -1
	if !o.Detach {
		if caught, err = catchSignals(); err != nil {
			return 0, err
		}
	}
	if terminal != nil {
		p.beforeExec = terminal.prepare
	}
	c, child, err := r.create(p, o.CreateOptions, socket)
	defer p.notify.close()
	if err != nil {
		terminal.close()
		return 0, err
	}
	defer child.close()
	if err := c.runPoststartHooks(); err != nil {
		terminal.close()
		_, _ = child.wait()
		return 0, errors.Join(err, c.Delete(true))
	}
	if o.Detach {
		if p.notify != nil {
			p.notify.untilReady(child.pidfd, child.pid)
		}
		return 0, nil
	}
	status, err := foreground(child, terminal, p.pipes, caught, p.notify)
	if !o.Keep {
		if deleted := c.Delete(true); deleted != nil && deleted != ErrNotExist {
			err = errors.Join(err, deleted)
		}
	}
	return status, err
}

// terminal is our side of a process's pty, while we stand between it and our own terminal.
type terminal struct {
	socket int // where the master arrives
	fd     int // the master, for ioctls
	master *os.File
	own    console.Console
	copied chan struct{}
}

// openTerminal returns the socket that a process's pty is sent to: the caller's, or one end of a pair whose other end the
// returned terminal holds; -1 if the process has no terminal.
func openTerminal(p *specs.Process, detach bool, path string) (t *terminal, socket int, err error) {
	if detach || !p.Terminal {
		socket, err = openConsole(p.Terminal, path)
		return nil, socket, err
	}
	if path != "" {
		return nil, -1, errors.New("cannot use console socket if sock will not detach or allocate tty")
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, -1, fmt.Errorf("console socket: %w", err)
	}
	return &terminal{socket: pair[0]}, pair[1], nil
}

// receive takes the master that the child sent.
func (t *terminal) receive() (err error) {
	if t.fd, err = receiveMaster(t.socket); err == nil {
		t.master = os.NewFile(uintptr(t.fd), "pty")
	}
	return err
}

// receiveMaster takes the master of a pty from a console socket. It is non-blocking, so that closing it ends a read that
// waits.
func receiveMaster(socket int) (int, error) {
	text, oob := make([]byte, 64), make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(socket, text, oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("receive the pty: %w", err)
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(messages) != 1 {
		return -1, fmt.Errorf("receive the pty: no descriptor came (%w)", err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return -1, fmt.Errorf("receive the pty: no descriptor came (%w)", err)
	}
	if err := unix.SetNonblock(fds[0], true); err != nil {
		return -1, fmt.Errorf("receive the pty: %w", err)
	}
	return fds[0], nil
}

// prepare sets both terminals up, before the process can write to its own: raw mode for ours, our size for its.
func (t *terminal) prepare() error {
	if err := t.receive(); err != nil {
		return err
	}
	// Our own terminal turns a newline into CR LF already.
	if err := console.ClearONLCR(uintptr(t.fd)); err != nil {
		return fmt.Errorf("set up the pty: %w", err)
	}
	if t.own = ownTerminal(); t.own != nil {
		if err := t.own.SetRaw(); err != nil {
			return fmt.Errorf("set the terminal raw: %w", err)
		}
		t.resize()
	}
	return nil
}

// ownTerminal is the terminal that we were called on, by what of our stdio still is one; nil if nothing is.
func ownTerminal() console.Console {
	for _, f := range []*os.File{os.Stdin, os.Stdout, os.Stderr} {
		if c, err := console.ConsoleFromFile(f); err == nil {
			return c
		}
	}
	return nil
}

// attach copies bytes between the pty and our own stdio, both ways.
func (t *terminal) attach() {
	go func() { _, _ = io.Copy(t.master, os.Stdin) }()
	t.copied = make(chan struct{})
	go func() {
		defer close(t.copied)
		_, _ = io.Copy(os.Stdout, t.master) // ends with EIO when the last slave is closed
	}()
}

// resize gives the pty the size of our terminal, if that has one.
func (t *terminal) resize() {
	if t == nil || t.own == nil {
		return
	}
	size, err := unix.IoctlGetWinsize(int(t.own.Fd()), unix.TIOCGWINSZ)
	if err == nil && size.Row != 0 && size.Col != 0 {
		_ = unix.IoctlSetWinsize(t.fd, unix.TIOCSWINSZ, size)
	}
}

// close restores our terminal.
func (t *terminal) close() {
	if t == nil {
		return
	}
	if t.own != nil {
		_ = t.own.Reset()
	}
	if t.master != nil {
		_ = t.master.Close()
	}
	_ = unix.Close(t.socket)
}

// drain waits until what the process wrote last is copied, but not for a background process that keeps the pty open.
func (t *terminal) drain() {
	select {
	case <-t.copied:
	case <-time.After(drainTimeout):
	}
}

// drainTimeout is how long the output of a process that has ended may take to arrive.
const drainTimeout = 100 * time.Millisecond

// reapOrphans collects the container's other processes that ended and became our children.
func reapOrphans() {
	for {
		pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
		if err != unix.EINTR && pid <= 0 {
			return
		}
	}
}

// foreground stands in for the process: signals go on to it, its terminal and pipes to ours, its notifications to our service
// manager; it returns the exit status.
func foreground(c *child, t *terminal, s *pipes, caught int, n *notifier) (int, error) {
	if t != nil {
		defer t.close()
		t.attach()
	}
	s.copy()
	if err := relay(caught, c.pidfd, t, n); err != nil {
		return 0, err
	}
	status, err := c.wait()
	if t != nil {
		t.drain()
	}
	s.finish()
	reapOrphans()
	return exitStatus(status), err
}
