package integration

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	. "github.com/sock-runtime/sock/tests/sandbox"
)

func TestConsoleSocket(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	con := s.Console()
	box := s.CreateIn(s.Bundle(WithTerminal, func(c *specs.Spec) {
		c.Process.ConsoleSize = &specs.Box{Width: 123, Height: 45}
		c.Process.User.UID = 1000
	}, Script(`stty size; tty; stat -c '%u:%g %a' $(tty); [ -c /dev/console ] && echo console; echo direct > /dev/tty
		stat -c %t:%T /dev/console $(tty); read line; echo "got $line"; sleep 1000`)), "--console-socket", con.Path)
	con.Receive()
	s.OK("start", box.ID)
	con.WaitFor("direct")
	for _, want := range []string{"45 123", "/dev/pts/0", "1000:5 620", "console"} {
		if !strings.Contains(con.Output(), want) {
			t.Errorf("no %q on the terminal: %q", want, con.Output())
		}
	}
	con.Write("input\n")
	con.WaitFor("got input")
	con.Write("\x03") // the controlling terminal makes it SIGINT
	if open := Descriptors(t, box.Pid()); len(open) > 3 {
		t.Errorf("open: %v", open)
	}
}

func TestControllingTerminal(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	con := s.Console()
	box := s.CreateIn(s.Bundle(WithTerminal, Script("trap 'echo interrupted; exit 0' INT; sleep 1000 & echo ready; while :; do wait; done")), "--console-socket", con.Path)
	con.Receive()
	s.OK("start", box.ID)
	con.WaitFor("ready")
	con.Write("\x03")
	con.WaitFor("interrupted")
	box.WantStatus("stopped")
}

func TestConsoleErrors(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	s.Fails(Said("cannot allocate tty"), "create", "--bundle", s.Bundle(WithTerminal).Dir, "none")
	s.Fails(Said("cannot use console socket"), "create", "--console-socket", s.Console().Path, "--bundle", s.Bundle().Dir, "none")
	s.Fails(Said("missing"), "create", "--console-socket", filepath.Join(s.Dir, "missing"), "--bundle", s.Bundle(WithTerminal).Dir, "none")
	s.CheckNothingLeft()
}

func TestExecConsoleSocket(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	box := s.Running()
	con := s.Console()
	s.OK("exec", "--tty", "--detach", "--console-socket", con.Path, box.ID, "sh", "-c", "tty; read line; echo got $line; sleep 1000")
	con.Receive()
	con.WaitFor("/dev/pts/")
	con.Write("input\n")
	con.WaitFor("got input")
}

func TestForegroundTerminal(t *testing.T) {
	t.Parallel()
	for _, verb := range []string{"run", "exec"} {
		t.Run(verb, func(t *testing.T) {
			t.Parallel()
			s := NewSandbox(t)
			lines := `stty size; trap 'stty size; echo resized' WINCH; echo ready
				while [ "$line" != quit ]; do read line && echo "got $line"; done; exit 6`
			args := []string{"run", "--bundle", s.Bundle(WithTerminal, Script(lines)).Dir, "foreground"}
			if verb == "exec" {
				args = []string{"exec", "-t", s.Running().ID, "sh", "-c", lines}
			}
			con, slave := s.Pty(33, 99)
			before, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
			Must(t, err)
			cmd := s.Command(args...)
			cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
			Must(t, cmd.Start())
			con.WaitFor("33 99")
			con.WaitFor("ready")
			Must(t, unix.IoctlSetWinsize(int(con.Master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 44, Col: 111}))
			con.WaitFor("44 111")
			con.Write("hello\n")
			con.WaitFor("got hello")
			con.Write("quit\n")
			_ = cmd.Wait()
			Equal(t, "exit status", cmd.ProcessState.ExitCode(), 6)
			if n := strings.Count(con.Output(), "hello"); n != 2 {
				t.Errorf("%d times hello, want an echo and an answer: %q", n, con.Output())
			}
			if strings.Contains(con.Output(), "\r\r") {
				t.Errorf("both terminals make a carriage return: %q", con.Output())
			}
			after, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
			Must(t, err)
			Equal(t, "terminal settings", *after, *before)
		})
	}
}

// A terminal may be asked for while stdin is none.
func TestForegroundTerminalWithoutOne(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	r := s.RunOnce(WithTerminal, Script("tty; exit 5"))
	Equal(t, "exit status", r.Code, 5)
	if !strings.Contains(r.Stdout, "/dev/pts/0") {
		t.Error(r)
	}
}

// All of a large output arrives, though the process is gone before it is copied.
func TestTerminalOutputIsComplete(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	out := s.OutputOf("seq 1 20000; echo end", WithTerminal)
	if lines := strings.Count(out, "\n"); lines != 20001 || !strings.HasSuffix(strings.ReplaceAll(out, "\r", ""), "\nend\n") {
		t.Errorf("%d lines, end %q", lines, out[max(0, len(out)-20):])
	}
}
