package spec

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ParseCPUList reads the CPUs of process.execCPUAffinity: "0-3,7". Like runc it allows spaces around and empty elements,
// and it fails for no CPU at all and for those that don't fit into a unix.CPUSet (1024 and above).
func ParseCPUList(list string) (unix.CPUSet, error) { return parseSet(list, "CPU") }

// ParseNodeList reads the NUMA nodes of linux.memoryPolicy.nodes by the same rules; no kernel has more than 1024 of them.
func ParseNodeList(list string) (unix.CPUSet, error) { return parseSet(list, "node") }

// parseSet reads a list of things that have numbers.
func parseSet(list, thing string) (unix.CPUSet, error) {
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
			return set, fmt.Errorf("%[1]q in %[2]q is no %[3]s and no range of %[3]ss", part, list, thing)
		}
		for n := first; n <= last; n++ {
			if set.Set(int(n)); !set.IsSet(int(n)) {
				return set, fmt.Errorf("%s %d in %q is too high", thing, n, list)
			}
		}
	}
	if set.Count() == 0 {
		return set, fmt.Errorf("no %ss in %q", thing, list)
	}
	return set, nil
}
