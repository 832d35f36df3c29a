package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func TestWorkingDirectory(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	cwd := func(dir string, uid uint32) change {
		return func(c *specs.Spec) {
			c.Process.Cwd = dir
			c.Process.User = specs.User{UID: uid, GID: uid}
		}
	}
	equal(t, "existing", s.output("pwd", cwd("/etc", 0)), "/etc\n")
	equal(t, "missing", s.output("pwd", cwd("/made/for/it", 0), writable), "/made/for/it\n")

	b := s.bundle(cwd("/closed", 1000), args("/bin/pwd"))
	must(t, os.Mkdir(filepath.Join(b.rootfs, "closed"), 0o700))
	equal(t, "one that only root may enter", s.ok("run", "--bundle", b.dir, s.id()), "/closed\n")

	b = s.bundle(cwd("/home", 1000), args("pwd"))
	must(t, os.Mkdir(filepath.Join(b.rootfs, "home"), 0o700))
	must(t, os.Chown(filepath.Join(b.rootfs, "home"), 1000, 1000))
	b2 := s.bundle(cwd("/etc/passwd", 0), args("pwd"))
	s.fails(said("/etc/passwd", "not a directory"), "create", "--bundle", b2.dir, "file")
	equal(t, "the user's own", s.ok("run", "--bundle", b.dir, s.id()), "/home\n")
}

func TestEnvironment(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	out := s.output("env | sort", func(c *specs.Spec) {
		c.Process.Env = []string{"PATH=/bin", "A=1", "B=x=y", "A=2", "EMPTY="}
		c.Process.User.UID = 1000
	})
	equal(t, "environment", out, "A=2\nB=x=y\nEMPTY=\nHOME=/home/user\nPATH=/bin\nPWD=/\nSHLVL=1\n")
}

func TestHome(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, want string
		change     change
	}{
		{"root's", "/root", writable},
		{"a user's", "/home/user", func(c *specs.Spec) { c.Process.User.UID = 1000 }},
		{"unknown user's", "/", func(c *specs.Spec) { c.Process.User.UID = 4321 }},
		{"given", "/given", func(c *specs.Spec) { c.Process.Env = append(c.Process.Env, "HOME=/given") }},
		{"empty", "/root", func(c *specs.Spec) { c.Process.Env = append(c.Process.Env, "HOME=") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			equal(t, "HOME", newSandbox(t).output("echo $HOME", c.change), c.want+"\n")
		})
	}
}

// The texts are those that Docker makes its exit status from, and it is create that fails.
func TestExecutable(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		args  []string
		texts []string
	}{
		{"not in PATH", []string{"nosuch"}, said(`exec: "nosuch": executable file not found in $PATH`)},
		{"missing file", []string{"/bin/nosuch"}, said(`exec: "/bin/nosuch"`, "no such file or directory")},
		{"relative missing file", []string{"./nosuch"}, said(`exec: "./nosuch"`, "no such file or directory")},
		{"not executable", []string{"/etc/passwd"}, said(`exec: "/etc/passwd": permission denied`)},
		{"directory", []string{"/etc"}, said(`exec: "/etc": `)},
		{"not executable in PATH", []string{"plain"}, said(`exec: "plain": `)},
		{"empty name", []string{""}, said(`exec: "": `)},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newSandbox(t)
			b := s.bundle(args(c.args...))
			writeFile(t, filepath.Join(b.rootfs, "bin/plain"), "", 0o644)
			texts := append(said("unable to start container process"), c.texts...)
			oneLine(t, s.fails(texts, "create", "--bundle", b.dir, "missing"))
			s.checkNothingLeft()
			oneLine(t, s.fails(texts, "run", "--bundle", b.dir, "missing"))
			s.checkNothingLeft()
		})
	}
}

func TestExecutableSeenByUser(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	b := s.bundle(args("/closed/sh"), func(c *specs.Spec) { c.Process.User.UID = 1000 })
	must(t, os.Mkdir(filepath.Join(b.rootfs, "closed"), 0o700))
	must(t, os.Link(busybox, filepath.Join(b.rootfs, "closed/sh")))
	s.fails(said("permission denied"), "create", "--bundle", b.dir, "closed")
	s.checkNothingLeft()
}

func TestScriptWithInterpreter(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	b := s.bundle(args("script", "a b", ""))
	writeFile(t, filepath.Join(b.rootfs, "bin/script"), "#!/bin/sh\necho $# \"$1\"\n", 0o755)
	equal(t, "output", s.ok("run", "--bundle", b.dir, s.id()), "2 a b\n")
	b = s.bundle(args("alias", "linked"))
	writeFile(t, filepath.Join(b.rootfs, "opt/say"), "#!/bin/sh\necho $1\n", 0o755)
	must(t, os.Symlink("/opt/say", filepath.Join(b.rootfs, "bin/alias"))) // the container's /opt, not the host's
	equal(t, "output", s.ok("run", "--bundle", b.dir, s.id()), "linked\n")
	equal(t, "relative to cwd", s.ok("run", "--bundle", s.bundle(args("./echo", "here"), func(c *specs.Spec) { c.Process.Cwd = "/bin" }).dir, s.id()), "here\n")
	// What only execve can find out is an error all the same, at the latest of start.
	b = s.bundle(args("broken"))
	writeFile(t, filepath.Join(b.rootfs, "bin/broken"), "#!/no/interpreter\n", 0o755)
	s.fails(said("no such file or directory"), "run", "--bundle", b.dir, "broken")
	s.checkNothingLeft()
	b = s.bundle(args("garbage"))
	writeFile(t, filepath.Join(b.rootfs, "bin/garbage"), "\x00\x01\x02\x03", 0o755)
	s.fails(said("exec format error"), "run", "--bundle", b.dir, "garbage")
	s.checkNothingLeft()
}

func TestUser(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	user := func(c *specs.Spec) {
		c.Process.User = specs.User{UID: 1000, GID: 1001, AdditionalGids: []uint32{5, 1001, 77}, Umask: ptr(uint32(0o27))}
	}
	out := s.output("id -u; id -g; grep -E 'Uid|Gid|Groups|Umask' /proc/self/status", user)
	for _, want := range []string{"1000\n1001\n", "Uid:\t1000\t1000\t1000\t1000\n", "Gid:\t1001\t1001\t1001\t1001\n", "Groups:\t5 77 1001", "Umask:\t0027\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in %q", want, out)
		}
	}
	equal(t, "default umask", s.output("umask"), "0022\n")
	equal(t, "groups of root", statusField(s.output("cat /proc/self/status"), "Groups"), "")
}

const (
	capKill, capNetBind, capChown = 1 << 5, 1 << 10, 1 << 0
)

func TestCapabilities(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name                        string
		caps                        *specs.LinuxCapabilities
		uid                         uint32
		bnd, eff, prm, inh, ambient uint64
	}{
		{
			"root", &specs.LinuxCapabilities{
				Bounding: []string{"CAP_KILL", "CAP_CHOWN"}, Permitted: []string{"CAP_KILL", "CAP_CHOWN"}, Effective: []string{"CAP_KILL"},
			}, 0, capKill | capChown, capKill | capChown, capKill | capChown, 0, 0, // execve gives root what is in the bounding set
		},
		{"none", nil, 0, 0, 0, 0, 0, 0},
		{"empty", &specs.LinuxCapabilities{}, 0, 0, 0, 0, 0, 0},
		{
			"user without ambient", &specs.LinuxCapabilities{
				Bounding: []string{"CAP_KILL"}, Permitted: []string{"CAP_KILL"}, Effective: []string{"CAP_KILL"}, Inheritable: []string{"CAP_KILL"},
			}, 1000, capKill, 0, 0, capKill, 0,
		},
		{
			"user with ambient", &specs.LinuxCapabilities{
				Bounding: []string{"CAP_KILL", "CAP_CHOWN", "CAP_NET_BIND_SERVICE"}, Permitted: []string{"CAP_KILL", "CAP_NET_BIND_SERVICE"},
				Inheritable: []string{"CAP_KILL", "CAP_NET_BIND_SERVICE"}, Ambient: []string{"CAP_NET_BIND_SERVICE"}, Effective: []string{"CAP_KILL"},
			}, 1000, capKill | capChown | capNetBind, capNetBind, capNetBind, capKill | capNetBind, capNetBind,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newSandbox(t)
			status := s.output("cat /proc/self/status", func(config *specs.Spec) {
				config.Process.Capabilities = c.caps
				config.Process.User.UID = c.uid
			})
			for name, want := range map[string]uint64{"CapBnd": c.bnd, "CapEff": c.eff, "CapPrm": c.prm, "CapInh": c.inh, "CapAmb": c.ambient} {
				equal(t, name, statusField(status, name), fmt.Sprintf("%016x", want))
			}
		})
	}
}

func TestRlimits(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	c := s.running(func(c *specs.Spec) {
		c.Process.Rlimits = []specs.POSIXRlimit{
			{Type: "RLIMIT_NOFILE", Soft: 333, Hard: 444},
			{Type: "RLIMIT_CORE", Soft: 0, Hard: 0},
			{Type: "RLIMIT_NPROC", Soft: 500, Hard: 600},
			{Type: "RLIMIT_STACK", Soft: 4 << 20, Hard: 8 << 20},
		}
	})
	limits := strings.Join(strings.Fields(c.proc("limits")), " ")
	for _, want := range []string{"Max open files 333 444", "Max core file size 0 0", "Max processes 500 600", "Max stack size 4194304 8388608"} {
		if !strings.Contains(limits, want) {
			t.Errorf("no %q in %s", want, limits)
		}
	}
}

// Go raises the soft limit of its own process: a container without a limit of its own gets the caller's.
func TestInheritedNoFile(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	b := s.bundle(script("ulimit -Sn"), func(c *specs.Spec) { c.Process.Rlimits = nil })
	for _, want := range []string{"123\n", "500\n"} {
		cmd := s.command("run", "--bundle", b.dir, s.id())
		cmd.Args = append([]string{"sh", "-c", "ulimit -Sn " + strings.TrimSpace(want) + `; exec "$0" "$@"`}, append([]string{binary}, cmd.Args[1:]...)...)
		cmd.Path = "/bin/sh"
		equal(t, "soft limit", s.do(cmd).stdout, want)
	}
}

func TestNoNewPrivileges(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	for _, on := range []bool{true, false} {
		status := s.output("cat /proc/self/status", func(c *specs.Spec) { c.Process.NoNewPrivileges = on })
		equal(t, "NoNewPrivs", statusField(status, "NoNewPrivs"), map[bool]string{true: "1", false: "0"}[on])
	}
}

func TestOOMScoreAdj(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	equal(t, "given", s.output("cat /proc/self/oom_score_adj", func(c *specs.Spec) { c.Process.OOMScoreAdj = ptr(321) }), "321\n")
	equal(t, "inherited", s.output("cat /proc/self/oom_score_adj"), readFile("/proc/self/oom_score_adj"))
}

func TestIOPriority(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	c := s.running(func(c *specs.Spec) {
		c.Process.IOPriority = &specs.LinuxIOPriority{Class: specs.IOPRIO_CLASS_BE, Priority: 6}
	})
	const whoProcess, classBestEffort = 1, 2
	got, _, errno := unix.Syscall(unix.SYS_IOPRIO_GET, whoProcess, uintptr(c.pid()), 0)
	if errno != 0 {
		t.Fatal(errno)
	}
	equal(t, "priority", got, classBestEffort<<13|6)
}

func TestScheduler(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		give specs.Scheduler
		want unix.SchedAttr
	}{
		{"batch", specs.Scheduler{Policy: specs.SchedBatch, Nice: 7}, unix.SchedAttr{Policy: unix.SCHED_BATCH, Nice: 7}},
		{"idle", specs.Scheduler{Policy: specs.SchedIdle}, unix.SchedAttr{Policy: unix.SCHED_IDLE}},
		{
			"fifo",
			specs.Scheduler{Policy: specs.SchedFIFO, Priority: 3, Flags: []specs.LinuxSchedulerFlag{specs.SchedFlagResetOnFork}},
			unix.SchedAttr{Policy: unix.SCHED_FIFO, Priority: 3, Flags: unix.SCHED_FLAG_RESET_ON_FORK},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newSandbox(t)
			box := s.running(func(config *specs.Spec) {
				config.Process.Scheduler = &c.give
				// Where the kernel groups real-time tasks, a cgroup has no time for them unless it is given some.
				if _, err := os.Stat("/sys/fs/cgroup/cpu/cpu.rt_runtime_us"); err == nil {
					config.Linux.Resources.CPU = &specs.LinuxCPU{RealtimePeriod: ptr(uint64(1000000)), RealtimeRuntime: ptr(int64(10000))}
				}
			})
			got, err := unix.SchedGetAttr(box.pid(), 0)
			must(t, err)
			got.Size, got.Runtime = 0, 0 // the kernel tells its slice
			equal(t, "scheduler", *got, c.want)
		})
	}
}

func TestPersonality(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	for domain, want := range map[specs.LinuxPersonalityDomain]string{specs.PerLinux: "00000000\n", specs.PerLinux32: "00000008\n"} {
		c := s.running(func(c *specs.Spec) { c.Linux.Personality = &specs.LinuxPersonality{Domain: domain} })
		equal(t, "personality", c.proc("personality"), want)
		s.ok("delete", "--force", c.name)
	}
}

// The session keyring is the container's own, unless the caller wants none.
func TestKeyring(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	keys := func(flags ...string) string {
		b := s.bundle(args("cat", "/proc/keys"), func(c *specs.Spec) { c.Linux.MaskedPaths = nil })
		return s.ok(append(append([]string{"run"}, flags...), "--bundle", b.dir, s.id())...)
	}
	if out := keys(); !strings.Contains(out, "_ses."+s.ids[len(s.ids)-1]) {
		t.Errorf("keys: %s", out)
	}
	if out := keys("--no-new-keyring"); strings.Contains(out, "_ses."+s.ids[len(s.ids)-1]) {
		t.Errorf("keys: %s", out)
	}
}

// descriptors lists what a process has open.
func descriptors(t *testing.T, pid int) map[string]string {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(dir)
	must(t, err)
	open := make(map[string]string)
	for _, e := range entries {
		open[e.Name()], _ = os.Readlink(filepath.Join(dir, e.Name()))
	}
	return open
}

func TestDescriptors(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	extra, err := os.Open("/etc")
	must(t, err)
	defer extra.Close()

	c := &container{sandbox: s, name: s.id(), bundle: s.bundle()}
	cmd := s.command("create", "--bundle", c.dir(), c.name)
	cmd.ExtraFiles = []*os.File{extra, extra} // a careless caller's
	if r := s.do(cmd); r.code != 0 {
		t.Fatal(r)
	}
	eventually(t, "the waiting process with nothing but its gate", func() error {
		for fd, to := range descriptors(t, c.pid()) {
			if atoi(fd) > 2 && !strings.HasPrefix(to, s.root) {
				return fmt.Errorf("has %s open: %s", fd, to)
			}
		}
		return nil
	})
	s.ok("start", c.name)
	if open := descriptors(t, c.pid()); len(open) != 3 {
		t.Errorf("the process has open: %v", open)
	}

	cmd = s.command("exec", "--detach", "--pid-file", filepath.Join(s.dir, "exec.pid"), c.name, "sleep", "1000")
	cmd.ExtraFiles = []*os.File{extra}
	if r := s.do(cmd); r.code != 0 {
		t.Fatal(r)
	}
	if open := descriptors(t, atoi(readFile(filepath.Join(s.dir, "exec.pid")))); len(open) != 3 {
		t.Errorf("exec's process has open: %v", open)
	}
}

func TestPreserveFDs(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	r, w, err := os.Pipe()
	must(t, err)
	defer r.Close()
	_, err = w.WriteString("through a pipe\n")
	must(t, err)
	w.Close()
	other, err := os.Open("/etc/passwd")
	must(t, err)
	defer other.Close()

	c := &container{sandbox: s, name: s.id(), bundle: s.bundle(script("cat <&3; sleep 1000"))}
	cmd := s.command("create", "--preserve-fds", "1", "--bundle", c.dir(), c.name)
	out := s.logFile("stdout")
	cmd.Stdout, cmd.ExtraFiles = out, []*os.File{r, other}
	c.stdout = out.Name()
	if res := s.do(cmd); res.code != 0 {
		t.Fatal(res)
	}
	s.ok("start", c.name)
	c.waitOutput("through a pipe\n")
	open := descriptors(t, c.pid())
	if len(open) != 4 || !strings.HasPrefix(open["3"], "pipe:") {
		t.Errorf("open: %v", open)
	}
}

// What the caller ignores or blocks is not the container's business.
func TestSignalsAreClean(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var blocked, old unix.Sigset_t
	blocked.Val[0] = 1<<(unix.SIGUSR2-1) | 1<<(unix.SIGTERM-1)
	must(t, unix.PthreadSigmask(unix.SIG_BLOCK, &blocked, &old))
	defer func() { _ = unix.PthreadSigmask(unix.SIG_SETMASK, &old, nil) }()

	c := &container{sandbox: s, name: s.id(), bundle: s.bundle()}
	cmd := s.command("run", "--detach", "--bundle", c.dir(), c.name)
	cmd.Args = append([]string{"sh", "-c", `trap "" HUP USR1 PIPE; exec "$0" "$@"`, binary}, cmd.Args[1:]...)
	cmd.Path = "/bin/sh"
	if r := s.do(cmd); r.code != 0 {
		t.Fatal(r)
	}
	status := c.proc("status")
	for _, name := range []string{"SigBlk", "SigIgn", "SigCgt", "SigPnd"} {
		equal(t, name, statusField(status, name), "0000000000000000")
	}
}

func TestNewSession(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	c := s.running()
	pid := c.pid()
	sid, err := unix.Getsid(pid)
	must(t, err)
	equal(t, "session", sid, pid)
}

// A new process has the kernel's defaults, whatever the runtime set for itself.
func TestProcessAttributes(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	c := s.running()
	equal(t, "comm", c.proc("comm"), "sleep\n")
	equal(t, "cmdline", c.proc("cmdline"), "sleep\x001000\x00")
	for _, leaked := range []string{"SOCK_TEST_MARK", "NOTIFY", "_LIBCONTAINER"} {
		if strings.Contains(c.proc("environ"), leaked) {
			t.Errorf("the runtime's environment leaks: %q", c.proc("environ"))
		}
	}
}

// A caller without stdio gives the container /dev/null, not some descriptor of the runtime's own.
func TestClosedStdio(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	c := &container{sandbox: s, name: s.id(), bundle: s.bundle()}
	cmd := s.command("create", "--bundle", c.dir(), c.name)
	cmd.Args = append([]string{"sh", "-c", `exec "$0" "$@" <&- >&- 2>&-`, binary}, cmd.Args[1:]...)
	cmd.Path = "/bin/sh"
	if r := s.do(cmd); r.code != 0 {
		t.Fatal(r)
	}
	s.ok("start", c.name)
	for fd, to := range descriptors(t, c.pid()) {
		if to != "/dev/null" {
			t.Errorf("descriptor %s is %s", fd, to)
		}
	}
}
