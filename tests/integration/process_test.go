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

	. "github.com/sock-runtime/sock/tests/sandbox"
)

func TestWorkingDirectory(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	cwd := func(dir string, uid uint32) Change {
		return func(c *specs.Spec) {
			c.Process.Cwd = dir
			c.Process.User = specs.User{UID: uid, GID: uid}
		}
	}
	Equal(t, "existing", s.OutputOf("pwd", cwd("/etc", 0)), "/etc\n")
	Equal(t, "missing", s.OutputOf("pwd", cwd("/made/for/it", 0), Writable), "/made/for/it\n")

	b := s.Bundle(cwd("/closed", 1000), Args("/bin/pwd"))
	Must(t, os.Mkdir(filepath.Join(b.Rootfs, "closed"), 0o700))
	Equal(t, "one that only root may enter", s.OK("run", "--bundle", b.Dir, s.NewID()), "/closed\n")

	b = s.Bundle(cwd("/home", 1000), Args("pwd"))
	Must(t, os.Mkdir(filepath.Join(b.Rootfs, "home"), 0o700))
	Must(t, os.Chown(filepath.Join(b.Rootfs, "home"), 1000, 1000))
	b2 := s.Bundle(cwd("/etc/passwd", 0), Args("pwd"))
	s.Fails(Said("/etc/passwd", "not a directory"), "create", "--bundle", b2.Dir, "file")
	Equal(t, "the user's own", s.OK("run", "--bundle", b.Dir, s.NewID()), "/home\n")
}

func TestEnvironment(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	out := s.OutputOf("env | sort", func(c *specs.Spec) {
		c.Process.Env = []string{"PATH=/bin", "A=1", "B=x=y", "A=2", "EMPTY="}
		c.Process.User.UID = 1000
	})
	Equal(t, "environment", out, "A=2\nB=x=y\nEMPTY=\nHOME=/home/user\nPATH=/bin\nPWD=/\nSHLVL=1\n")
}

func TestHome(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, want string
		change     Change
	}{
		{"root's", "/root", Writable},
		{"a user's", "/home/user", func(c *specs.Spec) { c.Process.User.UID = 1000 }},
		{"unknown user's", "/", func(c *specs.Spec) { c.Process.User.UID = 4321 }},
		{"given", "/given", func(c *specs.Spec) { c.Process.Env = append(c.Process.Env, "HOME=/given") }},
		{"empty", "/root", func(c *specs.Spec) { c.Process.Env = append(c.Process.Env, "HOME=") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			Equal(t, "HOME", NewSandbox(t).OutputOf("echo $HOME", c.change), c.want+"\n")
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
		{"not in PATH", []string{"nosuch"}, Said(`exec: "nosuch": executable file not found in $PATH`)},
		{"missing file", []string{"/bin/nosuch"}, Said(`exec: "/bin/nosuch"`, "no such file or directory")},
		{"relative missing file", []string{"./nosuch"}, Said(`exec: "./nosuch"`, "no such file or directory")},
		{"not executable", []string{"/etc/passwd"}, Said(`exec: "/etc/passwd": permission denied`)},
		{"directory", []string{"/etc"}, Said(`exec: "/etc": `)},
		{"not executable in PATH", []string{"plain"}, Said(`exec: "plain": `)},
		{"empty name", []string{""}, Said(`exec: "": `)},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := NewSandbox(t)
			b := s.Bundle(Args(c.args...))
			WriteFile(t, filepath.Join(b.Rootfs, "bin/plain"), "", 0o644)
			texts := append(Said("unable to start container process"), c.texts...)
			OneLine(t, s.Fails(texts, "create", "--bundle", b.Dir, "missing"))
			s.CheckNothingLeft()
			OneLine(t, s.Fails(texts, "run", "--bundle", b.Dir, "missing"))
			s.CheckNothingLeft()
		})
	}
}

func TestExecutableSeenByUser(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	b := s.Bundle(Args("/closed/sh"), func(c *specs.Spec) { c.Process.User.UID = 1000 })
	Must(t, os.Mkdir(filepath.Join(b.Rootfs, "closed"), 0o700))
	Must(t, os.Link(Busybox, filepath.Join(b.Rootfs, "closed/sh")))
	s.Fails(Said("permission denied"), "create", "--bundle", b.Dir, "closed")
	s.CheckNothingLeft()
}

// Capabilities count, not only ids.
func TestExecutableByCapability(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	user := func(c *specs.Spec) { c.Process.User.UID, c.Process.User.GID = 1000, 1000 }
	override := func(c *specs.Spec) {
		caps := []string{"CAP_DAC_OVERRIDE"}
		c.Process.Capabilities = &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps, Inheritable: caps, Ambient: caps}
	}
	b := s.Bundle(user, Args("mine"))
	WriteFile(t, filepath.Join(b.Rootfs, "bin/mine"), "#!/bin/sh\necho mine\n", 0o700)
	s.Fails(Said(`exec: "mine": executable file not found in $PATH`), "run", "--bundle", b.Dir, s.NewID())
	s.Configure(b, user, override, Args("mine"))
	Equal(t, "output", s.OK("run", "--bundle", b.Dir, s.NewID()), "mine\n")
}

func TestScriptWithInterpreter(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	b := s.Bundle(Args("script", "a b", ""))
	WriteFile(t, filepath.Join(b.Rootfs, "bin/script"), "#!/bin/sh\necho $# \"$1\"\n", 0o755)
	Equal(t, "output", s.OK("run", "--bundle", b.Dir, s.NewID()), "2 a b\n")
	b = s.Bundle(Args("alias", "linked"))
	WriteFile(t, filepath.Join(b.Rootfs, "opt/say"), "#!/bin/sh\necho $1\n", 0o755)
	Must(t, os.Symlink("/opt/say", filepath.Join(b.Rootfs, "bin/alias"))) // the container's /opt, not the host's
	Equal(t, "output", s.OK("run", "--bundle", b.Dir, s.NewID()), "linked\n")
	Equal(t, "relative to cwd", s.OK("run", "--bundle", s.Bundle(Args("./echo", "here"), func(c *specs.Spec) { c.Process.Cwd = "/bin" }).Dir, s.NewID()), "here\n")
	// What only execve can find out is an error all the same, at the latest of start.
	b = s.Bundle(Args("broken"))
	WriteFile(t, filepath.Join(b.Rootfs, "bin/broken"), "#!/no/interpreter\n", 0o755)
	s.Fails(Said("exec broken: no such file or directory"), "run", "--bundle", b.Dir, "broken")
	s.CheckNothingLeft()
	c := s.CreateIn(b)
	s.Fails(Said("exec broken: no such file or directory"), "start", c.ID)
	s.OK("delete", c.ID)
	b = s.Bundle(Args("garbage"))
	WriteFile(t, filepath.Join(b.Rootfs, "bin/garbage"), "\x00\x01\x02\x03", 0o755)
	s.Fails(Said("exec format error"), "run", "--bundle", b.Dir, "garbage")
	s.CheckNothingLeft()
}

func TestUser(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	user := func(c *specs.Spec) {
		c.Process.User = specs.User{UID: 1000, GID: 1001, AdditionalGids: []uint32{5, 1001, 77}, Umask: Ptr(uint32(0o27))}
	}
	out := s.OutputOf("id -u; id -g; grep -E 'Uid|Gid|Groups|Umask' /proc/self/status", user)
	for _, want := range []string{"1000\n1001\n", "Uid:\t1000\t1000\t1000\t1000\n", "Gid:\t1001\t1001\t1001\t1001\n", "Groups:\t5 77 1001", "Umask:\t0027\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in %q", want, out)
		}
	}
	Equal(t, "default umask", s.OutputOf("umask"), "0022\n")
	Equal(t, "groups of root", StatusField(s.OutputOf("cat /proc/self/status"), "Groups"), "")
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
			s := NewSandbox(t)
			status := s.OutputOf("cat /proc/self/status", func(config *specs.Spec) {
				config.Process.Capabilities = c.caps
				config.Process.User.UID = c.uid
			})
			for name, want := range map[string]uint64{"CapBnd": c.bnd, "CapEff": c.eff, "CapPrm": c.prm, "CapInh": c.inh, "CapAmb": c.ambient} {
				Equal(t, name, StatusField(status, name), fmt.Sprintf("%016x", want))
			}
		})
	}
}

func TestRlimits(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	c := s.Running(func(c *specs.Spec) {
		c.Process.Rlimits = []specs.POSIXRlimit{
			{Type: "RLIMIT_NOFILE", Soft: 333, Hard: 444},
			{Type: "RLIMIT_CORE", Soft: 0, Hard: 0},
			{Type: "RLIMIT_NPROC", Soft: 500, Hard: 600},
			{Type: "RLIMIT_STACK", Soft: 4 << 20, Hard: 8 << 20},
		}
	})
	limits := strings.Join(strings.Fields(c.Proc("limits")), " ")
	for _, want := range []string{"Max open files 333 444", "Max core file size 0 0", "Max processes 500 600", "Max stack size 4194304 8388608"} {
		if !strings.Contains(limits, want) {
			t.Errorf("no %q in %s", want, limits)
		}
	}
}

// Go raises the soft limit of its own process: a container without a limit of its own gets the caller's.
func TestInheritedNoFile(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	b := s.Bundle(Script("ulimit -Sn"), func(c *specs.Spec) { c.Process.Rlimits = nil })
	for _, want := range []string{"123\n", "500\n"} {
		cmd := s.Command("run", "--bundle", b.Dir, s.NewID())
		cmd.Args = append([]string{"sh", "-c", "ulimit -Sn " + strings.TrimSpace(want) + `; exec "$0" "$@"`}, append([]string{Binary}, cmd.Args[1:]...)...)
		cmd.Path = "/bin/sh"
		Equal(t, "soft limit", s.Do(cmd).Stdout, want)
	}
}

func TestNoNewPrivileges(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	for _, on := range []bool{true, false} {
		status := s.OutputOf("cat /proc/self/status", func(c *specs.Spec) { c.Process.NoNewPrivileges = on })
		Equal(t, "NoNewPrivs", StatusField(status, "NoNewPrivs"), map[bool]string{true: "1", false: "0"}[on])
	}
}

func TestOOMScoreAdj(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	Equal(t, "given", s.OutputOf("cat /proc/self/oom_score_adj", func(c *specs.Spec) { c.Process.OOMScoreAdj = Ptr(321) }), "321\n")
	Equal(t, "inherited", s.OutputOf("cat /proc/self/oom_score_adj"), ReadFile("/proc/self/oom_score_adj"))
}

func TestIOPriority(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	c := s.Running(func(c *specs.Spec) {
		c.Process.IOPriority = &specs.LinuxIOPriority{Class: specs.IOPRIO_CLASS_BE, Priority: 6}
	})
	const whoProcess, classBestEffort = 1, 2
	got, _, errno := unix.Syscall(unix.SYS_IOPRIO_GET, whoProcess, uintptr(c.Pid()), 0)
	if errno != 0 {
		t.Fatal(errno)
	}
	Equal(t, "priority", got, classBestEffort<<13|6)
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
			s := NewSandbox(t)
			Need(t, !s.Systemd || Unified(), "a slice has no time for real-time tasks")
			box := s.Running(func(config *specs.Spec) {
				config.Process.Scheduler = &c.give
				// Where the kernel groups real-time tasks, a cgroup has no time for them unless it is given some.
				if _, err := os.Stat("/sys/fs/cgroup/cpu/cpu.rt_runtime_us"); err == nil {
					config.Linux.Resources.CPU = &specs.LinuxCPU{RealtimePeriod: Ptr(uint64(1000000)), RealtimeRuntime: Ptr(int64(10000))}
				}
			})
			got, err := unix.SchedGetAttr(box.Pid(), 0)
			Must(t, err)
			got.Size, got.Runtime = 0, 0 // the kernel tells its slice
			Equal(t, "scheduler", *got, c.want)
		})
	}
}

func TestPersonality(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	for domain, want := range map[specs.LinuxPersonalityDomain]string{specs.PerLinux: "00000000\n", specs.PerLinux32: "00000008\n"} {
		c := s.Running(func(c *specs.Spec) { c.Linux.Personality = &specs.LinuxPersonality{Domain: domain} })
		Equal(t, "personality", c.Proc("personality"), want)
		s.OK("delete", "--force", c.ID)
	}
}

// The session keyring is the container's own, unless the caller wants none.
func TestKeyring(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	// The list has the keyrings of all containers on the host, so the names are no other's.
	keys := func(id string, flags ...string) string {
		s.IDs = append(s.IDs, id)
		b := s.Bundle(Args("cat", "/proc/keys"), func(c *specs.Spec) { c.Linux.MaskedPaths = nil })
		return s.OK(append(append([]string{"run"}, flags...), "--bundle", b.Dir, id)...)
	}
	if out := keys(s.Mark + "-own"); !strings.Contains(out, "_ses."+s.Mark+"-own:") {
		t.Errorf("keys: %s", out)
	}
	if out := keys(s.Mark+"-callers", "--no-new-keyring"); strings.Contains(out, "_ses."+s.Mark+"-callers:") {
		t.Errorf("keys: %s", out)
	}
}

func TestDescriptors(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	extra, err := os.Open("/etc")
	Must(t, err)
	defer extra.Close()

	c := &Container{Sandbox: s, ID: s.NewID(), Bundle: s.Bundle()}
	cmd := s.Command("create", "--bundle", c.Dir(), c.ID)
	cmd.ExtraFiles = []*os.File{extra, extra} // a careless caller's
	if r := s.Do(cmd); r.Code != 0 {
		t.Fatal(r)
	}
	Eventually(t, "the waiting process with nothing but its gate", func() error {
		for fd, to := range Descriptors(t, c.Pid()) {
			if Atoi(fd) > 2 && !strings.HasPrefix(to, s.Root) {
				return fmt.Errorf("has %s open: %s", fd, to)
			}
		}
		return nil
	})
	s.OK("start", c.ID)
	if open := Descriptors(t, c.Pid()); len(open) != 3 {
		t.Errorf("the process has open: %v", open)
	}

	cmd = s.Command("exec", "--detach", "--pid-file", filepath.Join(s.Dir, "exec.pid"), c.ID, "sleep", "1000")
	cmd.ExtraFiles = []*os.File{extra}
	if r := s.Do(cmd); r.Code != 0 {
		t.Fatal(r)
	}
	if open := Descriptors(t, Atoi(ReadFile(filepath.Join(s.Dir, "exec.pid")))); len(open) != 3 {
		t.Errorf("exec's process has open: %v", open)
	}
}

func TestPreserveFDs(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	r, w, err := os.Pipe()
	Must(t, err)
	defer r.Close()
	_, err = w.WriteString("through a pipe\n")
	Must(t, err)
	w.Close()
	other, err := os.Open("/etc/passwd")
	Must(t, err)
	defer other.Close()

	c := &Container{Sandbox: s, ID: s.NewID(), Bundle: s.Bundle(Script("cat <&3; sleep 1000"))}
	cmd := s.Command("create", "--preserve-fds", "1", "--bundle", c.Dir(), c.ID)
	out := s.LogFile("stdout")
	cmd.Stdout, cmd.ExtraFiles = out, []*os.File{r, other}
	c.Stdout = out.Name()
	if res := s.Do(cmd); res.Code != 0 {
		t.Fatal(res)
	}
	s.OK("start", c.ID)
	c.WaitOutput("through a pipe\n")
	Eventually(t, "the end of the shell's redirection", func() error {
		if open := Descriptors(t, c.Pid()); len(open) != 4 || !strings.HasPrefix(open["3"], "pipe:") {
			return fmt.Errorf("open: %v", open)
		}
		return nil
	})
}

// What the caller ignores or blocks is not the container's business.
func TestSignalsAreClean(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var blocked, old unix.Sigset_t
	blocked.Val[0] = 1<<(unix.SIGUSR2-1) | 1<<(unix.SIGTERM-1)
	Must(t, unix.PthreadSigmask(unix.SIG_BLOCK, &blocked, &old))
	defer func() { _ = unix.PthreadSigmask(unix.SIG_SETMASK, &old, nil) }()

	c := &Container{Sandbox: s, ID: s.NewID(), Bundle: s.Bundle()}
	cmd := s.Command("run", "--detach", "--bundle", c.Dir(), c.ID)
	cmd.Args = append([]string{"sh", "-c", `trap "" HUP USR1 PIPE; exec "$0" "$@"`, Binary}, cmd.Args[1:]...)
	cmd.Path = "/bin/sh"
	if r := s.Do(cmd); r.Code != 0 {
		t.Fatal(r)
	}
	status := c.Proc("status")
	for _, name := range []string{"SigBlk", "SigIgn", "SigCgt", "SigPnd"} {
		Equal(t, name, StatusField(status, name), "0000000000000000")
	}
}

func TestNewSession(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	c := s.Running()
	pid := c.Pid()
	sid, err := unix.Getsid(pid)
	Must(t, err)
	Equal(t, "session", sid, pid)
}

// A new process has the kernel's defaults, whatever the runtime set for itself.
func TestProcessAttributes(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	c := s.Running()
	Equal(t, "comm", c.Proc("comm"), "sleep\n")
	Equal(t, "cmdline", c.Proc("cmdline"), "sleep\x001000\x00")
	for _, leaked := range []string{"SOCK_TEST_MARK", "NOTIFY", "_LIBCONTAINER"} {
		if strings.Contains(c.Proc("environ"), leaked) {
			t.Errorf("the runtime's environment leaks: %q", c.Proc("environ"))
		}
	}
}

// A caller without stdio gives the container /dev/null, not some descriptor of the runtime's own.
func TestClosedStdio(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	c := &Container{Sandbox: s, ID: s.NewID(), Bundle: s.Bundle()}
	cmd := s.Command("create", "--bundle", c.Dir(), c.ID)
	cmd.Args = append([]string{"sh", "-c", `exec "$0" "$@" <&- >&- 2>&-`, Binary}, cmd.Args[1:]...)
	cmd.Path = "/bin/sh"
	if r := s.Do(cmd); r.Code != 0 {
		t.Fatal(r)
	}
	s.OK("start", c.ID)
	for fd, to := range Descriptors(t, c.Pid()) {
		if to != "/dev/null" {
			t.Errorf("descriptor %s is %s", fd, to)
		}
	}
}
