package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	. "github.com/sock-runtime/sock/tests/sandbox"
)

func TestLifecycle(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	pidFile := filepath.Join(s.Dir, "pid")
	c := s.CreateIn(s.Bundle(func(c *specs.Spec) {
		c.Hostname = "subzero"
		c.Annotations = map[string]string{"org.example.key": "value"}
		c.Linux.Resources.Memory = &specs.LinuxMemory{Limit: Ptr(int64(512 << 20))}
	}), "--pid-file", pidFile)

	st := c.State()
	Equal(t, "status", st.Status, "created")
	Equal(t, "id", st.ID, c.ID)
	Equal(t, "bundle", st.Bundle, c.Dir())
	Equal(t, "rootfs", st.Rootfs, c.Rootfs)
	Equal(t, "annotation", st.Annotations["org.example.key"], "value")
	Equal(t, "pid file", ReadFile(pidFile), fmt.Sprint(st.Pid))
	if st.Created.IsZero() || st.OCIVersion == "" {
		t.Errorf("created %v, ociVersion %q", st.Created, st.OCIVersion)
	}

	s.OK("start", c.ID)
	Equal(t, "status", c.State().Status, "running")
	Equal(t, "pid", c.Pid(), st.Pid)
	Equal(t, "hostname", c.Inside("hostname"), "subzero")
	wantLimits(c, limits{"memory.limit_in_bytes": "536870912"}, limits{"memory.max": "536870912"})

	table := s.OK("ps", c.ID)
	if !strings.Contains(table, "PID") || !strings.Contains(table, fmt.Sprint(st.Pid)) || !strings.Contains(table, "sleep") {
		t.Errorf("ps: %q", table)
	}
	if wide := s.OK("ps", c.ID, "-o", "pid,args"); !strings.Contains(wide, "sleep 1000") {
		t.Errorf("ps -o pid,args: %q", wide)
	}
	Equal(t, "ps --format json", fmt.Sprint(Decode[[]int](t, s.OK("ps", "--format", "json", c.ID))), fmt.Sprint([]int{st.Pid}))

	s.OK("pause", c.ID)
	Equal(t, "status", c.State().Status, "paused")
	s.OK("resume", c.ID)
	Equal(t, "status", c.State().Status, "running")
	s.OK("update", "--memory", "256M", c.ID)
	wantLimits(c, limits{"memory.limit_in_bytes": "268435456"}, limits{"memory.max": "268435456"})

	s.Fails(Said("not stopped"), "delete", c.ID)
	s.OK("kill", c.ID, "KILL")
	c.WantStatus("stopped")
	Equal(t, "pid of a stopped one", c.Pid(), 0)
	s.OK("delete", c.ID)
	s.Fails(Said("does not exist"), "state", c.ID)
	s.CheckNothingLeft()
}

func TestCreateDoesNotExecute(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	c := s.Create(Script("echo executed"))
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", c.Pid()))
	Must(t, err)
	if strings.HasSuffix(exe, "busybox") {
		t.Errorf("create has executed %s", exe)
	}
	Equal(t, "output after create", ReadFile(c.Stdout), "")
	s.OK("start", c.ID)
	c.WantStatus("stopped")
	Equal(t, "output after start", ReadFile(c.Stdout), "executed\n")
}

func TestWrongMoment(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	c := s.Running()
	s.Fails(Said("already running"), "start", c.ID)
	s.Fails(Said("exist"), "create", "--bundle", c.Dir(), c.ID)
	s.Fails(Said("exist"), "run", "--bundle", c.Dir(), c.ID)
	s.Fails(Said("not paused"), "resume", c.ID)
	s.OK("kill", c.ID, "KILL")
	c.WantStatus("stopped")
	s.Fails(Said("stopped"), "start", c.ID)
	s.Fails(Said("container not running"), "kill", c.ID, "TERM")
	s.Fails(Said("not running"), "pause", c.ID)
	s.Fails(nil, "exec", c.ID, "true")
	s.OK("delete", c.ID)
	s.Fails(Said("does not exist"), "delete", c.ID)
	s.OK("delete", "--force", c.ID)
}

func TestUnknownID(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
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
			r := s.Fails(Said("does not exist"), args...)
			OneLine(t, r)
		})
	}
	s.OK("delete", "--force", "none")
}

func TestDeleteCreated(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	c := s.Create()
	s.OK("delete", c.ID)
	s.CheckNothingLeft()
}

func TestDeleteForce(t *testing.T) {
	t.Parallel()
	for _, status := range []string{"created", "running", "paused", "stopped"} {
		t.Run(status, func(t *testing.T) {
			t.Parallel()
			s := NewSandbox(t)
			c := s.Create()
			if status != "created" {
				s.OK("start", c.ID)
			}
			switch status {
			case "paused":
				s.OK("pause", c.ID)
			case "stopped":
				s.OK("kill", c.ID, "9")
				c.WantStatus("stopped")
			}
			s.OK("delete", "--force", c.ID)
			s.Fails(Said("does not exist"), "state", c.ID)
			s.CheckNothingLeft()
		})
	}
}

func TestConcurrentCreate(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	name := s.NewID()
	for range 5 {
		results := make([]Result, 4)
		var wait sync.WaitGroup
		for i := range results {
			cmd := s.Command("create", "--bundle", s.Bundle().Dir, name)
			s.Start(cmd)
			wait.Go(func() { results[i] = s.Finish(cmd) })
		}
		wait.Wait()
		won := 0
		for _, r := range results {
			if r.Code == 0 {
				won++
			} else if !strings.Contains(r.Stderr, "exist") {
				t.Error(r)
			}
		}
		Equal(t, "number of winners", won, 1)
		Equal(t, "status", Decode[State](t, s.OK("state", name)).Status, "created")
		s.OK("start", name)
		s.OK("delete", "--force", name)
	}
}

func TestStartAndDeleteAtOnce(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	for range 10 {
		c := s.Create()
		start, remove := s.Command("start", c.ID), s.Command("delete", "--force", c.ID)
		s.Start(start)
		s.Start(remove)
		s.Finish(start) // may find it gone
		if r := s.Finish(remove); r.Code != 0 {
			t.Error(r)
		}
		s.Fails(Said("does not exist"), "state", c.ID)
		s.CheckNothingLeft()
	}
}

func TestConcurrentStart(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	c := s.Create(Script("echo once; sleep 1000"))
	cmds := make([]Result, 0, 3)
	var started []func() Result
	for range 3 {
		cmd := s.Command("start", c.ID)
		s.Start(cmd)
		started = append(started, func() Result { return s.Finish(cmd) })
	}
	won := 0
	for _, finish := range started {
		r := finish()
		cmds = append(cmds, r)
		if r.Code == 0 {
			won++
		}
	}
	if won != 1 {
		t.Errorf("%d of %v succeeded, want 1", won, cmds)
	}
	Eventually(t, "output", func() error {
		if got := ReadFile(c.Stdout); got != "once\n" {
			return fmt.Errorf("is %q", got)
		}
		return nil
	})
}

func TestList(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	if out := s.OK("list", "--quiet"); out != "" {
		t.Errorf("list of none: %q", out)
	}
	first, second := s.Create(), s.Running(func(c *specs.Spec) { c.Linux.CgroupsPath += "-2" })
	Equal(t, "list --quiet", s.OK("list", "-q"), first.ID+"\n"+second.ID+"\n")

	lines := strings.Split(strings.TrimSpace(s.OK("list")), "\n")
	Equal(t, "header", strings.Join(strings.Fields(lines[0]), " "), "ID PID STATUS BUNDLE CREATED OWNER")
	Equal(t, "number of lines", len(lines), 3)
	row := strings.Fields(lines[1])
	Equal(t, "row", strings.Join(slices.Concat(row[:4], row[5:]), " "),
		fmt.Sprintf("%s %d created %s root", first.ID, first.Pid(), first.Dir()))

	list := Decode[[]State](t, s.OK("list", "--format", "json"))
	Equal(t, "containers in JSON", len(list), 2)
	Equal(t, "status in JSON", list[1].Status, "running")
	Equal(t, "pid in JSON", list[1].Pid, second.Pid())
	s.Fails(nil, "list", "--format", "xml")
}

func TestKill(t *testing.T) {
	t.Parallel()
	for _, signal := range []string{"TERM", "SIGTERM", "15", "term"} {
		t.Run(signal, func(t *testing.T) {
			t.Parallel()
			s := NewSandbox(t)
			c := s.Running(Script("trap 'echo got; exit' TERM; sleep 1000 & echo ready; while :; do wait; done"))
			c.WaitOutput("ready\n")
			s.OK("kill", c.ID, signal)
			c.WaitOutput("ready\ngot\n")
			c.WantStatus("stopped")
		})
	}
	t.Run("default is TERM", func(t *testing.T) {
		t.Parallel()
		s := NewSandbox(t)
		c := s.Running(Script("trap 'echo got; exit' TERM; sleep 1000 & echo ready; while :; do wait; done"))
		c.WaitOutput("ready\n")
		s.OK("kill", c.ID)
		c.WaitOutput("ready\ngot\n")
	})
	t.Run("unknown signal", func(t *testing.T) {
		t.Parallel()
		s := NewSandbox(t)
		c := s.Running()
		s.Fails(Said("unknown signal"), "kill", c.ID, "NOSUCH")
		s.Fails(nil, "kill", c.ID, "1000")
		Equal(t, "status", c.State().Status, "running")
	})
	t.Run("a created one", func(t *testing.T) {
		t.Parallel()
		s := NewSandbox(t)
		c := s.Create()
		s.OK("kill", c.ID, "KILL")
		c.WantStatus("stopped")
		s.OK("delete", c.ID)
		s.CheckNothingLeft()
	})
	t.Run("a paused one", func(t *testing.T) {
		t.Parallel()
		s := NewSandbox(t)
		c := s.Running()
		s.OK("pause", c.ID)
		s.OK("kill", c.ID, "KILL")
		c.WantStatus("stopped")
	})
}

// Without a PID namespace of its own a container's other processes outlive its init.
func TestKillAll(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	c := s.Running(WithoutNamespace(specs.PIDNamespace), Script("sleep 1001 & sleep 1002 & echo ready; wait"))
	c.WaitOutput("ready\n")
	pids := Decode[[]int](t, s.OK("ps", "--format", "json", c.ID))
	Equal(t, "number of processes", len(pids), 3)
	s.OK("kill", "--all", c.ID, "KILL")
	for _, pid := range pids {
		Eventually(t, "end of a process", func() error {
			if Alive(pid) {
				return fmt.Errorf("%d lives", pid)
			}
			return nil
		})
	}
	c.WantStatus("stopped")
	s.OK("delete", c.ID)
	s.CheckNothingLeft()
}

// Init is gone, and what it left is killed all the same.
func TestKillOrphans(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	c := s.Running(WithoutNamespace(specs.PIDNamespace), Script("sleep 1001 & echo $!; exec sleep 1002"))
	var orphan int
	Eventually(t, "the orphan's number", func() (err error) {
		orphan, err = strconv.Atoi(strings.TrimSpace(ReadFile(c.Stdout)))
		return err
	})
	Must(t, unix.Kill(c.Pid(), unix.SIGKILL))
	c.WantStatus("stopped")
	s.Fails(Said("container not running"), "kill", c.ID, "TERM")
	s.OK("kill", c.ID, "KILL")
	Eventually(t, "end of the orphan", func() error {
		if Alive(orphan) {
			return fmt.Errorf("%d lives", orphan)
		}
		return nil
	})
	s.Fails(Said("container not running"), "kill", c.ID, "KILL")
	s.OK("delete", c.ID)
}

func TestDeleteKillsTheRest(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	c := s.Running(WithoutNamespace(specs.PIDNamespace), Script("sleep 1001 & echo ready; wait"))
	c.WaitOutput("ready\n")
	s.OK("kill", c.ID, "KILL")
	c.WantStatus("stopped")
	s.OK("delete", c.ID)
	s.CheckNothingLeft()
}

func TestChangesAfterCreateDontMatter(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	c := s.Create(Script("echo old"))
	s.Configure(c.Bundle, Script("echo new"))
	s.OK("start", c.ID)
	c.WaitOutput("old\n")
	Must(t, os.Remove(filepath.Join(c.Dir(), "config.json")))
	c.WantStatus("stopped")
	s.OK("delete", c.ID)
}

func TestRelativePidFile(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	c := s.CreateIn(s.Bundle(), "--pid-file", "relative.pid")
	Equal(t, "pid file", ReadFile(filepath.Join(s.Dir, "relative.pid")), fmt.Sprint(c.Pid()))
}

func TestBundleIsTheWorkingDirectory(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	cmd := s.Command("run", s.NewID())
	cmd.Dir = s.Bundle(Args("echo", "hello")).Dir
	r := s.Do(cmd)
	Equal(t, "exit status", r.Code, 0)
	Equal(t, "output", r.Stdout, "hello\n")
}
