package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"time"
)

func (g *Group) legacyStats(s *Stats) error {
	for _, part := range []struct {
		controller string
		read       func(dir string, s *Stats) error
	}{
		{"cpuacct", legacyCPUUsage},
		{"cpu", legacyThrottling},
		{"cpuset", legacyCPUSet},
		{"memory", legacyMemory},
		{"blkio", legacyBlkio},
		{"hugetlb", legacyHugetlb},
	} {
		if d := g.dir(part.controller); d != nil {
			if err := part.read(d.path, s); err != nil {
				return err
			}
		}
	}
	return g.pidsStats(s)
}

// userTick is the unit of cpuacct.stat: USER_HZ is 100 on every architecture
// that Go runs on.
const userTick = uint64(10 * time.Millisecond)

func legacyCPUUsage(dir string, s *Stats) error {
	u := &s.CPU.Usage
	ticks, err := readTable(dir, "cpuacct.stat")
	if err != nil {
		return err
	}
	u.User, u.Kernel = ticks["user"]*userTick, ticks["system"]*userTick
	if u.Total, err = readUint(dir, "cpuacct.usage"); err != nil {
		return err
	}
	perCPU, err := readFile(dir + "/cpuacct.usage_percpu")
	if err != nil {
		return err
	}
	for field := range strings.FieldsSeq(perCPU) {
		n, err := strconv.ParseUint(field, 10, 64)
		if err != nil {
			return fmt.Errorf("parse %s/cpuacct.usage_percpu: %w", dir, err)
		}
		u.Percpu = append(u.Percpu, n)
	}
	// A header, then lines of CPU, user, system.
	all, err := readFile(dir + "/cpuacct.usage_all")
	if err != nil {
		return ignoreMissing(err)
	}
	_, all, _ = strings.Cut(all, "\n")
	for line := range strings.Lines(all) {
		var cpu int
		var user, kernel uint64
		if _, err := fmt.Sscan(line, &cpu, &user, &kernel); err != nil {
			return fmt.Errorf("parse %s/cpuacct.usage_all: %q: %w", dir, line, err)
		}
		u.PercpuUser = append(u.PercpuUser, user)
		u.PercpuKernel = append(u.PercpuKernel, kernel)
	}
	return nil
}

func legacyThrottling(dir string, s *Stats) error {
	stat, err := readTable(dir, "cpu.stat")
	s.CPU.Throttling = Throttling{
		Periods:          stat["nr_periods"],
		ThrottledPeriods: stat["nr_throttled"],
		ThrottledTime:    stat["throttled_time"],
	}
	return ignoreMissing(err)
}

func legacyCPUSet(dir string, s *Stats) error {
	c := &s.CPUSet
	for _, list := range []struct {
		file string
		to   *[]uint16
	}{{"cpuset.cpus", &c.CPUs}, {"cpuset.mems", &c.Mems}} {
		text, err := readTrimmed(dir, list.file)
		if err == nil {
			*list.to, err = parseRanges(text)
		}
		if err != nil {
			return fmt.Errorf("%s/%s: %w", dir, list.file, err)
		}
	}
	level, err := readTrimmed(dir, "cpuset.sched_relax_domain_level")
	if err != nil {
		return err
	}
	if c.SchedRelaxDomainLevel, err = strconv.ParseInt(level, 10, 64); err != nil {
		return fmt.Errorf("parse %s/cpuset.sched_relax_domain_level: %w", dir, err)
	}
	return counters{
		{"cpuset.cpu_exclusive", &c.CPUExclusive},
		{"cpuset.mem_hardwall", &c.MemHardwall},
		{"cpuset.mem_exclusive", &c.MemExclusive},
		{"cpuset.memory_migrate", &c.MemoryMigrate},
		{"cpuset.memory_spread_page", &c.MemorySpreadPage},
		{"cpuset.memory_spread_slab", &c.MemorySpreadSlab},
		{"cpuset.memory_pressure", &c.MemoryPressure},
		{"cpuset.sched_load_balance", &c.SchedLoadBalance},
	}.read(dir)
}

// parseRanges parses a list such as 0-2,5 (cpusets(7), "List format").
func parseRanges(list string) ([]uint16, error) {
	var all []uint16
	for part := range strings.SplitSeq(list, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		from, err1 := strconv.ParseUint(first, 10, 16)
		to, err2 := strconv.ParseUint(last, 10, 16)
		if err := errors.Join(err1, err2); err != nil || from > to {
			return nil, fmt.Errorf("%q is not a list of numbers and ranges", list)
		}
		for n := from; n <= to; n++ {
			all = append(all, uint16(n))
		}
	}
	return all, nil
}

func legacyMemory(dir string, s *Stats) (err error) {
	m := &s.Memory
	if m.Raw, err = readTable(dir, "memory.stat"); err != nil {
		return err
	}
	m.Cache = m.Raw["cache"]
	for _, kind := range []struct {
		prefix string
		to     *MemoryEntry
	}{{"memory", &m.Usage}, {"memory.memsw", &m.Swap}, {"memory.kmem", &m.Kernel}, {"memory.kmem.tcp", &m.KernelTCP}} {
		e := MemoryEntry{}
		err := counters{
			{kind.prefix + ".usage_in_bytes", &e.Usage},
			{kind.prefix + ".max_usage_in_bytes", &e.Max},
			{kind.prefix + ".failcnt", &e.Failcnt},
			{kind.prefix + ".limit_in_bytes", &e.Limit}, // kmem has none since 5.16
		}.read(dir)
		if err != nil && (kind.to == &m.Usage || ignoreMissing(err) != nil) {
			return err
		}
		*kind.to = e
	}
	return nil
}

// legacyBlkio reads the counters of the BFQ scheduler, which keeps some of them
// only for debugging, or where it is not in use, those of the throttling layer.
func legacyBlkio(dir string, s *Stats) error {
	b := &s.Blkio
	err := readBlkio(dir, "blkio.bfq.", []blkioFile{
		{"sectors_recursive", &b.SectorsRecursive},
		{"io_service_time_recursive", &b.IoServiceTimeRecursive},
		{"io_wait_time_recursive", &b.IoWaitTimeRecursive},
		{"io_merged_recursive", &b.IoMergedRecursive},
		{"io_queued_recursive", &b.IoQueuedRecursive},
		{"time_recursive", &b.IoTimeRecursive},
	})
	for _, source := range []struct{ prefix, suffix string }{
		{"blkio.bfq.", "_recursive"},
		{"blkio.throttle.", "_recursive"},
		{"blkio.throttle.", ""},
	} {
		if err != nil || len(b.IoServicedRecursive) > 0 {
			return err
		}
		err = readBlkio(dir, source.prefix, []blkioFile{
			{"io_serviced" + source.suffix, &b.IoServicedRecursive},
			{"io_service_bytes" + source.suffix, &b.IoServiceBytesRecursive},
		})
	}
	return err
}

type blkioFile struct {
	name string
	to   *[]BlkioEntry
}

// readBlkio reads those of the files that exist. Their lines are
// "8:0 Read 4096", or "8:0 4096", and a total that is skipped.
func readBlkio(dir, prefix string, files []blkioFile) error {
	for _, f := range files {
		text, err := readFile(dir + "/" + prefix + f.name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		for line := range strings.Lines(text) {
			e, ok := parseBlkio(line)
			if !ok {
				return fmt.Errorf("parse %s/%s%s: unexpected line %q", dir, prefix, f.name, line)
			}
			if e != (BlkioEntry{}) {
				*f.to = append(*f.to, e)
			}
		}
	}
	return nil
}

func parseBlkio(line string) (e BlkioEntry, ok bool) {
	fields := strings.Fields(line)
	if len(fields) == 2 && fields[0] == "Total" {
		return e, true
	}
	if len(fields) == 3 {
		e.Op = fields[1]
	} else if len(fields) != 2 {
		return e, false
	}
	major, minor, _ := strings.Cut(fields[0], ":")
	var errs [3]error
	e.Major, errs[0] = strconv.ParseUint(major, 10, 64)
	e.Minor, errs[1] = strconv.ParseUint(minor, 10, 64)
	e.Value, errs[2] = strconv.ParseUint(fields[len(fields)-1], 10, 64)
	return e, errors.Join(errs[:]...) == nil
}

func legacyHugetlb(dir string, s *Stats) error {
	for _, size := range hugePageSizes() {
		h := Hugetlb{}
		var err error
		for _, kind := range []string{".rsvd", ""} { // reservations since 5.7
			prefix := "hugetlb." + size + kind
			err = counters{
				{prefix + ".usage_in_bytes", &h.Usage},
				{prefix + ".max_usage_in_bytes", &h.Max},
				{prefix + ".failcnt", &h.Failcnt},
			}.read(dir)
			if !errors.Is(err, fs.ErrNotExist) {
				break
			}
		}
		if err != nil {
			return err
		}
		s.Hugetlb[size] = h
	}
	return nil
}
