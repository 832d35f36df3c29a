package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	. "github.com/sock-runtime/sock/tests/sandbox"
)

// hookKinds are in the order of their execution.
var hookKinds = []string{"prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"}

// record makes hooks of all kinds write "KIND STATE" into a host file that is bound into the container at the same path.
func record(s *Sandbox) (file string, changes []Change) {
	s.Helper()
	dir := filepath.Join(s.Dir, "record")
	Must(s.T, os.MkdirAll(dir, 0o755))
	file = filepath.Join(dir, "file")
	WriteFile(s.T, file, "", 0o666)
	changes = append(changes, BindAt(dir, dir))
	for _, kind := range hookKinds {
		changes = append(changes, WithHook(kind, `echo "$KIND $(cat)" >> `+file))
	}
	return file, changes
}

// kinds lists the first words of a record.
func kinds(text string) string {
	var list []string
	for line := range strings.Lines(text) {
		list = append(list, strings.Fields(line)[0])
	}
	return strings.Join(list, " ")
}

func TestHooks(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	file, changes := record(s)
	changes = append(changes, Script("echo process >> "+file+"; sleep 1000"), func(c *specs.Spec) {
		c.Annotations = map[string]string{"key": "value"}
	})
	c := s.Create(changes...)
	Equal(t, "hooks of create", kinds(ReadFile(file)), "prestart createRuntime createContainer")
	pid := c.Pid()
	s.OK("start", c.ID)
	Eventually(t, "the hooks of start", func() error {
		got := kinds(ReadFile(file))
		if got != "prestart createRuntime createContainer startContainer poststart process" &&
			got != "prestart createRuntime createContainer startContainer process poststart" {
			return fmt.Errorf("%s", got)
		}
		return nil
	})
	s.OK("kill", c.ID, "KILL")
	c.WantStatus("stopped")
	s.OK("delete", c.ID)
	if got := kinds(ReadFile(file)); !strings.HasSuffix(got, " poststop") {
		t.Errorf("hooks: %s", got)
	}

	// In the container's namespaces the pid is the container's, runtime.md "State".
	want := map[string]specs.State{
		"prestart":        {Status: specs.StateCreated, Pid: pid}, // the suite of runtime-tools has it so, and crun
		"createRuntime":   {Status: specs.StateCreating, Pid: pid},
		"createContainer": {Status: specs.StateCreating, Pid: 1},
		"startContainer":  {Status: specs.StateCreated, Pid: 1},
		"poststart":       {Status: specs.StateRunning, Pid: pid},
		"poststop":        {Status: specs.StateStopped},
	}
	for line := range strings.Lines(ReadFile(file)) {
		kind, text, _ := strings.Cut(line, " ")
		if text == "" {
			continue
		}
		st := Decode[specs.State](t, text)
		Equal(t, kind+": id", st.ID, c.ID)
		Equal(t, kind+": bundle", st.Bundle, c.Dir())
		Equal(t, kind+": status", st.Status, want[kind].Status)
		Equal(t, kind+": pid", st.Pid, want[kind].Pid)
		Equal(t, kind+": annotation", st.Annotations["key"], "value")
		if st.Version == "" {
			t.Errorf("%s: no ociVersion", kind)
		}
	}
}

func TestHooksOfRun(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	file, changes := record(s)
	r := s.RunOnce(append(changes, Script("exit 3"))...)
	Equal(t, "exit status", r.Code, 3)
	Equal(t, "hooks", kinds(ReadFile(file)), strings.Join(hookKinds, " "))
}

func TestHookArguments(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	tool := filepath.Join(s.Dir, "tool")
	out := filepath.Join(s.Dir, "out")
	WriteFile(t, tool, "#!/bin/busybox sh\necho \"$@\" > "+out+"\n/bin/busybox env | /bin/busybox sort | /bin/busybox grep -v -E 'PATH|PWD|SHLVL|^_' >> "+out+"\n", 0o755)
	s.Create(AddHook("createRuntime", specs.Hook{Path: tool, Args: []string{"zero", "one", "two words"}, Env: []string{"A=1", "B=2"}}))
	Equal(t, "arguments and environment", ReadFile(out), "one two words\nA=1\nB=2\n")
}

// A startContainer hook without an environment has the process's, one with an empty one has none.
func TestHookInheritsEnvironment(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	process := func(c *specs.Spec) { c.Process.Env = []string{"PATH=/bin", "OF=process"} }
	say := []string{"sh", "-c", "echo ${OF-no} ${HOME-home}; exit 1"}
	for want, env := range map[string][]string{"process /root": nil, "no home": {"PATH=/bin"}} {
		b := s.Bundle(process, AddHook("startContainer", specs.Hook{Path: "/bin/sh", Args: say, Env: env}))
		s.Fails(Said("exit status 1: "+want), "run", "--bundle", b.Dir, s.NewID())
	}
}

func TestHooksInOrder(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	out := filepath.Join(s.Dir, "out")
	var many []Change
	for i := range 5 {
		many = append(many, WithHook("createRuntime", fmt.Sprintf("echo %d >> %s", i, out)))
	}
	s.Create(many...)
	Equal(t, "order", ReadFile(out), "0\n1\n2\n3\n4\n")
}

// createRuntime sees the host's namespaces, createContainer the container's with the host's files, startContainer the root.
func TestHookNamespaces(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	dir := filepath.Join(s.Dir, "seen")
	Must(t, os.Mkdir(dir, 0o777))
	see := func(kind string) Change {
		return WithHook(kind, fmt.Sprintf("for ns in mnt net uts ipc pid; do readlink /proc/self/ns/$ns; done > %s/%s; [ -e %s/config.json ] && echo host files >> %[1]s/%[2]s; true", dir, kind, "$BUNDLE"))
	}
	b := s.Bundle()
	changes := []Change{BindAt(dir, dir)}
	for _, kind := range []string{"createRuntime", "createContainer", "startContainer", "poststart"} {
		changes = append(changes, see(kind))
	}
	changes = append(changes, func(c *specs.Spec) {
		for _, list := range [][]specs.Hook{c.Hooks.CreateRuntime, c.Hooks.CreateContainer, c.Hooks.StartContainer, c.Hooks.Poststart} {
			list[0].Env = append(list[0].Env, "BUNDLE="+b.Dir)
		}
	})
	s.Configure(b, changes...)
	c := s.CreateIn(b)
	s.OK("start", c.ID)
	links := func(pid int) (text string) {
		for _, ns := range []string{"mnt", "net", "uts", "ipc", "pid"} {
			text += NamespaceOf(t, pid, ns) + "\n"
		}
		return text
	}
	host, own := links(os.Getpid()), links(c.Pid())
	Equal(t, "createRuntime", ReadFile(filepath.Join(dir, "createRuntime")), host+"host files\n")
	Equal(t, "createContainer", ReadFile(filepath.Join(dir, "createContainer")), own+"host files\n")
	Equal(t, "startContainer", ReadFile(filepath.Join(dir, "startContainer")), own)
	Equal(t, "poststart", ReadFile(filepath.Join(dir, "poststart")), host+"host files\n")
}

// createContainer hooks run when the mounts are made, and what they mount into the rootfs is there later.
func TestCreateContainerHookMounts(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	b := s.Bundle()
	s.Configure(b, Args("cat", "/mnt/hooked", "/etc/bound/file"), BindAt("/etc/bound", s.HostDir()),
		WithHook("createContainer", fmt.Sprintf("/bin/busybox mount -t tmpfs hook %s/mnt && echo hooked > %[1]s/mnt/hooked && cat %[1]s/etc/bound/file >/dev/null", b.Rootfs)))
	Equal(t, "output", s.OK("run", "--bundle", b.Dir, s.NewID()), "hooked\nhost\n")
}

// runtime.md "Lifecycle": an error, the container is stopped, destroyed, and its poststop hooks run. A poststop hook's failure
// is only a warning.
func TestFailingHook(t *testing.T) {
	t.Parallel()
	for i, kind := range hookKinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := NewSandbox(t)
			file, changes := record(s)
			changes = append(changes, Script("echo process >> "+file+"; sleep 1000"), WithHook(kind, "echo the reason >&2; exit 12"))
			b := s.Bundle(changes...)
			name := s.NewID()
			log := filepath.Join(s.Dir, "log")
			r := s.Sock("--log", log, "--log-format", "json", "create", "--bundle", b.Dir, name)
			started := false
			if i >= 3 && r.Code == 0 {
				started = true
				r = s.Sock("--log", log, "--log-format", "json", "start", name)
			}
			if kind == "poststop" {
				Equal(t, "exit status of start", r.Code, 0)
				s.OK("--log", log, "--log-format", "json", "delete", "--force", name)
				entries := ReadLog(t, log)
				if len(entries) == 0 || entries[len(entries)-1].Level != "warning" || !strings.Contains(entries[len(entries)-1].Msg, "poststop") {
					t.Errorf("log: %+v", entries)
				}
				return
			}
			Equal(t, "create succeeded", started, i >= 3)
			if r.Code == 0 || !strings.Contains(r.Stderr, "error running "+kind+" hook #1: /bin/sh: exit status") || !strings.Contains(r.Stderr, "12") || !strings.Contains(r.Stderr, "the reason") {
				t.Error(r)
			}
			if state := s.Sock("state", name); state.Code == 0 {
				Equal(t, "status", Decode[specs.State](t, state.Stdout).Status, specs.StateStopped)
				s.OK("delete", name)
			}
			s.CheckNothingLeft()
			got := kinds(ReadFile(file))
			if !strings.HasSuffix(got, " poststop") {
				t.Errorf("no poststop hook: %s", got)
			}
			if kind != "poststart" && strings.Contains(got, "process") {
				t.Errorf("the process was executed: %s", got)
			}
		})
	}
}

// Until version 1.2 of the spec, by whose rules the config may have been written, it was a warning, and everything went on.
func TestFailingPoststartHookOfOlderConfig(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	file, changes := record(s)
	for _, version := range []string{"1.0.2-dev", "1.2.1"} {
		c := s.Create(append(changes, func(c *specs.Spec) {
			c.Version = version
			c.Linux.CgroupsPath += "-" + version
			fails := specs.Hook{Path: "/bin/sh", Args: []string{"sh", "-c", "echo the reason; exit 12"}}
			c.Hooks.Poststart = append([]specs.Hook{fails}, c.Hooks.Poststart...)
		})...)
		log := filepath.Join(s.Dir, "log")
		s.OK("--log", log, "--log-format", "json", "start", c.ID)
		c.WantStatus("running")
		entries := ReadLog(t, log)
		if len(entries) != 1 || entries[0].Level != "warning" || !strings.Contains(entries[0].Msg, "hooks.poststart[0]: /bin/sh: exit status 12: the reason") {
			t.Errorf("log: %+v", entries)
		}
		if got := kinds(ReadFile(file)); !strings.HasSuffix(got, " poststart") {
			t.Errorf("hooks after it did not run: %s", got)
		}
		_ = os.Remove(log)
	}
}

func TestHookTimeout(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	b := s.Bundle(AddHook("createRuntime", specs.Hook{Path: "/bin/busybox", Args: []string{"sleep", "20"}, Timeout: Ptr(1)}))
	begin := time.Now()
	s.Fails(Said("createRuntime", "timeout"), "create", "--bundle", b.Dir, "late")
	if d := time.Since(begin); d < time.Second || d > 5*time.Second {
		t.Errorf("took %s", d)
	}
	s.CheckNothingLeft()
}

func TestMissingHook(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	b := s.Bundle(AddHook("createRuntime", specs.Hook{Path: "/no/such/hook"}))
	s.Fails(Said("no such file or directory"), "create", "--bundle", b.Dir, "missing")
	s.CheckNothingLeft()
}

// A hook need not read its state, however large.
func TestHookThatReadsNothing(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	annotations := map[string]string{}
	for i := range 500 {
		annotations[fmt.Sprint("key", i)] = strings.Repeat("x", 500) // far more than a pipe holds
	}
	big := func(c *specs.Spec) { c.Annotations = annotations }
	s.OutputOf("true", big, WithHook("createRuntime", "exit 0"))
	out := filepath.Join(s.Dir, "annotations")
	s.OutputOf("true", big, WithHook("createRuntime", "cat > "+out))
	Equal(t, "annotations", len(Decode[specs.State](t, ReadFile(out)).Annotations), 500)
}

func TestHookDescriptors(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	file, changes := record(s)
	dir := filepath.Dir(file)
	changes = changes[:1]
	for _, kind := range hookKinds {
		changes = append(changes, WithHook(kind, "set -- /proc/$$/fd/*; echo $KIND $# >> "+file))
	}
	s.Running(changes...)
	s.OK("delete", "--force", s.IDs[0])
	for line := range strings.Lines(ReadFile(file)) {
		// The shell's own: 0, 1, 2, the directory that it lists, and dash keeps its script at 10 if it has one.
		if n := Atoi(strings.Fields(line)[1]); n > 4 {
			t.Errorf("descriptors of a hook in %s: %s", dir, line)
		}
	}
	Equal(t, "hooks", kinds(ReadFile(file)), strings.Join(hookKinds, " "))
}

// Hooks ask the runtime about their container; that must not wait for the command that waits for them.
func TestHooksCallTheRuntime(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ kind, command, want string }{
		{"createRuntime", "state", `"status": "creating"`},
		{"createContainer", "state", `"status": "creating"`},
		{"poststart", "state", `"status": "running"`},
		{"createRuntime", "list", "creating"},
		{"poststart", "ps", "sleep"},
		{"poststart", "exec ID echo executed", "executed"},
		{"poststart", "update --pids-limit 99 ID && cat FILE", "99"},
		{"poststop", "list", "BUNDLE"},
	} {
		t.Run(c.kind+" "+c.command, func(t *testing.T) {
			t.Parallel()
			s := NewSandbox(t)
			name := s.Mark + "-id"
			s.IDs = append(s.IDs, name)
			out := filepath.Join(s.Dir, "out")
			file := filepath.Join(CgroupRoot, ByCgroup("pids", ""), s.Cgroup(), "pids.max")
			command := strings.NewReplacer("ID", name, "FILE", file).Replace(c.command)
			if !strings.Contains(c.command, "ID") && c.command != "list" {
				command += " " + name
			}
			b := s.Bundle(WithHook(c.kind, fmt.Sprintf("%s timeout 5 %s --root %s %s > %s 2>&1 </dev/null; true", s.BusAddress(), Binary, s.Root, command, out)))
			s.OK("create", "--bundle", b.Dir, name)
			s.OK("start", name)
			s.OK("delete", "--force", name)
			if got := ReadFile(out); !strings.Contains(got, c.want) {
				t.Errorf("the hook saw %q, want %q", got, c.want)
			}
		})
	}
}

func TestCreatingStatus(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	fifo := filepath.Join(s.Dir, "fifo")
	Must(t, unix.Mkfifo(fifo, 0o600))
	c := &Container{Sandbox: s, ID: s.NewID(), Bundle: s.Bundle(WithHook("createRuntime", "read line < "+fifo))}
	cmd := s.Command("create", "--bundle", c.Dir(), c.ID)
	s.Start(cmd)
	Eventually(t, "the container", func() error {
		if r := s.Sock("state", c.ID); r.Code != 0 || Decode[State](t, r.Stdout).Status != "creating" {
			return fmt.Errorf("%v", r)
		}
		return nil
	})
	s.Fails(Said("exist"), "create", "--bundle", c.Dir(), c.ID)
	Must(t, os.WriteFile(fifo, []byte("go on\n"), 0))
	Equal(t, "exit status of create", s.Finish(cmd).Code, 0)
	Equal(t, "status", c.State().Status, "created")
}
