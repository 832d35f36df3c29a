package shim

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	v2 "github.com/containerd/containerd/api/runtime/task/v2"
	"github.com/containerd/ttrpc"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sock-runtime/sock/shim/rendezvous"
	. "github.com/sock-runtime/sock/tests/sandbox"
)

// short adds, starts and deletes an exec that exits with code at once. It deletes it as soon as that is allowed: Delete races
// with the exit.
func (f *fixture) short(box, id string, code uint32) error {
	_, err := f.task.Exec(ctx(), &v2.ExecProcessRequest{ID: box, ExecID: id, Spec: packJSON(&specs.Process{
		Args: []string{"sh", "-c", fmt.Sprint("exit ", code)}, Cwd: "/", Env: []string{"PATH=/bin"},
	})})
	if err != nil {
		return fmt.Errorf("exec %s: %w", id, err)
	}
	if _, err := f.task.Start(ctx(), &v2.StartRequest{ID: box, ExecID: id}); err != nil {
		return fmt.Errorf("start %s: %w", id, err)
	}
	for deadline := time.Now().Add(SettleTimeout); ; time.Sleep(time.Millisecond) {
		deleted, err := f.task.Delete(ctx(), &v2.DeleteRequest{ID: box, ExecID: id})
		switch {
		case status.Code(err) == codes.FailedPrecondition && time.Now().Before(deadline): // it runs
		case err != nil:
			return fmt.Errorf("delete %s: %w", id, err)
		case deleted.ExitStatus != code || deleted.Pid == 0:
			return fmt.Errorf("%s ended with %d, want %d (pid %d)", id, deleted.ExitStatus, code, deleted.Pid)
		default:
			return nil
		}
	}
}

// storm runs short execs in several containers, and checks each status, and in the end the events: repeated ones are allowed
// where the worker was replaced.
func (f *fixture) storm(each int, repeats bool) {
	f.Helper()
	const boxes, hands = 4, 2
	for b := range boxes {
		f.started(f.request(fmt.Sprint("box", b)))
	}
	var all sync.WaitGroup
	var want []string
	for b := range boxes {
		for h := range hands {
			for i := range each {
				want = append(want, fmt.Sprintf("exit x%d-%d-%d %d", b, h, i, (b*31+h*17+i)%200))
			}
			all.Go(func() {
				for i := range each {
					if err := f.short(fmt.Sprint("box", b), fmt.Sprintf("x%d-%d-%d", b, h, i), uint32((b*31+h*17+i)%200)); err != nil {
						f.Error(err)
					}
				}
			})
		}
	}
	all.Wait()
	for b := range boxes {
		id := fmt.Sprint("box", b)
		Equal(f.T, "status", f.status(id, ""), "RUNNING")
		want = append(want, fmt.Sprint("exit ", id, " 137"))
		f.killed(id)
	}
	// Each exec's events come in their order, also those that come again.
	Eventually(f.T, "all events", func() error {
		f.mu.Lock()
		defer f.mu.Unlock()
		times, last := map[string]int{}, map[string]int{}
		for _, event := range f.events {
			times[event]++
			words := strings.Fields(event)
			step := slices.Index([]string{"added", "started", "exit"}, words[0])
			if !strings.HasPrefix(words[1], "x") || step < 0 {
				continue
			}
			if step != last[words[1]] && !(repeats && step == last[words[1]]-1) {
				f.Fatalf("%q comes when %d events of %s have come", event, last[words[1]], words[1])
			}
			last[words[1]] = step + 1
		}
		for _, event := range want {
			if n := times[event]; n == 0 {
				return fmt.Errorf("no %q among %d events", event, len(f.events))
			} else if n > 1 && !repeats {
				f.Fatalf("%d times %q", n, event)
			}
		}
		return nil
	})
}

// TestShortProcesses races with the ends of short processes in several containers.
func TestShortProcesses(t *testing.T) {
	f := newLongShim(t)
	f.storm(*storm/8, false)
	f.noZombies()
}

// noZombies checks that the keeper has reaped all that have ended.
func (f *fixture) noZombies() {
	f.Helper()
	Eventually(f.T, "no child but the worker", func() error {
		children := f.children()
		if len(children) != 1 || children[0] != f.workerPid() {
			return fmt.Errorf("children %v, worker %d", children, f.workerPid())
		}
		return nil
	})
}

// TestWorkersKilled kills the worker again and again meanwhile.
func TestWorkersKilled(t *testing.T) {
	f := newLongShim(t)
	done := make(chan struct{})
	var kills int
	var killing sync.WaitGroup
	killing.Go(func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(time.Duration(20+23*(kills%9)) * time.Millisecond):
			}
			if f.killWorker() {
				kills++
			}
		}
	})
	f.storm(*storm/16, true)
	close(done)
	killing.Wait()
	if kills < 3 {
		t.Errorf("only %d kills", kills)
	}
	t.Logf("%d kills", kills)
	f.noZombies()
}

// TestUpgradedUnderLoad replaces keeper and worker by other files meanwhile.
func TestUpgradedUnderLoad(t *testing.T) {
	f := newLongShim(t)
	data, err := os.ReadFile(filepath.Join(programs, "sock-shimd"))
	Must(t, err)
	done := make(chan struct{})
	var upgrades int
	var upgrading sync.WaitGroup
	upgrading.Go(func() {
		for {
			name := filepath.Join(f.Dir, fmt.Sprint("sock-shimd-", upgrades))
			if err := os.WriteFile(name, data, 0o700); err != nil {
				t.Error(err)
				return
			}
			if out, err := exec.Command(filepath.Join(programs, "sock-shimd"), "upgrade", name, f.dir).CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
				return
			}
			want, err := os.Stat(name)
			if err != nil {
				t.Error(err)
				return
			}
			Eventually(t, "the new worker", func() error {
				now, err := os.Stat(fmt.Sprintf("/proc/%d/exe", f.workerPid()))
				if err != nil || !os.SameFile(now, want) {
					return fmt.Errorf("worker %d runs another file (%v)", f.workerPid(), err)
				}
				return nil
			})
			upgrades++
			select {
			case <-done:
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
	})
	f.storm(*storm/16, true)
	close(done)
	upgrading.Wait()
	t.Logf("%d upgrades", upgrades)
	Equal(t, "the keeper", f.findKeeper(), f.keeper)
	f.noZombies()
}

// TestOrphans has containers that share the host's PID namespace leave processes behind, whose parent the keeper becomes: it
// reaps them, and takes none for the container's.
func TestOrphans(t *testing.T) {
	f := newShim(t)
	const orphans = 200
	script := fmt.Sprintf("i=0; while [ $i -lt %d ]; do (sh -c 'exit 9' &); i=$((i + 1)); done; exit 4", orphans)
	for _, id := range []string{"one", "two"} {
		f.started(f.request(id, Script(script), WithoutNamespace(specs.PIDNamespace)))
	}
	f.started(f.request("box", WithoutNamespace(specs.PIDNamespace)))
	f.run("box", "x", script)
	Equal(t, "exit status of exec", f.waited("box", "x"), 4)
	for _, id := range []string{"one", "two"} {
		Equal(t, "exit status", f.waited(id, ""), 4)
		f.removed(id)
	}
	f.killed("box")
	f.noZombies()
	// The keeper remembers no end that nobody wants: another worker would get them all.
	before := f.workerPid()
	Must(t, unix.Kill(before, unix.SIGKILL))
	f.started(f.request("after", Args("true")))
	Equal(t, "exit status", f.waited("after", ""), 0)
	f.removed("after")
}

// TestKillAllStorm kills everything of containers while processes come and go.
func TestKillAllStorm(t *testing.T) {
	f := newShim(t)
	for _, shared := range []bool{false, true} {
		changes := []Change{Script("while :; do sh -c 'exit 1'; done")}
		if shared {
			changes = append(changes, WithoutNamespace(specs.PIDNamespace))
		}
		f.started(f.request("box", changes...))
		var execs []string
		for i := range 8 {
			id := fmt.Sprint("x", i)
			f.run("box", id, "sleep 1000 & sleep 1000 & while :; do sh -c 'exit 2'; done")
			execs = append(execs, id)
		}
		_, err := f.task.Kill(ctx(), &v2.KillRequest{ID: "box", Signal: uint32(unix.SIGKILL), All: true})
		Must(t, err)
		for _, id := range execs {
			Equal(t, "exit status of "+id, f.waited("box", id), 137)
			_, err := f.task.Delete(ctx(), &v2.DeleteRequest{ID: "box", ExecID: id})
			Must(t, err)
		}
		Equal(t, "exit status", f.waited("box", ""), 137)
		f.removed("box")
	}
	f.noZombies()
}

// TestPidUsedAgain gives processes the pid of one that has ended: each has its own status.
func TestPidUsedAgain(t *testing.T) {
	const last = "/proc/sys/kernel/ns_last_pid"
	f := newLongShim(t)
	f.started(f.request("box"))
	again := 0
	for i := 0; i < 300 && again < 3; i++ {
		first, second := fmt.Sprint("first", i), fmt.Sprint("second", i)
		pid := f.run("box", first, "exit 7")
		Equal(t, "exit status", f.waited("box", first), 7)
		f.added("box", second, "exit 8")
		if err := os.WriteFile(last, []byte(fmt.Sprint(pid-1)), 0); err != nil {
			t.Skip(err) // without CONFIG_CHECKPOINT_RESTORE
		}
		response, err := f.task.Start(ctx(), &v2.StartRequest{ID: "box", ExecID: second})
		Must(t, err)
		if int(response.Pid) == pid {
			again++
		}
		Equal(t, "exit status", f.waited("box", second), 8)
		for id, want := range map[string]uint32{first: 7, second: 8} {
			deleted, err := f.task.Delete(ctx(), &v2.DeleteRequest{ID: "box", ExecID: id})
			Must(t, err)
			Equal(t, "exit status", deleted.ExitStatus, want)
		}
	}
	t.Logf("%d times", again)
	f.killed("box")
}

// TestSameID has many ask for the same at once: one of them gets it.
func TestSameID(t *testing.T) {
	f := newShim(t)
	r := f.request("box")
	once := func(what string, others codes.Code, do func() error) {
		t.Helper()
		var succeeded atomic.Int32
		var all sync.WaitGroup
		for range 16 {
			all.Go(func() {
				if err := do(); err == nil {
					succeeded.Add(1)
				} else if status.Code(err) != others {
					t.Errorf("%s: %v", what, err)
				}
			})
		}
		all.Wait()
		Equal(t, "number of those that could "+what, succeeded.Load(), 1)
	}
	once("create", codes.AlreadyExists, func() error { _, err := f.task.Create(ctx(), r); return err })
	once("start", codes.FailedPrecondition, func() error { _, err := f.task.Start(ctx(), &v2.StartRequest{ID: "box"}); return err })
	// An exec may have the container's name.
	for _, id := range []string{"x", "box"} {
		added := &v2.ExecProcessRequest{ID: "box", ExecID: id, Spec: packJSON(&specs.Process{Args: []string{"sh", "-c", "exit 5"}, Cwd: "/", Env: []string{"PATH=/bin"}})}
		once("exec", codes.AlreadyExists, func() error { _, err := f.task.Exec(ctx(), added); return err })
		once("start exec", codes.FailedPrecondition, func() error {
			_, err := f.task.Start(ctx(), &v2.StartRequest{ID: "box", ExecID: id})
			return err
		})
		Equal(t, "exit status of exec", f.waited("box", id), 5)
		once("delete exec", codes.NotFound, func() error {
			_, err := f.task.Delete(ctx(), &v2.DeleteRequest{ID: "box", ExecID: id})
			return err
		})
	}
	Equal(t, "status", f.status("box", ""), "RUNNING")
	_, err := f.task.Kill(ctx(), &v2.KillRequest{ID: "box", Signal: uint32(unix.SIGKILL)})
	Must(t, err)
	Equal(t, "exit status", f.waited("box", ""), 137)
	once("delete", codes.NotFound, func() error { _, err := f.task.Delete(ctx(), &v2.DeleteRequest{ID: "box"}); return err })
}

// TestThousandsAtOnce sends thousands of requests at once, on many connections, while the worker is killed: all are answered.
func TestThousandsAtOnce(t *testing.T) {
	f := newLongShim(t)
	f.started(f.request("box"))
	clients := []v2.TTRPCTaskService{f.task}
	for range 40 {
		client := ttrpc.NewClient(f.dial(rendezvous.TaskSocket))
		defer client.Close()
		clients = append(clients, v2.NewTTRPCTaskClient(client))
	}
	limit, cancel := context.WithTimeout(ctx(), 2*SettleTimeout)
	defer cancel()
	var all, others sync.WaitGroup
	for i := range 4000 {
		c := clients[i%len(clients)]
		wait := i%4 == 0
		group := &others
		if wait {
			group = &all
		}
		group.Go(func() {
			var err error
			switch i % 4 {
			case 0:
				_, err = c.Wait(limit, &v2.WaitRequest{ID: "box"})
			case 1:
				_, err = c.State(limit, &v2.StateRequest{ID: "box"})
			case 2:
				if _, err = c.State(limit, &v2.StateRequest{ID: "nobody"}); status.Code(err) == codes.NotFound {
					err = nil
				} else {
					err = fmt.Errorf("state of nobody: %w", err)
				}
			default:
				_, err = c.Pids(limit, &v2.PidsRequest{ID: "box"})
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	for range 3 {
		time.Sleep(20 * time.Millisecond)
		f.killWorker()
	}
	others.Wait()
	Eventually(t, "a worker", func() error {
		if f.workerPid() == 0 {
			return errors.New("there is none")
		}
		return nil
	})
	_, err := f.task.Kill(ctx(), &v2.KillRequest{ID: "box", Signal: uint32(unix.SIGKILL)})
	Must(t, err)
	all.Wait()
	f.removed("box")
}
