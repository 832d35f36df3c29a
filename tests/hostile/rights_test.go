package hostile

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	. "github.com/sock-runtime/sock/tests/sandbox"
)

// CVE-2022-29162 and CVE-2022-27650: capabilities that a process inherits become those of any program with file
// capabilities.
func TestInheritedCapabilities(t *testing.T) {
	t.Parallel()
	const none = "0000000000000000"
	s := NewSandbox(t)
	// The caller has everything inheritable and ambient that there is.
	withAll := func(args ...string) Result {
		cmd := s.Command(args...)
		cmd.Args = append([]string{attacker, "inherit"}, cmd.Args...)
		cmd.Path = attacker
		return s.Do(cmd)
	}
	const show = "grep -E 'Cap(Inh|Amb)' /proc/self/status"
	check := func(what, out, inheritable string) {
		t.Helper()
		Equal(t, "inheritable capabilities of "+what, StatusField(out, "CapInh"), inheritable)
		Equal(t, "ambient capabilities of "+what, StatusField(out, "CapAmb"), none)
	}
	hook := filepath.Join(s.HostDir(), "hook")
	c := &Container{Sandbox: s, Bundle: s.Bundle(WithHook("startContainer", show+" > /hook"), BindAt("/hook", hook), func(*specs.Spec) { WriteFile(t, hook, "", 0o666) }), ID: s.NewID()}
	if r := withAll("create", "--bundle", c.Dir(), c.ID); r.Code != 0 {
		t.Fatal(r)
	}
	if r := withAll("start", c.ID); r.Code != 0 {
		t.Fatal(r)
	}
	check("init", c.Proc("status"), none)
	check("a hook", ReadFile(hook), none)
	file := s.ProcessFile(&specs.Process{
		Args: []string{"sh", "-c", show}, Env: []string{"PATH=/bin"}, Cwd: "/",
		Capabilities: &specs.LinuxCapabilities{Bounding: []string{"CAP_CHOWN"}, Permitted: []string{"CAP_CHOWN"}, Effective: []string{"CAP_CHOWN"}, Ambient: []string{"CAP_CHOWN"}},
	})
	for _, flags := range [][]string{
		{}, {"--cap", "CAP_NET_RAW"}, {"--cap", "CAP_SYS_ADMIN", "--cap", "CAP_CHOWN"}, {"--user", "1000"}, {"--user", "1000", "--cap", "CAP_NET_RAW"},
	} {
		r := withAll(append(append([]string{"exec"}, flags...), c.ID, "sh", "-c", show)...)
		check(fmt.Sprint("exec ", flags), r.Stdout, none)
	}
	check("exec --process", withAll("exec", "--process", file, c.ID).Stdout, none)

	// The control: the test sees what is there.
	asked := func(c *specs.Spec) { c.Process.Capabilities.Inheritable = []string{"CAP_KILL"} }
	check("a process that asks for it", s.OutputOf(show, asked, inCgroup(s.Mark+"-asked")), "0000000000000020")
	cmd := s.Command()
	cmd.Path, cmd.Args = attacker, []string{attacker, "inherit", "sh", "-c", show}
	if out := s.Do(cmd).Stdout; StatusField(out, "CapInh") == none || StatusField(out, "CapAmb") == none {
		t.Errorf("the caller of the test has nothing to inherit: %s", out)
	}
}

// CVE-2026-30892: who a number that is none stands for.
func TestMalformedUsers(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	c := s.Running()
	pids := len(Decode[[]int](t, s.OK("ps", "--format", "json", c.ID)))
	for _, user := range []string{
		"-1", "4294967296", "4294967295x", "18446744073709551616", "18446744073709551615", "1e3", "0x10", "0b1", "010x", " 5", "5 ", "\t5", "٣", "root", "user",
		"1:", "1:-1", "1:4294967296", "1:2:3", ":5", ":", "5:root", "1.5", "nobody\n", "5\x00", "--", "NaN", strings.Repeat("9", 5000), "5:" + strings.Repeat("0", 5000) + "x",
		"+5", "1_000",
	} {
		if strings.Contains(user, "\x00") {
			continue // no argument has one
		}
		s.Fails(nil, "exec", "--user", user, c.ID, "id", "-u")
	}
	for _, gid := range []string{"-1", "4294967296", "18446744073709551616", "x", "1,"} {
		s.Fails(nil, "exec", "--additional-gids", gid, c.ID, "id", "-G")
	}
	Equal(t, "number of processes", len(Decode[[]int](t, s.OK("ps", "--format", "json", c.ID))), pids)

	// In JSON, of config.json and exec --process.
	b := s.Bundle(Args("id", "-u"), inCgroup(s.Mark+"-json"))
	process := filepath.Join(s.Dir, "process.json")
	for _, value := range []string{
		"-1", "4294967296", "18446744073709551616", "1e3", "1.5", "-0.0", `"0"`, `"root"`, "[]", "{}", "true", "1e-400", "1e400", "0x10", "٣", "00", "01", "+1", "", "NaN",
	} {
		for _, user := range []string{`"uid":%s,"gid":0`, `"uid":0,"gid":%s`, `"uid":0,"gid":0,"additionalGids":[%s]`, `"uid":0,"gid":0,"umask":%s`} {
			user = fmt.Sprintf(user, value)
			if value == "" && strings.Contains(user, "[]") {
				continue // an empty list
			}
			text := `{"args":["id","-u"],"env":["PATH=/bin"],"cwd":"/","user":{` + user + `}}`
			WriteFile(t, process, text, 0o644)
			s.Fails(nil, "exec", "--process", process, c.ID)
			config := fmt.Sprintf(`{"ociVersion":"1.0.2","root":{"path":"rootfs"},"process":%s,"linux":{"cgroupsPath":"/%s-json","namespaces":[{"type":"mount"}]}}`, text, s.Mark)
			WriteFile(t, filepath.Join(b.Dir, "config.json"), config, 0o644)
			r := s.Fails(nil, "run", "--bundle", b.Dir, "malformed")
			OneLine(t, r)
		}
	}
	// The ends of the range are users like others.
	for _, uid := range []uint32{1, math.MaxInt32, math.MaxInt32 + 1, math.MaxUint32 - 1} {
		Equal(t, "id", s.OK("exec", "--user", fmt.Sprintf("%d:%[1]d", uid), c.ID, "sh", "-c", "id -u; id -g"), fmt.Sprintf("%d\n%[1]d\n", uid))
	}
	// (uid_t)-1 stands for "don't change" in system calls: the process would stay root.
	for _, user := range []string{"4294967295", "5:4294967295"} {
		s.Fails(nil, "exec", "--user", user, c.ID, "id", "-u")
	}
	s.Fails(nil, "exec", "--additional-gids", "4294967295", c.ID, "id", "-u")
	s.Configure(b, Args("id", "-u"), inCgroup(s.Mark+"-json"), func(c *specs.Spec) { c.Process.User.UID = math.MaxUint32 })
	s.Fails(nil, "run", "--bundle", b.Dir, "malformed")
}

// A container in a user namespace owns neither the devices that it gets nor the caller's stdio.
func TestHostDevicesTouched(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	con, slave := s.Pty(24, 80)
	node := func(name string) string {
		info, err := os.Stat(name)
		Must(t, err)
		st := info.Sys().(*syscall.Stat_t)
		return fmt.Sprintf("%s %d:%d", info.Mode(), st.Uid, st.Gid)
	}
	devices := DeviceOwners(t)
	terminal := node(slave.Name())
	file := filepath.Join(s.Dir, "file")
	WriteFile(t, file, "", 0o640)
	for name, user := range map[string]uint32{"root": 0, "another": 1000} {
		for _, stdio := range []string{"/dev/null", slave.Name(), file} {
			for _, tty := range []bool{false, true} {
				before := node(file)
				changes := []Change{attack("change-stdio"), allCapabilities, func(c *specs.Spec) {
					c.Process.User = specs.User{UID: user, GID: user}
					c.Process.Terminal = tty
				}}
				b := s.UserBundle(changes...)
				link(s, b)
				id := s.NewID()
				cmd := s.Command("run", "--bundle", b.Dir, id)
				cmd.Args = append([]string{"sh", "-c", `exec "$0" "$@" <` + stdio + " >" + stdio + " 2>&1"}, cmd.Args...)
				cmd.Path = "/bin/sh"
				s.Do(cmd)
				what := fmt.Sprintf("%s on %s, terminal %t", name, filepath.Base(stdio), tty)
				Equal(t, "devices after "+what, DeviceOwners(t), devices)
				Equal(t, "terminal after "+what, node(slave.Name()), terminal)
				if stdio != file || tty {
					Equal(t, "file after "+what, node(file), before)
				} else if out := ReadFile(file); !strings.Contains(out, "mode of 0: ") {
					t.Errorf("the attack was not played: %q", out)
				}
			}
		}
	}
	_ = con
}
