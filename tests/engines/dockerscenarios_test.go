package engines

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	. "github.com/sock-runtime/sock/tests/sandbox"
)

func dockerDemo(c client) {
	c.OK("run", "-dt", "--hostname=subzero", "--memory", "512MB", "--name", "demo", "box")
	defer c.remove("demo")
	con, wait := c.Terminal(24, 80, "exec", "-it", "demo", "sh")
	con.Write("hostname; tty; cat " + memoryLimit() + "; exit 7\n")
	for _, text := range []string{"subzero", "/dev/pts/1", "536870912"} {
		con.WaitFor(text)
	}
	Equal(c.T, "exit status", wait(), 7)
	c.wantStatus("demo", "running")
}

func dockerPolicies(c client) {
	for _, policy := range []string{"always", "unless-stopped"} {
		c.start("box", "--restart "+policy, untilTerm)
		c.waitFor("box", "ready")
		c.Try("exec", "box", "sh", "-c", "kill -TERM 1") // which may end it, too
		c.waitFor("box", "ready\nterm\nready")
		Equal(c.T, "restarts", c.inspect("box", ".RestartCount"), "1")
		c.OK("stop", "box")
		c.wantStatus("box", "exited")
		c.remove("box")
	}
}

func dockerStats(c client) {
	c.start("box", "--memory 64m", "echo ready; while :; do :; done")
	c.waitFor("box", "ready")
	Eventually(c.T, "stats", func() error {
		stats := strings.Split(c.OK("stats", "--no-stream", "--format", "{{.CPUPerc}}|{{.MemUsage}}|{{.PIDs}}", "box"), "|")
		if stats[0] == "0.00%" || strings.HasPrefix(stats[1], "0B") || !strings.HasSuffix(stats[1], " / 64MiB") || stats[2] != "1" {
			return fmt.Errorf("%q", stats)
		}
		return nil
	})
	c.OK("update", "--cpus", "0.5", "--pids-limit", "33", "--memory", "100m", "--memory-swap", "200m", "box")
	Equal(c.T, "limits", c.OK("exec", "box", "sh", "-c", "cd /sys/fs/cgroup; cat "+
		ByCgroup("memory/memory.limit_in_bytes cpu/cpu.cfs_quota_us pids/pids.max", "memory.max cpu.max pids.max")),
		ByCgroup("104857600\n50000\n33", "104857600\n50000 100000\n33"))
}

func dockerBytes(c client) {
	const lines = 100000
	r := c.run("", "sh", "-c", fmt.Sprintf("seq %d; seq %d >&2", lines, lines))
	var want strings.Builder
	for i := 1; i <= lines; i++ {
		fmt.Fprintln(&want, i)
	}
	if r.Code != 0 || r.Stdout != want.String() || r.Stderr != want.String() {
		c.Errorf("exit status %d, %d and %d bytes of %d", r.Code, len(r.Stdout), len(r.Stderr), want.Len())
	}
	cmd := c.Command(c.line("run --rm --interactive", "", "box", "cat")...)
	cmd.Stdin = strings.NewReader(want.String())
	if r := c.Do(cmd); r.Code != 0 || r.Stdout != want.String() {
		c.Errorf("cat: exit status %d, %d bytes of %d", r.Code, len(r.Stdout), want.Len())
	}
}

func dockerStorm(c client) {
	c.start("box", "", "sleep 1000")
	var all sync.WaitGroup
	for w := range 4 {
		all.Go(func() {
			for i := range 3 {
				code := 1 + w*3 + i
				if r := c.run("", "sh", "-c", fmt.Sprintf("echo %d; exit %d", code, code)); r.Code != code || r.Stdout != fmt.Sprintln(code) {
					c.Errorf("want %d: %v", code, r)
				}
				if r := c.Try("exec", "box", "sh", "-c", fmt.Sprintf("echo %d; exit %d", code, code)); r.Code != code || r.Stdout != fmt.Sprintln(code) {
					c.Errorf("want %d of exec: %v", code, r)
				}
			}
		})
	}
	all.Wait()
}

func dockerEvents(c client) {
	c.start("box", "", untilTerm)
	c.waitFor("box", "ready")
	id := c.inspect("box", ".Id")
	// Some are told a little after the command that made them has ended.
	wantEvents := func(want string) {
		c.Helper()
		Eventually(c.T, "events", func() error {
			var got []string
			for line := range strings.Lines(c.OK("events", "--since", "1", "--until", "0s", "--filter", "container="+id, "--filter", "type=container",
				"--format", "{{.Action}}|{{.Actor.Attributes.exitCode}}")) {
				action, code, _ := strings.Cut(strings.TrimSpace(line), "|")
				action, _, _ = strings.Cut(action, ":")
				if code != "<no value>" && code != "" {
					action += ":" + code
				}
				got = append(got, action)
			}
			if strings.Join(got, " ") != want {
				return fmt.Errorf("%q", got)
			}
			return nil
		})
	}
	c.OK("exec", "box", "true")
	want := "create start exec_create exec_start exec_die:0"
	wantEvents(want)
	c.OK("pause", "box")
	c.OK("unpause", "box")
	c.OK("kill", "--signal", "TERM", "box")
	c.Prints("3", "wait", "box")
	want += " pause unpause kill die:3"
	wantEvents(want)
	c.remove("box")
	wantEvents(want + " destroy")
}

// processesOf lists the processes in a container's cgroup.
func (c client) processesOf(id string) []string {
	var list []string
	for _, process := range c.Processes() {
		pid := strings.Fields(process)[0]
		if strings.Contains(ReadFile("/proc/"+pid+"/cgroup"), "/"+id) {
			list = append(list, process)
		}
	}
	return list
}

func dockerHostPids(c client) {
	for _, flag := range []string{"host", "container:other"} {
		c.start("other", "", untilTerm)
		c.start("box", "--pid "+flag, "sleep 1000 & sleep 1000 & echo ready; wait")
		c.waitFor("box", "ready")
		id := c.inspect("box", ".Id")
		Equal(c.T, "processes", len(c.processesOf(id)), 3)
		c.OK("kill", "box")
		c.Prints("137", "wait", "box")
		Eventually(c.T, "the end of its processes", func() error {
			if left := c.processesOf(id); len(left) > 0 {
				return fmt.Errorf("%v", left)
			}
			return nil
		})
		c.remove("box")
		c.wantStatus("other", "running")
		c.remove("other")
	}
}

func dockerCgroupParent(c client) {
	c.OK("run", "--detach", "--name", "box", "--network", "none", "--cgroup-parent", "/"+c.Mark+"/sub", "box", "sleep", "1000")
	defer func() {
		c.remove("box")
		for _, dir := range c.Cgroups() {
			if err := RemoveCgroup(filepath.Join(dir, "sub")); err != nil && !errors.Is(err, os.ErrNotExist) {
				c.Error(err)
			}
		}
	}()
	id := c.inspect("box", ".Id")
	cgroup := ReadFile("/proc/" + c.inspect("box", ".State.Pid") + "/cgroup")
	if !strings.Contains(cgroup, "/"+c.Mark+"/sub/"+id) {
		c.Errorf("cgroups:\n%s", cgroup)
	}
	Equal(c.T, "the container's view", strings.Contains(c.OK("exec", "box", "cat", "/proc/self/cgroup"), id), !Unified())
}

func dockerReadOnlyBelow(c client) {
	dir := c.HostDir()
	below := filepath.Join(dir, "below")
	Must(c.T, os.Mkdir(below, 0o755))
	for _, args := range [][]string{{"mount", "-t", "tmpfs", "below", below}, {"mount", "--make-private", below}} {
		if r := c.Do(c.Room.Command(args...)); r.Code != 0 {
			c.Fatal(r)
		}
	}
	defer c.Do(c.Room.Command("umount", below))
	want := "refused"
	if c.column == oldDocker || c.column == dockerShim {
		*c.cell, want = unasked, "written"
	}
	Equal(c.T, "file below", c.script("--volume "+dir+":/v:ro", "(echo x > /v/below/file) 2>/dev/null && echo written || echo refused"), want)
}

func dockerCommit(c client) {
	c.start("box", "", "echo x > /made; echo ready; exec sleep 1000")
	c.waitFor("box", "ready")
	c.OK("commit", "box", "committed")
	c.wantStatus("box", "running")
	c.Prints("x", c.line("run --rm", "", "committed", "cat", "/made")...)
}
