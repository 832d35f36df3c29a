package cgroup

import (
	"errors"
	"fmt"
	"math"
	"strconv"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// setLegacy writes the limits to the v1 controllers' files
// (Documentation/admin-guide/cgroup-v1).
func (w *writer) setLegacy(r *specs.LinuxResources) {
	w.refuse(len(r.Unified) > 0, "unified", "not possible on cgroup v1")
	if r.CPU != nil {
		w.put(
			setting{"cpu.cpus", "cpuset", "cpuset.cpus", r.CPU.Cpus},
			setting{"cpu.mems", "cpuset", "cpuset.mems", r.CPU.Mems},
		)
		w.setLegacyCPU(r.CPU)
	}
	if r.Memory != nil {
		w.setLegacyMemory(r.Memory)
	}
	if r.Pids != nil {
		w.put(setting{"pids.limit", "pids", "pids.max", pidsMax(r.Pids.Limit)})
	}
	if r.BlockIO != nil {
		w.setLegacyBlockIO(r.BlockIO)
	}
	w.putHugepages(r.HugepageLimits, ".limit_in_bytes")
	if r.Network != nil {
		w.put(setting{"network.classID", "net_cls", "net_cls.classid", number(r.Network.ClassID)})
		for i, p := range r.Network.Priorities {
			w.put(setting{fmt.Sprintf("network.priorities[%d]", i), "net_prio", "net_prio.ifpriomap", fmt.Sprintf("%s %d", p.Name, p.Priority)})
		}
	}
	w.putRdma(r.Rdma)
}

func (w *writer) setLegacyCPU(c *specs.LinuxCPU) {
	shares := setting{"cpu.shares", "cpu", "cpu.shares", number(c.Shares)}
	w.put(shares)
	if shares.value != "" && !w.dry {
		// The kernel takes any number, but not at its word.
		switch n := w.current(shares); {
		case w.err == nil && n < *c.Shares:
			w.err = fmt.Errorf("linux.resources.cpu.shares: the maximum allowed cpu-shares is %d", n)
		case w.err == nil && n > *c.Shares:
			w.err = fmt.Errorf("linux.resources.cpu.shares: the minimum allowed cpu-shares is %d", n)
		}
	}
	late := w.putEarly(
		value(c.Quota) != 0,
		setting{"cpu.period", "cpu", "cpu.cfs_period_us", number(c.Period)},
		setting{"cpu.burst", "cpu", "cpu.cfs_burst_us", numberOrZero(c.Burst)},
	)
	w.put(setting{"cpu.quota", "cpu", "cpu.cfs_quota_us", number(c.Quota)})
	w.put(late...)
	w.put(setting{"cpu.idle", "cpu", "cpu.idle", numberOrZero(c.Idle)})
	late = w.putEarly(
		value(c.RealtimeRuntime) != 0,
		setting{"cpu.realtimePeriod", "cpu", "cpu.rt_period_us", number(c.RealtimePeriod)},
	)
	w.put(setting{"cpu.realtimeRuntime", "cpu", "cpu.rt_runtime_us", number(c.RealtimeRuntime)})
	w.put(late...)
}

func (w *writer) setLegacyMemory(m *specs.LinuxMemory) {
	limit := setting{"memory.limit", "memory", "memory.limit_in_bytes", number(m.Limit)}
	swap := setting{"memory.swap", "memory", "memory.memsw.limit_in_bytes", number(m.Swap)}
	if limit.value == "-1" && swap.value == "" && w.has(swap) {
		swap.value = "-1" // no limit on memory means none on memory and swap
	}
	// The kernel keeps limit <= swap at any time, so a growing swap goes first.
	swapFirst := false
	if limit.value != "" && swap.value != "" {
		swapFirst = swap.value == "-1" || w.current(limit) < uint64(*m.Swap)
	}
	if swapFirst {
		w.put(swap)
	}
	w.put(limit)
	if errors.Is(w.err, unix.EBUSY) {
		usage, peak := limit, limit
		usage.file, peak.file = "memory.usage_in_bytes", "memory.max_usage_in_bytes"
		w.err = nil
		now, most := w.current(usage), w.current(peak)
		w.err = fmt.Errorf("linux.resources.memory.limit: unable to set memory limit to %d (current usage: %d, peak usage: %d): %w",
			*m.Limit, now, most, unix.EBUSY)
	}
	if !swapFirst {
		w.put(swap)
	}
	w.put(setting{"memory.reservation", "memory", "memory.soft_limit_in_bytes", number(m.Reservation)})
	if value(m.DisableOOMKiller) {
		w.put(setting{"memory.disableOOMKiller", "memory", "memory.oom_control", "1"})
	}
	w.setSwappiness(m.Swappiness)
}

func (w *writer) setSwappiness(swappiness *uint64) {
	if swappiness == nil || *swappiness == math.MaxUint64 { // -1: leave it
		return
	}
	w.refuse(*swappiness > 100, "memory.swappiness", fmt.Sprintf("%d is not in the range from 0 to 100", *swappiness))
	w.put(setting{"memory.swappiness", "memory", "memory.swappiness", numberOrZero(swappiness)})
}

func (w *writer) setLegacyBlockIO(b *specs.LinuxBlockIO) {
	weight := setting{"blockIO.weight", "blkio", "blkio.weight", number(b.Weight)}
	device := "blkio.weight_device"
	if !w.has(weight) { // kernels with the BFQ scheduler only
		weight.file, device = "blkio.bfq.weight", "blkio.bfq.weight_device"
	}
	w.put(weight, setting{"blockIO.leafWeight", "blkio", "blkio.leaf_weight", number(b.LeafWeight)})
	for i, d := range b.WeightDevice {
		field := fmt.Sprintf("blockIO.weightDevice[%d]", i)
		w.put(
			setting{field + ".weight", "blkio", device, forDevice(d.Major, d.Minor, number(d.Weight))},
			setting{field + ".leafWeight", "blkio", "blkio.leaf_weight_device", forDevice(d.Major, d.Minor, number(d.LeafWeight))},
		)
	}
	for _, t := range throttles(b) {
		for i, d := range t.devices {
			w.put(setting{
				fmt.Sprintf("blockIO.%s[%d]", t.field, i), "blkio", t.legacyFile,
				forDevice(d.Major, d.Minor, strconv.FormatUint(d.Rate, 10)),
			})
		}
	}
}

// throttle is one of the spec's four kinds of limits on block devices.
type throttle struct {
	field      string
	legacyFile string
	key        string // in v2's io.max
	devices    []specs.LinuxThrottleDevice
}

func throttles(b *specs.LinuxBlockIO) []throttle {
	return []throttle{
		{"throttleReadBpsDevice", "blkio.throttle.read_bps_device", "rbps", b.ThrottleReadBpsDevice},
		{"throttleWriteBpsDevice", "blkio.throttle.write_bps_device", "wbps", b.ThrottleWriteBpsDevice},
		{"throttleReadIOPSDevice", "blkio.throttle.read_iops_device", "riops", b.ThrottleReadIOPSDevice},
		{"throttleWriteIOPSDevice", "blkio.throttle.write_iops_device", "wiops", b.ThrottleWriteIOPSDevice},
	}
}

// forDevice formats a value for one block device, if there is a value.
func forDevice(major, minor int64, value string) string {
	if value == "" {
		return ""
	}
	return fmt.Sprintf("%d:%d %s", major, minor, value)
}
