package integration

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	. "github.com/sock-runtime/sock/tests/sandbox"
)

// resources makes a change of linux.resources that keeps the devices.
func resources(modify func(r *specs.LinuxResources)) Change {
	return func(c *specs.Spec) { modify(c.Linux.Resources) }
}

// limits are contents of files in the container's cgroups, whose names begin with the controller's.
type limits map[string]string

// optional are the limits that a kernel may have been built or booted without.
var optional = []string{"memory.memsw.limit_in_bytes", "memory.swap.max"}

func wantLimits(c *Container, v1, v2 limits) {
	c.Helper()
	for name, value := range ByCgroup(v1, v2) {
		controller, _, _ := strings.Cut(name, ".")
		path := c.CgroupFile(controller, name)
		if _, err := os.Stat(path); err != nil && slices.Contains(optional, name) {
			c.Logf("%s: the kernel has no such limit", name)
			continue
		}
		Equal(c.T, name, strings.TrimSpace(ReadFile(path)), value)
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	c := s.Running(resources(func(r *specs.LinuxResources) {
		r.Memory = &specs.LinuxMemory{Limit: Ptr(int64(64 << 20)), Reservation: Ptr(int64(32 << 20)), Swap: Ptr(int64(128 << 20))}
		r.CPU = &specs.LinuxCPU{Shares: Ptr(uint64(512)), Quota: Ptr(int64(50000)), Period: Ptr(uint64(100000)), Cpus: "0", Mems: "0"}
		r.Pids = &specs.LinuxPids{Limit: Ptr(int64(42))}
		r.BlockIO = &specs.LinuxBlockIO{ThrottleReadBpsDevice: throttle(1 << 20), ThrottleWriteIOPSDevice: throttle(100)}
		r.Unified = ByCgroup(nil, map[string]string{"memory.high": "50331648"})
	}))
	device := blockDevice(t)
	wantLimits(c, limits{
		"memory.limit_in_bytes":            fmt.Sprint(64 << 20),
		"memory.soft_limit_in_bytes":       fmt.Sprint(32 << 20),
		"memory.memsw.limit_in_bytes":      fmt.Sprint(128 << 20),
		"cpu.shares":                       "512",
		"cpu.cfs_quota_us":                 "50000",
		"cpu.cfs_period_us":                "100000",
		"cpuset.cpus":                      "0",
		"cpuset.mems":                      "0",
		"pids.max":                         "42",
		"blkio.throttle.read_bps_device":   device + " 1048576",
		"blkio.throttle.write_iops_device": device + " 100",
	}, limits{
		"memory.max":      fmt.Sprint(64 << 20),
		"memory.low":      fmt.Sprint(32 << 20),
		"memory.swap.max": fmt.Sprint(64 << 20), // the spec's swap is the sum with memory
		"memory.high":     fmt.Sprint(48 << 20),
		"cpu.weight":      "59", // the weight of 1024 shares is 100
		"cpu.max":         "50000 100000",
		"cpuset.cpus":     "0",
		"cpuset.mems":     "0",
		"pids.max":        "42",
		"io.max":          device + " rbps=1048576 wbps=max riops=max wiops=100",
	})
	Equal(t, "CPUs", StatusField(c.Proc("status"), "Cpus_allowed_list"), "0")
	for line := range strings.Lines(c.Proc("cgroup")) {
		if !strings.HasSuffix(line, ":"+s.Cgroup()+"\n") {
			t.Errorf("not in the container's cgroup: %s", line)
		}
	}
}

// blockDevice is the numbers of some disk.
func blockDevice(t *testing.T) string {
	t.Helper()
	files, _ := filepath.Glob("/sys/block/*/dev")
	Need(t, len(files) > 0, "needs a block device")
	return strings.TrimSpace(ReadFile(files[0]))
}

func throttle(rate uint64) []specs.LinuxThrottleDevice {
	files, _ := filepath.Glob("/sys/block/*/dev")
	if len(files) == 0 {
		return nil
	}
	var d specs.LinuxThrottleDevice
	_, _ = fmt.Sscanf(ReadFile(files[0]), "%d:%d", &d.Major, &d.Minor)
	d.Rate = rate
	return []specs.LinuxThrottleDevice{d}
}

func TestCgroupsPath(t *testing.T) {
	t.Parallel()
	for name, path := range map[string]string{"nested": "/%s/nested/deep", "relative": "%s-relative", "none": "", "unclean": "/%s//double/./dot"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := NewSandbox(t)
			Need(t, !s.Systemd, "paths of units have another form")
			given := path
			if path != "" {
				given = fmt.Sprintf(path, s.Mark)
			}
			name := s.Mark + "-id"
			s.IDs = append(s.IDs, name)
			b := s.Bundle(func(c *specs.Spec) { c.Linux.CgroupsPath = given })
			s.OK("create", "--bundle", b.Dir, name)
			c := &Container{Sandbox: s, Bundle: b, ID: name}
			want := filepath.Clean("/" + given)
			if given == "" {
				want = "/" + name
			}
			dirs := c.CgroupDirs()
			for controller, dir := range dirs {
				if !strings.HasSuffix(dir, want) {
					t.Errorf("%s cgroup is %s, want %s", controller, dir, want)
				}
			}
			s.OK("delete", "--force", name)
			for _, dir := range dirs {
				if _, err := os.Stat(dir); err == nil {
					t.Errorf("%s is left", dir)
				}
			}
			// The directories above a container's cgroup are the engine's.
			for _, dir := range s.Cgroups() {
				Must(t, RemoveCgroup(dir))
			}
		})
	}
}

func TestUpdate(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	c := s.Running(unknownDevice, resources(func(r *specs.LinuxResources) {
		r.Memory = &specs.LinuxMemory{Limit: Ptr(int64(64 << 20)), Swap: Ptr(int64(64 << 20))}
		r.Pids = &specs.LinuxPids{Limit: Ptr(int64(42))}
	}))
	s.OK("update", "--memory", "33554432", "--memory-reservation", "16M", "--memory-swap", "48M", "--cpu-share", "300",
		"--cpu-period", "50000", "--cpu-quota", "25000", "--cpuset-cpus", "0", "--cpuset-mems", "0", "--pids-limit", "17", c.ID)
	wantLimits(c, limits{
		"memory.limit_in_bytes":       fmt.Sprint(32 << 20),
		"memory.soft_limit_in_bytes":  fmt.Sprint(16 << 20),
		"memory.memsw.limit_in_bytes": fmt.Sprint(48 << 20),
		"cpu.shares":                  "300",
		"cpu.cfs_quota_us":            "25000",
		"cpu.cfs_period_us":           "50000",
		"cpuset.cpus":                 "0",
		"pids.max":                    "17",
	}, limits{
		"memory.max":      fmt.Sprint(32 << 20),
		"memory.low":      fmt.Sprint(16 << 20),
		"memory.swap.max": fmt.Sprint(16 << 20),
		"cpu.weight":      "39",
		"cpu.max":         "25000 50000",
		"cpuset.cpus":     "0",
		"pids.max":        "17",
	})
	s.OK("update", "--pids-limit", "18", c.ID)
	wantLimits(c, limits{"pids.max": "18", "cpu.shares": "300", "memory.limit_in_bytes": fmt.Sprint(32 << 20)},
		limits{"pids.max": "18", "cpu.weight": "39", "memory.max": fmt.Sprint(32 << 20)})
	s.OK("update", "--pids-limit", "-1", c.ID)
	wantLimits(c, limits{"pids.max": "max"}, limits{"pids.max": "max"})

	data, err := json.Marshal(specs.LinuxResources{CPU: &specs.LinuxCPU{Shares: Ptr(uint64(700))}, Pids: &specs.LinuxPids{Limit: Ptr(int64(33))}})
	Must(t, err)
	file := filepath.Join(s.Dir, "resources.json")
	Must(t, os.WriteFile(file, data, 0o644))
	s.OK("update", "-r", file, c.ID)
	wantLimits(c, limits{"cpu.shares": "700", "pids.max": "33"}, limits{"cpu.weight": "75", "pids.max": "33"})
	cmd := s.Command("update", "--resources", "-", c.ID)
	cmd.Stdin = strings.NewReader(`{"cpu":{"shares":800}}`)
	if r := s.Do(cmd); r.Code != 0 {
		t.Error(r)
	}
	wantLimits(c, limits{"cpu.shares": "800", "pids.max": "33"}, limits{"cpu.weight": "83", "pids.max": "33"})

	s.Fails(nil, "update", "--memory", "lots", c.ID)
	s.Fails(nil, "update", "--cpuset-cpus", "999", c.ID)
	cmd = s.Command("update", "-r", "-", c.ID)
	cmd.Stdin = strings.NewReader(`{"cpu":`)
	if r := s.Do(cmd); r.Code == 0 {
		t.Errorf("half a JSON was taken: %v", r)
	}
	Equal(t, "a device without a rule", strings.TrimSpace(s.Fails(nil, "exec", c.ID, "cat", "/dev/unknown").Stderr),
		"cat: can't open '/dev/unknown': Operation not permitted")
	Equal(t, "status", c.State().Status, "running")
}

func TestPause(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	c := s.Running(Script("i=0; while :; do i=$((i+1)); echo $i > /dev/shm/count; sleep 0.005; done"))
	s.OK("pause", c.ID)
	Equal(t, "status", c.State().Status, "paused")
	freezer := c.CgroupFile("freezer", ByCgroup("freezer.state", "cgroup.freeze"))
	Equal(t, "freezer", strings.TrimSpace(ReadFile(freezer)), ByCgroup("FROZEN", "1"))
	count := fmt.Sprintf("/proc/%d/root/dev/shm/count", c.Pid())
	before := ReadFile(count)
	s.OK("state", c.ID)
	s.OK("ps", c.ID)
	Equal(t, "count while paused", ReadFile(count), before)
	s.Fails(nil, "pause", c.ID)
	s.OK("resume", c.ID)
	Equal(t, "freezer", strings.TrimSpace(ReadFile(freezer)), ByCgroup("THAWED", "0"))
	Eventually(t, "count", func() error {
		if ReadFile(count) == before {
			return fmt.Errorf("stands still")
		}
		return nil
	})
}

// stats is the part of events --stats that engines read.
type stats struct {
	Type string `json:"type"`
	ID   string `json:"id"`
	Data struct {
		CPU struct {
			Usage struct {
				Total  uint64   `json:"total"`
				PerCPU []uint64 `json:"percpu"`
			} `json:"usage"`
		} `json:"cpu"`
		Memory struct {
			Usage struct {
				Limit uint64 `json:"limit"`
				Usage uint64 `json:"usage"`
				Max   uint64 `json:"max"`
			} `json:"usage"`
			Raw map[string]uint64 `json:"raw"`
		} `json:"memory"`
		Pids struct {
			Current uint64 `json:"current"`
			Limit   uint64 `json:"limit"`
		} `json:"pids"`
	} `json:"data"`
}

func TestStats(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	c := s.Running(resources(func(r *specs.LinuxResources) {
		r.Memory = &specs.LinuxMemory{Limit: Ptr(int64(64 << 20))}
		r.Pids = &specs.LinuxPids{Limit: Ptr(int64(42))}
	}), Script("i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo done; exec sleep 1000"))
	c.WaitOutput("done\n")
	st := Decode[stats](t, s.OK("events", "--stats", c.ID))
	Equal(t, "type", st.Type, "stats")
	Equal(t, "id", st.ID, c.ID)
	Equal(t, "pids", st.Data.Pids.Current, 1)
	Equal(t, "limit of pids", st.Data.Pids.Limit, 42)
	Equal(t, "limit of memory", st.Data.Memory.Usage.Limit, 64<<20)
	if st.Data.Memory.Usage.Usage == 0 || st.Data.Memory.Usage.Max < st.Data.Memory.Usage.Usage || len(st.Data.Memory.Raw) == 0 {
		t.Errorf("memory: %+v", st.Data.Memory)
	}
	if usage := st.Data.CPU.Usage; usage.Total < 1e6 || len(usage.PerCPU) == 0 && !Unified() { // v2 has the sum only
		t.Errorf("cpu: %+v", usage)
	}
}

func TestEventsInterval(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	c := s.Running()
	cmd := s.Command("events", "--interval", "50ms", c.ID)
	s.Start(cmd)
	out := cmd.Stdout.(*os.File).Name()
	Eventually(t, "three events", func() error {
		if n := strings.Count(ReadFile(out), "\n"); n < 3 {
			return fmt.Errorf("%d", n)
		}
		return nil
	})
	s.OK("kill", c.ID, "KILL")
	c.WantStatus("stopped")
	s.OK("delete", c.ID) // events ends with the cgroup
	r := s.Finish(cmd)
	Equal(t, "exit status", r.Code, 0)
	Equal(t, "type", Decode[stats](t, strings.SplitN(r.Stdout, "\n", 2)[0]).Type, "stats")
}

func TestOOM(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	c := s.Create(resources(func(r *specs.LinuxResources) {
		r.Memory = &specs.LinuxMemory{Limit: Ptr(int64(16 << 20)), Swap: Ptr(int64(16 << 20))}
	}), Script("a=xxxxxxxxxxxxxxxx; while :; do a=$a$a; done"))
	cmd := s.Command("events", "--interval", "1h", c.ID)
	s.Start(cmd)
	out := cmd.Stdout.(*os.File).Name()
	Eventually(t, "events at work", func() error {
		for _, to := range Descriptors(t, cmd.Process.Pid) {
			if strings.Contains(to, ByCgroup("eventfd", "inotify")) && strings.Contains(ReadFile(fmt.Sprintf("/proc/%d/cmdline", cmd.Process.Pid)), "events") {
				return nil
			}
		}
		return fmt.Errorf("waits for nothing")
	})
	s.OK("start", c.ID)
	c.WantStatus("stopped")
	Eventually(t, "event", func() error {
		if !strings.Contains(ReadFile(out), `"type":"oom"`) {
			return fmt.Errorf("%q", ReadFile(out))
		}
		return nil
	})
	s.OK("delete", c.ID)
	s.Finish(cmd)
}

// A cgroup with processes of somebody else isn't taken over.
func TestTwoContainersInOneCgroup(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	first := s.Running()
	r := s.Sock("create", "--bundle", s.Bundle().Dir, "second")
	if r.Code == 0 {
		s.OK("delete", "--force", "second")
	}
	Equal(t, "status of the first", first.State().Status, "running")
	Equal(t, "cgroup of the first", strings.TrimSpace(ReadFile(first.CgroupFile("pids", "cgroup.procs"))), fmt.Sprint(first.Pid()))
	s.OK("pause", first.ID)
	s.OK("resume", first.ID)
}

// A limit that not every host has is refused or set, never dropped.
func TestLimitsWithoutController(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, file, want string
		change           Change
	}{
		{"hugepageLimits", "hugetlb.2MB.*", "4194304", resources(func(r *specs.LinuxResources) {
			r.HugepageLimits = []specs.LinuxHugepageLimit{{Pagesize: "2MB", Limit: 4 << 20}}
		})},
		{"network", "net_cls.classid", "1048577", resources(func(r *specs.LinuxResources) {
			r.Network = &specs.LinuxNetwork{ClassID: Ptr(uint32(0x100001))}
		})},
		{"network", "net_prio.ifpriomap", "lo 5", resources(func(r *specs.LinuxResources) {
			r.Network = &specs.LinuxNetwork{Priorities: []specs.LinuxInterfacePriority{{Name: "lo", Priority: 5}}}
		})},
		{"swappiness", "memory.swappiness", "10", resources(func(r *specs.LinuxResources) {
			r.Memory = &specs.LinuxMemory{Swappiness: Ptr(uint64(10))}
		})},
		{"unified", "misc.max", "x 1", resources(func(r *specs.LinuxResources) {
			r.Unified = map[string]string{"misc.max": "x 1"}
		})},
		{"rdma", "rdma.max", "mlx5_1 hca_handle=3", resources(func(r *specs.LinuxResources) {
			r.Rdma = map[string]specs.LinuxRdma{"mlx5_1": {HcaHandles: Ptr(uint32(3))}}
		})},
	} {
		t.Run(c.name+" "+c.file, func(t *testing.T) {
			t.Parallel()
			s := NewSandbox(t)
			b := s.Bundle(c.change)
			r := s.Sock("create", "--bundle", b.Dir, "limited")
			if r.Code != 0 {
				OneLine(t, r)
				if !strings.Contains(r.Stderr, c.name) {
					t.Errorf("no %q in the error: %v", c.name, r)
				}
				return
			}
			defer s.OK("delete", "--force", "limited")
			for _, dir := range s.Cgroups() {
				files, _ := filepath.Glob(filepath.Join(dir, c.file))
				for _, file := range files {
					if strings.Contains(ReadFile(file), c.want) {
						return
					}
				}
			}
			t.Errorf("created, but no %s says %s", c.file, c.want)
		})
	}
}

// TestNoCgroup has a container stay in its maker's cgroup, as Podman's --cgroups=disabled wants.
func TestNoCgroup(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	without := func(args ...string) []string { return append([]string{"--cgroup-manager", "disabled"}, args...) }
	id := s.NewID()
	s.OK(without("create", "--bundle", s.Bundle(WithoutNamespace(specs.CgroupNamespace), BindAt("/sys/fs/cgroup/below", s.HostDir())).Dir, id)...)
	s.OK("start", id) // it remembers
	c := &Container{Sandbox: s, ID: id}
	Equal(t, "cgroup", c.Proc("cgroup"), ReadFile("/proc/self/cgroup"))
	Equal(t, "what it sees of it", c.Inside("ls /sys/fs/cgroup; cat /sys/fs/cgroup/below/file; mkdir /sys/fs/cgroup/x 2>/dev/null || echo refused"), "below\nhost\nrefused")
	Equal(t, "ps", fmt.Sprint(Decode[[]int](t, s.OK("ps", "--format", "json", id))), fmt.Sprint([]int{c.Pid()}))
	s.Fails(Said("no cgroup"), "pause", id)
	s.Fails(Said("linux.resources.memory.limit: the container has no cgroup"), "update", "--memory", "64M", id)
	s.OK("kill", "--all", id, "KILL")
	c.WantStatus("stopped")
	s.OK("delete", id)

	s.Fails(Said("linux.resources.pids.limit: the container has no cgroup"), without("run", "--bundle", s.Bundle(resources(func(r *specs.LinuxResources) {
		r.Pids = &specs.LinuxPids{Limit: Ptr(int64(10))}
	})).Dir, "limited")...)
	s.Fails(Said(`unknown cgroup manager "none"`), "--cgroup-manager", "none", "run", "--bundle", s.Bundle().Dir, "unknown")
}
