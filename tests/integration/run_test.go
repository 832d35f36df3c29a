package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	. "github.com/sock-runtime/sock/tests/sandbox"
)

func TestRunExitStatus(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	for _, c := range []struct {
		script string
		want   int
	}{
		{"exit 0", 0},
		{"exit 7", 7},
		{"exit 255", 255},
		{"kill -9 $$", 128 + 9},
		{"kill -TERM $$", 128 + 15},
	} {
		// Signals to process 1 of a namespace that come from within are ignored.
		r := s.RunOnce(Script(c.script), WithoutNamespace(specs.PIDNamespace))
		if r.Code != c.want {
			t.Errorf("%s: %v", c.script, r)
		}
		s.Fails(Said("does not exist"), "state", s.IDs[len(s.IDs)-1])
	}
	s.CheckNothingLeft()
}

func TestRunStdio(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	cmd := s.Command("run", "--bundle", s.Bundle(Script("cat; echo complaint >&2")).Dir, s.NewID())
	cmd.Stdin = strings.NewReader("from outside\n")
	r := s.Do(cmd)
	Equal(t, "exit status", r.Code, 0)
	Equal(t, "stdout", r.Stdout, "from outside\n")
	Equal(t, "stderr", r.Stderr, "complaint\n")
}

// The container's user may reopen its stdio through /dev/stdout.
func TestRunStdioBelongsToUser(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	out := s.OutputOf("echo again > /dev/stdout", func(c *specs.Spec) { c.Process.User = specs.User{UID: 1000, GID: 1000} })
	Equal(t, "output", out, "again\n")
}

func TestRunDetach(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	pidFile := filepath.Join(s.Dir, "pid")
	c := &Container{Sandbox: s, ID: s.NewID()}
	s.OK("run", "--detach", "--pid-file", pidFile, "--bundle", s.Bundle().Dir, c.ID)
	Equal(t, "status", c.State().Status, "running")
	Equal(t, "pid file", ReadFile(pidFile), fmt.Sprint(c.Pid()))
}

func TestRunKeep(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	c := &Container{Sandbox: s, ID: s.NewID()}
	r := s.Sock("run", "--keep", "--bundle", s.Bundle(Script("exit 3")).Dir, c.ID)
	Equal(t, "exit status", r.Code, 3)
	Equal(t, "status", c.State().Status, "stopped")
	s.OK("delete", c.ID)
}

func TestRunForwardsSignals(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	cmd := s.Command("run", "--bundle", s.Bundle(Script(
		"trap 'echo hup' HUP; trap 'echo usr1' USR1; trap 'echo term; exit 5' TERM; sleep 1000 & echo ready; while :; do wait; done")).Dir, s.NewID())
	s.Start(cmd)
	out := cmd.Stdout.(*os.File).Name()
	wait := func(text string, send unix.Signal) {
		t.Helper()
		Eventually(t, fmt.Sprintf("output %q", text), func() error {
			if got := ReadFile(out); strings.Contains(got, text) {
				return nil
			}
			// Again and again: ash now and then loses a signal.
			_ = cmd.Process.Signal(send)
			time.Sleep(20 * time.Millisecond)
			return fmt.Errorf("is %q", ReadFile(out))
		})
	}
	wait("ready\n", 0)
	wait("hup\n", unix.SIGHUP)
	wait("usr1\n", unix.SIGUSR1)
	wait("term\n", unix.SIGTERM)
	Equal(t, "exit status", s.Finish(cmd).Code, 5)
}

// The runtime is a subreaper in the foreground: what the container orphans doesn't stay behind as a zombie.
func TestRunReapsOrphans(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	r := s.RunOnce(WithoutNamespace(specs.PIDNamespace), Script("(sleep 0.05 &) ; exit 4"))
	Equal(t, "exit status", r.Code, 4)
	s.CheckNothingLeft()
}

func TestRunManyAtOnce(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	var finish []func() Result
	for i := range 12 {
		cmd := s.Command("run", "--bundle", s.Bundle(Args("echo", fmt.Sprint(i)), func(c *specs.Spec) {
			c.Linux.CgroupsPath += fmt.Sprint("-", i)
		}).Dir, s.NewID())
		s.Start(cmd)
		finish = append(finish, func() Result { return s.Finish(cmd) })
	}
	for i, f := range finish {
		if r := f(); r.Code != 0 || r.Stdout != fmt.Sprintln(i) {
			t.Error(r)
		}
	}
	s.CheckNothingLeft()
}

func TestLog(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	b := s.Bundle(Args("nosuch"))
	name := filepath.Join(s.Dir, "log.json")
	s.Fails(Said("executable file not found in $PATH"), "--log", name, "--log-format", "json", "create", "--bundle", b.Dir, s.NewID())
	entries := ReadLog(t, name)
	if len(entries) != 1 || entries[0].Level != "error" || entries[0].Time.IsZero() ||
		!strings.Contains(entries[0].Msg, "executable file not found in $PATH") || !strings.Contains(entries[0].Msg, "unable to start container process") {
		t.Errorf("log: %+v", entries)
	}

	s.Fails(nil, "--log", name, "--log-format", "json", "state", "none")
	Equal(t, "number of entries, one a command", len(ReadLog(t, name)), 2)

	text := filepath.Join(s.Dir, "log.txt")
	s.Fails(nil, "--log", text, "--log-format", "text", "state", "none")
	if got := ReadFile(text); !strings.Contains(got, "level=error") || !strings.Contains(got, "does not exist") {
		t.Errorf("text log: %q", got)
	}
	debug := filepath.Join(s.Dir, "debug.json")
	s.OK("--debug", "--log", debug, "--log-format", "json", "list")
	for _, e := range ReadLog(t, debug) {
		Equal(t, "level", e.Level, "debug")
	}
	s.Fails(nil, "--log-format", "xml", "list")
}

// With --debug the log has the whole plan, for exec, too.
func TestDebugLog(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	log := filepath.Join(s.Dir, "log")
	box := s.CreateIn(s.Bundle())
	s.OK("--debug", "--log", log, "exec", box.ID, "true")
	s.OK("delete", "--force", box.ID)
	s.OK("--debug", "--log", log, "run", "--detach", "--bundle", s.Bundle().Dir, s.NewID())
	for _, text := range []string{"plan: host   make the cgroup", "plan: clone  clone the child", `plan: child  exec [\"sleep\" \"1000\"]`, `plan: child  exec [\"true\"]`} {
		if !strings.Contains(ReadFile(log), text) {
			t.Errorf("no %q in the log:\n%s", text, ReadFile(log))
		}
	}
}
