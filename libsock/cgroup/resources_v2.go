package cgroup

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// setUnified writes the limits to the files of cgroup v2 (cgroup-v2.rst). The
// spec's fields are those of v1: they are converted as runc does.
func (w *writer) setUnified(r *specs.LinuxResources, update bool) {
	if r.Pids != nil {
		w.put(setting{"pids.limit", "pids", "pids.max", pidsMax(r.Pids.Limit)})
	}
	if r.Memory != nil {
		w.setUnifiedMemory(r.Memory, update)
	}
	if r.BlockIO != nil {
		w.setUnifiedBlockIO(r.BlockIO)
	}
	if r.CPU != nil {
		w.setUnifiedCPU(r.CPU)
	}
	w.putHugepages(r.HugepageLimits, ".max")
	w.putRdma(r.Rdma)
	if r.Network != nil {
		w.refuse(value(r.Network.ClassID) != 0, "network.classID", onlyLegacy)
		w.refuse(len(r.Network.Priorities) > 0, "network.priorities", onlyLegacy)
	}
	w.putUnified(r.Unified)
}

const onlyLegacy = "not possible on cgroup v2"

func (w *writer) setUnifiedMemory(m *specs.LinuxMemory, update bool) {
	w.refuse(m.Swappiness != nil && *m.Swappiness != math.MaxUint64, "memory.swappiness", onlyLegacy) // the greatest: -1, leave it
	w.refuse(value(m.DisableOOMKiller), "memory.disableOOMKiller", onlyLegacy)
	limit := setting{"memory.limit", "memory", "memory.max", orMax(number(m.Limit))}
	swap := setting{"memory.swap", "memory", "memory.swap.max", ""}
	if value(m.CheckBeforeUpdate) {
		w.checkMemoryUsage(m)
	}
	memory, total := value(m.Limit), value(m.Swap)
	if update && w.err == nil {
		memory, total = w.completeMemory(limit, swap, memory, total)
	}
	swapOnly, err := swapMax(memory, total)
	w.refuse(err != nil, "memory.swap", fmt.Sprint(err))
	swap.value = swapOnly
	if swapOnly == "0" || swapOnly == "max" {
		w.putIfSupported(swap) // without swap in the kernel both are true
	} else {
		w.put(swap)
	}
	w.put(limit, setting{"memory.reservation", "memory", "memory.low", orMax(number(m.Reservation))})
}

// completeMemory completes an update that gives only one of memory.limit and
// memory.swap. The spec's swap is the sum of both, on v1 a limit of its own; on
// v2 the kernel knows the summands, so the missing one is derived from them.
func (w *writer) completeMemory(limit, swap setting, memory, total int64) (int64, int64) {
	switch {
	case memory == 0 && total > 0:
		memory = clampMax(w.current(limit))
	case memory > 0 && total == 0 && w.has(swap):
		oldLimit, oldSwap := w.current(limit), w.current(swap)
		if oldLimit != math.MaxUint64 && oldSwap != math.MaxUint64 {
			total = clampMax(oldLimit + oldSwap)
		}
	}
	return memory, total
}

// clampMax is v1's notation for a number of v2: -1 for max.
func clampMax(n uint64) int64 {
	if n > math.MaxInt64 {
		return -1
	}
	return int64(n)
}

// orMax is v2's notation for a number of v1.
func orMax(number string) string {
	if number == "-1" {
		return "max"
	}
	return number
}

// swapMax converts v1's limit of memory and swap together to v2's of swap only.
func swapMax(memory, total int64) (string, error) {
	switch {
	case total == -1, memory == -1 && total == 0:
		return "max", nil
	case total == 0:
		return "", nil
	case total < 0:
		return "", fmt.Errorf("invalid value: %d", total)
	case memory == -1:
		return strconv.FormatInt(total, 10), nil
	case memory == 0:
		return "", errors.New("unable to set swap limit without memory limit")
	case memory < 0:
		return "", fmt.Errorf("invalid memory value: %d", memory)
	case total < memory:
		return "", errors.New("memory+swap limit should be >= memory limit")
	}
	return strconv.FormatInt(total-memory, 10), nil
}

// checkMemoryUsage refuses limits below the current use, which would make the
// kernel kill processes right away (v1 refuses them by itself).
func (w *writer) checkMemoryUsage(m *specs.LinuxMemory) {
	d := w.group.dir("memory")
	if d == nil {
		return
	}
	usage, err := readUint(d.path, "memory.current")
	if err != nil {
		return
	}
	for _, l := range []struct {
		field, what string
		limit       int64
	}{{"memory.swap", "memory+swap", value(m.Swap)}, {"memory.limit", "memory", value(m.Limit)}} {
		if l.limit > 0 && uint64(l.limit) <= usage {
			w.refuse(true, l.field, fmt.Sprintf("rejecting %s limit %d <= usage %d", l.what, l.limit, usage))
		}
	}
}

func (w *writer) setUnifiedCPU(c *specs.LinuxCPU) {
	w.refuse(value(c.RealtimeRuntime) != 0, "cpu.realtimeRuntime", onlyLegacy)
	w.refuse(value(c.RealtimePeriod) != 0, "cpu.realtimePeriod", onlyLegacy)
	w.put(
		setting{"cpu.idle", "cpu", "cpu.idle", numberOrZero(c.Idle)},
		setting{"cpu.shares", "cpu", "cpu.weight", cpuWeight(value(c.Shares))},
	)
	bandwidth := setting{"cpu.quota", "cpu", "cpu.max", ""}
	if value(c.Quota) != 0 || value(c.Period) != 0 {
		if value(c.Quota) == 0 {
			bandwidth.field = "cpu.period"
		}
		bandwidth.value = w.cpuMax(bandwidth, value(c.Quota), value(c.Period))
	}
	late := w.putEarly(bandwidth.value != "", setting{"cpu.burst", "cpu", "cpu.max.burst", numberOrZero(c.Burst)})
	w.put(bandwidth)
	w.put(late...)
	w.put(
		setting{"cpu.cpus", "cpuset", "cpuset.cpus", c.Cpus},
		setting{"cpu.mems", "cpuset", "cpuset.mems", c.Mems},
	)
}

// cpuMax formats cpu.max, which holds both quota and period: the one that is
// not given stays as it is.
func (w *writer) cpuMax(s setting, quota int64, period uint64) string {
	oldQuota, oldPeriod := "max", "100000" // cgroup-v2.rst, "CPU Interface Files"
	if d := w.group.dir("cpu"); d != nil && (quota == 0 || period == 0) {
		now, _ := readTrimmed(d.path, s.file)
		if q, p, ok := strings.Cut(now, " "); ok {
			oldQuota, oldPeriod = q, p
		}
	}
	switch {
	case quota < 0:
		oldQuota = "max"
	case quota > 0:
		oldQuota = strconv.FormatInt(quota, 10)
	}
	if period != 0 {
		oldPeriod = strconv.FormatUint(period, 10)
	}
	return oldQuota + " " + oldPeriod
}

// cpuWeight converts v1's shares, 2 to 262144 with a default of 1024, to v2's
// weight, 1 to 10000 with a default of 100. The curve through these points is
// the one that the runtimes agreed on (opencontainers/cgroups PR 20).
func cpuWeight(shares uint64) string {
	switch {
	case shares == 0:
		return ""
	case shares <= 2:
		return "1"
	case shares >= 262144:
		return "10000"
	}
	l := math.Log2(float64(shares))
	exponent := (l*l+125*l)/612 - 7.0/34
	return strconv.FormatUint(uint64(math.Ceil(math.Pow(10, exponent))), 10)
}

// ioWeight converts v1's weight, 10 to 1000, linearly to v2's, 1 to 10000.
func ioWeight(weight uint16) string {
	if weight == 0 {
		return ""
	}
	return strconv.FormatUint(1+(uint64(max(weight, 10))-10)*9999/990, 10)
}

func (w *writer) setUnifiedBlockIO(b *specs.LinuxBlockIO) {
	w.refuse(value(b.LeafWeight) != 0, "blockIO.leafWeight", onlyLegacy)
	// The BFQ scheduler takes v1's numbers; io.weight, for the cost model, its
	// own.
	file, convert := "io.weight", ioWeight
	if w.has(setting{controller: "io", file: "io.bfq.weight"}) {
		file, convert = "io.bfq.weight", func(weight uint16) string { return number(&weight) }
	}
	w.put(setting{"blockIO.weight", "io", file, convert(value(b.Weight))})
	for i, d := range b.WeightDevice {
		field := fmt.Sprintf("blockIO.weightDevice[%d]", i)
		w.refuse(value(d.LeafWeight) != 0, field+".leafWeight", onlyLegacy)
		w.put(setting{field + ".weight", "io", file, forDevice(d.Major, d.Minor, convert(value(d.Weight)))})
	}
	for _, t := range throttles(b) {
		for i, d := range t.devices {
			rate := "max" // what 0 means on v1
			if d.Rate != 0 {
				rate = strconv.FormatUint(d.Rate, 10)
			}
			w.put(setting{fmt.Sprintf("blockIO.%s[%d]", t.field, i), "io", "io.max", forDevice(d.Major, d.Minor, t.key+"="+rate)})
		}
	}
}

// putUnified writes linux.resources.unified, whose keys are file names.
func (w *writer) putUnified(files map[string]string) {
	for _, name := range slices.Sorted(maps.Keys(files)) {
		controller, _, ok := strings.Cut(name, ".")
		s := setting{field: "unified[" + strconv.Quote(name) + "]", controller: controller, file: name}
		w.refuse(strings.Contains(name, "/"), s.field, "must be a file name, without slashes")
		w.refuse(!ok, s.field, "must be in the form CONTROLLER.PARAMETER")
		// Some files, such as io.max, take one line a write.
		for line := range strings.Lines(files[name]) {
			s.value = line
			w.put(s)
		}
	}
}
