package libsock

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// connectUnix connects to the socket at path.
func connectUnix(path string) (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("socket: %w", err)
	}
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("connect to %s: %w", path, err)
	}
	return fd, nil
}

// sendDescriptor passes fd with a message, unix(7) SCM_RIGHTS.
func sendDescriptor(socket int, message string, fd int) error {
	return unix.Sendmsg(socket, []byte(message), unix.UnixRights(fd), nil, unix.MSG_NOSIGNAL)
}

// pidfdSocket is where a new process's pidfd goes, --pidfd-socket; nil if nobody wants it.
type pidfdSocket struct {
	path string
	fd   int
}

// openPidfdSocket connects to the socket at path before anything is made.
func openPidfdSocket(path string) (*pidfdSocket, error) {
	if path == "" {
		return nil, nil
	}
	fd, err := connectUnix(path)
	if err != nil {
		return nil, fmt.Errorf("pidfd socket: %w", err)
	}
	return &pidfdSocket{path, fd}, nil
}

// send passes the child's pidfd. The message is runc's: standard for a container's init, setns for a process of exec.
func (s *pidfdSocket) send(c *child, message string) error {
	if s == nil {
		return nil
	}
	if err := sendDescriptor(s.fd, message, c.pidfd); err != nil {
		return fmt.Errorf("send the pidfd to %s: %w", s.path, err)
	}
	return nil
}

func (s *pidfdSocket) close() {
	if s != nil {
		_ = unix.Close(s.fd)
	}
}
