package integration

import (
	"fmt"
	"net"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	. "github.com/sock-runtime/sock/tests/sandbox"
)

// pidfdSocket listens for a pidfd; receive takes it and the message that comes with it.
func pidfdSocket(s *Sandbox) (path string, receive func() (pidfd int, message string)) {
	s.Helper()
	path = filepath.Join(s.Dir, fmt.Sprint("pidfd-", time.Now().UnixNano()))
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	Must(s.T, err)
	s.Cleanup(func() { listener.Close() })
	return path, func() (int, string) {
		s.Helper()
		Must(s.T, listener.SetDeadline(time.Now().Add(SettleTimeout)))
		conn, err := listener.AcceptUnix()
		Must(s.T, err)
		defer conn.Close()
		text, oob := make([]byte, 4096), make([]byte, unix.CmsgSpace(4*8))
		n, oobn, _, _, err := conn.ReadMsgUnix(text, oob)
		Must(s.T, err)
		messages, err := unix.ParseSocketControlMessage(oob[:oobn])
		Must(s.T, err)
		Equal(s.T, "number of control messages", len(messages), 1)
		fds, err := unix.ParseUnixRights(&messages[0])
		Must(s.T, err)
		Equal(s.T, "number of descriptors", len(fds), 1)
		s.Cleanup(func() { _ = unix.Close(fds[0]) })
		return fds[0], string(text[:n])
	}
}

// pidOf asks the kernel whose pidfd it is.
func pidOf(pidfd int) string {
	return StatusField(ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", pidfd)), "Pid")
}

func TestPidfdSocket(t *testing.T) {
	t.Parallel()
	for _, verb := range []string{"create", "run"} {
		for _, where := range []string{"as it is", "user namespace"} {
			t.Run(verb+"/"+where, func(t *testing.T) {
				t.Parallel()
				s := NewSandbox(t)
				b := s.Bundle()
				if where == "user namespace" {
					b = s.UserBundle()
				}
				path, receive := pidfdSocket(s)
				c := &Container{Sandbox: s, Bundle: b, ID: s.NewID()}
				if verb == "create" {
					s.OK("create", "--pidfd-socket", path, "--bundle", b.Dir, c.ID)
				} else {
					s.OK("run", "--detach", "--pidfd-socket", path, "--bundle", b.Dir, c.ID)
				}
				pidfd, message := receive()
				Equal(t, "message", message, "standard")
				Equal(t, "process", pidOf(pidfd), fmt.Sprint(c.Pid()))
				if verb == "run" {
					if open := Descriptors(t, c.Pid()); len(open) != 3 {
						t.Errorf("the process has open: %v", open)
					}
				}
				Must(t, unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0))
				c.WantStatus("stopped")
			})
		}
	}
}

func TestExecPidfdSocket(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	c := s.Running()
	path, receive := pidfdSocket(s)
	s.OK("exec", "--detach", "--pid-file", "exec.pid", "--pidfd-socket", path, c.ID, "sleep", "1000")
	pidfd, message := receive()
	Equal(t, "message", message, "setns")
	Equal(t, "process", pidOf(pidfd), ReadFile(filepath.Join(s.Dir, "exec.pid")))

	cmd := s.Command("exec", "--pidfd-socket", path, c.ID, "sleep", "1000")
	s.Start(cmd)
	pidfd, _ = receive()
	Must(t, unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0))
	Equal(t, "exit status", s.Finish(cmd).Code, 128+9)
	Equal(t, "status", c.State().Status, "running")
}

func TestPidfdSocketErrors(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	missing := filepath.Join(s.Dir, "missing")
	for _, verb := range []string{"create", "run"} {
		OneLine(t, s.Fails(Said("pidfd socket", missing), verb, "--pidfd-socket", missing, "--bundle", s.Bundle().Dir, "none"))
		s.CheckNothingLeft()
	}
	c := s.Running()
	Equal(t, "exit status", s.Fails(Said("pidfd socket", missing), "exec", "--pidfd-socket", missing, c.ID, "true").Code, 255)
}
