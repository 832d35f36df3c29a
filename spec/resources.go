package spec

import (
	"fmt"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// checkResources leaves numbers to the kernel, which knows its limits, and names to the controllers, but for what could
// not be meant or would be written to another file than its own.
func checkResources(r *specs.LinuxResources) error {
	for i, d := range r.Devices {
		if err := checkDeviceRule(d, element("linux.resources.devices", i)); err != nil {
			return err
		}
	}
	if err := checkLimits(r); err != nil {
		return err
	}
	for i, h := range r.HugepageLimits {
		if !isPageSize(h.Pagesize) {
			return Field(element("linux.resources.hugepageLimits", i)+".pageSize",
				"%q is not a page size such as 64KB, 2MB or 1GB", h.Pagesize)
		}
	}
	if r.Network != nil {
		for i, p := range r.Network.Priorities {
			if !isWord(p.Name) {
				return Field(element("linux.resources.network.priorities", i)+".name", "%q is not an interface", p.Name)
			}
		}
	}
	for _, name := range sortedKeys(r.Rdma) {
		if !isWord(name) {
			return Field(member("linux.resources.rdma", name), "not a device")
		}
	}
	for _, name := range sortedKeys(r.Unified) {
		if !isWord(name) || name == "." || name == ".." {
			return Field(member("linux.resources.unified", name), "not the name of a cgroup file")
		}
	}
	return nil
}

func checkDeviceRule(d specs.LinuxDeviceCgroup, at string) error {
	switch d.Type {
	case "", "a", "b", "c":
	default:
		return Field(at+".type", "unknown device type %q, want a, b or c", d.Type)
	}
	switch {
	case d.Access == "":
		return Field(at+".access", "device access cannot be empty")
	case strings.Trim(d.Access, "rwm") != "":
		return Field(at+".access", "%q is not made of r, w and m", d.Access)
	case d.Major != nil && *d.Major < -1:
		return Field(at+".major", "%d is negative", *d.Major)
	case d.Minor != nil && *d.Minor < -1:
		return Field(at+".minor", "%d is negative", *d.Minor)
	}
	return nil
}

// checkLimits refuses limits below -1, which stands for none.
func checkLimits(r *specs.LinuxResources) error {
	type limit struct {
		path  string
		value *int64
	}
	var limits []limit
	if m := r.Memory; m != nil {
		limits = append(limits,
			limit{"memory.limit", m.Limit},
			limit{"memory.reservation", m.Reservation},
			limit{"memory.swap", m.Swap},
			limit{"memory.kernelTCP", m.KernelTCP})
	}
	if c := r.CPU; c != nil {
		limits = append(limits, limit{"cpu.quota", c.Quota}, limit{"cpu.realtimeRuntime", c.RealtimeRuntime})
	}
	if r.Pids != nil {
		limits = append(limits, limit{"pids.limit", r.Pids.Limit})
	}
	for _, l := range limits {
		if l.value != nil && *l.value < -1 {
			return Field("linux.resources."+l.path, "%d is negative", *l.value)
		}
	}
	return nil
}

// ResourceWarnings returns what no kernel that sock runs on can do any more, as Warnings does; runc ignores it, too.
func ResourceWarnings(r *specs.LinuxResources) []string {
	m := r.Memory
	if m == nil {
		return nil
	}
	var warnings []string
	for _, f := range []struct {
		name  string
		asked bool
		why   string
	}{
		//lint:ignore SA1019 This is about its being deprecated.
		{"kernel", m.Kernel != nil, "kernel memory has no limit of its own since Linux 5.16"},
		{"kernelTCP", m.KernelTCP != nil, "as in runc"},
		{"useHierarchy", m.UseHierarchy != nil && !*m.UseHierarchy, "memory is always accounted for by hierarchy since Linux 5.11"},
	} {
		if f.asked {
			warnings = append(warnings, fmt.Sprintf("linux.resources.memory.%s: ignored: %s", f.name, f.why))
		}
	}
	return warnings
}

// isPageSize reports whether s has the form of the kernel's hugetlb files: a number and KB, MB or GB.
func isPageSize(s string) bool {
	digits := strings.TrimRight(s, "KMGB")
	switch s[len(digits):] {
	case "KB", "MB", "GB":
		return digits != "" && strings.Trim(digits, "0123456789") == "" && digits[0] != '0'
	}
	return false
}

// isWord reports whether s can be a file name and one word in a cgroup file.
func isWord(s string) bool {
	return s != "" && !strings.ContainsAny(s, "/ \t\n\x00")
}
