package plan

import (
	"fmt"
	"path"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/sock-runtime/sock/libsock/stub"
)

// defaultDevices must exist in every container, config-linux.md "Default Devices".
var defaultDevices = []specs.LinuxDevice{
	{Path: "/dev/null", Type: "c", Major: 1, Minor: 3},
	{Path: "/dev/zero", Type: "c", Major: 1, Minor: 5},
	{Path: "/dev/full", Type: "c", Major: 1, Minor: 7},
	{Path: "/dev/random", Type: "c", Major: 1, Minor: 8},
	{Path: "/dev/urandom", Type: "c", Major: 1, Minor: 9},
	{Path: "/dev/tty", Type: "c", Major: 5, Minor: 0},
}

// defaultLinks are the symbolic links of runtime-linux.md "Dev symbolic links".
var defaultLinks = [][2]string{
	{"/proc/self/fd", "fd"},
	{"/proc/self/fd/0", "stdin"},
	{"/proc/self/fd/1", "stdout"},
	{"/proc/self/fd/2", "stderr"},
}

var deviceTypes = map[string]uint32{"c": unix.S_IFCHR, "u": unix.S_IFCHR, "b": unix.S_IFBLK, "p": unix.S_IFIFO}

// ownsDev says whether /dev is the container's to fill: not when the host's, or a volume, is bound there, as in runc.
func (b *builder) ownsDev() bool {
	for _, m := range b.spec.Mounts {
		if inRoot(m.Destination) == "dev" && (m.Type == "bind" || hasOption(m.Options, "bind") || hasOption(m.Options, "rbind")) {
			return false
		}
	}
	return true
}

// devices makes the default devices and links and those of linux.devices.
func (b *builder) devices() {
	if !b.ownsDev() {
		return
	}
	dev := stub.Value(slotDev)
	b.line(Note{Does: "open /dev"}, endAt("have", b.makeTarget(slotDev, "dev", false))...)

	asked := map[string]bool{}
	for _, d := range b.spec.Linux.Devices {
		asked[path.Clean(d.Path)] = true
	}
	for _, d := range defaultDevices {
		if !asked[d.Path] {
			b.device("", d)
		}
	}
	for i, d := range b.spec.Linux.Devices {
		if path.Clean(d.Path) != "/dev/ptmx" { // that is a link, whatever the host has (podman run --privileged lists it)
			b.device(fmt.Sprintf("linux.devices[%d]", i), d)
		}
	}
	links := defaultLinks
	if b.facts.Kcore {
		links = append(links[:len(links):len(links)], [2]string{"/proc/kcore", "core"})
	}
	for _, l := range links {
		b.line(Note{Does: "link /dev/" + l[1], Hand: fmt.Sprintf("ln -s %s rootfs/dev/%s", l[0], l[1])},
			unless(sys(unix.SYS_SYMLINKAT, stub.Text(l[0]), dev, stub.Text(l[1])), "", unix.EEXIST))
	}
	b.line(Note{Does: "link /dev/ptmx", Hand: "ln -s pts/ptmx rootfs/dev/ptmx"},
		unless(sys(unix.SYS_UNLINKAT, dev, stub.Text("ptmx"), zero), "", unix.ENOENT, unix.EISDIR),
		unless(sys(unix.SYS_UNLINKAT, dev, stub.Text("ptmx"), stub.Int(unix.AT_REMOVEDIR)), "", unix.ENOENT, unix.ENOTDIR),
		sys(unix.SYS_SYMLINKAT, stub.Text("pts/ptmx"), dev, stub.Text("ptmx")))
	b.ownNull()
}

// ownNull puts the container's /dev/null in place of the host's where that is stdio: root of the container could give it
// another mode or owner through /proc/self/fd. In a user namespace it is the host's, which is nobody's there.
func (b *builder) ownNull() {
	if b.inUserNamespace() {
		return
	}
	const flags = unix.O_RDWR | unix.O_NOFOLLOW | unix.O_NOCTTY | unix.O_CLOEXEC
	b.replaceNull(stub.Value(slotS),
		// An image without a /dev of its own may have something else there.
		unless(into(slotS, sys(unix.SYS_OPENAT, stub.Value(slotDev), stub.Text("null"), stub.Int(flags), zero)), stub.End, unix.ELOOP, unix.EISDIR, unix.ENXIO, unix.EROFS))
}

// replaceNull puts null in the place of stdio that is the host's /dev/null.
func (b *builder) replaceNull(null stub.Arg, before ...stub.Instr) {
	if len(b.facts.NullStdio) == 0 {
		return
	}
	ops := before
	for _, fd := range b.facts.NullStdio {
		ops = append(ops, sys(unix.SYS_DUP3, null, stub.Int(fd), zero))
	}
	b.line(Note{Does: "take the container's /dev/null for stdio"}, append(ops, closeFD(null))...)
}

// device makes one node. One that the image has already is left as it is, as in runc.
func (b *builder) device(from string, d specs.LinuxDevice) {
	if b.inUserNamespace() || b.facts.UserNS {
		b.hostDevice(from, d)
		return
	}
	name := path.Clean(d.Path)
	mode := uint32(0o666)
	if d.FileMode != nil {
		mode = uint32(*d.FileMode) & 0o7777 // the type in it is that of d.Type
	}
	parent, last := stub.Value(slotDev), path.Base(name)
	var ops []stub.Instr
	label := ""
	if path.Dir(name) != "/dev" {
		ops = b.makeTarget(slotT, path.Dir(name), false)
		parent, label = stub.Value(slotT), "have"
	}
	number := unix.Mkdev(uint32(d.Major), uint32(d.Minor))
	if d.Type == "p" {
		number = 0
	}
	ops = append(ops, at(label, unless(
		sys(unix.SYS_MKNODAT, parent, stub.Text(last), stub.Int(deviceTypes[d.Type]|mode), stub.Int(number)),
		"exists", unix.EEXIST)))
	if uid, gid := number32(d.UID), number32(d.GID); uid|gid != 0 {
		ops = append(ops, sys(unix.SYS_FCHOWNAT, parent, stub.Text(last), stub.Int(uid), stub.Int(gid), stub.Int(unix.AT_SYMLINK_NOFOLLOW)))
	}
	if label != "" {
		ops = append(ops, at("exists", closeFD(parent)))
	} else {
		ops = endAt("exists", ops)
	}
	b.line(Note{From: from, Does: "make device " + name, Hand: fmt.Sprintf("mknod -m %o rootfs%s %s %d %d", mode, name, d.Type, d.Major, d.Minor)}, ops...)
}

func number32(p *uint32) uint32 {
	if p == nil {
		return 0
	}
	return *p
}
