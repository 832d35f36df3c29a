package spec

import (
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// MountOptions are the options of one mount, sorted by the system call that applies them.
type MountOptions struct {
	Set, Clear       uint64 // MOUNT_ATTR_* to set and clear on the mount itself
	RecSet, RecClear uint64 // the same for the whole tree, AT_RECURSIVE

	// SuperFlags are keys for FSCONFIG_SET_FLAG: ro, sync, dirsync, mand, lazytime. A bind has none: like mount(2),
	// it doesn't touch the superblock it shares with its source.
	SuperFlags []string

	Propagation    uint64 // MS_PRIVATE and the like for the mount itself, 0 for none; apply it after RecPropagation
	RecPropagation uint64 // the same for the whole tree

	Bind      bool   // bind, rbind, or the filesystem type "bind"
	Recursive bool   // rbind
	Remount   bool   // change the mount at the destination instead of making one
	TmpCopyUp bool   // fill a tmpfs with what it hides
	IDMap     string // "", "idmap" or "ridmap"

	Data []string // what is left, for the filesystem: key or key=value, in order
}

// OptionError is an option that neither sock nor, for a bind, a filesystem understands.
type OptionError struct {
	Index  int // in the list of options
	Option string
}

func (e *OptionError) Error() string { return "unknown mount option " + strconv.Quote(e.Option) }

// ParseMountOptions reads the options of a mount: those of config.md "Linux mount options", of which later ones
// override earlier ones, and the filesystem's own. A bind has no filesystem to ask, so an unknown word is an *OptionError:
// the kernel would ignore it without a word. Options with a value (mode=755) are what some engines leave on a bind and
// mount(2) ignores there; they stay in Data, and Warnings names them.
func ParseMountOptions(fstype string, options []string) (MountOptions, error) {
	m := MountOptions{Bind: fstype == "bind"}
	firstUnknown := -1
	for i, option := range options {
		if known, ok := findMountOption(option); ok {
			m.apply(known)
			continue
		}
		if strings.IndexByte(option, 0) >= 0 {
			return m, &OptionError{Index: i, Option: option}
		}
		if firstUnknown < 0 && !strings.Contains(option, "=") {
			firstUnknown = i
		}
		m.Data = append(m.Data, splitData(fstype, option)...)
	}
	if m.Bind {
		if firstUnknown >= 0 {
			return m, &OptionError{Index: firstUnknown, Option: options[firstUnknown]}
		}
		m.SuperFlags = nil
	}
	return m, nil
}

// KnownMountOptions returns the names of the options that are not left to the filesystem, sorted.
func KnownMountOptions() []string {
	names := make([]string, len(mountOptions))
	for i, o := range mountOptions {
		names[i] = o.name
	}
	return names
}

type optionKind uint8

const (
	// The bits are MOUNT_ATTR_* of the mount itself, or with Rec of the whole tree; super is the superblock's flag that
	// goes with them, if any.
	setAttr optionKind = iota
	clearAttr
	setRecAttr
	clearRecAttr

	// The bits are one value of the field MOUNT_ATTR__ATIME. To clear it leaves the kernel's default, relatime.
	setAtime
	clearAtime
	setRecAtime
	clearRecAtime

	setSuper
	clearSuper

	// The bits are MS_*.
	setPropagation
	setRecPropagation

	setBind
	setRecBind
	setRemount
	setTmpCopyUp
	setIDMap
	noEffect // accepted, but there is nothing to do
)

type mountOption struct {
	name  string
	kind  optionKind
	bits  uint64
	super string
}

// mountOptions is sorted by name. mount(2) knows iversion and silent as flags, fsconfig(2) doesn't (EINVAL on Linux 6.18):
// filesystems with inode versions turn them on themselves, silent only keeps messages out of the kernel's log.
var mountOptions = [...]mountOption{
	{name: "async", kind: clearSuper, super: "sync"},
	{name: "atime", kind: clearAtime, bits: unix.MOUNT_ATTR_NOATIME},
	{name: "bind", kind: setBind},
	{name: "defaults", kind: noEffect},
	{name: "dev", kind: clearAttr, bits: unix.MOUNT_ATTR_NODEV},
	{name: "diratime", kind: clearAttr, bits: unix.MOUNT_ATTR_NODIRATIME},
	{name: "dirsync", kind: setSuper, super: "dirsync"},
	{name: "exec", kind: clearAttr, bits: unix.MOUNT_ATTR_NOEXEC},
	{name: "idmap", kind: setIDMap},
	{name: "iversion", kind: noEffect},
	{name: "lazytime", kind: setSuper, super: "lazytime"},
	{name: "loud", kind: noEffect},
	{name: "mand", kind: setSuper, super: "mand"},
	{name: "noatime", kind: setAtime, bits: unix.MOUNT_ATTR_NOATIME},
	{name: "nodev", kind: setAttr, bits: unix.MOUNT_ATTR_NODEV},
	{name: "nodiratime", kind: setAttr, bits: unix.MOUNT_ATTR_NODIRATIME},
	{name: "noexec", kind: setAttr, bits: unix.MOUNT_ATTR_NOEXEC},
	{name: "noiversion", kind: noEffect},
	{name: "nolazytime", kind: clearSuper, super: "lazytime"},
	{name: "nomand", kind: clearSuper, super: "mand"},
	{name: "norelatime", kind: noEffect}, // relatime is what the kernel does unless told otherwise.
	{name: "nostrictatime", kind: clearAtime, bits: unix.MOUNT_ATTR_STRICTATIME},
	{name: "nosuid", kind: setAttr, bits: unix.MOUNT_ATTR_NOSUID},
	{name: "nosymfollow", kind: setAttr, bits: unix.MOUNT_ATTR_NOSYMFOLLOW},
	{name: "private", kind: setPropagation, bits: unix.MS_PRIVATE},
	{name: "ratime", kind: clearRecAtime, bits: unix.MOUNT_ATTR_NOATIME},
	{name: "rbind", kind: setRecBind},
	{name: "rdev", kind: clearRecAttr, bits: unix.MOUNT_ATTR_NODEV},
	{name: "rdiratime", kind: clearRecAttr, bits: unix.MOUNT_ATTR_NODIRATIME},
	{name: "relatime", kind: setAtime, bits: unix.MOUNT_ATTR_RELATIME},
	{name: "remount", kind: setRemount},
	{name: "rexec", kind: clearRecAttr, bits: unix.MOUNT_ATTR_NOEXEC},
	{name: "ridmap", kind: setIDMap},
	{name: "rnoatime", kind: setRecAtime, bits: unix.MOUNT_ATTR_NOATIME},
	{name: "rnodev", kind: setRecAttr, bits: unix.MOUNT_ATTR_NODEV},
	{name: "rnodiratime", kind: setRecAttr, bits: unix.MOUNT_ATTR_NODIRATIME},
	{name: "rnoexec", kind: setRecAttr, bits: unix.MOUNT_ATTR_NOEXEC},
	{name: "rnorelatime", kind: noEffect},
	{name: "rnostrictatime", kind: clearRecAtime, bits: unix.MOUNT_ATTR_STRICTATIME},
	{name: "rnosuid", kind: setRecAttr, bits: unix.MOUNT_ATTR_NOSUID},
	{name: "rnosymfollow", kind: setRecAttr, bits: unix.MOUNT_ATTR_NOSYMFOLLOW},
	{name: "ro", kind: setAttr, bits: unix.MOUNT_ATTR_RDONLY, super: "ro"},
	{name: "rprivate", kind: setRecPropagation, bits: unix.MS_PRIVATE},
	{name: "rrelatime", kind: setRecAtime, bits: unix.MOUNT_ATTR_RELATIME},
	{name: "rro", kind: setRecAttr, bits: unix.MOUNT_ATTR_RDONLY},
	{name: "rrw", kind: clearRecAttr, bits: unix.MOUNT_ATTR_RDONLY},
	{name: "rshared", kind: setRecPropagation, bits: unix.MS_SHARED},
	{name: "rslave", kind: setRecPropagation, bits: unix.MS_SLAVE},
	{name: "rstrictatime", kind: setRecAtime, bits: unix.MOUNT_ATTR_STRICTATIME},
	{name: "rsuid", kind: clearRecAttr, bits: unix.MOUNT_ATTR_NOSUID},
	{name: "rsymfollow", kind: clearRecAttr, bits: unix.MOUNT_ATTR_NOSYMFOLLOW},
	{name: "runbindable", kind: setRecPropagation, bits: unix.MS_UNBINDABLE},
	{name: "rw", kind: clearAttr, bits: unix.MOUNT_ATTR_RDONLY, super: "ro"},
	{name: "shared", kind: setPropagation, bits: unix.MS_SHARED},
	{name: "silent", kind: noEffect},
	{name: "slave", kind: setPropagation, bits: unix.MS_SLAVE},
	{name: "strictatime", kind: setAtime, bits: unix.MOUNT_ATTR_STRICTATIME},
	{name: "suid", kind: clearAttr, bits: unix.MOUNT_ATTR_NOSUID},
	{name: "symfollow", kind: clearAttr, bits: unix.MOUNT_ATTR_NOSYMFOLLOW},
	{name: "sync", kind: setSuper, super: "sync"},
	{name: "tmpcopyup", kind: setTmpCopyUp},
	{name: "unbindable", kind: setPropagation, bits: unix.MS_UNBINDABLE},
}

func findMountOption(name string) (mountOption, bool) {
	i, ok := slices.BinarySearchFunc(mountOptions[:], name, func(o mountOption, name string) int {
		return strings.Compare(o.name, name)
	})
	if !ok {
		return mountOption{}, false
	}
	return mountOptions[i], true
}

func (m *MountOptions) apply(o mountOption) {
	switch o.kind {
	case setAttr:
		m.Set, m.Clear = m.Set|o.bits, m.Clear&^o.bits
		m.setSuper(o.super)
	case clearAttr:
		m.Set, m.Clear = m.Set&^o.bits, m.Clear|o.bits
		m.clearSuper(o.super)
	case setRecAttr:
		m.RecSet, m.RecClear = m.RecSet|o.bits, m.RecClear&^o.bits
	case clearRecAttr:
		m.RecSet, m.RecClear = m.RecSet&^o.bits, m.RecClear|o.bits
	case setAtime:
		m.Set, m.Clear = withAtime(m.Set, m.Clear, o.bits)
	case clearAtime:
		m.Set, m.Clear = withoutAtime(m.Set, m.Clear, o.bits)
	case setRecAtime:
		m.RecSet, m.RecClear = withAtime(m.RecSet, m.RecClear, o.bits)
	case clearRecAtime:
		m.RecSet, m.RecClear = withoutAtime(m.RecSet, m.RecClear, o.bits)
	case setSuper:
		m.setSuper(o.super)
	case clearSuper:
		m.clearSuper(o.super)
	case setPropagation:
		m.Propagation = o.bits
	case setRecPropagation:
		m.Propagation, m.RecPropagation = 0, o.bits
	case setBind:
		m.Bind = true
	case setRecBind:
		m.Bind, m.Recursive = true, true
	case setRemount:
		m.Remount = true
	case setTmpCopyUp:
		m.TmpCopyUp = true
	case setIDMap:
		m.IDMap = o.name
	case noEffect:
	}
}

func (m *MountOptions) setSuper(flag string) {
	if flag != "" && !slices.Contains(m.SuperFlags, flag) {
		m.SuperFlags = append(m.SuperFlags, flag)
	}
}

func (m *MountOptions) clearSuper(flag string) {
	m.SuperFlags = slices.DeleteFunc(m.SuperFlags, func(f string) bool { return f == flag })
}

// withAtime chooses one value of the access-time field. mount_setattr(2) demands that the whole field be cleared.
func withAtime(set, clear, value uint64) (newSet, newClear uint64) {
	return set&^unix.MOUNT_ATTR__ATIME | value, clear | unix.MOUNT_ATTR__ATIME
}

// withoutAtime turns one value of the access-time field off, which leaves relatime unless another one was asked for.
func withoutAtime(set, clear, value uint64) (newSet, newClear uint64) {
	if current := set & unix.MOUNT_ATTR__ATIME; current != 0 && current != value {
		return set, clear
	}
	return withAtime(set, clear, unix.MOUNT_ATTR_RELATIME)
}

// splitData splits an option at its commas, as the kernel does with the data of mount(2): not between double quotes,
// which protect SELinux categories, and in overlay's options not after a backslash, which protects names of layers.
func splitData(fstype, option string) []string {
	var parts []string
	start, quoted := 0, false
	for i := 0; i < len(option); i++ {
		switch c := option[i]; {
		case c == '"':
			quoted = !quoted
		case c == '\\' && fstype == "overlay":
			i++
		case c == ',' && !quoted:
			parts = append(parts, option[start:i])
			start = i + 1
		}
	}
	parts = append(parts, option[start:])
	return slices.DeleteFunc(parts, func(part string) bool { return part == "" })
}
