package cgroup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to create cgroups")
	}
}

// testGroup returns a group of the host's mode, below a cgroup of this test
// process. What is left of both is removed in the end.
func testGroup(t testing.TB) *Group {
	t.Helper()
	needRoot(t)
	hierarchies, err := Hierarchies()
	if err != nil {
		t.Fatal(err)
	}
	return testGroupIn(t, HostMode(), hierarchies)
}

// testGroupV2 returns a group on cgroup v2, which hybrid hosts have, too.
func testGroupV2(t testing.TB) *Group {
	t.Helper()
	needRoot(t)
	h := Hierarchy{Name: "unified", Mount: root, V2: true, Own: "/"}
	switch HostMode() {
	case Legacy:
		t.Skip("no cgroup v2 is mounted")
	case Hybrid:
		h.Mount = root + "/unified"
	}
	return testGroupIn(t, Unified, []Hierarchy{h})
}

func testGroupIn(t testing.TB, mode Mode, hierarchies []Hierarchy) *Group {
	t.Helper()
	name := strings.ReplaceAll(t.Name(), "/", "-")
	g, err := newGroup(Config{Path: fmt.Sprintf("/sock-test-%d/%s", os.Getpid(), name)}, mode, hierarchies)
	if err != nil {
		t.Fatal(err)
	}
	dirs := slices.Clone(g.dirs)
	t.Cleanup(func() {
		for _, d := range dirs {
			waitFor(t, "the removal of "+d.path, func() bool { return removeTree(filepath.Dir(d.path)) == nil })
		}
	})
	return g
}

// startIn starts a shell script in the group; it is killed in the end.
func startIn(t testing.TB, g *Group, script string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-c", script)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if g.Unified() {
		dir, err := g.Dir()
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(dir)
		cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, dir
	} else {
		files, err := g.OpenJoin()
		if err != nil {
			t.Fatal(err)
		}
		join := ""
		for i, fd := range files {
			f := os.NewFile(uintptr(fd), "tasks")
			defer f.Close()
			cmd.ExtraFiles = append(cmd.ExtraFiles, f)
			join += fmt.Sprintf("echo 0 > /proc/self/fd/%d || exit 99\n", i+3)
		}
		cmd.Args[2] = join + script
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			_ = g.Signal(unix.SIGKILL) // with what the script started
			_ = cmd.Wait()
		}
	})
	waitFor(t, "the process to join", func() bool {
		pids, err := g.Pids(false)
		return err == nil && slices.Contains(pids, cmd.Process.Pid) || ended(cmd.Process.Pid)
	})
	return cmd
}

// ended says whether a child has ended, which a short script may do before anybody has looked; it isn't reaped.
func ended(pid int) bool {
	var info unix.Siginfo
	err := unix.Waitid(unix.P_PID, pid, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
	return err == nil && info.Signo != 0
}

func waitFor(t testing.TB, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func create(t testing.TB, g *Group) {
	t.Helper()
	if err := g.Create(); err != nil {
		t.Fatal(err)
	}
}

// onBoth runs a test on the host's cgroups, and on v2 if that is another.
func onBoth(t *testing.T, test func(t *testing.T, g *Group)) {
	t.Run("host", func(t *testing.T) { test(t, testGroup(t)) })
	if HostMode() == Hybrid {
		t.Run("v2", func(t *testing.T) { test(t, testGroupV2(t)) })
	}
}

func TestLifecycle(t *testing.T) {
	onBoth(t, func(t *testing.T, g *Group) {
		if g.Exists() {
			t.Fatal("exists before it is created")
		}
		create(t, g)
		if err := g.Set(nil); err != nil {
			t.Fatal(err)
		}
		cmd := startIn(t, g, "exec sleep 60")
		saved, err := json.Marshal(g.Saved())
		if err != nil {
			t.Fatal(err)
		}
		var state Saved
		if err := json.Unmarshal(saved, &state); err != nil {
			t.Fatal(err)
		}
		again, err := Open(state)
		if err != nil {
			t.Fatal(err)
		}
		if !again.Exists() {
			t.Error("opened group doesn't exist")
		}
		byName := func(a, b MountSource) int { return strings.Compare(a.Name, b.Name) }
		got, want := again.MountSources(), slices.SortedFunc(slices.Values(g.MountSources()), byName)
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("mount sources after Open: %v, want %v", got, want)
		}
		memberships, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", cmd.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Count(string(memberships), t.Name()[strings.Index(t.Name(), "/")+1:]); got != len(g.MountSources()) {
			t.Errorf("process is in %d of %d hierarchies:\n%s", got, len(g.MountSources()), memberships)
		}
		// A second container can't have the same cgroup.
		if err := g.Create(); err == nil || !strings.Contains(err.Error(), "container's cgroup is not empty: 1 process(es) found") {
			t.Errorf("second create: %v", err)
		}
		if err := again.Signal(unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if err := again.Destroy(); err != nil { // before the zombie is reaped
			t.Fatal(err)
		}
		if again.Exists() {
			t.Error("exists after it was destroyed")
		}
		if err := again.Destroy(); err != nil {
			t.Errorf("second destroy: %v", err)
		}
		if err := again.Signal(unix.SIGKILL); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("signal to a destroyed cgroup: %v", err)
		}
	})
}

func TestCreateReusesEmpty(t *testing.T) {
	onBoth(t, func(t *testing.T, g *Group) {
		create(t, g)
		create(t, g)
		for _, d := range g.dirs {
			if d.fresh {
				t.Errorf("%s counts as fresh", d.path)
			}
		}
		if err := g.Freeze(); err != nil {
			t.Fatal(err)
		}
		if err := g.Create(); err == nil || !strings.Contains(err.Error(), "frozen") {
			t.Errorf("create over a frozen cgroup: %v", err)
		}
	})
}

func TestCreateFailureLeavesNothing(t *testing.T) {
	g := testGroup(t)
	g.dirs = append(g.dirs, dir{Hierarchy: Hierarchy{Name: "bad"}, path: "/proc/sock/x"})
	if err := g.Create(); err == nil {
		t.Fatal("made a directory in /proc")
	}
	for _, d := range g.dirs {
		if unix.Access(filepath.Dir(d.path), unix.F_OK) == nil {
			t.Errorf("%s is left", filepath.Dir(d.path))
		}
	}
}

func TestDestroyWithSubgroups(t *testing.T) {
	onBoth(t, func(t *testing.T, g *Group) {
		create(t, g)
		main, err := g.main()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(main.path+"/a/b", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := g.Destroy(); err != nil {
			t.Fatal(err)
		}
		if unix.Access(filepath.Dir(main.path), unix.F_OK) != nil {
			t.Error("the parent was removed, too")
		}
	})
}

func TestDestroyBusy(t *testing.T) {
	g := testGroup(t)
	create(t, g)
	startIn(t, g, "exec sleep 60")
	start := time.Now()
	if err := g.Destroy(); !errors.Is(err, unix.EBUSY) {
		t.Errorf("destroy with a process: %v", err)
	}
	if took := time.Since(start); took < destroyPatience || took > 2*destroyPatience {
		t.Errorf("took %s", took)
	}
}

func TestOpenRefusesDamagedState(t *testing.T) {
	for name, saved := range map[string]Saved{
		"mode":      {Mode: "x"},
		"relative":  {Mode: "hybrid", Paths: map[string]string{"memory": "a/b"}},
		"dots":      {Mode: "hybrid", Paths: map[string]string{"memory": root + "/memory/../.."}},
		"elsewhere": {Mode: "unified", Paths: map[string]string{"unified": "/tmp/x"}},
		"mount":     {Mode: "unified", Paths: map[string]string{"unified": root}},
		"hierarchy": {Mode: "hybrid", Paths: map[string]string{"memory": "/sys/fs/cgroup"}},
		"unit":      {Mode: "hybrid", Paths: map[string]string{"memory": root + "/memory/x.scope"}, Unit: "y.scope"},
	} {
		if _, err := Open(saved); err == nil {
			t.Errorf("%s: opened %v", name, saved)
		}
	}
}

func TestFreezeAndSignal(t *testing.T) {
	onBoth(t, func(t *testing.T, g *Group) {
		create(t, g)
		cmd := startIn(t, g, "trap 'exit 42' TERM; while :; do sleep 0.01; done")
		waitFor(t, "the trap to be set", func() bool {
			pids, err := g.Pids(false)
			return err == nil && len(pids) == 2
		})
		if frozen, err := g.Frozen(); frozen || err != nil {
			t.Fatalf("frozen: %v, %v", frozen, err)
		}
		if err := g.Freeze(); err != nil {
			t.Fatal(err)
		}
		if frozen, err := g.Frozen(); !frozen || err != nil {
			t.Fatalf("frozen: %v, %v", frozen, err)
		}
		// A paused container gets its signal when it is resumed.
		if err := g.Signal(unix.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if frozen, err := g.Frozen(); !frozen || err != nil {
			t.Fatalf("frozen after a signal: %v, %v", frozen, err)
		}
		if err := g.Thaw(); err != nil {
			t.Fatal(err)
		}
		if _ = cmd.Wait(); cmd.ProcessState.ExitCode() != 42 {
			t.Errorf("exit: %v", cmd.ProcessState)
		}
	})
}

func TestKillFrozenTree(t *testing.T) {
	onBoth(t, func(t *testing.T, g *Group) {
		create(t, g)
		cmd := startIn(t, g, "sleep 60 & sleep 60 & wait")
		waitFor(t, "three processes", func() bool {
			pids, err := g.Pids(true)
			return err == nil && len(pids) == 3
		})
		if err := g.Freeze(); err != nil {
			t.Fatal(err)
		}
		if err := g.Signal(unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		waitFor(t, "all to die", func() bool {
			pids, err := g.Pids(true)
			return err == nil && len(pids) == 0
		})
	})
}

func TestNotifyOOM(t *testing.T) {
	g := testGroup(t)
	create(t, g)
	limit := int64(8 << 20)
	if err := g.Set(&specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit}}); err != nil {
		t.Fatal(err)
	}
	oom, err := g.NotifyOOM(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	cmd := startIn(t, g, "sleep 0.1; tail /dev/zero; true")
	select {
	case _, ok := <-oom:
		if !ok {
			t.Fatal("channel closed before the OOM")
		}
	case <-time.After(10 * time.Second):
		t.Fatal("no notification")
	}
	_ = cmd.Wait()
	if err := g.Destroy(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.After(10 * time.Second); ; {
		select {
		case _, ok := <-oom:
			if !ok {
				return
			}
		case <-deadline:
			t.Fatal("channel still open after the cgroup was removed")
		}
	}
}

func TestNotifyOOMEndsWithContext(t *testing.T) {
	g := testGroup(t)
	create(t, g)
	ctx, cancel := context.WithCancel(context.Background())
	oom, err := g.NotifyOOM(ctx)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	select {
	case _, ok := <-oom:
		if ok {
			t.Error("notification of nothing")
		}
	case <-time.After(30 * time.Second):
		t.Error("channel still open")
	}
}

func TestMountSources(t *testing.T) {
	g := &Group{mode: Legacy, dirs: []dir{
		{Hierarchy: Hierarchy{Name: "cpu,cpuacct", Controllers: []string{"cpu", "cpuacct"}}, path: "/c"},
		{Hierarchy: Hierarchy{Name: "memory", Controllers: []string{"memory"}}, path: "/m"},
		{Hierarchy: Hierarchy{Name: "systemd"}, path: "/s"},
	}}
	want := "[{cpu,cpuacct [cpu cpuacct] /c cpu,cpuacct false} {memory [] /m memory false} {systemd [] /s none,name=systemd false}]"
	if got := fmt.Sprint(g.MountSources()); got != want {
		t.Errorf("v1: %s, want %s", got, want)
	}
	g.unit = &unit{}
	if got := g.MountSources(); got[0].Managed || !got[2].Managed {
		t.Errorf("unit on v1: %v", got)
	}
	g = &Group{mode: Unified, dirs: []dir{{Hierarchy: Hierarchy{Name: "unified", V2: true}, path: "/u"}}}
	if got, want := fmt.Sprint(g.MountSources()), "[{ [] /u  false}]"; got != want {
		t.Errorf("v2: %s, want %s", got, want)
	}
}

func TestRootlessWithoutPermission(t *testing.T) {
	// sysfs, where nobody makes directories, stands in for a hierarchy that is not ours.
	denied := Hierarchy{Name: "memory", Mount: "/sys", Controllers: []string{"memory"}}
	for _, tc := range []struct {
		cfg Config
		ok  bool
	}{
		{Config{ID: "x", Rootless: true}, true},
		{Config{ID: "x", Path: "/x", Rootless: true}, false},
		{Config{ID: "x"}, false},
	} {
		g := &Group{
			mode: Legacy, rootless: tc.cfg.Rootless, implicit: tc.cfg.Path == "",
			dirs: []dir{{Hierarchy: denied, path: denied.Mount + "/sock-test"}},
		}
		if err := g.Create(); (err == nil) != tc.ok {
			t.Errorf("%+v: %v", tc.cfg, err)
			continue
		}
		if !tc.ok {
			continue
		}
		if err := g.Set(nil); err != nil {
			t.Errorf("%+v: set nothing: %v", tc.cfg, err)
		}
		limit := int64(1 << 20)
		err := g.Set(&specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit}})
		if err == nil || !strings.HasPrefix(err.Error(), "linux.resources.memory.limit: no permission") {
			t.Errorf("%+v: set a limit: %v", tc.cfg, err)
		}
		if err := g.Destroy(); err != nil || g.Exists() {
			t.Errorf("%+v: destroy: %v", tc.cfg, err)
		}
	}
}

// BenchmarkLifecycle measures what a default container costs, step by step, and
// reports medians.
func BenchmarkLifecycle(b *testing.B) {
	testGroup(b) // for its check and its removal of the parent
	names := []string{"new", "create", "set", "join", "destroy"}
	took := make([][]time.Duration, len(names))
	for i := 0; b.Loop(); i++ {
		var g *Group
		var files []int
		for step, do := range []func() error{
			func() (err error) {
				g, err = New(Config{Path: fmt.Sprintf("/sock-test-%d/%s", os.Getpid(), b.Name())})
				return err
			},
			func() error { return g.Create() },
			func() error { return g.Set(nil) },
			func() (err error) {
				files, err = g.OpenJoin()
				for _, fd := range files {
					unix.Close(fd)
				}
				return err
			},
			func() error { return g.Destroy() },
		} {
			start := time.Now()
			if err := do(); err != nil {
				b.Fatal(err)
			}
			took[step] = append(took[step], time.Since(start))
		}
	}
	var sum time.Duration
	for step, name := range names {
		slices.Sort(took[step])
		median := took[step][len(took[step])/2]
		sum += median
		b.ReportMetric(float64(median.Nanoseconds())/1000, name+"-µs")
	}
	b.ReportMetric(float64(sum.Nanoseconds())/1000, "all-µs")
}
