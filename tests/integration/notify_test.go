package integration

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	. "github.com/sock-runtime/sock/tests/sandbox"
)

// sdNotify is a program in the container that sends its arguments to NOTIFY_SOCKET, one message each. It is the test
// binary, which is static with the project's build tags.
const sdNotify = "sd-notify"

func notify(messages []string) int {
	for _, message := range messages {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM, 0)
		if err == nil { // with a descriptor, as for FDSTORE=1
			err = unix.Sendmsg(fd, []byte(message), unix.UnixRights(fd), &unix.SockaddrUnix{Name: os.Getenv("NOTIFY_SOCKET")}, 0)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return 0
}

// withNotify is a bundle with sd-notify in it.
func withNotify(s *Sandbox, b Bundle) Bundle {
	s.Helper()
	data, err := os.ReadFile("/proc/self/exe")
	Must(s.T, err)
	WriteFile(s.T, filepath.Join(b.Rootfs, "bin", sdNotify), string(data), 0o755)
	return b
}

// manager is a service manager as systemd is one: it listens for notifications, and closes what comes with BARRIER=1.
type manager struct {
	*Sandbox
	address string
	conn    *net.UnixConn
	mutex   sync.Mutex
	heard   []string // "pid message"; a descriptor shows as "+fd"
	pid     int      // of the command that it started last
}

func serviceManager(s *Sandbox, address string) *manager {
	s.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: address, Net: "unixgram"})
	Must(s.T, err)
	m := &manager{Sandbox: s, address: address, conn: conn}
	raw, err := conn.SyscallConn()
	Must(s.T, err)
	Must(s.T, raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PASSCRED, 1) }))
	Must(s.T, err)
	s.Cleanup(func() { conn.Close() })
	go m.listen()
	return m
}

func (m *manager) listen() {
	buf, oob := make([]byte, 8192), make([]byte, 1024)
	for {
		n, oobn, _, _, err := m.conn.ReadMsgUnix(buf, oob)
		if err != nil {
			return
		}
		text := string(buf[:n])
		messages, _ := unix.ParseSocketControlMessage(oob[:oobn])
		for _, message := range messages {
			if cred, err := unix.ParseUnixCredentials(&message); err == nil {
				text = fmt.Sprint(cred.Pid, " ", text)
			}
			if fds, err := unix.ParseUnixRights(&message); err == nil {
				for _, fd := range fds {
					_ = unix.Close(fd)
				}
				text += "+fd"
			}
		}
		m.mutex.Lock()
		m.heard = append(m.heard, text)
		m.mutex.Unlock()
	}
}

func (m *manager) messages() []string {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	return slices.Clone(m.heard)
}

func (m *manager) forget() {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	m.heard = nil
}

// wants checks what was heard, as soon as there is as much of it. Whose it is the kernel tells: the command's.
func (m *manager) wants(want ...string) {
	m.Helper()
	for i := range want {
		want[i] = fmt.Sprint(m.pid, " ", want[i])
	}
	Eventually(m.T, fmt.Sprintf("%d notifications", len(want)), func() error {
		if heard := m.messages(); len(heard) < len(want) {
			return fmt.Errorf("heard %q", heard)
		}
		return nil
	})
	if heard := m.messages(); !slices.Equal(heard, want) {
		m.Errorf("heard %q, want %q", heard, want)
	}
}

// notified is a command of the runtime that the manager started.
func (m *manager) notified(args ...string) Result {
	m.Helper()
	cmd := m.Command(args...)
	cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+m.address)
	r := m.Do(cmd)
	m.pid = cmd.Process.Pid
	return r
}

func asUser(c *specs.Spec) { c.Process.User = specs.User{UID: 1000, GID: 1000} }

// A start returns when the container is ready, has told the manager so, and the manager has read it.
func TestNotifyStart(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"path", "@abstract"} {
		t.Run(address, func(t *testing.T) {
			t.Parallel()
			s := NewSandbox(t)
			name := filepath.Join(s.Dir, "manager")
			if address[0] == '@' {
				name = "@" + s.Mark
			}
			m := serviceManager(s, name)
			c := &Container{Sandbox: s, ID: s.NewID(), Bundle: withNotify(s, s.Bundle(asUser, Script(
				"sleep 0.3; sd-notify STATUS=begun MAINPID=1 'FDSTORE=1' BARRIER=1 READY=1; echo $NOTIFY_SOCKET; exec sleep 1000")))}
			if r := m.notified("create", "--bundle", c.Dir(), c.ID); r.Code != 0 {
				t.Fatal(r)
			}
			Equal(t, "messages of create", len(m.messages()), 0)
			began := time.Now()
			if r := m.notified("start", c.ID); r.Code != 0 {
				t.Fatal(r)
			}
			if waited := time.Since(began); waited < 250*time.Millisecond {
				t.Errorf("start returned after %s", waited)
			}
			m.wants("STATUS=begun\n", "READY=1\n", fmt.Sprintf("MAINPID=%d\n", c.Pid()), "BARRIER=1+fd")
			mount := MountsOf(c.Proc("mountinfo"))["/run/notify"]
			for _, option := range []string{"ro", "nosuid", "nodev", "noexec"} {
				if !mount.Has(option) {
					t.Errorf("/run/notify is mounted %s", mount.Options)
				}
			}
			if environ := c.Proc("environ"); !strings.Contains(environ, "NOTIFY_SOCKET=/run/notify/notify.sock\x00") {
				t.Errorf("environment: %q", environ)
			}
			Equal(t, "variable of exec", s.OK("exec", c.ID, "sh", "-c", "echo $NOTIFY_SOCKET"), "\n")
		})
	}
}

func TestNotifyRunDetached(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	m := serviceManager(s, filepath.Join(s.Dir, "manager"))
	for _, where := range []string{"as it is", "user namespace"} {
		b := s.Bundle
		if where != "as it is" {
			b = s.UserBundle
		}
		c := &Container{Sandbox: s, ID: s.NewID(), Bundle: withNotify(s, b(Script("sd-notify 'READY=1\nSTATUS=up'; exec sleep 1000")))}
		m.forget()
		if r := m.notified("run", "--detach", "--bundle", c.Dir(), c.ID); r.Code != 0 {
			t.Fatal(r)
		}
		m.wants("READY=1\nSTATUS=up\n", fmt.Sprintf("MAINPID=%d\n", c.Pid()), "BARRIER=1+fd")
		s.OK("delete", "--force", c.ID)
	}
}

// In the foreground the runtime is the service's process, and passes on what the container says as long as it runs.
func TestNotifyForeground(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	m := serviceManager(s, filepath.Join(s.Dir, "manager"))
	b := withNotify(s, s.Bundle(Script("sd-notify READY=1 READY=1 RELOADING=1 MAINPID=1 STOPPING=1; exit 3")))
	Equal(t, "exit status", m.notified("run", "--bundle", b.Dir, s.NewID()).Code, 3)
	m.wants("READY=1\n", fmt.Sprintf("MAINPID=%d\n", m.pid), "READY=1\n", "RELOADING=1\n", "STOPPING=1\n")
}

// Whoever never becomes ready holds up nobody when it ends, and a manager that isn't there nothing at all.
func TestNotifyNeverReady(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	m := serviceManager(s, filepath.Join(s.Dir, "manager"))
	b := withNotify(s, s.Bundle(Script("sd-notify STATUS=never; exit 4")))
	if r := m.notified("run", "--detach", "--bundle", b.Dir, s.NewID()); r.Code != 0 {
		t.Error(r)
	}
	m.wants("STATUS=never\n")

	gone := &manager{Sandbox: s, address: filepath.Join(s.Dir, "nobody")}
	s.Configure(b, Script("sd-notify READY=1; exit 5"), func(c *specs.Spec) { c.Linux.CgroupsPath += "-2" })
	r := gone.notified("run", "--bundle", b.Dir, s.NewID())
	Equal(t, "exit status", r.Code, 5)
	if n := strings.Count(r.Stderr, "NOTIFY_SOCKET"); n != 1 {
		t.Errorf("%d warnings: %v", n, r)
	}

	// Created without, started with it: there is no socket to wait for.
	c := s.Create(func(c *specs.Spec) { c.Linux.CgroupsPath += "-3" })
	m.forget()
	if r := m.notified("start", c.ID); r.Code != 0 || !strings.Contains(r.Stderr, "created without NOTIFY_SOCKET") {
		t.Error(r)
	}
	c.WantStatus("running")
}

// Images have /run as a link, or none.
func TestNotifyThroughLink(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	m := serviceManager(s, filepath.Join(s.Dir, "manager"))
	b := withNotify(s, s.Bundle(Writable, Script("sd-notify READY=1; stat -c %F /var/run/notify/notify.sock")))
	Must(t, os.Symlink("var/run", filepath.Join(b.Rootfs, "run")))
	r := m.notified("run", "--bundle", b.Dir, s.NewID())
	Equal(t, "exit status", r.Code, 0)
	Equal(t, "file", r.Stdout, "socket\n")
	m.wants("READY=1\n", fmt.Sprintf("MAINPID=%d\n", m.pid))
}

// A failed start leaves the socket of the container that runs alone.
func TestNotifySecondStart(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	m := serviceManager(s, filepath.Join(s.Dir, "manager"))
	c := &Container{Sandbox: s, ID: s.NewID(), Bundle: withNotify(s, s.Bundle(Script("while ! [ -e /tmp/go ]; do sleep 0.1; done; sd-notify READY=1; exec sleep 1000"),
		MountAt("/tmp", "tmpfs", "tmpfs")))}
	if r := m.notified("create", "--bundle", c.Dir(), c.ID); r.Code != 0 {
		t.Fatal(r)
	}
	cmd := s.Command("start", c.ID)
	cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+m.address)
	s.Start(cmd)
	c.WantStatus("running")
	if r := m.notified("start", c.ID); r.Code == 0 {
		t.Error(r)
	}
	s.OK("exec", c.ID, "touch", "/tmp/go")
	Equal(t, "exit status", s.Finish(cmd).Code, 0)
	m.pid = cmd.Process.Pid
	m.wants("READY=1\n", fmt.Sprintf("MAINPID=%d\n", c.Pid()), "BARRIER=1+fd")
}
