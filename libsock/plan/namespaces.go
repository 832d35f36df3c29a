package plan

import (
	"encoding/binary"
	"fmt"
	"sort"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/sock-runtime/sock/libsock/stub"
	"github.com/sock-runtime/sock/spec"
)

// namespaceKinds is for printing.
var namespaceKinds = []struct {
	kind   specs.LinuxNamespaceType
	flag   uint64
	option string // of unshare(1)
}{
	{specs.UserNamespace, unix.CLONE_NEWUSER, "--user"},
	{specs.MountNamespace, unix.CLONE_NEWNS, "--mount"},
	{specs.PIDNamespace, unix.CLONE_NEWPID, "--pid --fork"},
	{specs.NetworkNamespace, unix.CLONE_NEWNET, "--net"},
	{specs.IPCNamespace, unix.CLONE_NEWIPC, "--ipc"},
	{specs.UTSNamespace, unix.CLONE_NEWUTS, "--uts"},
	{specs.CgroupNamespace, unix.CLONE_NEWCGROUP, "--cgroup"},
	{specs.TimeNamespace, unix.CLONE_NEWTIME, "--time"},
}

// joinNamespaces joins those given by path and has the clone make the others.
func (b *builder) joinNamespaces() {
	for i, ns := range b.spec.Linux.Namespaces {
		flag, _ := spec.NamespaceFlag(ns.Type)
		switch {
		case ns.Path != "":
			b.joinNamespace(fmt.Sprintf("linux.namespaces[%d]", i), ns, flag)
		case ns.Type == specs.UserNamespace, ns.Type == specs.CgroupNamespace, ns.Type == specs.TimeNamespace:
			// Not by this clone: enterUserNamespace, furnishNamespaces.
		default:
			b.plan.Clone.Flags |= flag
		}
	}
	if pid := b.namespace(specs.PIDNamespace); pid != nil && pid.Path != "" && !b.inUserNamespace() && b.oneWay() {
		b.cloneInit(0)
	}
}

// oneWay says that we could have a child born in another PID namespace, but no further ones in our own: to return to it takes
// rights over it, pid_namespaces(7). Then a child goes, and its own child is born there.
func (b *builder) oneWay() bool { return b.facts.Rootless || b.facts.UserNS }

// furnishNamespaces unshares the two that can't be made by the clone (a cgroup namespace begins at the cgroup of who makes
// it, and a time namespace takes its offsets before it is entered) and brings a new network's loopback up.
func (b *builder) furnishNamespaces() {
	for i, ns := range b.spec.Linux.Namespaces {
		from := fmt.Sprintf("linux.namespaces[%d]", i)
		switch {
		case ns.Path != "":
		case ns.Type == specs.CgroupNamespace:
			b.line(Note{From: from, Does: "make a cgroup namespace", Hand: "unshare --cgroup"},
				sys(unix.SYS_UNSHARE, stub.Int(unix.CLONE_NEWCGROUP)))
		case ns.Type == specs.TimeNamespace:
			if !b.inUserNamespace() { // else before the process changes its user
				b.newTimeNamespace(from)
			}
		case ns.Type == specs.NetworkNamespace:
			b.loopbackUp(from)
		}
	}
}

// loopbackUp gives a new network namespace its 127.0.0.1, as runc does; netdevice(7).
func (b *builder) loopbackUp(from string) {
	const nameSize, size = 16, 40 // struct ifreq
	request := append(make([]byte, 0, size), "lo"...)
	request = binary.NativeEndian.AppendUint16(request[:nameSize], unix.IFF_UP)
	b.line(Note{From: from, Does: "bring the loopback interface up", Hand: "ip link set lo up"},
		into(slotS, sys(unix.SYS_SOCKET, stub.Int(unix.AF_INET), stub.Int(unix.SOCK_DGRAM|unix.SOCK_CLOEXEC), zero)),
		sys(unix.SYS_IOCTL, stub.Value(slotS), stub.Int(unix.SIOCSIFFLAGS), stub.Bytes(request[:size])),
		closeFD(stub.Value(slotS)))
}

func (b *builder) joinNamespace(from string, ns specs.LinuxNamespace, flag uint64) {
	out := "ns." + string(ns.Type)
	n := Note{
		From: from, Does: fmt.Sprintf("join %s namespace %s", ns.Type, ns.Path),
		Hand: fmt.Sprintf("nsenter --%s=%s", ns.Type, ns.Path),
	}
	b.step(n, OpenNamespace{Out: out, Path: ns.Path, Flag: int(flag)})
	line := Line{Note: n, Ops: []stub.Instr{sys(unix.SYS_SETNS, stub.FD(out), stub.Int(flag)), closeFD(stub.FD(out))}}
	switch {
	case ns.Type == specs.UserNamespace:
		// After everything that takes rights on the host: enterUserNamespace.
	case b.inUserNamespace() && b.facts.NoMounts:
		b.joins = append(b.joins, line)
	case ns.Type == specs.PIDNamespace && !b.inUserNamespace() && !b.oneWay():
		b.plan.Clone.PID = out
	default:
		b.plan.Child = append(b.plan.Child, line)
	}
}

// timeNamespace makes a time namespace, if there is to be one.
func (b *builder) timeNamespace() {
	for i, ns := range b.spec.Linux.Namespaces {
		if ns.Type == specs.TimeNamespace && ns.Path == "" {
			b.newTimeNamespace(fmt.Sprintf("linux.namespaces[%d]", i))
		}
	}
}

// newTimeNamespace: unshare leaves the caller outside and lets it write the offsets; setns then enters, time_namespaces(7).
func (b *builder) newTimeNamespace(from string) {
	proc := b.openProc()
	ops := []stub.Instr{sys(unix.SYS_UNSHARE, stub.Int(unix.CLONE_NEWTIME))}
	if offsets := timeOffsets(b.spec.Linux.TimeOffsets); offsets != "" {
		ops = append(ops,
			into(slotS, sys(unix.SYS_OPENAT, proc, stub.Text("self/timens_offsets"), stub.Int(unix.O_WRONLY|unix.O_CLOEXEC), zero)),
			writeText(stub.Value(slotS), offsets),
			closeFD(stub.Value(slotS)))
	}
	ops = append(ops,
		into(slotS, sys(unix.SYS_OPENAT, proc, stub.Text("self/ns/time_for_children"), stub.Int(unix.O_RDONLY|unix.O_CLOEXEC), zero)),
		sys(unix.SYS_SETNS, stub.Value(slotS), stub.Int(unix.CLONE_NEWTIME)),
		closeFD(stub.Value(slotS)))
	b.line(Note{From: from, Does: "make a time namespace", Hand: "unshare --time"}, ops...)
}

func timeOffsets(offsets map[string]specs.LinuxTimeOffset) string {
	var clocks []string
	for clock := range offsets {
		clocks = append(clocks, clock)
	}
	sort.Strings(clocks)
	var text strings.Builder
	for _, clock := range clocks {
		fmt.Fprintf(&text, "%s %d %d\n", clock, offsets[clock].Secs, offsets[clock].Nanosecs)
	}
	return text.String()
}

// has says whether the container has a namespace of this type, new or by path.
func (b *builder) has(kind specs.LinuxNamespaceType) bool { return b.namespace(kind) != nil }

// hasNew says whether one is made for the container.
func (b *builder) hasNew(kind specs.LinuxNamespaceType) bool {
	ns := b.namespace(kind)
	return ns != nil && ns.Path == ""
}

// namespace is the entry of linux.namespaces of a type, or nil.
func (b *builder) namespace(kind specs.LinuxNamespaceType) *specs.LinuxNamespace {
	for i, ns := range b.spec.Linux.Namespaces {
		if ns.Type == kind {
			return &b.spec.Linux.Namespaces[i]
		}
	}
	return nil
}

// openProc gives the host's procfs; it is opened once.
func (b *builder) openProc() stub.Arg {
	if b.usesProc() {
		return stub.FD(fdProc)
	}
	b.step(Note{Does: "open the host's procfs"}, OpenProc{Out: fdProc})
	return stub.FD(fdProc)
}

func (b *builder) usesProc() bool {
	for _, s := range b.plan.Host {
		if _, ok := s.Do.(OpenProc); ok {
			return true
		}
	}
	return false
}
