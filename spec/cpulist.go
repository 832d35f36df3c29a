package spec

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ParseCPUList reads the CPUs of process.execCPUAffinity: "0-3,7". Like runc it allows spaces around and empty elements,
// and it fails for no CPU at all and for those that don't fit into a unix.CPUSet (1024 and above).
func ParseCPUList(list string) (unix.CPUSet, error) {
	var set unix.CPUSet
	for part := range strings.SplitSeq(list, ",") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		low, high, isRange := strings.Cut(part, "-")
		if !isRange {
			high = low
		}
		first, err1 := strconv.ParseUint(low, 10, 32)
		last, err2 := strconv.ParseUint(high, 10, 32)
		if err1 != nil || err2 != nil || first > last {
			return set, fmt.Errorf("%q in %q is no CPU and no range of CPUs", part, list)
		}
		for cpu := first; cpu <= last; cpu++ {
			if set.Set(int(cpu)); !set.IsSet(int(cpu)) {
				return set, fmt.Errorf("CPU %d in %q is too high", cpu, list)
			}
		}
	}
	if set.Count() == 0 {
		return set, fmt.Errorf("no CPUs in %q", list)
	}
	return set, nil
}
