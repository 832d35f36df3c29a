package spec

import (
	"path/filepath"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func (c *checker) checkLinux(l *specs.Linux) error {
	if err := checkNamespaces(l.Namespaces); err != nil {
		return err
	}
	if err := c.checkMappings(l); err != nil {
		return err
	}
	if err := c.checkNetDevices(l.NetDevices); err != nil {
		return err
	}
	if err := c.checkTimeOffsets(l.TimeOffsets); err != nil {
		return err
	}
	if err := c.checkRestrictedPaths(l); err != nil {
		return err
	}
	for _, key := range sortedKeys(l.Sysctl) {
		if err := c.checkSysctl(key, l.Sysctl[key]); err != nil {
			return err
		}
	}
	if err := checkDevices(l.Devices); err != nil {
		return err
	}
	if l.Resources != nil {
		if err := checkResources(l.Resources); err != nil {
			return err
		}
	}
	if err := checkCgroupsPath(l.CgroupsPath); err != nil {
		return err
	}
	if name := l.RootfsPropagation; name != "" {
		if _, _, ok := Propagation(name); !ok {
			return Field("linux.rootfsPropagation", "unknown propagation %q", name)
		}
	}
	if l.IntelRdt != nil {
		if err := checkIntelRdt(l.IntelRdt); err != nil {
			return err
		}
	}
	if l.MemoryPolicy != nil {
		if err := checkMemoryPolicy(l.MemoryPolicy); err != nil {
			return err
		}
	}
	if err := checkMountLabel(l.MountLabel); err != nil {
		return err
	}
	if p := l.Personality; p != nil {
		if p.Domain != specs.PerLinux && p.Domain != specs.PerLinux32 {
			return Field("linux.personality.domain", "unknown domain %q", p.Domain)
		}
		if len(p.Flags) > 0 {
			return Field("linux.personality.flags", "no flags are defined, got %q", p.Flags[0])
		}
	}
	return nil
}

// checkIntelRdt keeps the class of service a directory of the filesystem's root, or that root, and schemata to one line
// each. With code and data apart, l3CacheSchema is two lines; the spec only advises against them.
func checkIntelRdt(r *specs.LinuxIntelRdt) error {
	const at = "linux.intelRdt"
	id := r.ClosID
	switch {
	case id == "." || id == "..", id != "/" && strings.Contains(id, "/"), strings.ContainsAny(id, "\x00\n"):
		return Field(at+".closID", "%q is no name of a directory", id)
	case len(id) > unix.NAME_MAX:
		return Field(at+".closID", "longer than %d bytes", unix.NAME_MAX)
	case r.MemBwSchema != "" && !strings.HasPrefix(r.MemBwSchema, "MB:"):
		return Field(at+".memBwSchema", "%q does not start with MB:", r.MemBwSchema)
	case strings.ContainsAny(r.MemBwSchema, "\x00\n"):
		return Field(at+".memBwSchema", "must not contain NUL or a newline")
	}
	for i, line := range r.Schemata {
		if strings.ContainsAny(line, "\x00\n") {
			return Field(element(at+".schemata", i), "must not contain NUL or a newline")
		}
	}
	return nil
}

// checkMountLabel refuses what is no value of a filesystem's option, fsconfig(2).
func checkMountLabel(label string) error {
	const at, maxLength = "linux.mountLabel", 255
	if strings.Contains(label, `"`) {
		return Field(at, "must not contain a quote")
	}
	return checkLabel(label, at, maxLength)
}

func checkNamespaces(namespaces []specs.LinuxNamespace) error {
	var seen uint64
	for i, ns := range namespaces {
		flag, ok := NamespaceFlag(ns.Type)
		at := element("linux.namespaces", i)
		switch {
		case !ok:
			return Field(at+".type", "unknown namespace %q", ns.Type)
		case seen&flag != 0:
			return Field(at+".type", "duplicate namespace %q", ns.Type)
		}
		if ns.Path != "" {
			if err := checkAbsolute(ns.Path, at+".path"); err != nil {
				return err
			}
		}
		seen |= flag
	}
	return nil
}

func (c *checker) checkMappings(l *specs.Linux) error {
	userns := c.namespace(specs.UserNamespace)
	uids, gids := len(l.UIDMappings) > 0, len(l.GIDMappings) > 0
	switch {
	case userns == nil && uids:
		return Field("linux.uidMappings", "need a user namespace")
	case userns == nil && gids:
		return Field("linux.gidMappings", "need a user namespace")
	case userns != nil && userns.Path == "" && !uids && !gids:
		return Field("linux.uidMappings", "must be set for a new user namespace")
	}
	return nil
}

func (c *checker) checkTimeOffsets(offsets map[string]specs.LinuxTimeOffset) error {
	if len(offsets) == 0 {
		return nil
	}
	switch timens := c.namespace(specs.TimeNamespace); {
	case timens == nil:
		return Field("linux.timeOffsets", "need a time namespace")
	case timens.Path != "":
		return Field("linux.timeOffsets", "can't be set for a time namespace that is joined by path")
	}
	for _, clock := range sortedKeys(offsets) {
		at := member("linux.timeOffsets", clock)
		if clock != "monotonic" && clock != "boottime" {
			return Field(at, "unknown clock, want monotonic or boottime")
		}
		if ns := offsets[clock].Nanosecs; ns >= 1e9 {
			return Field(at+".nanosecs", "%d is a second or more", ns)
		}
	}
	return nil
}

func (c *checker) checkRestrictedPaths(l *specs.Linux) error {
	for _, f := range []struct {
		name  string
		paths []string
	}{
		{"linux.maskedPaths", l.MaskedPaths},
		{"linux.readonlyPaths", l.ReadonlyPaths},
	} {
		if len(f.paths) > 0 && c.namespace(specs.MountNamespace) == nil {
			return Field(f.name, "unable to restrict sys entries without a private MNT namespace")
		}
		for i, path := range f.paths {
			if err := checkAbsolute(path, element(f.name, i)); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkDevices(devices []specs.LinuxDevice) error {
	// What new_encode_dev of the kernel keeps: mknod(2) would cut off the rest.
	const maxMajor, maxMinor = 1<<12 - 1, 1<<20 - 1
	seen := make(map[string]bool, len(devices))
	for i, d := range devices {
		at := element("linux.devices", i)
		if err := checkAbsolute(d.Path, at+".path"); err != nil {
			return err
		}
		switch {
		case filepath.Clean(d.Path) != d.Path || d.Path == "/":
			return Field(at+".path", "%q is not a clean path of a file", d.Path)
		case seen[d.Path]:
			return Field(at+".path", "duplicate device %q", d.Path)
		case d.FileMode != nil && uint32(*d.FileMode)&^(unix.S_IFMT|0o7777) != 0:
			return Field(at+".fileMode", "%d is not a file mode", uint32(*d.FileMode))
		}
		seen[d.Path] = true

		switch d.Type {
		case "p":
			continue // A FIFO has no numbers.
		case "b", "c", "u":
		default:
			return Field(at+".type", "unknown device type %q, want b, c, u or p", d.Type)
		}
		switch {
		case d.Major == 0 && d.Minor == 0:
			return Field(at+".major", "must be set for a device of type %q", d.Type)
		case d.Major < 0 || d.Major > maxMajor:
			return Field(at+".major", "%d is not between 0 and %d", d.Major, maxMajor)
		case d.Minor < 0 || d.Minor > maxMinor:
			return Field(at+".minor", "%d is not between 0 and %d", d.Minor, maxMinor)
		}
	}
	return nil
}

// checkCgroupsPath keeps the path below the cgroup mount point, and printable in one line.
func checkCgroupsPath(path string) error {
	const at = "linux.cgroupsPath"
	if len(path) >= unix.PathMax {
		return Field(at, "longer than %d bytes", unix.PathMax-1)
	}
	if strings.ContainsAny(path, "\x00\n") {
		return Field(at, "must not contain NUL or a newline")
	}
	depth := 0
	for name := range strings.SplitSeq(path, "/") {
		switch name {
		case "", ".":
		case "..":
			if depth--; depth < 0 {
				return Field(at, "%q leaves the cgroup hierarchy", path)
			}
		default:
			depth++
		}
	}
	return nil
}
