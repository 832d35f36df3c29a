package integration

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
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
		change change
	}{
		{"create", []string{"create"}, writable},
		{"run", []string{"run"}, writable},
		{"run detached", []string{"run", "--detach"}, writable},
		{"create without namespaces", []string{"create"}, func(c *specs.Spec) {
			withoutNamespace(specs.PIDNamespace)(c)
			withoutNamespace(specs.MountNamespace)(c)
			c.Linux.MaskedPaths, c.Linux.ReadonlyPaths, c.Mounts = nil, nil, c.Mounts[:1]
		}},
		{"create with hooks", []string{"create"}, withHook("createRuntime", "exec /bin/busybox sleep 0.01")},
		{"run with hooks", []string{"run"}, withHook("startContainer", "exec sleep 0.01")},
	} {
		t.Run(variant.name, func(t *testing.T) {
			t.Parallel()
			s := newSandbox(t)
			b := s.bundle(variant.change)
			longest := s.duration(b, variant.args)
			for i := range rounds {
				name := fmt.Sprint("killed-", i)
				cmd := s.command(append(variant.args, "--bundle", b.dir, name)...)
				s.start(cmd)
				time.Sleep(rand.N(longest))
				must(t, cmd.Process.Kill())
				s.finish(cmd)
				s.checkTruth(name)
				if r := s.sock("delete", "--force", name); r.code != 0 {
					t.Errorf("round %d: %v", i, r)
				}
				s.fails(said("does not exist"), "state", name)
				s.checkNothingLeft()
				if t.Failed() {
					t.Fatalf("in round %d", i)
				}
			}
		})
	}
}

// duration is how long a command takes until its container waits or runs, and then some.
func (s *sandbox) duration(b bundle, args []string) time.Duration {
	s.Helper()
	begin := time.Now()
	cmd := s.command(append(args, "--bundle", b.dir, "measured")...)
	s.start(cmd)
	eventually(s.T, "the container", func() error {
		r := s.sock("state", "measured")
		if r.code != 0 {
			return fmt.Errorf("%v", r)
		}
		if status := decode[state](s.T, r.stdout).Status; status == "creating" {
			return fmt.Errorf("is %s", status)
		}
		return nil
	})
	d := time.Since(begin)
	_ = cmd.Process.Kill()
	s.finish(cmd)
	s.ok("delete", "--force", "measured")
	return d
}

// checkTruth compares the reported status with /proc.
func (s *sandbox) checkTruth(name string) {
	s.Helper()
	r := s.sock("state", name)
	if r.code != 0 {
		s.fails(said("does not exist"), "state", name)
		return
	}
	// What the dead command began may go on for a moment: the state may be old when we look at the process.
	eventually(s.T, "a true state", func() error {
		st := decode[state](s.T, s.ok("state", name))
		comm := readFile(fmt.Sprintf("/proc/%d/comm", st.Pid))
		switch {
		case st.Status == "stopped" && st.Pid == 0:
		case st.Status == "running" && alive(st.Pid) && comm == "sleep\n":
		case st.Status == "created" && alive(st.Pid) && comm != "sleep\n":
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
	s := newSandbox(t)
	b := s.bundle()
	for i := range 30 {
		name := fmt.Sprint("killed-", i)
		s.ok("create", "--bundle", b.dir, name)
		command := [][]string{{"start", name}, {"delete", "--force", name}, {"exec", name, "sleep", "1000"}}[i%3]
		cmd := s.command(command...)
		s.start(cmd)
		time.Sleep(rand.N(15 * time.Millisecond))
		must(t, cmd.Process.Kill())
		s.finish(cmd)
		s.checkTruth(name)
		if r := s.sock("delete", "--force", name); r.code != 0 {
			t.Error(r)
		}
		s.fails(said("does not exist"), "state", name)
		s.checkNothingLeft()
	}
}

// A broken state is no obstacle for other containers, and a directory without one is none for its ID.
func TestBrokenState(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	healthy := s.running()
	writeFile(t, filepath.Join(s.root, "broken", "state.json"), "{", 0o600)
	s.fails(said("broken"), "state", "broken")
	equal(t, "list", s.ok("list", "-q"), healthy.name+"\n")
	must(t, os.RemoveAll(filepath.Join(s.root, "broken")))

	must(t, os.Mkdir(filepath.Join(s.root, "empty"), 0o700))
	s.fails(said("does not exist"), "state", "empty")
	equal(t, "list", s.ok("list", "-q"), healthy.name+"\n")
	s.ok("delete", "--force", "empty")
	s.ok("delete", "--force", healthy.name)
	s.checkNothingLeft()
}
