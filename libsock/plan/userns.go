package plan

import (
	"fmt"
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/sock-runtime/sock/libsock/stub"
)

// A container in a user namespace of its own.
//
// What root there may change of a mount depends on where the mount came into the namespace: the kernel locks what a new
// mount namespace inherits from a more privileged one (mount_namespaces(7), "Restrictions on mount namespaces"), but not
// what is moved into it. So the mounts that the parent prepared are attached first, on a stage, in a copy of the host's
// mount namespace, by the child of the one clone. It then clones the container's init into the new user namespace, with
// the same parent, tells its number and ends. Init makes the other namespaces, inherits the stage, locked, and clones from
// it what it puts in place.

// staged is a mount that waits on the stage.
type staged struct {
	name  string // of the parent's descriptor, and of the place
	file  bool
	clone []stub.Instr // makes the mount in slotM, where the parent doesn't
}

const (
	fdStage   = "stage"
	stageName = "sock-stage"
	fdUserNS  = "ns.user"
)

// inUserNamespace says whether the container has a user namespace of its own, new or by path.
func (b *builder) inUserNamespace() bool { return b.has(specs.UserNamespace) }

// cloned gives a copy of a mount of the host's as the child can place it; ops come first.
func (b *builder) cloned(n Note, act CloneTree, file bool) (mount stub.Arg, ops []stub.Instr) {
	if b.facts.NoMounts {
		b.clonedByChild(n, act)
		return stub.FD(act.Out), nil
	}
	n.Fast = FastDetached
	b.step(n, act)
	return b.prepared(act.Out, file)
}

// prepared gives a mount that the parent made as the child can place it: the descriptor itself or, in a user namespace, a
// clone from the stage, for which ops come first.
func (b *builder) prepared(name string, file bool) (mount stub.Arg, ops []stub.Instr) {
	if !b.inUserNamespace() {
		return stub.FD(name), nil
	}
	b.staged = append(b.staged, staged{name: name, file: file})
	return stub.Value(slotM), []stub.Instr{
		into(slotM, sys(unix.SYS_OPEN_TREE, stub.Value(slotStage), stub.Text(name), stub.Int(unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE))),
	}
}

// afterStage takes out of attrs, and returns as calls on slotM, what a mount can't have yet on the stage: what is shared
// there is a slave in a less privileged mount namespace, mount_namespaces(7), and what is unbindable can't be cloned from it.
func (b *builder) afterStage(attrs *[]Attr) (ops []stub.Instr) {
	if !b.inUserNamespace() || b.facts.NoMounts {
		return nil
	}
	*attrs = slices.DeleteFunc(slices.Clone(*attrs), func(a Attr) bool {
		late := a.Propagation&(unix.MS_SHARED|unix.MS_UNBINDABLE) != 0
		if late {
			ops = append(ops, setAttr(stub.Value(slotM), a))
		}
		return late
	})
	return ops
}

// clonedInside has the child clone a tree from its own root into slotM: what is below name there, mounts of the container's
// too.
func (b *builder) clonedInside(name string, act CloneTree) []stub.Instr {
	source := stub.Value(slotS)
	return append([]stub.Instr{lookup(slotS, name, 0)}, append(act.inChild(source, empty, unix.AT_EMPTY_PATH), closeFD(source))...)
}

// enterUserNamespace plans the stage and the second clone. It stands in front of lines that name what is staged, so it
// is planned after them: see Build.
func (b *builder) enterUserNamespace() error {
	if !b.hasNew(specs.MountNamespace) {
		return fmt.Errorf("linux.namespaces: a user namespace is not supported without a new mount namespace")
	}
	var dirs, files []string
	for _, s := range b.staged {
		if s.file {
			files = append(files, s.name)
		} else {
			dirs = append(dirs, s.name)
		}
	}
	n := Note{From: "linux.namespaces", Does: "make the stage"}
	b.step(n, NewMount{Out: fdStage, Type: "tmpfs", Source: stageName, Options: []string{"mode=711"}, Dirs: dirs, Files: files})
	b.mapIDs()
	stage := stub.FD(fdStage)
	b.line(Note{From: "linux.namespaces", Does: "let no mount out of this namespace", Hand: "mount --make-rslave /"},
		mount("", "/", "", unix.MS_REC|unix.MS_SLAVE))
	ops := []stub.Instr{b.attachAtRootfs(stage)}
	for _, s := range b.staged {
		mount := stub.FD(s.name)
		if s.clone != nil {
			mount = stub.Value(slotM)
		}
		ops = append(append(ops, s.clone...),
			sys(unix.SYS_MOVE_MOUNT, mount, empty, stage, stub.Text(s.name), stub.Int(unix.MOVE_MOUNT_F_EMPTY_PATH)),
			closeFD(mount))
	}
	b.line(Note{From: "linux.namespaces", Does: fmt.Sprintf("put %d mounts on the stage", len(b.staged)), Hand: "mount --bind ... stage/..."},
		append(ops, sys(unix.SYS_FCHDIR, stage), closeFD(stage))...)

	// A process is born into its PID and user namespace.
	flags := b.plan.Clone.Flags & unix.CLONE_NEWPID
	others := b.plan.Clone.Flags &^ unix.CLONE_NEWPID
	b.plan.Clone.Flags = unix.CLONE_NEWNS
	if b.hasNew(specs.UserNamespace) {
		flags |= unix.CLONE_NEWUSER
	} else {
		b.line(Note{From: "linux.namespaces", Does: "join the user namespace"},
			sys(unix.SYS_SETNS, stub.FD(fdUserNS), stub.Int(unix.CLONE_NEWUSER)), closeFD(stub.FD(fdUserNS)))
	}
	b.cloneInit(flags)
	b.timeNamespace()
	b.becomeRoot()
	b.unshare(others)
	b.line(Note{From: "linux.namespaces", Does: "open the stage"},
		into(slotStage, sys(unix.SYS_OPENAT, stub.Int(unix.AT_FDCWD), stub.Text("."), stub.Int(unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC), zero)))
	return nil
}

// mapIDs has the parent write the id maps of a new user namespace, or compare those of one that exists with what
// config.json says of them: Podman says it.
func (b *builder) mapIDs() {
	l := b.spec.Linux
	if joined := !b.hasNew(specs.UserNamespace); !joined || len(l.UIDMappings)+len(l.GIDMappings) > 0 {
		b.plan.Maps = &Maps{UIDs: l.UIDMappings, GIDs: l.GIDMappings, Joined: joined}
	}
}

// cloneInit has the child clone the process that the plan is about. That one waits until its number is known and, in a new
// user namespace, its ids are mapped.
func (b *builder) cloneInit(flags uint64) {
	b.plan.Clone.Again = true
	b.limitPidsLate()
	report := stub.Value(slotReport)
	b.line(Note{From: "linux.namespaces", Does: "clone init into its namespaces, and end", Hand: Clone{Flags: flags}.hand()},
		then(unless(exactly(sys(unix.SYS_CLONE3, stub.CloneArgs(flags), stub.Int(stub.CloneArgsSize)), 0), "", unix.EPIPE), "init"),
		exactly(sys(unix.SYS_WRITE, report, stub.ClonedRecord(), stub.Int(stub.RecordSize)), stub.RecordSize),
		sys(unix.SYS_EXIT_GROUP, zero),
		at("init", readByte(report)),
		sys(unix.SYS_SETSID))
}

// becomeRoot makes the process root of the user namespace that it is in.
func (b *builder) becomeRoot() {
	b.line(Note{From: "linux.uidMappings", Does: "become root of the user namespace"},
		sys(unix.SYS_SETRESGID, zero, zero, zero),
		sys(unix.SYS_SETRESUID, zero, zero, zero),
		seal())
	b.plan.Child[len(b.plan.Child)-1].Says = map[unix.Errno]string{
		unix.EINVAL: "linux.uidMappings, linux.gidMappings: the container's root, id 0, is not mapped",
	}
}

// unshare makes the other namespaces: as root of the user namespace, who then owns what is in them (the root of mqueue,
// for one).
func (b *builder) unshare(flags uint64) {
	if flags == 0 {
		return
	}
	b.line(Note{From: "linux.namespaces", Does: "make the other namespaces", Hand: Clone{Flags: flags}.hand()},
		sys(unix.SYS_UNSHARE, stub.Int(flags)))
}

// hostDevice binds a device of the host's: in a user namespace none can be made, mknod(2).
func (b *builder) hostDevice(from string, d specs.LinuxDevice) {
	name := inRoot(d.Path)
	number := unix.Mkdev(uint32(d.Major), uint32(d.Minor))
	if d.Type == "b" || d.Type == "p" {
		number = 0
	}
	out := fmt.Sprint("device.", len(b.plan.Host))
	mount, ops := b.cloned(Note{From: from, Does: "clone the mount of " + d.Path},
		CloneTree{Out: out, Path: d.Path, Device: number, Attrs: []Attr{{Propagation: unix.MS_PRIVATE}}}, true)
	b.place(from, name, true, mount, fmt.Sprintf("mount --bind %s rootfs%s", d.Path, d.Path), ops...)
}
