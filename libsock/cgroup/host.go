package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// root is where distributions mount the hierarchies.
const root = "/sys/fs/cgroup"

// Mode is how a host arranges its cgroup hierarchies.
type Mode int

// The modes, by what systemd calls them.
const (
	Unified Mode = iota + 1 // cgroup v2 only
	Legacy                  // cgroup v1 only
	Hybrid                  // cgroup v1, and v2 at /sys/fs/cgroup/unified
)

// String returns unified, legacy or hybrid.
func (m Mode) String() string {
	switch m {
	case Unified:
		return "unified"
	case Legacy:
		return "legacy"
	case Hybrid:
		return "hybrid"
	}
	return "unknown"
}

func parseMode(s string) (Mode, error) {
	for _, m := range []Mode{Unified, Legacy, Hybrid} {
		if s == m.String() {
			return m, nil
		}
	}
	return 0, fmt.Errorf("unknown cgroup mode %q", s)
}

// HostMode returns the mode of this host. One without any cgroups is Legacy.
func HostMode() Mode {
	switch {
	case fsType(root) == unix.CGROUP2_SUPER_MAGIC:
		return Unified
	case fsType(root+"/unified") == unix.CGROUP2_SUPER_MAGIC:
		return Hybrid
	}
	return Legacy
}

func fsType(path string) int64 {
	var st unix.Statfs_t
	if unix.Statfs(path, &st) != nil {
		return 0
	}
	return st.Type
}

// Hierarchy is one mounted tree of cgroups.
type Hierarchy struct {
	// Name is the name of the mount's directory, such as memory, cpu,cpuacct
	// or systemd; on v2 it is unified.
	Name string
	// Mount is the mount point.
	Mount string
	// Controllers are the v1 controllers bound to it. It is empty for a named
	// hierarchy, and on v2, where they differ from cgroup to cgroup.
	Controllers []string
	// V2 tells the one hierarchy of v2, which a hybrid host has beside those of
	// v1: service managers track processes there.
	V2 bool
	// Own is our own cgroup, relative to Mount, with a leading slash.
	Own string
}

var errNoHierarchy = errors.New("no cgroup hierarchy is mounted")

// Hierarchies returns the mounted v1 hierarchies, and that of v2.
func Hierarchies() ([]Hierarchy, error) { return hierarchiesOf(HostMode()) }

func hierarchiesOf(mode Mode) ([]Hierarchy, error) {
	memberships, err := readFile("/proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	var found []Hierarchy
	var lost []string // lines whose hierarchy is not in the usual place
	for line := range strings.Lines(memberships) {
		h, ok := usualHierarchy(strings.TrimSuffix(line, "\n"), mode)
		switch {
		case ok:
			found = append(found, h)
		case strings.HasPrefix(line, "0::") == (mode == Unified):
			lost = append(lost, strings.TrimSuffix(line, "\n"))
		}
	}
	if len(lost) > 0 {
		// Rare, and mountinfo is slow to read on hosts with many mounts.
		mountinfo, err := readFile("/proc/self/mountinfo")
		if err != nil {
			return nil, err
		}
		found = append(found, searchHierarchies(lost, mountinfo)...)
	}
	if len(found) == 0 {
		return nil, errNoHierarchy
	}
	return found, nil
}

// usualHierarchy finds the hierarchy of a line of /proc/PID/cgroup
// (cgroups(7): ID, controllers, path) where distributions mount it.
func usualHierarchy(line string, mode Mode) (Hierarchy, bool) {
	controllers, own, ok := parseMembership(line)
	v2 := len(controllers) == 0
	if !ok || v2 && mode == Legacy || !v2 && mode == Unified {
		return Hierarchy{}, false
	}
	h := Hierarchy{Name: "unified", Mount: root, V2: v2, Own: own}
	if v2 && mode == Hybrid {
		h.Mount = root + "/unified"
	}
	if !v2 {
		// Where controllers share a hierarchy, its directory may name them in
		// another order; then the link of the first one leads to it.
		name := strings.TrimPrefix(strings.Join(controllers, ","), "name=")
		if fsType(root+"/"+name) != unix.CGROUP_SUPER_MAGIC {
			target, err := filepath.EvalSymlinks(root + "/" + controllers[0])
			if err != nil || fsType(target) != unix.CGROUP_SUPER_MAGIC {
				return Hierarchy{}, false
			}
			name = filepath.Base(target)
		}
		h.Name, h.Mount = name, root+"/"+name
		h.Controllers = withoutNames(controllers)
	}
	// Inside a container without a cgroup namespace only a part of the
	// hierarchy is mounted; mountinfo says which.
	if own != "/" && unix.Access(h.Mount+own, unix.F_OK) != nil {
		return Hierarchy{}, false
	}
	return h, true
}

// parseMembership splits a line of /proc/PID/cgroup. There are no controllers
// in the line of v2.
func parseMembership(line string) (controllers []string, own string, ok bool) {
	_, line, _ = strings.Cut(line, ":")
	list, own, ok := strings.Cut(line, ":")
	if list != "" {
		controllers = strings.Split(list, ",")
	}
	return controllers, own, ok
}

func withoutNames(controllers []string) []string {
	return slices.DeleteFunc(slices.Clone(controllers), func(c string) bool { return strings.HasPrefix(c, "name=") })
}

// searchHierarchies finds the hierarchies of lines of /proc/PID/cgroup in the
// text of mountinfo. Those that are not mounted are left out.
func searchHierarchies(memberships []string, mountinfo string) []Hierarchy {
	var found []Hierarchy
	for _, membership := range memberships {
		controllers, own, ok := parseMembership(membership)
		if !ok {
			continue
		}
		for line := range strings.Lines(mountinfo) {
			// proc_pid_mountinfo(5): ID parent dev root mountpoint options
			// optional... - type source superoptions
			mount, super, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " - ")
			left, right := strings.Fields(mount), strings.Fields(super)
			if len(left) < 6 || len(right) < 3 {
				continue
			}
			h := Hierarchy{Name: "unified", Mount: unescape(left[4]), V2: len(controllers) == 0}
			switch {
			case len(controllers) == 0 && right[0] == "cgroup2":
			case len(controllers) > 0 && right[0] == "cgroup" && slices.Contains(strings.Split(right[2], ","), controllers[0]):
				h.Name = filepath.Base(h.Mount)
				h.Controllers = withoutNames(controllers)
			default:
				continue
			}
			// A path outside of the mounted part gets dots, which
			// parentCgroup refuses.
			rel, err := filepath.Rel(unescape(left[3]), own)
			if err != nil {
				continue
			}
			h.Own = "/" + strings.TrimPrefix(rel, ".")
			if strings.HasPrefix(rel, "..") {
				h.Own = "/" + rel
			}
			found = append(found, h)
			break
		}
	}
	return found
}

// unescape undoes mountinfo's octal escapes of space, tab, newline, backslash.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// v1Controllers are all that Linux has had; other names belong to hierarchies
// without controllers, such as systemd.
const v1Controllers = " blkio cpu cpuacct cpuset debug devices freezer hugetlb memory misc net_cls net_prio perf_event pids rdma "

// hierarchyOfName rebuilds what a saved state needs to know of a hierarchy.
func hierarchyOfName(name string) Hierarchy {
	h := Hierarchy{Name: name, V2: name == "unified"}
	for controller := range strings.SplitSeq(name, ",") {
		if strings.Contains(v1Controllers, " "+controller+" ") {
			h.Controllers = append(h.Controllers, controller)
		}
	}
	return h
}

// isDenied tells whether an error means that we lack the permission.
func isDenied(err error) bool {
	return errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EROFS)
}

// isGone tells whether an error means that the cgroup was removed: its path is
// missing, or an open file of it answers ENODEV.
func isGone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV)
}
