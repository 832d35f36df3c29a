package cgroup

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/cgroups/fs"
	"github.com/opencontainers/cgroups/fs2"
)

// convertStats does with the library's statistics what runc's events does.
func convertStats(s *cgroups.Stats) *Stats {
	memory := func(m cgroups.MemoryData) MemoryEntry { return MemoryEntry{m.Limit, m.Usage, m.MaxUsage, m.Failcnt} }
	blkio := func(entries []cgroups.BlkioStatEntry) (out []BlkioEntry) {
		for _, e := range entries {
			out = append(out, BlkioEntry(e))
		}
		return out
	}
	psi := func(p *cgroups.PSIStats) *PSIStats {
		if p == nil {
			return nil
		}
		return &PSIStats{PSIData(p.Some), PSIData(p.Full)}
	}
	out := &Stats{CPUSet: CPUSet(s.CPUSetStats), Pids: Pids(s.PidsStats), Hugetlb: map[string]Hugetlb{}}
	u := s.CpuStats.CpuUsage
	out.CPU.Usage = CPUUsage{u.TotalUsage, u.PercpuUsage, u.PercpuUsageInKernelmode, u.PercpuUsageInUsermode, u.UsageInKernelmode, u.UsageInUsermode}
	out.CPU.Throttling = Throttling(s.CpuStats.ThrottlingData)
	out.CPU.PSI, out.Memory.PSI, out.Blkio.PSI = psi(s.CpuStats.PSI), psi(s.MemoryStats.PSI), psi(s.BlkioStats.PSI)
	m := s.MemoryStats
	out.Memory.Cache, out.Memory.Raw = m.Cache, m.Stats
	out.Memory.Usage, out.Memory.Swap, out.Memory.Kernel, out.Memory.KernelTCP = memory(m.Usage), memory(m.SwapUsage), memory(m.KernelUsage), memory(m.KernelTCPUsage)
	out.Blkio.IoServiceBytesRecursive, out.Blkio.IoServicedRecursive = blkio(s.BlkioStats.IoServiceBytesRecursive), blkio(s.BlkioStats.IoServicedRecursive)
	for size, h := range s.HugetlbStats {
		out.Hugetlb[size] = Hugetlb{h.Usage, h.MaxUsage, h.Failcnt}
	}
	return out
}

func toJSON(t *testing.T, s *Stats) string {
	t.Helper()
	text, err := json.MarshalIndent(s, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestStatsLikeRunc compares with runc's library on a frozen group, whose
// numbers stand still.
func TestStatsLikeRunc(t *testing.T) {
	onBoth(t, func(t *testing.T, g *Group) {
		create(t, g)
		startIn(t, g, "sleep 60 & wait")
		waitFor(t, "CPU time", func() bool { // the kernel may not have accounted for it yet
			stats, err := g.Stats()
			return err == nil && strings.Contains(toJSON(t, stats), `"total":`)
		})
		if err := g.Freeze(); err != nil {
			t.Fatal(err)
		}
		config := &cgroups.Cgroup{Resources: &cgroups.Resources{}}
		var manager cgroups.Manager
		var err error
		if g.Unified() {
			manager, err = fs2.NewManager(config, g.dirs[0].path)
		} else {
			paths := map[string]string{}
			for _, d := range g.dirs {
				for _, c := range d.Controllers {
					paths[c] = d.path
				}
			}
			manager, err = fs.NewManager(config, paths)
		}
		if err != nil {
			t.Fatal(err)
		}
		// Pages may still move between lists for a moment.
		var got, want string
		for range 20 {
			ours, err := g.Stats()
			if err != nil {
				t.Fatal(err)
			}
			theirs, err := manager.GetStats()
			if err != nil {
				t.Fatal(err)
			}
			got, want = toJSON(t, ours), toJSON(t, convertStats(theirs))
			if got == want {
				break
			}
		}
		if got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		if !strings.Contains(got, `"total":`) {
			t.Errorf("no CPU time in %s", got)
		}
	})
}

const sampleV2 = `cpu.stat: usage_usec 3000|user_usec 2000|system_usec 1000|nr_periods 5|nr_throttled 2|throttled_usec 7
memory.stat: anon 10|file 20
memory.current: 30
memory.max: 100
memory.peak: 60
memory.swap.current: 4
memory.swap.max: 50
io.stat: 8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6|8:16
pids.current: 3
pids.max: max
cpu.pressure: some avg10=1.50 avg60=2.00 avg300=0.00 total=12|full avg10=0.00 avg60=0.00 avg300=0.00 total=0`

func TestUnifiedStats(t *testing.T) {
	g, dir := fakeGroup(t, Unified)
	for line := range strings.Lines(sampleV2) {
		file, content, _ := strings.Cut(strings.TrimSpace(line), ": ")
		writeTestFile(t, dir, file, strings.ReplaceAll(content, "|", "\n")+"\n")
	}
	s, err := g.Stats()
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"cpu":{"usage":{"total":3000000,"kernel":1000000,"user":2000000},"throttling":{"periods":5,"throttledPeriods":2,"throttledTime":7000},` +
		`"psi":{"some":{"avg10":1.5,"avg60":2,"avg300":0,"total":12},"full":{"avg10":0,"avg60":0,"avg300":0,"total":0}}},` +
		`"cpuset":{"cpu_exclusive":0,"mem_hardwall":0,"mem_exclusive":0,"memory_migrate":0,"memory_spread_page":0,"memory_spread_slab":0,"memory_pressure":0,"sched_load_balance":0,"sched_relax_domain_level":0},` +
		`"memory":{"cache":20,"usage":{"limit":100,"usage":30,"max":60,"failcnt":0},"swap":{"limit":150,"usage":34,"failcnt":0},"kernel":{"limit":0,"failcnt":0},"kernelTCP":{"limit":0,"failcnt":0},"raw":{"anon":10,"file":20}},` +
		`"pids":{"current":3},` +
		`"blkio":{"ioServiceBytesRecursive":[{"major":8,"op":"Read","value":1},{"major":8,"op":"Write","value":2}],"ioServicedRecursive":[{"major":8,"op":"Read","value":3},{"major":8,"op":"Write","value":4}]},` +
		`"hugetlb":{},"intel_rdt":{},"network_interfaces":null}`
	got, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestParsers(t *testing.T) {
	for list, want := range map[string]string{"": "[]", "0-2,5": "[0 1 2 5]", "7": "[7]", "2-1": "", "x": "", "1-70000": ""} {
		got, err := parseRanges(list)
		if (err != nil) != (want == "") || err == nil && fmt.Sprint(got) != want {
			t.Errorf("ranges %q: got %v, %v", list, got, err)
		}
	}
	for text, want := range map[string]uint64{"5": 5, "-3": 0, "18446744073709551615": 1<<64 - 1} {
		if got, err := parseCounter(text); got != want || err != nil {
			t.Errorf("counter %q: got %d, %v", text, got, err)
		}
	}
	if _, err := parseCounter("-x"); err == nil {
		t.Error("-x passed for a number")
	}
	for line, want := range map[string]BlkioEntry{
		"8:1 Read 4096": {8, 1, "Read", 4096},
		"8:0 7":         {8, 0, "", 7},
		"Total 99":      {},
	} {
		if got, ok := parseBlkio(line); got != want || !ok {
			t.Errorf("%q: got %+v, %v", line, got, ok)
		}
	}
	for _, line := range []string{"8 Read 1", "a:b Read 1", "8:0 Read x", "8:0 Read 1 2", "8:0"} {
		if _, ok := parseBlkio(line); ok {
			t.Errorf("%q passed", line)
		}
	}
	sizes := map[uint64]string{64: "64KB", 2048: "2MB", 1 << 20: "1GB"}
	for kib := range maps.Keys(sizes) {
		if got := hugePageSize(kib); got != sizes[kib] {
			t.Errorf("%d KiB: got %s", kib, got)
		}
	}
}
