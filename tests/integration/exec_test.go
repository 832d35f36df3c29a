package integration

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func TestExec(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	c := s.running(func(c *specs.Spec) { c.Process.Env = append(c.Process.Env, "FROM=config") })

	exec := func(want string, args ...string) {
		t.Helper()
		equal(t, strings.Join(args, " "), s.ok(append([]string{"exec"}, args...)...), want)
	}
	exec("hi there\n", c.name, "echo", "hi there")
	exec("config\n", c.name, "sh", "-c", "echo $FROM")
	exec("flag 2\n", "--env", "A=flag", "--env", "B=2", c.name, "sh", "-c", "echo $A $B")
	exec("short\n", "-e", "A=short", c.name, "sh", "-c", "echo $A")
	exec("/etc\n", "--cwd", "/etc", c.name, "pwd")
	exec("1000\n1001\n", "--user", "1000:1001", c.name, "sh", "-c", "id -u; id -g")
	exec("/home/user\n", "-u", "1000", c.name, "sh", "-c", "echo $HOME")
	exec("Groups: 5 77\n", "-g", "5", "-g", "77", c.name, "sh", "-c", "echo $(grep Groups /proc/self/status)")
	exec("-x\n", c.name, "echo", "-x")

	equal(t, "new privileges", statusField(s.ok("exec", c.name, "cat", "/proc/self/status"), "NoNewPrivs"), "1")
	status := s.ok("exec", "--cap", "CAP_CHOWN", c.name, "cat", "/proc/self/status")
	equal(t, "CapBnd with --cap", statusField(status, "CapBnd"), fmt.Sprintf("%016x", 1<<0|1<<5|1<<10|1<<29))

	for want, command := range map[int]string{0: "exit 0", 7: "exit 7", 255: "exit 255", 128 + 9: "kill -9 $$"} {
		equal(t, command, s.sock("exec", c.name, "sh", "-c", command).code, want)
	}
	cmd := s.command("exec", c.name, "sh", "-c", "cat; echo complaint >&2")
	cmd.Stdin = strings.NewReader("from outside\n")
	r := s.do(cmd)
	equal(t, "stdout", r.stdout, "from outside\n")
	equal(t, "stderr", r.stderr, "complaint\n")
}

func TestExecErrors(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	c := s.running()
	for _, e := range []struct {
		texts []string
		args  []string
	}{
		{said("unable to start container process", `exec: "nosuch": executable file not found in $PATH`), []string{c.name, "nosuch"}},
		{said("no such file or directory"), []string{c.name, "/nosuch"}},
		{said(`exec: "/etc/passwd": permission denied`), []string{c.name, "/etc/passwd"}},
		{said("/nosuch", "no such file or directory"), []string{"--cwd", "/nosuch", c.name, "true"}},
		{said("/etc/passwd", "not a directory"), []string{"--cwd", "/etc/passwd", c.name, "true"}},
		{nil, []string{"--user", "nobody-knows", c.name, "true"}},
		{said("NOSUCH"), []string{"--process", filepath.Join(s.dir, "NOSUCH"), c.name}},
		{said("does not exist"), []string{"none", "true"}},
		{nil, []string{c.name}},
	} {
		r := s.fails(e.texts, append([]string{"exec"}, e.args...)...)
		equal(t, "exit status of exec "+strings.Join(e.args, " "), r.code, 255)
	}
	equal(t, "processes", fmt.Sprint(decode[[]int](t, s.ok("ps", "-f", "json", c.name))), fmt.Sprint([]int{c.pid()}))
}

func (s *sandbox) processFile(p *specs.Process) string {
	s.Helper()
	data, err := json.Marshal(p)
	must(s.T, err)
	name := filepath.Join(s.dir, "process.json")
	must(s.T, os.WriteFile(name, data, 0o644))
	return name
}

func TestExecProcessFile(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	c := s.running()
	file := s.processFile(&specs.Process{
		Args: []string{"sh", "-c", "pwd; id -u; umask; ulimit -Sn; echo $A; cat /proc/self/oom_score_adj; cat /proc/self/status"},
		Env:  []string{"PATH=/bin", "A=file"}, Cwd: "/tmp", User: specs.User{UID: 12, GID: 13, Umask: ptr(uint32(0o7))},
		Rlimits: []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 99, Hard: 99}}, OOMScoreAdj: ptr(200),
		Capabilities: &specs.LinuxCapabilities{Bounding: []string{"CAP_KILL"}},
	})
	out := s.ok("exec", "--process", file, c.name)
	if !strings.HasPrefix(out, "/tmp\n12\n0007\n99\nfile\n200\n") {
		t.Errorf("output: %s", out)
	}
	equal(t, "CapBnd", statusField(out, "CapBnd"), fmt.Sprintf("%016x", 1<<5))
	equal(t, "NoNewPrivs", statusField(out, "NoNewPrivs"), "0")

	must(t, os.WriteFile(file, []byte("{\n\"args\": [\"true\"],,\n}"), 0o644))
	equal(t, "exit status", s.fails(nil, "exec", "-p", file, c.name).code, 255)
	file = s.processFile(&specs.Process{Args: []string{"true"}, Cwd: "/", ApparmorProfile: "some-profile"})
	s.fails(said("apparmorProfile"), "exec", "--process", file, c.name)
}

func TestExecDetach(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	c := s.running()
	s.ok("exec", "--detach", "--pid-file", "exec.pid", c.name, "sleep", "1001")
	pid := atoi(readFile(filepath.Join(s.dir, "exec.pid")))
	equal(t, "command", readFile(fmt.Sprintf("/proc/%d/cmdline", pid)), "sleep\x001001\x00")
	equal(t, "cgroups", readFile(fmt.Sprintf("/proc/%d/cgroup", pid)), c.proc("cgroup"))
	for _, file := range namespaceFiles {
		equal(t, file, namespaceOf(t, pid, file), c.namespace(file))
	}
	equal(t, "root", c.inside("stat -c %i /"), c.inside(fmt.Sprintf("stat -c %%i /proc/%s/root/", strings.Fields(statusField(readFile(fmt.Sprintf("/proc/%d/status", pid)), "NSpid"))[1])))
	equal(t, "processes", len(decode[[]int](t, s.ok("ps", "-f", "json", c.name))), 2)
}

func TestExecInOtherStates(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	c := s.create()
	equal(t, "created", s.ok("exec", c.name, "echo", "early"), "early\n")
	equal(t, "status", c.state().Status, "created")
	s.ok("start", c.name)
	s.ok("pause", c.name)
	equal(t, "exit status", s.fails(said("cannot exec in a paused container"), "exec", c.name, "true").code, 255)
	cmd := s.command("exec", "--ignore-paused", c.name, "echo", "thawed")
	s.start(cmd)
	eventually(t, "the frozen process", func() error {
		if n := len(strings.Fields(readFile(c.cgroupFile("freezer", "cgroup.procs")))); n != 2 {
			return fmt.Errorf("%d processes", n)
		}
		return nil
	})
	s.ok("resume", c.name)
	equal(t, "output", s.finish(cmd).stdout, "thawed\n")
	s.ok("kill", c.name, "KILL")
	c.wantStatus("stopped")
	equal(t, "exit status", s.fails(nil, "exec", c.name, "true").code, 255)
}

func TestExecPreserveFDs(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	c := s.running()
	r, w, err := os.Pipe()
	must(t, err)
	_, err = w.WriteString("piped\n")
	must(t, err)
	w.Close()
	cmd := s.command("exec", "--preserve-fds", "1", c.name, "sh", "-c", "cat <&3")
	cmd.ExtraFiles = []*os.File{r}
	equal(t, "output", s.do(cmd).stdout, "piped\n")
	r.Close()
}

func TestExecSubCgroup(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	c := s.running(withoutNamespace(specs.CgroupNamespace)) // whose root were /
	dir := c.cgroupFile("pids", "sub")
	must(t, os.Mkdir(dir, 0o755))
	controller := byCgroup("pids:", "")
	r := s.sock("exec", "--cgroup", controller+"sub", c.name, "grep", ":"+controller, "/proc/self/cgroup")
	if r.code != 0 || !strings.HasSuffix(r.stdout, s.mark+"/sub\n") {
		t.Error(r)
	}
	s.fails(said("missing"), "exec", "--cgroup", controller+"missing", c.name, "true")
	s.fails(said("bad sub cgroup path"), "exec", "--cgroup", controller+"../..", c.name, "true")
	s.ok("delete", "--force", c.name)
	s.checkNothingLeft()
}

func TestExecCPUAffinity(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	var own unix.CPUSet
	must(t, unix.SchedGetaffinity(0, &own))
	need(t, own.IsSet(0) && own.IsSet(1), "needs the CPUs 0 and 1")
	c := s.running(func(c *specs.Spec) { c.Process.ExecCPUAffinity = &specs.CPUAffinity{Initial: "0", Final: "1"} })
	equal(t, "from the config", statusField(s.ok("exec", c.name, "cat", "/proc/self/status"), "Cpus_allowed_list"), "1")
	file := s.processFile(&specs.Process{Args: []string{"/bin/cat", "/proc/self/status"}, Cwd: "/", ExecCPUAffinity: &specs.CPUAffinity{Final: "0"}})
	equal(t, "from the process file", statusField(s.ok("exec", "--process", file, c.name), "Cpus_allowed_list"), "0")
	equal(t, "init's is not restricted", statusField(c.proc("status"), "Cpus_allowed_list"), statusField(readFile("/proc/self/status"), "Cpus_allowed_list"))
}

func TestExecManyAtOnce(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	c := s.running()
	var finish []func() result
	for i := range 16 {
		cmd := s.command("exec", c.name, "sh", "-c", fmt.Sprintf("exit %d", i))
		s.start(cmd)
		finish = append(finish, func() result { return s.finish(cmd) })
	}
	for i, f := range finish {
		equal(t, "exit status", f().code, i)
	}
}

func TestExecForwardsSignals(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	c := s.running()
	cmd := s.command("exec", c.name, "sh", "-c", "trap 'kill $!; exit 9' TERM; sleep 1000 & echo ready; while :; do wait; done")
	s.start(cmd)
	out := cmd.Stdout.(*os.File).Name()
	eventually(t, "output", func() error {
		if readFile(out) == "" {
			return fmt.Errorf("none")
		}
		return nil
	})
	must(t, cmd.Process.Signal(unix.SIGTERM))
	equal(t, "exit status", s.finish(cmd).code, 9)
}

// A process that waits in a frozen cgroup holds up nobody else.
func TestExecInPausedBlocksNobody(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	c := s.running()
	s.ok("pause", c.name)
	cmd := s.command("exec", "--ignore-paused", c.name, "sleep", "1001")
	s.start(cmd)
	eventually(t, "the frozen process", func() error {
		if n := len(strings.Fields(readFile(c.cgroupFile("freezer", "cgroup.procs")))); n != 2 {
			return fmt.Errorf("%d processes", n)
		}
		return nil
	})
	equal(t, "status", c.state().Status, "paused")
	r := s.sock("delete", "--force", c.name)
	if r.code != 0 {
		t.Error(r)
		s.rescue()
	}
	if r := s.finish(cmd); r.code == 0 {
		t.Error(r)
	}
	s.checkNothingLeft()
}

// Two execs end and begin while the container goes away.
func TestExecWhileDeleted(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	for range 8 {
		c := s.running()
		exec, remove := s.command("exec", c.name, "sleep", "1000"), s.command("delete", "--force", c.name)
		s.start(exec)
		s.start(remove)
		if r := s.finish(remove); r.code != 0 {
			t.Error(r)
		}
		if r := s.finish(exec); r.code == 0 {
			t.Error(r)
		}
		s.checkNothingLeft()
	}
}
