package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"strconv"
	"strings"
)

func (g *Group) unifiedStats(s *Stats) error {
	dir := g.dirs[0].path
	for _, read := range []func(string, *Stats) error{unifiedCPU, unifiedMemory, unifiedIO, unifiedHugetlb} {
		if err := read(dir, s); ignoreMissing(err) != nil {
			return err
		}
	}
	for _, p := range []struct {
		file string
		to   **PSIStats
	}{{"cpu.pressure", &s.CPU.PSI}, {"memory.pressure", &s.Memory.PSI}, {"io.pressure", &s.Blkio.PSI}} {
		pressure, err := readPressure(dir, p.file)
		if err != nil {
			return err
		}
		*p.to = pressure
	}
	return g.pidsStats(s)
}

func unifiedCPU(dir string, s *Stats) error {
	stat, err := readTable(dir, "cpu.stat") // microseconds
	s.CPU.Usage.Total = stat["usage_usec"] * 1000
	s.CPU.Usage.User = stat["user_usec"] * 1000
	s.CPU.Usage.Kernel = stat["system_usec"] * 1000
	s.CPU.Throttling = Throttling{
		Periods:          stat["nr_periods"],
		ThrottledPeriods: stat["nr_throttled"],
		ThrottledTime:    stat["throttled_usec"] * 1000,
	}
	return err
}

// unifiedMemory reports the sums of memory and swap that v1 would.
func unifiedMemory(dir string, s *Stats) error {
	stat, err := readTable(dir, "memory.stat")
	if err != nil {
		return err
	}
	m := &s.Memory
	m.Raw, m.Cache = stat, stat["file"]
	if m.Usage, err = unifiedMemoryEntry(dir, "memory"); err != nil {
		return err
	}
	if m.Swap, err = unifiedMemoryEntry(dir, "memory.swap"); ignoreMissing(err) != nil {
		return err
	}
	m.Swap.Usage += m.Usage.Usage
	m.Swap.Max = 0 // the peaks need not have been at the same time
	if m.Swap.Limit != math.MaxUint64 {
		m.Swap.Limit += m.Usage.Limit
	}
	return nil
}

func unifiedMemoryEntry(dir, prefix string) (e MemoryEntry, err error) {
	err = counters{{prefix + ".current", &e.Usage}, {prefix + ".max", &e.Limit}}.read(dir)
	if err != nil {
		return MemoryEntry{}, err
	}
	// Since 5.19, of swap since 6.5.
	e.Max, err = readUint(dir, prefix+".peak")
	return e, ignoreMissing(err)
}

// unifiedIO splits the lines of io.stat, "8:0 rbytes=1 wbytes=2 rios=3 wios=4 …",
// into v1's tables.
func unifiedIO(dir string, s *Stats) error {
	text, err := readFile(dir + "/io.stat")
	if err != nil {
		return err
	}
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		major, minor, _ := strings.Cut(fields[0], ":")
		var e BlkioEntry
		var err1, err2 error
		e.Major, err1 = strconv.ParseUint(major, 10, 64)
		e.Minor, err2 = strconv.ParseUint(minor, 10, 64)
		if err := errors.Join(err1, err2); err != nil {
			return fmt.Errorf("parse %s/io.stat: %q: %w", dir, line, err)
		}
		for _, field := range fields[1:] {
			key, number, _ := strings.Cut(field, "=")
			table := &s.Blkio.IoServiceBytesRecursive
			switch key {
			case "rbytes":
				e.Op = "Read"
			case "wbytes":
				e.Op = "Write"
			case "rios":
				e.Op, table = "Read", &s.Blkio.IoServicedRecursive
			case "wios":
				e.Op, table = "Write", &s.Blkio.IoServicedRecursive
			default: // v1 had no such counter
				continue
			}
			if e.Value, err = strconv.ParseUint(number, 10, 64); err != nil {
				return fmt.Errorf("parse %s/io.stat: %q: %w", dir, line, err)
			}
			*table = append(*table, e)
		}
	}
	return nil
}

func unifiedHugetlb(dir string, s *Stats) error {
	for _, size := range hugePageSizes() {
		usage, err := readUint(dir, "hugetlb."+size+".rsvd.current") // 5.7
		if errors.Is(err, fs.ErrNotExist) {
			usage, err = readUint(dir, "hugetlb."+size+".current")
		}
		if err != nil {
			return err
		}
		events, err := readTable(dir, "hugetlb."+size+".events")
		if err != nil {
			return err
		}
		s.Hugetlb[size] = Hugetlb{Usage: usage, Failcnt: events["max"]}
	}
	return nil
}
