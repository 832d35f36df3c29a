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

// A detached process's terminal is resized by whoever has its master.
func TestDetachedTerminalSize(t *testing.T) {
	t.Parallel()
	const lines = `stty size; trap 'echo resized; stty size' WINCH; echo ready; while :; do sleep 1000 & wait; done`
	size := &specs.Box{Width: 123, Height: 45}
	for _, verb := range []string{"create", "run", "exec"} {
		t.Run(verb, func(t *testing.T) {
			t.Parallel()
			s := NewSandbox(t)
			con := s.Console()
			b := s.Bundle(WithTerminal, Script(lines), func(c *specs.Spec) { c.Process.ConsoleSize = size })
			switch verb {
			case "create":
				box := s.CreateIn(b, "--console-socket", con.Path)
				con.Receive()
				s.OK("start", box.ID)
			case "run":
				s.OK("run", "--detach", "--console-socket", con.Path, "--bundle", b.Dir, s.NewID())
				con.Receive()
			case "exec":
				p := &specs.Process{Args: []string{"sh", "-c", lines}, Env: []string{"PATH=/bin"}, Cwd: "/", Terminal: true, ConsoleSize: size}
				s.OK("exec", "--detach", "--console-socket", con.Path, "--process", s.ProcessFile(p), s.Running().ID)
				con.Receive()
			}
			con.WaitFor("ready")
			con.WaitFor("45 123")
			Must(t, unix.IoctlSetWinsize(int(con.Master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 80}))
			con.WaitFor("resized")
			con.WaitFor("24 80")
		})
	}
}

// The caller's terminal may be any of its stdio; without one, consoleSize is the size.
func TestForegroundTerminalSize(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	sized := func(c *specs.Spec) { c.Process.ConsoleSize = &specs.Box{Width: 123, Height: 45} }
	Equal(t, "size without a terminal", s.OutputOf("stty size", WithTerminal, sized), "45 123\n")

	con, slave := s.Pty(33, 99)
	cmd := s.Command("run", "--bundle", s.Bundle(WithTerminal, sized, Script("read line; echo $line; stty size")).Dir, s.NewID())
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader("from a pipe\n"), slave, slave
	Must(t, cmd.Run())
	con.WaitFor("from a pipe")
	con.WaitFor("33 99")
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
