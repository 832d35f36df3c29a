package plan

import (
	"fmt"
	"path"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/sock-runtime/sock/libsock/stub"
)

// Build plans the init process of a container. The config must have passed spec.Validate; errors name the JSON path.
func Build(config *specs.Spec, opt Options, facts Facts) (*Plan, error) {
	if config.Linux == nil {
		without := *config
		without.Linux = &specs.Linux{}
		config = &without
	}
	b := &builder{spec: config, opt: opt, facts: facts, plan: &Plan{}}
	if err := b.checkLSM(); err != nil {
		return nil, err
	}
	b.decideFastPaths()
	b.begin()
	b.stdio()
	b.cgroup()
	if err := b.intelRdt(); err != nil {
		return nil, err
	}
	b.anyCPU()
	b.joinNamespaces()
	if b.inUserNamespace() {
		b.openGate()
		if err := b.privileged(config.Process); err != nil {
			return nil, err
		}
	}
	outside := len(b.plan.Child)
	b.furnishNamespaces()
	b.networkDevices()
	if err := b.rootfs(); err != nil {
		return nil, err
	}
	if err := b.mounts(); err != nil {
		return nil, err
	}
	b.devices()
	b.console()
	b.pauseForHooks()
	b.makeCwd()
	b.takeMask()
	b.enterRoot()
	b.lockDown()
	b.names()
	b.sysctls()
	b.readonlyPaths()
	b.maskedPaths()
	b.setPropagation()
	if err := b.process(config.Process); err != nil {
		return nil, err
	}
	b.seccomp(config.Process, beforeWait)
	b.wait()
	b.seccomp(config.Process, beforeExec)
	b.execute(config.Process)
	if b.inUserNamespace() || b.facts.NoMounts {
		// Only now is it known which mounts of the host's are needed.
		inside := slices.Clone(b.plan.Child[outside:])
		b.plan.Child = b.plan.Child[:outside]
		enter := b.enterUserNamespace
		if b.facts.NoMounts {
			enter = b.enterAlone
		}
		if err := enter(); err != nil {
			return nil, err
		}
		b.plan.Child = append(b.plan.Child, inside...)
	}
	return b.plan, nil
}

// begin is the child's first act. Until execve it runs as root, in view of whoever shares its PID or user namespace, so it
// keeps them out; without rights on the host that has to wait, see rootless.go.
func (b *builder) begin() {
	n, first := Note{Does: "keep other processes out of this one", Hand: "prctl(PR_SET_DUMPABLE, 0)"}, []stub.Instr{seal()}
	if b.facts.Rootless {
		b.plan.Clone.Dumpable = true
		n, first = Note{Does: "become a session of its own", Hand: "setsid"}, nil
	}
	b.line(n, append(first,
		into(slotReport, sys(unix.SYS_FCNTL, stub.FD(fdSync), stub.Int(unix.F_DUPFD_CLOEXEC), stub.Int(b.high()))),
		closeFD(stub.FD(fdSync)),
		sys(unix.SYS_UMASK, zero),
		sys(unix.SYS_SETSID))...)
}

// high is the lowest of the descriptors that are kept to the end.
func (b *builder) high() int { return high + b.opt.PreserveFDs }

// cgroup makes the cgroup and has the child join it before it makes namespaces, so that a cgroup namespace begins there.
func (b *builder) cgroup() {
	if b.facts.Cgroup.None {
		b.step(Note{From: "linux.resources", Does: "make sure that no limits are asked for"}, LimitCgroup{})
		return
	}
	from := "linux.cgroupsPath"
	var dirs []string
	for _, m := range b.facts.Cgroup.Mounts {
		dirs = append(dirs, m.Dir)
	}
	if b.facts.Cgroup.Unit != "" {
		b.unit(from, dirs)
		return
	}
	b.step(Note{From: from, Does: fmt.Sprintf("make the cgroup, %d directories", len(dirs)), Hand: "mkdir " + strings.Join(dirs, " ")}, MakeCgroup{})
	b.step(Note{From: "linux.resources", Does: "set the cgroup's limits", Hand: "echo ... > DIRECTORY/memory.limit_in_bytes ..."}, LimitCgroup{})
	b.plan.Host = append(b.plan.Host, b.delegate()...)
	b.plan.Undo = append(b.plan.Undo, Undo{Note: Note{From: from, Does: "remove the cgroup", Hand: "rmdir " + strings.Join(dirs, " ")}})
	b.joinCgroup(from)
}

// limitPidsLate puts a limit of one process off until the child that clones init has ended.
func (b *builder) limitPidsLate() {
	r := b.spec.Linux.Resources
	if r == nil || r.Pids == nil || r.Pids.Limit == nil || *r.Pids.Limit < 0 || *r.Pids.Limit > 1 {
		return
	}
	for _, steps := range [][]Step{b.plan.Host, b.plan.After} {
		for i, s := range steps {
			switch s.Do.(type) {
			case StartUnit:
				steps[i].Do = StartUnit{Two: true}
			case LimitCgroup:
				steps[i].Do = LimitCgroup{Two: true}
				b.plan.Late = append(b.plan.Late, Step{Note{
					From: "linux.resources.pids.limit", Does: "let no second process be", Hand: "echo 1 > DIRECTORY/pids.max",
				}, LimitPids{}})
			}
		}
	}
}

// delegate gives the cgroup to the container's process by config-linux.md's rules, "Cgroup ownership": on v2, where the
// container has a cgroup namespace of its own and its cgroups mounted writable.
func (b *builder) delegate() []Step {
	if !b.facts.Cgroup.Unified || !b.hasNew(specs.CgroupNamespace) {
		return nil
	}
	at := slices.IndexFunc(b.spec.Mounts, func(m specs.Mount) bool {
		return m.Source == "cgroup" && path.Clean(m.Destination) == "/sys/fs/cgroup" && !slices.Contains(m.Options, "ro")
	})
	owner, ok := b.spec.Process.User.UID, true
	if b.inUserNamespace() {
		owner, ok = mapped(b.spec.Linux.UIDMappings, owner)
	}
	if at < 0 || !ok || owner == 0 {
		return nil
	}
	dir := b.facts.Cgroup.Mounts[0].Dir
	return []Step{{Note{
		From: fmt.Sprintf("mounts[%d]", at), Does: fmt.Sprintf("give the cgroup to uid %d", owner),
		Hand: fmt.Sprintf("chown %d %[2]s; cd %[2]s; chown %[1]d $(cat /sys/kernel/cgroup/delegate)", owner, dir),
	}, DelegateCgroup{UID: owner}}}
}

// mapped is the host's ID for one in a user namespace.
func mapped(mappings []specs.LinuxIDMapping, id uint32) (uint32, bool) {
	for _, m := range mappings {
		if id >= m.ContainerID && id-m.ContainerID < m.Size {
			return m.HostID + (id - m.ContainerID), true
		}
	}
	return 0, false
}

// unit has systemd make the cgroup. It makes no unit without a process in it, so the child waits for that; only then does it
// join the hierarchies that systemd doesn't manage.
func (b *builder) unit(from string, dirs []string) {
	c := b.facts.Cgroup
	b.step(Note{From: from, Does: "connect to systemd"}, ReachSystemd{})
	b.plan.After = append(b.plan.After,
		Step{Note{From: from, Does: "have systemd start " + c.Unit + " with the child in it", Hand: "systemd-run --scope --unit=" + c.Unit}, StartUnit{}},
		Step{Note{From: "linux.resources", Does: "set the cgroup's limits", Hand: "echo ... > DIRECTORY/memory.limit_in_bytes ..."}, LimitCgroup{}})
	b.plan.After = append(b.plan.After, b.delegate()...)
	b.plan.Undo = append(b.plan.Undo, Undo{Note: Note{
		From: from, Does: "have systemd stop " + c.Unit + ", remove the cgroup", Hand: "systemctl stop " + c.Unit + "; rmdir " + strings.Join(dirs, " "),
	}})
	b.line(Note{From: from, Does: "wait until " + c.Unit + " has started"}, readByte(stub.Value(slotReport)))
	if c.Unified {
		return
	}
	for _, m := range c.Mounts {
		if m.Own {
			continue
		}
		tasks := m.Dir + "/tasks"
		b.line(Note{From: from, Does: "join the cgroup in " + m.Name, Hand: "echo $$ > " + m.Dir + "/cgroup.procs"},
			into(slotS, sys(unix.SYS_OPENAT, stub.Int(unix.AT_FDCWD), stub.Text(tasks), stub.Int(unix.O_WRONLY|unix.O_CLOEXEC), zero)),
			writeText(stub.Value(slotS), "0"), closeFD(stub.Value(slotS)))
	}
}

func (b *builder) joinCgroup(from string) {
	if b.facts.Cgroup.None {
		return
	}
	b.step(Note{From: from, Does: "open the cgroup for the child", Fast: FastIntoCgroup}, JoinCgroup{})
	if b.facts.Cgroup.Into {
		b.plan.Clone.IntoCgroup = fdCgroup
	}
	if b.facts.Cgroup.Unified {
		return
	}
	for _, m := range b.facts.Cgroup.Mounts {
		fd := stub.FD(cgroupFile + m.Name)
		b.line(Note{From: from, Does: "join the cgroup in " + m.Name, Fast: FastIntoCgroup, Hand: "echo $$ > " + m.Dir + "/cgroup.procs"},
			writeText(fd, "0"), closeFD(fd))
	}
}

// pauseForHooks lets the parent run the hooks that want all mounts but the host's root.
func (b *builder) pauseForHooks() {
	h := b.spec.Hooks
	//lint:ignore SA1019 prestart is deprecated, and Docker 20.10 uses it
	if h == nil || len(h.Prestart)+len(h.CreateRuntime)+len(h.CreateContainer) == 0 {
		return
	}
	b.line(Note{From: "hooks", Does: "wait until the prestart, createRuntime and createContainer hooks have run"},
		b.inReach(writeRecord(stub.Value(slotReport), stub.Paused), readByte(stub.Value(slotReport)))...)
}

// makeCwd makes process.cwd in the container, as runc does; with an image that lacks it, WORKDIR still works.
func (b *builder) makeCwd() {
	cwd := path.Clean("/" + b.spec.Process.Cwd)
	if cwd == "/" {
		return
	}
	ops := b.makeTarget(slotT, cwd, false)
	for i := range ops { // a file in the way or a read-only root shows when the process enters it
		ops[i] = unless(ops[i], stub.End, unix.ENOTDIR, unix.EROFS)
	}
	ops = append(ops, at("have", closeFD(stub.Value(slotT))))
	b.line(Note{From: "process.cwd", Does: "make the working directory " + cwd}, ops...)
}

// wait is where a created container stands until start, or a run until its state is on disk.
func (b *builder) wait() {
	report := stub.Value(slotReport)
	if !b.opt.Gate {
		b.line(Note{Does: "wait until the container's state is recorded"}, readByte(report))
		b.pause()
		return
	}
	gate, failure := stub.Value(slotGate), stub.Value(slotError)
	ready := []stub.Instr{readByte(report), writeRecord(report, stub.Ready)}
	if b.reachable() {
		ready = append([]stub.Instr{unseal()}, ready...)
	}
	b.line(Note{Does: "wait until the container's state is recorded, report ready"}, ready...)
	b.line(Note{Does: "wait for start"},
		closeFD(report),
		into(slotReport, sys(unix.SYS_FCNTL, failure, stub.Int(unix.F_DUPFD_CLOEXEC), stub.Int(b.high()))),
		closeFD(failure),
		readByte(gate))
}

// pause has the child wait once more where there is no gate and the parent has something to do before it executes.
func (b *builder) pause() {
	if b.opt.Pause {
		report := stub.Value(slotReport)
		b.line(Note{Does: "wait for the startContainer hooks, the terminal, the seccomp listener"},
			b.inReach(writeRecord(report, stub.Ready), readByte(report))...)
	}
}

// openGate opens the gate while the child still has all its rights and descriptors to spare.
func (b *builder) openGate() {
	if !b.opt.Gate {
		return
	}
	b.step(Note{Does: "make the gate that start opens"}, MakeGate{})
	open := func(slot stub.Slot, name string, flags int) []stub.Instr {
		return []stub.Instr{
			into(slotS, sys(unix.SYS_OPENAT, stub.FD(fdState), stub.Text(name), stub.Int(flags|unix.O_CLOEXEC|unix.O_NOFOLLOW), stub.Int(0o600))),
			into(slot, sys(unix.SYS_FCNTL, stub.Value(slotS), stub.Int(unix.F_DUPFD_CLOEXEC), stub.Int(b.high()))),
			closeFD(stub.Value(slotS)),
		}
	}
	ops := open(slotGate, GateFile, unix.O_RDWR)
	ops = append(ops, open(slotError, ErrorFile, unix.O_WRONLY|unix.O_CREAT)...)
	b.line(Note{Does: "open the gate"}, append(ops, closeFD(stub.FD(fdState)))...)
}

// keepOnly closes everything but stdio, the caller's preserved descriptors and the last few (CVE-2024-21626). What a
// plan with very many mounts opened above the last few is named one by one.
func (b *builder) keepOnly() []stub.Instr {
	ops := []stub.Instr{closeRange(uint(3+b.opt.PreserveFDs), uint(b.high()-1))}
	// None that a line has closed already: its number may be another's by now, the gate's for one.
	for _, slot := range []stub.Slot{slotRoot, slotDev, slotDevpts, slotStage, slotProc, slotSys} {
		ops = append(ops, unless(closeFD(stub.Value(slot)), "", unix.EBADF))
	}
	if b.usesProc() {
		ops = append(ops, unless(closeFD(stub.FD(fdProc)), "", unix.EBADF))
	}
	return ops
}
