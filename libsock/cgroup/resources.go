package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Set enforces linux.resources on the group before its first process joins. The
// device rules are always set: without any, only the default devices are
// allowed. As for runc, a limit of zero is one that is not asked for.
//
// A limit that this host can't enforce is an error that names the field.
// Exempt are memory.kernel and memory.kernelTCP, which the spec lets runtimes
// ignore, and memory.useHierarchy, which Linux always does since 5.11.
func (g *Group) Set(r *specs.LinuxResources) error {
	if r == nil {
		r = &specs.LinuxResources{}
	}
	policy, err := newDevicePolicy(r.Devices)
	if err != nil {
		return err
	}
	if err := g.setDevices(policy); err != nil {
		return err
	}
	return g.setLimits(g.rounded(r), false)
}

// UpdateSet changes the limits that r gives, of a group with processes in it.
// Device rules are left alone, as by runc's update. After an error some of the
// limits may be changed.
func (g *Group) UpdateSet(r *specs.LinuxResources) error {
	if r == nil {
		return nil
	}
	r = g.rounded(r) // once: systemd is about to change what it completes r from
	if err := g.updateUnit(r); err != nil {
		return err
	}
	return g.setLimits(r, true)
}

func (g *Group) setLimits(r *specs.LinuxResources, update bool) error {
	w := &writer{group: g}
	w.set(r, update)
	return w.err
}

// settings lists what setLimits would write, and writes nothing. The cgroup may not be there yet.
func (g *Group) settings(r *specs.LinuxResources, update bool) ([]setting, error) {
	w := &writer{group: g, dry: true}
	w.set(r, update)
	return w.settings, w.err
}

// rounded is r with the quota that systemd can express, if the group is a unit of its, and with the period that it has now
// where that is not given, or the quota: systemd must be told of both.
func (g *Group) rounded(r *specs.LinuxResources) *specs.LinuxResources {
	if g.unit == nil || r.CPU == nil {
		return r
	}
	quota, period := value(r.CPU.Quota), value(r.CPU.Period)
	if (quota == 0) != (period == 0) {
		nowQuota, nowPeriod := g.bandwidth()
		if quota == 0 {
			quota = nowQuota
		} else {
			period = nowPeriod
		}
	}
	if quota == 0 {
		return r
	}
	quota = roundQuota(quota, period)
	cpu, all := *r.CPU, *r
	cpu.Quota, cpu.Period = &quota, &period
	all.CPU = &cpu
	return &all
}

// bandwidth is the cgroup's quota and period of CPU time in microseconds: -1 for no quota, 0 for what can't be read.
func (g *Group) bandwidth() (quota int64, period uint64) {
	d := g.dir("cpu")
	if d == nil {
		return 0, 0
	}
	now := map[string]string{}
	for _, name := range []string{"cpu.max", "cpu.cfs_quota_us", "cpu.cfs_period_us"} {
		if text, err := readTrimmed(d.path, name); err == nil {
			now[name] = text
		}
	}
	quota, period, err := readBandwidth(now)
	if err != nil {
		return 0, 0
	}
	return quota, period
}

// setting is a value for a file of a controller, and where in linux.resources
// it comes from. An empty value is one that is not asked for.
type setting struct{ field, controller, file, value string }

// writer writes settings until the first error.
type writer struct {
	group *Group
	err   error

	dry      bool      // keep them in settings instead
	settings []setting // in the order of writing
}

func (w *writer) set(r *specs.LinuxResources, update bool) {
	if w.group.mode == Unified {
		w.setUnified(r, update)
	} else {
		w.setLegacy(r)
	}
}

// put writes settings.
func (w *writer) put(settings ...setting) {
	for _, s := range settings {
		if w.err == nil && s.value != "" {
			w.err = w.write(s)
		}
	}
}

// putEarly is put for settings that the kernel may refuse with EINVAL until
// another one is written, if that will be. It returns those to be put then.
func (w *writer) putEarly(othersFollow bool, settings ...setting) (late []setting) {
	for _, s := range settings {
		if w.err != nil || s.value == "" {
			continue
		}
		err := w.write(s)
		if othersFollow && errors.Is(err, unix.EINVAL) {
			late = append(late, s)
			continue
		}
		w.err = err
	}
	return late
}

// putIfSupported is put for a setting that kernels may lack without harm.
func (w *writer) putIfSupported(s setting) {
	if w.err != nil || s.value == "" {
		return
	}
	if err := w.write(s); !errors.Is(err, fs.ErrNotExist) {
		w.err = err
	}
}

// refuse fails if a field was given that has no meaning on this cgroup version.
func (w *writer) refuse(given bool, field, why string) {
	if given && w.err == nil {
		w.err = fmt.Errorf("linux.resources.%s: %s", field, why)
	}
}

func (w *writer) write(s setting) error {
	dir, err := w.directory(s)
	if err != nil {
		return err
	}
	if w.dry {
		w.settings = append(w.settings, s)
		return nil
	}
	err = writeFile(dir+"/"+s.file, s.value)
	if err == nil {
		return nil
	}
	if errors.Is(err, fs.ErrNotExist) && w.group.Unified() {
		have, readErr := readTrimmed(dir, "cgroup.controllers")
		if readErr == nil && !slices.Contains(strings.Fields(have), s.controller) {
			return fmt.Errorf("linux.resources.%s: %s controller is not available in %s: %w", s.field, s.controller, dir, err)
		}
	}
	return fmt.Errorf("linux.resources.%s: %w", s.field, err)
}

// directory returns where a setting is to be written.
func (w *writer) directory(s setting) (string, error) {
	d := w.group.dir(s.controller)
	switch {
	case d != nil:
		return d.path, nil
	case w.group.disabled:
		return "", fmt.Errorf("linux.resources.%s: %w", s.field, errNone)
	case w.group.Unified() || slices.Contains(w.group.denied, s.controller):
		return "", fmt.Errorf("linux.resources.%s: no permission to create a cgroup in the %s hierarchy", s.field, s.controller)
	case w.group.None() && w.group.rootless:
		return "", fmt.Errorf("linux.resources.%s: %w", s.field, errNone)
	}
	return "", fmt.Errorf("linux.resources.%s: %s hierarchy is not mounted", s.field, s.controller)
}

// current reads a number that a setting is about to change. Of a cgroup that isn't there yet it is the greatest: no limit.
func (w *writer) current(s setting) uint64 {
	if w.err != nil {
		return 0
	}
	dir, err := w.directory(s)
	if err != nil {
		w.err = err
		return 0
	}
	n, err := readUint(dir, s.file)
	if w.dry && errors.Is(err, fs.ErrNotExist) {
		return math.MaxUint64
	}
	if err != nil {
		w.err = fmt.Errorf("linux.resources.%s: %w", s.field, err)
	}
	return n
}

// has tells whether the kernel has a setting's file.
func (w *writer) has(s setting) bool {
	d := w.group.dir(s.controller)
	return d != nil && unix.Access(d.path+"/"+s.file, unix.F_OK) == nil
}

// putHugepages limits both the use of huge pages and, where the kernel counts
// them (5.7), their reservations.
func (w *writer) putHugepages(limits []specs.LinuxHugepageLimit, suffix string) {
	for i, l := range limits {
		s := setting{fmt.Sprintf("hugepageLimits[%d]", i), "hugetlb", "hugetlb." + l.Pagesize + suffix, strconv.FormatUint(l.Limit, 10)}
		if strings.Contains(l.Pagesize, "/") {
			w.refuse(true, s.field+".pageSize", fmt.Sprintf("%q is not a page size", l.Pagesize))
		}
		w.put(s)
		s.file = "hugetlb." + l.Pagesize + ".rsvd" + suffix
		w.putIfSupported(s)
	}
}

func (w *writer) putRdma(limits map[string]specs.LinuxRdma) {
	for _, device := range slices.Sorted(maps.Keys(limits)) {
		value := device
		if n := limits[device].HcaHandles; n != nil {
			value += fmt.Sprintf(" hca_handle=%d", *n)
		}
		if n := limits[device].HcaObjects; n != nil {
			value += fmt.Sprintf(" hca_object=%d", *n)
		}
		w.put(setting{"rdma." + device, "rdma", "rdma.max", value})
	}
}

// number formats a number of which zero means that it is not asked for.
func number[T int64 | uint64 | uint32 | uint16](n *T) string {
	if n == nil || *n == 0 {
		return ""
	}
	return fmt.Sprint(*n)
}

// numberOrZero formats a number of which zero is a value.
func numberOrZero[T int64 | uint64](n *T) string {
	if n == nil {
		return ""
	}
	return fmt.Sprint(*n)
}

// value returns what p points to, or zero.
func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// pidsMax converts pids.limit: a negative one is none. systemd can't express a
// limit of 0 and takes 1, which also lets nobody fork; runc does the same.
func pidsMax(limit *int64) string {
	switch {
	case limit == nil:
		return ""
	case *limit < 0:
		return "max"
	}
	return strconv.FormatInt(max(*limit, 1), 10)
}
