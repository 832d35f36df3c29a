package plan_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/sock-runtime/sock/libsock/plan"
)

func unixMode(m os.FileMode) *os.FileMode { return &m }

func TestFindsExecutable(t *testing.T) {
	p := built(t, func(in *input) {
		in.spec.Process.Args = []string{"tool", "-x"}
		in.spec.Process.Env = []string{"PATH=/first", "PATH=/usr/bin:relative::/bin"}
	})
	look := doing(t, p, `look for "tool"`)
	has(t, look, `"/usr/bin/tool"`, `"/bin/tool"`, "close(")
	hasNot(t, look, "relative")
	hasNot(t, look, "/first")
	exec := doing(t, p, "exec")
	has(t, exec, `execve("/usr/bin/tool", ["tool" "-x"]`, "ENOENT: next", `execve("/bin/tool"`)
	line := p.Child[position(t, p, `look for "tool"`)]
	for _, errno := range []unix.Errno{unix.ENOENT, unix.EACCES, unix.EBADF} {
		if got := line.Explains(errno); got != `exec: "tool": executable file not found in $PATH` {
			t.Errorf("%s: %s", errno, got)
		}
	}
	slash := built(t, func(in *input) { in.spec.Process.Args = []string{"./tool"} })
	line = slash.Child[position(t, slash, "look for")]
	for errno, want := range map[unix.Errno]string{
		unix.ENOENT: "no such file or directory", unix.EACCES: "permission denied", unix.EBADF: "is a directory",
	} {
		if got := line.Explains(errno); !strings.Contains(got, `exec: "./tool"`) || !strings.Contains(got, want) {
			t.Errorf("%s: %s", errno, got)
		}
	}
	none := built(t, func(in *input) { in.spec.Process.Args, in.spec.Process.Env = []string{"tool"}, nil })
	has(t, doing(t, none, `look for "tool"`), "close(0xffffffffffffffff)")
}

func TestEnvironment(t *testing.T) {
	for _, test := range []struct {
		env  []string
		home string
		want string
	}{
		{[]string{"A=1", "B=2", "A=3"}, "", `["B=2" "A=3"]`},
		{[]string{"A=1"}, "/home/u", `["A=1" "HOME=/home/u"]`},
		{[]string{"HOME=", "A=1"}, "/home/u", `["A=1" "HOME=/home/u"]`},
		{[]string{"HOME=/mine"}, "/home/u", `["HOME=/mine"]`},
		{[]string{"HOMER=x"}, "/h", `["HOMER=x" "HOME=/h"]`},
	} {
		p := built(t, func(in *input) { in.spec.Process.Env, in.facts.Home = test.env, test.home })
		has(t, doing(t, p, "exec"), test.want+")")
	}
}

func TestCredentials(t *testing.T) {
	umask := uint32(0o27)
	p := built(t, func(in *input) {
		in.spec.Process.User = specs.User{UID: 10, GID: 20, AdditionalGids: []uint32{30, 40}, Umask: &umask}
		in.spec.Process.NoNewPrivileges = true
		in.spec.Process.Capabilities = &specs.LinuxCapabilities{
			Bounding:    []string{"CAP_CHOWN", "CAP_KILL", "CAP_NO_SUCH"},
			Effective:   []string{"CAP_CHOWN"},
			Permitted:   []string{"CAP_CHOWN", "CAP_BPF"},
			Inheritable: []string{"CAP_KILL"},
			Ambient:     []string{"CAP_KILL"},
		}
	})
	bound := doing(t, p, "bound capabilities to 0x21")
	if n := strings.Count(bound, fmt.Sprintf("prctl(%#x", unix.PR_CAPBSET_DROP)); n != unix.CAP_LAST_CAP+1-2 {
		t.Errorf("%d capabilities are dropped", n)
	}
	hasNot(t, bound, fmt.Sprintf("prctl(%#x, 0x0,", unix.PR_CAPBSET_DROP))
	has(t, doing(t, p, "become uid 10"), "prctl(0x8, 0x1", "setgroups(0x2, {1e00000028000000", "setresgid(0x14, 0x14, 0x14)", "setresuid(0xa, 0xa, 0xa)", "prctl(0x8, 0x0", "umask(0x17)")
	// The low words of effective, permitted and inheritable, then the high ones.
	has(t, doing(t, p, "set capabilities"), "capset({2205082000000000}, {010000000100000020000000"+"000000008000000000000000})",
		fmt.Sprintf("prctl(%#x, %#x", unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL),
		fmt.Sprintf("prctl(%#x, %#x, 0x5, 0x0, 0x0); EPERM: next", unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE))
	inOrder(t, p, "set no_new_privs", "bound capabilities", "become uid", "set capabilities", "look for")

	none := built(t, func(in *input) { in.facts.LastCap = 3 })
	doing(t, none, "bound capabilities to 0x0")
	has(t, doing(t, none, "set capabilities: effective 0x0, permitted 0x0, inheritable 0x0, ambient 0x0"), "capset(")
	has(t, doing(t, none, "become uid 0"), "umask(0x12)")
}

func TestRlimits(t *testing.T) {
	p := built(t, func(in *input) {
		in.spec.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_CORE", Soft: 1, Hard: 2}, {Type: "RLIMIT_NOFILE", Soft: 4, Hard: 8}}
		in.facts.NOFILE = &plan.Rlimit{Soft: 99, Hard: 100}
	})
	has(t, doing(t, p, "set RLIMIT_CORE to 1:2"), "prlimit64(0x0, 0x4, {01000000000000000200000000000000}")
	// sock itself needs more descriptors than that up to the end.
	nofile := linesDoing(p, "set RLIMIT_NOFILE to 4:8")
	if len(nofile) != 2 || !strings.Contains(nofile[1][0], "{04000000000000000800000000000000}") {
		t.Errorf("RLIMIT_NOFILE: %q", nofile)
	}
	last := p.Child[len(p.Child)-2:]
	if !strings.HasPrefix(last[0].Does, "set RLIMIT_NOFILE") && !strings.HasPrefix(last[1].Does, "set RLIMIT_NOFILE") {
		t.Errorf("the last lines are %q and %q", last[0].Does, last[1].Does)
	}
	if n := len(linesDoing(p, "set RLIMIT_NOFILE to 99")); n != 0 {
		t.Error("the caller's RLIMIT_NOFILE overrides the config's")
	}
	caller := built(t, func(in *input) { in.facts.NOFILE = &plan.Rlimit{Soft: 1024, Hard: 4096} })
	has(t, doing(t, caller, "set RLIMIT_NOFILE to 1024:4096"), "{00040000000000000010000000000000}")
	in := smallInput()
	in.spec.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_FUN"}}
	if _, err := plan.Build(in.spec, in.opt, in.facts); err == nil || !strings.HasPrefix(err.Error(), "process.rlimits[0].type") {
		t.Errorf("unknown limit: %v", err)
	}
}

func TestScheduling(t *testing.T) {
	score := -5
	p := built(t, func(in *input) {
		in.spec.Process.OOMScoreAdj = &score
		in.spec.Process.IOPriority = &specs.LinuxIOPriority{Class: specs.IOPRIO_CLASS_BE, Priority: 4}
		in.spec.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedFIFO, Priority: 3, Flags: []specs.LinuxSchedulerFlag{specs.SchedFlagResetOnFork}}
		in.spec.Linux.Personality = &specs.LinuxPersonality{Domain: specs.PerLinux32}
	})
	has(t, doing(t, p, "set oom_score_adj to -5"), `openat(<proc>, "self/oom_score_adj"`, `write($12, "-5", 0x2) == 2`)
	has(t, doing(t, p, "set the I/O priority"), "ioprio_set(0x1, 0x0, 0x4004)")
	// struct sched_attr: size and policy, flags, nice and priority, then the deadline's three.
	has(t, doing(t, p, "set the scheduling policy to SCHED_FIFO"), "sched_setattr(0x0, {3000000001000000"+"0100000000000000"+"0000000003000000"+strings.Repeat("00", 24)+"}, 0x0)")
	has(t, doing(t, p, "set the personality"), "personality(0x8)")
}

func TestWorkingDirectory(t *testing.T) {
	p := built(t, func(in *input) { in.spec.Process.Cwd = "/a/../work" })
	inOrder(t, p, "make the working directory /work", "make it the root", "enter the working directory /work", "become uid", "enter the working directory /work, if root could not")
	const noMagicLinks = "0200000000000000}" // open_how.resolve
	for _, line := range linesDoing(p, "enter the working directory") {
		has(t, strings.Join(line, "\n"), `openat2(0xffffffffffffff9c, "/work"`, noMagicLinks, "fchdir(")
	}
	line := p.Child[position(t, p, "enter the working directory")]
	if got := line.Explains(unix.ENOTDIR); !strings.Contains(got, "not a directory") || !strings.Contains(got, "/a/../work") {
		t.Errorf("ENOTDIR: %s", got)
	}
}

func TestKeyringAndNames(t *testing.T) {
	p := built(t, func(in *input) {
		in.spec.Hostname, in.spec.Domainname = "subzero", "example"
		in.spec.Linux.Sysctl = map[string]string{"net.ipv4.ip_forward": "1", "kernel.msgmax": "9"}
	})
	has(t, doing(t, p, "join a new session keyring"), `keyctl(`, `"_ses.box"`, "ENOSYS: end")
	has(t, doing(t, p, "set the host name"), `sethostname("subzero", 0x7)`)
	has(t, doing(t, p, "set the domain name"), `setdomainname("example", 0x7)`)
	has(t, doing(t, p, "set sysctl net.ipv4.ip_forward"), `openat2(<proc>, "sys/net/ipv4/ip_forward"`, `write($12, "1", 0x1)`)
	inOrder(t, p, "set sysctl kernel.msgmax", "set sysctl net.ipv4.ip_forward")
	shared := built(t, func(in *input) { in.opt.NoKeyring = true })
	if n := len(linesDoing(shared, "join a new session keyring")); n != 0 {
		t.Error("--no-new-keyring is ignored")
	}
}

func TestStdio(t *testing.T) {
	p := built(t, func(in *input) { in.opt.Stdio = true })
	has(t, doing(t, p, "take its stdio"), "dup3(<stdin>, 0x0, 0x0)", "close(<stdin>)", "dup3(<stdout>, 0x1, 0x0)", "dup3(<stderr>, 0x2, 0x0)")
	inOrder(t, p, "keep other processes out", "take its stdio", "let no mount out")
	terminal := built(t, func(in *input) { in.opt.Stdio, in.opt.Console, in.spec.Process.Terminal = true, true, true })
	if len(linesDoing(terminal, "take its stdio")) != 0 {
		t.Error("a terminal is its stdio")
	}
}

func TestBuildExec(t *testing.T) {
	in := smallInput()
	in.facts.Cgroup = legacy().Cgroup
	in.spec.Process.ExecCPUAffinity = &specs.CPUAffinity{Initial: "0", Final: "1,65"}
	in.spec.Process.Terminal, in.opt.Console = true, true
	p, err := plan.BuildExec(in.spec.Process, plan.Join{Flags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET, Root: true}, in.opt, in.facts)
	if err != nil {
		t.Fatal(err)
	}
	compiles(t, p)
	if p.Clone.PID == "" || p.Clone.Flags != 0 {
		t.Errorf("clone %+v", p.Clone)
	}
	has(t, doing(t, p, "run on CPUs 0"), "sched_setaffinity(0x0, ")
	has(t, doing(t, p, "run on CPUs 1,65"), "sched_setaffinity(0x0, 0x80, {02000000000000000200000000000000")
	has(t, doing(t, p, "join the container"), fmt.Sprintf("setns(<pidfd>, %#x)", unix.CLONE_NEWNS|unix.CLONE_NEWNET), "fchdir(<rootdir>)", `chroot(".")`)
	inOrder(t, p, "keep other processes out", "run on CPUs 0", "join the cgroup in systemd", "run on CPUs 1,65", "join the container", "open a pty", "become uid", "exec")
	if n := len(actions[plan.MakeCgroup](p)) + len(p.Undo); n != 0 {
		t.Error("exec makes something that would have to be undone")
	}
	in.spec.Process.ExecCPUAffinity.Final = "x"
	if _, err := plan.BuildExec(in.spec.Process, plan.Join{}, in.opt, in.facts); err == nil || !strings.HasPrefix(err.Error(), "process.execCPUAffinity.final") {
		t.Errorf("bad list: %v", err)
	}
}

func TestBuildHook(t *testing.T) {
	host, err := plan.BuildHook(specs.Hook{Path: "/hook", Args: []string{"hook", "a"}, Env: []string{"K=V"}}, plan.Join{}, nil, plan.Facts{LastCap: unix.CAP_LAST_CAP})
	if err != nil {
		t.Fatal(err)
	}
	compiles(t, host)
	has(t, doing(t, host, "take the state as input"), "dup3(<hook.input>, 0x0", "dup3(<hook.output>, 0x1", "dup3(<hook.output>, 0x2")
	has(t, doing(t, host, "exec /hook"), `execve("/hook", ["hook" "a"], ["K=V"])`)
	if n := len(linesDoing(host, "join the container")) + len(linesDoing(host, "become uid")); n != 0 {
		t.Error("a hook of the runtime's namespaces joins the container")
	}

	// A program of the image's is held by all that holds the container's process.
	in := smallInput()
	in.spec.Process.User.UID, in.spec.Process.NoNewPrivileges = 5, true
	in.spec.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NPROC", Soft: 1, Hard: 1}}
	in.facts.Cgroup = legacy().Cgroup
	inside, err := plan.BuildHook(specs.Hook{Path: "/hook"}, plan.Join{Flags: unix.CLONE_NEWNS, Root: true}, in.spec.Process, in.facts)
	if err != nil {
		t.Fatal(err)
	}
	compiles(t, inside)
	has(t, doing(t, inside, "exec /hook"), `["/hook"]`)
	inOrder(t, inside, "join the cgroup in devices", "set RLIMIT_NPROC", "join the container", "set no_new_privs", "close what is not the hook's", "become uid 5", "exec /hook")
}
