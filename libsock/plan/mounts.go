package plan

import (
	"fmt"
	"path"
	"slices"
	"strconv"
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
	for _, m := range b.spec.Mounts {
		if m.Type == "proc" || b.facts.Procfs[b.source(m)] {
			b.procfs = append(b.procfs, inRoot(m.Destination))
		}
	}
	for i, m := range b.spec.Mounts {
		from := fmt.Sprintf("mounts[%d]", i)
		o, err := spec.ParseMountOptions(m.Type, m.Options)
		if err != nil {
			return fmt.Errorf("%s: %w", from, err)
		}
		if err := b.checkProc(from, m, o); err != nil {
			return err
		}
		if o.Set&unix.MOUNT_ATTR_RDONLY != 0 && b.locksLate(i) {
			o.Set &^= unix.MOUNT_ATTR_RDONLY
			o.SuperFlags = without(o.SuperFlags, "ro")
		}
		b.label(m, &o)
		switch {
		case o.Remount:
			b.remount(from, m, o)
		case o.Bind:
			err = b.bind(from, m, o)
		case b.isCgroupMount(m):
			err = b.cgroupMount(from, m, o)
		case slices.Contains(namespacedTypes, m.Type), m.Type == "tmpfs" && b.inUserNamespace() && !o.TmpCopyUp, b.facts.NoMounts && !needsPage(o.Data):
			err = b.namespaced(from, m, o)
		default:
			err = b.detached(from, i, m, o)
		}
		if err != nil {
			return err
		}
	}
	if b.opt.Notify != "" {
		b.notifySocket()
	}
	return nil
}

// notifySocket shows the directory with the socket on which the container may notify the service manager.
func (b *builder) notifySocket() {
	const from, set = "NOTIFY_SOCKET", unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC
	b.placeTree(from, from, CloneTree{Out: from, Path: b.opt.Notify, Attrs: append(b.treePropagation(), Attr{Set: set})},
		specs.Mount{Destination: NotifyDir, Source: b.opt.Notify, Options: []string{"bind", "ro", "nosuid", "nodev", "noexec"}})
}

// harmlessInProc are the files of /proc that container tools (lxcfs) cover with their own: they only tell something.
var harmlessInProc = []string{
	"proc/cpuinfo", "proc/diskstats", "proc/meminfo", "proc/stat", "proc/swaps", "proc/uptime", "proc/loadavg", "proc/slabinfo",
	"proc/net/dev", "proc/sys/kernel/ns_last_pid", "proc/sys/crypto/fips_enabled",
}

// checkProc refuses to cover /proc, or what is in it, with anything but a procfs: the container's own or, in a PID
// namespace that it shares, its owner's. Labels and limits are written there (CVE-2019-16884).
func (b *builder) checkProc(from string, m specs.Mount, o spec.MountOptions) error {
	destination := inRoot(m.Destination)
	switch {
	case destination == "proc" && (m.Type == "proc" || o.Remount || o.Bind && b.facts.Procfs[b.source(m)]):
		return nil
	case destination == "proc":
		return fmt.Errorf("%s: %q cannot be mounted because it is not of type proc", from, m.Destination)
	case strings.HasPrefix(destination, "proc/") && !o.Remount && !slices.Contains(harmlessInProc, destination):
		return fmt.Errorf("%s: %q cannot be mounted because it is inside /proc", from, m.Destination)
	}
	return nil
}

// source is a bind's source; a relative one is in the bundle.
func (b *builder) source(m specs.Mount) string {
	if path.IsAbs(m.Source) {
		return m.Source
	}
	return path.Join(b.opt.Bundle, m.Source)
}

// isCgroupMount says whether a mount shows the container its cgroup.
func (b *builder) isCgroupMount(m specs.Mount) bool {
	return m.Type == "cgroup" || m.Type == "cgroup2" && b.facts.Cgroup.Unified
}

// locksLate says whether mount i must stay writable until the end although it is read-only: a tmpfs, in which the mount
// points and devices that follow are still to be made; also the empty one that stands for the cgroup of a container that
// has none.
func (b *builder) locksLate(i int) bool {
	m := b.spec.Mounts[i]
	switch {
	case b.isCgroupMount(m):
		return b.facts.Cgroup.None && !(b.has(specs.CgroupNamespace) && b.facts.Cgroup.Unified)
	case m.Type != "tmpfs":
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
	target, fs := stub.Value(slotT), stub.Value(slotS)
	ops := []stub.Instr{lookup(slotT, inRoot(m.Destination), 0)}
	if len(o.SuperFlags)+len(o.Data) > 0 && !o.Bind { // a bind has no superblock of its own
		ops = append(ops, into(slotS, sys(unix.SYS_FSPICK, target, empty, stub.Int(unix.FSPICK_CLOEXEC|unix.FSPICK_EMPTY_PATH))))
		ops = append(ops, configure(fs, o.SuperFlags, o.Data)...)
		ops = append(ops, sys(unix.SYS_FSCONFIG, fs, stub.Int(unix.FSCONFIG_CMD_RECONFIGURE), zero, zero, zero), closeFD(fs))
	}
	for _, a := range attrs(o) {
		ops = append(ops, setAttr(target, a))
	}
	b.line(Note{From: from, Does: "change the mount at " + m.Destination, Hand: handMount(m)}, append(ops, closeFD(target))...)
}

// place is the line that puts mount m at its destination.
func (b *builder) place(from string, destination string, file bool, mount stub.Arg, hand string, before ...stub.Instr) {
	target := stub.Value(slotT)
	ops := append(before, b.makeTarget(slotT, destination, file)...)
	here := append(b.outsideProc(target, destination), moveMount(mount, target), closeFD(target))
	here[0] = at("have", here[0])
	ops = append(append(ops, here...), b.anchor(destination, mount)...)
	ops = append(ops, closeFD(mount))
	if inRoot(destination) == "." { // the root has a new top
		b.proc, b.sys = false, false
		ops = append(ops, closeFD(root))
		ops = append(ops, b.openRoot()...)
	}
	b.line(Note{From: from, Does: "mount " + path.Clean("/"+destination), Hand: hand}, ops...)
	b.saysProc(from, destination)
	if file { // move_mount(2) has one errno for many things; Docker explains more where it reads "not a directory"
		b.plan.Child[len(b.plan.Child)-1].Says[unix.EINVAL] = fmt.Sprintf(
			"%s: mount %s: %s: the source is not a directory, so the target must not be one", from, path.Clean("/"+destination), unix.EINVAL)
	}
}

// outsideProc refuses a target in a procfs that the image's links led to, where checkProc knows only names
// (CVE-2019-16884). One by its name is below a procfs of config.json's: the host's, for example, in another place.
func (b *builder) outsideProc(target stub.Arg, destination string) []stub.Instr {
	name := inRoot(destination) + "/"
	below := func(procfs string) bool { return strings.HasPrefix(name, procfs+"/") }
	if below("proc") || slices.ContainsFunc(b.procfs, below) {
		return nil
	}
	return isNot(target, unix.PROC_SUPER_MAGIC)
}

// saysProc lets the last line explain itself.
func (b *builder) saysProc(from, destination string) {
	b.plan.Child[len(b.plan.Child)-1].Says = map[unix.Errno]string{
		unix.ETIMEDOUT: fmt.Sprintf("%s: %q cannot be mounted because it is inside /proc, where a link leads", from, destination),
	}
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
	source := b.source(m)
	act := CloneTree{Out: from, Path: source, Recursive: o.Recursive, Attrs: append(b.treePropagation(), attrs(o)...)}
	switch {
	case len(m.UIDMappings)+len(m.GIDMappings) > 0:
		act.IDMap = &IDMap{Recursive: o.IDMap == "ridmap", UIDs: m.UIDMappings, GIDs: m.GIDMappings}
	case o.IDMap != "" && len(b.spec.Linux.UIDMappings) > 0:
		act.IDMap = &IDMap{Recursive: o.IDMap == "ridmap", UIDs: b.spec.Linux.UIDMappings, GIDs: b.spec.Linux.GIDMappings}
	case o.IDMap != "" && b.inUserNamespace():
		act.IDMap = &IDMap{Recursive: o.IDMap == "ridmap", Namespace: fdUserNS}
	case o.IDMap != "":
		return fmt.Errorf("%s.options: %s needs uidMappings and gidMappings, or a user namespace", from, o.IDMap)
	}
	if act.IDMap != nil && b.facts.NoMounts {
		return fmt.Errorf("%s: an idmapped mount takes root on the host", from)
	}
	b.placeTree(from, from+".source", act, m)
	return nil
}

// placeTree plans the clone of a tree of mounts, which field asks for, and its place.
func (b *builder) placeTree(from, field string, act CloneTree, m specs.Mount) {
	n, file := Note{From: field, Does: "clone the mount of " + act.Path}, b.facts.Files[act.Path]
	if inside, ok := strings.CutPrefix(act.Path, b.opt.Rootfs+"/"); ok && b.inUserNamespace() && act.IDMap == nil {
		// Only the container sees what it has mounted there.
		b.place(from, m.Destination, file, stub.Value(slotM), handMount(m), b.clonedInside(inside, act)...)
		return
	}
	if b.bindsOutside() || act.IDMap != nil {
		late := b.afterStage(&act.Attrs)
		mount, ops := b.cloned(n, act, file)
		ops = append(ops, late...)
		b.place(from, m.Destination, file, mount, handMount(m), ops...)
		return
	}
	// The child's copy of the host's mounts will do, and then mountinfo has the binds, too, in the order of config.json.
	b.line(n, act.inChild(stub.Int(unix.AT_FDCWD), stub.Text(act.Path), 0)...)
	b.place(from, m.Destination, file, stub.Value(slotM), handMount(m))
}

// inChild has the child do what the step does for the parent: it clones what is at name below dir, looked up with flags,
// into slotM, and changes its attributes.
func (c CloneTree) inChild(dir, name stub.Arg, flags int) []stub.Instr {
	flags |= unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC
	if c.Recursive {
		flags |= unix.AT_RECURSIVE
	}
	ops := []stub.Instr{into(slotM, sys(unix.SYS_OPEN_TREE, dir, name, stub.Int(flags)))}
	for _, a := range c.Attrs {
		ops = append(ops, setAttr(stub.Value(slotM), a))
	}
	return ops
}

// bindsOutside says whether the sources of binds must be cloned in the host's mount namespace: where the child has no
// copy of it, where they must be locked, or where they are to stay the peers of what is on the host.
func (b *builder) bindsOutside() bool {
	flag, _, _ := spec.Propagation(b.spec.Linux.RootfsPropagation)
	return b.inUserNamespace() || !b.hasNew(specs.MountNamespace) || flag == unix.MS_SHARED
}

// detached plans a file system that the parent can make by itself: tmpfs, overlay, a disk.
func (b *builder) detached(from string, i int, m specs.Mount, o spec.MountOptions) error {
	if needsPage(o.Data) {
		b.classic(from, m, o)
		return nil
	}
	act := NewMount{Out: from, Type: m.Type, Source: m.Source, Super: o.SuperFlags, Options: unquoted(o.Data), Attrs: o.Set}
	if act.Source == "" {
		act.Source = m.Type // /proc/mounts must not show an empty field
	}
	o.Set, o.Clear = 0, 0
	act.After = attrs(o)
	if m.Type == "tmpfs" {
		on, copied := b.below(i)
		if copied && !hasOption(o.Data, "mode") {
			act.ModeOf = inRoot(m.Destination)
		}
		switch {
		case o.TmpCopyUp && copied:
			act.CopyUp = inRoot(m.Destination)
		case o.TmpCopyUp && on.Type != "tmpfs":
			return fmt.Errorf("%s.options: tmpcopyup of %s, which is on the mount at %s, is not supported", from, m.Destination, on.Destination)
		}
	}
	mount := stub.Value(slotM)
	var ops []stub.Instr
	if b.inUserNamespace() || act.CopyUp != "" {
		mount, ops = b.prepared(from, false)
	} else {
		act.Context = true
		ops = []stub.Instr{
			into(slotM, sys(unix.SYS_FSMOUNT, stub.FD(from), stub.Int(unix.FSMOUNT_CLOEXEC), stub.Int(act.Attrs))),
			closeFD(stub.FD(from)),
		}
		for _, a := range act.After {
			ops = append(ops, setAttr(mount, a))
		}
	}
	b.step(Note{From: from, Does: "make a detached " + m.Type, Fast: FastDetached}, act)
	b.place(from, m.Destination, false, mount, handMount(m), ops...)
	return nil
}

// pageOfOptions is what mount(2) takes of a file system's options, in bytes.
const pageOfOptions = 4095

// needsPage says whether an option is too long for fsconfig(2) but all of them fit mount(2): the lower directories of an
// overlay. Options beyond that are split, which takes Linux 6.8 (see package host).
func needsPage(options []string) bool {
	long := slices.ContainsFunc(unquoted(options), func(option string) bool {
		_, value, _ := strings.Cut(option, "=")
		return len(value) > longestOption
	})
	return long && len(strings.Join(options, ",")) <= pageOfOptions
}

// classic plans a mount by mount(2), onto the target that the child has entered; attributes come second.
func (b *builder) classic(from string, m specs.Mount, o spec.MountOptions) {
	source := m.Source
	if source == "" {
		source = m.Type
	}
	target, mounted := stub.Value(slotT), stub.Value(slotM)
	options := strings.Join(append(o.SuperFlags[:len(o.SuperFlags):len(o.SuperFlags)], o.Data...), ",")
	here := append(b.outsideProc(target, m.Destination), sys(unix.SYS_FCHDIR, target))
	here[0] = at("have", here[0])
	ops := append(b.makeTarget(slotT, m.Destination, false), here...)
	ops = append(ops, closeFD(target),
		sys(unix.SYS_MOUNT, stub.Text(source), stub.Text("."), stub.Text(m.Type), zero, stub.Text(options)),
		lookup(slotM, inRoot(m.Destination), unix.O_DIRECTORY))
	for _, a := range attrs(o) {
		ops = append(ops, setAttr(mounted, a))
	}
	b.line(Note{From: from, Does: "mount " + path.Clean("/"+m.Destination), Hand: handMount(m)}, append(ops, closeFD(mounted))...)
	b.saysProc(from, m.Destination)
}

func hasOption(options []string, key string) bool {
	for _, o := range options {
		if name, _, _ := strings.Cut(o, "="); name == key {
			return true
		}
	}
	return false
}

// below looks for what mount i's destination lies on: an earlier mount, or the rootfs. It is as good as the rootfs where
// the mounts between are copies of it (tmpcopyup); any other tmpfs has nothing to show there.
func (b *builder) below(i int) (on specs.Mount, rootfs bool) {
	destination := inRoot(b.spec.Mounts[i].Destination)
	for _, earlier := range slices.Backward(b.spec.Mounts[:i]) {
		if at := inRoot(earlier.Destination); at != "." && !strings.HasPrefix(destination+"/", at+"/") {
			continue
		}
		// All options have been parsed once before.
		if o, _ := spec.ParseMountOptions(earlier.Type, earlier.Options); !o.Remount && !(earlier.Type == "tmpfs" && o.TmpCopyUp) {
			return earlier, false
		}
	}
	return specs.Mount{}, true
}

// namespacedTypes are the file systems that belong to a namespace of their maker's: PID, IPC, cgroup, or network.
var namespacedTypes = []string{
	"proc", "sysfs", "mqueue", "devpts", "cgroup2",
	"nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "afs", "rpc_pipefs", "nfsd",
}

// longestOption is what fsconfig(2) takes of a string, without its NUL.
const longestOption = 255

// namespaced plans a file system that shows one of the container's namespaces, so that the child must make it.
func (b *builder) namespaced(from string, m specs.Mount, o spec.MountOptions) error {
	for _, option := range unquoted(o.Data) {
		if key, value, _ := strings.Cut(option, "="); len(value) > longestOption {
			return fmt.Errorf("%s.options: %s is longer than the %d bytes that fsconfig takes", from, key, longestOption)
		}
	}
	source := m.Source
	if source == "" {
		source = m.Type
	}
	if o.TmpCopyUp && b.facts.NoMounts {
		return fmt.Errorf("%s.options: tmpcopyup takes root on the host", from)
	}
	options := o.Data
	if mode, ok := b.facts.Modes[inRoot(m.Destination)]; ok && m.Type == "tmpfs" && !hasOption(options, "mode") {
		options = append(options[:len(options):len(options)], fmt.Sprintf("mode=%o", mode))
	}
	ops := newFS(slotM, m.Type, source, o.SuperFlags, options, o.Set)
	o.Set, o.Clear = 0, 0
	for _, a := range attrs(o) {
		ops = append(ops, setAttr(stub.Value(slotM), a))
	}
	if m.Type == "mqueue" {
		ops = append(ops, b.labelQueues()...)
	}
	if m.Type == "devpts" && inRoot(m.Destination) == "dev/pts" && b.opt.Console {
		b.devpts = true
		ops = append(ops, into(slotDevpts, sys(unix.SYS_FCNTL, stub.Value(slotM), stub.Int(unix.F_DUPFD_CLOEXEC), stub.Int(3))))
	}
	if err := b.checkOwners(from, o.Data); err != nil {
		return err
	}
	b.place(from, m.Destination, false, stub.Value(slotM), handMount(m), ops...)
	if m.Type == "proc" || m.Type == "sysfs" {
		b.ordinaryDirectory(m)
	}
	b.sayWhose(from, m)
	return nil
}

// sayWhose explains EPERM of a file system that only the owner of the namespace that it shows may mount.
func (b *builder) sayWhose(from string, m specs.Mount) {
	kind := map[string]specs.LinuxNamespaceType{
		"proc": specs.PIDNamespace, "sysfs": specs.NetworkNamespace, "mqueue": specs.IPCNamespace,
	}[m.Type]
	if kind == "" || b.hasNew(kind) || !b.inUserNamespace() && !b.facts.UserNS {
		return
	}
	line := &b.plan.Child[len(b.plan.Child)-1]
	if line.Says == nil {
		line.Says = map[unix.Errno]string{}
	}
	line.Says[unix.EPERM] = fmt.Sprintf("%s: mount %s: %s: a new %s takes a %s namespace that belongs to the container's user namespace; bind the host's instead",
		from, m.Destination, unix.EPERM, m.Type, kind)
}

// checkOwners refuses ids that the user namespace doesn't map: the kernel would only say EINVAL.
func (b *builder) checkOwners(from string, options []string) error {
	if !b.inUserNamespace() {
		return nil
	}
	for _, option := range options {
		mapping := b.spec.Linux.UIDMappings
		key, value, _ := strings.Cut(option, "=")
		switch key {
		case "uid":
		case "gid":
			mapping = b.spec.Linux.GIDMappings
		default:
			continue
		}
		id, err := strconv.ParseUint(value, 10, 32)
		mapped := slices.ContainsFunc(mapping, func(m specs.LinuxIDMapping) bool {
			return id >= uint64(m.ContainerID) && id-uint64(m.ContainerID) < uint64(m.Size)
		})
		if err == nil && !mapped && len(mapping) > 0 {
			return fmt.Errorf("%s.options: %s is not mapped in the user namespace", from, option)
		}
	}
	return nil
}

// ordinaryDirectory has the last line refuse links in the destination: what other lines write to, or show read-only, must
// be this file system and not one that the image put in its place (CVE-2019-19921, CVE-2023-27561).
func (b *builder) ordinaryDirectory(m specs.Mount) {
	line := &b.plan.Child[len(b.plan.Child)-1]
	for i, in := range line.Ops {
		if in.Sys == unix.SYS_OPENAT2 {
			line.Ops[i].Args[2] = openHow(unix.O_PATH|unix.O_DIRECTORY, 0, unix.RESOLVE_IN_ROOT|unix.RESOLVE_NO_SYMLINKS)
		}
	}
	line.Says = map[unix.Errno]string{
		unix.ELOOP:   fmt.Sprintf("%s: filesystem %q must be mounted on ordinary directory: %s is or leads through a link", line.From, m.Type, m.Destination),
		unix.ENOTDIR: fmt.Sprintf("%s: filesystem %q must be mounted on ordinary directory: %s", line.From, m.Type, m.Destination),
	}
}

// cgroupMount shows the container its own cgroup: with a cgroup namespace by mounting the hierarchies anew, without one
// by binding its directories. On v1 they stand in a tmpfs, one directory each.
func (b *builder) cgroupMount(from string, m specs.Mount, o spec.MountOptions) error {
	// A new user namespace has no rights over a cgroup namespace by path.
	own := b.hasNew(specs.CgroupNamespace) || b.has(specs.CgroupNamespace) && !b.hasNew(specs.UserNamespace)
	if b.facts.Cgroup.None {
		return b.noCgroupMount(from, m, o, own)
	}
	if len(o.Data) > 0 && !(own && b.facts.Cgroup.Unified) {
		return fmt.Errorf("%s.options: %q is no option of a cgroup mount", from, o.Data[0])
	}
	if b.facts.Cgroup.Unified {
		if own {
			m.Type = "cgroup2"
			return b.namespaced(from, m, o)
		}
		mount, ops := b.cloneCgroup(from, b.facts.Cgroup.Mounts[0], o)
		b.place(from, m.Destination, false, mount, "mount --bind "+b.facts.Cgroup.Mounts[0].Dir+" rootfs"+m.Destination, ops...)
		return nil
	}
	// Its attributes come last: once it is read-only, the directories can't be made any more.
	tmpfs := NewMount{Out: from, Type: "tmpfs", Source: "tmpfs", Options: append([]string{"mode=755"}, unquoted(b.context())...), After: attrs(o)}
	for _, c := range b.facts.Cgroup.Mounts {
		tmpfs.Dirs = append(tmpfs.Dirs, c.Name)
		for _, l := range c.Links {
			tmpfs.Links = append(tmpfs.Links, [2]string{c.Name, l})
		}
	}
	mount, ops := b.holder(from, tmpfs)
	// The hierarchies go into directories of that tmpfs, through its descriptor: nothing to resolve, nothing to race with.
	holder := stub.Value(slotHolder)
	ops = append(ops, into(slotHolder, sys(unix.SYS_FCNTL, mount, stub.Int(unix.F_DUPFD_CLOEXEC), stub.Int(3))))
	b.place(from, m.Destination, false, mount, handMount(m), ops...)
	for _, c := range b.facts.Cgroup.Mounts {
		n := Note{From: from, Does: "mount " + path.Join(m.Destination, c.Name), Hand: "mount --bind " + c.Dir + " rootfs" + path.Join(m.Destination, c.Name)}
		mount, ops := stub.Value(slotM), []stub.Instr(nil)
		if own {
			n.Hand = "mount -t cgroup -o " + c.Data + " cgroup rootfs" + path.Join(m.Destination, c.Name)
			ops = newFS(slotM, "cgroup", "cgroup", nil, strings.Split(c.Data, ","), o.Set)
		} else {
			mount, ops = b.cloneCgroup(from, c, o)
		}
		b.line(n, append(ops,
			sys(unix.SYS_MOVE_MOUNT, mount, empty, holder, stub.Text(c.Name), stub.Int(unix.MOVE_MOUNT_F_EMPTY_PATH)),
			closeFD(mount))...)
	}
	b.line(Note{From: from, Does: "close the tmpfs of the hierarchies"}, closeFD(holder))
	return nil
}

// noCgroupMount is what a container without a cgroup of its own sees: that of its maker, read-only, where a cgroup namespace
// leaves nothing else in sight; otherwise nothing, and the hierarchy of the host's that a bind of /sys brings along is covered
// (CVE-2023-25809).
func (b *builder) noCgroupMount(from string, m specs.Mount, o spec.MountOptions, own bool) error {
	o.Clear &^= unix.MOUNT_ATTR_RDONLY
	if own && b.facts.Cgroup.Unified {
		m.Type, o.Set = "cgroup2", o.Set|unix.MOUNT_ATTR_RDONLY
		return b.namespaced(from, m, o)
	}
	// Read-only late: Podman's --systemd mounts on a hierarchy in it.
	m.Type, m.Source, o.Data, o.SuperFlags = "tmpfs", "tmpfs", []string{"mode=755"}, nil
	return b.namespaced(from, m, o)
}

// cloneCgroup plans a bind of one of the container's cgroup directories.
func (b *builder) cloneCgroup(from string, c CgroupMount, o spec.MountOptions) (stub.Arg, []stub.Instr) {
	out := strings.TrimSuffix(from+"."+c.Name, ".")
	if b.facts.Cgroup.Unit != "" && !b.facts.NoMounts {
		return b.cloneLate(out, c.Dir, append(b.treePropagation(), attrs(o)...))
	}
	return b.cloned(Note{From: from, Does: "clone the mount of " + c.Dir},
		CloneTree{Out: out, Path: c.Dir, Attrs: append(b.treePropagation(), attrs(o)...)}, false)
}

// holder makes a tmpfs with what it is to hold, as the child can place it; ops come first.
func (b *builder) holder(from string, tmpfs NewMount) (mount stub.Arg, ops []stub.Instr) {
	if !b.facts.NoMounts {
		b.step(Note{From: from, Does: "make a detached tmpfs for the hierarchies", Fast: FastDetached}, tmpfs)
		return b.prepared(from, false)
	}
	mount = stub.Value(slotM)
	ops = newFS(slotM, tmpfs.Type, tmpfs.Source, tmpfs.Super, tmpfs.Options, tmpfs.Attrs)
	for _, dir := range tmpfs.Dirs {
		ops = append(ops, sys(unix.SYS_MKDIRAT, mount, stub.Text(dir), stub.Int(0o755)))
	}
	for _, l := range tmpfs.Links {
		ops = append(ops, sys(unix.SYS_SYMLINKAT, stub.Text(l[0]), mount, stub.Text(l[1])))
	}
	for _, a := range tmpfs.After {
		ops = append(ops, setAttr(mount, a))
	}
	return mount, ops
}

// cloneLate plans a bind of a directory that isn't there before the clone: the child clones it, or in a user namespace the
// child on the stage.
func (b *builder) cloneLate(name, dir string, attrs []Attr) (stub.Arg, []stub.Instr) {
	ops := []stub.Instr{into(slotM, sys(unix.SYS_OPEN_TREE, stub.Int(unix.AT_FDCWD), stub.Text(dir), stub.Int(unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)))}
	for _, a := range attrs {
		ops = append(ops, setAttr(stub.Value(slotM), a))
	}
	if !b.inUserNamespace() {
		return stub.Value(slotM), ops
	}
	mount, fromStage := b.prepared(name, false)
	b.staged[len(b.staged)-1].clone = ops
	return mount, fromStage
}

// anchor keeps what is mounted on /proc or /sys open.
func (b *builder) anchor(destination string, mount stub.Arg) []stub.Instr {
	slot := slotProc
	switch inRoot(destination) {
	case "proc":
		b.proc = true
	case "sys":
		slot, b.sys = slotSys, true
	default:
		return nil
	}
	return []stub.Instr{into(slot, sys(unix.SYS_FCNTL, mount, stub.Int(unix.F_DUPFD_CLOEXEC), stub.Int(3)))}
}

// lookupAnchored is lookup, but what is in /proc or /sys it looks up in the very mount. By its name it could be elsewhere by
// now: who shares the root filesystem can still rename the directory on which the mount is, and then the masks would not
// be in /proc but in what took its place.
func (b *builder) lookupAnchored(s stub.Slot, name string) stub.Instr {
	name = inRoot(name)
	in := lookup(s, name, 0)
	below := func(dir string, slot stub.Slot) {
		if rest, ok := strings.CutPrefix(name+"/", dir+"/"); ok {
			in.Args[0], in.Args[1] = stub.Value(slot), stub.Text(inRoot(rest))
		}
	}
	if b.proc {
		below("proc", slotProc)
	}
	if b.sys {
		below("sys", slotSys)
	}
	return in
}

// readonlyPaths covers linux.readonlyPaths with read-only copies of themselves; what does not exist needs none.
func (b *builder) readonlyPaths() {
	target, cover := stub.Value(slotT), stub.Value(slotM)
	for i, name := range b.spec.Linux.ReadonlyPaths {
		b.line(Note{
			From: fmt.Sprintf("linux.readonlyPaths[%d]", i), Does: "make " + name + " read-only",
			Hand: fmt.Sprintf("mount --rbind %[1]s %[1]s && mount -o remount,bind,ro %[1]s", name),
		},
			unless(b.lookupAnchored(slotT, name), stub.End, unix.ENOENT),
			into(slotM, sys(unix.SYS_OPEN_TREE, target, empty, stub.Int(cloneFlags|unix.AT_RECURSIVE))),
			setAttr(cover, Attr{Set: unix.MOUNT_ATTR_RDONLY}),
			moveMount(cover, target), closeFD(cover), closeFD(target))
	}
}

const cloneFlags = unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC | unix.AT_EMPTY_PATH

// fdNull is a detached mount of the host's /dev/null, never of the image's (CVE-2025-31133). It is read-only, which the
// device's driver doesn't mind: else root of the container could change the mode of the host's for everyone.
const fdNull = "null"

// takeMask has the mask for files at hand while what the parent prepared is in reach.
func (b *builder) takeMask() {
	if len(b.spec.Linux.MaskedPaths) == 0 {
		return
	}
	null, ops := b.cloned(Note{From: "linux.maskedPaths", Does: "clone the mount of /dev/null"},
		CloneTree{Out: fdNull, Path: "/dev/null", Device: unix.Mkdev(1, 3), Attrs: []Attr{{Set: unix.MOUNT_ATTR_RDONLY, Propagation: unix.MS_PRIVATE}}}, true)
	b.line(Note{From: "linux.maskedPaths", Does: "take the mask for files"},
		append(ops, into(slotNullTree, sys(unix.SYS_FCNTL, null, stub.Int(unix.F_DUPFD_CLOEXEC), stub.Int(3))), closeFD(null))...)
}

// maskedPaths covers files with /dev/null and directories with an empty tmpfs; what does not exist needs no cover. The
// first cover of each kind is kept open and the others are clones of it.
func (b *builder) maskedPaths() {
	if len(b.spec.Linux.MaskedPaths) == 0 {
		return
	}
	target, cover, null := stub.Value(slotT), stub.Value(slotM), stub.Value(slotNullTree)
	clone := func(s stub.Slot) stub.Instr {
		return into(slotM, sys(unix.SYS_OPEN_TREE, stub.Value(s), empty, stub.Int(cloneFlags)))
	}
	masked := map[string]bool{}
	for i, name := range b.spec.Linux.MaskedPaths {
		if masked[path.Clean(name)] {
			continue
		}
		masked[path.Clean(name)] = true
		ops := []stub.Instr{
			unless(b.lookupAnchored(slotT, name), stub.End, unix.ENOENT),
			// Is it a directory? "." is looked up in one only.
			unless(then(sys(unix.SYS_FACCESSAT, target, stub.Text("."), zero), "directory"), "", unix.ENOTDIR),
			unless(then(clone(slotNull), "cover"), "", unix.EBADF),
			moveMount(null, target),
			then(into(slotNull, sys(unix.SYS_FCNTL, null, stub.Int(unix.F_DUPFD_CLOEXEC), stub.Int(3))), "covered"),
			at("directory", unless(then(clone(slotEmpty), "cover"), "", unix.EBADF)),
		}
		ops = append(ops, newFS(slotEmpty, "tmpfs", "tmpfs", []string{"ro"}, b.context(), unix.MOUNT_ATTR_RDONLY)...)
		ops = append(ops,
			then(moveMount(stub.Value(slotEmpty), target), "covered"),
			at("cover", moveMount(cover, target)),
			closeFD(cover),
			at("covered", closeFD(target)))
		b.line(Note{From: fmt.Sprintf("linux.maskedPaths[%d]", i), Does: "mask " + name, Hand: "mount --bind /dev/null " + name}, ops...)
	}
	b.line(Note{From: "linux.maskedPaths", Does: "close the masks"},
		closeFD(null),
		unless(closeFD(stub.Value(slotNull)), "", unix.EBADF),
		unless(closeFD(stub.Value(slotEmpty)), "", unix.EBADF))
}
