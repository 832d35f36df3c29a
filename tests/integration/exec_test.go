package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	. "github.com/sock-runtime/sock/tests/sandbox"
)

func TestExec(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	c := s.Running(func(c *specs.Spec) { c.Process.Env = append(c.Process.Env, "FROM=config") })

	exec := func(want string, args ...string) {
		t.Helper()
		Equal(t, strings.Join(args, " "), s.OK(append([]string{"exec"}, args...)...), want)
	}
	exec("hi there\n", c.ID, "echo", "hi there")
	exec("config\n", c.ID, "sh", "-c", "echo $FROM")
	exec("flag 2\n", "--env", "A=flag", "--env", "B=2", c.ID, "sh", "-c", "echo $A $B")
	exec("short\n", "-e", "A=short", c.ID, "sh", "-c", "echo $A")
	exec("/etc\n", "--cwd", "/etc", c.ID, "pwd")
	exec("1000\n1001\n", "--user", "1000:1001", c.ID, "sh", "-c", "id -u; id -g")
	exec("/home/user\n", "-u", "1000", c.ID, "sh", "-c", "echo $HOME")
	exec("Groups: 5 77\n", "-g", "5", "-g", "77", c.ID, "sh", "-c", "echo $(grep Groups /proc/self/status)")
	exec("-x\n", c.ID, "echo", "-x")

	Equal(t, "new privileges", StatusField(s.OK("exec", c.ID, "cat", "/proc/self/status"), "NoNewPrivs"), "1")
	status := s.OK("exec", "--cap", "CAP_CHOWN", c.ID, "cat", "/proc/self/status")
	Equal(t, "CapBnd with --cap", StatusField(status, "CapBnd"), fmt.Sprintf("%016x", 1<<0|1<<5|1<<10|1<<29))

	for want, command := range map[int]string{0: "exit 0", 7: "exit 7", 255: "exit 255", 128 + 9: "kill -9 $$"} {
		Equal(t, command, s.Sock("exec", c.ID, "sh", "-c", command).Code, want)
	}
	cmd := s.Command("exec", c.ID, "sh", "-c", "cat; echo complaint >&2")
	cmd.Stdin = strings.NewReader("from outside\n")
	r := s.Do(cmd)
	Equal(t, "stdout", r.Stdout, "from outside\n")
	Equal(t, "stderr", r.Stderr, "complaint\n")
}

func TestExecErrors(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	c := s.Running()
	for _, e := range []struct {
		texts []string
		args  []string
	}{
		{Said("unable to start container process", `exec: "nosuch": executable file not found in $PATH`), []string{c.ID, "nosuch"}},
		{Said("no such file or directory"), []string{c.ID, "/nosuch"}},
		{Said(`exec: "/etc/passwd": permission denied`), []string{c.ID, "/etc/passwd"}},
		{Said("/nosuch", "no such file or directory"), []string{"--cwd", "/nosuch", c.ID, "true"}},
		{Said("/etc/passwd", "not a directory"), []string{"--cwd", "/etc/passwd", c.ID, "true"}},
		{nil, []string{"--user", "nobody-knows", c.ID, "true"}},
		{Said("NOSUCH"), []string{"--process", filepath.Join(s.Dir, "NOSUCH"), c.ID}},
		{Said("does not exist"), []string{"none", "true"}},
		{nil, []string{c.ID}},
	} {
		r := s.Fails(e.texts, append([]string{"exec"}, e.args...)...)
		Equal(t, "exit status of exec "+strings.Join(e.args, " "), r.Code, 255)
	}
	Equal(t, "processes", fmt.Sprint(Decode[[]int](t, s.OK("ps", "-f", "json", c.ID))), fmt.Sprint([]int{c.Pid()}))
}

func TestExecProcessFile(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	c := s.Running()
	file := s.ProcessFile(&specs.Process{
		Args: []string{"sh", "-c", "pwd; id -u; umask; ulimit -Sn; echo $A; cat /proc/self/oom_score_adj; cat /proc/self/status"},
		Env:  []string{"PATH=/bin", "A=file"}, Cwd: "/tmp", User: specs.User{UID: 12, GID: 13, Umask: Ptr(uint32(0o7))},
		Rlimits: []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 99, Hard: 99}}, OOMScoreAdj: Ptr(200),
		Capabilities: &specs.LinuxCapabilities{Bounding: []string{"CAP_KILL"}},
	})
	out := s.OK("exec", "--process", file, c.ID)
	if !strings.HasPrefix(out, "/tmp\n12\n0007\n99\nfile\n200\n") {
		t.Errorf("output: %s", out)
	}
	Equal(t, "CapBnd", StatusField(out, "CapBnd"), fmt.Sprintf("%016x", 1<<5))
	Equal(t, "NoNewPrivs", StatusField(out, "NoNewPrivs"), "0")

	Must(t, os.WriteFile(file, []byte("{\n\"args\": [\"true\"],,\n}"), 0o644))
	Equal(t, "exit status", s.Fails(nil, "exec", "-p", file, c.ID).Code, 255)
}

func TestExecDetach(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	c := s.Running()
	s.OK("exec", "--detach", "--pid-file", "exec.pid", c.ID, "sleep", "1001")
	pid := Atoi(ReadFile(filepath.Join(s.Dir, "exec.pid")))
	Equal(t, "command", ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)), "sleep\x001001\x00")
	Equal(t, "cgroups", ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid)), c.Proc("cgroup"))
	for _, file := range namespaceFiles {
		Equal(t, file, NamespaceOf(t, pid, file), c.Namespace(file))
	}
	Equal(t, "root", c.Inside("stat -c %i /"), c.Inside(fmt.Sprintf("stat -c %%i /proc/%s/root/", strings.Fields(StatusField(ReadFile(fmt.Sprintf("/proc/%d/status", pid)), "NSpid"))[1])))
	Equal(t, "processes", len(Decode[[]int](t, s.OK("ps", "-f", "json", c.ID))), 2)
}

func TestExecInOtherStates(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	c := s.Create()
	Equal(t, "created", s.OK("exec", c.ID, "echo", "early"), "early\n")
	Equal(t, "status", c.State().Status, "created")
	s.OK("start", c.ID)
	s.OK("pause", c.ID)
	Equal(t, "exit status", s.Fails(Said("cannot exec in a paused container"), "exec", c.ID, "true").Code, 255)
	cmd := s.Command("exec", "--ignore-paused", c.ID, "echo", "thawed")
	s.Start(cmd)
	Eventually(t, "the frozen process", func() error {
		if n := len(strings.Fields(ReadFile(c.CgroupFile("freezer", "cgroup.procs")))); n != 2 {
			return fmt.Errorf("%d processes", n)
		}
		return nil
	})
	s.OK("resume", c.ID)
	Equal(t, "output", s.Finish(cmd).Stdout, "thawed\n")
	s.OK("kill", c.ID, "KILL")
	c.WantStatus("stopped")
	Equal(t, "exit status", s.Fails(nil, "exec", c.ID, "true").Code, 255)
}

func TestExecPreserveFDs(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	c := s.Running()
	r, w, err := os.Pipe()
	Must(t, err)
	_, err = w.WriteString("piped\n")
	Must(t, err)
	w.Close()
	cmd := s.Command("exec", "--preserve-fds", "1", c.ID, "sh", "-c", "cat <&3")
	cmd.ExtraFiles = []*os.File{r}
	Equal(t, "output", s.Do(cmd).Stdout, "piped\n")
	r.Close()
}

func TestExecSubCgroup(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	c := s.Running(WithoutNamespace(specs.CgroupNamespace)) // whose root were /
	dir := c.CgroupFile("pids", "sub")
	Must(t, os.Mkdir(dir, 0o755))
	controller := ByCgroup("pids:", "")
	r := s.Sock("exec", "--cgroup", controller+"sub", c.ID, "grep", ":"+controller, "/proc/self/cgroup")
	if r.Code != 0 || !strings.HasSuffix(r.Stdout, s.Cgroup()+"/sub\n") {
		t.Error(r)
	}
	s.Fails(Said("missing"), "exec", "--cgroup", controller+"missing", c.ID, "true")
	s.Fails(Said("bad sub cgroup path"), "exec", "--cgroup", controller+"../..", c.ID, "true")
	s.OK("delete", "--force", c.ID)
	s.CheckNothingLeft()
}

func TestExecCPUAffinity(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	var own unix.CPUSet
	Must(t, unix.SchedGetaffinity(0, &own))
	Need(t, own.IsSet(0) && own.IsSet(1), "needs the CPUs 0 and 1")
	c := s.Running(func(c *specs.Spec) { c.Process.ExecCPUAffinity = &specs.CPUAffinity{Initial: "0", Final: "1"} })
	Equal(t, "from the config", StatusField(s.OK("exec", c.ID, "cat", "/proc/self/status"), "Cpus_allowed_list"), "1")
	file := s.ProcessFile(&specs.Process{Args: []string{"/bin/cat", "/proc/self/status"}, Cwd: "/", ExecCPUAffinity: &specs.CPUAffinity{Final: "0"}})
	Equal(t, "from the process file", StatusField(s.OK("exec", "--process", file, c.ID), "Cpus_allowed_list"), "0")
	Equal(t, "init's is not restricted", StatusField(c.Proc("status"), "Cpus_allowed_list"), StatusField(ReadFile("/proc/self/status"), "Cpus_allowed_list"))
}

func TestExecManyAtOnce(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	c := s.Running()
	var finish []func() Result
	for i := range 16 {
		cmd := s.Command("exec", c.ID, "sh", "-c", fmt.Sprintf("exit %d", i))
		s.Start(cmd)
		finish = append(finish, func() Result { return s.Finish(cmd) })
	}
	for i, f := range finish {
		Equal(t, "exit status", f().Code, i)
	}
}

func TestExecForwardsSignals(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	c := s.Running()
	cmd := s.Command("exec", c.ID, "sh", "-c", "trap 'kill $!; exit 9' TERM; sleep 1000 & echo ready; while :; do wait; done")
	s.Start(cmd)
	out := cmd.Stdout.(*os.File).Name()
	Eventually(t, "output", func() error {
		if ReadFile(out) == "" {
			return fmt.Errorf("none")
		}
		return nil
	})
	Must(t, cmd.Process.Signal(unix.SIGTERM))
	Equal(t, "exit status", s.Finish(cmd).Code, 9)
}

// A process that waits in a frozen cgroup holds up nobody else.
func TestExecInPausedBlocksNobody(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	c := s.Running()
	s.OK("pause", c.ID)
	cmd := s.Command("exec", "--ignore-paused", c.ID, "sleep", "1001")
	s.Start(cmd)
	Eventually(t, "the frozen process", func() error {
		if n := len(strings.Fields(ReadFile(c.CgroupFile("freezer", "cgroup.procs")))); n != 2 {
			return fmt.Errorf("%d processes", n)
		}
		return nil
	})
	Equal(t, "status", c.State().Status, "paused")
	r := s.Sock("delete", "--force", c.ID)
	if r.Code != 0 {
		t.Error(r)
		s.Rescue()
	}
	if r := s.Finish(cmd); r.Code == 0 {
		t.Error(r)
	}
	s.CheckNothingLeft()
}

// Two execs end and begin while the container goes away.
func TestExecWhileDeleted(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	for range 8 {
		c := s.Running()
		exec, remove := s.Command("exec", c.ID, "sleep", "1000"), s.Command("delete", "--force", c.ID)
		s.Start(exec)
		s.Start(remove)
		if r := s.Finish(remove); r.Code != 0 {
			t.Error(r)
		}
		if r := s.Finish(exec); r.Code == 0 {
			t.Error(r)
		}
		s.CheckNothingLeft()
	}
}
