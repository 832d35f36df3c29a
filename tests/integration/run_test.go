package integration

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func TestRunExitStatus(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
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
		r := s.run(script(c.script), withoutNamespace(specs.PIDNamespace))
		if r.code != c.want {
			t.Errorf("%s: %v", c.script, r)
		}
		s.fails(said("does not exist"), "state", s.ids[len(s.ids)-1])
	}
	s.checkNothingLeft()
}

func TestRunStdio(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	cmd := s.command("run", "--bundle", s.bundle(script("cat; echo complaint >&2")).dir, s.id())
	cmd.Stdin = strings.NewReader("from outside\n")
	r := s.do(cmd)
	equal(t, "exit status", r.code, 0)
	equal(t, "stdout", r.stdout, "from outside\n")
	equal(t, "stderr", r.stderr, "complaint\n")
}

// The container's user may reopen its stdio through /dev/stdout.
func TestRunStdioBelongsToUser(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	out := s.output("echo again > /dev/stdout", func(c *specs.Spec) { c.Process.User = specs.User{UID: 1000, GID: 1000} })
	equal(t, "output", out, "again\n")
}

func TestRunDetach(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	pidFile := filepath.Join(s.dir, "pid")
	c := &container{sandbox: s, name: s.id()}
	s.ok("run", "--detach", "--pid-file", pidFile, "--bundle", s.bundle().dir, c.name)
	equal(t, "status", c.state().Status, "running")
	equal(t, "pid file", readFile(pidFile), fmt.Sprint(c.pid()))
}

func TestRunKeep(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	c := &container{sandbox: s, name: s.id()}
	r := s.sock("run", "--keep", "--bundle", s.bundle(script("exit 3")).dir, c.name)
	equal(t, "exit status", r.code, 3)
	equal(t, "status", c.state().Status, "stopped")
	s.ok("delete", c.name)
}

func TestRunForwardsSignals(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	cmd := s.command("run", "--bundle", s.bundle(script(
		"trap 'echo hup' HUP; trap 'echo usr1' USR1; trap 'echo term; exit 5' TERM; sleep 1000 & echo ready; while :; do wait; done")).dir, s.id())
	s.start(cmd)
	out := cmd.Stdout.(*os.File).Name()
	wait := func(text string, send unix.Signal) {
		t.Helper()
		eventually(t, fmt.Sprintf("output %q", text), func() error {
			if got := readFile(out); strings.Contains(got, text) {
				return nil
			}
			// Again and again: ash now and then loses a signal.
			_ = cmd.Process.Signal(send)
			time.Sleep(20 * time.Millisecond)
			return fmt.Errorf("is %q", readFile(out))
		})
	}
	wait("ready\n", 0)
	wait("hup\n", unix.SIGHUP)
	wait("usr1\n", unix.SIGUSR1)
	wait("term\n", unix.SIGTERM)
	equal(t, "exit status", s.finish(cmd).code, 5)
}

// The runtime is a subreaper in the foreground: what the container orphans doesn't stay behind as a zombie.
func TestRunReapsOrphans(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	r := s.run(withoutNamespace(specs.PIDNamespace), script("(sleep 0.05 &) ; exit 4"))
	equal(t, "exit status", r.code, 4)
	s.checkNothingLeft()
}

func TestRunManyAtOnce(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	var finish []func() result
	for i := range 12 {
		cmd := s.command("run", "--bundle", s.bundle(args("echo", fmt.Sprint(i)), func(c *specs.Spec) {
			c.Linux.CgroupsPath += fmt.Sprint("-", i)
		}).dir, s.id())
		s.start(cmd)
		finish = append(finish, func() result { return s.finish(cmd) })
	}
	for i, f := range finish {
		if r := f(); r.code != 0 || r.stdout != fmt.Sprintln(i) {
			t.Error(r)
		}
	}
	s.checkNothingLeft()
}

type logEntry struct {
	Level string    `json:"level"`
	Msg   string    `json:"msg"`
	Time  time.Time `json:"time"`
}

func readLog(t *testing.T, name string) []logEntry {
	t.Helper()
	var entries []logEntry
	for line := range strings.Lines(readFile(name)) {
		var e logEntry
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Errorf("%v in log line %q", err, line)
		}
		entries = append(entries, e)
	}
	return entries
}

func TestLog(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	b := s.bundle(args("nosuch"))
	name := filepath.Join(s.dir, "log.json")
	s.fails(said("executable file not found in $PATH"), "--log", name, "--log-format", "json", "create", "--bundle", b.dir, s.id())
	entries := readLog(t, name)
	if len(entries) != 1 || entries[0].Level != "error" || entries[0].Time.IsZero() ||
		!strings.Contains(entries[0].Msg, "executable file not found in $PATH") || !strings.Contains(entries[0].Msg, "unable to start container process") {
		t.Errorf("log: %+v", entries)
	}

	s.fails(nil, "--log", name, "--log-format", "json", "state", "none")
	equal(t, "number of entries, one a command", len(readLog(t, name)), 2)

	text := filepath.Join(s.dir, "log.txt")
	s.fails(nil, "--log", text, "--log-format", "text", "state", "none")
	if got := readFile(text); !strings.Contains(got, "level=error") || !strings.Contains(got, "does not exist") {
		t.Errorf("text log: %q", got)
	}
	debug := filepath.Join(s.dir, "debug.json")
	s.ok("--debug", "--log", debug, "--log-format", "json", "list")
	for _, e := range readLog(t, debug) {
		equal(t, "level", e.Level, "debug")
	}
	s.fails(nil, "--log-format", "xml", "list")
}
