package integration

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	. "github.com/sock-runtime/sock/tests/sandbox"
)

// A kill -9 of the runtime at any moment leaves a container that state reports truthfully and delete --force removes wholly.
func TestKilledRuntime(t *testing.T) {
	t.Parallel()
	rounds := 40
	if testing.Short() {
		rounds = 4
	}
	for _, variant := range []struct {
		name   string
		args   []string
		change Change
	}{
		{"create", []string{"create"}, Writable},
		{"run", []string{"run"}, Writable},
		{"run detached", []string{"run", "--detach"}, Writable},
		{"create without namespaces", []string{"create"}, func(c *specs.Spec) {
			WithoutNamespace(specs.PIDNamespace)(c)
			WithoutNamespace(specs.MountNamespace)(c)
			c.Linux.MaskedPaths, c.Linux.ReadonlyPaths, c.Mounts = nil, nil, c.Mounts[:1]
		}},
		{"create with hooks", []string{"create"}, WithHook("createRuntime", "exec /bin/busybox sleep 0.01")},
		{"run with hooks", []string{"run"}, WithHook("startContainer", "exec sleep 0.01")},
	} {
		t.Run(variant.name, func(t *testing.T) {
			t.Parallel()
			s := NewSandbox(t)
			b := s.Bundle(variant.change)
			killRounds(s, b, rounds, variant.args...)
		})
	}
}

// duration is how long a command takes until its container waits or runs, and then some.
func duration(s *Sandbox, b Bundle, args []string) time.Duration {
	s.Helper()
	begin := time.Now()
	cmd := s.Command(append(args, "--bundle", b.Dir, "measured")...)
	s.Start(cmd)
	Eventually(s.T, "the container", func() error {
		r := s.Sock("state", "measured")
		if r.Code != 0 {
			return fmt.Errorf("%v", r)
		}
		if status := Decode[State](s.T, r.Stdout).Status; status == "creating" {
			return fmt.Errorf("is %s", status)
		}
		return nil
	})
	d := time.Since(begin)
	_ = cmd.Process.Kill()
	s.Finish(cmd)
	s.OK("delete", "--force", "measured")
	return d
}

// killRounds kills a command that makes a container, each time at another moment of what it takes.
func killRounds(s *Sandbox, b Bundle, rounds int, args ...string) {
	s.Helper()
	longest := duration(s, b, args)
	for i := range rounds {
		name := fmt.Sprint("killed-", i)
		cmd := s.Command(append(slices.Clone(args), "--bundle", b.Dir, name)...)
		s.Start(cmd)
		time.Sleep(rand.N(longest))
		Must(s.T, cmd.Process.Kill())
		s.Finish(cmd)
		checkTruth(s, name)
		if r := s.Sock("delete", "--force", name); r.Code != 0 {
			s.Errorf("round %d: %v", i, r)
		}
		s.Fails(Said("does not exist"), "state", name)
		s.CheckNothingLeft()
		if s.Failed() {
			s.Fatalf("in round %d", i)
		}
	}
}

// checkTruth compares the reported status with /proc.
func checkTruth(s *Sandbox, name string) {
	s.Helper()
	r := s.Sock("state", name)
	if r.Code != 0 {
		s.Fails(Said("does not exist"), "state", name)
		return
	}
	// What the dead command began may go on for a moment: the state may be old when we look at the process.
	Eventually(s.T, "a true state", func() error {
		st := Decode[State](s.T, s.OK("state", name))
		comm := ReadFile(fmt.Sprintf("/proc/%d/comm", st.Pid))
		switch {
		case st.Status == "stopped" && st.Pid == 0:
		case st.Status == "running" && Alive(st.Pid) && comm == "sleep\n":
		case st.Status == "created" && Alive(st.Pid) && comm != "sleep\n":
		case st.Status == "creating" && comm != "sleep\n":
		default:
			return fmt.Errorf("is %s of process %d, %q", st.Status, st.Pid, comm)
		}
		return nil
	})
}

// start, delete and exec may be killed, too.
func TestKilledLaterCommand(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	b := s.Bundle()
	for i := range 30 {
		name := fmt.Sprint("killed-", i)
		s.OK("create", "--bundle", b.Dir, name)
		command := [][]string{{"start", name}, {"delete", "--force", name}, {"exec", name, "sleep", "1000"}}[i%3]
		cmd := s.Command(command...)
		s.Start(cmd)
		time.Sleep(rand.N(15 * time.Millisecond))
		Must(t, cmd.Process.Kill())
		s.Finish(cmd)
		checkTruth(s, name)
		if r := s.Sock("delete", "--force", name); r.Code != 0 {
			t.Error(r)
		}
		s.Fails(Said("does not exist"), "state", name)
		s.CheckNothingLeft()
	}
}

// A broken state is no obstacle for other containers, and a directory without one is none for its ID.
func TestBrokenState(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	healthy := s.Running()
	WriteFile(t, filepath.Join(s.Root, "broken", "state.json"), "{", 0o600)
	s.Fails(Said("broken"), "state", "broken")
	Equal(t, "list", s.OK("list", "-q"), healthy.ID+"\n")
	Must(t, os.RemoveAll(filepath.Join(s.Root, "broken")))

	Must(t, os.Mkdir(filepath.Join(s.Root, "empty"), 0o700))
	s.Fails(Said("does not exist"), "state", "empty")
	Equal(t, "list", s.OK("list", "-q"), healthy.ID+"\n")
	s.OK("delete", "--force", "empty")
	s.OK("delete", "--force", healthy.ID)
	s.CheckNothingLeft()
}
