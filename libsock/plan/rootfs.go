package plan

import (
	"fmt"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/sock-runtime/sock/libsock/stub"
	"github.com/sock-runtime/sock/spec"
)

// treePropagation is what mounts cloned from the host become: slaves, unless config.json wants them private or shared.
func (b *builder) treePropagation() []Attr {
	switch flag, _, _ := spec.Propagation(b.spec.Linux.RootfsPropagation); flag {
	case unix.MS_SHARED:
		return nil // as on the host
	case unix.MS_PRIVATE:
		return []Attr{{Recursive: true, Propagation: unix.MS_PRIVATE}}
	default:
		return []Attr{{Recursive: true, Propagation: unix.MS_SLAVE}}
	}
}

// rootfs attaches a copy of the root file system, over its own place, in the child's mount namespace.
func (b *builder) rootfs() error {
	config := b.spec
	if b.has(specs.MountNamespace) {
		b.line(Note{
			From: "linux.rootfsPropagation", Does: "let no mount out of this namespace",
			Hand: "mount --make-rslave /",
		}, mount("", "/", "", unix.MS_REC|unix.MS_SLAVE))
	} else {
		if b.opt.NoPivot {
			return fmt.Errorf("linux.namespaces: --no-pivot needs a mount namespace")
		}
		b.plan.Undo = append(b.plan.Undo, Undo{Note: Note{From: "root.path", Does: "unmount " + b.opt.Rootfs}, Unmount: b.opt.Rootfs})
	}
	// A shared top mount would show the host what is mounted on it.
	attrs := b.treePropagation()
	if flag, _, _ := spec.Propagation(config.Linux.RootfsPropagation); flag == unix.MS_SHARED {
		attrs = append(attrs, Attr{Propagation: unix.MS_PRIVATE})
	}
	if b.facts.NoMounts {
		b.early = append(b.early, Line{
			Note: Note{From: "root.path", Does: "enter " + b.opt.Rootfs}, Ops: []stub.Instr{sys(unix.SYS_CHDIR, stub.Text(b.opt.Rootfs))},
		})
	}
	tree, ops := b.cloned(Note{From: "root.path", Does: "clone the mount of " + b.opt.Rootfs},
		CloneTree{Out: fdRoot, Path: b.opt.Rootfs, Recursive: true, Attrs: attrs}, false)
	if b.inUserNamespace() || b.facts.NoMounts {
		// The working directory is the rootfs's place, with the stage on it; its root may not search the way there.
		ops = append(ops,
			sys(unix.SYS_MOVE_MOUNT, tree, empty, stub.Int(unix.AT_FDCWD), stub.Text("."), stub.Int(unix.MOVE_MOUNT_F_EMPTY_PATH)),
			into(slotRoot, sys(unix.SYS_FCNTL, tree, stub.Int(unix.F_DUPFD_CLOEXEC), stub.Int(3))),
			closeFD(tree))
	} else {
		ops = append(ops, b.attachAtRootfs(tree), closeFD(tree))
		ops = append(ops, b.openRoot()...)
	}
	b.line(Note{
		From: "root.path", Does: "mount the root file system",
		Hand: fmt.Sprintf("mount --rbind %[1]s %[1]s", config.Root.Path),
	}, ops...)
	return nil
}

// attachAtRootfs mounts a tree over the rootfs's own place, where hooks and error messages expect it.
func (b *builder) attachAtRootfs(tree stub.Arg) stub.Instr {
	return sys(unix.SYS_MOVE_MOUNT, tree, empty, stub.Int(unix.AT_FDCWD), stub.Text(b.opt.Rootfs), stub.Int(unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_SYMLINKS))
}

// openRoot opens the mount that is now at the rootfs, which every path is resolved below.
func (b *builder) openRoot() []stub.Instr {
	return []stub.Instr{
		into(slotRoot, sys(unix.SYS_OPENAT, stub.Int(unix.AT_FDCWD), stub.Text(b.opt.Rootfs), stub.Int(unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC), zero)),
	}
}

// enterRoot makes the root file system the process's root, and leaves the host's behind.
func (b *builder) enterRoot() {
	enter := sys(unix.SYS_FCHDIR, root)
	here, slash := stub.Text("."), stub.Text("/")
	switch {
	case !b.has(specs.MountNamespace):
		b.line(Note{From: "root.path", Does: "change root", Hand: "chroot " + b.spec.Root.Path},
			enter, sys(unix.SYS_CHROOT, here), sys(unix.SYS_CHDIR, slash))
	case b.opt.NoPivot:
		// What is left of the host stays reachable through its own proc and sys: cover them (runc's msMoveRoot).
		for _, at := range b.facts.ProcSys {
			b.line(Note{Does: "take " + at + " away", Hand: "umount -l " + at}, b.takeAway(at)...)
		}
		b.line(Note{From: "root.path", Does: "move the root file system onto /", Hand: "mount --move . / && chroot ."},
			enter,
			sys(unix.SYS_MOUNT, stub.Text(b.opt.Rootfs), slash, empty, stub.Int(unix.MS_MOVE), zero),
			sys(unix.SYS_CHROOT, here), sys(unix.SYS_CHDIR, slash))
	default:
		b.line(Note{From: "root.path", Does: "make it the root, the old one on top of it", Hand: "mkdir put_old && pivot_root . put_old"},
			enter, sys(unix.SYS_PIVOT_ROOT, here, here))
		b.line(Note{From: "root.path", Does: "drop the old root", Hand: "umount -l /put_old && rmdir /put_old"},
			sys(unix.SYS_UMOUNT2, here, stub.Int(unix.MNT_DETACH)), sys(unix.SYS_CHDIR, slash))
	}
}

// takeAway unmounts what is mounted at a path of the host's or, where it is locked, covers it.
func (b *builder) takeAway(path string) []stub.Instr {
	away := sys(unix.SYS_UMOUNT2, stub.Text(path), stub.Int(unix.MNT_DETACH))
	if !b.inUserNamespace() && !b.facts.UserNS {
		return []stub.Instr{unless(away, "", unix.EINVAL, unix.ENOENT)}
	}
	return []stub.Instr{
		then(unless(unless(away, "cover", unix.EINVAL, unix.EPERM), stub.End, unix.ENOENT), stub.End),
		at("cover", mount("tmpfs", path, "tmpfs", unix.MS_RDONLY)),
	}
}

// setPropagation comes after all other mounts: of an unbindable one no read-only copy can be made.
func (b *builder) setPropagation() {
	if word := b.spec.Linux.RootfsPropagation; word != "" {
		flag, recursive, _ := spec.Propagation(word)
		flags := uintptr(flag)
		if recursive {
			flags |= unix.MS_REC
		}
		b.line(Note{From: "linux.rootfsPropagation", Does: "make the root " + word, Hand: "mount --make-" + word + " /"},
			mount("", "/", "", flags))
	}
}

// lockDown makes read-only what had to stay writable until all mount points and devices were made.
func (b *builder) lockDown() {
	for i, m := range b.spec.Mounts {
		if !b.locksLate(i) {
			continue
		}
		b.line(Note{From: fmt.Sprintf("mounts[%d].options", i), Does: "make " + m.Destination + " read-only", Hand: "mount -o remount,bind,ro " + m.Destination},
			lookup(slotT, inRoot(m.Destination), 0),
			setAttr(stub.Value(slotT), Attr{Set: unix.MOUNT_ATTR_RDONLY}),
			closeFD(stub.Value(slotT)))
	}
	if b.spec.Root.Readonly {
		b.line(Note{From: "root.readonly", Does: "make the root read-only", Hand: "mount -o remount,bind,ro /"},
			setAttr(root, Attr{Set: unix.MOUNT_ATTR_RDONLY}))
	}
}
