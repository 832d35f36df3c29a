package engines

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	. "github.com/sock-runtime/sock/tests/sandbox"
)

// TestShimEvents checks what containerd tells of a task's life.
func TestShimEvents(t *testing.T) {
	t.Parallel()
	defer working(t, containerdShim, "events")
	c := newContainerd(t, flavour{dir: newest, shim: true})
	listener := c.Command("events")
	log := c.LogFile("events")
	listener.Stdout = log
	Must(t, listener.Start())
	defer func() { _ = listener.Process.Kill(); _ = listener.Wait() }()
	time.Sleep(100 * time.Millisecond) // until it listens: ctr says nothing
	c.OK(c.line("box", "--detach", "sleep", "1000")...)
	c.OK("task", "exec", "--exec-id", "e", "box", "true")
	c.OK("task", "kill", "--signal", "KILL", "box")
	c.status("STOPPED")
	c.Try("task", "delete", "box")
	want := []string{
		"/containers/create", "/tasks/create", "/tasks/start", "/tasks/exec-added", "/tasks/exec-started", "/tasks/exit", "/tasks/exit", "/tasks/delete",
	}
	Eventually(t, "the last event", func() error {
		var got []string
		for line := range strings.Lines(ReadFile(log.Name())) {
			for _, field := range strings.Fields(line) {
				if strings.HasPrefix(field, "/tasks/") || strings.HasPrefix(field, "/containers/") {
					got = append(got, field)
				}
			}
		}
		if strings.Join(got, " ") != strings.Join(want, " ") {
			return fmt.Errorf("%q", got)
		}
		return nil
	})
}

// TestShimBytes passes megabytes through both streams and compares each byte.
func TestShimBytes(t *testing.T) {
	t.Parallel()
	defer working(t, containerdShim, "bytes")
	c := newContainerd(t, flavour{dir: newest, shim: true})
	const lines = 300000
	r := c.Try(c.line("box", "--rm", "sh", "-c", fmt.Sprintf("seq %d; seq %d >&2", lines, lines))...)
	var want strings.Builder
	for i := 1; i <= lines; i++ {
		fmt.Fprintln(&want, i)
	}
	if r.Code != 0 || r.Stdout != want.String() {
		t.Errorf("exit status %d, %d bytes of %d", r.Code, len(r.Stdout), want.Len())
	}
	if !strings.HasSuffix(r.Stderr, want.String()) { // containerd's ctr has a word of its own
		t.Errorf("stderr has %d bytes of %d", len(r.Stderr), want.Len())
	}
	in := c.Command(c.line("cat", "--rm", "cat")...)
	in.Stdin = strings.NewReader(want.String())
	if r := c.Do(in); r.Code != 0 || r.Stdout != want.String() {
		t.Errorf("cat: exit status %d, %d bytes of %d", r.Code, len(r.Stdout), want.Len())
	}
}

// TestShimStorm runs many short containers and execs at once. Each one's exit status is true.
func TestShimStorm(t *testing.T) {
	t.Parallel()
	defer working(t, containerdShim, "storm")
	c := newContainerd(t, flavour{dir: newest, shim: true})
	c.OK(c.line("box", "--detach", "sleep", "1000")...)
	var all sync.WaitGroup
	for w := range 4 {
		all.Go(func() {
			for i := range 8 {
				code := 1 + w*8 + i
				if r := c.Try(c.line(fmt.Sprintf("box%d-%d", w, i), "--rm", "sh", "-c", fmt.Sprint("exit ", code))...); r.Code != code {
					t.Errorf("want %d: %v", code, r)
				}
				if r := c.Try("task", "exec", "--exec-id", fmt.Sprintf("x%d-%d", w, i), "box", "sh", "-c", fmt.Sprint("exit ", code)); r.Code != code {
					t.Errorf("want %d of exec: %v", code, r)
				}
			}
		})
	}
	all.Wait()
	if keepers := c.shimProcesses("keeper"); len(keepers) != 1 {
		t.Errorf("keepers: %v", keepers)
	}
}

// killWorkers kills the worker again and again until the returned function is called, which says how often it was.
func (c *containerd) killWorkers() (stop func() int) {
	done := make(chan struct{})
	var killing sync.WaitGroup
	c.kills = &atomic.Int64{}
	keepers := c.shimProcesses("keeper")
	killing.Go(func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(time.Duration(100+37*(c.kills.Load()%7)) * time.Millisecond):
			}
			for _, keeper := range keepers {
				if pid := workerOf(keeper); pid != 0 && unix.Kill(pid, unix.SIGKILL) == nil {
					c.kills.Add(1)
				}
			}
		}
	})
	return func() int {
		close(done)
		killing.Wait()
		return int(c.kills.Load())
	}
}

// TestShimTerminalSurvives kills workers while they move a terminal's bytes, both ways: none is lost, none comes twice.
func TestShimTerminalSurvives(t *testing.T) {
	t.Parallel()
	defer working(t, containerdShim, "terminal")
	c := newContainerd(t, flavour{dir: newest, shim: true})
	const lines = 60
	script := fmt.Sprintf("stty -echo; echo ready; i=0; while [ $i -lt %d ]; do read line; echo $line; seq $((i * 1000)) $((i * 1000 + 999)); i=$((i + 1)); done; exit 4", lines)
	con, wait := c.Terminal(33, 99, c.line("tty", "--rm --tty", "sh", "-c", script)...)
	con.WaitFor("ready")
	stop := c.killWorkers()
	var want strings.Builder
	for i := range lines {
		line := fmt.Sprintf("line %d of %d", i, lines)
		con.Write(line + "\n")
		fmt.Fprintln(&want, line)
		for n := range 1000 {
			fmt.Fprintln(&want, i*1000+n)
		}
		time.Sleep(30 * time.Millisecond)
	}
	Equal(t, "exit status", wait(), 4)
	if kills := stop(); kills < 3 {
		t.Errorf("only %d kills", kills)
	}
	_, got, _ := strings.Cut(strings.ReplaceAll(con.Output(), "\r", ""), "ready\n") // both terminals put one in front of a newline
	if got != want.String() {
		t.Errorf("the terminal shows %d bytes, want %d", len(got), want.Len())
	}
}

// TestShimSurvives kills containerd, and workers again and again, under running containers and commands that wait for them.
func TestShimSurvives(t *testing.T) {
	t.Parallel()
	defer working(t, containerdShim, "killed containerd")
	c := newContainerd(t, flavour{dir: newest, shim: true})
	const boxes = 8
	var waiting sync.WaitGroup
	for i := range boxes {
		id := c.startBox(i)
		waiting.Go(func() {
			if r := c.Try("task", "exec", "--exec-id", "w", id, "sh", "-c", fmt.Sprintf("sleep 3; echo done; exit %d", 40+i)); r.Code != 40+i || r.Stdout != "done\n" {
				t.Errorf("want done, %d: %v", 40+i, r)
			}
		})
	}
	time.Sleep(500 * time.Millisecond) // until the execs run
	for range 3 {
		workers := c.shimProcesses("worker")
		if len(workers) != 1 {
			t.Fatalf("workers: %v", workers)
		}
		Must(t, unix.Kill(workers[0], unix.SIGKILL))
		Eventually(t, "another worker", func() error {
			if now := c.shimProcesses("worker"); len(now) != 1 || now[0] == workers[0] {
				return fmt.Errorf("%v", now)
			}
			return nil
		})
		c.wantRunning(boxes)
		if r := c.Try("task", "exec", "--exec-id", "e", "box0", "sh", "-c", "exit 6"); r.Code != 6 {
			t.Errorf("want 6: %v", r)
		}
	}
	waiting.Wait()

	_ = c.server.Process.Kill()
	_ = c.server.Wait()
	path, err := filepath.Abs(filepath.Join(newest, "containerd"))
	Must(t, err)
	c.start(path)
	c.wantRunning(boxes)
	c.endBoxes(boxes)
	if left, _ := os.ReadDir(fmt.Sprintf("/proc/%d/root/run/containerd/sock/default", c.Room.Pid())); len(left) > 0 {
		for _, e := range left {
			if e.Name() != ",seccomp" {
				t.Errorf("state is left: %s", e.Name())
			}
		}
	}
}

// TestShimKilledUnderLoad kills the worker again and again while containers and execs come and go: whatever it was doing, the
// next one does, and every exit status and every byte arrives.
func TestShimKilledUnderLoad(t *testing.T) {
	t.Parallel()
	defer working(t, containerdShim, "killed workers")
	c := newContainerd(t, flavour{dir: newest, shim: true})
	c.OK(c.line("box", "--detach", "sleep", "1000")...)
	stop := c.killWorkers()
	var all sync.WaitGroup
	for w := range 3 {
		all.Go(func() {
			for i := range 10 {
				code := 1 + w*10 + i
				id := fmt.Sprintf("box%d-%d", w, i)
				if r := c.Try(c.line(id, "--rm", "sh", "-c", fmt.Sprint("echo ", id, "; exit ", code))...); r.Code != code || r.Stdout != id+"\n" {
					t.Errorf("want %s, %d: %v", id, code, r)
				}
				id = fmt.Sprintf("x%d-%d", w, i)
				r := c.Try("task", "exec", "--exec-id", id, "box", "sh", "-c", fmt.Sprint("echo ", id, "; exit ", code))
				if r.Code != code || r.Stdout != id+"\n" {
					t.Errorf("want %s, %d of exec: %v", id, code, r)
				}
			}
		})
	}
	all.Wait()
	kills := stop()
	if kills < 5 {
		t.Errorf("only %d kills", kills)
	}
	t.Logf("%d kills", kills)
	if out := c.OK("task", "ls"); strings.Count(out, "RUNNING") != 1 {
		t.Errorf("tasks:\n%s", out)
	}
}
