package plan

import (
	"fmt"
	"path"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/sock-runtime/sock/libsock/stub"
	"github.com/sock-runtime/sock/spec"
)

// inRoot is a destination as a path below the root's descriptor.
func inRoot(destination string) string {
	name := strings.TrimPrefix(path.Clean("/"+destination), "/")
	if name == "" {
		return "."
	}
	return name
}

// mounts plans all of config.json's mounts, in their order. What belongs to one of the container's namespaces is made by
// the child; everything else by the parent, as a detached mount that the child only puts in place.
func (b *builder) mounts() error {
	for i, m := range b.spec.Mounts {
		from := fmt.Sprintf("mounts[%d]", i)
		o, err := spec.ParseMountOptions(m.Type, m.Options)
		if err != nil {
			return fmt.Errorf("%s: %w", from, err)
		}
		if o.Set&unix.MOUNT_ATTR_RDONLY != 0 && b.locksLate(i) {
			o.Set &^= unix.MOUNT_ATTR_RDONLY
			o.SuperFlags = without(o.SuperFlags, "ro")
		}
		switch {
		case o.Remount:
			b.remount(from, m, o)
		case o.Bind:
			err = b.bind(from, m, o)
		case m.Type == "cgroup" || m.Type == "cgroup2" && b.facts.Cgroup.Unified:
			err = b.cgroupMount(from, m, o)
		case m.Type == "proc" || m.Type == "sysfs" || m.Type == "mqueue" || m.Type == "devpts" || m.Type == "cgroup2":
			b.namespaced(from, m, o)
		default:
			b.detached(from, i, m, o)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// locksLate says whether mount i must stay writable until the end although it is read-only: a tmpfs, in which the mount
// points and devices that follow are still to be made.
func (b *builder) locksLate(i int) bool {
	m := b.spec.Mounts[i]
	if m.Type != "tmpfs" {
		return false
	}
	o, err := spec.ParseMountOptions(m.Type, m.Options)
	return err == nil && o.Set&unix.MOUNT_ATTR_RDONLY != 0
}

func without(list []string, word string) []string {
	var rest []string
	for _, s := range list {
		if s != word {
			rest = append(rest, s)
		}
	}
	return rest
}

// remount changes what an earlier mount, or the root file system, has at the destination.
func (b *builder) remount(from string, m specs.Mount, o spec.MountOptions) {
	target := stub.Value(slotT)
	ops := append(lookup(slotT, inRoot(m.Destination), 0, "have", ""), at("have", setAttr(target, Attr{})))
	for _, a := range attrs(o) {
		ops = append(ops, setAttr(target, a))
	}
	b.line(Note{From: from, Does: "change the mount at " + m.Destination, Hand: handMount(m)}, append(ops, closeFD(target))...)
}

// place is the line that puts mount m at its destination.
func (b *builder) place(from string, destination string, file bool, mount stub.Arg, hand string, before ...stub.Instr) {
	target := stub.Value(slotT)
	ops := append(before, makeTarget(slotT, destination, file)...)
	ops = append(ops, at("have", moveMount(mount, target)), closeFD(target), closeFD(mount))
	if inRoot(destination) == "." { // the root has a new top
		ops = append(ops, closeFD(root))
		ops = append(ops, b.openRoot()...)
	}
	b.line(Note{From: from, Does: "mount " + path.Clean("/"+destination), Hand: hand}, ops...)
}

func handMount(m specs.Mount) string {
	words := []string{"mount"}
	if m.Type != "" && m.Type != "bind" {
		words = append(words, "-t", m.Type)
	}
	if len(m.Options) > 0 {
		words = append(words, "-o", strings.Join(m.Options, ","))
	}
	source := m.Source
	if source == "" {
		source = m.Type
	}
	return strings.Join(append(words, source, "rootfs"+path.Clean("/"+m.Destination)), " ")
}

// attrs lists what a mount's options change on a tree that exists, in the order in which mount(8) would.
func attrs(o spec.MountOptions) []Attr {
	var list []Attr
	if o.RecSet|o.RecClear != 0 {
		list = append(list, Attr{Recursive: true, Set: o.RecSet, Clear: o.RecClear})
	}
	if o.Set|o.Clear != 0 {
		list = append(list, Attr{Set: o.Set, Clear: o.Clear})
	}
	if o.RecPropagation != 0 {
		list = append(list, Attr{Recursive: true, Propagation: o.RecPropagation})
	}
	if o.Propagation != 0 {
		list = append(list, Attr{Propagation: o.Propagation})
	}
	return list
}

func (b *builder) bind(from string, m specs.Mount, o spec.MountOptions) error {
	source := m.Source
	if !path.IsAbs(source) {
		source = path.Join(b.opt.Bundle, source)
	}
	act := CloneTree{Out: from, Path: source, Recursive: o.Recursive, Attrs: append(b.treePropagation(), attrs(o)...)}
	if len(m.UIDMappings)+len(m.GIDMappings) > 0 {
		act.IDMap = &IDMap{Recursive: o.IDMap == "ridmap", UIDs: m.UIDMappings, GIDs: m.GIDMappings}
	} else if o.IDMap != "" {
		return fmt.Errorf("%s.options: %s needs uidMappings and gidMappings, or a user namespace", from, o.IDMap)
	}
	b.step(Note{From: from + ".source", Does: "clone the mount of " + source, Fast: FastDetached}, act)
	b.place(from, m.Destination, b.facts.Files[source], stub.FD(from), handMount(m))
	return nil
}

// detached plans a file system that the parent can make by itself: tmpfs, overlay, a disk.
func (b *builder) detached(from string, i int, m specs.Mount, o spec.MountOptions) {
	act := NewMount{Out: from, Type: m.Type, Source: m.Source, Super: o.SuperFlags, Options: o.Data, Attrs: o.Set}
	if act.Source == "" {
		act.Source = m.Type // /proc/mounts must not show an empty field
	}
	o.Set, o.Clear = 0, 0
	act.After = append(b.treePropagation()[:0:0], attrs(o)...)
	if m.Type == "tmpfs" {
		if !b.underMount(i) && !hasOption(o.Data, "mode") {
			act.ModeOf = inRoot(m.Destination)
		}
		if o.TmpCopyUp {
			act.CopyUp = inRoot(m.Destination)
		}
	}
	b.step(Note{From: from, Does: "make a detached " + m.Type, Fast: FastDetached}, act)
	b.place(from, m.Destination, false, stub.FD(from), handMount(m))
}

func hasOption(options []string, key string) bool {
	for _, o := range options {
		if name, _, _ := strings.Cut(o, "="); name == key {
			return true
		}
	}
	return false
}

// underMount says whether mount i's destination lies on an earlier mount, so that the rootfs doesn't show what is there.
func (b *builder) underMount(i int) bool {
	destination := inRoot(b.spec.Mounts[i].Destination)
	for _, earlier := range b.spec.Mounts[:i] {
		if strings.HasPrefix(destination+"/", inRoot(earlier.Destination)+"/") {
			return true
		}
	}
	return false
}

// namespaced plans a file system that shows one of the container's namespaces, so that the child must make it.
func (b *builder) namespaced(from string, m specs.Mount, o spec.MountOptions) {
	source := m.Source
	if source == "" {
		source = m.Type
	}
	ops := newFS(slotM, m.Type, source, o.SuperFlags, o.Data, o.Set)
	o.Set, o.Clear = 0, 0
	for _, a := range attrs(o) {
		ops = append(ops, setAttr(stub.Value(slotM), a))
	}
	if m.Type == "devpts" && inRoot(m.Destination) == "dev/pts" && b.spec.Process.Terminal {
		ops = append(ops, into(slotDevpts, sys(unix.SYS_FCNTL, stub.Value(slotM), stub.Int(unix.F_DUPFD_CLOEXEC), stub.Int(3))))
	}
	b.place(from, m.Destination, false, stub.Value(slotM), handMount(m), ops...)
}

// cgroupMount shows the container its own cgroup: with a cgroup namespace by mounting the hierarchies anew, without one
// by binding its directories. On v1 they stand in a tmpfs, one directory each.
func (b *builder) cgroupMount(from string, m specs.Mount, o spec.MountOptions) error {
	if b.facts.Cgroup.None {
		return fmt.Errorf("%s: the container has no cgroup to show", from)
	}
	own := b.hasNew(specs.CgroupNamespace)
	source := m.Source
	if source == "" {
		source = "cgroup"
	}
	if b.facts.Cgroup.Unified {
		if own {
			m.Type = "cgroup2"
			b.namespaced(from, m, o)
			return nil
		}
		b.bindCgroup(from, m.Destination, b.facts.Cgroup.Mounts[0].Dir, o)
		return nil
	}
	// Read-only comes last: the directories have to be made before.
	tmpfs := NewMount{Out: from, Type: "tmpfs", Source: "tmpfs", Options: []string{"mode=755"}, Attrs: o.Set &^ unix.MOUNT_ATTR_RDONLY}
	if o.Set&unix.MOUNT_ATTR_RDONLY != 0 {
		tmpfs.After = []Attr{{Set: unix.MOUNT_ATTR_RDONLY}}
	}
	for _, c := range b.facts.Cgroup.Mounts {
		tmpfs.Dirs = append(tmpfs.Dirs, c.Name)
		for _, l := range c.Links {
			tmpfs.Links = append(tmpfs.Links, [2]string{c.Name, l})
		}
	}
	b.step(Note{From: from, Does: "make a detached tmpfs for the hierarchies", Fast: FastDetached}, tmpfs)
	b.place(from, m.Destination, false, stub.FD(from), handMount(m))
	for _, c := range b.facts.Cgroup.Mounts {
		destination := path.Join(m.Destination, c.Name)
		if !own {
			b.bindCgroup(from, destination, c.Dir, o)
			continue
		}
		ops := newFS(slotM, "cgroup", source, nil, strings.Split(c.Data, ","), o.Set)
		b.place(from, destination, false, stub.Value(slotM), "mount -t cgroup -o "+c.Data+" cgroup rootfs"+destination, ops...)
	}
	return nil
}

func (b *builder) bindCgroup(from, destination, dir string, o spec.MountOptions) {
	out := from + "." + path.Base(destination)
	b.step(Note{From: from, Does: "clone the mount of " + dir, Fast: FastDetached},
		CloneTree{Out: out, Path: dir, Attrs: append(b.treePropagation(), attrs(o)...)})
	b.place(from, destination, false, stub.FD(out), "mount --bind "+dir+" rootfs"+destination)
}

// readonlyAndMaskedPaths covers linux.readonlyPaths and linux.maskedPaths; what does not exist needs no cover.
func (b *builder) readonlyAndMaskedPaths() {
	target, cover := stub.Value(slotT), stub.Value(slotM)
	for i, name := range b.spec.Linux.ReadonlyPaths {
		ops := lookup(slotT, inRoot(name), 0, "have", stub.End)
		ops = append(ops,
			at("have", into(slotM, sys(unix.SYS_OPEN_TREE, target, empty,
				stub.Int(unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH|unix.AT_RECURSIVE)))),
			setAttr(cover, Attr{Set: unix.MOUNT_ATTR_RDONLY}),
			moveMount(cover, target), closeFD(cover), closeFD(target))
		b.line(Note{
			From: fmt.Sprintf("linux.readonlyPaths[%d]", i), Does: "make " + name + " read-only",
			Hand: fmt.Sprintf("mount --rbind %[1]s %[1]s && mount -o remount,bind,ro %[1]s", name),
		}, ops...)
	}
	for i, name := range b.spec.Linux.MaskedPaths {
		from := fmt.Sprintf("linux.maskedPaths[%d]", i)
		// A file is covered by the host's /dev/null, never by the image's (CVE-2025-31133); a directory by an empty tmpfs.
		b.step(Note{From: from, Does: "clone the mount of /dev/null", Fast: FastDetached},
			CloneTree{Out: from, Path: "/dev/null", Device: unix.Mkdev(1, 3), Attrs: []Attr{{Propagation: unix.MS_PRIVATE}}})
		null := stub.FD(from)
		ops := lookup(slotT, inRoot(name), 0, "have", "nothing")
		ops = append(ops,
			at("have", unless(then(moveMount(null, target), "covered"), "directory", unix.ENOTDIR, unix.EINVAL)))
		dir := newFS(slotM, "tmpfs", "tmpfs", []string{"ro"}, nil, unix.MOUNT_ATTR_RDONLY)
		dir[0].Label = "directory"
		ops = append(ops, dir...)
		ops = append(ops, moveMount(cover, target), closeFD(cover),
			at("covered", closeFD(target)), at("nothing", closeFD(null)))
		b.line(Note{From: from, Does: "mask " + name, Hand: "mount --bind /dev/null " + name}, ops...)
	}
}
