package integration

import (
	"encoding/json"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	. "github.com/sock-runtime/sock/tests/sandbox"
)

// withSeccomp gives the container a profile that allows all calls but some.
func withSeccomp(rules ...specs.LinuxSyscall) Change {
	return func(c *specs.Spec) {
		c.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: rules}
	}
}

func TestSeccomp(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	errno := uint(unix.ENOMEDIUM)
	for _, noNewPrivileges := range []bool{false, true} {
		profile := withSeccomp(
			specs.LinuxSyscall{Names: []string{"mkdir", "mkdirat", "not_a_call"}, Action: specs.ActErrno, ErrnoRet: &errno},
			specs.LinuxSyscall{Names: []string{"kill"}, Action: specs.ActKillProcess, Args: []specs.LinuxSeccompArg{{Index: 1, Value: 31, Op: specs.OpEqualTo}}})
		privileges := func(c *specs.Spec) { c.Process.NoNewPrivileges = noNewPrivileges }
		box := s.CreateIn(s.Bundle(profile, privileges))
		s.OK("start", box.ID)
		r := s.Sock("exec", box.ID, "sh", "-c", "mkdir /dev/shm/x; grep Seccomp: /proc/self/status; sh -c 'kill -31 1'; echo $?; kill -0 $$ && echo end")
		if !strings.Contains(r.Stderr, "No medium found") || strings.Join(strings.Fields(r.Stdout), " ") != "Seccomp: 2 159 end" { // 128 + SIGSYS
			t.Error(r)
		}
		s.OK("delete", "--force", box.ID)
	}
}

// agent is a seccomp agent: it answers mkdir with ENOMEDIUM and lets all other calls go on.
type agent struct {
	path   string
	mutex  sync.Mutex
	states []specs.ContainerProcessState
}

// newAgent listens until the test ends.
func newAgent(s *Sandbox) *agent {
	s.Helper()
	a := &agent{path: filepath.Join(s.Dir, "agent")}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: a.path, Net: "unix"})
	Must(s.T, err)
	s.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.AcceptUnix()
			if err != nil {
				return
			}
			go a.serve(s, conn)
		}
	}()
	return a
}

func (a *agent) serve(s *Sandbox, conn *net.UnixConn) {
	defer conn.Close()
	text, oob := make([]byte, 1<<16), make([]byte, unix.CmsgSpace(4))
	n, oobn, _, _, err := conn.ReadMsgUnix(text, oob)
	var state specs.ContainerProcessState
	if err != nil || json.Unmarshal(text[:n], &state) != nil {
		s.Errorf("the agent got %q: %v", text[:n], err)
		return
	}
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil || len(messages) != 1 {
		s.Errorf("the agent got %d control messages: %v", len(messages), err)
		return
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		s.Errorf("the agent got %d descriptors: %v", len(fds), err)
		return
	}
	a.mutex.Lock()
	a.states = append(a.states, state)
	a.mutex.Unlock()
	defer unix.Close(fds[0])
	time.Sleep(20 * time.Millisecond) // it may be slow: nobody gives up on it
	answer(fds[0])
}

// answer handles notifications until the filter's last process is gone, seccomp_unotify(2).
func answer(listener int) {
	const receive, send = 0xc0502100, 0xc0182101 // SECCOMP_IOCTL_NOTIF_RECV and _SEND
	const mkdir = 83                             // x86_64's; other architectures have only mkdirat
	for {
		poll := []unix.PollFd{{Fd: int32(listener), Events: unix.POLLIN}}
		if _, err := unix.Poll(poll, -1); err != nil && err != unix.EINTR || poll[0].Revents&unix.POLLHUP != 0 {
			return
		}
		var request struct {
			id         uint64
			pid, flags uint32
			number     int32
			arch       uint32
			pointer    uint64
			args       [6]uint64
		}
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(listener), receive, uintptr(unsafe.Pointer(&request))); errno != 0 {
			continue // its process was killed
		}
		response := struct {
			id    uint64
			value int64
			errno int32
			flags uint32
		}{id: request.id, flags: 1} // SECCOMP_USER_NOTIF_FLAG_CONTINUE
		if request.number == unix.SYS_MKDIRAT || request.number == mkdir {
			response.flags, response.errno = 0, -int32(unix.ENOMEDIUM)
		}
		_, _, _ = unix.Syscall(unix.SYS_IOCTL, uintptr(listener), send, uintptr(unsafe.Pointer(&response)))
	}
}

// The agent has the listener before anything that it may want to see can happen, in sock itself, too: with these calls
// notified nothing but write(2) is possible without it (runc's issue 4328).
func TestSeccompNotify(t *testing.T) {
	t.Parallel()
	ours := []string{"mkdir", "mkdirat", "execve", "openat", "open", "read", "close", "fcntl", "setresuid", "prctl", "capset", "faccessat", "access", "chdir"}
	for name, noNewPrivileges := range map[string]bool{"privileges": false, "noNewPrivileges": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := NewSandbox(t)
			a := newAgent(s)
			notify := func(c *specs.Spec) {
				c.Process.NoNewPrivileges = noNewPrivileges
				c.Linux.Seccomp = &specs.LinuxSeccomp{
					DefaultAction: specs.ActAllow, ListenerPath: a.path, ListenerMetadata: "for the agent",
					Syscalls: []specs.LinuxSyscall{{Names: ours, Action: specs.ActNotify}},
				}
			}
			box := s.Create(notify)
			s.OK("start", box.ID)
			r := s.Sock("exec", box.ID, "mkdir", "/dev/shm/y")
			if r.Code != 1 || !strings.Contains(r.Stderr, "No medium found") {
				t.Error(r)
			}
			s.OK("delete", "--force", box.ID)
			r = s.Sock("run", "--bundle", s.Bundle(notify, Args("mkdir", "/dev/shm/z")).Dir, s.NewID())
			if r.Code != 1 || !strings.Contains(r.Stderr, "No medium found") {
				t.Error(r)
			}
			a.mutex.Lock()
			defer a.mutex.Unlock()
			Equal(t, "listeners", len(a.states), 3)
			for _, state := range a.states {
				Equal(t, "metadata", state.Metadata, "for the agent")
				Equal(t, "descriptors", strings.Join(state.Fds, " "), specs.SeccompFdName)
				if state.Pid <= 0 || !strings.HasPrefix(state.State.Bundle, s.Dir) {
					t.Errorf("state: %+v", state)
				}
			}
		})
	}
}

// A startContainer hook is held by the filter, too, and its notifications go to the agent.
func TestSeccompNotifyHook(t *testing.T) {
	t.Parallel()
	for name, noNewPrivileges := range map[string]bool{"privileges": false, "noNewPrivileges": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := NewSandbox(t)
			a := newAgent(s)
			hook := specs.Hook{Path: "/bin/mkdir", Args: []string{"mkdir", "/dev/shm/x"}}
			b := s.Bundle(func(c *specs.Spec) {
				c.Process.NoNewPrivileges = noNewPrivileges
			}, withSeccomp(specs.LinuxSyscall{Names: []string{"mkdir", "mkdirat", "close", "prctl"}, Action: specs.ActNotify}), AddHook("startContainer", hook))
			s.Set(b, a.path, "linux", "seccomp", "listenerPath")
			s.Fails(Said("error running startContainer hook #0: /bin/mkdir: exit status 1", "No medium found"), "run", "--bundle", b.Dir, s.NewID())
			a.mutex.Lock()
			defer a.mutex.Unlock()
			Equal(t, "listeners", len(a.states), 2)
		})
	}
	s := NewSandbox(t)
	b := s.Bundle(withSeccomp(specs.LinuxSyscall{Names: []string{"mkdir", "mkdirat"}, Action: specs.ActKillProcess}),
		AddHook("startContainer", specs.Hook{Path: "/bin/mkdir", Args: []string{"mkdir", "/dev/shm/x"}}))
	s.Fails(Said("/bin/mkdir: signal: bad system call"), "run", "--bundle", b.Dir, s.NewID())
}

// An agent that is silent stops create, which holds the container's lock; delete --force ends both.
func TestSeccompSilentAgent(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	path := filepath.Join(s.Dir, "agent")
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	Must(t, err)
	defer listener.Close()
	b := s.Bundle(withSeccomp(specs.LinuxSyscall{Names: []string{"setresuid"}, Action: specs.ActNotify}), func(c *specs.Spec) {
		c.Process.NoNewPrivileges = false
		c.Linux.Seccomp.ListenerPath = path
	})
	id := s.NewID()
	create := s.Command("create", "--bundle", b.Dir, id)
	s.Start(create)
	conn, err := listener.AcceptUnix()
	Must(t, err)
	defer conn.Close()
	text, oob := make([]byte, 1<<16), make([]byte, unix.CmsgSpace(4))
	_, oobn, _, _, err := conn.ReadMsgUnix(text, oob)
	Must(t, err)
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	Must(t, err)
	fds, err := unix.ParseUnixRights(&messages[0])
	Must(t, err)
	defer unix.Close(fds[0])
	s.OK("delete", "--force", id)
	if r := s.Finish(create); r.Code == 0 {
		t.Errorf("succeeded: %v", r)
	}
	s.CheckNothingLeft()
}

// An agent that isn't there makes create fail, and nothing is left.
func TestSeccompWithoutAgent(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	b := s.Bundle(withSeccomp(specs.LinuxSyscall{Names: []string{"mkdir"}, Action: specs.ActNotify}), func(c *specs.Spec) {
		c.Linux.Seccomp.ListenerPath = filepath.Join(s.Dir, "missing")
	})
	s.Fails(Said("linux.seccomp.listenerPath", "no such file or directory"), "create", "--bundle", b.Dir, "none")
	s.CheckNothingLeft()
}
