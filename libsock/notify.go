package libsock

import (
	"errors"
	"fmt"
	"log/slog"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sock-runtime/sock/libsock/plan"
)

// Where a container's socket for notifications is: in its state directory, which it sees at plan.NotifyDir.
const (
	notifyDir      = "notify"
	notifyName     = "notify.sock"
	notifyVariable = "NOTIFY_SOCKET=" + plan.NotifyDir + "/" + notifyName
)

// notifier passes on what a container says on its own socket to the service manager that started us, sd_notify(3). The
// container gets no other way to it: the manager would believe it, MAINPID= and FDSTORE=1 included, for it believes us.
type notifier struct {
	host   string // the manager's socket
	socket int    // ours
	ready  bool   // READY=1 was passed on
	log    *slog.Logger
	warned bool
}

// makeNotifyDir makes the directory that the container will see, in its state directory.
func makeNotifyDir(state string) error {
	dir := path.Join(state, notifyDir)
	if err := unix.Mkdir(dir, 0o700); err != nil {
		return fmt.Errorf("make %s: %w", dir, err)
	}
	if err := unix.Chmod(dir, 0o755); err != nil { // whatever the umask says
		return fmt.Errorf("make %s accessible: %w", dir, err)
	}
	return nil
}

// listenNotify opens the container's socket, of which host is the other end. Errors: fs.ErrNotExist where the container
// was made without one.
func listenNotify(state, host string, log *slog.Logger) (*notifier, error) {
	dir, err := unix.Open(path.Join(state, notifyDir), unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("NOTIFY_SOCKET: open the container's directory for it: %w", err)
	}
	defer unix.Close(dir)
	name := fmt.Sprintf("/proc/self/fd/%d/%s", dir, notifyName) // a socket's path has 107 bytes at most, unix(7)
	if err := unix.Unlink(name); err != nil && err != unix.ENOENT {
		return nil, fmt.Errorf("NOTIFY_SOCKET: remove an old socket: %w", err)
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("NOTIFY_SOCKET: socket: %w", err)
	}
	if err = unix.Bind(fd, &unix.SockaddrUnix{Name: name}); err == nil {
		err = unix.Chmod(name, 0o777) // for the container's users
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("NOTIFY_SOCKET: make the container's socket: %w", err)
	}
	return &notifier{host: host, socket: fd, log: log}, nil
}

func (n *notifier) close() {
	if n != nil {
		_ = unix.Close(n.socket)
	}
}

// longestNotification is what systemd reads of one, in bytes.
const longestNotification = 4096

// forward reads one notification and passes on what tells of the service. Descriptors that come along are dropped. After
// READY=1 the manager is told that pid is the service's process.
func (n *notifier) forward(pid int) error {
	buf := make([]byte, longestNotification)
	length, _, err := unix.Recvfrom(n.socket, buf, unix.MSG_DONTWAIT)
	if err == unix.EAGAIN {
		return nil
	}
	if err != nil {
		return fmt.Errorf("NOTIFY_SOCKET: read a notification: %w", err)
	}
	var states []string
	ready := false
	for state := range strings.SplitSeq(string(buf[:length]), "\n") {
		if harmless(state) {
			states = append(states, state)
			ready = ready || state == "READY=1"
		}
	}
	if len(states) == 0 {
		return nil
	}
	if err := n.tell(strings.Join(states, "\n")+"\n", nil); err != nil {
		return err
	}
	if ready && !n.ready {
		n.ready = true
		return n.tell(fmt.Sprintf("MAINPID=%d\n", pid), nil)
	}
	return nil
}

// harmless says whether a line of a notification tells no more than how the service is.
func harmless(state string) bool {
	for _, prefix := range []string{"READY=", "RELOADING=", "STOPPING=", "STATUS=", "ERRNO=", "EXIT_STATUS=", "WATCHDOG=1", "MONOTONIC_USEC="} {
		if strings.HasPrefix(state, prefix) {
			return true
		}
	}
	return false
}

// tell sends a message to the manager, at a path or, with @, an abstract address.
func (n *notifier) tell(message string, rights []byte) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("NOTIFY_SOCKET: socket: %w", err)
	}
	defer unix.Close(fd)
	if err := unix.Sendmsg(fd, []byte(message), rights, &unix.SockaddrUnix{Name: n.host}, unix.MSG_NOSIGNAL); err != nil {
		return fmt.Errorf("NOTIFY_SOCKET: send to %s: %w", n.host, err)
	}
	return nil
}

// relay is forward for a caller that goes on in any case: the container doesn't depend on its manager.
func (n *notifier) relay(pid int) {
	if err := n.forward(pid); err != nil && !n.warned {
		n.log.Warn(err.Error())
		n.warned = true
	}
}

// lastWords is how many notifications of a process that has ended are passed on: others may go on to talk.
const lastWords = 32

// drain passes on what a process said before it ended.
func (n *notifier) drain(pid int) {
	if n == nil {
		return
	}
	for range lastWords {
		n.relay(pid)
	}
}

// untilReady passes notifications on until the process is ready or has ended. Then the manager has read all of them: once
// we have ended, it could not tell whose they are.
func (n *notifier) untilReady(pidfd, pid int) {
	fds := []unix.PollFd{{Fd: int32(n.socket), Events: unix.POLLIN}, {Fd: int32(pidfd), Events: unix.POLLIN}}
	for !n.ready {
		if _, err := unix.Poll(fds, -1); err != nil && err != unix.EINTR {
			n.log.Warn("NOTIFY_SOCKET: wait for the container", "error", err)
			return
		}
		if fds[1].Revents != 0 {
			n.drain(pid)
			break
		}
		if fds[0].Revents != 0 {
			n.relay(pid)
		}
	}
	if !n.ready {
		return
	}
	if err := n.barrier(); err != nil {
		n.log.Warn(err.Error())
	}
}

// barrierTimeout is how long the manager may take to read what was sent; runc's.
const barrierTimeout = 30 * time.Second

// barrier waits until the manager has read all that we sent: it then closes its end of a pipe, sd_notify_barrier(3).
func (n *notifier) barrier() error {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return fmt.Errorf("NOTIFY_SOCKET: pipe: %w", err)
	}
	defer unix.Close(pipe[0])
	err := n.tell("BARRIER=1", unix.UnixRights(pipe[1]))
	_ = unix.Close(pipe[1])
	if err != nil {
		return err
	}
	late, err := waitReadable(pipe[0], int(barrierTimeout/time.Millisecond))
	if late {
		return errors.New("NOTIFY_SOCKET: the service manager has not confirmed what it was told")
	}
	return err
}

// offerNotifySocket makes the container's place for notifications and, where no start will, listens there.
func (c *Container) offerNotifySocket(p *prepared, state, host string) (err error) {
	if p.opt.Notify == "" {
		return nil
	}
	if err := makeNotifyDir(state); err != nil || p.opt.Gate {
		return err
	}
	p.notify, err = listenNotify(state, host, c.runtime.Log)
	return err
}

// StartNotifying is Start for a caller whose service manager listens at host, the value of NOTIFY_SOCKET: it returns when
// the container has said that it is ready, or has ended. An empty host is no manager.
func (c *Container) StartNotifying(host string) error {
	pidfd := -1
	if host != "" {
		pidfd, _ = c.openInit() // if it is gone, start will say so
		defer unix.Close(pidfd)
	}
	n, err := c.start(host)
	defer n.close()
	if err != nil {
		return err
	}
	if err := c.runPoststartHooks(); err != nil {
		return err
	}
	if n != nil {
		n.untilReady(pidfd, c.state.Pid)
	}
	return nil
}
