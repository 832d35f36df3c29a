package plan

import (
	"fmt"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/sock-runtime/sock/libsock/stub"
)

// A container without rights on the host: its maker is an ordinary user, or root of a user namespace in whose mount
// namespace it may not mount.
//
// Then nobody is there to prepare mounts or to lock them on a stage. Rights come with a user namespace of the container's
// own, and only the child has them. So the one clone makes that namespace, and the child makes all mounts itself, in its copy
// of the host's, which the kernel has locked. It clones those of the host's that it will need before it becomes the
// container's root, who may not be let into the directories that lead to them, and keeps them under the numbers that the
// parent has reserved: the lines that place them are the same as where the parent makes them.
//
// The parent writes the id maps, for which the child has to be dumpable. It is sealed behind that.

// clonedByChild has the child make the copy.
func (b *builder) clonedByChild(n Note, act CloneTree) {
	b.step(Note{From: n.From, Does: "reserve a descriptor for " + act.Path}, Reserve{Out: act.Out})
	if act.Device != 0 {
		b.step(Note{From: n.From, Does: "look at " + act.Path}, CheckDevice{Path: act.Path, Device: act.Device})
	}
	tree := stub.Value(slotM)
	ops := append(act.inChild(stub.Int(unix.AT_FDCWD), stub.Text(act.Path), 0), sys(unix.SYS_DUP3, tree, stub.FD(act.Out), stub.Int(unix.O_CLOEXEC)), closeFD(tree))
	line := Line{Note: n, Ops: ops}
	if !act.Recursive {
		line.Says = map[unix.Errno]string{
			unix.EINVAL: fmt.Sprintf("%s: %s: bind without what is mounted below it: in a user namespace that takes rbind", n.From, n.Does),
		}
	}
	b.early = append(b.early, line)
}

// enterAlone plans what the child does first where the parent may not mount. As enterUserNamespace it stands in front of
// lines that are planned before it.
func (b *builder) enterAlone() error {
	if !b.hasNew(specs.MountNamespace) {
		return fmt.Errorf("linux.namespaces: without root on the host a container needs a new mount namespace")
	}
	if b.facts.Rootless && !b.inUserNamespace() {
		return fmt.Errorf("linux.namespaces: a container of an ordinary user needs a user namespace")
	}
	if err := b.checkReach(true); err != nil {
		return err
	}
	switch {
	case b.hasNew(specs.UserNamespace):
		b.enterNewUserNamespace()
	case b.inUserNamespace():
		b.enterUserNamespaceByPath()
	default:
		b.plan.Child = append(b.plan.Child, b.early...)
	}
	return nil
}

// atBirth are the namespaces that a process is born into, or that the child needs before it is root.
const atBirth = unix.CLONE_NEWPID | unix.CLONE_NEWNS

func (b *builder) enterNewUserNamespace() {
	birth, others := b.plan.Clone.Flags&atBirth, b.plan.Clone.Flags&^atBirth
	birth |= unix.CLONE_NEWUSER
	b.mapIDs()
	if len(b.joins) > 0 { // with rights that the new user namespace doesn't give: before it
		b.plan.Clone.Flags = 0
		b.plan.Child = append(b.plan.Child, b.joins...)
		b.cloneInit(birth)
	} else {
		b.plan.Clone.Flags = birth
		b.line(Note{From: "linux.uidMappings", Does: "wait until the ids are mapped"}, readByte(stub.Value(slotReport)))
	}
	b.timeNamespace()
	b.sealLate()
	b.plan.Child = append(b.plan.Child, b.early...)
	b.becomeRoot()
	b.unshare(others)
}

func (b *builder) enterUserNamespaceByPath() {
	birth, others := b.plan.Clone.Flags&atBirth, b.plan.Clone.Flags&^atBirth
	b.plan.Clone.Flags = 0
	b.sealLate()
	join := func() { // what an ordinary user may join is the user namespace's
		b.line(Note{From: "linux.namespaces", Does: "join the user namespace"},
			sys(unix.SYS_SETNS, stub.FD(fdUserNS), stub.Int(unix.CLONE_NEWUSER)), seal(), closeFD(stub.FD(fdUserNS)))
	}
	if b.facts.Rootless {
		join()
	}
	b.plan.Child = append(b.plan.Child, b.joins...)
	if !b.facts.Rootless {
		join()
	}
	b.mapIDs()
	b.cloneInit(birth)
	b.timeNamespace()
	b.plan.Child = append(b.plan.Child, b.early...)
	b.becomeRoot()
	b.unshare(others)
}

// seal keeps other processes out of this one, until execve.
func seal() stub.Instr {
	return sys(unix.SYS_PRCTL, stub.Int(unix.PR_SET_DUMPABLE), zero, zero, zero, zero)
}

// unseal lets in again whoever has the same user and all of its capabilities: that is us, from outside.
func unseal() stub.Instr {
	return sys(unix.SYS_PRCTL, stub.Int(unix.PR_SET_DUMPABLE), stub.Int(1), zero, zero, zero)
}

// sealAgain is for a process that was sealed before, or has to stay reachable.
func (b *builder) sealAgain() stub.Instr {
	if b.reachable() && b.facts.Filter != nil && b.facts.Filter.Notify {
		return unseal()
	}
	return seal()
}

// checkReach refuses what takes a look into a process that is sealed for good: one that enters a user namespace that others
// may share. container says that it is the container's first one, which hooks join.
func (b *builder) checkReach(container bool) error {
	if !b.facts.Rootless || b.reachable() {
		return nil
	}
	const why = "takes root on the host, or a new user namespace"
	if f := b.facts.Filter; f != nil && f.Notify {
		return fmt.Errorf("linux.seccomp: SCMP_ACT_NOTIFY %s", why)
	}
	if h := b.spec.Hooks; container && h != nil && len(h.CreateContainer)+len(h.StartContainer) > 0 {
		return fmt.Errorf("hooks: a hook in the container (createContainer, startContainer) %s", why)
	}
	return nil
}

// sealLate seals a child that had to be dumpable until now.
func (b *builder) sealLate() {
	if b.facts.Rootless {
		b.line(Note{Does: "keep other processes out of this one", Hand: "prctl(PR_SET_DUMPABLE, 0)"}, seal())
	}
}

// reachable says whether the child has to be dumpable while it waits, for hooks, exec and others to join it: an ordinary
// user has no right to look into what is undumpable. In a user namespace that is the container's own nobody else does.
func (b *builder) reachable() bool { return b.facts.Rootless && b.hasNew(specs.UserNamespace) }

// inReach are acts during which the child is reachable.
func (b *builder) inReach(ops ...stub.Instr) []stub.Instr {
	if !b.reachable() {
		return ops
	}
	return append(append([]stub.Instr{unseal()}, ops...), seal())
}
