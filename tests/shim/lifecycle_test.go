package shim

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	v2 "github.com/containerd/containerd/api/runtime/task/v2"
	runc "github.com/containerd/containerd/api/types/runc/options"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	. "github.com/sock-runtime/sock/tests/sandbox"
)

func TestLife(t *testing.T) {
	f := newFixture(t)
	r := f.request("box", Script("sleep 1000 & wait"))
	pid := f.created(r)
	Equal(t, "status", f.status("box", ""), "CREATED")
	state, err := f.task.State(ctx(), &v2.StateRequest{ID: "box"})
	Must(t, err)
	if state.ID != "box" || state.Bundle != r.Bundle || int(state.Pid) != pid || state.ExitStatus != 0 {
		t.Errorf("state is %v", state)
	}
	_, err = f.task.Start(ctx(), &v2.StartRequest{ID: "box"})
	Must(t, err)
	Equal(t, "status", f.status("box", ""), "RUNNING")

	_, err = f.task.Pause(ctx(), &v2.PauseRequest{ID: "box"})
	Must(t, err)
	Equal(t, "status", f.status("box", ""), "PAUSED")
	_, err = f.task.Resume(ctx(), &v2.ResumeRequest{ID: "box"})
	Must(t, err)
	Equal(t, "status", f.status("box", ""), "RUNNING")

	f.run("box", "second", "kill -TERM $$")
	Equal(t, "exit status of exec", f.waited("box", "second"), 128+15)
	Equal(t, "status of exec", f.status("box", "second"), "STOPPED")
	deleted, err := f.task.Delete(ctx(), &v2.DeleteRequest{ID: "box", ExecID: "second"})
	Must(t, err)
	Equal(t, "exit status", deleted.ExitStatus, 128+15)

	_, err = f.task.Kill(ctx(), &v2.KillRequest{ID: "box", Signal: uint32(unix.SIGKILL)})
	Must(t, err)
	Equal(t, "exit status", f.waited("box", ""), 137)
	Equal(t, "status", f.status("box", ""), "STOPPED")
	deleted, err = f.task.Delete(ctx(), &v2.DeleteRequest{ID: "box"})
	Must(t, err)
	if deleted.ExitStatus != 137 || int(deleted.Pid) != pid || deleted.ExitedAt == nil {
		t.Errorf("deleted is %v", deleted)
	}
	f.happened("create box", "start box", "paused", "resumed", "added second", "started second", "exit second 143", "exit box 137", "delete box 137")
}

// TestVersion3 speaks the other version of the API, whose messages have the same fields.
func TestVersion3(t *testing.T) {
	f := newFixture(t)
	call := func(method string, request, response any) {
		t.Helper()
		if err := f.client.Call(ctx(), "containerd.task.v3.Task", method, request, response); err != nil {
			t.Fatalf("%s: %v", method, err)
		}
	}
	call("Create", f.request("box"), &v2.CreateTaskResponse{})
	call("Start", &v2.StartRequest{ID: "box"}, &v2.StartResponse{})
	state := &v2.StateResponse{}
	call("State", &v2.StateRequest{ID: "box"}, state)
	Equal(t, "status", state.Status.String(), "RUNNING")
	f.killed("box")
}

// TestShort checks the events and the exit status of a process that is gone before Start has answered.
func TestShort(t *testing.T) {
	f := newFixture(t)
	f.started(f.request("box", Script("exit 3")))
	Equal(t, "exit status", f.waited("box", ""), 3)
	f.removed("box")
	f.happened("create box", "start box", "exit box 3", "delete box 3")
}

func TestDeleteCreated(t *testing.T) {
	f := newFixture(t)
	f.created(f.request("box"))
	deleted, err := f.task.Delete(ctx(), &v2.DeleteRequest{ID: "box"})
	Must(t, err)
	Equal(t, "exit status", deleted.ExitStatus, 137)
	f.happened("create box", "exit box 137", "delete box 137")
}

func TestKilledBeforeStart(t *testing.T) {
	f := newFixture(t)
	f.created(f.request("box"))
	_, err := f.task.Kill(ctx(), &v2.KillRequest{ID: "box", Signal: uint32(unix.SIGKILL)})
	Must(t, err)
	Equal(t, "exit status", f.waited("box", ""), 137)
	_, err = f.task.Start(ctx(), &v2.StartRequest{ID: "box"})
	refused(t, "start", err, codes.FailedPrecondition, "cannot start a stopped process")
	f.removed("box")
}

// TestSharedPIDs checks that the end of init is the last of a container that has no PID namespace of its own.
func TestSharedPIDs(t *testing.T) {
	f := newFixture(t)
	f.started(f.request("box", WithoutNamespace(specs.PIDNamespace)))
	f.run("box", "left", "trap '' TERM; sleep 1000")
	f.happened("create box", "start box", "added left", "started left")
	f.forgetEvents()
	_, err := f.task.Kill(ctx(), &v2.KillRequest{ID: "box", Signal: uint32(unix.SIGKILL)})
	Must(t, err)
	Equal(t, "exit status", f.waited("box", ""), 137)
	f.removed("box")
	f.happened("exit left 137", "exit box 137", "delete box 137")
}

func TestKillAll(t *testing.T) {
	f := newFixture(t)
	f.started(f.request("box", Script("sleep 1000 & wait")))
	f.run("box", "other", "exec sleep 1000")
	_, err := f.task.Kill(ctx(), &v2.KillRequest{ID: "box", Signal: uint32(unix.SIGKILL), All: true})
	Must(t, err)
	Equal(t, "exit status of exec", f.waited("box", "other"), 137)
	Equal(t, "exit status", f.waited("box", ""), 137)
	f.removed("box")
}

// TestPidsOfEnded checks that a task names its init also between its end and its delete: a containerd that starts removes
// tasks that name none.
func TestPidsOfEnded(t *testing.T) {
	f := newFixture(t)
	pid := f.started(f.request("box", Script("exit 5")))
	check := func() {
		t.Helper()
		pids, err := f.task.Pids(ctx(), &v2.PidsRequest{ID: "box"})
		Must(t, err)
		if len(pids.Processes) != 1 || pids.Processes[0].Pid != uint32(pid) {
			t.Errorf("pids: %v, want %d", pids.Processes, pid)
		}
	}
	for Alive(pid) {
		check()
	}
	Equal(t, "exit status", f.waited("box", ""), 5)
	check()
	f.removed("box")
}

func TestPidsAndUpdateAndStats(t *testing.T) {
	f := newFixture(t)
	pid := f.started(f.request("box"))
	second := f.run("box", "second", "sleep 1000")
	pids, err := f.task.Pids(ctx(), &v2.PidsRequest{ID: "box"})
	Must(t, err)
	found := map[int]string{}
	for _, p := range pids.Processes {
		details := &runc.ProcessDetails{}
		if p.Info != nil {
			Must(t, p.Info.UnmarshalTo(details))
		}
		found[int(p.Pid)] = details.ExecID
	}
	if id, ok := found[pid]; !ok || id != "" {
		t.Errorf("init %d in %v", pid, found)
	}
	Equal(t, "exec", found[second], "second")

	const limit = 64 << 20
	_, err = f.task.Update(ctx(), &v2.UpdateTaskRequest{ID: "box", Resources: packJSON(&specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: Ptr(int64(limit))}})})
	Must(t, err)
	stats, err := f.task.Stats(ctx(), &v2.StatsRequest{ID: "box"})
	Must(t, err)
	checkMetrics(t, stats.Stats, limit)

	_, err = f.task.Kill(ctx(), &v2.KillRequest{ID: "box", ExecID: "second", Signal: uint32(unix.SIGTERM)})
	Must(t, err)
	Equal(t, "exit status of exec", f.waited("box", "second"), 143)
	f.killed("box")
}

// TestRootfs mounts what containerd would: an overlay, and read-only binds.
func TestRootfs(t *testing.T) {
	parent := t
	f := newFixture(t)
	for _, kind := range []string{"overlay", "many layers", "very many layers", "bind", "idmapped"} {
		t.Run(kind, func(t *testing.T) {
			f.T = t
			defer func() { f.T = parent }()
			Need(t, kind != "idmapped" || KernelIs(6, 3), "the kernel maps no ids of a tmpfs, where the layers are")
			out := f.fifo("out-" + kind)
			text := f.reader(out)
			changes := []Change{Script("cat /etc/passwd | head -1; echo x > /written || echo read-only; stat -c %u /etc"), Writable}
			if kind == "idmapped" {
				changes = append(changes, InUserNamespace)
			}
			r := f.request("box", changes...)
			r.Stdout = out
			lower := filepath.Join(r.Bundle, "lower")
			Must(t, os.Rename(filepath.Join(r.Bundle, "rootfs"), lower))
			want := "root:x:0:0::/root:/bin/sh\n0\n"
			r.Rootfs = f.snapshot(kind, r.Bundle, lower)
			if kind == "bind" {
				want = "root:x:0:0::/root:/bin/sh\nread-only\n0\n"
			}
			if kind == "very many layers" && !KernelIs(6, 8) { // which takes them one by one
				_, err := f.task.Create(ctx(), r)
				refused(t, "too many layers", err, codes.Unknown, "rootfs[0]: mount overlay of overlay")
				return
			}
			f.started(r)
			Equal(t, "exit status", f.waited("box", ""), 0)
			f.said("output", text, want)
			if _, err := os.Stat(filepath.Join(lower, "written")); err == nil {
				t.Error("the lower layer is written to")
			}
			f.removed("box")
			if entries, _ := os.ReadDir(filepath.Join(r.Bundle, "rootfs")); len(entries) > 0 {
				t.Errorf("the root file system is still mounted: %v", entries)
			}
			if left, _ := filepath.Glob(filepath.Join(r.Bundle, ".layers-*")); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
		})
	}
}

func TestOptions(t *testing.T) {
	f := newFixture(t)
	// runc's type, with a binary that doesn't exist: it isn't executed.
	r := f.request("box")
	r.Options = pack(&runc.Options{BinaryName: "/nonexistent", Root: f.root, IoUid: 1000, IoGid: 1000})
	r.Stdout = f.fifo("out")
	f.started(r)
	var st unix.Stat_t
	Must(t, unix.Stat(r.Stdout, &st))
	Equal(t, "owner of stdout", st.Uid, 0) // the process's again, who is root
	if _, err := os.Stat(filepath.Join(f.root, namespace, "box/state.json")); err != nil {
		t.Error(err)
	}
	f.killed("box")

	r = f.request("bad")
	r.Options = &anypb.Any{TypeUrl: "example.Options", Value: []byte{8, 1}}
	_, err := f.task.Create(ctx(), r)
	refused(t, "unknown options", err, codes.InvalidArgument, `unknown type "example.Options"`)
}

func TestTwice(t *testing.T) {
	f := newFixture(t)
	r := f.request("box")
	f.created(r)
	_, err := f.task.Create(ctx(), r)
	refused(t, "create", err, codes.AlreadyExists, "task box")
	_, err = f.task.Resume(ctx(), &v2.ResumeRequest{ID: "box"})
	refused(t, "resume", err, codes.FailedPrecondition, "cannot resume a created container")
	_, err = f.task.Start(ctx(), &v2.StartRequest{ID: "box"})
	Must(t, err)
	_, err = f.task.Start(ctx(), &v2.StartRequest{ID: "box"})
	refused(t, "start", err, codes.FailedPrecondition, "cannot start a running process")
	f.run("box", "x", "exec sleep 1000")
	_, err = f.task.Start(ctx(), &v2.StartRequest{ID: "box", ExecID: "x"})
	refused(t, "start of exec", err, codes.FailedPrecondition, "cannot start a running process")
	f.killed("box")
}

func TestBadInput(t *testing.T) {
	f := newFixture(t)
	create := func(id string, change func(*v2.CreateTaskRequest)) error {
		r := f.request("box")
		r.ID = id
		change(r)
		_, err := f.task.Create(ctx(), r)
		return err
	}
	refused(t, "no such bundle", create("b1", func(r *v2.CreateTaskRequest) { r.Bundle = "/nonexistent" }), codes.NotFound, "bundle /nonexistent")
	refused(t, "bad id", create("../b", func(*v2.CreateTaskRequest) {}), codes.InvalidArgument, "id")
	refused(t, "empty id", create("", func(*v2.CreateTaskRequest) {}), codes.InvalidArgument, "id")
	refused(t, "checkpoint", create("b2", func(r *v2.CreateTaskRequest) { r.Checkpoint = "/c" }), codes.Unimplemented, "checkpoint")
	refused(t, "broken config", create("b3", func(r *v2.CreateTaskRequest) {
		WriteFile(t, filepath.Join(r.Bundle, "config.json"), `{"ociVersion": "1.0.0", "process": [`, 0o644)
	}), codes.Unknown, "config.json")
	refused(t, "no config", create("b4", func(r *v2.CreateTaskRequest) {
		Must(t, os.Remove(filepath.Join(r.Bundle, "config.json")))
	}), codes.Unknown, "config.json")
	refused(t, "no FIFO", create("b5", func(r *v2.CreateTaskRequest) { r.Stdout = "/nonexistent/fifo" }), codes.Unknown, "/nonexistent/fifo")
	refused(t, "unknown scheme", create("b6", func(r *v2.CreateTaskRequest) { r.Stdout = "gopher://x" }), codes.Unknown, "gopher")
	refused(t, "terminal", create("b7", func(r *v2.CreateTaskRequest) { r.Terminal = true }), codes.Unknown, "process.terminal")
	refused(t, "executable", func() error {
		_, err := f.task.Create(ctx(), f.request("b8", Args("missing")))
		return err
	}(), codes.Unknown, `OCI runtime create failed: unable to start container process: exec: "missing": executable file not found in $PATH`)

	unknown := "container not created"
	_, err := f.task.Start(ctx(), &v2.StartRequest{ID: "nobody"})
	refused(t, "start", err, codes.NotFound, unknown)
	_, err = f.task.Kill(ctx(), &v2.KillRequest{ID: "nobody", Signal: 9})
	refused(t, "kill", err, codes.NotFound, unknown)
	_, err = f.task.Delete(ctx(), &v2.DeleteRequest{ID: "nobody"})
	refused(t, "delete", err, codes.NotFound, unknown)
	_, err = f.task.Checkpoint(ctx(), &v2.CheckpointTaskRequest{ID: "nobody"})
	refused(t, "checkpoint", err, codes.NotFound, unknown)
	if response, err := f.task.Connect(ctx(), &v2.ConnectRequest{ID: "nobody"}); err != nil || response.ShimPid == 0 {
		t.Errorf("connect: %v, %v", response, err)
	}

	r := f.request("box")
	f.created(r)
	_, err = f.task.Checkpoint(ctx(), &v2.CheckpointTaskRequest{ID: "box"})
	refused(t, "checkpoint", err, codes.Unimplemented, "checkpoint")
	_, err = f.task.Kill(ctx(), &v2.KillRequest{ID: "box", Signal: 1000})
	refused(t, "bad signal", err, codes.InvalidArgument, "")
	_, err = f.task.Exec(ctx(), &v2.ExecProcessRequest{ID: "box", ExecID: "x", Spec: &anypb.Any{Value: []byte("{")}})
	refused(t, "bad process", err, codes.InvalidArgument, "decode its process")
	_, err = f.task.Exec(ctx(), &v2.ExecProcessRequest{ID: "box", ExecID: "a/b", Spec: packJSON(&specs.Process{})})
	refused(t, "bad exec id", err, codes.InvalidArgument, "exec id")
	_, err = f.task.Update(ctx(), &v2.UpdateTaskRequest{ID: "box", Resources: &anypb.Any{Value: []byte("[")}})
	refused(t, "bad resources", err, codes.InvalidArgument, "decode resources")
	_, err = f.task.Start(ctx(), &v2.StartRequest{ID: "box", ExecID: "nobody"})
	refused(t, "unknown exec", err, codes.NotFound, "process does not exist nobody")
	f.killed("box")
	_, err = f.task.Delete(ctx(), &v2.DeleteRequest{ID: "box"})
	refused(t, "second delete", err, codes.NotFound, unknown)
}

func TestExecRefused(t *testing.T) {
	f := newFixture(t)
	f.started(f.request("box"))
	f.added("box", "x", "true")
	_, err := f.task.Exec(ctx(), &v2.ExecProcessRequest{ID: "box", ExecID: "x", Spec: packJSON(&specs.Process{Args: []string{"other"}, Cwd: "/"})})
	refused(t, "same id", err, codes.AlreadyExists, "id x")
	_, err = f.task.Kill(ctx(), &v2.KillRequest{ID: "box", ExecID: "x", Signal: 9})
	refused(t, "kill before start", err, codes.FailedPrecondition, "process not created")

	_, err = f.task.Exec(ctx(), &v2.ExecProcessRequest{ID: "box", ExecID: "missing", Spec: packJSON(&specs.Process{Args: []string{"missing"}, Cwd: "/", Env: []string{"PATH=/bin"}})})
	Must(t, err)
	_, err = f.task.Start(ctx(), &v2.StartRequest{ID: "box", ExecID: "missing"})
	refused(t, "missing", err, codes.Unknown, `OCI runtime exec failed: exec failed: unable to start container process: exec: "missing": executable file not found in $PATH`)
	Equal(t, "exit status", f.waited("box", "missing"), 255)
	_, err = f.task.Delete(ctx(), &v2.DeleteRequest{ID: "box", ExecID: "missing"})
	Must(t, err)

	pid := f.run("box", "long", "sleep 1000")
	if pid == 0 {
		t.Error("no pid")
	}
	_, err = f.task.Delete(ctx(), &v2.DeleteRequest{ID: "box", ExecID: "long"})
	refused(t, "delete a running exec", err, codes.FailedPrecondition, "cannot delete a running process")
	_, err = f.task.Delete(ctx(), &v2.DeleteRequest{ID: "box"})
	refused(t, "delete a running container", err, codes.FailedPrecondition, "cannot delete a running process")

	_, err = f.task.Pause(ctx(), &v2.PauseRequest{ID: "box"})
	Must(t, err)
	_, err = f.task.Exec(ctx(), &v2.ExecProcessRequest{ID: "box", ExecID: "frozen", Spec: packJSON(&specs.Process{Args: []string{"true"}, Cwd: "/"})})
	refused(t, "exec in a paused container", err, codes.FailedPrecondition, "cannot exec in a paused container")
	_, err = f.task.Resume(ctx(), &v2.ResumeRequest{ID: "box"})
	Must(t, err)

	_, err = f.task.Kill(ctx(), &v2.KillRequest{ID: "box", Signal: uint32(unix.SIGKILL)})
	Must(t, err)
	f.waited("box", "")
	_, err = f.task.Exec(ctx(), &v2.ExecProcessRequest{ID: "box", ExecID: "late", Spec: packJSON(&specs.Process{Args: []string{"true"}, Cwd: "/"})})
	refused(t, "exec in a stopped container", err, codes.FailedPrecondition, "cannot exec in a stopped container")
	_, err = f.task.Start(ctx(), &v2.StartRequest{ID: "box", ExecID: "x"})
	refused(t, "start an exec in a stopped container", err, codes.FailedPrecondition, "init process is not running")
	_, err = f.task.Kill(ctx(), &v2.KillRequest{ID: "box", Signal: 9})
	refused(t, "kill a stopped container", err, codes.NotFound, "process already finished")
	_, err = f.task.Pause(ctx(), &v2.PauseRequest{ID: "box"})
	refused(t, "pause a stopped container", err, codes.FailedPrecondition, "cannot pause a stopped container")
	_, err = f.task.Update(ctx(), &v2.UpdateTaskRequest{ID: "box", Resources: packJSON(&specs.LinuxResources{})})
	refused(t, "update a stopped container", err, codes.FailedPrecondition, "stopped")
	f.removed("box")
}

// TestWaitIsLeft has a client that goes away while it waits.
func TestWaitIsLeft(t *testing.T) {
	f := newFixture(t)
	f.started(f.request("box"))
	short, cancel := context.WithCancel(ctx())
	done := make(chan error, 1)
	go func() {
		_, err := f.task.Wait(short, &v2.WaitRequest{ID: "box"})
		done <- err
	}()
	cancel()
	if err := <-done; err == nil {
		t.Error("waited")
	}
	Equal(t, "status", f.status("box", ""), "RUNNING")
	f.killed("box")
}

func TestOOM(t *testing.T) {
	f := newFixture(t)
	f.started(f.request("box", Script("x=0123456789; while :; do x=$x$x; done"), func(c *specs.Spec) {
		c.Linux.Resources.Memory = &specs.LinuxMemory{Limit: Ptr(int64(16 << 20)), Swap: Ptr(int64(16 << 20))}
	}))
	Equal(t, "exit status", f.waited("box", ""), 137)
	f.removed("box")
	Eventually(t, "the end", func() error {
		f.mu.Lock()
		defer f.mu.Unlock()
		if n := len(f.events); n < 5 || f.events[n-1] != "delete box 137" {
			return fmt.Errorf("%q", f.events)
		}
		return nil
	})
	if f.events[2] != "oom box" {
		t.Errorf("events are %q", f.events)
	}
}

// TestContainerdAway checks that events wait for containerd, in order.
func TestContainerdAway(t *testing.T) {
	f := newFixture(t)
	f.mu.Lock()
	f.refuse = true
	f.mu.Unlock()
	f.started(f.request("box", Args("true")))
	f.waited("box", "")
	f.removed("box")
	f.mu.Lock()
	f.refuse = false
	f.mu.Unlock()
	f.happened("create box", "start box", "exit box 0", "delete box 0")
	Eventually(t, "an empty journal", func() error {
		if info, err := os.Stat(f.dir + "/events"); err != nil || info.Size() != 8 {
			return fmt.Errorf("%v, %v", info, err)
		}
		return nil
	})
}

// TestFullDisk fills the worker's directory: nothing new can be made, with a clear error and nothing left of it, and what
// runs is not affected.
func TestFullDisk(t *testing.T) {
	var dir string
	f := newFixtureIn(t, func(d string) {
		dir = d
		Must(t, unix.Mount("disk", d, "tmpfs", 0, "size=64k"))
	})
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	f.started(f.request("box", Script("trap 'exit 3' TERM; while :; do sleep 0.01; done")))
	filler := filepath.Join(dir, "filler")
	err := os.WriteFile(filler, make([]byte, 1<<20), 0o600)
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	r := f.request("late")
	_, err = f.task.Create(ctx(), r)
	refused(t, "create", err, codes.ResourceExhausted, "record task late: no space left on device")
	for _, name := range []string{filepath.Join(f.root, namespace, "late"), filepath.Join(dir, "tasks/late")} {
		if _, err := os.Lstat(name); err == nil {
			t.Errorf("%s is left", name)
		}
	}
	_, err = f.task.Exec(ctx(), &v2.ExecProcessRequest{ID: "box", ExecID: "x", Spec: packJSON(&specs.Process{Args: []string{"true"}, Cwd: "/", Env: []string{"PATH=/bin"}})})
	refused(t, "exec", err, codes.ResourceExhausted, "no space left on device")
	_, err = f.task.Kill(ctx(), &v2.KillRequest{ID: "box", Signal: uint32(unix.SIGTERM)})
	Must(t, err)
	Equal(t, "exit status", f.waited("box", ""), 3)
	f.happened("create box", "start box", "exit box 3")
	f.removed("box")
	Must(t, os.Remove(filler))
	f.started(r)
	f.killed("late")
}

var storm = flag.Int("storm", 320, "how many processes TestStorm starts")

// TestStorm starts many short processes at once and checks each one's exit status.
func TestStorm(t *testing.T) {
	f := newFixture(t)
	f.started(f.request("box"))
	const workers = 8
	each := *storm / workers
	if testing.Short() {
		each /= 4
	}
	var all sync.WaitGroup
	for w := range workers {
		all.Go(func() {
			for i := range each {
				id, code := fmt.Sprintf("x%d-%d", w, i), uint32((w*each+i)%200)
				f.run("box", id, fmt.Sprint("exit ", code))
				if got := f.waited("box", id); got != code {
					t.Errorf("%s ended with %d", id, got)
				}
				if _, err := f.task.Delete(ctx(), &v2.DeleteRequest{ID: "box", ExecID: id}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	f.killed("box")
}

func TestManyRequests(t *testing.T) {
	f := newFixture(t)
	r := f.request("box")
	f.started(r)
	var all sync.WaitGroup
	for i := range 2000 {
		all.Go(func() {
			var err error
			switch i % 4 {
			case 0:
				_, err = f.task.State(ctx(), &v2.StateRequest{ID: "box"})
			case 1:
				_, err = f.task.Pids(ctx(), &v2.PidsRequest{ID: "box"})
			case 2:
				_, err = f.task.Connect(ctx(), &v2.ConnectRequest{ID: "box"})
			default:
				_, err = f.task.Wait(ctx(), &v2.WaitRequest{ID: "box"})
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	_, err := f.task.Kill(ctx(), &v2.KillRequest{ID: "box", Signal: uint32(unix.SIGKILL)})
	Must(t, err)
	all.Wait()
	f.removed("box")
}

// TestManyContainers makes containers at once, among them ones that can't be made.
func TestManyContainers(t *testing.T) {
	f := newFixture(t)
	var all sync.WaitGroup
	for i := range 16 {
		id := fmt.Sprint("box", i)
		r := f.request(id, Script(fmt.Sprint("exit ", i)))
		if i%4 == 3 {
			r = f.request(id, Args("missing"))
		}
		all.Go(func() {
			if i%4 == 3 {
				if _, err := f.task.Create(ctx(), r); err == nil {
					t.Error("there is no such executable")
				}
				return
			}
			f.started(proto.Clone(r).(*v2.CreateTaskRequest))
			if got := f.waited(id, ""); got != uint32(i) {
				t.Errorf("%s ended with %d", id, got)
			}
			f.removed(id)
		})
	}
	all.Wait()
}
