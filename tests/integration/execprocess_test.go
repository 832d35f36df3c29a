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

// execFile executes a process that waits as p describes it, by --process, and returns its process ID on the host.
func execFile(c *Container, p specs.Process) int {
	c.Helper()
	if p.Args == nil {
		p.Args = []string{"/bin/sleep", "1000"}
	}
	if p.Cwd == "" {
		p.Cwd = "/"
	}
	c.OK("exec", "--detach", "--pid-file", "exec.pid", "--process", c.ProcessFile(&p), c.ID)
	return Atoi(ReadFile(filepath.Join(c.Sandbox.Dir, "exec.pid")))
}

// attributes are what the kernel tells of a process beside its status.
func attributes(t *testing.T, pid int) map[string]string {
	t.Helper()
	const whoProcess = 1
	io, _, errno := unix.Syscall(unix.SYS_IOPRIO_GET, whoProcess, uintptr(pid), 0)
	if errno != 0 {
		t.Fatal(errno)
	}
	sched, err := unix.SchedGetAttr(pid, 0)
	Must(t, err)
	dir := fmt.Sprintf("/proc/%d/", pid)
	cwd, err := os.Readlink(dir + "cwd")
	Must(t, err)
	status, limits := ReadFile(dir+"status"), ""
	for line := range strings.Lines(ReadFile(dir + "limits")) {
		if strings.HasPrefix(line, "Max open files") {
			limits = strings.Join(strings.Fields(line)[3:5], ":")
		}
	}
	all := map[string]string{
		"oom": strings.TrimSpace(ReadFile(dir + "oom_score_adj")), "nofile": limits, "cwd": cwd,
		"io": fmt.Sprintf("class %d, %d", io>>13, io&0x1fff), "scheduler": fmt.Sprintf("policy %d, nice %d", sched.Policy, sched.Nice),
		"env": strings.ReplaceAll(strings.TrimSuffix(ReadFile(dir+"environ"), "\x00"), "\x00", " "),
	}
	for _, name := range strings.Fields("Uid Gid Groups Umask NoNewPrivs CapInh CapPrm CapEff CapBnd CapAmb Cpus_allowed_list") {
		all[name] = StatusField(status, name)
	}
	return all
}

func wantAttributes(t *testing.T, what string, pid int, want map[string]string) {
	t.Helper()
	got := attributes(t, pid)
	for name, value := range want {
		Equal(t, name+" "+what, got[name], value)
	}
}

// What the process of exec leaves open is as in config.json, what it sets is its own.
func TestExecEveryField(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	var cpus unix.CPUSet
	Must(t, unix.SchedGetaffinity(0, &cpus))
	Need(t, cpus.IsSet(0) && cpus.IsSet(1), "needs the CPUs 0 and 1")
	c := s.Running(func(c *specs.Spec) {
		p := c.Process
		p.User = specs.User{UID: 11, GID: 12, AdditionalGids: []uint32{13}, Umask: Ptr(uint32(0o27))}
		p.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 300, Hard: 400}}
		p.OOMScoreAdj, p.NoNewPrivileges = Ptr(100), true
		p.IOPriority = &specs.LinuxIOPriority{Class: specs.IOPRIO_CLASS_BE, Priority: 6}
		p.Scheduler = &specs.Scheduler{Policy: specs.SchedBatch, Nice: 7}
		p.ExecCPUAffinity = &specs.CPUAffinity{Initial: "0", Final: "1"}
		p.Env = append(p.Env, "FROM=config")
		p.Cwd = "/tmp"
		p.Capabilities = &specs.LinuxCapabilities{
			Bounding: []string{"CAP_KILL", "CAP_CHOWN"}, Permitted: []string{"CAP_KILL"}, Effective: []string{"CAP_KILL"},
			Inheritable: []string{"CAP_KILL"}, Ambient: []string{"CAP_KILL"},
		}
	})

	// runc: the process comes from the file alone, but for the settings that have no zero value.
	wantAttributes(t, "left open", execFile(c, specs.Process{}), map[string]string{
		"Uid": "0 0 0 0", "Gid": "0 0 0 0", "Groups": "", "Umask": "0027", "NoNewPrivs": "0", "Cpus_allowed_list": "1", "cwd": "/",
		"oom": "100", "nofile": "300:400", "io": "class 2, 6", "scheduler": "policy 3, nice 7", "env": "HOME=/root",
		"CapBnd": hex(capKill | capChown), "CapInh": hex(capKill), "CapAmb": hex(capKill),
	})
	wantAttributes(t, "of its own", execFile(c, specs.Process{
		User:    specs.User{UID: 1000, GID: 22, AdditionalGids: []uint32{23, 24}, Umask: Ptr(uint32(0o77))},
		Rlimits: []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 200, Hard: 222}}, OOMScoreAdj: Ptr(200), NoNewPrivileges: true,
		IOPriority:      &specs.LinuxIOPriority{Class: specs.IOPRIO_CLASS_IDLE},
		Scheduler:       &specs.Scheduler{Policy: specs.SchedIdle},
		ExecCPUAffinity: &specs.CPUAffinity{Initial: "1", Final: "0"}, Env: []string{"A=1", "B=2", "A=3"}, Cwd: "/etc",
		Capabilities: &specs.LinuxCapabilities{
			Bounding: []string{"CAP_CHOWN", "CAP_NET_BIND_SERVICE"}, Permitted: []string{"CAP_CHOWN"}, Effective: []string{"CAP_CHOWN"},
			Inheritable: []string{"CAP_CHOWN"}, Ambient: []string{"CAP_CHOWN"},
		},
	}), map[string]string{
		"Uid": "1000 1000 1000 1000", "Gid": "22 22 22 22", "Groups": "23 24", "Umask": "0077", "NoNewPrivs": "1",
		"Cpus_allowed_list": "0", "cwd": "/etc", "oom": "200", "nofile": "200:222", "io": "class 3, 0",
		"scheduler": "policy 5, nice 0", "env": "B=2 A=3 HOME=/home/user",
		"CapBnd": hex(capChown | capNetBind), "CapPrm": hex(capChown), "CapEff": hex(capChown), "CapInh": hex(capChown), "CapAmb": hex(capChown),
	})
	// Flags change config.json's process.
	s.OK("exec", "-d", "--pid-file", "exec.pid", "--user", "1", "-g", "7", "-e", "B=flag", "--cwd", "/etc", "--no-new-privs=false", c.ID, "sleep", "1000")
	wantAttributes(t, "by flags", Atoi(ReadFile(filepath.Join(s.Dir, "exec.pid"))), map[string]string{
		"Uid": "1 1 1 1", "Gid": "12 12 12 12", "Groups": "7 13", "Umask": "0027", "NoNewPrivs": "0", "cwd": "/etc", "oom": "100",
		"nofile": "300:400", "io": "class 2, 6", "scheduler": "policy 3, nice 7", "Cpus_allowed_list": "1",
		"CapBnd": hex(capKill | capChown), "CapEff": hex(capKill), "CapAmb": hex(capKill),
	})
}

func hex(mask uint64) string { return fmt.Sprintf("%016x", mask) }

// --cap adds to the bounding, effective and permitted set, and to the ambient one what is inheritable: runc's rule.
func TestExecCap(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	for _, test := range []struct {
		name string
		caps *specs.LinuxCapabilities
		user string
		want map[string]uint64
	}{
		{"root", &specs.LinuxCapabilities{Bounding: []string{"CAP_KILL"}}, "0", map[string]uint64{
			"CapBnd": capKill | capChown | capNetBind, "CapEff": capChown | capNetBind, "CapPrm": capChown | capNetBind, "CapInh": 0, "CapAmb": 0,
		}},
		{"user", &specs.LinuxCapabilities{Bounding: []string{"CAP_KILL"}}, "1000", map[string]uint64{
			"CapBnd": capKill | capChown | capNetBind, "CapEff": 0, "CapPrm": 0, "CapInh": 0, "CapAmb": 0,
		}},
		{"user with inheritable ones", &specs.LinuxCapabilities{Bounding: []string{"CAP_KILL", "CAP_CHOWN"}, Inheritable: []string{"CAP_CHOWN"}}, "1000", map[string]uint64{
			"CapBnd": capKill | capChown | capNetBind, "CapEff": capChown, "CapPrm": capChown, "CapInh": capChown, "CapAmb": capChown,
		}},
		{"container without any", nil, "0", map[string]uint64{"CapBnd": capChown | capNetBind, "CapEff": capChown | capNetBind, "CapInh": 0}},
	} {
		c := s.Running(func(c *specs.Spec) { c.Process.Capabilities = test.caps })
		status := s.OK("exec", "--cap", "CAP_CHOWN", "--cap", "CAP_NET_BIND_SERVICE", "--user", test.user, c.ID, "cat", "/proc/self/status")
		for set, mask := range test.want {
			Equal(t, set+" of "+test.name, StatusField(status, set), hex(mask))
		}
		s.OK("delete", "--force", c.ID)
	}
	c := s.Running()
	if r := s.Sock("exec", "--cap", "CAP_NOSUCH", c.ID, "true"); r.Code != 0 || !strings.Contains(r.Stderr, "CAP_NOSUCH") {
		t.Errorf("an unknown capability is to be warned of, as by runc: %v", r)
	}
}

// A user that can't be read is an error; it never becomes root (CVE-2026-30892).
func TestExecMalformedUser(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	c := s.Running()
	for _, user := range []string{
		"", " ", "1x", "x", "1 ", " 1", "0x0", "1:", ":1", "1:x", "1:2:3", "-1", "+1", "1:-1", "4294967295", "1:4294967295", "4294967296", "1:4294967296",
		"18446744073709551616", "1.0", "1e3", "1,2", "root", "\t1", "1\n",
	} {
		r := s.Sock("exec", "--user", user, c.ID, "id", "-u")
		if user == "" { // not given, as with runc
			Equal(t, "uid", r.Stdout, "0\n")
		} else if r.Code != 255 || r.Stdout != "" {
			t.Errorf("--user %q: %v", user, r)
		}
	}
	Equal(t, "a single digit", s.OK("exec", "--user", "1", c.ID, "sh", "-c", "id -u; id -g"), "1\n0\n")
	for _, gid := range []string{"-1", "4294967295", "4294967296", "x", "1x"} {
		if r := s.Sock("exec", "--additional-gids", gid, c.ID, "true"); r.Code == 0 {
			t.Errorf("--additional-gids %s: %v", gid, r)
		}
	}
	file := filepath.Join(s.Dir, "malformed.json")
	for _, user := range []string{
		`{"uid":-1}`, `{"uid":4294967295}`, `{"uid":4294967296}`, `{"uid":18446744073709551616}`, `{"uid":1.5}`, `{"uid":1e3}`, `{"uid":"1000"}`,
		`{"uid":true}`, `{"uid":[1]}`, `{"uid":1000,"gid":-1}`, `{"uid":1000,"gid":4294967295}`, `{"uid":1000,"gid":4294967296}`, `[1000]`, `1000`, `"1000"`,
		`{"uid":1000,"additionalGids":[-1]}`, `{"uid":1000,"additionalGids":[4294967295]}`, `{"uid":1000,"additionalGids":[4294967296]}`,
		`{"uid":1000,"additionalGids":5}`, `{"uid":1000,"umask":4096}`, `{"uid":1000,"umask":-1}`, `{"uid":01000}`,
	} {
		Must(t, os.WriteFile(file, []byte(`{"args":["id","-u"],"env":["PATH=/bin"],"cwd":"/","user":`+user+`}`), 0o644))
		if r := s.Fails(nil, "exec", "--process", file, c.ID); r.Code != 255 || r.Stdout != "" {
			t.Errorf("user %s: %v", user, r)
		}
		OneLine(t, s.Fails(nil, "exec", "--process", file, c.ID))
	}
}

// A process is bound to CPUs by config.json, not by who calls: its cpuset is the limit, as with runc since 1.3.
func TestCPUAffinityIsNotTheCallers(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	own := StatusField(ReadFile("/proc/self/status"), "Cpus_allowed_list")
	Need(t, own != "0", "needs a second CPU")
	pinned := func(args ...string) string {
		t.Helper()
		cmd := s.Command(args...)
		cmd.Args = append([]string{"taskset", "-c", "0", Binary}, cmd.Args[1:]...)
		cmd.Path = "/bin/busybox"
		r := s.Do(cmd)
		if r.Code != 0 {
			t.Fatal(r)
		}
		return StatusField(r.Stdout, "Cpus_allowed_list")
	}
	Equal(t, "of run", pinned("run", "--bundle", s.Bundle(Args("cat", "/proc/self/status")).Dir, s.NewID()), own)
	c := s.Running()
	Equal(t, "of exec", pinned("exec", c.ID, "cat", "/proc/self/status"), own)
	s.OK("delete", "--force", c.ID)
	cpuset := func(c *specs.Spec) { c.Linux.Resources.CPU = &specs.LinuxCPU{Cpus: "1", Mems: "0"} }
	c = s.Running(cpuset)
	Equal(t, "of exec in a cpuset", pinned("exec", c.ID, "cat", "/proc/self/status"), "1")
	Equal(t, "of init in a cpuset", StatusField(c.Proc("status"), "Cpus_allowed_list"), "1")
}

func TestExecCgroupErrors(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	c := s.Running()
	s.Fails(Said("unknown controller whaaat"), "exec", "--cgroup", "whaaat:/", c.ID, "true")
	s.Fails(Said("unknown controller whaaat"), "exec", "--cgroup", ByCgroup("pids,", "")+"whaaat:/", c.ID, "true")
	s.Fails(Said("bad sub cgroup path"), "exec", "--cgroup", "../"+s.Mark+"-sibling", c.ID, "true")
	s.OK("exec", "--cgroup", "/", c.ID, "true")
}
