package integration

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func withTerminal(c *specs.Spec) { c.Process.Terminal = true }

// console listens for the pty that the runtime sends, and reads what is written to it.
type console struct {
	*sandbox
	path     string
	listener *net.UnixListener
	master   *os.File
	mutex    sync.Mutex
	text     strings.Builder
}

func (s *sandbox) console() *console {
	s.Helper()
	path := filepath.Join(s.dir, fmt.Sprint("console-", time.Now().UnixNano()))
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	must(s.T, err)
	c := &console{sandbox: s, path: path, listener: listener}
	s.Cleanup(func() {
		listener.Close()
		if c.master != nil {
			c.master.Close()
		}
	})
	return c
}

// receive takes the master of the pty.
func (c *console) receive() {
	c.Helper()
	must(c.T, c.listener.SetDeadline(time.Now().Add(settleTimeout)))
	conn, err := c.listener.AcceptUnix()
	must(c.T, err)
	defer conn.Close()
	name, oob := make([]byte, 4096), make([]byte, unix.CmsgSpace(4*8))
	n, oobn, _, _, err := conn.ReadMsgUnix(name, oob)
	must(c.T, err)
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	must(c.T, err)
	if len(messages) != 1 {
		c.Fatalf("%d control messages", len(messages))
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	must(c.T, err)
	equal(c.T, "number of descriptors", len(fds), 1)
	if !strings.HasPrefix(string(name[:n]), "/dev/pts/") && !strings.Contains(string(name[:n]), "ptmx") {
		c.Errorf("the terminal's name is %q", name[:n])
	}
	c.open(fds[0])
}

func (c *console) open(fd int) {
	must(c.T, unix.SetNonblock(fd, true))
	c.master = os.NewFile(uintptr(fd), "master")
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := c.master.Read(buf)
			c.mutex.Lock()
			c.text.Write(buf[:n])
			c.mutex.Unlock()
			if err != nil {
				return
			}
		}
	}()
}

func (c *console) output() string {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	return c.text.String()
}

func (c *console) waitFor(text string) {
	c.Helper()
	eventually(c.T, fmt.Sprintf("%q on the terminal", text), func() error {
		if out := c.output(); !strings.Contains(out, text) {
			return fmt.Errorf("has %q", out)
		}
		return nil
	})
}

func (c *console) write(text string) {
	c.Helper()
	_, err := c.master.WriteString(text)
	must(c.T, err)
}

func TestConsoleSocket(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	con := s.console()
	box := s.createIn(s.bundle(withTerminal, func(c *specs.Spec) {
		c.Process.ConsoleSize = &specs.Box{Width: 123, Height: 45}
		c.Process.User.UID = 1000
	}, script(`stty size; tty; stat -c '%u:%g %a' $(tty); [ -c /dev/console ] && echo console; echo direct > /dev/tty
		stat -c %t:%T /dev/console $(tty); read line; echo "got $line"; sleep 1000`)), "--console-socket", con.path)
	con.receive()
	s.ok("start", box.name)
	con.waitFor("direct")
	for _, want := range []string{"45 123", "/dev/pts/0", "1000:5 620", "console"} {
		if !strings.Contains(con.output(), want) {
			t.Errorf("no %q on the terminal: %q", want, con.output())
		}
	}
	con.write("input\n")
	con.waitFor("got input")
	con.write("\x03") // the controlling terminal makes it SIGINT
	if open := descriptors(t, box.pid()); len(open) > 3 {
		t.Errorf("open: %v", open)
	}
}

func TestControllingTerminal(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	con := s.console()
	box := s.createIn(s.bundle(withTerminal, script("trap 'echo interrupted; exit 0' INT; sleep 1000 & echo ready; while :; do wait; done")), "--console-socket", con.path)
	con.receive()
	s.ok("start", box.name)
	con.waitFor("ready")
	con.write("\x03")
	con.waitFor("interrupted")
	box.wantStatus("stopped")
}

func TestConsoleErrors(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	s.fails(said("cannot allocate tty"), "create", "--bundle", s.bundle(withTerminal).dir, "none")
	s.fails(said("cannot use console socket"), "create", "--console-socket", s.console().path, "--bundle", s.bundle().dir, "none")
	s.fails(said("missing"), "create", "--console-socket", filepath.Join(s.dir, "missing"), "--bundle", s.bundle(withTerminal).dir, "none")
	s.checkNothingLeft()
}

func TestExecConsoleSocket(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	box := s.running()
	con := s.console()
	s.ok("exec", "--tty", "--detach", "--console-socket", con.path, box.name, "sh", "-c", "tty; read line; echo got $line; sleep 1000")
	con.receive()
	con.waitFor("/dev/pts/")
	con.write("input\n")
	con.waitFor("got input")
}

// pty opens a pseudo-terminal for a runtime in the foreground.
func (s *sandbox) pty(rows, columns uint16) (*console, *os.File) {
	s.Helper()
	master, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	must(s.T, err)
	must(s.T, unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0))
	number, err := unix.IoctlGetInt(master, unix.TIOCGPTN)
	must(s.T, err)
	must(s.T, unix.IoctlSetWinsize(master, unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: columns}))
	slave, err := os.OpenFile(fmt.Sprint("/dev/pts/", number), os.O_RDWR|unix.O_NOCTTY, 0)
	must(s.T, err)
	con := &console{sandbox: s}
	con.open(master)
	s.Cleanup(func() { con.master.Close(); slave.Close() })
	return con, slave
}

func TestForegroundTerminal(t *testing.T) {
	t.Parallel()
	for _, verb := range []string{"run", "exec"} {
		t.Run(verb, func(t *testing.T) {
			t.Parallel()
			s := newSandbox(t)
			lines := `stty size; trap 'stty size; echo resized' WINCH; echo ready
				while [ "$line" != quit ]; do read line && echo "got $line"; done; exit 6`
			args := []string{"run", "--bundle", s.bundle(withTerminal, script(lines)).dir, "foreground"}
			if verb == "exec" {
				args = []string{"exec", "-t", s.running().name, "sh", "-c", lines}
			}
			con, slave := s.pty(33, 99)
			before, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
			must(t, err)
			cmd := s.command(args...)
			cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
			must(t, cmd.Start())
			con.waitFor("33 99")
			con.waitFor("ready")
			must(t, unix.IoctlSetWinsize(int(con.master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 44, Col: 111}))
			con.waitFor("44 111")
			con.write("hello\n")
			con.waitFor("got hello")
			con.write("quit\n")
			_ = cmd.Wait()
			equal(t, "exit status", cmd.ProcessState.ExitCode(), 6)
			if n := strings.Count(con.output(), "hello"); n != 2 {
				t.Errorf("%d times hello, want an echo and an answer: %q", n, con.output())
			}
			if strings.Contains(con.output(), "\r\r") {
				t.Errorf("both terminals make a carriage return: %q", con.output())
			}
			after, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
			must(t, err)
			equal(t, "terminal settings", *after, *before)
		})
	}
}

// A terminal may be asked for while stdin is none.
func TestForegroundTerminalWithoutOne(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	r := s.run(withTerminal, script("tty; exit 5"))
	equal(t, "exit status", r.code, 5)
	if !strings.Contains(r.stdout, "/dev/pts/0") {
		t.Error(r)
	}
}

// All of a large output arrives, though the process is gone before it is copied.
func TestTerminalOutputIsComplete(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	out := s.output("seq 1 20000; echo end", withTerminal)
	if lines := strings.Count(out, "\n"); lines != 20001 || !strings.HasSuffix(strings.ReplaceAll(out, "\r", ""), "\nend\n") {
		t.Errorf("%d lines, end %q", lines, out[max(0, len(out)-20):])
	}
}
