package cgroup

import (
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/cgroups/fs"
	"github.com/opencontainers/cgroups/fs2"
	"github.com/opencontainers/runtime-spec/specs-go"
)

func p[T any](v T) *T { return &v }

// limits are resources and the same in the form of runc's library.
var limits = map[string]struct {
	spec specs.LinuxResources
	lib  cgroups.Resources
}{
	"pids":         {specs.LinuxResources{Pids: &specs.LinuxPids{Limit: p(int64(64))}}, cgroups.Resources{PidsLimit: p(int64(64))}},
	"pids zero":    {specs.LinuxResources{Pids: &specs.LinuxPids{Limit: p(int64(0))}}, cgroups.Resources{PidsLimit: p(int64(0))}},
	"pids none":    {specs.LinuxResources{Pids: &specs.LinuxPids{Limit: p(int64(-1))}}, cgroups.Resources{PidsLimit: p(int64(-1))}},
	"memory":       {specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: p(int64(1 << 29))}}, cgroups.Resources{Memory: 1 << 29}},
	"memory none":  {specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: p(int64(-1))}}, cgroups.Resources{Memory: -1}},
	"swap":         {specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: p(int64(1 << 29)), Swap: p(int64(3 << 29))}}, cgroups.Resources{Memory: 1 << 29, MemorySwap: 3 << 29}},
	"no swap":      {specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: p(int64(1 << 29)), Swap: p(int64(1 << 29))}}, cgroups.Resources{Memory: 1 << 29, MemorySwap: 1 << 29}},
	"swap none":    {specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: p(int64(1 << 29)), Swap: p(int64(-1))}}, cgroups.Resources{Memory: 1 << 29, MemorySwap: -1}},
	"reservation":  {specs.LinuxResources{Memory: &specs.LinuxMemory{Reservation: p(int64(1 << 28))}}, cgroups.Resources{MemoryReservation: 1 << 28}},
	"ignored":      {specs.LinuxResources{Memory: &specs.LinuxMemory{KernelTCP: p(int64(1)), UseHierarchy: p(true), DisableOOMKiller: p(false)}}, cgroups.Resources{}},
	"shares":       {specs.LinuxResources{CPU: &specs.LinuxCPU{Shares: p(uint64(2048))}}, cgroups.Resources{CpuShares: 2048, CpuWeight: cgroups.ConvertCPUSharesToCgroupV2Value(2048)}},
	"quota":        {specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: p(int64(50000))}}, cgroups.Resources{CpuQuota: 50000}},
	"quota none":   {specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: p(int64(-1)), Period: p(uint64(1000))}}, cgroups.Resources{CpuQuota: -1, CpuPeriod: 1000}},
	"bandwidth":    {specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: p(int64(50000)), Period: p(uint64(200000)), Burst: p(uint64(7))}}, cgroups.Resources{CpuQuota: 50000, CpuPeriod: 200000, CpuBurst: p(uint64(7))}},
	"idle":         {specs.LinuxResources{CPU: &specs.LinuxCPU{Idle: p(int64(1))}}, cgroups.Resources{CPUIdle: p(int64(1))}},
	"cpuset":       {specs.LinuxResources{CPU: &specs.LinuxCPU{Cpus: "0-1", Mems: "0"}}, cgroups.Resources{CpusetCpus: "0-1", CpusetMems: "0"}},
	"io weight":    {specs.LinuxResources{BlockIO: &specs.LinuxBlockIO{Weight: p(uint16(500))}}, cgroups.Resources{BlkioWeight: 500}},
	"io read bps":  {specs.LinuxResources{BlockIO: &specs.LinuxBlockIO{ThrottleReadBpsDevice: []specs.LinuxThrottleDevice{throttled(8, 0, 9)}}}, cgroups.Resources{BlkioThrottleReadBpsDevice: []*cgroups.ThrottleDevice{cgroups.NewThrottleDevice(8, 0, 9)}}},
	"io write bps": {specs.LinuxResources{BlockIO: &specs.LinuxBlockIO{ThrottleWriteBpsDevice: []specs.LinuxThrottleDevice{throttled(8, 0, 9)}}}, cgroups.Resources{BlkioThrottleWriteBpsDevice: []*cgroups.ThrottleDevice{cgroups.NewThrottleDevice(8, 0, 9)}}},
	"io read ops":  {specs.LinuxResources{BlockIO: &specs.LinuxBlockIO{ThrottleReadIOPSDevice: []specs.LinuxThrottleDevice{throttled(8, 0, 9)}}}, cgroups.Resources{BlkioThrottleReadIOPSDevice: []*cgroups.ThrottleDevice{cgroups.NewThrottleDevice(8, 0, 9)}}},
	"io write ops": {specs.LinuxResources{BlockIO: &specs.LinuxBlockIO{ThrottleWriteIOPSDevice: []specs.LinuxThrottleDevice{throttled(8, 0, 9)}}}, cgroups.Resources{BlkioThrottleWriteIOPSDevice: []*cgroups.ThrottleDevice{cgroups.NewThrottleDevice(8, 0, 9)}}},
	"hugepages":    {specs.LinuxResources{HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "2MB", Limit: 4 << 20}}}, cgroups.Resources{HugetlbLimit: []*cgroups.HugepageLimit{{Pagesize: "2MB", Limit: 4 << 20}}}},
	"rdma":         {specs.LinuxResources{Rdma: map[string]specs.LinuxRdma{"mlx5_1": {HcaHandles: p(uint32(3)), HcaObjects: p(uint32(4))}}}, cgroups.Resources{Rdma: map[string]cgroups.LinuxRdma{"mlx5_1": {HcaHandles: p(uint32(3)), HcaObjects: p(uint32(4))}}}},
}

// limitsV1 can only be set on v1.
var limitsV1 = map[string]struct {
	spec specs.LinuxResources
	lib  cgroups.Resources
}{
	"oom":        {specs.LinuxResources{Memory: &specs.LinuxMemory{DisableOOMKiller: p(true)}}, cgroups.Resources{OomKillDisable: true}},
	"swappiness": {specs.LinuxResources{Memory: &specs.LinuxMemory{Swappiness: p(uint64(0))}}, cgroups.Resources{MemorySwappiness: p(uint64(0))}},
	"realtime":   {specs.LinuxResources{CPU: &specs.LinuxCPU{RealtimePeriod: p(uint64(1000)), RealtimeRuntime: p(int64(500))}}, cgroups.Resources{CpuRtPeriod: 1000, CpuRtRuntime: 500}},
	"leaf":       {specs.LinuxResources{BlockIO: &specs.LinuxBlockIO{LeafWeight: p(uint16(300))}}, cgroups.Resources{BlkioLeafWeight: 300}},
	"device": {
		specs.LinuxResources{BlockIO: &specs.LinuxBlockIO{WeightDevice: []specs.LinuxWeightDevice{weighted(8, 0, 200, 300)}}},
		cgroups.Resources{BlkioWeightDevice: []*cgroups.WeightDevice{cgroups.NewWeightDevice(8, 0, 200, 300)}},
	},
	"network": {
		specs.LinuxResources{Network: &specs.LinuxNetwork{ClassID: p(uint32(0x100001)), Priorities: []specs.LinuxInterfacePriority{{Name: "eth0", Priority: 5}}}},
		cgroups.Resources{NetClsClassid: 0x100001, NetPrioIfpriomap: []*cgroups.IfPrioMap{{Interface: "eth0", Priority: 5}}},
	},
}

func throttled(major, minor int64, rate uint64) specs.LinuxThrottleDevice {
	d := specs.LinuxThrottleDevice{Rate: rate}
	d.Major, d.Minor = major, minor
	return d
}

func weighted(major, minor int64, weight, leaf uint16) specs.LinuxWeightDevice {
	d := specs.LinuxWeightDevice{Weight: &weight, LeafWeight: &leaf}
	d.Major, d.Minor = major, minor
	return d
}

// fakeGroup is a group whose directories are ordinary ones.
func fakeGroup(t *testing.T, mode Mode) (g *Group, dir string) {
	t.Helper()
	dir = t.TempDir()
	h := Hierarchy{Name: "unified"}
	if mode != Unified {
		h = Hierarchy{Name: "all", Controllers: strings.Fields(v1Controllers)}
	}
	return &Group{mode: mode, dirs: groupDirs(h, dir)}, dir
}

func groupDirs(h Hierarchy, path string) []dir { return []dir{{Hierarchy: h, path: path}} }

func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		content, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		all[e.Name()] = string(content)
	}
	return all
}

// TestLimitsLikeRunc has runc's library and us write the same limits into
// directories of ordinary files and compares those.
func TestLimitsLikeRunc(t *testing.T) {
	cgroups.TestMode = true
	defer func() { cgroups.TestMode = false }()
	for _, mode := range []Mode{Legacy, Unified} {
		all := maps.Clone(limits)
		if mode == Legacy {
			maps.Copy(all, limitsV1)
		}
		for name, tc := range all {
			t.Run(mode.String()+" "+name, func(t *testing.T) {
				theirs := t.TempDir()
				g, ours := fakeGroup(t, mode)
				for _, dir := range []string{theirs, ours} { // what is read before it is written
					writeTestFile(t, dir, "cgroup.controllers", "cpu")
					if mode == Legacy {
						writeTestFile(t, dir, "memory.limit_in_bytes", "0")
						writeTestFile(t, dir, "memory.memsw.limit_in_bytes", "0")
						writeTestFile(t, dir, "blkio.weight", "")
						writeTestFile(t, dir, "blkio.weight_device", "")
					}
				}
				tc.lib.SkipDevices = true
				if err := runcSet(mode, theirs, &tc.lib); err != nil {
					t.Fatal(err)
				}
				want := files(t, theirs)
				for file := range want {
					if _, err := os.Stat(filepath.Join(ours, file)); err != nil {
						writeTestFile(t, ours, file, "")
					}
				}
				if err := g.UpdateSet(&tc.spec); err != nil {
					t.Fatal(err)
				}
				if got := files(t, ours); !maps.Equal(got, want) {
					t.Errorf("got  %v\nwant %v", got, want)
				}
			})
		}
	}
}

func runcSet(mode Mode, dir string, r *cgroups.Resources) error {
	config := &cgroups.Cgroup{Resources: r}
	if mode == Unified {
		m, err := fs2.NewManager(config, dir)
		if err != nil {
			return err
		}
		return m.Set(r)
	}
	paths := map[string]string{}
	for c := range strings.FieldsSeq(v1Controllers) {
		if c != "freezer" && c != "debug" {
			paths[c] = dir
		}
	}
	m, err := fs.NewManager(config, paths)
	if err != nil {
		return err
	}
	return m.Set(r)
}

func writeTestFile(t *testing.T, dir, name, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestConversionsLikeRunc(t *testing.T) {
	for shares := uint64(0); shares < 300000; shares = shares*5/4 + 1 {
		if got, want := cpuWeight(shares), cgroups.ConvertCPUSharesToCgroupV2Value(shares); got != number(&want) {
			t.Errorf("%d shares: got weight %s, want %d", shares, got, want)
		}
	}
	for _, weight := range []uint16{0, 10, 11, 100, 500, 999, 1000} {
		if got, want := ioWeight(weight), cgroups.ConvertBlkIOToIOWeightValue(weight); got != number(&want) {
			t.Errorf("blkio weight %d: got %s, want %d", weight, got, want)
		}
	}
	for _, memory := range []int64{-2, -1, 0, 1, 10} {
		for _, total := range []int64{-1, 0, 1, 5, 10, 30} {
			got, err := swapMax(memory, total)
			want, wantErr := cgroups.ConvertMemorySwapToCgroupV2Value(total, memory)
			if (err == nil) != (wantErr == nil) {
				t.Errorf("memory %d, swap %d: %v, want %v", memory, total, err, wantErr)
			}
			if wantText := orMax(numberOrZero(&want)); err == nil && total != 0 && got != wantText {
				t.Errorf("memory %d, swap %d: got %s, want %s", memory, total, got, wantText)
			}
		}
	}
	if got := clampMax(math.MaxUint64); got != -1 {
		t.Errorf("no limit: got %d", got)
	}
}

// TestUpdateUnified checks updates that depend on the present limits.
func TestUpdateUnified(t *testing.T) {
	for name, tc := range map[string]struct {
		before map[string]string
		r      specs.LinuxResources
		after  map[string]string
		err    string
	}{
		"period only": {
			map[string]string{"cpu.max": "5 100"},
			specs.LinuxResources{CPU: &specs.LinuxCPU{Period: p(uint64(200))}},
			map[string]string{"cpu.max": "5 200"},
			"",
		},
		"quota only": {
			map[string]string{"cpu.max": "5 100"},
			specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: p(int64(70))}},
			map[string]string{"cpu.max": "70 100"},
			"",
		},
		"memory only keeps the sum": {
			map[string]string{"memory.max": "400", "memory.swap.max": "100"},
			specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: p(int64(300))}},
			map[string]string{"memory.max": "300", "memory.swap.max": "200"},
			"",
		},
		"memory above the sum": {
			map[string]string{"memory.max": "400", "memory.swap.max": "100"},
			specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: p(int64(600))}},
			map[string]string{"memory.max": "400", "memory.swap.max": "100"},
			"linux.resources.memory.swap: memory+swap limit",
		},
		"swap only": {
			map[string]string{"memory.max": "400", "memory.swap.max": "100"},
			specs.LinuxResources{Memory: &specs.LinuxMemory{Swap: p(int64(700))}},
			map[string]string{"memory.max": "400", "memory.swap.max": "300"},
			"",
		},
		"check before update": {
			map[string]string{"memory.max": "400", "memory.current": "350"},
			specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: p(int64(300)), CheckBeforeUpdate: p(true)}},
			map[string]string{"memory.max": "400", "memory.current": "350"},
			"linux.resources.memory.limit: rejecting memory limit 300 <= usage 350",
		},
		"unified": {
			map[string]string{"memory.high": "", "io.max": ""},
			specs.LinuxResources{Unified: map[string]string{"memory.high": "12", "io.max": "8:0 rbps=1\n"}},
			map[string]string{"memory.high": "12", "io.max": "8:0 rbps=1\n"},
			"",
		},
		"unlimited throttle": {
			map[string]string{"io.max": ""},
			specs.LinuxResources{BlockIO: &specs.LinuxBlockIO{ThrottleReadBpsDevice: []specs.LinuxThrottleDevice{throttled(8, 0, 0)}}},
			map[string]string{"io.max": "8:0 rbps=max"},
			"",
		},
	} {
		g, dir := fakeGroup(t, Unified)
		for file, content := range tc.before {
			writeTestFile(t, dir, file, content)
		}
		err := g.UpdateSet(&tc.r)
		if (err == nil) != (tc.err == "") || err != nil && !strings.HasPrefix(err.Error(), tc.err) {
			t.Errorf("%s: %v", name, err)
		}
		if got := files(t, dir); !maps.Equal(got, tc.after) {
			t.Errorf("%s: got %v, want %v", name, got, tc.after)
		}
	}
}

// TestRefusedLimits checks that nothing is dropped that can't be enforced.
func TestRefusedLimits(t *testing.T) {
	check := func(t *testing.T, g *Group, r specs.LinuxResources, want string) {
		t.Helper()
		if err := g.setLimits(&r, false); err == nil || !strings.HasPrefix(err.Error(), "linux.resources."+want) {
			t.Errorf("got %v, want linux.resources.%s", err, want)
		}
	}
	v2, dir := fakeGroup(t, Unified)
	writeTestFile(t, dir, "cgroup.controllers", "cpu pids")
	writeTestFile(t, dir, "memory.swap.max", "")
	for want, r := range map[string]specs.LinuxResources{
		"memory.limit: memory controller is not available": {Memory: &specs.LinuxMemory{Limit: p(int64(1))}},
		"memory.swap: unable to set swap limit without":    {Memory: &specs.LinuxMemory{Swap: p(int64(5))}},
		"memory.swappiness: not possible on cgroup v2":     {Memory: &specs.LinuxMemory{Swappiness: p(uint64(10))}},
		"memory.disableOOMKiller: not possible":            limitsV1["oom"].spec,
		"cpu.realtimeRuntime: not possible":                limitsV1["realtime"].spec,
		"blockIO.leafWeight: not possible":                 limitsV1["leaf"].spec,
		"network.classID: not possible":                    limitsV1["network"].spec,
		`unified["memory.high"]: memory controller is not`: {Unified: map[string]string{"memory.high": "1"}},
		`unified["../x.y"]: must be a file name`:           {Unified: map[string]string{"../x.y": "1"}},
		`unified["memory"]: must be in the form`:           {Unified: map[string]string{"memory": "1"}},
		`hugepageLimits[0].pageSize: "/2MB"`:               {HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "/2MB"}}},
	} {
		check(t, v2, r, want)
	}
	v1 := &Group{mode: Legacy}
	for want, r := range map[string]specs.LinuxResources{
		"memory.limit: memory hierarchy is not mounted":     {Memory: &specs.LinuxMemory{Limit: p(int64(1))}},
		"network.classID: net_cls hierarchy is not mounted": limitsV1["network"].spec,
		"hugepageLimits[0]: hugetlb hierarchy is not":       limits["hugepages"].spec,
		"rdma.mlx5_1: rdma hierarchy is not mounted":        limits["rdma"].spec,
		"unified: not possible on cgroup v1":                {Unified: map[string]string{"memory.high": "1"}},
		"memory.swappiness: 101 is not in the range":        {Memory: &specs.LinuxMemory{Swappiness: p(uint64(101))}},
		"blockIO.throttleReadBpsDevice[0]: blkio hierarchy": limits["io read bps"].spec,
		"cpu.cpus: cpuset hierarchy is not mounted":         limits["cpuset"].spec,
	} {
		check(t, v1, r, want)
	}
}

// TestLimitsOnHost sets limits for real and reads them back.
func TestLimitsOnHost(t *testing.T) {
	g := testGroup(t)
	create(t, g)
	r := &specs.LinuxResources{
		Memory: &specs.LinuxMemory{Limit: p(int64(64 << 20)), Reservation: p(int64(32 << 20))},
		CPU:    &specs.LinuxCPU{Shares: p(uint64(512)), Quota: p(int64(50000)), Period: p(uint64(100000)), Cpus: "0", Mems: "0"},
		Pids:   &specs.LinuxPids{Limit: p(int64(20))},
	}
	if err := g.Set(r); err != nil {
		t.Fatal(err)
	}
	if !g.Unified() {
		low := &specs.LinuxResources{CPU: &specs.LinuxCPU{Shares: p(uint64(1))}}
		if err := g.UpdateSet(low); err == nil || !strings.Contains(err.Error(), "the minimum allowed cpu-shares is 2") {
			t.Errorf("too few shares: %v", err)
		}
		if err := g.UpdateSet(r); err != nil {
			t.Fatal(err)
		}
	}
	startIn(t, g, "exec sleep 60")
	// Raising memory above the old limit, and taking a period that the old
	// quota would not fit in, need the right order of writes.
	update := &specs.LinuxResources{
		Memory: &specs.LinuxMemory{Limit: p(int64(128 << 20))},
		CPU:    &specs.LinuxCPU{Quota: p(int64(5000)), Period: p(uint64(10000))},
	}
	if err := g.UpdateSet(update); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"memory.limit_in_bytes": "134217728", "memory.soft_limit_in_bytes": "33554432", "pids.max": "20",
		"cpu.shares": "512", "cpu.cfs_quota_us": "5000", "cpu.cfs_period_us": "10000", "cpuset.cpus": "0",
	}
	if g.Unified() {
		want = map[string]string{
			"memory.max": "134217728", "memory.low": "33554432", "pids.max": "20",
			"cpu.weight": cpuWeight(512), "cpu.max": "5000 10000", "cpuset.cpus": "0",
		}
	}
	for _, file := range slices.Sorted(maps.Keys(want)) {
		controller, _, _ := strings.Cut(file, ".")
		got, err := readTrimmed(g.dir(controller).path, file)
		if err != nil || got != want[file] {
			t.Errorf("%s: got %q, %v, want %q", file, got, err, want[file])
		}
	}
}

// TestLimitsLikeRuncInKernel has runc's library and us set the same limits of two cgroups, and compares what the kernel made
// of them.
func TestLimitsLikeRuncInKernel(t *testing.T) {
	all := maps.Clone(limits)
	if HostMode() != Unified {
		maps.Copy(all, limitsV1)
		// The library remembers which of two files there was, from a test before this one.
		delete(all, "io weight")
		delete(all, "device")
	}
	for name, tc := range all {
		t.Run(name, func(t *testing.T) {
			ours := testGroup(t)
			theirs := *ours
			theirs.dirs = slices.Clone(ours.dirs)
			for i, d := range theirs.dirs {
				theirs.dirs[i].path = d.path + "-runc"
			}
			create(t, ours)
			create(t, &theirs)
			lib := tc.lib
			lib.SkipDevices = true
			config := &cgroups.Cgroup{Resources: &cgroups.Resources{}}
			var manager cgroups.Manager
			var err error
			if ours.Unified() {
				manager, err = fs2.NewManager(config, theirs.dirs[0].path)
			} else {
				paths := map[string]string{}
				for _, d := range theirs.dirs {
					for _, c := range d.Controllers {
						paths[c] = d.path
					}
				}
				manager, err = fs.NewManager(config, paths)
			}
			if err != nil {
				t.Fatal(err)
			}
			theirErr := manager.Set(&lib)
			err = ours.setLimits(&tc.spec, false)
			if err != nil || theirErr != nil {
				t.Logf("ours: %v; runc's: %v", err, theirErr)
				if (err == nil) != (theirErr == nil) {
					t.Errorf("ours: %v; runc's: %v", err, theirErr)
				}
				return
			}
			settings, err := ours.settings(&tc.spec, false)
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range settings {
				got, _ := readTrimmed(ours.dir(s.controller).path, s.file)
				want, _ := readTrimmed(theirs.dir(s.controller).path, s.file)
				if got != want || got == "" && !strings.HasPrefix(s.file, "rdma.") {
					t.Errorf("%s: %q, runc's is %q", s.file, got, want)
				}
			}
		})
	}
}
