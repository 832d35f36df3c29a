package engines

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	. "github.com/sock-runtime/sock/tests/sandbox"
)

// TestKeeperKilled kills the keeper under running containers: as with any shim that is lost, they are ended, removed and
// reported.
func TestKeeperKilled(t *testing.T) {
	onShims(t, func(t *testing.T, f flavour) {
		c := newContainerd(t, f)
		const boxes = 5
		var pids []int
		for i := range boxes - 1 {
			c.OK(c.line(fmt.Sprint("box", i), "--detach", "sleep", "1000")...)
		}
		Must(t, c.api().run("mounted", "sleep 1000", stdio{})) // its root file system is mounted by the shim
		mounts := func() string { return ReadFile(fmt.Sprintf("/proc/%d/mounts", c.Room.Pid())) }
		const below = "/run/containerd/io.containerd.runtime.v2.task/"
		if !strings.Contains(mounts(), below) {
			t.Errorf("nothing is mounted below %s", below)
		}
		for _, line := range strings.Split(c.OK("task", "ls"), "\n")[1:] {
			pids = append(pids, Atoi(strings.Fields(line)[1]))
		}
		Equal(t, "tasks", len(pids), boxes)
		events := c.LogFile("events")
		listener := c.Command("events")
		listener.Stdout = events
		Must(t, listener.Start())
		defer func() { _ = listener.Process.Kill(); _ = listener.Wait() }()
		Eventually(t, "the listener", func() error { // ctr says nothing when it listens
			c.Try("container", "label", "box0", "a=b")
			if ReadFile(events.Name()) == "" {
				return errors.New("no event")
			}
			return nil
		})

		keepers := c.shimProcesses("keeper")
		Equal(t, "keepers", len(keepers), 1)
		Must(t, unix.Kill(keepers[0], unix.SIGKILL))

		Eventually(t, "the end of the tasks", func() error {
			if out := c.OK("task", "ls"); len(strings.Split(out, "\n")) > 1 {
				return errors.New(out)
			}
			return nil
		})
		Eventually(t, "the events", func() error {
			said := ReadFile(events.Name())
			if exits, deletes := strings.Count(said, "/tasks/exit"), strings.Count(said, "/tasks/delete"); exits != boxes || deletes != boxes {
				return fmt.Errorf("%d exits, %d deletes: %s", exits, deletes, said)
			}
			return nil
		})
		Eventually(t, "the end of the processes", func() error {
			for _, pid := range pids {
				if args := ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); strings.HasPrefix(args, "sleep\x00") {
					return fmt.Errorf("process %d runs", pid)
				}
			}
			if workers := c.shimProcesses("worker"); len(workers) > 0 {
				return fmt.Errorf("workers: %v", workers)
			}
			return nil
		})
		root := fmt.Sprintf("/proc/%d/root", c.Room.Pid())
		Eventually(t, "the end of the shim's directory", func() error { // containerd executes delete once more, in the background
			if left, _ := filepath.Glob(root + "/run/sock-shim/*-*"); len(left) > 0 {
				return fmt.Errorf("left: %v", left)
			}
			return nil
		})
		left, err := filepath.Glob(root + "/run/containerd/sock/default/*")
		Must(t, err)
		for _, name := range left {
			if filepath.Base(name) != ",seccomp" {
				t.Errorf("left: %s", name)
			}
		}
		if left := mounts(); strings.Contains(left, below) {
			t.Errorf("mounts are left:\n%s", left)
		}

		// The next container has a new shim.
		c.OK("container", "rm", "box0")
		r := c.Try(c.line("box0", "--rm", "sh", "-c", "echo again; exit 3")...)
		if r.Code != 3 || r.Stdout != "again\n" {
			t.Errorf("want again, 3: %v", r)
		}
		if now := c.shimProcesses("keeper"); len(now) != 1 || now[0] == keepers[0] {
			t.Errorf("keepers: %v", now)
		}
	})
}

// TestShimUpgraded replaces keeper and worker by those of another file while containers and commands run.
func TestShimUpgraded(t *testing.T) {
	t.Parallel()
	c := newContainerd(t, flavour{dir: newest, shim: true})
	const boxes = 20
	for i := range boxes {
		c.startBox(i)
	}
	waiting := make(chan Result)
	go func() {
		waiting <- c.Try("task", "exec", "--exec-id", "w", "box0", "sh", "-c", "echo one; sleep 2; echo two; exit 5")
	}()
	dir, err := shims()
	Must(t, err)
	data, err := os.ReadFile(filepath.Join(dir, "sock-shimd"))
	Must(t, err)
	other := filepath.Join(c.Dir, "sock-shimd")
	Must(t, os.WriteFile(other, data, 0o700))
	Eventually(t, "the exec", func() error {
		if out := c.OK("task", "ps", "box0"); strings.Count(out, "\n") < 2 {
			return errors.New(out)
		}
		return nil
	})

	keeper := c.shimProcesses("keeper")[0]
	if r := c.Do(c.Room.Command(other, "upgrade")); r.Code != 0 || strings.Count(r.Stdout, "\n") != 1 {
		t.Fatal(r)
	}
	Eventually(t, "the new worker", func() error {
		for _, pid := range append(c.shimProcesses("keeper"), c.shimProcesses("worker")...) {
			now, err := os.Stat(fmt.Sprintf("/proc/%d/exe", pid))
			if err != nil {
				return err
			}
			if want, err := os.Stat(other); err != nil || !os.SameFile(now, want) {
				return fmt.Errorf("process %d runs another file (%v)", pid, err)
			}
		}
		Equal(t, "keepers", fmt.Sprint(c.shimProcesses("keeper")), fmt.Sprint([]int{keeper}))
		if n := len(c.shimProcesses("worker")); n != 1 {
			return fmt.Errorf("%d workers", n)
		}
		return nil
	})
	c.wantRunning(boxes)
	if r := <-waiting; r.Code != 5 || r.Stdout != "one\ntwo\n" {
		t.Errorf("want one, two, 5: %v", r)
	}
	c.endBoxes(boxes)
}
