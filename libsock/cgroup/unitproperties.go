package cgroup

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"math/bits"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/sock-runtime/sock/libsock/cgroup/dbus"
)

// annotationPrefix marks annotations that are properties of the unit, as in runc.
const annotationPrefix = "org.systemd.property."

// annotatedProperties reads the annotations that name properties, such as org.systemd.property.TimeoutStopSec with the value
// "uint64 5". Values are in GVariant's text format. They come last, so that they win.
func annotatedProperties(annotations map[string]string) ([]property, error) {
	var list []property
	for _, key := range slices.Sorted(maps.Keys(annotations)) {
		name, ok := strings.CutPrefix(key, annotationPrefix)
		if !ok {
			continue
		}
		field := fmt.Sprintf("annotations[%q]", key)
		if len(name) < 3 || strings.ContainsFunc(name, func(r rune) bool { return (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') }) {
			return nil, fmt.Errorf("%s: %q is not the name of a property: at least three letters", field, name)
		}
		value, err := dbus.ParseText(annotations[key])
		if err == nil {
			name, value, err = inMicroseconds(name, value)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: value %q: %w", field, annotations[key], err)
		}
		list = append(list, property{name, value})
	}
	return list, nil
}

// inMicroseconds gives times, which unit files have as ...Sec, the name and unit that D-Bus has, ...USec.
func inMicroseconds(name string, value dbus.Variant) (string, dbus.Variant, error) {
	stem, ok := strings.CutSuffix(name, "Sec")
	if !ok || stem[len(stem)-1] < 'a' { // an upper-case letter, as in USec
		return name, value, nil
	}
	const micro = 1e6
	var usec uint64
	switch n := value.Value.(type) {
	case byte:
		usec = uint64(n) * micro
	case int16:
		usec = uint64(n) * micro
	case uint16:
		usec = uint64(n) * micro
	case int32:
		usec = uint64(n) * micro
	case uint32:
		usec = uint64(n) * micro
	case int64:
		usec = uint64(n) * micro
	case uint64:
		usec = n * micro
	case float64:
		usec = uint64(n * micro)
	default:
		return "", value, errors.New("not a number of seconds")
	}
	return stem + "USec", dbus.Variant{Signature: "t", Value: usec}, nil
}

// unitProperties are the properties of a new unit that come of linux.resources: what systemd has a property for. All limits
// are written into the cgroup's files as well, by Set.
func (g *Group) unitProperties(r *specs.LinuxResources) ([]property, error) {
	if r == nil {
		r = &specs.LinuxResources{}
	}
	policy, err := newDevicePolicy(r.Devices)
	if err != nil {
		return nil, err
	}
	accounting := "IOAccounting"
	if g.mode != Unified {
		accounting = "BlockIOAccounting"
	}
	list := append([]property{{accounting, dbus.Variant{Signature: "b", Value: true}}}, policy.properties(g.mode)...)
	settings, err := g.settings(g.rounded(r), false)
	if err != nil {
		return nil, err
	}
	limits, err := g.unit.limits(settings, g.mode)
	if err != nil {
		return nil, err
	}
	for _, s := range settings {
		if s.file == "memory.oom.group" && g.unit.atLeast(253) { // can't be changed later
			policies := map[string]string{"0": "continue", "1": "kill"}
			if policy, ok := policies[strings.TrimSpace(s.value)]; ok {
				limits = append(limits, property{"OOMPolicy", dbus.Variant{Signature: "s", Value: policy}})
			}
		}
	}
	return append(list, limits...), nil
}

// limits converts what is written into files to properties, so that systemd doesn't set it back when it writes them, too.
// Files that it has no property for are left out.
func (u *unit) limits(settings []setting, mode Mode) ([]property, error) {
	var list []property
	number := func(name string, n uint64) {
		list = append(list, property{name, dbus.Variant{Signature: "t", Value: n}})
	}
	bandwidth := map[string]string{}
	idle := slices.ContainsFunc(settings, func(s setting) bool {
		return s.file == "cpu.idle" && strings.TrimSpace(s.value) == "1"
	})
	for _, s := range settings {
		name := propertyName(s.file)
		switch s.file {
		case "cpu.idle":
			// A weight of 0 stands for it (systemd 252).
			if mode == Unified && idle && u.atLeast(252) {
				number("CPUWeight", 0)
			}
			continue
		case "cpu.weight":
			if idle && u.atLeast(252) {
				continue
			}
		case "cpu.cfs_quota_us", "cpu.cfs_period_us", "cpu.max":
			bandwidth[s.file] = s.value
			continue
		case "cpuset.cpus", "cpuset.mems":
			set, err := cpuMask(s.value)
			if err != nil {
				return nil, fmt.Errorf("linux.resources.%s: %w", s.field, err)
			}
			if u.atLeast(244) {
				list = append(list, property{name, dbus.Variant{Signature: "ay", Value: set}})
			}
			continue
		}
		if name == "" || strings.Contains(s.value, ":") || s.file == "io.weight" && strings.Contains(s.value, " ") {
			continue // for one device
		}
		n, err := propertyNumber(s.value)
		if err != nil {
			return nil, fmt.Errorf("linux.resources.%s: %w", s.field, err)
		}
		if name == "TasksMax" {
			n = max(n, 1) // systemd has no 0
		}
		number(name, n)
	}
	quota, period, err := readBandwidth(bandwidth)
	if err != nil {
		return nil, err
	}
	if period != 0 && u.atLeast(242) {
		number("CPUQuotaPeriodUSec", period)
	}
	if quota != 0 || period != 0 {
		number("CPUQuotaPerSecUSec", quotaPerSecond(quota, period))
	}
	return list, nil
}

// propertyName is systemd.resource-control(5)'s name for what is written into a file, "" if it has none.
func propertyName(file string) string {
	switch file {
	case "memory.limit_in_bytes":
		return "MemoryLimit"
	case "cpu.shares":
		return "CPUShares"
	case "blkio.weight", "blkio.bfq.weight":
		return "BlockIOWeight"
	case "memory.max":
		return "MemoryMax"
	case "memory.high":
		return "MemoryHigh"
	case "memory.low":
		return "MemoryLow"
	case "memory.min":
		return "MemoryMin"
	case "memory.swap.max":
		return "MemorySwapMax"
	case "cpu.weight":
		return "CPUWeight"
	case "io.weight":
		return "IOWeight"
	case "cpuset.cpus":
		return "AllowedCPUs"
	case "cpuset.mems":
		return "AllowedMemoryNodes"
	case "pids.max":
		return "TasksMax"
	}
	return ""
}

// propertyNumber reads a limit as the kernel does, perhaps with a unit of 1024; for no limit, max or -1, systemd has the
// greatest number.
func propertyNumber(value string) (uint64, error) {
	value = strings.TrimSpace(value)
	if value == "max" || value == "-1" {
		return math.MaxUint64, nil
	}
	digits := strings.TrimRight(value, "KkMmGgTtPpEe") // lib/cmdline.c, memparse
	shift := 0
	if unit := value[len(digits):]; len(unit) == 1 {
		shift = 10 * (1 + strings.Index("KMGTPE", strings.ToUpper(unit)))
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	if err != nil || len(value) > len(digits)+1 || bits.LeadingZeros64(n) < shift {
		return 0, fmt.Errorf("%q is not a number", value)
	}
	return n << shift, nil
}

// defaultPeriod is the kernel's period for CPU bandwidth, in microseconds (sched-bwc.rst).
const defaultPeriod = 100000

// readBandwidth reads what is written into cpu.max, or v1's two files; -1 is no quota, 0 what is not given.
func readBandwidth(files map[string]string) (quota int64, period uint64, err error) {
	if text := files["cpu.cfs_period_us"]; text != "" {
		if period, err = strconv.ParseUint(text, 10, 64); err != nil {
			return 0, 0, fmt.Errorf("linux.resources.cpu.period: %w", err)
		}
	}
	text := files["cpu.cfs_quota_us"]
	if both := strings.Fields(files["cpu.max"]); len(both) > 0 {
		text, period = both[0], defaultPeriod
		if len(both) > 1 {
			if period, err = strconv.ParseUint(both[1], 10, 64); err != nil {
				return 0, 0, fmt.Errorf("linux.resources.cpu.period: %w", err)
			}
		}
	}
	switch text {
	case "":
	case "max":
		quota = -1
	default:
		if quota, err = strconv.ParseInt(text, 10, 64); err != nil {
			return 0, 0, fmt.Errorf("linux.resources.cpu.quota: %w", err)
		}
	}
	return quota, period, nil
}

// quotaPerSecond is systemd's notation for a quota in a period, both in microseconds: microseconds in a second, which it
// cuts to whole percents. So that the container doesn't get less than it asks for, it is rounded up, as runc does.
func quotaPerSecond(quota int64, period uint64) uint64 {
	const second, percent = 1000000, 10000
	if quota <= 0 {
		return math.MaxUint64
	}
	if period == 0 {
		period = defaultPeriod
	}
	high, low := bits.Mul64(uint64(quota), second)
	if high >= period {
		return math.MaxUint64
	}
	n, _ := bits.Div64(high, low, period)
	return (n + percent - 1) / percent * percent
}

// roundQuota changes the quota to what systemd makes of it, so that the file says the same.
func roundQuota(quota int64, period uint64) int64 {
	perSecond := quotaPerSecond(quota, period)
	if quota <= 0 || perSecond == math.MaxUint64 {
		return quota
	}
	if period == 0 {
		period = defaultPeriod
	}
	high, low := bits.Mul64(perSecond, period)
	if high >= 1000000 {
		return quota
	}
	n, _ := bits.Div64(high, low, 1000000)
	return max(int64(n), quota)
}

// cpuMask converts a list such as 0-3,7 (cpuset(7)) to a bit mask, lowest byte first.
func cpuMask(list string) ([]byte, error) {
	numbers, err := parseRanges(strings.TrimSpace(list))
	if err != nil || len(numbers) == 0 {
		return nil, fmt.Errorf("%q is not a list of CPUs or memory nodes", list)
	}
	mask := make([]byte, slices.Max(numbers)/8+1)
	for _, n := range numbers {
		mask[n/8] |= 1 << (n % 8)
	}
	return mask, nil
}

// properties tells systemd of the policy. It can allow devices, but not some minor number of every major, and not all but
// some. On v2 it is then told to allow all: our program, which it leaves alone, denies what is to be denied. On v1 there is
// but one place for rules, so that it may only be told of less than is allowed: should it write them anew, when it reloads
// itself, the container loses devices, as with runc, and wins none.
func (p *devicePolicy) properties(mode Mode) []property {
	list := []any{}
	complete := !p.allow
	for _, e := range p.exceptions {
		kind, dir := "char-", "/dev/char/"
		if e.kind == 'b' {
			kind, dir = "block-", "/dev/block/"
		}
		device := fmt.Sprintf("%s%d:%d", dir, e.major, e.minor)
		switch {
		case p.allow:
			continue
		case e.major == wildcard && e.minor != wildcard:
			complete = false
			continue
		case e.major == wildcard:
			device = kind + "*"
		case e.minor == wildcard:
			device = kind + strconv.FormatInt(e.major, 10)
		}
		list = append(list, []any{device, e.access.String()})
	}
	policy := "strict"
	if p.allow && len(p.exceptions) == 0 || !complete && mode == Unified {
		policy, list = "auto", []any{}
	}
	return []property{
		{"DevicePolicy", dbus.Variant{Signature: "s", Value: policy}},
		{"DeviceAllow", dbus.Variant{Signature: "a(ss)", Value: list}},
	}
}
