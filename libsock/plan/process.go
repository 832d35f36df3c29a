package plan

import (
	"fmt"
	"path"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/sock-runtime/sock/libsock/stub"
	"github.com/sock-runtime/sock/spec"
)

// names sets what the UTS namespace shows.
func (b *builder) names() {
	if name := b.spec.Hostname; name != "" {
		b.line(Note{From: "hostname", Does: "set the host name to " + name, Hand: "hostname " + name},
			sys(unix.SYS_SETHOSTNAME, stub.Text(name), stub.Int(len(name))))
	}
	if name := b.spec.Domainname; name != "" {
		b.line(Note{From: "domainname", Does: "set the domain name to " + name, Hand: "domainname " + name},
			sys(unix.SYS_SETDOMAINNAME, stub.Text(name), stub.Int(len(name))))
	}
}

// sysctls writes through the host's procfs, which shows each namespaced value for the namespace of the writer: the
// container's own /proc can be a fake (CVE-2025-52881).
func (b *builder) sysctls() {
	var keys []string
	for key := range b.spec.Linux.Sysctl {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range keys {
		value, file := b.spec.Linux.Sysctl[key], stub.Value(slotS)
		b.line(Note{
			From: fmt.Sprintf("linux.sysctl[%q]", key), Does: "set sysctl " + key + " to " + value,
			Hand: "sysctl -w " + key + "=" + value,
		},
			into(slotS, openat2(b.openProc(), "sys/"+spec.SysctlPath(key), unix.O_WRONLY, 0, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS)),
			writeText(file, value), closeFD(file))
	}
}

// process sets everything that config.json says of the process but its arguments, in the order that leaves each step the
// rights it needs.
func (b *builder) process(p *specs.Process) error {
	b.keyring(p)
	b.takeTerminal(p)
	b.ownStdio(p)
	b.chdir(p, true)
	if !b.inUserNamespace() {
		b.openGate()
		if err := b.privileged(p); err != nil {
			return err
		}
	}
	b.confine(p)
	b.noNewPrivileges(p)
	b.line(Note{Does: "close what is not the process's"}, b.keepOnly()...)
	b.seccomp(p, beforeCredentials)
	b.credentials(p)
	b.chdir(p, false)
	b.findExecutable(p)
	return nil
}

func (b *builder) noNewPrivileges(p *specs.Process) {
	if p.NoNewPrivileges {
		b.line(Note{From: "process.noNewPrivileges", Does: "set no_new_privs", Hand: "setpriv --no-new-privs"},
			sys(unix.SYS_PRCTL, stub.Int(unix.PR_SET_NO_NEW_PRIVS), stub.Int(1), zero, zero, zero))
	}
}

// privileged sets what may take capabilities on the host; a user namespace is entered after it.
func (b *builder) privileged(p *specs.Process) error {
	b.oomScore(p)
	if err := b.scheduling(p); err != nil {
		return err
	}
	return b.rlimits(p)
}

// stdio gives the process other standard descriptors than the caller has.
func (b *builder) stdio() {
	if !b.opt.Stdio || b.opt.Console {
		return
	}
	var ops []stub.Instr
	for fd, name := range []string{fdStdin, fdStdout, fdStderr} {
		ops = append(ops, sys(unix.SYS_DUP3, stub.FD(name), stub.Int(fd), zero), closeFD(stub.FD(name)))
	}
	b.line(Note{Does: "take its stdio", Hand: "< STDIN > STDOUT 2> STDERR"}, ops...)
}

// ownStdio lets the process reopen its stdio, /dev/stdout for example, though it isn't root.
func (b *builder) ownStdio(p *specs.Process) {
	for _, fd := range b.facts.OwnStdio {
		// Some have no owner to change, or one whom this user namespace doesn't know; runc goes on, too.
		b.line(Note{From: "process.user.uid", Does: fmt.Sprintf("give descriptor %d to uid %d", fd, p.User.UID)},
			unless(sys(unix.SYS_FCHOWN, stub.Int(fd), stub.Int(p.User.UID), stub.Int(-1)), "", unix.EINVAL, unix.EPERM, unix.EROFS))
	}
}

// keyring gives the container a session keyring of its own, keyrings(7); otherwise it would share the caller's keys.
func (b *builder) keyring(p *specs.Process) {
	if b.opt.NoKeyring {
		return
	}
	b.labelKeyring(p)
	// Whoever may search it already, and the same user: what a new session keyring allows, and searching.
	const permissions = 0x3f1b0000
	b.line(Note{Does: "join a new session keyring", Hand: "keyctl new_session"},
		unless(into(slotS, sys(unix.SYS_KEYCTL, stub.Int(unix.KEYCTL_JOIN_SESSION_KEYRING), stub.Text("_ses."+b.opt.ID), zero, zero, zero)), stub.End, unix.ENOSYS),
		sys(unix.SYS_KEYCTL, stub.Int(unix.KEYCTL_SETPERM), stub.Value(slotS), stub.Int(permissions), zero, zero))
}

func (b *builder) oomScore(p *specs.Process) {
	if p.OOMScoreAdj == nil {
		return
	}
	score := fmt.Sprint(*p.OOMScoreAdj)
	b.line(Note{From: "process.oomScoreAdj", Does: "set oom_score_adj to " + score, Hand: "echo " + score + " > /proc/self/oom_score_adj"},
		into(slotS, sys(unix.SYS_OPENAT, b.openProc(), stub.Text("self/oom_score_adj"), stub.Int(unix.O_WRONLY|unix.O_CLOEXEC), zero)),
		writeText(stub.Value(slotS), score), closeFD(stub.Value(slotS)))
}

// scheduling sets ioPriority, scheduler, memoryPolicy and personality, config.md "Linux Process" and config-linux.md.
func (b *builder) scheduling(p *specs.Process) error {
	if io := p.IOPriority; io != nil {
		classes := map[specs.IOPriorityClass]int{specs.IOPRIO_CLASS_RT: 1, specs.IOPRIO_CLASS_BE: 2, specs.IOPRIO_CLASS_IDLE: 3}
		const whoProcess, classShift = 1, 13 // ioprio_set(2)
		b.line(Note{From: "process.ioPriority", Does: fmt.Sprintf("set the I/O priority to %s %d", io.Class, io.Priority), Hand: "ionice"},
			sys(unix.SYS_IOPRIO_SET, stub.Int(whoProcess), zero, stub.Int(classes[io.Class]<<classShift|io.Priority)))
	}
	if s := p.Scheduler; s != nil {
		attr, err := schedAttr(s)
		if err != nil {
			return err
		}
		b.line(Note{From: "process.scheduler", Does: fmt.Sprintf("set the scheduling policy to %s", s.Policy), Hand: "chrt"},
			sys(unix.SYS_SCHED_SETATTR, zero, attr, zero))
	}
	if err := b.memoryPolicy(); err != nil {
		return err
	}
	if d := b.spec.Linux.Personality; d != nil {
		domain := map[specs.LinuxPersonalityDomain]int{specs.PerLinux: 0x0000, specs.PerLinux32: 0x0008}[d.Domain] // personality(2)
		b.line(Note{From: "linux.personality", Does: fmt.Sprintf("set the personality to %s", d.Domain), Hand: "setarch"},
			sys(unix.SYS_PERSONALITY, stub.Int(domain)))
	}
	return nil
}

// schedAttr is struct sched_attr of sched_setattr(2).
func schedAttr(s *specs.Scheduler) (stub.Arg, error) {
	policy, ok := spec.SchedulerPolicy(s.Policy)
	if !ok {
		return stub.Arg{}, fmt.Errorf("process.scheduler.policy: unknown policy %q", s.Policy)
	}
	var flags uint64
	for i, f := range s.Flags {
		bit, ok := spec.SchedulerFlag(f)
		if !ok {
			return stub.Arg{}, fmt.Errorf("process.scheduler.flags[%d]: unknown flag %q", i, f)
		}
		flags |= bit
	}
	const size = 48
	return words(uint64(policy)<<32|size, flags, uint64(uint32(s.Priority))<<32|uint64(uint32(s.Nice)), s.Runtime, s.Deadline, s.Period), nil
}

func (b *builder) rlimits(p *specs.Process) error {
	asked := false
	for i, r := range p.Rlimits {
		from := fmt.Sprintf("process.rlimits[%d]", i)
		number, ok := spec.RlimitResource(r.Type)
		if !ok {
			return fmt.Errorf("%s.type: unknown limit %q", from, r.Type)
		}
		b.rlimit(from, r.Type, number, r.Soft, r.Hard)
		asked = asked || number == unix.RLIMIT_NOFILE
	}
	if n := b.facts.NOFILE; n != nil && !asked {
		b.rlimit("", "RLIMIT_NOFILE", unix.RLIMIT_NOFILE, n.Soft, n.Hard) // as the caller had it, before Go raised it
	}
	return nil
}

func (b *builder) rlimit(from, name string, number int, soft, hard uint64) {
	n := Note{
		From: from, Does: fmt.Sprintf("set %s to %d:%d", name, soft, hard),
		Hand: fmt.Sprintf("prlimit --%s=%d:%d", strings.ToLower(strings.TrimPrefix(name, "RLIMIT_")), soft, hard),
	}
	set := func(soft, hard uint64) stub.Instr {
		return sys(unix.SYS_PRLIMIT64, zero, stub.Int(number), words(soft, hard), zero)
	}
	// The child itself needs a few descriptors to the end. What is below that waits for the moment before execve.
	if need := uint64(b.high() + 16); number == unix.RLIMIT_NOFILE && soft < need {
		b.late = append(b.late, Line{Note: n, Ops: []stub.Instr{set(soft, hard)}})
		n.Does += ", but for now as many as sock needs"
		soft, hard = need, max(hard, need)
	}
	b.line(n, set(soft, hard))
}

// chdir enters process.cwd. It tries as root, who may pass directories that the user may not, and if root may not either
// (NFS), again as the user. Magic links are refused: through /proc/self/fd a directory of the host's would be reachable
// (CVE-2024-21626).
func (b *builder) chdir(p *specs.Process, asRoot bool) {
	cwd := path.Clean(p.Cwd)
	n := Note{From: "process.cwd", Does: "enter the working directory " + cwd, Hand: "cd " + cwd}
	open := into(slotS, openat2(stub.Int(unix.AT_FDCWD), cwd, unix.O_PATH|unix.O_DIRECTORY, 0, unix.RESOLVE_NO_MAGICLINKS))
	opened, entered := stub.Value(slotS), stub.Value(slotCwd)
	enter := sys(unix.SYS_FCHDIR, opened)
	if asRoot {
		b.line(n,
			unless(open, stub.End, unix.EACCES),
			unless(enter, "denied", unix.EACCES),
			into(slotCwd, sys(unix.SYS_FCNTL, opened, stub.Int(unix.F_DUPFD_CLOEXEC), stub.Int(b.high()))), // a mark for the second time
			at("denied", closeFD(opened)))
	} else {
		n.Does += ", if root could not"
		b.line(n,
			then(unless(closeFD(entered), "", unix.EBADF), stub.End),
			open, enter, closeFD(opened))
	}
	b.plan.Child[len(b.plan.Child)-1].Says = map[unix.Errno]string{
		unix.ENOENT:  fmt.Sprintf("chdir to cwd (%q) set in config.json failed: no such file or directory", p.Cwd),
		unix.ENOTDIR: fmt.Sprintf("chdir to cwd (%q) set in config.json failed: not a directory", p.Cwd),
		unix.EACCES:  fmt.Sprintf("chdir to cwd (%q) set in config.json failed: permission denied", p.Cwd),
		unix.ELOOP:   fmt.Sprintf("chdir to cwd (%q) set in config.json failed: it leads through a magic link or too many links", p.Cwd),
	}
}

// capabilityMask is the set of names as capset(2) takes it. Unknown names were warned of when the config was read.
func capabilityMask(names []string) uint64 {
	var mask uint64
	for _, name := range names {
		if n, ok := spec.CapabilityNumber(name); ok {
			mask |= 1 << n
		}
	}
	return mask
}

// credentials gives up root: bounding set, groups, ids, then the other capability sets, capabilities(7).
func (b *builder) credentials(p *specs.Process) {
	caps := p.Capabilities
	if caps == nil {
		caps = &specs.LinuxCapabilities{} // not asked for, so none, as in runc
	}
	known := uint64(1)<<(b.facts.LastCap+1) - 1
	bounding := capabilityMask(caps.Bounding) & known
	var ops []stub.Instr
	for c := uint(0); c <= b.facts.LastCap; c++ {
		if bounding&(1<<c) == 0 {
			ops = append(ops, sys(unix.SYS_PRCTL, stub.Int(unix.PR_CAPBSET_DROP), stub.Int(c), zero, zero, zero))
		}
	}
	b.line(Note{From: "process.capabilities.bounding", Does: fmt.Sprintf("bound capabilities to %#x", bounding), Hand: "capsh --drop=..."}, ops...)

	user := p.User
	ops = []stub.Instr{sys(unix.SYS_PRCTL, stub.Int(unix.PR_SET_KEEPCAPS), stub.Int(1), zero, zero, zero)}
	groups := sys(unix.SYS_SETGROUPS, stub.Int(len(user.AdditionalGids)), halves(append(user.AdditionalGids[:len(user.AdditionalGids):len(user.AdditionalGids)], 0)...))
	limited := b.inUserNamespace() || b.facts.UserNS
	if limited && len(user.AdditionalGids) == 0 {
		groups = unless(groups, "", unix.EPERM) // where /proc/self/setgroups says deny, user_namespaces(7): then those of sock stay
	}
	ops = append(ops,
		groups,
		sys(unix.SYS_SETRESGID, stub.Int(user.GID), stub.Int(user.GID), stub.Int(user.GID)),
		sys(unix.SYS_SETRESUID, stub.Int(user.UID), stub.Int(user.UID), stub.Int(user.UID)),
		sys(unix.SYS_PRCTL, stub.Int(unix.PR_SET_KEEPCAPS), zero, zero, zero, zero))
	umask := uint32(0o022)
	if user.Umask != nil {
		umask = *user.Umask
	}
	ops = append(ops, sys(unix.SYS_UMASK, stub.Int(umask)))
	b.line(Note{From: "process.user", Does: fmt.Sprintf("become uid %d, gid %d, groups %v, umask %03o", user.UID, user.GID, user.AdditionalGids, umask), Hand: "setpriv --reuid --regid --groups"}, ops...)
	if limited {
		b.plan.Child[len(b.plan.Child)-1].Says = map[unix.Errno]string{
			unix.EPERM:  "process.user.additionalGids: the user namespace allows no additional groups (setgroups is denied there)",
			unix.EINVAL: fmt.Sprintf("process.user: uid %d, gid %d or one of the groups %v is not mapped in the user namespace", user.UID, user.GID, user.AdditionalGids),
		}
	}

	effective, permitted, inheritable := capabilityMask(caps.Effective)&known, capabilityMask(caps.Permitted)&known, capabilityMask(caps.Inheritable)&known
	header := halves(unix.LINUX_CAPABILITY_VERSION_3, 0)
	data := halves(uint32(effective), uint32(permitted), uint32(inheritable), uint32(effective>>32), uint32(permitted>>32), uint32(inheritable>>32))
	ops = []stub.Instr{
		sys(unix.SYS_CAPSET, header, data),
		b.sealAgain(), // new ids have made it fs.suid_dumpable
		unless(sys(unix.SYS_PRCTL, stub.Int(unix.PR_CAP_AMBIENT), stub.Int(unix.PR_CAP_AMBIENT_CLEAR_ALL), zero, zero, zero), "", unix.EINVAL),
	}
	ambient := capabilityMask(caps.Ambient) & known
	for c := uint(0); c <= b.facts.LastCap; c++ {
		if ambient&(1<<c) != 0 {
			// Not inheritable or not permitted, so not ambient: runc warns and goes on.
			ops = append(ops, unless(sys(unix.SYS_PRCTL, stub.Int(unix.PR_CAP_AMBIENT), stub.Int(unix.PR_CAP_AMBIENT_RAISE), stub.Int(c), zero, zero), "", unix.EPERM))
		}
	}
	b.line(Note{
		From: "process.capabilities", Hand: "capsh --inh=... --addamb=...",
		Does: fmt.Sprintf("set capabilities: effective %#x, permitted %#x, inheritable %#x, ambient %#x", effective, permitted, inheritable, ambient),
	}, ops...)
}

// candidates are the files that args[0] may mean: itself with a slash in it, otherwise one in each directory of PATH.
func candidates(p *specs.Process) []string {
	name := p.Args[0]
	if strings.Contains(name, "/") {
		return []string{name}
	}
	var files []string
	for _, dir := range strings.Split(Variable(p.Env, "PATH"), ":") {
		if strings.HasPrefix(dir, "/") { // a relative one, or an empty one, would mean the working directory: Go's rule, and runc's
			files = append(files, path.Join(dir, name))
		}
	}
	return files
}

// Variable is the value of an environment variable; the last one counts.
func Variable(env []string, name string) string {
	for i := len(env) - 1; i >= 0; i-- {
		if key, value, _ := strings.Cut(env[i], "="); key == name {
			return value
		}
	}
	return ""
}

// findExecutable fails now, not at start, where there is nothing to execute, with the texts that engines match.
func (b *builder) findExecutable(p *specs.Process) {
	name, files := p.Args[0], candidates(p)
	var ops []stub.Instr
	for i, file := range files {
		this, next := fmt.Sprint("candidate ", i), fmt.Sprint("candidate ", i+1)
		here, isFile := stub.Int(unix.AT_FDCWD), fmt.Sprint("file ", i)
		// A directory's x bit means something else, so it is told apart first. The new call counts capabilities
		// (CAP_DAC_OVERRIDE), the old one only ids, but more seccomp profiles know it: one that knows neither leaves the
		// verdict to execve.
		directory := unless(sys(unix.SYS_FACCESSAT, here, stub.Text(file+"/."), zero), stub.End, unix.EPERM, unix.ENOSYS)
		executable := sys(unix.SYS_FACCESSAT2, here, stub.Text(file), stub.Int(unix.X_OK), stub.Int(unix.AT_EACCESS))
		byIDs := sys(unix.SYS_FACCESSAT, here, stub.Text(file), stub.Int(unix.X_OK))
		if len(files) > 1 {
			missing := []unix.Errno{unix.ENOENT, unix.EACCES, unix.ENOTDIR, unix.ELOOP, unix.ENAMETOOLONG}
			executable, byIDs = unless(executable, next, missing...), unless(byIDs, next, missing...)
		}
		ops = append(ops,
			at(this, then(unless(directory, isFile, unix.ENOTDIR, unix.EACCES, unix.ENOENT, unix.ENAMETOOLONG, unix.ELOOP), next)),
			at(isFile, then(unless(executable, fmt.Sprint("ids ", i), unix.EPERM, unix.ENOSYS), stub.End)),
			at(fmt.Sprint("ids ", i), then(byIDs, stub.End)))
	}
	// Nothing was usable: fail with an errno that no lookup has.
	ops = append(ops, at(fmt.Sprint("candidate ", len(files)), closeFD(stub.Int(-1))))
	b.line(Note{From: "process.args[0]", Does: fmt.Sprintf("look for %q", name)}, ops...)

	says := map[unix.Errno]string{
		unix.ENOENT:  fmt.Sprintf("exec: %q: stat %s: no such file or directory", name, name),
		unix.ENOTDIR: fmt.Sprintf("exec: %q: stat %s: not a directory", name, name),
		unix.EACCES:  fmt.Sprintf("exec: %q: permission denied", name),
		unix.EBADF:   fmt.Sprintf("exec: %q: is a directory: permission denied", name),
	}
	if !strings.Contains(name, "/") {
		missing := fmt.Sprintf("exec: %q: executable file not found in $PATH", name)
		says = map[unix.Errno]string{unix.ENOENT: missing, unix.EBADF: missing, unix.ENOTDIR: missing, unix.EACCES: missing}
	}
	b.plan.Child[len(b.plan.Child)-1].Says = says
}

// execute ends the plan: the child becomes the user's process.
func (b *builder) execute(p *specs.Process) {
	b.plan.Child = append(b.plan.Child, b.late...)
	argv, envp := stub.Vector(p.Args), stub.Vector(environment(slices.Concat(p.Env, b.opt.Env), b.facts.Home))
	files := candidates(p)
	var ops []stub.Instr
	for i, file := range files {
		in := sys(unix.SYS_EXECVE, stub.Text(file), argv, envp)
		if i < len(files)-1 {
			in = unless(in, "", unix.ENOENT, unix.EACCES, unix.ENOTDIR, unix.ELOOP, unix.ENAMETOOLONG)
		}
		ops = append(ops, in)
	}
	b.line(Note{From: "process.args", Does: fmt.Sprintf("exec %q", p.Args), Hand: "exec " + strings.Join(p.Args, " ")}, ops...)
	b.plan.Child[len(b.plan.Child)-1].Act = "exec " + p.Args[0]
}

// environment is env with HOME where it has none; of a variable given twice the last stays, as in runc.
func environment(env []string, home string) []string {
	seen := map[string]bool{}
	var list []string
	for i := len(env) - 1; i >= 0; i-- {
		key, _, _ := strings.Cut(env[i], "=")
		if !seen[key] {
			seen[key] = true
			list = append(list, env[i])
		}
	}
	slices.Reverse(list)
	if Variable(list, "HOME") == "" && home != "" {
		list = append(without(list, "HOME="), "HOME="+home)
	}
	return list
}
