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
)

// resources makes a change of linux.resources that keeps the devices.
func resources(modify func(r *specs.LinuxResources)) change {
	return func(c *specs.Spec) { modify(c.Linux.Resources) }
}

// limits are contents of files in the container's cgroups, whose names begin with the controller's.
type limits map[string]string

// optional are the limits that a kernel may have been built or booted without.
var optional = []string{"memory.memsw.limit_in_bytes", "memory.swap.max"}

func (c *container) wantLimits(v1, v2 limits) {
	c.Helper()
	for name, value := range byCgroup(v1, v2) {
		controller, _, _ := strings.Cut(name, ".")
		path := c.cgroupFile(controller, name)
		if _, err := os.Stat(path); err != nil && slices.Contains(optional, name) {
			c.Logf("%s: the kernel has no such limit", name)
			continue
		}
		equal(c.T, name, strings.TrimSpace(readFile(path)), value)
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	c := s.running(resources(func(r *specs.LinuxResources) {
		r.Memory = &specs.LinuxMemory{Limit: ptr(int64(64 << 20)), Reservation: ptr(int64(32 << 20)), Swap: ptr(int64(128 << 20))}
		r.CPU = &specs.LinuxCPU{Shares: ptr(uint64(512)), Quota: ptr(int64(50000)), Period: ptr(uint64(100000)), Cpus: "0", Mems: "0"}
		r.Pids = &specs.LinuxPids{Limit: ptr(int64(42))}
		r.BlockIO = &specs.LinuxBlockIO{ThrottleReadBpsDevice: throttle(1 << 20), ThrottleWriteIOPSDevice: throttle(100)}
		r.Unified = byCgroup(nil, map[string]string{"memory.high": "50331648"})
	}))
	device := blockDevice(t)
	c.wantLimits(limits{
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
	equal(t, "CPUs", statusField(c.proc("status"), "Cpus_allowed_list"), "0")
	for line := range strings.Lines(c.proc("cgroup")) {
		if !strings.HasSuffix(line, "/"+s.mark+"\n") {
			t.Errorf("not in the container's cgroup: %s", line)
		}
	}
}

// blockDevice is the numbers of some disk.
func blockDevice(t *testing.T) string {
	t.Helper()
	files, _ := filepath.Glob("/sys/block/*/dev")
	need(t, len(files) > 0, "needs a block device")
	return strings.TrimSpace(readFile(files[0]))
}

func throttle(rate uint64) []specs.LinuxThrottleDevice {
	files, _ := filepath.Glob("/sys/block/*/dev")
	if len(files) == 0 {
		return nil
	}
	var d specs.LinuxThrottleDevice
	_, _ = fmt.Sscanf(readFile(files[0]), "%d:%d", &d.Major, &d.Minor)
	d.Rate = rate
	return []specs.LinuxThrottleDevice{d}
}

func TestCgroupsPath(t *testing.T) {
	t.Parallel()
	for name, path := range map[string]string{"nested": "/%s/nested/deep", "relative": "%s-relative", "none": "", "unclean": "/%s//double/./dot"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSandbox(t)
			given := path
			if path != "" {
				given = fmt.Sprintf(path, s.mark)
			}
			name := s.mark + "-id"
			s.ids = append(s.ids, name)
			b := s.bundle(func(c *specs.Spec) { c.Linux.CgroupsPath = given })
			s.ok("create", "--bundle", b.dir, name)
			c := &container{sandbox: s, bundle: b, name: name}
			want := filepath.Clean("/" + given)
			if given == "" {
				want = "/" + name
			}
			dirs := c.cgroupDirs()
			for controller, dir := range dirs {
				if !strings.HasSuffix(dir, want) {
					t.Errorf("%s cgroup is %s, want %s", controller, dir, want)
				}
			}
			s.ok("delete", "--force", name)
			for _, dir := range dirs {
				if _, err := os.Stat(dir); err == nil {
					t.Errorf("%s is left", dir)
				}
			}
			// The directories above a container's cgroup are the engine's.
			for _, dir := range s.cgroups() {
				must(t, removeCgroup(dir))
			}
		})
	}
}

func TestUpdate(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	c := s.running(unknownDevice, resources(func(r *specs.LinuxResources) {
		r.Memory = &specs.LinuxMemory{Limit: ptr(int64(64 << 20)), Swap: ptr(int64(64 << 20))}
		r.Pids = &specs.LinuxPids{Limit: ptr(int64(42))}
	}))
	s.ok("update", "--memory", "33554432", "--memory-reservation", "16M", "--memory-swap", "48M", "--cpu-share", "300",
		"--cpu-period", "50000", "--cpu-quota", "25000", "--cpuset-cpus", "0", "--cpuset-mems", "0", "--pids-limit", "17", c.name)
	c.wantLimits(limits{
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
	s.ok("update", "--pids-limit", "18", c.name)
	c.wantLimits(limits{"pids.max": "18", "cpu.shares": "300", "memory.limit_in_bytes": fmt.Sprint(32 << 20)},
		limits{"pids.max": "18", "cpu.weight": "39", "memory.max": fmt.Sprint(32 << 20)})
	s.ok("update", "--pids-limit", "-1", c.name)
	c.wantLimits(limits{"pids.max": "max"}, limits{"pids.max": "max"})

	data, err := json.Marshal(specs.LinuxResources{CPU: &specs.LinuxCPU{Shares: ptr(uint64(700))}, Pids: &specs.LinuxPids{Limit: ptr(int64(33))}})
	must(t, err)
	file := filepath.Join(s.dir, "resources.json")
	must(t, os.WriteFile(file, data, 0o644))
	s.ok("update", "-r", file, c.name)
	c.wantLimits(limits{"cpu.shares": "700", "pids.max": "33"}, limits{"cpu.weight": "75", "pids.max": "33"})
	cmd := s.command("update", "--resources", "-", c.name)
	cmd.Stdin = strings.NewReader(`{"cpu":{"shares":800}}`)
	if r := s.do(cmd); r.code != 0 {
		t.Error(r)
	}
	c.wantLimits(limits{"cpu.shares": "800", "pids.max": "33"}, limits{"cpu.weight": "83", "pids.max": "33"})

	s.fails(nil, "update", "--memory", "lots", c.name)
	s.fails(nil, "update", "--cpuset-cpus", "999", c.name)
	cmd = s.command("update", "-r", "-", c.name)
	cmd.Stdin = strings.NewReader(`{"cpu":`)
	if r := s.do(cmd); r.code == 0 {
		t.Errorf("half a JSON was taken: %v", r)
	}
	equal(t, "a device without a rule", strings.TrimSpace(s.fails(nil, "exec", c.name, "cat", "/dev/unknown").stderr),
		"cat: can't open '/dev/unknown': Operation not permitted")
	equal(t, "status", c.state().Status, "running")
}

func TestPause(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	c := s.running(script("i=0; while :; do i=$((i+1)); echo $i > /dev/shm/count; sleep 0.005; done"))
	s.ok("pause", c.name)
	equal(t, "status", c.state().Status, "paused")
	freezer := c.cgroupFile("freezer", byCgroup("freezer.state", "cgroup.freeze"))
	equal(t, "freezer", strings.TrimSpace(readFile(freezer)), byCgroup("FROZEN", "1"))
	count := fmt.Sprintf("/proc/%d/root/dev/shm/count", c.pid())
	before := readFile(count)
	s.ok("state", c.name)
	s.ok("ps", c.name)
	equal(t, "count while paused", readFile(count), before)
	s.fails(nil, "pause", c.name)
	s.ok("resume", c.name)
	equal(t, "freezer", strings.TrimSpace(readFile(freezer)), byCgroup("THAWED", "0"))
	eventually(t, "count", func() error {
		if readFile(count) == before {
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
	s := newSandbox(t)
	c := s.running(resources(func(r *specs.LinuxResources) {
		r.Memory = &specs.LinuxMemory{Limit: ptr(int64(64 << 20))}
		r.Pids = &specs.LinuxPids{Limit: ptr(int64(42))}
	}), script("i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo done; exec sleep 1000"))
	c.waitOutput("done\n")
	st := decode[stats](t, s.ok("events", "--stats", c.name))
	equal(t, "type", st.Type, "stats")
	equal(t, "id", st.ID, c.name)
	equal(t, "pids", st.Data.Pids.Current, 1)
	equal(t, "limit of pids", st.Data.Pids.Limit, 42)
	equal(t, "limit of memory", st.Data.Memory.Usage.Limit, 64<<20)
	if st.Data.Memory.Usage.Usage == 0 || st.Data.Memory.Usage.Max < st.Data.Memory.Usage.Usage || len(st.Data.Memory.Raw) == 0 {
		t.Errorf("memory: %+v", st.Data.Memory)
	}
	if usage := st.Data.CPU.Usage; usage.Total < 1e6 || len(usage.PerCPU) == 0 && !unified() { // v2 has the sum only
		t.Errorf("cpu: %+v", usage)
	}
}

func TestEventsInterval(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	c := s.running()
	cmd := s.command("events", "--interval", "50ms", c.name)
	s.start(cmd)
	out := cmd.Stdout.(*os.File).Name()
	eventually(t, "three events", func() error {
		if n := strings.Count(readFile(out), "\n"); n < 3 {
			return fmt.Errorf("%d", n)
		}
		return nil
	})
	s.ok("kill", c.name, "KILL")
	c.wantStatus("stopped")
	s.ok("delete", c.name) // events ends with the cgroup
	r := s.finish(cmd)
	equal(t, "exit status", r.code, 0)
	equal(t, "type", decode[stats](t, strings.SplitN(r.stdout, "\n", 2)[0]).Type, "stats")
}

func TestOOM(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	c := s.create(resources(func(r *specs.LinuxResources) {
		r.Memory = &specs.LinuxMemory{Limit: ptr(int64(16 << 20)), Swap: ptr(int64(16 << 20))}
	}), script("a=xxxxxxxxxxxxxxxx; while :; do a=$a$a; done"))
	cmd := s.command("events", "--interval", "1h", c.name)
	s.start(cmd)
	out := cmd.Stdout.(*os.File).Name()
	eventually(t, "events at work", func() error {
		for _, to := range descriptors(t, cmd.Process.Pid) {
			if strings.Contains(to, byCgroup("eventfd", "inotify")) && strings.Contains(readFile(fmt.Sprintf("/proc/%d/cmdline", cmd.Process.Pid)), "events") {
				return nil
			}
		}
		return fmt.Errorf("waits for nothing")
	})
	s.ok("start", c.name)
	c.wantStatus("stopped")
	eventually(t, "event", func() error {
		if !strings.Contains(readFile(out), `"type":"oom"`) {
			return fmt.Errorf("%q", readFile(out))
		}
		return nil
	})
	s.ok("delete", c.name)
	s.finish(cmd)
}

// A cgroup with processes of somebody else isn't taken over.
func TestTwoContainersInOneCgroup(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	first := s.running()
	r := s.sock("create", "--bundle", s.bundle().dir, "second")
	if r.code == 0 {
		s.ok("delete", "--force", "second")
	}
	equal(t, "status of the first", first.state().Status, "running")
	equal(t, "cgroup of the first", strings.TrimSpace(readFile(first.cgroupFile("pids", "cgroup.procs"))), fmt.Sprint(first.pid()))
	s.ok("pause", first.name)
	s.ok("resume", first.name)
}

// A limit that not every host has is refused or set, never dropped.
func TestLimitsWithoutController(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, file, want string
		change           change
	}{
		{"hugepageLimits", "hugetlb.2MB.*", "4194304", resources(func(r *specs.LinuxResources) {
			r.HugepageLimits = []specs.LinuxHugepageLimit{{Pagesize: "2MB", Limit: 4 << 20}}
		})},
		{"network", "net_cls.classid", "1048577", resources(func(r *specs.LinuxResources) {
			r.Network = &specs.LinuxNetwork{ClassID: ptr(uint32(0x100001))}
		})},
		{"network", "net_prio.ifpriomap", "lo 5", resources(func(r *specs.LinuxResources) {
			r.Network = &specs.LinuxNetwork{Priorities: []specs.LinuxInterfacePriority{{Name: "lo", Priority: 5}}}
		})},
		{"swappiness", "memory.swappiness", "10", resources(func(r *specs.LinuxResources) {
			r.Memory = &specs.LinuxMemory{Swappiness: ptr(uint64(10))}
		})},
		{"unified", "misc.max", "x 1", resources(func(r *specs.LinuxResources) {
			r.Unified = map[string]string{"misc.max": "x 1"}
		})},
		{"rdma", "rdma.max", "mlx5_1 hca_handle=3", resources(func(r *specs.LinuxResources) {
			r.Rdma = map[string]specs.LinuxRdma{"mlx5_1": {HcaHandles: ptr(uint32(3))}}
		})},
	} {
		t.Run(c.name+" "+c.file, func(t *testing.T) {
			t.Parallel()
			s := newSandbox(t)
			b := s.bundle(c.change)
			r := s.sock("create", "--bundle", b.dir, "limited")
			if r.code != 0 {
				oneLine(t, r)
				if !strings.Contains(r.stderr, c.name) {
					t.Errorf("no %q in the error: %v", c.name, r)
				}
				return
			}
			defer s.ok("delete", "--force", "limited")
			for _, dir := range s.cgroups() {
				files, _ := filepath.Glob(filepath.Join(dir, c.file))
				for _, file := range files {
					if strings.Contains(readFile(file), c.want) {
						return
					}
				}
			}
			t.Errorf("created, but no %s says %s", c.file, c.want)
		})
	}
}
