package sandbox

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Result is what a command left: its output and exit status.
type Result struct {
	Args           []string
	Stdout, Stderr string
	Code           int
}

func (r Result) String() string {
	return fmt.Sprintf("%s: exit status %d\nstdout: %s\nstderr: %s", strings.Join(r.Args, " "), r.Code, r.Stdout, r.Stderr)
}

// Command is the runtime with the sandbox's --root, and its cgroup driver. Its output goes to files, which a container may keep open.
func (s *Sandbox) Command(args ...string) *exec.Cmd {
	global := []string{"--root", s.Root}
	if s.Systemd {
		global = append(global, "--systemd-cgroup")
	}
	cmd := exec.Command(cmp.Or(s.Runtime, Binary), append(global, args...)...)
	cmd.Env = append(os.Environ(), "SOCK_TEST_MARK="+s.Mark)
	if address := s.BusAddress(); address != "" {
		cmd.Env = append(cmd.Env, address)
	}
	cmd.Dir = s.Dir
	if s.User != nil {
		s.User.become(cmd)
	}
	return cmd
}

// Start begins a command; finish ends it.
func (s *Sandbox) Start(cmd *exec.Cmd) {
	s.Helper()
	if cmd.Stdout == nil {
		cmd.Stdout = s.LogFile("stdout")
	}
	if cmd.Stderr == nil {
		cmd.Stderr = s.LogFile("stderr")
	}
	Must(s.T, cmd.Start())
}

// Finish waits for a command that Start began.
func (s *Sandbox) Finish(cmd *exec.Cmd) Result {
	s.Helper()
	r := Result{Args: cmd.Args[1:]}
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	defer stop()
	err := cmd.Wait()
	if ctx.Err() != nil {
		s.Errorf("%s: no end after %s", strings.Join(r.Args, " "), commandTimeout)
	}
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		s.Fatal(err)
	}
	r.Code = cmd.ProcessState.ExitCode()
	if f, ok := cmd.Stdout.(*os.File); ok {
		r.Stdout = ReadFile(f.Name())
		_ = f.Close()
	}
	if f, ok := cmd.Stderr.(*os.File); ok {
		r.Stderr = ReadFile(f.Name())
		_ = f.Close()
	}
	return r
}

// Do runs a command to its end.
func (s *Sandbox) Do(cmd *exec.Cmd) Result {
	s.Helper()
	s.Start(cmd)
	return s.Finish(cmd)
}

// Sock runs the runtime to its end.
func (s *Sandbox) Sock(args ...string) Result {
	s.Helper()
	return s.Do(s.Command(args...))
}

// OK is sock for a command that must succeed; it returns its output.
func (s *Sandbox) OK(args ...string) string {
	s.Helper()
	r := s.Sock(args...)
	if r.Code != 0 {
		s.Fatal(r)
	}
	return r.Stdout
}

// Fails is sock for a command that must fail and say all of texts.
func (s *Sandbox) Fails(texts []string, args ...string) Result {
	s.Helper()
	r := s.Sock(args...)
	if r.Code == 0 {
		s.Errorf("succeeded: %v", r)
	}
	for _, text := range texts {
		if !strings.Contains(strings.ReplaceAll(r.Stderr, `\"`, `"`), text) { // the text log quotes
			s.Errorf("no %q in the error: %v", text, r)
		}
	}
	return r
}

// Said are the texts that Fails looks for.
func Said(texts ...string) []string { return texts }

// Refused checks that create and run fail with one clear line, in the log too, and leave nothing.
func (s *Sandbox) Refused(b Bundle, texts []string) {
	s.Helper()
	log := filepath.Join(s.Dir, "log.json")
	for _, verb := range []string{"create", "run"} {
		_ = os.Remove(log)
		r := s.Fails(texts, "--log", log, "--log-format", "json", verb, "--bundle", b.Dir, "refused")
		OneLine(s.T, r)
		entries := ReadLog(s.T, log)
		if len(entries) != 1 || entries[0].Level != "error" || entries[0].Time.IsZero() {
			s.Errorf("log: %+v", entries)
			continue
		}
		for _, text := range texts {
			if !strings.Contains(entries[0].Msg, text) {
				s.Errorf("no %q in the log: %+v", text, entries[0])
			}
		}
		s.CheckNothingLeft()
	}
}

// OneLine checks that an error is one line.
func OneLine(t *testing.T, r Result) {
	t.Helper()
	if strings.Count(strings.TrimRight(r.Stderr, "\n"), "\n") > 0 || strings.TrimSpace(r.Stderr) == "" {
		t.Errorf("no clear single line: %v", r)
	}
}

type LogEntry struct {
	Level string    `json:"level"`
	Msg   string    `json:"msg"`
	Time  time.Time `json:"time"`
}

// ReadLog reads a log of the format json.
func ReadLog(t *testing.T, name string) []LogEntry {
	t.Helper()
	var entries []LogEntry
	for line := range strings.Lines(ReadFile(name)) {
		var e LogEntry
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Errorf("%v in log line %q", err, line)
		}
		entries = append(entries, e)
	}
	return entries
}

// OutputOf runs a shell script in a container of its own, in the foreground.
func (s *Sandbox) OutputOf(lines string, changes ...Change) string {
	s.Helper()
	r := s.RunOnce(append([]Change{Script(lines)}, changes...)...)
	if r.Code != 0 {
		s.Fatal(r)
	}
	return r.Stdout
}

// UserOutput is OutputOf in a user namespace.
func (s *Sandbox) UserOutput(lines string, changes ...Change) string {
	s.Helper()
	b := s.UserBundle(append([]Change{Script(lines)}, changes...)...)
	return s.OK("run", "--bundle", b.Dir, s.NewID())
}

// RunOnce runs a new container in the foreground, to its end.
func (s *Sandbox) RunOnce(changes ...Change) Result {
	s.Helper()
	return s.Sock("run", "--bundle", s.Bundle(changes...).Dir, s.NewID())
}
