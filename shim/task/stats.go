package task

import (
	"math"

	v1 "github.com/containerd/cgroups/v3/cgroup1/stats"
	v2stats "github.com/containerd/cgroups/v3/cgroup2/stats"
	"google.golang.org/protobuf/proto"

	"github.com/sock-runtime/sock/libsock/cgroup"
)

// measured is what has a cgroup: a container, or the cgroup of a pod.
type measured interface {
	Stats() (*cgroup.Stats, error)
	OOMKills() (uint64, error)
}

// Metrics reads the use of resources in the form that containerd's clients know for the host's cgroups. Errors:
// fs.ErrNotExist if there is no such cgroup.
func Metrics(of measured) (proto.Message, error) {
	s, err := of.Stats()
	if err != nil {
		return nil, err
	}
	kills, err := of.OOMKills()
	if err != nil {
		return nil, err
	}
	if cgroup.HostMode() == cgroup.Unified {
		return unifiedMetrics(s, kills), nil
	}
	return legacyMetrics(s, kills), nil
}

func legacyMetrics(s *cgroup.Stats, oomKills uint64) *v1.Metrics {
	raw := s.Memory.Raw
	m := &v1.Metrics{
		Pids: &v1.PidsStat{Current: s.Pids.Current, Limit: s.Pids.Limit},
		CPU: &v1.CPUStat{
			Usage: &v1.CPUUsage{Total: s.CPU.Usage.Total, Kernel: s.CPU.Usage.Kernel, User: s.CPU.Usage.User, PerCPU: s.CPU.Usage.Percpu},
			Throttling: &v1.Throttle{
				Periods: s.CPU.Throttling.Periods, ThrottledPeriods: s.CPU.Throttling.ThrottledPeriods, ThrottledTime: s.CPU.Throttling.ThrottledTime,
			},
		},
		Memory: &v1.MemoryStat{
			Cache: raw["cache"], RSS: raw["rss"], RSSHuge: raw["rss_huge"], MappedFile: raw["mapped_file"], Dirty: raw["dirty"],
			Writeback: raw["writeback"], PgPgIn: raw["pgpgin"], PgPgOut: raw["pgpgout"], PgFault: raw["pgfault"], PgMajFault: raw["pgmajfault"],
			InactiveAnon: raw["inactive_anon"], ActiveAnon: raw["active_anon"], InactiveFile: raw["inactive_file"], ActiveFile: raw["active_file"],
			Unevictable: raw["unevictable"], HierarchicalMemoryLimit: raw["hierarchical_memory_limit"],
			HierarchicalSwapLimit: raw["hierarchical_memsw_limit"], TotalCache: raw["total_cache"], TotalRSS: raw["total_rss"],
			TotalRSSHuge: raw["total_rss_huge"], TotalMappedFile: raw["total_mapped_file"], TotalDirty: raw["total_dirty"],
			TotalWriteback: raw["total_writeback"], TotalPgPgIn: raw["total_pgpgin"], TotalPgPgOut: raw["total_pgpgout"],
			TotalPgFault: raw["total_pgfault"], TotalPgMajFault: raw["total_pgmajfault"], TotalInactiveAnon: raw["total_inactive_anon"],
			TotalActiveAnon: raw["total_active_anon"], TotalInactiveFile: raw["total_inactive_file"], TotalActiveFile: raw["total_active_file"],
			TotalUnevictable: raw["total_unevictable"],
			Usage:            legacyEntry(s.Memory.Usage), Swap: legacyEntry(s.Memory.Swap), Kernel: legacyEntry(s.Memory.Kernel),
			KernelTCP: legacyEntry(s.Memory.KernelTCP),
		},
		MemoryOomControl: &v1.MemoryOomControl{OomKill: oomKills},
		Blkio: &v1.BlkIOStat{
			IoServiceBytesRecursive: legacyBlkio(s.Blkio.IoServiceBytesRecursive), IoServicedRecursive: legacyBlkio(s.Blkio.IoServicedRecursive),
			IoQueuedRecursive: legacyBlkio(s.Blkio.IoQueuedRecursive), IoServiceTimeRecursive: legacyBlkio(s.Blkio.IoServiceTimeRecursive),
			IoWaitTimeRecursive: legacyBlkio(s.Blkio.IoWaitTimeRecursive), IoMergedRecursive: legacyBlkio(s.Blkio.IoMergedRecursive),
			IoTimeRecursive: legacyBlkio(s.Blkio.IoTimeRecursive), SectorsRecursive: legacyBlkio(s.Blkio.SectorsRecursive),
		},
	}
	for size, h := range s.Hugetlb {
		m.Hugetlb = append(m.Hugetlb, &v1.HugetlbStat{Pagesize: size, Usage: h.Usage, Max: h.Max, Failcnt: h.Failcnt})
	}
	return m
}

func legacyEntry(e cgroup.MemoryEntry) *v1.MemoryEntry {
	return &v1.MemoryEntry{Limit: e.Limit, Usage: e.Usage, Max: e.Max, Failcnt: e.Failcnt}
}

func legacyBlkio(list []cgroup.BlkioEntry) []*v1.BlkIOEntry {
	var entries []*v1.BlkIOEntry
	for _, e := range list {
		entries = append(entries, &v1.BlkIOEntry{Major: e.Major, Minor: e.Minor, Op: e.Op, Value: e.Value})
	}
	return entries
}

func unifiedMetrics(s *cgroup.Stats, oomKills uint64) *v2stats.Metrics {
	const perMicrosecond = 1000 // our times are nanoseconds
	raw := s.Memory.Raw
	m := &v2stats.Metrics{
		Pids: &v2stats.PidsStat{Current: s.Pids.Current, Limit: s.Pids.Limit},
		CPU: &v2stats.CPUStat{
			UsageUsec: s.CPU.Usage.Total / perMicrosecond, UserUsec: s.CPU.Usage.User / perMicrosecond,
			SystemUsec: s.CPU.Usage.Kernel / perMicrosecond, NrPeriods: s.CPU.Throttling.Periods,
			NrThrottled: s.CPU.Throttling.ThrottledPeriods, ThrottledUsec: s.CPU.Throttling.ThrottledTime / perMicrosecond,
			PSI: unifiedPSI(s.CPU.PSI),
		},
		Memory: &v2stats.MemoryStat{
			Anon: raw["anon"], File: raw["file"], KernelStack: raw["kernel_stack"], Slab: raw["slab"], Sock: raw["sock"], Shmem: raw["shmem"],
			FileMapped: raw["file_mapped"], FileDirty: raw["file_dirty"], FileWriteback: raw["file_writeback"], AnonThp: raw["anon_thp"],
			InactiveAnon: raw["inactive_anon"], ActiveAnon: raw["active_anon"], InactiveFile: raw["inactive_file"], ActiveFile: raw["active_file"],
			Unevictable: raw["unevictable"], SlabReclaimable: raw["slab_reclaimable"], SlabUnreclaimable: raw["slab_unreclaimable"],
			Pgfault: raw["pgfault"], Pgmajfault: raw["pgmajfault"], WorkingsetRefault: raw["workingset_refault"],
			WorkingsetActivate: raw["workingset_activate"], WorkingsetNodereclaim: raw["workingset_nodereclaim"], Pgrefill: raw["pgrefill"],
			Pgscan: raw["pgscan"], Pgsteal: raw["pgsteal"], Pgactivate: raw["pgactivate"], Pgdeactivate: raw["pgdeactivate"],
			Pglazyfree: raw["pglazyfree"], Pglazyfreed: raw["pglazyfreed"], ThpFaultAlloc: raw["thp_fault_alloc"],
			ThpCollapseAlloc: raw["thp_collapse_alloc"], Usage: s.Memory.Usage.Usage, UsageLimit: s.Memory.Usage.Limit, MaxUsage: s.Memory.Usage.Max,
			// Our Swap is memory and swap together, as runc's; containerd wants swap alone.
			SwapUsage: less(s.Memory.Swap.Usage, s.Memory.Usage.Usage), SwapLimit: less(s.Memory.Swap.Limit, s.Memory.Usage.Limit),
			PSI: unifiedPSI(s.Memory.PSI),
		},
		MemoryEvents: &v2stats.MemoryEvents{OomKill: oomKills},
		Io:           &v2stats.IOStat{PSI: unifiedPSI(s.Blkio.PSI)},
	}
	for size, h := range s.Hugetlb {
		m.Hugetlb = append(m.Hugetlb, &v2stats.HugeTlbStat{Current: h.Usage, Max: h.Max, Pagesize: size, Failcnt: h.Failcnt})
	}
	m.Io.Usage = unifiedIO(s.Blkio)
	return m
}

// less is the sum without one of its parts; the largest number means that there is no limit.
func less(sum, part uint64) uint64 {
	if sum == math.MaxUint64 {
		return sum
	}
	return sum - part
}

func unifiedPSI(p *cgroup.PSIStats) *v2stats.PSIStats {
	if p == nil {
		return nil
	}
	data := func(d cgroup.PSIData) *v2stats.PSIData {
		return &v2stats.PSIData{Avg10: d.Avg10, Avg60: d.Avg60, Avg300: d.Avg300, Total: d.Total}
	}
	return &v2stats.PSIStats{Some: data(p.Some), Full: data(p.Full)}
}

// unifiedIO gathers what is counted of each device.
func unifiedIO(b cgroup.Blkio) []*v2stats.IOEntry {
	var list []*v2stats.IOEntry
	byDevice := map[[2]uint64]*v2stats.IOEntry{}
	of := func(e cgroup.BlkioEntry) *v2stats.IOEntry {
		device := [2]uint64{e.Major, e.Minor}
		if byDevice[device] == nil {
			byDevice[device] = &v2stats.IOEntry{Major: e.Major, Minor: e.Minor}
			list = append(list, byDevice[device])
		}
		return byDevice[device]
	}
	for _, e := range b.IoServiceBytesRecursive {
		switch e.Op {
		case "Read":
			of(e).Rbytes = e.Value
		case "Write":
			of(e).Wbytes = e.Value
		}
	}
	for _, e := range b.IoServicedRecursive {
		switch e.Op {
		case "Read":
			of(e).Rios = e.Value
		case "Write":
			of(e).Wios = e.Value
		}
	}
	return list
}
