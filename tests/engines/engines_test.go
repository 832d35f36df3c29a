package engines

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	. "github.com/sock-runtime/sock/tests/sandbox"
)

// engineRoom is a room for a real container engine that consists of these programs.
func engineRoom(t *testing.T, programs ...string) *Room {
	t.Helper()
	if testing.Short() {
		t.Skip("engines take their time")
	}
	for _, name := range append(programs, "nsenter", "unshare", "setpriv", "ip", "tar") {
		_, err := exec.LookPath(name)
		Installable(t, err == nil, name+" is missing: run tests/setup.sh test")
	}
	return NewSandbox(t).NewRoom()
}

// The ordinary user of a room, and the first of the 65,536 ids that are given to it.
const userID, userSubIDs = 99999, 500000

// ordinaryUser makes a user with a home, and a copy of the runtime under test in it. The prefix makes a command the user's.
func ordinaryUser(room *Room) (home, runtime string, prefix []string) {
	room.Helper()
	Must(room.T, os.Chmod(room.Dir, 0o711))
	room.AddUser("ordinary", userID, userSubIDs)
	home = filepath.Join(room.Dir, "home")
	runtime = filepath.Join(home, "sock")
	program, err := os.ReadFile(Binary)
	Must(room.T, err)
	WriteFile(room.T, runtime, string(program), 0o755)
	session := filepath.Join(home, "session")
	for _, dir := range []string{home, session} {
		Must(room.T, os.MkdirAll(dir, 0o700))
		Must(room.T, os.Chown(dir, userID, userID))
	}
	id := fmt.Sprint(userID)
	return home, runtime, []string{
		"setpriv", "--reuid", id, "--regid", id, "--init-groups", "--reset-env",
		"env", "SOCK_TEST_MARK=" + room.Mark, "HOME=" + home, "XDG_RUNTIME_DIR=" + session,
	}
}

// removeParents removes the cgroups that an engine makes above and beside those of containers, and leaves. Those of
// containers, whose names begin with the prefix, must be gone.
func removeParents(e Engine, prefix string) {
	e.Helper()
	Eventually(e.T, "the end of all processes", func() error {
		if left := e.Processes(); len(left) > 0 {
			return fmt.Errorf("left: %v", left)
		}
		return nil
	})
	for _, dir := range e.Cgroups() {
		_ = filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() && name != dir && strings.HasPrefix(d.Name(), prefix) {
				e.Errorf("cgroup is left: %s", name)
			}
			return nil
		})
		Must(e.T, RemoveCgroup(dir))
	}
}

// ownCapabilities are those that we have; allCapabilities are those that the kernel knows.
func ownCapabilities() string { return StatusField(ReadFile("/proc/self/status"), "CapEff") }

func allCapabilities() string {
	return fmt.Sprintf("%016x", uint64(1)<<(Atoi(ReadFile("/proc/sys/kernel/cap_last_cap"))+1)-1)
}

// client is an engine with a command line in the manner of Docker's, and an image "box" of busybox. Its methods test are
// scenarios: what an engine's user does, whatever the engine and the way in which it calls the runtime.
type client struct {
	Engine
	column       string   // of the table in docs/engines.md
	cell         *string  // what the table says of the scenario that is played
	parent       []string // flags that say where cgroups are made
	rm           []string // the command that removes a container, whatever it does
	privileged   string   // the capabilities of --privileged, "" where it can't work
	execNotFound int      // exit status of exec where there is no such program
	lossy        bool     // was seen to lose the output of a short container, once, on a machine with fifteen times its load
}

// scenario is one test of an engine.
type scenario struct {
	name string
	test func(c client)
}

// alike are the scenarios of all engines.
var alike = []scenario{
	{"run", client.testRun},
	{"process", client.testProcess},
	{"capabilities", client.testCapabilities},
	{"privileged", client.testPrivileged},
	{"host namespaces", client.testHostNamespaces},
	{"limits", client.testLimits},
	{"volumes", client.testVolumes},
	{"device", client.testDevice},
	{"exec", client.testExec},
	{"pause", client.testPause},
	{"cp", client.testCopy},
	{"life", client.testLife},
	{"terminal", client.testTerminal},
	{"restart", client.testRestart},
	{"network", client.testNetwork},
}

// play runs scenarios as subtests, one after the other, and has the table say that they work, unless they say otherwise.
func (c client) play(scenarios []scenario) {
	for _, s := range scenarios {
		played(c.T, c.column, s.name, func(t *testing.T) string {
			c, cell := c, works
			c.Engine, c.cell = c.In(t), &cell
			s.test(c)
			return cell
		})
	}
}

// line is a command that makes a container with these flags, separated by blanks, and without a network if they name none.
func (c client) line(verb, flags string, args ...string) []string {
	list := append(strings.Fields(verb), c.parent...)
	if !strings.Contains(flags, "--network") {
		list = append(list, "--network", "none")
	}
	return append(append(list, strings.Fields(flags)...), args...)
}

// run runs a command in a new container.
func (c client) run(flags string, args ...string) Result {
	c.Helper()
	return c.Try(c.line("run --rm", flags, append([]string{"box"}, args...)...)...)
}

// script runs a shell script in a new container, which must succeed; it returns the output.
func (c client) script(flags, lines string) string {
	c.Helper()
	r := c.run(flags, "sh", "-c", lines)
	if c.lossy && r.Code == 0 && r.Stdout == "" {
		c.Logf("once more, without output: %v", r)
		r = c.run(flags, "sh", "-c", lines)
	}
	if r.Code != 0 {
		c.Fatal(r)
	}
	return strings.TrimSpace(r.Stdout)
}

// start runs a shell script in the background, in a container with this name.
func (c client) start(name, flags, lines string) {
	c.Helper()
	c.OK(c.line("run --detach --name "+name, flags, "box", "sh", "-c", lines)...)
	c.Cleanup(func() { c.remove(name) })
}

// remove removes a container. Podman may be cleaning up after its end at the same time, and then fail to remove a
// directory on which the other is unmounting something.
func (c client) remove(name string) {
	c.Helper()
	Eventually(c.T, "removal of "+name, func() error {
		if r := c.Try(append(c.rm[:len(c.rm):len(c.rm)], name)...); r.Code != 0 && !strings.Contains(r.Stderr, "No such container") {
			return fmt.Errorf("%v", r)
		}
		return nil
	})
}

func (c client) inspect(name, field string) string {
	c.Helper()
	return c.OK("inspect", "--type", "container", "--format", "{{"+field+"}}", name)
}

// wantStatus waits for a status: Podman calls a container "stopped" until another process has cleaned up after it.
func (c client) wantStatus(name, want string) {
	c.Helper()
	Eventually(c.T, "status "+want, func() error {
		if got := c.inspect(name, ".State.Status"); got != want {
			return fmt.Errorf("status is %s", got)
		}
		return nil
	})
}

// waitFor waits until the container's log has a text.
func (c client) waitFor(name, text string) {
	c.Helper()
	Eventually(c.T, fmt.Sprintf("%q in the log", text), func() error {
		if r := c.Try("logs", name); !strings.Contains(r.Stdout, text) {
			return fmt.Errorf("%v", r)
		}
		return nil
	})
}

// said checks the exit status of a command, and that it said a text, on whichever channel the engine puts it.
func (c client) said(r Result, code int, text string) {
	c.Helper()
	if r.Code != code || !strings.Contains(r.Stdout+r.Stderr, text) {
		c.Errorf("want exit status %d and %q: %v", code, text, r)
	}
}

// A container that ends with 3 when it is told to, and one that doesn't hear.
const (
	untilTerm = `trap 'echo term; exit 3' TERM; echo ready; while :; do sleep 0.05; done`
	deaf      = `trap '' TERM; echo ready; while :; do sleep 0.05; done`
)

const showNamespaces = `for kind in user pid net ipc uts; do readlink /proc/self/ns/$kind; done`

// memoryLimit is the file of the limit as a container sees it.
func memoryLimit() string {
	return ByCgroup("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory.max")
}

func (c client) testRun() {
	r := c.run("", "sh", "-c", "echo out; echo err >&2; exit 7")
	if r.Code != 7 || r.Stdout != "out\n" || r.Stderr != "err\n" {
		c.Errorf("want out, err, 7: %v", r)
	}
	c.said(c.run("", "nosuch"), 127, `exec: "nosuch": executable file not found in $PATH`)
	c.said(c.run("", "/nosuch"), 127, `exec: "/nosuch": stat /nosuch: no such file or directory`)
	c.said(c.run("", "/etc/passwd"), 126, `exec: "/etc/passwd": permission denied`)
	c.said(c.run("", "/tmp"), 126, `exec: "/tmp": is a directory: permission denied`)
	cmd := c.Command(c.line("run --rm --interactive", "", "box", "cat")...)
	cmd.Stdin = strings.NewReader("typed\n")
	Equal(c.T, "what cat says", c.Do(cmd).Stdout, "typed\n")
	if init := c.script("--init", "cat /proc/1/comm"); init != "docker-init" && init != "podman-init" {
		c.Errorf("process 1 with --init is %s", init)
	}
}

func (c client) testProcess() {
	Equal(c.T, "user", c.script("--user 1000:1000", "id -u; id -g"), "1000\n1000")
	Equal(c.T, "named user", c.script("--user user --group-add 55", "id -u; id -G; echo $HOME"), "1000\n1000 55\n/home/user")
	Equal(c.T, "directory and environment", c.script("--workdir /usr --env A=b", "pwd; echo $A"), "/usr\nb")
	Equal(c.T, "host name", c.script("--hostname subzero", "hostname"), "subzero")
	Equal(c.T, "limits", c.script("--ulimit nofile=100:200 --ulimit core=0 --ulimit nproc=500", "ulimit -n; ulimit -Hn; ulimit -c"), "100\n200\n0")
	Equal(c.T, "OOM score", c.script("--oom-score-adj 500", "cat /proc/self/oom_score_adj"), "500")
	Equal(c.T, "sysctls", c.script("--sysctl kernel.shm_rmid_forced=1 --sysctl net.ipv4.ip_forward=1",
		"cat /proc/sys/kernel/shm_rmid_forced /proc/sys/net/ipv4/ip_forward"), "1\n1")
}

// status is a field of a process's status, in a container with these flags.
func (c client) status(flags, field string) string {
	c.Helper()
	return StatusField(c.script(flags, "cat /proc/self/status"), field)
}

func (c client) testCapabilities() {
	Equal(c.T, "no capabilities", c.status("--cap-drop all", "CapEff"), "0000000000000000")
	Equal(c.T, "one capability", c.status("--cap-drop all --cap-add CHOWN", "CapEff"), "0000000000000001")
	Equal(c.T, "capabilities of a user", c.status("--user 1000", "CapEff"), "0000000000000000")
	Equal(c.T, "seccomp", c.status("", "Seccomp"), "2")
	Equal(c.T, "no_new_privs", c.status("", "NoNewPrivs"), "0")
	Equal(c.T, "seccomp unconfined", c.status("--security-opt seccomp=unconfined", "Seccomp"), "0")
	Equal(c.T, "no_new_privs asked for", c.status("--security-opt no-new-privileges", "NoNewPrivs"), "1")
	profile := filepath.Join(c.Dir, "seccomp.json")
	WriteFile(c.T, profile, `{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 6}]}`, 0o644)
	Equal(c.T, "a profile of one's own", c.script("--security-opt seccomp="+profile, "mkdir /x 2>&1 | grep -c 'No such device'"), "1")
	Equal(c.T, "masked", c.script("", "mount | grep -c '/proc/acpi\\|/proc/timer_list\\|/sys/firmware'"), "3")
}

// testPrivileged takes a refusal where the engine asks for capabilities that the machine hasn't got, if runc refuses, too.
func (c client) testPrivileged() {
	if c.privileged == "" {
		for _, flags := range []string{"--privileged", "--privileged --runtime runc"} {
			if r := c.run(flags, "true"); r.Code == 0 || !strings.Contains(r.Stderr, "caps") && !strings.Contains(r.Stderr, "process.capabilities") {
				c.Errorf("want an error about capabilities: %v", r)
			}
		}
		*c.cell = refused
		return
	}
	Equal(c.T, "capabilities", c.status("--privileged", "CapEff"), c.privileged)
	Equal(c.T, "seccomp", c.status("--privileged", "Seccomp"), "0")
	Equal(c.T, "not masked", c.script("--privileged", "mount | grep -c '/proc/acpi\\|/proc/timer_list\\|/sys/firmware' || true"), "0")
	c.start("box", "", untilTerm)
	exec := c.Try("exec", "--privileged", "box", "cat", "/proc/self/status")
	Equal(c.T, "capabilities of exec", StatusField(exec.Stdout, "CapEff"), c.privileged)
}

func (c client) testHostNamespaces() {
	for flag, kind := range map[string]string{"pid": "pid", "ipc": "ipc", "uts": "uts", "cgroupns": "cgroup", "network": "net"} {
		host := NamespaceOf(c.T, c.Room.Pid(), kind)
		Equal(c.T, "--"+flag+" host", c.script("--"+flag+" host", "readlink /proc/self/ns/"+kind), host)
	}
	own := c.script("--cgroupns private", showNamespaces+"; readlink /proc/self/ns/cgroup")
	for _, kind := range []string{"pid", "ipc", "uts", "net", "cgroup"} {
		if strings.Contains(own, NamespaceOf(c.T, c.Room.Pid(), kind)) {
			c.Errorf("the %s namespace is the host's", kind)
		}
	}
}

func (c client) testLimits() {
	Equal(c.T, "limits", c.script("--memory 64m --cpus 0.5 --pids-limit 20", "cd /sys/fs/cgroup; cat "+
		ByCgroup("memory/memory.limit_in_bytes cpu/cpu.cfs_quota_us pids/pids.max", "memory.max cpu.max pids.max")),
		ByCgroup("67108864\n50000\n20", "67108864\n50000 100000\n20"))
	Equal(c.T, "CPUs", c.script("--cpuset-cpus 0", "grep Cpus_allowed_list /proc/self/status | cut -f 2"), "0")
	if r := c.run("--memory 8m --memory-swap 8m", "sh", "-c", "a=x; while :; do a=$a$a; done"); r.Code != 137 {
		c.Errorf("out of memory: %v", r)
	}
}

func (c client) testVolumes() {
	dir := c.HostDir()
	Equal(c.T, "read-only root", c.script("--read-only --tmpfs /tmp", "(echo x > /x) 2>/dev/null || echo refused; echo y > /tmp/y && cat /tmp/y"), "refused\ny")
	Equal(c.T, "read-only volume", c.script("--volume "+dir+":/v:ro", "cat /v/file; (echo x > /v/file) 2>/dev/null || echo refused"), "host\nrefused")
	Equal(c.T, "volume of a file", c.script("--volume "+dir+"/file:/v", "echo written > /v; cat /v"), "written")
	Equal(c.T, "the file", ReadFile(filepath.Join(dir, "file")), "written\n")
	c.script("--volume named:/data", "echo kept > /data/x; echo stored")
	Equal(c.T, "named volume", c.script("--volume named:/data", "cat /data/x"), "kept")
	m := MountsOf(c.script("--tmpfs /t:size=1m,mode=1777,noexec --shm-size 2m --mount type=bind,source="+dir+",target=/b,bind-propagation=rslave", "cat /proc/self/mountinfo"))
	if t := m["/t"]; t.Kind != "tmpfs" || !t.Has("noexec") || !strings.Contains(t.Super, "size=1024k") {
		c.Errorf("/t: %+v", t)
	}
	if shm := m["/dev/shm"]; !strings.Contains(shm.Super, "size=2048k") && !strings.Contains(shm.Super, "size=2000k") {
		c.Errorf("/dev/shm: %+v", shm)
	}
	if _, ok := m["/b"]; !ok {
		c.Errorf("no mount at /b: %v", m)
	}
}

func (c client) testDevice() {
	Equal(c.T, "device", c.script("--device /dev/kmsg:/dev/mine:w", ": > /dev/mine && echo writable; (: < /dev/mine) 2>/dev/null || echo unreadable"), "writable\nunreadable")
}

func (c client) testExec() {
	c.start("box", "--env A=container --user 1000", untilTerm)
	c.waitFor("box", "ready")
	exec := func(flags string, args ...string) Result {
		return c.Try(append(append([]string{"exec"}, strings.Fields(flags)...), append([]string{"box"}, args...)...)...)
	}
	r := exec("", "sh", "-c", "echo out; echo err >&2; exit 9")
	if r.Code != 9 || r.Stdout != "out\n" || !strings.Contains(r.Stderr, "err\n") {
		c.Errorf("want out, err, 9: %v", r)
	}
	c.said(exec("", "nosuch"), c.execNotFound, `exec: "nosuch": executable file not found in $PATH`)
	c.said(exec("", "/etc/passwd"), 126, `exec: "/etc/passwd": permission denied`)
	c.said(exec("--workdir /nosuch", "true"), c.execNotFound, `chdir to cwd ("/nosuch")`)
	Equal(c.T, "the container's user and environment", exec("", "sh", "-c", "id -u; echo $A").Stdout, "1000\ncontainer\n")
	Equal(c.T, "others", exec("--user 0 --workdir /usr --env A=exec", "sh", "-c", "id -u; echo $A; pwd").Stdout, "0\nexec\n/usr\n")
	Equal(c.T, "seccomp", StatusField(exec("", "cat", "/proc/self/status").Stdout, "Seccomp"), "2")
	cmd := c.Command("exec", "--interactive", "box", "cat")
	cmd.Stdin = strings.NewReader("typed\n")
	Equal(c.T, "what cat says", c.Do(cmd).Stdout, "typed\n")
	c.OK("exec", "--detach", "--user", "0", "box", "sh", "-c", "echo here > /tmp/detached; exec sleep 1000")
	Eventually(c.T, "what a detached process writes", func() error {
		if r := exec("", "cat", "/tmp/detached"); r.Stdout != "here\n" {
			return fmt.Errorf("%v", r)
		}
		return nil
	})
	if out := c.OK("top", "box"); !strings.Contains(out, "sleep 1000") {
		c.Errorf("top: %s", out)
	}
}

func (c client) testPause() {
	c.start("box", "", untilTerm)
	c.waitFor("box", "ready")
	c.OK("update", "--memory", "100m", "--memory-swap", "200m", "box")
	Equal(c.T, "updated limit", c.OK("exec", "box", "cat", memoryLimit()), "104857600")
	c.OK("pause", "box")
	c.wantStatus("box", "paused")
	if r := c.Try("exec", "box", "true"); r.Code == 0 {
		c.Errorf("exec in a paused container: %v", r)
	}
	c.OK("unpause", "box")
	c.wantStatus("box", "running")
}

func (c client) testCopy() {
	c.start("box", "", untilTerm)
	copied := filepath.Join(c.Dir, "copied")
	WriteFile(c.T, copied, "copied\n", 0o644)
	c.OK("cp", copied, "box:/tmp/x")
	c.Prints("copied", "exec", "box", "cat", "/tmp/x")
	c.OK("cp", "box:/etc/group", copied)
	Equal(c.T, "file from the container", ReadFile(copied), "root:x:0:\nuser:x:1000:\n")
}

func (c client) testLife() {
	c.start("box", "", untilTerm)
	c.waitFor("box", "ready")
	c.wantStatus("box", "running")
	if out := c.OK("ps", "--filter", "name=box", "--format", "{{.Names}} {{.Status}}"); !strings.HasPrefix(out, "box Up ") {
		c.Errorf("ps: %s", out)
	}
	if n := Atoi(c.OK("stats", "--no-stream", "--format", "{{.PIDs}}", "box")); n < 1 {
		c.Errorf("stats: %d processes", n)
	}
	c.OK("restart", "box")
	c.waitFor("box", "ready\nterm\nready")
	c.OK("stop", "box")
	c.wantStatus("box", "exited")
	Equal(c.T, "exit status after stop", c.inspect("box", ".State.ExitCode"), "3")
	c.OK("start", "box")
	c.OK("kill", "box")
	c.Prints("137", "wait", "box")
	if r := c.Try("kill", "box"); r.Code == 0 {
		c.Errorf("kill of a dead container: %v", r)
	}
	c.OK("start", "box")
	if r := c.Try("rm", "box"); r.Code == 0 {
		c.Errorf("rm of a running container: %v", r)
	}
	c.remove("box")

	c.start("deaf", "", deaf)
	c.waitFor("deaf", "ready")
	c.OK("stop", "--time", "1", "deaf")
	Equal(c.T, "exit status after a stop that was not heard", c.inspect("deaf", ".State.ExitCode"), "137")
	c.OK("start", "deaf")
	c.OK("pause", "deaf")
	c.remove("deaf")

	c.OK(c.line("create --name later", "", "box", "sh", "-c", "echo created; exit 4")...)
	c.wantStatus("later", "created")
	for range 2 {
		if r := c.Try("start", "--attach", "later"); r.Code != 4 || r.Stdout != "created\n" {
			c.Errorf("want created, 4: %v", r)
		}
	}
	c.remove("later")
}

// onTerminal is a script for a terminal that becomes 44 by 111, and is told "hello" and "quit".
const onTerminal = `trap 'stty size' WINCH; echo ready
	while [ "$line" != quit ]; do read line && echo "got $line"; done; exit 6`

// converse plays the user of onTerminal's terminal.
func (c client) converse(args ...string) {
	c.Helper()
	con, wait := c.Terminal(33, 99, append(args, "sh", "-c", onTerminal)...)
	con.WaitFor("ready")
	Eventually(c.T, "the size", func() error {
		// The client may not wait for signals yet; and on a busy machine it may give up before the terminal takes its first
		// size (docker exec of 20.10 tries five times, 10 ms apart), so that one is not waited for.
		con.Resize(44, 110)
		con.Resize(44, 111)
		time.Sleep(50 * time.Millisecond)
		if out := con.Output(); !strings.Contains(out, "44 111") {
			return fmt.Errorf("terminal has %q", out)
		}
		return nil
	})
	con.Write("hello\n")
	con.WaitFor("got hello")
	con.Write("quit\n")
	Equal(c.T, "exit status", wait(), 6)
	if n := strings.Count(con.Output(), "hello"); n != 2 {
		c.Errorf("%d times hello, want an echo and an answer: %q", n, con.Output())
	}
}

func (c client) testTerminal() {
	c.converse(c.line("run --rm --interactive --tty", "", "box")...)
	c.start("box", "", untilTerm)
	c.waitFor("box", "ready")
	c.converse("exec", "--interactive", "--tty", "box")

	c.OK(c.line("run --detach --interactive --tty --name shell", "", "box", "sh")...)
	con, wait := c.Terminal(24, 80, "attach", "--detach-keys", "ctrl-x", "shell")
	con.Write("echo $((6*7)) in $(tty)\n")
	con.WaitFor("42 in /dev/pts/0")
	con.Write("\x18") // ctrl-x
	wait()
	c.wantStatus("shell", "running")
	c.remove("shell")
}

func (c client) testRestart() {
	c.start("box", "--restart on-failure:2", "echo run; exit 1")
	Eventually(c.T, "two restarts", func() error {
		if n := c.inspect("box", ".RestartCount"); n != "2" {
			return fmt.Errorf("%s", n)
		}
		return nil
	})
	c.Prints("1", "wait", "box")
	Equal(c.T, "log", c.OK("logs", "box"), "run\nrun\nrun")
}

// testNetwork has the engine's bridge and a port on the host, both in the room.
func (c client) testNetwork() {
	Equal(c.T, "interfaces without a network", c.script("", "ls /sys/class/net; ip -o -4 addr show lo | grep -o 127.0.0.1/8"), "lo\n127.0.0.1/8")
	c.start("box", "--network bridge --publish 18080:80", "while :; do echo hello | busybox nc -l -p 80; done")
	address := c.inspect("box", "range .NetworkSettings.Networks}}{{.IPAddress}}{{end")
	Equal(c.T, "address", c.script("--network container:box", "ip -o -4 addr show eth0 | grep -o 'inet [0-9.]*'"), "inet "+address)
	for _, to := range []string{address + " 80", "127.0.0.1 18080"} {
		Eventually(c.T, "answer from "+to, func() error {
			if r := c.Do(c.Room.Command(append([]string{Busybox, "nc"}, strings.Fields(to)...)...)); r.Stdout != "hello\n" {
				return fmt.Errorf("%v", r)
			}
			return nil
		})
	}
}
