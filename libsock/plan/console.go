package plan

import (
	"encoding/binary"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/sock-runtime/sock/libsock/stub"
)

// console makes the container's pty, shows it as /dev/console and passes the master to whoever asked for a terminal.
func (b *builder) console() {
	if !b.opt.Console {
		return
	}
	b.pty()
	b.consoleSize(b.spec.Process)
	b.showConsole()
	b.sendMaster()
}

// showConsole binds the pty over /dev/console, which must be that file and no link (CVE-2025-52565). In a /dev that is
// the host's it is not made where it is missing.
func (b *builder) showConsole() {
	dev, target, tty := stub.Value(slotDev), stub.Value(slotT), stub.Value(slotM)
	clone := into(slotM, sys(unix.SYS_OPEN_TREE, stub.Value(slotSlave), empty, stub.Int(cloneFlags)))
	if !b.ownsDev() {
		find := openat2(root, "dev/console", unix.O_PATH, 0, unix.RESOLVE_IN_ROOT|unix.RESOLVE_NO_SYMLINKS)
		find.Tries = resolveTries
		b.line(Note{From: "process.terminal", Does: "mount the pty on /dev/console, if it exists", Hand: "mount --bind /dev/pts/0 /dev/console"},
			unless(into(slotT, find), stub.End, unix.ENOENT),
			clone, moveMount(tty, target), closeFD(tty), closeFD(target))
	} else {
		b.line(Note{From: "process.terminal", Does: "mount the pty on /dev/console", Hand: "mount --bind /dev/pts/0 /dev/console"},
			unless(sys(unix.SYS_MKNODAT, dev, stub.Text("console"), stub.Int(unix.S_IFREG|0o666), zero), "", unix.EEXIST),
			into(slotT, openat2(dev, "console", unix.O_PATH, 0, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS)),
			clone, moveMount(tty, target), closeFD(tty), closeFD(target))
	}
}

// pty opens a new pair.
func (b *builder) pty() {
	from := "process.terminal"
	if b.devpts {
		// The pty comes from the devpts that was just made, not from what the image or a volume shows (CVE-2025-52565).
		b.line(Note{From: from, Does: "open a pty in /dev/pts"},
			b.openPTY(sys(unix.SYS_OPENAT, stub.Value(slotDevpts), stub.Text("ptmx"), stub.Int(unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC), zero))...)
	} else {
		b.line(Note{From: from, Does: "open a pty at /dev/ptmx"},
			b.openPTY(openat2(root, "dev/ptmx", unix.O_RDWR|unix.O_NOCTTY, 0, unix.RESOLVE_IN_ROOT))...)
	}
}

// openPTY opens a multiplexer, unlocks the pair and opens the slave through the master: no path is involved, ioctl_tty(2).
func (b *builder) openPTY(open stub.Instr) []stub.Instr {
	master := stub.Value(slotMaster)
	return []stub.Instr{
		into(slotMaster, open),
		sys(unix.SYS_IOCTL, master, stub.Int(unix.TIOCSPTLCK), halves(0)),
		into(slotSlave, sys(unix.SYS_IOCTL, master, stub.Int(unix.TIOCGPTPEER), stub.Int(unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC))),
	}
}

func (b *builder) consoleSize(p *specs.Process) {
	if p.ConsoleSize == nil {
		return
	}
	size := make([]byte, 0, 8)
	for _, n := range []uint{p.ConsoleSize.Height, p.ConsoleSize.Width, 0, 0} {
		size = binary.NativeEndian.AppendUint16(size, uint16(n))
	}
	b.line(Note{From: "process.consoleSize", Does: "set the terminal's size"},
		sys(unix.SYS_IOCTL, stub.Value(slotMaster), stub.Int(unix.TIOCSWINSZ), stub.Bytes(size)))
}

func (b *builder) sendMaster() {
	const name = "/dev/ptmx"
	b.line(Note{From: "process.terminal", Does: "pass the pty's master to the console socket"},
		// The message holds a number that is known now, so the master takes the place of a spare descriptor.
		sys(unix.SYS_DUP3, stub.Value(slotMaster), stub.FD(fdSpare), stub.Int(unix.O_CLOEXEC)),
		exactly(sys(unix.SYS_SENDMSG, stub.FD(fdConsole), stub.Rights(name, fdSpare), zero), len(name)),
		closeFD(stub.FD(fdSpare)), closeFD(stub.Value(slotMaster)), closeFD(stub.FD(fdConsole)))
}

// takeTerminal makes the pty the process's stdio and controlling terminal.
func (b *builder) takeTerminal(p *specs.Process) {
	if !b.opt.Console {
		return
	}
	slave := stub.Value(slotSlave)
	ops := []stub.Instr{sys(unix.SYS_IOCTL, slave, stub.Int(unix.TIOCSCTTY), zero)}
	for fd := range 3 {
		ops = append(ops, sys(unix.SYS_DUP3, slave, stub.Int(fd), zero))
	}
	if p.User.UID != 0 {
		ops = append(ops, sys(unix.SYS_FCHOWN, zero, stub.Int(p.User.UID), stub.Int(-1)))
	}
	b.line(Note{From: "process.terminal", Does: "make the pty its terminal"}, append(ops, closeFD(slave))...)
}
