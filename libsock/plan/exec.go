package plan

import (
	"bytes"
	"fmt"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/sock-runtime/sock/libsock/stub"
	"github.com/sock-runtime/sock/spec"
)

// Join says what of a running container a process enters.
type Join struct {
	Flags int  // CLONE_NEW* of the namespaces that differ from the caller's
	Root  bool // enter its root directory, too: where it is not that of its mount namespace

	// linux.personality and linux.memoryPolicy are those of all of its processes.
	Personality  *specs.LinuxPersonality
	MemoryPolicy *specs.LinuxMemoryPolicy
}

// namespaces are those that make a difference to how a process is set up.
func (j Join) namespaces() []specs.LinuxNamespace {
	if j.Flags&unix.CLONE_NEWUSER == 0 {
		return nil
	}
	return []specs.LinuxNamespace{{Type: specs.UserNamespace, Path: "/proc/PID/ns/user"}}
}

// BuildExec plans a process that joins a container, with the descriptors "pidfd", "pidns" and "rootdir" of its init.
// Errors name the path in the process's JSON.
func BuildExec(p *specs.Process, join Join, opt Options, facts Facts) (*Plan, error) {
	config := &specs.Spec{Process: p, Linux: &specs.Linux{
		Personality: join.Personality, MemoryPolicy: join.MemoryPolicy, Namespaces: join.namespaces(),
	}}
	b := &builder{spec: config, opt: opt, facts: facts, plan: &Plan{}}
	if err := b.checkLSM(); err != nil {
		return nil, err
	}
	if err := b.checkReach(false); err != nil {
		return nil, err
	}
	b.begin()
	b.stdio()
	b.replaceNull(stub.FD(fdDevNull))
	affinity := specs.CPUAffinity{}
	if p.ExecCPUAffinity != nil {
		affinity = *p.ExecCPUAffinity
	}
	if err := b.affinity("process.execCPUAffinity.initial", affinity.Initial); err != nil {
		return nil, err
	}
	b.joinCgroup("")
	b.joinResctrl("")
	if err := b.affinity("process.execCPUAffinity.final", affinity.Final); err != nil {
		return nil, err
	}
	if affinity == (specs.CPUAffinity{}) {
		b.anyCPU()
	}
	if b.inUserNamespace() {
		if err := b.privileged(p); err != nil {
			return nil, err
		}
	}
	b.join(join)
	if opt.Console {
		b.line(Note{From: "process.terminal", Does: "open the container's root"},
			into(slotRoot, sys(unix.SYS_OPENAT, stub.Int(unix.AT_FDCWD), stub.Text("/"), stub.Int(unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC), zero)))
		b.pty()
		b.consoleSize(p)
		b.sendMaster()
	}
	if err := b.process(p); err != nil {
		return nil, err
	}
	b.seccomp(p, beforeWait)
	b.pause()
	b.seccomp(p, beforeExec)
	b.execute(p)
	return b.plan, nil
}

// join enters the container's namespaces in one call, setns(2) with a pidfd (Linux 5.8), and its root.
func (b *builder) join(j Join) {
	flags, again := j.Flags, false
	if flags&unix.CLONE_NEWPID != 0 {
		if again = b.oneWay(); !again {
			b.plan.Clone.PID = fdPIDNamespace
			flags &^= unix.CLONE_NEWPID
		}
	}
	if j.Flags != 0 {
		b.sealLate()
	}
	var ops []stub.Instr
	if flags != 0 {
		ops = append(ops, sys(unix.SYS_SETNS, stub.FD(fdPIDFD), stub.Int(flags)))
		if flags&unix.CLONE_NEWUSER != 0 { // become its root, if it has one
			ops = append(ops,
				unless(sys(unix.SYS_SETRESGID, zero, zero, zero), "", unix.EINVAL),
				unless(sys(unix.SYS_SETRESUID, zero, zero, zero), "", unix.EINVAL),
				seal())
		}
	}
	if j.Root {
		ops = append(ops, sys(unix.SYS_FCHDIR, stub.FD(fdRootDir)), sys(unix.SYS_CHROOT, stub.Text(".")), closeFD(stub.FD(fdRootDir)))
	}
	if len(ops) > 0 {
		b.line(Note{Does: "join the container", Hand: "nsenter --all --target"}, ops...)
	}
	if again {
		b.cloneInit(0)
	}
}

// affinity binds the process to CPUs, sched_setaffinity(2). The list is as in cpuset(7): "0-3,7".
func (b *builder) affinity(from, list string) error {
	if list == "" {
		return nil
	}
	set, err := spec.ParseCPUList(list)
	if err != nil {
		return fmt.Errorf("%s: %w", from, err)
	}
	b.line(Note{From: from, Does: "run on CPUs " + list, Hand: "taskset -c " + list},
		sys(unix.SYS_SCHED_SETAFFINITY, zero, stub.Int(8*len(set)), setOf(set)))
	return nil
}

// anyCPU undoes the binding to CPUs that the child has from its caller (systemd's CPUAffinity=, for one): it may run
// wherever its cpuset lets it, as with runc since 1.3. The kernel takes no more of the mask than it has CPUs.
func (b *builder) anyCPU() {
	mask := bytes.Repeat([]byte{0xff}, maxCPUs/8)
	b.line(Note{Does: "run on any CPU", Hand: "taskset -p ffffffff $$"},
		unless(sys(unix.SYS_SCHED_SETAFFINITY, zero, stub.Int(len(mask)), stub.Bytes(mask)), "", unix.EINVAL, unix.EPERM, unix.ENOSYS))
}

// maxCPUs is the most that a kernel can be built for, CONFIG_NR_CPUS.
const maxCPUs = 8192

// Descriptors of a hook.
const (
	FDHookInput  = "hook.input"
	FDHookOutput = "hook.output"
)

// BuildHook plans a hook, config.md "POSIX-platform Hooks": its standard input is the container's state, its output is
// kept for the error. join is empty for hooks of the runtime namespaces. A hook in the container's root (startContainer)
// is a program of the image's, so it is held by everything that holds the container's process p; p is nil for others.
func BuildHook(h specs.Hook, join Join, p *specs.Process, facts Facts) (*Plan, error) {
	b := &builder{spec: &specs.Spec{Process: p, Linux: &specs.Linux{Namespaces: join.namespaces()}}, facts: facts, plan: &Plan{}}
	if err := b.checkLSM(); err != nil {
		return nil, err
	}
	if err := b.checkReach(false); err != nil {
		return nil, err
	}
	b.begin()
	b.line(Note{Does: "take the state as input"},
		sys(unix.SYS_DUP3, stub.FD(FDHookInput), zero, zero),
		sys(unix.SYS_DUP3, stub.FD(FDHookOutput), stub.Int(1), zero),
		sys(unix.SYS_DUP3, stub.FD(FDHookOutput), stub.Int(2), zero))
	if p != nil {
		b.joinCgroup("")
		b.joinResctrl("")
		if err := b.privileged(p); err != nil {
			return nil, err
		}
	}
	b.join(join)
	if p != nil {
		b.confine(p)
		b.noNewPrivileges(p)
	}
	b.line(Note{Does: "close what is not the hook's"}, b.keepOnly()...)
	if p != nil {
		b.seccomp(p, beforeCredentials)
		b.credentials(p)
		b.seccomp(p, beforeWait)
		b.opt.Pause = facts.Filter != nil && facts.Filter.Notify // the listener is close-on-exec
		b.pause()
		b.seccomp(p, beforeExec)
	} else {
		b.line(Note{Does: "set the usual umask"}, sys(unix.SYS_UMASK, stub.Int(0o022)))
	}
	args, env := h.Args, h.Env
	if len(args) == 0 {
		args = []string{h.Path}
	}
	if env == nil && p != nil {
		env = environment(p.Env, facts.Home) // as runc: it is a program of the image's and may need its PATH
	}
	b.plan.Child = append(b.plan.Child, b.late...)
	b.line(Note{From: "path", Does: "exec " + h.Path}, sys(unix.SYS_EXECVE, stub.Text(h.Path), stub.Vector(args), stub.Vector(env)))
	return b.plan, nil
}
