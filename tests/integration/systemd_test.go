package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/sock-runtime/sock/tests/fakesystemd"
	. "github.com/sock-runtime/sock/tests/sandbox"
)

func TestSystemdLifecycle(t *testing.T) {
	t.Parallel()
	s := NewSystemdSandbox(t)
	c := s.Create(resources(func(r *specs.LinuxResources) {
		r.Memory = &specs.LinuxMemory{Limit: Ptr(int64(64 << 20))}
		r.Pids = &specs.LinuxPids{Limit: Ptr(int64(42))}
	}))
	for line := range strings.Lines(c.Proc("cgroup")) {
		if !strings.HasSuffix(strings.TrimSpace(line), ":"+s.Cgroup()) {
			t.Errorf("the process is not in its unit: %q", line)
		}
	}
	wantLimits(c, limits{"memory.limit_in_bytes": fmt.Sprint(64 << 20), "pids.max": "42"}, limits{"memory.max": fmt.Sprint(64 << 20), "pids.max": "42"})
	Equal(t, "status", c.State().Status, "created")
	if s.Fake != nil {
		u := s.Fake.Unit(s.Unit())
		for name, want := range map[string]string{
			"Slice": `"` + s.Slice() + `"`, "Delegate": "true", "DefaultDependencies": "false", "MemoryAccounting": "true", "CPUAccounting": "true",
			"BlockIOAccounting": "true", "TasksAccounting": "true", "DevicePolicy": `"strict"`, "MemoryLimit": fmt.Sprint("@t ", 64<<20), "TasksMax": "@t 42",
			"Description": `"sock container ` + c.ID + `"`, "PIDs": fmt.Sprintf("@au [%d]", c.Pid()),
		} {
			Equal(t, name, u.Properties[name].String(), want)
		}
	}
	s.OK("start", c.ID)
	Equal(t, "status", c.State().Status, "running")
	// exec joins the unit everywhere, too.
	pidFile := filepath.Join(s.Dir, "pid")
	s.OK("exec", "--detach", "--pid-file", pidFile, c.ID, "sleep", "1000")
	for line := range strings.Lines(ReadFile("/proc/" + ReadFile(pidFile) + "/cgroup")) {
		if !strings.HasSuffix(strings.TrimSpace(line), ":"+s.Cgroup()) {
			t.Errorf("a process of exec is not in the unit: %q", line)
		}
	}
	Equal(t, "processes", len(strings.Fields(ReadFile(c.CgroupFile("pids", "cgroup.procs")))), 2)
	s.OK("pause", c.ID)
	Equal(t, "status", c.State().Status, "paused")
	s.OK("resume", c.ID)
	s.OK("events", "--stats", c.ID)
	s.OK("ps", c.ID)
	s.OK("update", "--memory", "32M", "--pids-limit", "17", c.ID)
	wantLimits(c, limits{"memory.limit_in_bytes": fmt.Sprint(32 << 20), "pids.max": "17"}, limits{"memory.max": fmt.Sprint(32 << 20), "pids.max": "17"})
	if s.Fake != nil {
		Equal(t, "TasksMax", s.Fake.Unit(s.Unit()).Properties["TasksMax"].String(), "@t 17")
	}
	s.OK("kill", c.ID, "KILL")
	c.WantStatus("stopped")
	s.OK("delete", c.ID)
	s.CheckNothingLeft()
	// The name is free at once.
	again := s.Running()
	s.OK("delete", "--force", again.ID)
	if s.Fake != nil {
		Equal(t, "units", s.Fake.Units(), 0)
	}
}

func TestSystemdRun(t *testing.T) {
	t.Parallel()
	s := NewSystemdSandbox(t)
	r := s.RunOnce(Script("cat /proc/self/cgroup; exit 42"), WithoutNamespace(specs.CgroupNamespace))
	Equal(t, "exit status", r.Code, 42)
	if !strings.Contains(r.Stdout, s.Cgroup()) {
		t.Errorf("not in %s: %v", s.Cgroup(), r)
	}
	s.CheckNothingLeft()
}

// The unit has the container's ID where config.json gives no path.
func TestSystemdDefaultUnit(t *testing.T) {
	t.Parallel()
	s := NewFakeSandbox(t)
	b := s.Bundle(func(c *specs.Spec) { c.Linux.CgroupsPath = "" })
	id := s.Mark
	s.IDs = append(s.IDs, id)
	s.OK("run", "--detach", "--bundle", b.Dir, id)
	if u := s.Fake.Unit("sock-" + id + ".scope"); u == nil {
		t.Error("no unit of that name")
	} else {
		Equal(t, "slice", u.Properties["Slice"].String(), `"system.slice"`)
	}
	s.OK("delete", "--force", id)
	Equal(t, "units", s.Fake.Units(), 0)
}

// The device rules are the same as without systemd, which can't express all of them.
func TestSystemdDevices(t *testing.T) {
	t.Parallel()
	rules := map[string]struct {
		change Change
		policy string
	}{
		"default": {func(*specs.Spec) {}, `"strict"`},
		"all": {resources(func(r *specs.LinuxResources) {
			r.Devices = []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}
		}), `"auto"`},
		"all but one": {resources(func(r *specs.LinuxResources) {
			r.Devices = []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}, {Type: "c", Major: Ptr(int64(7)), Minor: Ptr(int64(7)), Access: "rw"}}
		}), `"strict"`},
		"minor of any major": {resources(func(r *specs.LinuxResources) {
			r.Devices = append(r.Devices, specs.LinuxDeviceCgroup{Allow: true, Type: "b", Minor: Ptr(int64(7)), Access: "r"})
		}), `"strict"`},
	}
	for name, rule := range rules {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := NewFakeSandbox(t)
			c := s.Create(rule.change)
			plain := NewSandbox(t)
			if !plain.Systemd {
				p := plain.Create(rule.change)
				list := func(c *Container) []string {
					rules := strings.Split(ReadFile(c.CgroupFile("devices", "devices.list")), "\n")
					slices.Sort(rules)
					return rules
				}
				Equal(t, "list", fmt.Sprint(list(c)), fmt.Sprint(list(p)))
			}
			Equal(t, "DevicePolicy", s.Fake.Unit(s.Unit()).Properties["DevicePolicy"].String(), rule.policy)
		})
	}
}

func TestSystemdAnnotations(t *testing.T) {
	t.Parallel()
	s := NewFakeSandbox(t)
	annotate := func(key, value string) Change {
		return func(c *specs.Spec) { c.Annotations = map[string]string{key: value} }
	}
	s.Create(annotate("org.systemd.property.TimeoutStopSec", "uint64 5"))
	Equal(t, "TimeoutStopUSec", s.Fake.Unit(s.Unit()).Properties["TimeoutStopUSec"].String(), "@t 5000000")
	for key, value := range map[string]string{
		"org.systemd.property.TimeoutStopSec": "'soon'", "org.systemd.property.Timeout-Stop": "1", "org.systemd.property.Collect": "what",
	} {
		b := s.Bundle(annotate(key, value))
		s.Fails(Said(key), "create", "--bundle", b.Dir, "refused")
	}
	// What systemd refuses, create refuses.
	b := s.Bundle(annotate("org.systemd.property.NoSuchThing", "true"), func(c *specs.Spec) { c.Linux.CgroupsPath += "-2" })
	s.Fails(Said("Cannot set property NoSuchThing"), "create", "--bundle", b.Dir, "refused")
	Equal(t, "units", s.Fake.Units(), 1)
}

func TestSystemdCgroupsPath(t *testing.T) {
	t.Parallel()
	s := NewSystemdSandbox(t)
	for path, text := range map[string]string{
		"/absolute":                     `format "slice:prefix:name"`,
		"a.slice:b":                     `format "slice:prefix:name"`,
		"a.slice:b:":                    `format "slice:prefix:name"`,
		"a.slice:b:c:d":                 `format "slice:prefix:name"`,
		"a--b.slice:c:d":                "invalid slice name",
		"-a.slice:c:d":                  "invalid slice name",
		"a:c:d":                         "invalid slice name",
		"x/../a.slice:c:d":              "invalid slice name",
		"a.slice:c:../../x":             "can't be the name of a systemd unit",
		"a.slice:c:d e":                 "can't be the name of a systemd unit",
		"a.slice:c:d.slice":             "is a slice",
		"a.slice:c:" + fmt.Sprint(1e99): "can't be the name",
	} {
		b := s.Bundle(func(c *specs.Spec) { c.Linux.CgroupsPath = path })
		r := s.Fails(Said("linux.cgroupsPath", text), "create", "--bundle", b.Dir, "refused")
		OneLine(t, r)
	}
}

// Slices nest by their names.
func TestSystemdNestedSlice(t *testing.T) {
	t.Parallel()
	s := NewSystemdSandbox(t)
	outer := strings.TrimSuffix(s.Slice(), ".slice")
	inner := outer + "-a-b.slice"
	c := s.Create(func(c *specs.Spec) { c.Linux.CgroupsPath = inner + "::x" })
	want := fmt.Sprintf("/%[1]s.slice/%[1]s-a.slice/%[1]s-a-b.slice/-x.scope", outer)
	if !strings.Contains(c.Proc("cgroup"), want+"\n") {
		t.Errorf("not in %s:\n%s", want, c.Proc("cgroup"))
	}
	s.OK("delete", "--force", c.ID)
	for _, dir := range cgroupLeft(outer) {
		t.Errorf("left: %s", dir)
	}
}

// cgroupLeft lists scopes below a slice.
func cgroupLeft(slice string) []string {
	var left []string
	for _, pattern := range []string{"*.slice/*.scope", "*.slice/*.slice/*.scope"} {
		found, _ := filepath.Glob(filepath.Join(CgroupRoot, ByCgroup("*", ""), slice+".slice", pattern))
		left = append(left, found...)
	}
	return left
}

func TestSystemdUserNamespace(t *testing.T) {
	t.Parallel()
	s := NewSystemdSandbox(t)
	c := s.Running(InUserNamespace)
	if !strings.Contains(c.Proc("cgroup"), s.Cgroup()+"\n") {
		t.Errorf("not in %s:\n%s", s.Cgroup(), c.Proc("cgroup"))
	}
	c.Inside("ls /sys/fs/cgroup")
	s.OK("delete", "--force", c.ID)
}

// A cgroup namespace begins at the unit; without one, the mount shows it alone.
func TestSystemdCgroupMount(t *testing.T) {
	t.Parallel()
	for _, own := range []bool{true, false} {
		t.Run(fmt.Sprint("namespace ", own), func(t *testing.T) {
			t.Parallel()
			s := NewSystemdSandbox(t)
			change := WithoutNamespace(specs.CgroupNamespace)
			if own {
				change = WithNamespace(specs.CgroupNamespace, "")
			}
			c := s.Running(change)
			Equal(t, "processes", c.Inside("head -n 1 /sys/fs/cgroup/"+ByCgroup("pids/", "")+"cgroup.procs"), "1")
			if own {
				Equal(t, "cgroup", strings.Contains(c.Inside("cat /proc/self/cgroup"), ".scope"), false)
			}
		})
	}
}

func TestSystemdUpdateQuota(t *testing.T) {
	t.Parallel()
	s := NewSystemdSandbox(t)
	// systemd counts in whole percents: it is rounded up, in the file as well.
	c := s.Running(resources(func(r *specs.LinuxResources) {
		r.CPU = &specs.LinuxCPU{Quota: Ptr(int64(12345)), Period: Ptr(uint64(100000)), Shares: Ptr(uint64(2048)), Cpus: "0"}
	}))
	wantLimits(c, limits{"cpu.cfs_quota_us": "13000", "cpu.shares": "2048", "cpuset.cpus": "0"}, limits{"cpu.max": "13000 100000", "cpuset.cpus": "0"})
	// The quota stays when only the period is given, and the other way round.
	s.OK("update", "--cpu-period", "50000", c.ID)
	wantLimits(c, limits{"cpu.cfs_quota_us": "13000", "cpu.cfs_period_us": "50000"}, limits{"cpu.max": "13000 50000"})
	s.OK("update", "--cpu-quota", "5001", c.ID)
	wantLimits(c, limits{"cpu.cfs_quota_us": "5500", "cpu.cfs_period_us": "50000"}, limits{"cpu.max": "5500 50000"})
	if s.Fake != nil {
		Equal(t, "CPUQuotaPerSecUSec", s.Fake.Unit(s.Unit()).Properties["CPUQuotaPerSecUSec"].String(), "@t 110000")
	}
	s.OK("update", "--cpu-quota", "-1", c.ID)
	wantLimits(c, limits{"cpu.cfs_quota_us": "-1"}, limits{"cpu.max": "max 50000"})
}

func TestSystemdTwoContainersInOneUnit(t *testing.T) {
	t.Parallel()
	s := NewSystemdSandbox(t)
	first := s.Running()
	s.Fails(Said("start systemd unit "+s.Unit()), "create", "--bundle", s.Bundle().Dir, "second")
	Equal(t, "status of the first", first.State().Status, "running")
	s.Fails(Said("does not exist"), "state", "second")
	if !Alive(first.Pid()) {
		t.Error("the first was killed")
	}
}

// What systemd does wrong ends in one error, and nothing is left.
func TestSystemdFails(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		behaviour fakesystemd.Behaviour
		says      string
	}{
		"refuses":   {fakesystemd.Behaviour{Error: "org.freedesktop.DBus.Error.AccessDenied"}, "Told to refuse."},
		"job fails": {fakesystemd.Behaviour{Result: "failed"}, `systemd's job ended with result "failed"`},
		"exists":    {fakesystemd.Behaviour{Exists: 2}, "was already loaded"},
		"vanishes":  {fakesystemd.Behaviour{Hangup: true}, "disconnected from message bus"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := NewFakeSandbox(t)
			s.Fake.Behave("StartTransientUnit", tc.behaviour)
			b := s.Bundle()
			r := s.Fails(Said("linux.cgroupsPath", s.Unit(), tc.says), "create", "--bundle", b.Dir, "refused")
			OneLine(t, r)
			s.Fails(Said("does not exist"), "state", "refused")
			s.CheckNothingLeft()
			Equal(t, "units", s.Fake.Units(), 0)
		})
	}
}

func TestSystemdIsLate(t *testing.T) {
	t.Parallel()
	for name, b := range map[string]fakesystemd.Behaviour{
		"answer":                {Delay: 700 * time.Millisecond},
		"signal comes first":    {EarlySignal: true},
		"failed one remembered": {Exists: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := NewFakeSandbox(t)
			s.Fake.Behave("StartTransientUnit", b)
			c := s.Running()
			Equal(t, "status", c.State().Status, "running")
			if b.Exists > 0 && !slices.Contains(s.Fake.Calls(), "ResetFailedUnit "+s.Unit()) {
				t.Errorf("calls: %q", s.Fake.Calls())
			}
		})
	}
}

// Without systemd there is one error, and nothing else.
func TestSystemdIsNotThere(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	b := s.Bundle(func(c *specs.Spec) { c.Linux.CgroupsPath = "a.slice:b:" + s.Mark })
	cmd := s.Command("create", "--bundle", b.Dir, "refused")
	if !s.Systemd {
		cmd.Args = slices.Insert(cmd.Args, 1, "--systemd-cgroup")
	}
	cmd.Env = append(cmd.Env, "DBUS_SYSTEM_BUS_ADDRESS=unix:path="+filepath.Join(s.Dir, "nothing"))
	r := s.Do(cmd)
	OneLine(t, r)
	if !strings.Contains(r.Stderr, "systemd cgroup flag passed, but systemd support for managing cgroups is not available") {
		t.Error(r)
	}
}

// The end of a container is the end of its unit; delete then finds it gone.
func TestSystemdEnds(t *testing.T) {
	t.Parallel()
	s := NewSystemdSandbox(t)
	c := s.Running(Args("true"))
	c.WantStatus("stopped")
	if s.Fake != nil {
		Eventually(t, "the end of the unit", func() error {
			if n := s.Fake.Units(); n > 0 {
				return fmt.Errorf("%d units", n)
			}
			return nil
		})
	}
	s.OK("delete", c.ID)
}

// Somebody else's unit of the same name outlives the deletion of ours.
func TestSystemdDeleteSparesOthers(t *testing.T) {
	t.Parallel()
	s := NewFakeSandbox(t)
	c := s.Running()
	s.OK("kill", c.ID, "KILL")
	c.WantStatus("stopped")
	Eventually(t, "the end of the unit", func() error {
		if n := s.Fake.Units(); n > 0 {
			return fmt.Errorf("%d units", n)
		}
		return nil
	})
	other := s.Beside()
	o := other.Running()
	s.Fails(Said("process(es) are in it"), "delete", c.ID)
	Equal(t, "status of the other", o.State().Status, "running")
	other.OK("delete", "--force", o.ID)
}

// A kill -9 of the runtime, also while systemd is at work, leaves what delete --force removes.
func TestSystemdKilledRuntime(t *testing.T) {
	t.Parallel()
	rounds := 30
	if testing.Short() {
		rounds = 5
	}
	for _, command := range []string{"create", "run"} {
		t.Run(command, func(t *testing.T) {
			t.Parallel()
			s := NewSystemdSandbox(t)
			b := s.Bundle()
			killRounds(s, b, rounds, command)
		})
	}
}

// delete may be killed while systemd stops the unit, and repeated.
func TestSystemdKilledDelete(t *testing.T) {
	t.Parallel()
	s := NewFakeSandbox(t)
	s.Fake.Behave("StopUnit", fakesystemd.Behaviour{Delay: 300 * time.Millisecond})
	c := s.Running()
	cmd := s.Command("delete", "--force", c.ID)
	s.Start(cmd)
	Eventually(t, "the call", func() error {
		if !slices.Contains(s.Fake.Calls(), "StopUnit "+s.Unit()) {
			return os.ErrNotExist
		}
		return nil
	})
	Must(t, cmd.Process.Kill())
	s.Finish(cmd)
	Equal(t, "status", c.State().Status, "stopped")
	s.OK("delete", "--force", c.ID)
	s.CheckNothingLeft()
}

func TestSystemdPlan(t *testing.T) {
	t.Parallel()
	s := NewSystemdSandbox(t)
	b := s.Bundle()
	text := s.OK("plan", b.Dir)
	for _, want := range []string{"connect to systemd", "have systemd start " + s.Unit(), "wait until " + s.Unit(), "have systemd stop " + s.Unit()} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if s.Fake != nil && len(s.Fake.Calls()) > 0 {
		t.Errorf("plan asked systemd: %q", s.Fake.Calls())
	}
}

// An ordinary user's containers are units of the user's systemd.
func TestSystemdUser(t *testing.T) {
	t.Parallel()
	s := NewRootless(t)
	s.StartUserManager()
	id := s.NewID()
	b := s.OwnBundle(func(c *specs.Spec) {
		c.Linux.CgroupsPath = "user.slice:it:" + id
		c.Linux.Resources = &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: Ptr(int64(64 << 20))}, Pids: &specs.LinuxPids{Limit: Ptr(int64(42))}}
	})
	user := func(args ...string) string {
		t.Helper()
		cmd := s.Command(args...)
		s.InCgroup(cmd, s.Manager())
		r := s.Do(cmd)
		if r.Code != 0 {
			t.Fatal(r)
		}
		return r.Stdout
	}
	user("create", "--bundle", b.Dir, id)
	c := &Container{Sandbox: s, Bundle: b, ID: id}
	dir := s.Manager() + "/user.slice/it-" + id + ".scope"
	Equal(t, "cgroup", CgroupRoot+strings.TrimSpace(strings.TrimPrefix(c.Proc("cgroup"), "0::")), dir)
	Equal(t, "memory.max", strings.TrimSpace(ReadFile(dir+"/memory.max")), fmt.Sprint(64<<20))
	Equal(t, "pids.max", strings.TrimSpace(ReadFile(dir+"/pids.max")), "42")
	user("start", id)
	user("exec", id, "true")
	user("update", "--pids-limit", "17", id)
	Equal(t, "pids.max", strings.TrimSpace(ReadFile(dir+"/pids.max")), "17")
	user("pause", id)
	user("resume", id)
	user("delete", "--force", id)
	if _, err := os.Stat(dir); err == nil {
		t.Errorf("%s is left", dir)
	}
}
