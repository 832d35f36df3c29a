package plan_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/sock-runtime/sock/libsock/plan"
	"github.com/sock-runtime/sock/libsock/stub"
)

// input is what one test changes of a small container's plan.
type input struct {
	spec  *specs.Spec
	opt   plan.Options
	facts plan.Facts
}

func smallInput() *input {
	return &input{
		spec: &specs.Spec{
			Root:    &specs.Root{Path: "rootfs"},
			Process: &specs.Process{Args: []string{"/bin/true"}, Cwd: "/", Env: []string{"PATH=/bin"}},
			Linux:   &specs.Linux{Namespaces: []specs.LinuxNamespace{{Type: specs.MountNamespace}}},
		},
		opt:   plan.Options{ID: "box", Bundle: "/bundle", Rootfs: "/bundle/rootfs"},
		facts: plan.Facts{LastCap: unix.CAP_LAST_CAP, Cgroup: plan.Cgroup{None: true}},
	}
}

// built is a plan that compiles: whatever a test asks for, the launcher must be able to run it.
func built(t *testing.T, change func(in *input)) *plan.Plan {
	t.Helper()
	in := smallInput()
	change(in)
	p, err := plan.Build(in.spec, in.opt, in.facts)
	if err != nil {
		t.Fatal(err)
	}
	compiles(t, p)
	return p
}

func compiles(t *testing.T, p *plan.Plan) {
	t.Helper()
	fds := map[string]int{}
	for name := range stub.Descriptors(linesOf(p)) {
		fds[name] = 10 + len(fds)
	}
	if _, err := stub.Compile(linesOf(p), fds, 9); err != nil {
		t.Fatal(err)
	}
}

func render(l plan.Line) []string {
	var list []string
	for _, in := range l.Ops {
		list = append(list, in.String())
	}
	return list
}

// linesDoing are the calls of each line whose act begins with does.
func linesDoing(p *plan.Plan, does string) [][]string {
	var found [][]string
	for _, l := range p.Child {
		if strings.HasPrefix(l.Does, does) {
			found = append(found, render(l))
		}
	}
	return found
}

// doing is the one such line.
func doing(t *testing.T, p *plan.Plan, does string) string {
	t.Helper()
	found := linesDoing(p, does)
	if len(found) != 1 {
		t.Fatalf("%d lines %q, want one", len(found), does)
	}
	return strings.Join(found[0], "\n")
}

// has checks that parts follow each other in text.
func has(t *testing.T, text string, parts ...string) {
	t.Helper()
	rest := text
	for _, part := range parts {
		_, after, ok := strings.Cut(rest, part)
		if !ok {
			t.Fatalf("no %q (in this place) in\n%s", part, text)
		}
		rest = after
	}
}

func hasNot(t *testing.T, text, part string) {
	t.Helper()
	if strings.Contains(text, part) {
		t.Errorf("%q is in\n%s", part, text)
	}
}

// action is the only host step of its type.
func action[A plan.Action](t *testing.T, p *plan.Plan) A {
	t.Helper()
	list := actions[A](p)
	if len(list) != 1 {
		var a A
		t.Fatalf("%d steps %T, want one", len(list), a)
	}
	return list[0]
}

func actions[A plan.Action](p *plan.Plan) []A {
	var list []A
	for _, s := range p.Host {
		if a, ok := s.Do.(A); ok {
			list = append(list, a)
		}
	}
	return list
}

// position is the index of the first line whose act begins with does.
func position(t *testing.T, p *plan.Plan, does string) int {
	t.Helper()
	i := slices.IndexFunc(p.Child, func(l plan.Line) bool { return strings.HasPrefix(l.Does, does) })
	if i < 0 {
		t.Fatalf("no line %q in %q", does, acts(p))
	}
	return i
}

func inOrder(t *testing.T, p *plan.Plan, does ...string) {
	t.Helper()
	for i := 1; i < len(does); i++ {
		if position(t, p, does[i-1]) >= position(t, p, does[i]) {
			t.Errorf("%q does not come before %q", does[i-1], does[i])
		}
	}
}

func withMount(m specs.Mount) func(in *input) {
	return func(in *input) { in.spec.Mounts = append(in.spec.Mounts, m) }
}

func TestNewNamespaces(t *testing.T) {
	p := built(t, func(in *input) {
		in.spec.Linux.Namespaces = nil
		for _, kind := range []specs.LinuxNamespaceType{"mount", "pid", "network", "ipc", "uts", "cgroup", "time"} {
			in.spec.Linux.Namespaces = append(in.spec.Linux.Namespaces, specs.LinuxNamespace{Type: kind})
		}
		in.spec.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"monotonic": {Secs: -3, Nanosecs: 4}, "boottime": {Secs: 1}}
		in.facts.Cgroup = legacy().Cgroup
	})
	const flags = unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS
	if p.Clone.Flags != flags || p.Clone.PID != "" {
		t.Errorf("clone %+v, want flags %#x", p.Clone, flags)
	}
	has(t, doing(t, p, "make a cgroup namespace"), fmt.Sprintf("unshare(%#x)", unix.CLONE_NEWCGROUP))
	has(t, doing(t, p, "make a time namespace"), "unshare(0x80)", "timens_offsets", `"boottime 1 0\nmonotonic -3 4\n"`, "time_for_children", "setns(")
	// A cgroup namespace begins at the cgroup that its maker is in.
	inOrder(t, p, "join the cgroup in hugetlb", "make a cgroup namespace")
	has(t, doing(t, p, "bring the loopback interface up"), "socket(", "ioctl(")
}

func TestNamespacesByPath(t *testing.T) {
	p := built(t, func(in *input) {
		in.spec.Linux.Namespaces = append(in.spec.Linux.Namespaces,
			specs.LinuxNamespace{Type: "network", Path: "/run/netns/a"}, specs.LinuxNamespace{Type: "pid", Path: "/proc/7/ns/pid"})
	})
	if p.Clone.Flags != unix.CLONE_NEWNS || p.Clone.PID != "ns.pid" {
		t.Errorf("clone %+v", p.Clone)
	}
	has(t, doing(t, p, "join network namespace /run/netns/a"), fmt.Sprintf("setns(<ns.network>, %#x)", unix.CLONE_NEWNET), "close(<ns.network>)")
	if n := actions[plan.OpenNamespace](p); len(n) != 2 || n[0].Flag != unix.CLONE_NEWNET || n[1].Path != "/proc/7/ns/pid" {
		t.Errorf("opens %+v", n)
	}
	if len(linesDoing(p, "bring the loopback")) > 0 {
		t.Error("a namespace of somebody else's is configured")
	}
}

func TestNoMountNamespace(t *testing.T) {
	p := built(t, func(in *input) { in.spec.Linux = nil })
	has(t, doing(t, p, "change root"), "fchdir($1)", `chroot(".")`, `chdir("/")`)
	for _, act := range acts(p) {
		if strings.Contains(act, "no mount out of this namespace") || strings.Contains(act, "old root") {
			t.Errorf("on the host: %s", act)
		}
	}
	if len(p.Undo) != 1 || p.Undo[0].Unmount != "/bundle/rootfs" {
		t.Errorf("undo %+v, want the root's mount", p.Undo)
	}
	in := smallInput()
	in.spec.Linux, in.opt.NoPivot = nil, true
	if _, err := plan.Build(in.spec, in.opt, in.facts); err == nil {
		t.Error("--no-pivot without a mount namespace was accepted")
	}
}

func TestEnterRoot(t *testing.T) {
	pivot := built(t, func(in *input) {})
	has(t, doing(t, pivot, "make it the root"), "fchdir($1)", `pivot_root(".", ".")`)
	has(t, doing(t, pivot, "drop the old root"), `umount2(".", 0x2)`)

	move := built(t, func(in *input) { in.opt.NoPivot, in.facts.ProcSys = true, []string{"/proc/x", "/sys"} })
	has(t, doing(t, move, "take /sys away"), `umount2("/sys", 0x2)`)
	has(t, doing(t, move, "move the root file system onto /"), fmt.Sprintf(`mount("/bundle/rootfs", "/", "", %#x`, unix.MS_MOVE), "chroot")
	for _, act := range acts(move) {
		if strings.Contains(act, "old one on top") {
			t.Error("--no-pivot pivots")
		}
	}

	shared := built(t, func(in *input) { in.spec.Linux.RootfsPropagation, in.spec.Root.Readonly = "rshared", true })
	has(t, doing(t, shared, "make the root read-only"), "mount_setattr($1")
	has(t, doing(t, shared, "make the root rshared"), fmt.Sprintf("%#x", unix.MS_SHARED|unix.MS_REC))
}

func TestBindMount(t *testing.T) {
	bind := func(in *input) {
		withMount(specs.Mount{Destination: "/a/b", Source: "file", Options: []string{"rbind", "ro", "rnosuid", "rslave", "noexec"}})(in)
		in.facts.Files = map[string]bool{"/bundle/file": true}
	}
	// Usually the child clones the source, and all its attributes are set before it has a place.
	inside := doing(t, built(t, bind), "clone the mount of /bundle/file")
	has(t, inside, fmt.Sprintf(`open_tree(%#x, "/bundle/file", %#x)`, uint64(1<<64-100), unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE))
	if n := strings.Count(inside, "mount_setattr($11"); n != 4 {
		t.Errorf("%d changes of attributes, want the tree's propagation, recursive ones, plain ones, rslave:\n%s", n, inside)
	}

	// What is to stay the host's peer is cloned by the parent.
	p := built(t, func(in *input) {
		bind(in)
		in.spec.Linux.RootfsPropagation = "shared"
	})
	tree := actions[plan.CloneTree](p)[1]
	if tree.Path != "/bundle/file" || !tree.Recursive || tree.Out != "mounts[0]" {
		t.Errorf("clones %+v", tree)
	}
	var set, recursive, propagation uint64
	for _, a := range tree.Attrs {
		propagation |= a.Propagation
		if a.Recursive {
			recursive |= a.Set
		} else {
			set |= a.Set
		}
	}
	if set != unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOEXEC || recursive != unix.MOUNT_ATTR_NOSUID || propagation != unix.MS_SLAVE {
		t.Errorf("attributes %+v", tree.Attrs)
	}
	text := doing(t, p, "mount /a/b")
	has(t, text, `openat2($1, "a/b"`, `mkdirat($1, "a"`, `mknodat(`, `"b", 0x81ed`, `openat2($1, "a/b"`, "move_mount(<mounts[0]>")
	// Nothing may lead out of the root (CVE-2021-30465): RESOLVE_IN_ROOT is the last word of struct open_how.
	for _, line := range strings.Split(text, "\n") {
		if strings.Contains(line, "openat2(") && !strings.Contains(line, "1000000000000000}") {
			t.Errorf("not RESOLVE_IN_ROOT: %s", line)
		}
	}
}

// What the caller adds comes last, so that it replaces what config.json has.
func TestNotifySocket(t *testing.T) {
	p := built(t, func(in *input) {
		withMount(specs.Mount{Destination: "/run", Type: "tmpfs"})(in)
		in.spec.Process.Env = []string{"NOTIFY_SOCKET=/mine", "A=1"}
		in.opt.Notify, in.opt.Env = "/state/box/notify", []string{"NOTIFY_SOCKET=" + plan.NotifyDir + "/notify.sock"}
	})
	inOrder(t, p, "mount /run", "clone the mount of /state/box/notify", "mount /run/notify", "make it the root")
	has(t, doing(t, p, "clone the mount of /state"), "mount_setattr($11, \"\", 0x1000, {0f00000000000000")
	has(t, doing(t, p, "exec"), `["A=1" "NOTIFY_SOCKET=/run/notify/notify.sock"]`)
	for _, l := range p.Child {
		if strings.HasPrefix(l.Does, "mount /run/notify") && l.From != "NOTIFY_SOCKET" {
			t.Errorf("asked for by %q", l.From)
		}
	}
	hasNot(t, doing(t, built(t, func(*input) {}), "exec"), "NOTIFY")
}

func TestIDMappedMount(t *testing.T) {
	mapping := []specs.LinuxIDMapping{{ContainerID: 0, HostID: 1000, Size: 1}}
	for option, recursive := range map[string]bool{"idmap": false, "ridmap": true} {
		p := built(t, withMount(specs.Mount{Destination: "/v", Source: "/v", Options: []string{"rbind", option}, UIDMappings: mapping, GIDMappings: mapping}))
		if m := actions[plan.CloneTree](p)[1].IDMap; m == nil || m.Recursive != recursive || m.UIDs[0].HostID != 1000 {
			t.Errorf("%s: %+v", option, m)
		}
	}
	in := smallInput()
	withMount(specs.Mount{Destination: "/v", Source: "/v", Options: []string{"bind", "idmap"}})(in)
	if _, err := plan.Build(in.spec, in.opt, in.facts); err == nil || !strings.HasPrefix(err.Error(), "mounts[0].options") {
		t.Errorf("idmap without mappings: %v", err)
	}
}

func TestDetachedMounts(t *testing.T) {
	p := built(t, func(in *input) {
		withMount(specs.Mount{Destination: "/t", Type: "tmpfs", Options: []string{"nosuid", "size=1m", "tmpcopyup", "rprivate"}})(in)
	})
	m := action[plan.NewMount](t, p)
	if m.Type != "tmpfs" || m.Source != "tmpfs" || m.Attrs != unix.MOUNT_ATTR_NOSUID || !slices.Equal(m.Options, []string{"size=1m"}) ||
		m.CopyUp != "t" || m.ModeOf != "t" || len(m.After) != 1 || m.After[0].Propagation != unix.MS_PRIVATE {
		t.Errorf("makes %+v", m)
	}
	p = built(t, withMount(specs.Mount{Destination: "/o", Type: "overlay", Source: "layers", Options: []string{"lowerdir=/a:/b", "ro"}}))
	if m = action[plan.NewMount](t, p); !slices.Equal(m.Options, []string{"lowerdir=/a:/b"}) || !slices.Contains(m.Super, "ro") || m.Attrs&unix.MOUNT_ATTR_RDONLY == 0 || m.ModeOf != "" {
		t.Errorf("makes %+v", m)
	}
}

// What tmpcopyup copies is what the destination shows, which the rootfs may not be.
func TestCopyUpOnMounts(t *testing.T) {
	up := specs.Mount{Destination: "/run", Type: "tmpfs", Options: []string{"tmpcopyup"}}
	for _, c := range []struct {
		name    string
		on      []specs.Mount
		copies  string
		refused string
	}{
		{"nothing", nil, "run/lock", ""},
		{"a copy of the rootfs", []specs.Mount{up}, "run/lock", ""},
		{"an empty tmpfs", []specs.Mount{{Destination: "/run", Type: "tmpfs"}}, "", ""},
		{"a copy on an empty tmpfs", []specs.Mount{{Destination: "/", Type: "tmpfs"}, up}, "", ""},
		{"a neighbour", []specs.Mount{{Destination: "/runs", Type: "tmpfs"}}, "run/lock", ""},
		{"a volume", []specs.Mount{{Destination: "/run", Source: "/v", Options: []string{"bind"}}, up}, "", "on the mount at /run, "},
		{"a copy that was changed", []specs.Mount{up, {Destination: "/run", Options: []string{"remount", "ro"}}}, "run/lock", ""},
	} {
		in := smallInput()
		in.spec.Mounts = append(c.on, specs.Mount{Destination: "/run/lock", Type: "tmpfs", Options: []string{"size=1m", "tmpcopyup"}})
		p, err := plan.Build(in.spec, in.opt, in.facts)
		if c.refused != "" {
			if err == nil || !strings.Contains(err.Error(), c.refused) {
				t.Errorf("on %s: %v", c.name, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("on %s: %v", c.name, err)
			continue
		}
		made := actions[plan.NewMount](p)
		if last := made[len(made)-1]; last.CopyUp != c.copies || last.ModeOf != c.copies {
			t.Errorf("on %s: copies %q with the mode of %q, want %q", c.name, last.CopyUp, last.ModeOf, c.copies)
		}
	}
}

// A read-only tmpfs takes its mount points and devices first.
func TestReadonlyTmpfsLocksLate(t *testing.T) {
	p := built(t, func(in *input) {
		withMount(specs.Mount{Destination: "/dev", Type: "tmpfs", Options: []string{"ro"}})(in)
		withMount(specs.Mount{Destination: "/dev/shm", Type: "tmpfs"})(in)
	})
	for _, m := range actions[plan.NewMount](p) {
		if m.Attrs&unix.MOUNT_ATTR_RDONLY != 0 || slices.Contains(m.Super, "ro") {
			t.Errorf("read-only too early: %+v", m)
		}
	}
	inOrder(t, p, "mount /dev/shm", "make device /dev/tty", "make /dev read-only")
}

func TestNamespacedMounts(t *testing.T) {
	for _, kind := range []string{"proc", "sysfs", "mqueue", "devpts", "cgroup2"} {
		p := built(t, withMount(specs.Mount{Destination: "/m", Type: kind, Options: []string{"ro", "nodev", "key=value", "word"}}))
		has(t, doing(t, p, "mount /m"),
			fmt.Sprintf("fsopen(%q", kind), `"source", "`+kind+`"`, `"ro"`, `"key", "value"`, `"word"`,
			fmt.Sprintf("fsmount($12, 0x1, %#x)", unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NODEV), "move_mount($11")
		if n := len(actions[plan.NewMount](p)); n != 0 {
			t.Errorf("%s is made by the parent, %d steps", kind, n)
		}
	}
}

func TestCgroupMount(t *testing.T) {
	mount := withMount(specs.Mount{Destination: "/sys/fs/cgroup", Type: "cgroup", Options: []string{"ro", "nosuid"}})
	own := func(in *input) {
		in.spec.Linux.Namespaces = append(in.spec.Linux.Namespaces, specs.LinuxNamespace{Type: "cgroup"})
	}
	v1 := built(t, func(in *input) { mount(in); in.facts = legacy() })
	tmpfs := action[plan.NewMount](t, v1)
	if len(tmpfs.Dirs) != 9 || !slices.Contains(tmpfs.Links, [2]string{"cpu,cpuacct", "cpuacct"}) {
		t.Errorf("v1: %+v", tmpfs)
	}
	if n := len(actions[plan.CloneTree](v1)); n != 1+9 { // the root's too
		t.Errorf("v1: %d trees are cloned, want the root and nine cgroups", n)
	}
	ns1 := built(t, func(in *input) { mount(in); own(in); in.facts = legacy() })
	has(t, doing(t, ns1, "mount /sys/fs/cgroup/systemd"), `fsopen("cgroup"`, `"none"`, `"name", "systemd"`, "move_mount")
	v2 := built(t, func(in *input) { mount(in); in.facts = unified() })
	if tree := actions[plan.CloneTree](v2); len(tree) != 2 || tree[1].Path != "/sys/fs/cgroup/box" {
		t.Errorf("v2 binds %+v", tree)
	}
	if v2.Clone.IntoCgroup != "cgroup" {
		t.Errorf("v2: clone %+v", v2.Clone)
	}
	// On a hybrid host a container is born in its v2 cgroup and joins the others.
	hybrid := built(t, func(in *input) { in.facts = legacy(); in.facts.Cgroup.Into = true })
	if hybrid.Clone.IntoCgroup != "cgroup" || len(linesDoing(hybrid, "join the cgroup in")) != 9 {
		t.Errorf("hybrid: clone %+v, %d joins", hybrid.Clone, len(linesDoing(hybrid, "join the cgroup in")))
	}
	ns2 := built(t, func(in *input) { mount(in); own(in); in.facts = unified() })
	has(t, doing(t, ns2, "mount /sys/fs/cgroup"), `fsopen("cgroup2"`, "move_mount")
}

func TestMaskedAndReadonlyPaths(t *testing.T) {
	p := built(t, func(in *input) {
		in.spec.Linux.MaskedPaths, in.spec.Linux.ReadonlyPaths = []string{"/proc/kcore", "/sys/firmware"}, []string{"/proc/sys"}
	})
	null := actions[plan.CloneTree](p)[1:]
	for _, tree := range null {
		if tree.Path != "/dev/null" || tree.Device != unix.Mkdev(1, 3) {
			t.Errorf("masks with %+v", tree)
		}
	}
	if len(null) == 0 {
		t.Error("no cover is opened")
	}
	for _, path := range []string{"/proc/kcore", "/sys/firmware"} {
		has(t, doing(t, p, "mask "+path), `openat2($1, "`+path[1:]+`"`, "ENOENT", "move_mount")
	}
	has(t, doing(t, p, "make /proc/sys read-only"), `openat2($1, "proc/sys"`, "ENOENT: end", "open_tree(", "mount_setattr(", "move_mount(")
	inOrder(t, p, "drop the old root", "make /proc/sys read-only", "become uid")
}

func TestDevices(t *testing.T) {
	uid, mode := uint32(7), unixMode(unix.S_IFCHR|0o1640)
	p := built(t, func(in *input) {
		in.facts.Kcore = true
		in.spec.Linux.Devices = []specs.LinuxDevice{
			{Path: "/dev/null", Type: "c", Major: 1, Minor: 3, UID: &uid, FileMode: mode},
			{Path: "/dev/net/tun", Type: "c", Major: 10, Minor: 200},
			{Path: "/fifo", Type: "p"},
			{Path: "/dev/disk", Type: "b", Major: 8, Minor: 1},
			{Path: "/dev/ptmx", Type: "c", Major: 5, Minor: 2},
		}
	})
	has(t, doing(t, p, "make device /dev/null"), fmt.Sprintf(`mknodat($8, "null", %#x, 0x103)`, unix.S_IFCHR|0o1640), `fchownat($8, "null", 0x7, 0x0`)
	has(t, doing(t, p, "make device /dev/net/tun"), `mkdirat(`, `mknodat(`, fmt.Sprintf(`"tun", %#x, %#x)`, unix.S_IFCHR|0o666, unix.Mkdev(10, 200)))
	has(t, doing(t, p, "make device /fifo"), fmt.Sprintf(`"fifo", %#x, 0x0)`, unix.S_IFIFO|0o666))
	has(t, doing(t, p, "make device /dev/disk"), fmt.Sprintf(`"disk", %#x, 0x801)`, unix.S_IFBLK|0o666))
	for _, name := range []string{"zero", "full", "random", "urandom", "tty"} {
		doing(t, p, "make device /dev/"+name)
	}
	for _, link := range []string{"fd", "stdin", "stdout", "stderr", "core", "ptmx"} {
		has(t, strings.Join(linesDoing(p, "link /dev/"+link)[0], "\n"), "symlinkat(", `"`+link+`"`)
	}
	if n := len(linesDoing(p, "make device /dev/ptmx")); n != 0 {
		t.Error("/dev/ptmx is made, and is a link")
	}
	host := built(t, withMount(specs.Mount{Destination: "/dev", Source: "/dev", Options: []string{"rbind"}}))
	if n := len(linesDoing(host, "make device")); n != 0 {
		t.Errorf("%d devices are made in the host's /dev", n)
	}
}

func TestNullStdio(t *testing.T) {
	null := func(in *input) { in.facts.NullStdio = []int{0, 2} }
	p := built(t, null)
	has(t, doing(t, p, "take the container's /dev/null"), `openat($8, "null"`, "dup3($12, 0x0, 0x0)", "dup3($12, 0x2, 0x0)", "close($12)")
	inOrder(t, p, "make device /dev/null", "take the container's /dev/null", "make it the root")
	hosts := built(t, func(in *input) {
		null(in)
		withMount(specs.Mount{Destination: "/dev", Source: "/dev", Options: []string{"rbind"}})(in)
	})
	if n := len(linesDoing(hosts, "take the container's /dev/null")); n != 0 {
		t.Error("takes /dev/null of a /dev that is not the container's")
	}
}

func TestConsole(t *testing.T) {
	p := built(t, func(in *input) {
		withMount(specs.Mount{Destination: "/dev/pts", Type: "devpts"})(in)
		in.spec.Process.Terminal, in.opt.Console = true, true
		in.spec.Process.ConsoleSize = &specs.Box{Height: 0x18, Width: 0x50}
		in.spec.Process.User.UID = 9
	})
	// The pty is the container's own devpts' (CVE-2025-52565).
	has(t, doing(t, p, "open a pty in /dev/pts"), `openat($6, "ptmx"`, fmt.Sprintf("ioctl($4, %#x", unix.TIOCSPTLCK), fmt.Sprintf("ioctl($4, %#x", unix.TIOCGPTPEER))
	has(t, doing(t, p, "set the terminal's size"), "{1800500000000000}")
	has(t, doing(t, p, "mount the pty on /dev/console"), "open_tree($5", "move_mount")
	has(t, doing(t, p, "pass the pty's master"), "dup3($4, <spare>", `sendmsg(<console>, {"/dev/ptmx", SCM_RIGHTS <spare>}`)
	has(t, doing(t, p, "make the pty its terminal"), "dup3($5, 0x0", "dup3($5, 0x1", "dup3($5, 0x2", "fchown(0x0, 0x9")
	none := built(t, func(in *input) {})
	if n := len(linesDoing(none, "pass the pty's master")); n != 0 {
		t.Error("a pty nobody asked for")
	}
}

func TestKeepsDescriptors(t *testing.T) {
	p := built(t, func(in *input) { in.opt.PreserveFDs, in.opt.Gate = 2, true })
	has(t, doing(t, p, "close what is not"), fmt.Sprintf("close_range(0x5, %#x, 0x0)", 128+2-1))
	has(t, doing(t, p, "open the gate"), fmt.Sprintf("fcntl($12, %#x, %#x)", unix.F_DUPFD_CLOEXEC, 128+2))
	inOrder(t, p, "open the gate", "close what is not", "wait until the container's state", "wait for start", "exec")
}

func TestHooksPause(t *testing.T) {
	p := built(t, func(in *input) {
		in.spec.Hooks = &specs.Hooks{CreateContainer: []specs.Hook{{Path: "/h"}}}
		in.spec.Process.Cwd = "/work"
	})
	inOrder(t, p, "make device /dev/null", "wait until the prestart", "make it the root")
	poststop := built(t, func(in *input) { in.spec.Hooks = &specs.Hooks{Poststop: []specs.Hook{{Path: "/h"}}} })
	if n := len(linesDoing(poststop, "wait until the prestart")); n != 0 {
		t.Error("waits for hooks that run later")
	}
}
