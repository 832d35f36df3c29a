package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

func TestLifecycle(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	pidFile := filepath.Join(s.dir, "pid")
	c := s.createIn(s.bundle(func(c *specs.Spec) {
		c.Hostname = "subzero"
		c.Annotations = map[string]string{"org.example.key": "value"}
		c.Linux.Resources.Memory = &specs.LinuxMemory{Limit: ptr(int64(512 << 20))}
	}), "--pid-file", pidFile)

	st := c.state()
	equal(t, "status", st.Status, "created")
	equal(t, "id", st.ID, c.name)
	equal(t, "bundle", st.Bundle, c.dir())
	equal(t, "rootfs", st.Rootfs, c.rootfs)
	equal(t, "annotation", st.Annotations["org.example.key"], "value")
	equal(t, "pid file", readFile(pidFile), fmt.Sprint(st.Pid))
	if st.Created.IsZero() || st.OCIVersion == "" {
		t.Errorf("created %v, ociVersion %q", st.Created, st.OCIVersion)
	}

	s.ok("start", c.name)
	equal(t, "status", c.state().Status, "running")
	equal(t, "pid", c.pid(), st.Pid)
	equal(t, "hostname", c.inside("hostname"), "subzero")
	c.wantLimits(limits{"memory.limit_in_bytes": "536870912"}, limits{"memory.max": "536870912"})

	table := s.ok("ps", c.name)
	if !strings.Contains(table, "PID") || !strings.Contains(table, fmt.Sprint(st.Pid)) || !strings.Contains(table, "sleep") {
		t.Errorf("ps: %q", table)
	}
	if wide := s.ok("ps", c.name, "-o", "pid,args"); !strings.Contains(wide, "sleep 1000") {
		t.Errorf("ps -o pid,args: %q", wide)
	}
	equal(t, "ps --format json", fmt.Sprint(decode[[]int](t, s.ok("ps", "--format", "json", c.name))), fmt.Sprint([]int{st.Pid}))

	s.ok("pause", c.name)
	equal(t, "status", c.state().Status, "paused")
	s.ok("resume", c.name)
	equal(t, "status", c.state().Status, "running")
	s.ok("update", "--memory", "256M", c.name)
	c.wantLimits(limits{"memory.limit_in_bytes": "268435456"}, limits{"memory.max": "268435456"})

	s.fails(said("not stopped"), "delete", c.name)
	s.ok("kill", c.name, "KILL")
	c.wantStatus("stopped")
	equal(t, "pid of a stopped one", c.pid(), 0)
	s.ok("delete", c.name)
	s.fails(said("does not exist"), "state", c.name)
	s.checkNothingLeft()
}

func (c *container) dir() string { return c.bundle.dir }

func TestCreateDoesNotExecute(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	c := s.create(script("echo executed"))
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", c.pid()))
	must(t, err)
	if strings.HasSuffix(exe, "busybox") {
		t.Errorf("create has executed %s", exe)
	}
	equal(t, "output after create", readFile(c.stdout), "")
	s.ok("start", c.name)
	c.wantStatus("stopped")
	equal(t, "output after start", readFile(c.stdout), "executed\n")
}

func TestWrongMoment(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	c := s.running()
	s.fails(said("already running"), "start", c.name)
	s.fails(said("exist"), "create", "--bundle", c.dir(), c.name)
	s.fails(said("exist"), "run", "--bundle", c.dir(), c.name)
	s.fails(said("not paused"), "resume", c.name)
	s.ok("kill", c.name, "KILL")
	c.wantStatus("stopped")
	s.fails(said("stopped"), "start", c.name)
	s.fails(said("container not running"), "kill", c.name, "TERM")
	s.fails(said("not running"), "pause", c.name)
	s.fails(nil, "exec", c.name, "true")
	s.ok("delete", c.name)
	s.fails(said("does not exist"), "delete", c.name)
	s.ok("delete", "--force", c.name)
}

func TestUnknownID(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	for _, args := range [][]string{
		{"state", "none"},
		{"start", "none"},
		{"kill", "none", "TERM"},
		{"kill", "none"},
		{"delete", "none"},
		{"pause", "none"},
		{"resume", "none"},
		{"ps", "none"},
		{"exec", "none", "true"},
		{"events", "--stats", "none"},
		{"update", "--memory", "1M", "none"},
	} {
		t.Run(args[0], func(t *testing.T) {
			r := s.fails(said("does not exist"), args...)
			oneLine(t, r)
		})
	}
	s.ok("delete", "--force", "none")
}

// oneLine checks that an error is one line.
func oneLine(t *testing.T, r result) {
	t.Helper()
	if strings.Count(strings.TrimRight(r.stderr, "\n"), "\n") > 0 || strings.TrimSpace(r.stderr) == "" {
		t.Errorf("no clear single line: %v", r)
	}
}

func TestDeleteCreated(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	c := s.create()
	s.ok("delete", c.name)
	s.checkNothingLeft()
}

func TestDeleteForce(t *testing.T) {
	t.Parallel()
	for _, status := range []string{"created", "running", "paused", "stopped"} {
		t.Run(status, func(t *testing.T) {
			t.Parallel()
			s := newSandbox(t)
			c := s.create()
			if status != "created" {
				s.ok("start", c.name)
			}
			switch status {
			case "paused":
				s.ok("pause", c.name)
			case "stopped":
				s.ok("kill", c.name, "9")
				c.wantStatus("stopped")
			}
			s.ok("delete", "--force", c.name)
			s.fails(said("does not exist"), "state", c.name)
			s.checkNothingLeft()
		})
	}
}

func TestConcurrentCreate(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	name := s.id()
	for range 5 {
		results := make([]result, 4)
		var wait sync.WaitGroup
		for i := range results {
			cmd := s.command("create", "--bundle", s.bundle().dir, name)
			s.start(cmd)
			wait.Go(func() { results[i] = s.finish(cmd) })
		}
		wait.Wait()
		won := 0
		for _, r := range results {
			if r.code == 0 {
				won++
			} else if !strings.Contains(r.stderr, "exist") {
				t.Error(r)
			}
		}
		equal(t, "number of winners", won, 1)
		equal(t, "status", decode[state](t, s.ok("state", name)).Status, "created")
		s.ok("start", name)
		s.ok("delete", "--force", name)
	}
}

func TestStartAndDeleteAtOnce(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	for range 10 {
		c := s.create()
		start, remove := s.command("start", c.name), s.command("delete", "--force", c.name)
		s.start(start)
		s.start(remove)
		s.finish(start) // may find it gone
		if r := s.finish(remove); r.code != 0 {
			t.Error(r)
		}
		s.fails(said("does not exist"), "state", c.name)
		s.checkNothingLeft()
	}
}

func TestConcurrentStart(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	c := s.create(script("echo once; sleep 1000"))
	cmds := make([]result, 0, 3)
	var started []func() result
	for range 3 {
		cmd := s.command("start", c.name)
		s.start(cmd)
		started = append(started, func() result { return s.finish(cmd) })
	}
	won := 0
	for _, finish := range started {
		r := finish()
		cmds = append(cmds, r)
		if r.code == 0 {
			won++
		}
	}
	if won != 1 {
		t.Errorf("%d of %v succeeded, want 1", won, cmds)
	}
	eventually(t, "output", func() error {
		if got := readFile(c.stdout); got != "once\n" {
			return fmt.Errorf("is %q", got)
		}
		return nil
	})
}

func TestList(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	if out := s.ok("list", "--quiet"); out != "" {
		t.Errorf("list of none: %q", out)
	}
	first, second := s.create(), s.running(func(c *specs.Spec) { c.Linux.CgroupsPath += "-2" })
	equal(t, "list --quiet", s.ok("list", "-q"), first.name+"\n"+second.name+"\n")

	lines := strings.Split(strings.TrimSpace(s.ok("list")), "\n")
	equal(t, "header", strings.Join(strings.Fields(lines[0]), " "), "ID PID STATUS BUNDLE CREATED OWNER")
	equal(t, "number of lines", len(lines), 3)
	row := strings.Fields(lines[1])
	equal(t, "row", strings.Join(slices.Concat(row[:4], row[5:]), " "),
		fmt.Sprintf("%s %d created %s root", first.name, first.pid(), first.dir()))

	list := decode[[]state](t, s.ok("list", "--format", "json"))
	equal(t, "containers in JSON", len(list), 2)
	equal(t, "status in JSON", list[1].Status, "running")
	equal(t, "pid in JSON", list[1].Pid, second.pid())
	s.fails(nil, "list", "--format", "xml")
}

func TestKill(t *testing.T) {
	t.Parallel()
	for _, signal := range []string{"TERM", "SIGTERM", "15", "term"} {
		t.Run(signal, func(t *testing.T) {
			t.Parallel()
			s := newSandbox(t)
			c := s.running(script("trap 'echo got; exit' TERM; sleep 1000 & echo ready; while :; do wait; done"))
			c.waitOutput("ready\n")
			s.ok("kill", c.name, signal)
			c.waitOutput("ready\ngot\n")
			c.wantStatus("stopped")
		})
	}
	t.Run("default is TERM", func(t *testing.T) {
		t.Parallel()
		s := newSandbox(t)
		c := s.running(script("trap 'echo got; exit' TERM; sleep 1000 & echo ready; while :; do wait; done"))
		c.waitOutput("ready\n")
		s.ok("kill", c.name)
		c.waitOutput("ready\ngot\n")
	})
	t.Run("unknown signal", func(t *testing.T) {
		t.Parallel()
		s := newSandbox(t)
		c := s.running()
		s.fails(said("unknown signal"), "kill", c.name, "NOSUCH")
		s.fails(nil, "kill", c.name, "1000")
		equal(t, "status", c.state().Status, "running")
	})
	t.Run("a created one", func(t *testing.T) {
		t.Parallel()
		s := newSandbox(t)
		c := s.create()
		s.ok("kill", c.name, "KILL")
		c.wantStatus("stopped")
		s.ok("delete", c.name)
		s.checkNothingLeft()
	})
	t.Run("a paused one", func(t *testing.T) {
		t.Parallel()
		s := newSandbox(t)
		c := s.running()
		s.ok("pause", c.name)
		s.ok("kill", c.name, "KILL")
		c.wantStatus("stopped")
	})
}

func (c *container) waitOutput(want string) {
	c.Helper()
	eventually(c.T, fmt.Sprintf("output %q", want), func() error {
		if got := readFile(c.stdout); got != want {
			return fmt.Errorf("is %q", got)
		}
		return nil
	})
}

// Without a PID namespace of its own a container's other processes outlive its init.
func TestKillAll(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	c := s.running(withoutNamespace(specs.PIDNamespace), script("sleep 1001 & sleep 1002 & echo ready; wait"))
	c.waitOutput("ready\n")
	pids := decode[[]int](t, s.ok("ps", "--format", "json", c.name))
	equal(t, "number of processes", len(pids), 3)
	s.ok("kill", "--all", c.name, "KILL")
	for _, pid := range pids {
		eventually(t, "end of a process", func() error {
			if alive(pid) {
				return fmt.Errorf("%d lives", pid)
			}
			return nil
		})
	}
	c.wantStatus("stopped")
	s.ok("delete", c.name)
	s.checkNothingLeft()
}

func TestDeleteKillsTheRest(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	c := s.running(withoutNamespace(specs.PIDNamespace), script("sleep 1001 & echo ready; wait"))
	c.waitOutput("ready\n")
	s.ok("kill", c.name, "KILL")
	c.wantStatus("stopped")
	s.ok("delete", c.name)
	s.checkNothingLeft()
}

func TestChangesAfterCreateDontMatter(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	c := s.create(script("echo old"))
	s.configure(c.bundle, script("echo new"))
	s.ok("start", c.name)
	c.waitOutput("old\n")
	must(t, os.Remove(filepath.Join(c.dir(), "config.json")))
	c.wantStatus("stopped")
	s.ok("delete", c.name)
}

func TestRelativePidFile(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	c := s.createIn(s.bundle(), "--pid-file", "relative.pid")
	equal(t, "pid file", readFile(filepath.Join(s.dir, "relative.pid")), fmt.Sprint(c.pid()))
}

func TestBundleIsTheWorkingDirectory(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	cmd := s.command("run", s.id())
	cmd.Dir = s.bundle(args("echo", "hello")).dir
	r := s.do(cmd)
	equal(t, "exit status", r.code, 0)
	equal(t, "output", r.stdout, "hello\n")
}
