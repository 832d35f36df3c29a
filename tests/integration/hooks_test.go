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
)

// hookKinds are in the order of their execution.
var hookKinds = []string{"prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"}

// withHook adds a shell script as a hook of a kind.
func withHook(kind, script string) change {
	return addHook(kind, specs.Hook{Path: "/bin/sh", Args: []string{"sh", "-c", script}, Env: []string{"PATH=/bin:/usr/bin", "KIND=" + kind}})
}

func addHook(kind string, hook specs.Hook) change {
	return func(c *specs.Spec) {
		if c.Hooks == nil {
			c.Hooks = &specs.Hooks{}
		}
		list := map[string]*[]specs.Hook{
			//lint:ignore SA1019 Docker 20.10 configures networks in it.
			"prestart":        &c.Hooks.Prestart,
			"createRuntime":   &c.Hooks.CreateRuntime,
			"createContainer": &c.Hooks.CreateContainer,
			"startContainer":  &c.Hooks.StartContainer,
			"poststart":       &c.Hooks.Poststart,
			"poststop":        &c.Hooks.Poststop,
		}[kind]
		*list = append(*list, hook)
	}
}

// record makes hooks of all kinds write "KIND STATE" into a host file that is bound into the container at the same path.
func (s *sandbox) record() (file string, changes []change) {
	s.Helper()
	dir := filepath.Join(s.dir, "record")
	must(s.T, os.MkdirAll(dir, 0o755))
	file = filepath.Join(dir, "file")
	writeFile(s.T, file, "", 0o666)
	changes = append(changes, bindAt(dir, dir))
	for _, kind := range hookKinds {
		changes = append(changes, withHook(kind, `echo "$KIND $(cat)" >> `+file))
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
	s := newSandbox(t)
	file, changes := s.record()
	changes = append(changes, script("echo process >> "+file+"; sleep 1000"), func(c *specs.Spec) {
		c.Annotations = map[string]string{"key": "value"}
	})
	c := s.create(changes...)
	equal(t, "hooks of create", kinds(readFile(file)), "prestart createRuntime createContainer")
	pid := c.pid()
	s.ok("start", c.name)
	eventually(t, "the hooks of start", func() error {
		got := kinds(readFile(file))
		if got != "prestart createRuntime createContainer startContainer poststart process" &&
			got != "prestart createRuntime createContainer startContainer process poststart" {
			return fmt.Errorf("%s", got)
		}
		return nil
	})
	s.ok("kill", c.name, "KILL")
	c.wantStatus("stopped")
	s.ok("delete", c.name)
	if got := kinds(readFile(file)); !strings.HasSuffix(got, " poststop") {
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
	for line := range strings.Lines(readFile(file)) {
		kind, text, _ := strings.Cut(line, " ")
		if text == "" {
			continue
		}
		st := decode[specs.State](t, text)
		equal(t, kind+": id", st.ID, c.name)
		equal(t, kind+": bundle", st.Bundle, c.dir())
		equal(t, kind+": status", st.Status, want[kind].Status)
		equal(t, kind+": pid", st.Pid, want[kind].Pid)
		equal(t, kind+": annotation", st.Annotations["key"], "value")
		if st.Version == "" {
			t.Errorf("%s: no ociVersion", kind)
		}
	}
}

func TestHooksOfRun(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	file, changes := s.record()
	r := s.run(append(changes, script("exit 3"))...)
	equal(t, "exit status", r.code, 3)
	equal(t, "hooks", kinds(readFile(file)), strings.Join(hookKinds, " "))
}

func TestHookArguments(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	tool := filepath.Join(s.dir, "tool")
	out := filepath.Join(s.dir, "out")
	writeFile(t, tool, "#!/bin/busybox sh\necho \"$@\" > "+out+"\n/bin/busybox env | /bin/busybox sort | /bin/busybox grep -v -E 'PATH|PWD|SHLVL|^_' >> "+out+"\n", 0o755)
	s.create(addHook("createRuntime", specs.Hook{Path: tool, Args: []string{"zero", "one", "two words"}, Env: []string{"A=1", "B=2"}}))
	equal(t, "arguments and environment", readFile(out), "one two words\nA=1\nB=2\n")
}

func TestHooksInOrder(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	out := filepath.Join(s.dir, "out")
	var many []change
	for i := range 5 {
		many = append(many, withHook("createRuntime", fmt.Sprintf("echo %d >> %s", i, out)))
	}
	s.create(many...)
	equal(t, "order", readFile(out), "0\n1\n2\n3\n4\n")
}

// createRuntime sees the host's namespaces, createContainer the container's with the host's files, startContainer the root.
func TestHookNamespaces(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	dir := filepath.Join(s.dir, "seen")
	must(t, os.Mkdir(dir, 0o777))
	see := func(kind string) change {
		return withHook(kind, fmt.Sprintf("for ns in mnt net uts ipc pid; do readlink /proc/self/ns/$ns; done > %s/%s; [ -e %s/config.json ] && echo host files >> %[1]s/%[2]s; true", dir, kind, "$BUNDLE"))
	}
	b := s.bundle()
	changes := []change{bindAt(dir, dir)}
	for _, kind := range []string{"createRuntime", "createContainer", "startContainer", "poststart"} {
		changes = append(changes, see(kind))
	}
	changes = append(changes, func(c *specs.Spec) {
		for _, list := range [][]specs.Hook{c.Hooks.CreateRuntime, c.Hooks.CreateContainer, c.Hooks.StartContainer, c.Hooks.Poststart} {
			list[0].Env = append(list[0].Env, "BUNDLE="+b.dir)
		}
	})
	s.configure(b, changes...)
	c := s.createIn(b)
	s.ok("start", c.name)
	links := func(pid int) (text string) {
		for _, ns := range []string{"mnt", "net", "uts", "ipc", "pid"} {
			text += namespaceOf(t, pid, ns) + "\n"
		}
		return text
	}
	host, own := links(os.Getpid()), links(c.pid())
	equal(t, "createRuntime", readFile(filepath.Join(dir, "createRuntime")), host+"host files\n")
	equal(t, "createContainer", readFile(filepath.Join(dir, "createContainer")), own+"host files\n")
	equal(t, "startContainer", readFile(filepath.Join(dir, "startContainer")), own)
	equal(t, "poststart", readFile(filepath.Join(dir, "poststart")), host+"host files\n")
}

// createContainer hooks run when the mounts are made, and what they mount into the rootfs is there later.
func TestCreateContainerHookMounts(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	b := s.bundle()
	s.configure(b, args("cat", "/mnt/hooked", "/etc/bound/file"), bindAt("/etc/bound", s.hostDir()),
		withHook("createContainer", fmt.Sprintf("/bin/busybox mount -t tmpfs hook %s/mnt && echo hooked > %[1]s/mnt/hooked && cat %[1]s/etc/bound/file >/dev/null", b.rootfs)))
	equal(t, "output", s.ok("run", "--bundle", b.dir, s.id()), "hooked\nhost\n")
}

// runtime.md "Lifecycle": an error, the container is stopped, destroyed, and its poststop hooks run. A poststop hook's failure
// is only a warning.
func TestFailingHook(t *testing.T) {
	t.Parallel()
	for i, kind := range hookKinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := newSandbox(t)
			file, changes := s.record()
			changes = append(changes, script("echo process >> "+file+"; sleep 1000"), withHook(kind, "echo the reason >&2; exit 12"))
			b := s.bundle(changes...)
			name := s.id()
			log := filepath.Join(s.dir, "log")
			r := s.sock("--log", log, "--log-format", "json", "create", "--bundle", b.dir, name)
			started := false
			if i >= 3 && r.code == 0 {
				started = true
				r = s.sock("--log", log, "--log-format", "json", "start", name)
			}
			if kind == "poststop" {
				equal(t, "exit status of start", r.code, 0)
				s.ok("--log", log, "--log-format", "json", "delete", "--force", name)
				entries := readLog(t, log)
				if len(entries) == 0 || entries[len(entries)-1].Level != "warning" || !strings.Contains(entries[len(entries)-1].Msg, "poststop") {
					t.Errorf("log: %+v", entries)
				}
				return
			}
			equal(t, "create succeeded", started, i >= 3)
			if r.code == 0 || !strings.Contains(r.stderr, kind) || !strings.Contains(r.stderr, "12") || !strings.Contains(r.stderr, "the reason") {
				t.Error(r)
			}
			if state := s.sock("state", name); state.code == 0 {
				equal(t, "status", decode[specs.State](t, state.stdout).Status, specs.StateStopped)
				s.ok("delete", name)
			}
			s.checkNothingLeft()
			got := kinds(readFile(file))
			if !strings.HasSuffix(got, " poststop") {
				t.Errorf("no poststop hook: %s", got)
			}
			if kind != "poststart" && strings.Contains(got, "process") {
				t.Errorf("the process was executed: %s", got)
			}
		})
	}
}

func TestHookTimeout(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	b := s.bundle(addHook("createRuntime", specs.Hook{Path: "/bin/busybox", Args: []string{"sleep", "20"}, Timeout: ptr(1)}))
	begin := time.Now()
	s.fails(said("createRuntime", "timeout"), "create", "--bundle", b.dir, "late")
	if d := time.Since(begin); d < time.Second || d > 5*time.Second {
		t.Errorf("took %s", d)
	}
	s.checkNothingLeft()
}

func TestMissingHook(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	b := s.bundle(addHook("createRuntime", specs.Hook{Path: "/no/such/hook"}))
	s.fails(said("no such file or directory"), "create", "--bundle", b.dir, "missing")
	s.checkNothingLeft()
}

// A hook need not read its state, however large.
func TestHookThatReadsNothing(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	annotations := map[string]string{}
	for i := range 500 {
		annotations[fmt.Sprint("key", i)] = strings.Repeat("x", 500) // far more than a pipe holds
	}
	big := func(c *specs.Spec) { c.Annotations = annotations }
	s.output("true", big, withHook("createRuntime", "exit 0"))
	out := filepath.Join(s.dir, "annotations")
	s.output("true", big, withHook("createRuntime", "cat > "+out))
	equal(t, "annotations", len(decode[specs.State](t, readFile(out)).Annotations), 500)
}

func TestHookDescriptors(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	file, changes := s.record()
	dir := filepath.Dir(file)
	changes = changes[:1]
	for _, kind := range hookKinds {
		changes = append(changes, withHook(kind, "set -- /proc/$$/fd/*; echo $KIND $# >> "+file))
	}
	s.running(changes...)
	s.ok("delete", "--force", s.ids[0])
	for line := range strings.Lines(readFile(file)) {
		// The shell's own: 0, 1, 2, the directory that it lists, and dash keeps its script at 10 if it has one.
		if n := atoi(strings.Fields(line)[1]); n > 4 {
			t.Errorf("descriptors of a hook in %s: %s", dir, line)
		}
	}
	equal(t, "hooks", kinds(readFile(file)), strings.Join(hookKinds, " "))
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
			s := newSandbox(t)
			name := s.mark + "-id"
			s.ids = append(s.ids, name)
			out := filepath.Join(s.dir, "out")
			file := filepath.Join(cgroupRoot, byCgroup("pids", ""), s.mark, "pids.max")
			command := strings.NewReplacer("ID", name, "FILE", file).Replace(c.command)
			if !strings.Contains(c.command, "ID") && c.command != "list" {
				command += " " + name
			}
			b := s.bundle(withHook(c.kind, fmt.Sprintf("timeout 5 %s --root %s %s > %s 2>&1 </dev/null; true", binary, s.root, command, out)))
			s.ok("create", "--bundle", b.dir, name)
			s.ok("start", name)
			s.ok("delete", "--force", name)
			if got := readFile(out); !strings.Contains(got, c.want) {
				t.Errorf("the hook saw %q, want %q", got, c.want)
			}
		})
	}
}

func TestCreatingStatus(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	fifo := filepath.Join(s.dir, "fifo")
	must(t, unix.Mkfifo(fifo, 0o600))
	c := &container{sandbox: s, name: s.id(), bundle: s.bundle(withHook("createRuntime", "read line < "+fifo))}
	cmd := s.command("create", "--bundle", c.dir(), c.name)
	s.start(cmd)
	eventually(t, "the container", func() error {
		if r := s.sock("state", c.name); r.code != 0 || decode[state](t, r.stdout).Status != "creating" {
			return fmt.Errorf("%v", r)
		}
		return nil
	})
	s.fails(said("exist"), "create", "--bundle", c.dir(), c.name)
	must(t, os.WriteFile(fifo, []byte("go on\n"), 0))
	equal(t, "exit status of create", s.finish(cmd).code, 0)
	equal(t, "status", c.state().Status, "created")
}
