package plan

import (
	"encoding/binary"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sock-runtime/sock/libsock/stub"
)

// The system calls that plans are written in. Each helper returns one instruction; names follow the call.

func sys(number uintptr, args ...stub.Arg) stub.Instr { return stub.Instr{Sys: number, Args: args} }

// into keeps the result in a slot.
func into(s stub.Slot, in stub.Instr) stub.Instr {
	in.Keep, in.Into = true, s
	return in
}

// unless goes on at label where the call fails with one of errnos; label "" is the next instruction.
func unless(in stub.Instr, label string, errnos ...unix.Errno) stub.Instr {
	in.On = append([]stub.Branch(nil), in.On...)
	for _, e := range errnos {
		in.On = append(in.On, stub.Branch{Errno: e, Label: label})
	}
	return in
}

// then goes on at label after success.
func then(in stub.Instr, label string) stub.Instr {
	in.Then = label
	return in
}

// at labels an instruction.
func at(label string, in stub.Instr) stub.Instr {
	in.Label = label
	return in
}

func exactly(in stub.Instr, want int) stub.Instr {
	in.Exact, in.Want = true, want
	return in
}

var (
	root  = stub.Value(slotRoot)
	empty = stub.Text("")
	zero  = stub.Int(0)
)

func words(values ...uint64) stub.Arg {
	b := make([]byte, 0, 8*len(values))
	for _, v := range values {
		b = binary.NativeEndian.AppendUint64(b, v)
	}
	return stub.Bytes(b)
}

func halves(values ...uint32) stub.Arg {
	b := make([]byte, 0, 4*len(values))
	for _, v := range values {
		b = binary.NativeEndian.AppendUint32(b, v)
	}
	return stub.Bytes(b)
}

// openat2 is openat2(2) with struct open_how.
func openat2(dir stub.Arg, name string, flags, mode, resolve uint64) stub.Instr {
	return sys(unix.SYS_OPENAT2, dir, stub.Text(name), openHow(flags, mode, resolve), stub.Int(24))
}

func openHow(flags, mode, resolve uint64) stub.Arg { return words(flags|unix.O_CLOEXEC, mode, resolve) }

func closeFD(fd stub.Arg) stub.Instr { return sys(unix.SYS_CLOSE, fd) }

func closeRange(from, to uint) stub.Instr {
	return sys(unix.SYS_CLOSE_RANGE, stub.Int(from), stub.Int(to), zero)
}

func writeText(fd stub.Arg, text string) stub.Instr {
	return exactly(sys(unix.SYS_WRITE, fd, stub.Text(text), stub.Int(len(text))), len(text))
}

func readByte(fd stub.Arg) stub.Instr {
	return exactly(sys(unix.SYS_READ, fd, stub.Bytes(make([]byte, 1)), stub.Int(1)), 1)
}

func writeRecord(fd stub.Arg, event uint32) stub.Instr {
	record := stub.Record{Event: event}.Encode()
	return exactly(sys(unix.SYS_WRITE, fd, stub.Bytes(record), stub.Int(len(record))), len(record))
}

// moveMount puts mount m where descriptor t points.
func moveMount(m, t stub.Arg) stub.Instr {
	return sys(unix.SYS_MOVE_MOUNT, m, empty, t, empty, stub.Int(unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH))
}

// setAttr is mount_setattr(2) on the mount of descriptor m.
func setAttr(m stub.Arg, a Attr) stub.Instr {
	flags := unix.AT_EMPTY_PATH
	if a.Recursive {
		flags |= unix.AT_RECURSIVE
	}
	return sys(unix.SYS_MOUNT_SETATTR, m, empty, stub.Int(flags), words(a.Set, a.Clear, a.Propagation, 0), stub.Int(32))
}

// isNot fails with ETIMEDOUT if what descriptor t points to is on a file system of this type, statfs(2). It has the kernel
// compare: futex(2) waits, for no time, only if the memory has the value, and else says EAGAIN.
func isNot(t stub.Arg, fsType uint32) []stub.Instr {
	wait := sys(unix.SYS_FUTEX, stub.Scratch(), stub.Int(futexWait|futexPrivate), stub.Int(fsType), words(0, 0))
	return []stub.Instr{
		sys(unix.SYS_FSTATFS, t, stub.Scratch()), // the type is its first word
		unless(exactly(wait, -1), "", unix.EAGAIN),
	}
}

// Of linux/futex.h.
const futexWait, futexPrivate = 0, 128

// mount is mount(2) for what has no descriptor form.
func mount(source, target, fstype string, flags uintptr) stub.Instr {
	return sys(unix.SYS_MOUNT, stub.Text(source), stub.Text(target), stub.Text(fstype), stub.Int(flags), zero)
}

// newFS opens, configures and creates a file system in the child and leaves its mount in slot m.
func newFS(m stub.Slot, fstype, source string, super, options []string, attrs uint64) []stub.Instr {
	fs := stub.Value(slotS)
	ops := []stub.Instr{
		into(slotS, sys(unix.SYS_FSOPEN, stub.Text(fstype), stub.Int(unix.FSOPEN_CLOEXEC))),
		sys(unix.SYS_FSCONFIG, fs, stub.Int(unix.FSCONFIG_SET_STRING), stub.Text("source"), stub.Text(source), zero),
	}
	ops = append(ops, configure(fs, super, options)...)
	return append(ops,
		sys(unix.SYS_FSCONFIG, fs, stub.Int(unix.FSCONFIG_CMD_CREATE), zero, zero, zero),
		into(m, sys(unix.SYS_FSMOUNT, fs, stub.Int(unix.FSMOUNT_CLOEXEC), stub.Int(attrs))),
		closeFD(fs),
	)
}

// configure gives a file system context its flags and its options, "key" or "key=value".
func configure(fs stub.Arg, super, options []string) []stub.Instr {
	set := func(command int, key, value stub.Arg) stub.Instr {
		return sys(unix.SYS_FSCONFIG, fs, stub.Int(command), key, value, zero)
	}
	var ops []stub.Instr
	for _, key := range super {
		ops = append(ops, set(unix.FSCONFIG_SET_FLAG, stub.Text(key), zero))
	}
	for _, option := range unquoted(options) {
		if key, value, ok := strings.Cut(option, "="); ok {
			ops = append(ops, set(unix.FSCONFIG_SET_STRING, stub.Text(key), stub.Text(value)))
		} else {
			ops = append(ops, set(unix.FSCONFIG_SET_FLAG, stub.Text(key), zero))
		}
	}
	return ops
}

// resolveTries is how often a path is looked up again after EAGAIN: with RESOLVE_IN_ROOT the kernel gives up a ".." (from
// a symbolic link) while anything on the host is mounted or renamed, openat2(2).
const resolveTries = 32

// lookup opens name below the container's root, whatever symbolic links it meets, into slot s.
func lookup(s stub.Slot, name string, flags uint64) stub.Instr {
	in := into(s, openat2(root, name, unix.O_PATH|flags, 0, unix.RESOLVE_IN_ROOT))
	in.Tries = resolveTries
	return in
}

// makeTarget opens name below the root into slot s, goes on at label "have", and makes it, and its parents, where they
// don't exist: a directory, or an empty file. Nothing outside the root is ever made: each step is resolved in the root
// anew, and a new name is made in the descriptor of its parent (CVE-2021-30465, CVE-2024-45310).
func (b *builder) makeTarget(s stub.Slot, name string, file bool) []stub.Instr {
	flags := uint64(unix.O_DIRECTORY)
	if file {
		flags = 0
	}
	name = inRoot(name)
	if real, ok := b.facts.Resolved[name]; ok {
		name = real
	}
	find := then(lookup(s, name, flags), "have")
	ops := make([]stub.Instr, 1, 16)
	ops[0] = unless(find, "", unix.ENOENT)
	parent, done := root, ""
	for {
		part, rest, more := strings.Cut(name, "/")
		if !more && file {
			ops = append(ops, unless(sys(unix.SYS_MKNODAT, parent, stub.Text(part), stub.Int(unix.S_IFREG|0o755), zero), "", unix.EEXIST))
			break
		}
		ops = append(ops, unless(sys(unix.SYS_MKDIRAT, parent, stub.Text(part), stub.Int(0o755)), "", unix.EEXIST))
		if !more {
			break
		}
		done, name = path.Join(done, part), rest
		slot := slotP
		if parent == stub.Value(slotP) {
			slot = slotQ
		}
		ops = append(ops, lookup(slot, done, unix.O_DIRECTORY))
		if parent != root {
			ops = append(ops, closeFD(parent))
		}
		parent = stub.Value(slot)
	}
	if parent != root {
		ops = append(ops, closeFD(parent))
	}
	return append(ops, find)
}

// endAt has whatever leads to label lead to the end of the line.
func endAt(label string, ops []stub.Instr) []stub.Instr {
	for i := range ops {
		if ops[i].Then == label {
			ops[i].Then = stub.End
		}
		for j := range ops[i].On {
			if ops[i].On[j].Label == label {
				ops[i].On[j].Label = stub.End
			}
		}
	}
	return ops
}
