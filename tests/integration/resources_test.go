package integration

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	. "github.com/sock-runtime/sock/tests/sandbox"
)

// TestEveryResource sets each field of linux.resources, by create and by update, and reads it back from the cgroup. What a
// version of cgroups doesn't have must be refused.
func TestEveryResource(t *testing.T) {
	t.Parallel()
	device := ""
	if files, _ := filepath.Glob("/sys/block/*/dev"); len(files) > 0 {
		device = strings.TrimSpace(ReadFile(files[0]))
	}
	const mb = 1 << 20
	for _, c := range []struct {
		name      string
		resources specs.LinuxResources
		v1, v2    limits // nil: must be refused
	}{
		{"memory.limit", specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: Ptr(int64(64 * mb))}}, limits{"memory.limit_in_bytes": "67108864"}, limits{"memory.max": "67108864"}},
		{"memory.reservation", specs.LinuxResources{Memory: &specs.LinuxMemory{Reservation: Ptr(int64(32 * mb))}}, limits{"memory.soft_limit_in_bytes": "33554432"}, limits{"memory.low": "33554432"}},
		{"memory.swap", specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: Ptr(int64(64 * mb)), Swap: Ptr(int64(96 * mb))}}, limits{"memory.memsw.limit_in_bytes": "100663296"}, limits{"memory.swap.max": "33554432"}},
		{"memory.swap equal", specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: Ptr(int64(64 * mb)), Swap: Ptr(int64(64 * mb))}}, limits{"memory.memsw.limit_in_bytes": "67108864"}, limits{"memory.swap.max": "0"}},
		{"memory.swappiness", specs.LinuxResources{Memory: &specs.LinuxMemory{Swappiness: Ptr(uint64(7))}}, limits{"memory.swappiness": "7"}, nil},
		{"memory.disableOOMKiller", specs.LinuxResources{Memory: &specs.LinuxMemory{DisableOOMKiller: Ptr(true)}}, limits{"memory.oom_control": "oom_kill_disable 1"}, nil},
		{"memory.checkBeforeUpdate", specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: Ptr(int64(64 * mb)), CheckBeforeUpdate: Ptr(true)}}, limits{"memory.limit_in_bytes": "67108864"}, limits{"memory.max": "67108864"}},
		{"cpu.shares", specs.LinuxResources{CPU: &specs.LinuxCPU{Shares: Ptr(uint64(2048))}}, limits{"cpu.shares": "2048"}, limits{"cpu.weight": "174"}},
		{"cpu.quota", specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: Ptr(int64(50000))}}, limits{"cpu.cfs_quota_us": "50000"}, limits{"cpu.max": "50000 100000"}},
		{"cpu.period", specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: Ptr(int64(50000)), Period: Ptr(uint64(200000))}}, limits{"cpu.cfs_period_us": "200000"}, limits{"cpu.max": "50000 200000"}},
		{"cpu.burst", specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: Ptr(int64(50000)), Burst: Ptr(uint64(10000))}}, limits{"cpu.cfs_burst_us": "10000"}, limits{"cpu.max.burst": "10000"}},
		{"cpu.idle", specs.LinuxResources{CPU: &specs.LinuxCPU{Idle: Ptr(int64(1))}}, limits{"cpu.idle": "1"}, limits{"cpu.idle": "1"}},
		{"cpu.cpus", specs.LinuxResources{CPU: &specs.LinuxCPU{Cpus: "1"}}, limits{"cpuset.cpus": "1"}, limits{"cpuset.cpus": "1"}},
		{"cpu.mems", specs.LinuxResources{CPU: &specs.LinuxCPU{Mems: "0"}}, limits{"cpuset.mems": "0"}, limits{"cpuset.mems": "0"}},
		{"pids.limit", specs.LinuxResources{Pids: &specs.LinuxPids{Limit: Ptr(int64(77))}}, limits{"pids.max": "77"}, limits{"pids.max": "77"}},
		{"pids.limit zero", specs.LinuxResources{Pids: &specs.LinuxPids{Limit: Ptr(int64(0))}}, limits{"pids.max": "1"}, limits{"pids.max": "1"}},
		{"pids.limit none", specs.LinuxResources{Pids: &specs.LinuxPids{Limit: Ptr(int64(-1))}}, limits{"pids.max": "max"}, limits{"pids.max": "max"}},
		{"blockIO.weight", specs.LinuxResources{BlockIO: &specs.LinuxBlockIO{Weight: Ptr(uint16(500))}}, limits{"blkio.bfq.weight": "500"}, limits{"io.weight": "default 4950"}},
		{"blockIO.throttleReadBpsDevice", specs.LinuxResources{BlockIO: &specs.LinuxBlockIO{ThrottleReadBpsDevice: throttle(mb)}}, limits{"blkio.throttle.read_bps_device": device + " 1048576"}, limits{"io.max": "rbps=1048576"}},
		{"blockIO.throttleWriteBpsDevice", specs.LinuxResources{BlockIO: &specs.LinuxBlockIO{ThrottleWriteBpsDevice: throttle(mb)}}, limits{"blkio.throttle.write_bps_device": device + " 1048576"}, limits{"io.max": "wbps=1048576"}},
		{"blockIO.throttleReadIOPSDevice", specs.LinuxResources{BlockIO: &specs.LinuxBlockIO{ThrottleReadIOPSDevice: throttle(50)}}, limits{"blkio.throttle.read_iops_device": device + " 50"}, limits{"io.max": "riops=50"}},
		{"blockIO.throttleWriteIOPSDevice", specs.LinuxResources{BlockIO: &specs.LinuxBlockIO{ThrottleWriteIOPSDevice: throttle(50)}}, limits{"blkio.throttle.write_iops_device": device + " 50"}, limits{"io.max": "wiops=50"}},
		{"hugepageLimits", specs.LinuxResources{HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "2MB", Limit: 4 * mb}}}, limits{"hugetlb.2MB.limit_in_bytes": "4194304", "hugetlb.2MB.rsvd.limit_in_bytes": "4194304"}, limits{"hugetlb.2MB.max": "4194304", "hugetlb.2MB.rsvd.max": "4194304"}},
		{"network.classID", specs.LinuxResources{Network: &specs.LinuxNetwork{ClassID: Ptr(uint32(0x100001))}}, limits{"net_cls.classid": "1048577"}, nil},
		{"network.priorities", specs.LinuxResources{Network: &specs.LinuxNetwork{Priorities: []specs.LinuxInterfacePriority{{Name: "lo", Priority: 5}}}}, limits{"net_prio.ifpriomap": "lo 5"}, nil},
		{"unified", specs.LinuxResources{Unified: map[string]string{"memory.high": "48M", "pids.max": "66"}}, nil, limits{"memory.high": "50331648", "pids.max": "66"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			want := ByCgroup(c.v1, c.v2)
			for _, by := range []string{"create", "update"} {
				s := NewSandbox(t)
				set := func(config *specs.Spec) {
					devices := config.Linux.Resources.Devices
					r := c.resources
					r.Devices = devices
					config.Linux.Resources = &r
				}
				if by == "update" {
					set = func(*specs.Spec) {}
				}
				b := s.Bundle(set)
				id := s.NewID()
				created := s.Sock("create", "--bundle", b.Dir, id)
				last := created
				if by == "update" && created.Code == 0 {
					data, err := json.Marshal(c.resources)
					Must(t, err)
					cmd := s.Command("update", "--resources", "-", id)
					cmd.Stdin = strings.NewReader(string(data))
					last = s.Do(cmd)
				}
				field, _, _ := strings.Cut(c.name, " ")
				if last.Code != 0 {
					t.Logf("%s: %v", by, last)
					OneLine(t, last)
					if !strings.Contains(last.Stderr, "linux.resources."+field) {
						t.Errorf("%s: the error doesn't name the field: %v", by, last)
					}
					if want != nil && !missing(want) {
						t.Errorf("%s: %v", by, last)
					}
					continue
				}
				if want == nil {
					t.Errorf("%s: taken, but this version of cgroups doesn't have it", by)
					continue
				}
				box := &Container{Sandbox: s, Bundle: b, ID: id}
				for name, text := range want {
					controller, _, _ := strings.Cut(name, ".")
					file := box.CgroupFile(controller, name)
					if _, err := os.Stat(file); err != nil && strings.Contains(name, ".rsvd.") {
						continue
					}
					if got := ReadFile(file); !says(got, text) {
						t.Errorf("%s: %s is %q, want %q", by, name, got, text)
					}
				}
			}
		})
	}
}

// says tells whether a line of a cgroup's file is text, or has it among its words.
func says(file, text string) bool {
	for line := range strings.Lines(file) {
		if strings.Contains(" "+strings.TrimSpace(line)+" ", " "+text+" ") {
			return true
		}
	}
	return false
}

// missing tells whether the kernel lacks a controller, or may lack a file.
func missing(want limits) bool {
	for name := range want {
		controller, _, _ := strings.Cut(name, ".")
		if slices.Contains(append(optional, "blkio.bfq.weight", "io.weight"), name) {
			return true
		}
		if Unified() {
			return !slices.Contains(strings.Fields(ReadFile(CgroupRoot+"/cgroup.controllers")), controller)
		}
		if _, err := os.Stat(filepath.Join(CgroupRoot, controller)); err != nil {
			return true
		}
	}
	return false
}

// A limit of one process, which 0 amounts to, leaves room for init.
func TestPidsLimitOfOne(t *testing.T) {
	t.Parallel()
	for _, limit := range []int64{0, 1} {
		for name, change := range map[string]Change{"plain": func(*specs.Spec) {}, "user namespace": InUserNamespace} {
			t.Run(fmt.Sprint(name, " ", limit), func(t *testing.T) {
				t.Parallel()
				s := NewSandbox(t)
				c := s.Running(change, resources(func(r *specs.LinuxResources) { r.Pids = &specs.LinuxPids{Limit: &limit} }))
				wantLimits(c, limits{"pids.max": "1"}, limits{"pids.max": "1"})
			})
		}
	}
}

// The container's process owns its cgroup where config-linux.md says so, "Cgroup ownership": on v2, with a cgroup namespace
// and a writable mount.
func TestCgroupOwnership(t *testing.T) {
	t.Parallel()
	writable := func(c *specs.Spec) {
		WithNamespace(specs.CgroupNamespace, "")(c)
		for i, m := range c.Mounts {
			if m.Destination == "/sys/fs/cgroup" {
				c.Mounts[i].Source, c.Mounts[i].Options = "cgroup", []string{"nosuid", "noexec", "nodev", "rw"}
			}
		}
	}
	readonly := func(c *specs.Spec) {
		writable(c)
		for i, m := range c.Mounts {
			if m.Destination == "/sys/fs/cgroup" {
				c.Mounts[i].Options = []string{"ro"}
			}
		}
	}
	user := func(c *specs.Spec) { c.Process.User.UID = 1000 }
	for _, c := range []struct {
		name    string
		changes []Change
		owner   uint32 // on v2
	}{
		{"user", []Change{writable, user}, 1000},
		{"user namespace", []Change{InUserNamespace, writable}, 100000},
		{"read-only", []Change{readonly, user}, 0},
		{"no namespace", []Change{writable, WithoutNamespace(specs.CgroupNamespace), user}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := NewSandbox(t)
			box := s.Running(c.changes...)
			for _, name := range []string{"", "cgroup.procs", "cgroup.subtree_control"} {
				file := box.CgroupFile("pids", name)
				info, err := os.Stat(file)
				if os.IsNotExist(err) && !Unified() {
					continue
				}
				Must(t, err)
				Equal(t, "owner of "+file, info.Sys().(*syscall.Stat_t).Uid, ByCgroup(0, c.owner))
			}
			if Unified() && c.owner != 0 {
				box.Inside("mkdir /sys/fs/cgroup/below")
			}
		})
	}
}

// systemd writes its rules anew when it reloads its units: nothing that was denied is allowed by it, and on v2 nothing that
// was allowed is denied.
func TestSystemdReload(t *testing.T) {
	t.Parallel()
	s := NewSystemdSandbox(t)
	Need(t, s.Fake == nil, "needs the real systemd")
	for name, rule := range map[string]Change{
		"listed": func(*specs.Spec) {},
		"all but one": resources(func(r *specs.LinuxResources) {
			r.Devices = []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}, {Type: "c", Major: Ptr(int64(1)), Minor: Ptr(int64(11)), Access: "rw"}}
		}),
	} {
		t.Run(name, func(t *testing.T) {
			s := NewSystemdSandbox(t)
			c := s.Running(rule, func(c *specs.Spec) {
				c.Linux.Devices = append(c.Linux.Devices, specs.LinuxDevice{Path: "/dev/kmsg", Type: "c", Major: 1, Minor: 11})
			})
			try := func(when string) {
				if got := c.Inside("(echo x > /dev/null && head -c 1 /dev/zero > /dev/null) 2>&1 || true"); got != "" && (Unified() || name == "listed") {
					t.Errorf("%s: %s", when, got)
				}
				if got := c.Inside("head -c 1 /dev/kmsg 2>&1 || true"); !strings.Contains(got, "not permitted") {
					t.Errorf("%s: the device that is denied says %q", when, got)
				}
			}
			try("before")
			out, err := exec.Command("systemctl", "daemon-reload").CombinedOutput()
			if err != nil {
				t.Fatalf("systemctl daemon-reload: %v: %s", err, out)
			}
			s.OK("update", "--pids-limit", "99", c.ID)
			try("after")
		})
	}
}
