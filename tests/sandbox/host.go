package sandbox

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// CgroupRoot is where distributions mount the hierarchies: v2's alone, or v1's, each in a directory.
const CgroupRoot = "/sys/fs/cgroup"

// Unified tells that the host has cgroup v2 alone; else controllers are v1's.
func Unified() bool {
	var st unix.Statfs_t
	return unix.Statfs(CgroupRoot, &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC
}

// KernelIs tells whether the kernel is of that version or a newer one.
func KernelIs(major, minor int) bool {
	var uts unix.Utsname
	if unix.Uname(&uts) != nil {
		return false
	}
	var x, y int
	_, _ = fmt.Sscanf(unix.ByteSliceToString(uts.Release[:]), "%d.%d", &x, &y)
	return x > major || x == major && y >= minor
}

// ByCgroup is what holds for the host's version of cgroups.
func ByCgroup[T any](v1, v2 T) T {
	if Unified() {
		return v2
	}
	return v1
}

// Cgroups lists the cgroup directories of the sandbox, which are named after its mark: itself, or units in its slice.
func (s *Sandbox) Cgroups() []string {
	dirs, _ := filepath.Glob(filepath.Join(CgroupRoot, ByCgroup("*", ""), s.Mark+"*"))
	units, _ := filepath.Glob(filepath.Join(CgroupRoot, ByCgroup("*", ""), s.Slice(), "*.scope"))
	return append(dirs, units...)
}

// RemoveCgroup removes a cgroup and those below it.
func RemoveCgroup(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := RemoveCgroup(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return os.Remove(dir)
}

// NamespaceOf identifies a namespace of a process.
func NamespaceOf(t *testing.T, pid int, name string) string {
	t.Helper()
	link, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, name))
	Must(t, err)
	return link
}

// StatusField reads a line of /proc/PID/status.
func StatusField(status, name string) string {
	for line := range strings.Lines(status) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.Join(strings.Fields(value), " ")
		}
	}
	return ""
}

// MountLine is what mountinfo says of a mount point: its options, optional fields, type and superblock's options.
type MountLine struct {
	Root, Options, Optional, Kind, Source, Super string
}

// MountsOf parses mountinfo; of several mounts at one place the last counts.
func MountsOf(text string) map[string]MountLine {
	mounts := make(map[string]MountLine)
	for line := range strings.Lines(text) {
		before, after, ok := strings.Cut(line, " - ")
		f, g := strings.Fields(before), strings.Fields(after)
		if !ok || len(f) < 6 || len(g) < 2 {
			continue
		}
		m := MountLine{Root: f[3], Options: f[5], Optional: strings.Join(f[6:], " "), Kind: g[0], Source: g[1]}
		if len(g) > 2 {
			m.Super = g[2]
		}
		mounts[f[4]] = m
	}
	return mounts
}

// Has tells whether the mount, not its superblock, has an option.
func (m MountLine) Has(option string) bool {
	return slices.Contains(strings.Split(m.Options, ","), option)
}

// MountPoints lists the mounts in our namespace.
func MountPoints() []string {
	var points []string
	for line := range strings.Lines(ReadFile("/proc/self/mountinfo")) {
		if f := strings.Fields(line); len(f) > 4 {
			points = append(points, f[4])
		}
	}
	return points
}

// Descriptors lists what a process has open.
func Descriptors(t *testing.T, pid int) map[string]string {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(dir)
	Must(t, err)
	open := make(map[string]string)
	for _, e := range entries {
		open[e.Name()], _ = os.Readlink(filepath.Join(dir, e.Name()))
	}
	return open
}

// DeviceOwners lists the owners and modes of the host's devices that containers get.
func DeviceOwners(t *testing.T) string {
	t.Helper()
	var owners strings.Builder
	for _, name := range []string{"null", "zero", "full", "random", "urandom", "tty"} {
		info, err := os.Stat("/dev/" + name)
		Must(t, err)
		st := info.Sys().(*syscall.Stat_t)
		fmt.Fprintf(&owners, "%s %d:%d %o\n", name, st.Uid, st.Gid, st.Mode)
	}
	return owners.String()
}

// Alive tells whether a process is there and not a zombie.
func Alive(pid int) bool {
	status := ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	return status != "" && !strings.HasPrefix(StatusField(status, "State"), "Z")
}
