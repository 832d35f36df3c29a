package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	. "github.com/sock-runtime/sock/tests/sandbox"
)

// podman is Debian's Podman with the runtime under test, an image "box" of busybox, and all else of its own.
type podman struct{ Engine }

func newPodman(t *testing.T) podman {
	t.Helper()
	room := engineRoom(t, "podman", "conmon")
	s := room.Sandbox
	config := filepath.Join(s.Dir, "containers.conf")
	WriteFile(t, config, fmt.Sprintf(`
[containers]
default_ulimits = []
[engine]
lock_type = "file"
runtime_supports_json = ["sock"]
[engine.runtimes]
sock = [%q]
[network]
network_config_dir = %q
`, Binary, filepath.Join(s.Dir, "cni")), 0o644)
	p := podman{Engine{Sandbox: s, Room: room, Env: []string{"CONTAINERS_CONF=" + config}, Args: []string{
		"podman", "--runtime", "sock",
		"--root", filepath.Join(s.Dir, "root"), "--runroot", filepath.Join(s.Dir, "run"), "--tmpdir", filepath.Join(s.Dir, "tmp"),
		"--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--events-backend", "file",
	}}}
	p.OK("import", s.ImageTar(), "box")
	t.Cleanup(func() {
		p.Try("pod", "rm", "--force", "--all", "--time", "0")
		p.Try("rm", "--force", "--all", "--time", "0")
		removeParents(p.Engine, "libpod-")
	})
	return p
}

// subtest runs one test with the Podman.
func (p podman) subtest(name string, test func(p podman)) {
	p.Run(name, func(t *testing.T) { test(podman{p.In(t)}) })
}

// line is a command that makes a container with these flags, separated by blanks, and without a network if they name none.
func (p podman) line(verb, flags string, args ...string) []string {
	list := append(strings.Fields(verb), "--cgroup-parent", "/"+p.Mark)
	if !strings.Contains(flags, "--network") {
		list = append(list, "--network", "none")
	}
	return append(append(list, strings.Fields(flags)...), args...)
}

// run runs a command in a new container.
func (p podman) run(flags string, args ...string) Result {
	p.Helper()
	return p.Try(p.line("run --rm", flags, append([]string{"box"}, args...)...)...)
}

// script runs a shell script in a new container, which must succeed; it returns the output.
func (p podman) script(flags, lines string) string {
	p.Helper()
	r := p.run(flags, "sh", "-c", lines)
	if r.Code != 0 {
		p.Fatal(r)
	}
	return strings.TrimSpace(r.Stdout)
}

// start runs a shell script in the background, in a container with this name.
func (p podman) start(name, flags, lines string) {
	p.Helper()
	p.OK(p.line("run --detach --name "+name, flags, "box", "sh", "-c", lines)...)
	p.Cleanup(func() { p.remove(name) })
}

// remove removes a container. Podman may be cleaning up after its end at the same time, and then fail to remove a
// directory on which the other is unmounting something.
func (p podman) remove(name string) {
	p.Helper()
	Eventually(p.T, "removal of "+name, func() error {
		if r := p.Try("rm", "--force", "--ignore", "--time", "0", name); r.Code != 0 {
			return fmt.Errorf("%v", r)
		}
		return nil
	})
}

func (p podman) inspect(name, field string) string {
	p.Helper()
	return p.OK("inspect", "--type", "container", "--format", "{{"+field+"}}", name)
}

// waitFor waits until the container's log has a text.
func (p podman) waitFor(name, text string) {
	p.Helper()
	Eventually(p.T, fmt.Sprintf("%q in the log", text), func() error {
		if r := p.Try("logs", name); !strings.Contains(r.Stdout, text) {
			return fmt.Errorf("%v", r)
		}
		return nil
	})
}

const showNamespaces = `for kind in user pid net ipc; do readlink /proc/self/ns/$kind; done`

const untilTerm = `trap 'echo term; exit 3' TERM; echo ready; while :; do sleep 0.05; done`

func TestPodman(t *testing.T) {
	t.Parallel()
	p := newPodman(t)
	p.subtest("run", podman.testRun)
	p.subtest("process", podman.testProcess)
	p.subtest("isolation", podman.testIsolation)
	p.subtest("limits", podman.testLimits)
	p.subtest("mounts", podman.testMounts)
	p.subtest("rootfs", podman.testRootfs)
	p.subtest("userns", podman.testUserNamespace)
	p.subtest("exec", podman.testExec)
	p.subtest("life", podman.testLife)
	p.subtest("terminal", podman.testTerminal)
	p.subtest("restart", podman.testRestart)
	p.subtest("health", podman.testHealth)
	p.subtest("pod", podman.testPod)
	p.subtest("network", podman.testNetwork)
	p.subtest("hooks", podman.testHooks)
}

func (p podman) testRun() {
	r := p.run("", "sh", "-c", "echo out; echo err >&2; exit 7")
	if r.Code != 7 || r.Stdout != "out\n" || r.Stderr != "err\n" {
		p.Errorf("want out, err, 7: %v", r)
	}
	for _, c := range []struct {
		program, text string
		code          int
	}{
		{"nosuch", `exec: "nosuch": executable file not found in $PATH`, 127},
		{"/nosuch", `exec: "/nosuch": stat /nosuch: no such file or directory`, 127},
		{"/etc/passwd", `exec: "/etc/passwd": permission denied`, 126},
		{"/tmp", `exec: "/tmp": is a directory: permission denied`, 126},
	} {
		if r := p.run("", c.program); r.Code != c.code || !strings.Contains(r.Stderr, c.text) {
			p.Errorf("want %d and %q: %v", c.code, c.text, r)
		}
	}
	cmd := p.Command(p.line("run --rm --interactive", "", "box", "cat")...)
	cmd.Stdin = strings.NewReader("typed\n")
	Equal(p.T, "what cat says", p.Do(cmd).Stdout, "typed\n")
	Equal(p.T, "output without a log", p.script("--log-driver none", "echo nolog"), "nolog")
	Equal(p.T, "process 1 with --init", p.script("--init", "cat /proc/1/comm"), "podman-init")
	if r := p.run("--timeout 1", "sleep", "100"); r.Code == 0 {
		p.Errorf("a timeout of 1 s: %v", r)
	}
}

func (p podman) testProcess() {
	Equal(p.T, "user", p.script("--user 1000:1000", "id -u; id -g"), "1000\n1000")
	Equal(p.T, "named user", p.script("--user user --group-add 55", "id -u; id -G; echo $HOME"), "1000\n1000 55\n/home/user")
	Equal(p.T, "directory, environment, umask", p.script("--workdir /usr --env A=b --umask 077", "pwd; echo $A; umask"), "/usr\nb\n0077")
	Equal(p.T, "host name", p.script("--hostname subzero", "hostname"), "subzero")
	Equal(p.T, "limits", p.script("--ulimit nofile=100:200 --ulimit core=0 --ulimit nproc=500", "ulimit -n; ulimit -Hn; ulimit -c"), "100\n200\n0")
	Equal(p.T, "OOM score", p.script("--oom-score-adj 500", "cat /proc/self/oom_score_adj"), "500")
	Equal(p.T, "personality", p.script("--personality LINUX32", "uname -m"), "i686")
	Equal(p.T, "sysctls", p.script("--sysctl kernel.shm_rmid_forced=1 --sysctl net.ipv4.ip_forward=1",
		"cat /proc/sys/kernel/shm_rmid_forced /proc/sys/net/ipv4/ip_forward"), "1\n1")
	cmd := p.Command(p.line("run --rm --preserve-fds 1", "", "box", "sh", "-c", "cat <&3")...)
	file, err := os.Open(filepath.Join(p.HostDir(), "file"))
	Must(p.T, err)
	defer file.Close()
	cmd.ExtraFiles = []*os.File{file}
	Equal(p.T, "preserved descriptor", p.Do(cmd).Stdout, "host\n")
}

func (p podman) testIsolation() {
	caps := func(flags string) string {
		return StatusField(p.script(flags, "cat /proc/self/status"), "CapEff")
	}
	Equal(p.T, "no capabilities", caps("--cap-drop all"), "0000000000000000")
	Equal(p.T, "one capability", caps("--cap-drop all --cap-add CHOWN"), "0000000000000001")
	Equal(p.T, "capabilities of a user", caps("--user 1000"), "0000000000000000")
	Equal(p.T, "privileged", caps("--privileged"), StatusField(ReadFile("/proc/self/status"), "CapEff"))
	status := p.script("", "cat /proc/self/status; (unshare -U || mount -t tmpfs x /tmp) 2>/dev/null || echo refused")
	Equal(p.T, "seccomp", StatusField(status, "Seccomp"), "2")
	Equal(p.T, "no_new_privs", StatusField(status, "NoNewPrivs"), "0")
	status = p.script("--security-opt seccomp=unconfined --security-opt no-new-privileges", "cat /proc/self/status")
	Equal(p.T, "seccomp unconfined", StatusField(status, "Seccomp"), "0")
	Equal(p.T, "no_new_privs asked for", StatusField(status, "NoNewPrivs"), "1")
	profile := filepath.Join(p.Dir, "seccomp.json")
	WriteFile(p.T, profile, `{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 6}]}`, 0o644)
	Equal(p.T, "a profile of one's own", p.script("--security-opt seccomp="+profile, "mkdir /x 2>&1 | grep -c 'No such device'"), "1")

	for flag, kind := range map[string]string{"pid": "pid", "ipc": "ipc", "uts": "uts", "cgroupns": "cgroup", "network": "net"} {
		in := NamespaceOf(p.T, p.Room.Pid(), kind)
		Equal(p.T, "--"+flag+" host", p.script("--"+flag+" host", "readlink /proc/self/ns/"+kind), in)
		if own := p.script("", "readlink /proc/self/ns/"+kind); kind != "cgroup" && own == in {
			p.Errorf("the %s namespace is the host's", kind)
		}
	}
	if own := p.script("--cgroupns private", "readlink /proc/self/ns/cgroup"); own == NamespaceOf(p.T, p.Room.Pid(), "cgroup") {
		p.Error("the cgroup namespace is the host's")
	}
	Equal(p.T, "masked and unmasked", p.script("--security-opt mask=/etc/group --security-opt unmask=/proc/kcore",
		"cat /etc/group | wc -c; mount | grep -c kcore || true"), "0\n0")
}

func (p podman) testLimits() {
	Equal(p.T, "limits", p.script("--memory 64m --cpus 0.5 --pids-limit 20", "cd /sys/fs/cgroup; cat "+
		ByCgroup("memory/memory.limit_in_bytes cpu/cpu.cfs_quota_us pids/pids.max", "memory.max cpu.max pids.max")),
		ByCgroup("67108864\n50000\n20", "67108864\n50000 100000\n20"))
	if r := p.run("--memory 8m --memory-swap 8m", "sh", "-c", "a=x; while :; do a=$a$a; done"); r.Code != 137 {
		p.Errorf("out of memory: %v", r)
	}
	if r := p.run("--cpuset-cpus 9999", "true"); r.Code != 126 && r.Code != 127 && r.Code != 125 {
		p.Errorf("a CPU that isn't there: %v", r)
	}
}

func (p podman) testMounts() {
	dir := p.HostDir()
	Equal(p.T, "read-only root", p.script("--read-only", "(echo x > /x) 2>/dev/null || echo refused; echo y > /tmp/y && cat /tmp/y"), "refused\ny")
	Equal(p.T, "read-only volume", p.script("--volume "+dir+":/v:ro", "cat /v/file; (echo x > /v/file) 2>/dev/null || echo refused"), "host\nrefused")
	Equal(p.T, "volume of a file", p.script("--volume "+dir+"/file:/v", "echo written > /v; cat /v"), "written")
	Equal(p.T, "the file", ReadFile(filepath.Join(dir, "file")), "written\n")
	p.script("--volume named:/data", "echo kept > /data/x")
	Equal(p.T, "named volume", p.script("--volume named:/data", "cat /data/x"), "kept")
	m := MountsOf(p.script("--tmpfs /t:size=1m,mode=1777,noexec --shm-size 2m", "cat /proc/self/mountinfo"))
	if t := m["/t"]; t.Kind != "tmpfs" || !t.Has("noexec") || !strings.Contains(t.Super, "size=1024k") {
		p.Errorf("/t: %+v", t)
	}
	if shm := m["/dev/shm"]; !strings.Contains(shm.Super, "size=2048k") && !strings.Contains(shm.Super, "size=2000k") {
		p.Errorf("/dev/shm: %+v", shm)
	}
	Equal(p.T, "device", p.script("--device /dev/kmsg:/dev/mine:w", ": > /dev/mine && echo writable; (: < /dev/mine) 2>/dev/null || echo unreadable"), "writable\nunreadable")
	systemd := MountsOf(p.script("--systemd always", "cat /proc/self/mountinfo"))
	for _, name := range []string{"/run", "/run/lock", "/tmp", "/var/log/journal"} {
		Equal(p.T, name+" for systemd", systemd[name].Kind, "tmpfs")
	}
}

func (p podman) testRootfs() {
	b := p.Bundle()
	run := func(rootfs, lines string) string {
		return p.OK(p.line("run --rm", "--rootfs", rootfs, "sh", "-c", lines)...)
	}
	Equal(p.T, "output", run(b.Rootfs, "touch /made; cat /etc/passwd | wc -l"), "2")
	if _, err := os.Stat(filepath.Join(b.Rootfs, "made")); err != nil {
		p.Error(err)
	}
	Equal(p.T, "output of an overlay", run(b.Rootfs+":O", "echo x > /over; cat /over"), "x")
	if _, err := os.Stat(filepath.Join(b.Rootfs, "over")); err == nil {
		p.Error("the overlay's lower directory was written to")
	}
}

func (p podman) testUserNamespace() {
	before := DeviceOwners(p.T)
	const mapped = "--uidmap 0:100000:5000 --gidmap 0:100000:5000"
	out := p.script(mapped, "cat /proc/self/uid_map; touch /x; stat -c %u /x /dev /proc/1; echo x > /dev/null; stat -c %u:%g /bin/sh")
	Equal(p.T, "output", strings.Join(strings.Fields(out), " "), "0 100000 5000 0 0 0 0:0")
	Equal(p.T, "privileged", p.script(mapped+" --privileged", "readlink /dev/ptmx"), "pts/ptmx")
	Equal(p.T, "with the host's processes", p.script(mapped+" --pid host", "readlink /proc/self/ns/pid"), NamespaceOf(p.T, p.Room.Pid(), "pid"))

	p.start("mapped", mapped, untilTerm)
	p.waitFor("mapped", "ready")
	Equal(p.T, "exec", p.OK("exec", "mapped", "sh", "-c", "id -u; echo x > /dev/null && echo null"), "0\nnull")
	Equal(p.T, "exec of a user", p.OK("exec", "--user", "1000", "mapped", "id", "-u"), "1000")
	Equal(p.T, "top", strings.Join(strings.Fields(p.OK("top", "mapped", "user", "huser", "pid", "args"))[:6], " "), "USER HUSER PID COMMAND root 100000")
	Equal(p.T, "namespaces of another", p.script("--userns container:mapped --network container:mapped --pid container:mapped --ipc container:mapped",
		showNamespaces), p.OK("exec", "mapped", "sh", "-c", showNamespaces))
	p.OK("pause", "mapped")
	p.OK("unpause", "mapped")
	p.OK("stop", "mapped")
	Equal(p.T, "exit status", p.inspect("mapped", ".State.ExitCode"), "3")
	Equal(p.T, "the host's devices", DeviceOwners(p.T), before)
}

func (p podman) testExec() {
	p.start("box", "--env A=container --user 1000", untilTerm)
	p.waitFor("box", "ready")
	exec := func(flags string, args ...string) Result {
		return p.Try(append(append([]string{"exec"}, strings.Fields(flags)...), append([]string{"box"}, args...)...)...)
	}
	r := exec("", "sh", "-c", "echo out; echo err >&2; exit 9")
	if r.Code != 9 || r.Stdout != "out\n" || !strings.Contains(r.Stderr, "err\n") {
		p.Errorf("want out, err, 9: %v", r)
	}
	for _, c := range []struct {
		flags, program, text string
		code                 int
	}{
		{"", "nosuch", `exec: "nosuch": executable file not found in $PATH`, 127},
		{"", "/etc/passwd", `exec: "/etc/passwd": permission denied`, 126},
		{"--workdir /nosuch", "true", `chdir to cwd ("/nosuch")`, 127},
	} {
		if r := exec(c.flags, c.program); r.Code != c.code || !strings.Contains(r.Stderr, c.text) {
			p.Errorf("want %d and %q: %v", c.code, c.text, r)
		}
	}
	Equal(p.T, "the container's user and environment", exec("", "sh", "-c", "id -u; echo $A").Stdout, "1000\ncontainer\n")
	Equal(p.T, "others", exec("--user 0 --workdir /usr --env A=exec", "sh", "-c", "id -u; echo $A; pwd").Stdout, "0\nexec\n/usr\n")
	Equal(p.T, "privileged", StatusField(exec("--privileged --user 0", "cat", "/proc/self/status").Stdout, "CapEff"), StatusField(ReadFile("/proc/self/status"), "CapEff"))
	Equal(p.T, "seccomp", StatusField(exec("", "cat", "/proc/self/status").Stdout, "Seccomp"), "2")
	cmd := p.Command("exec", "--interactive", "box", "cat")
	cmd.Stdin = strings.NewReader("typed\n")
	Equal(p.T, "what cat says", p.Do(cmd).Stdout, "typed\n")
	p.OK("exec", "--detach", "--user", "0", "box", "sh", "-c", "echo here > /tmp/detached; sleep 1000")
	Eventually(p.T, "what a detached process writes", func() error {
		if r := exec("", "cat", "/tmp/detached"); r.Stdout != "here\n" {
			return fmt.Errorf("%v", r)
		}
		return nil
	})
	if out := p.OK("top", "box", "user", "args"); !strings.Contains(out, "sleep 1000") {
		p.Errorf("top: %s", out)
	}
}

func (p podman) testLife() {
	p.start("box", "", untilTerm)
	p.waitFor("box", "ready")
	status := func(want string) {
		p.Helper()
		Equal(p.T, "status", p.inspect("box", ".State.Status"), want)
	}
	status("running")
	Equal(p.T, "runtime", p.inspect("box", ".OCIRuntime"), "sock")
	p.Prints("box Up", "ps", "--filter", "name=box", "--format", `{{.Names}} {{slice .Status 0 2}}`)
	if n := Atoi(p.OK("stats", "--no-stream", "--format", "{{.PIDs}}", "box")); n < 1 {
		p.Errorf("stats: %d processes", n)
	}
	p.OK("update", "--memory", "100m", "box")
	Equal(p.T, "updated limit", p.OK("exec", "box", "cat", ByCgroup("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory.max")), "104857600")

	p.OK("pause", "box")
	status("paused")
	p.Fails(255, "can only create exec sessions on running containers", "exec", "box", "true")
	p.OK("unpause", "box")
	status("running")
	WriteFile(p.T, filepath.Join(p.Dir, "copied"), "copied\n", 0o644)
	p.OK("cp", filepath.Join(p.Dir, "copied"), "box:/tmp/x")
	p.Prints("copied", "exec", "box", "cat", "/tmp/x")

	p.OK("restart", "box")
	p.waitFor("box", "ready\nterm\nready")
	p.OK("stop", "box")
	status("exited")
	Equal(p.T, "exit status after stop", p.inspect("box", ".State.ExitCode"), "3")
	p.OK("start", "box")
	p.OK("kill", "box")
	p.Prints("137", "wait", "box")
	p.Fails(125, "can only kill running containers", "kill", "box")
	p.OK("start", "box")
	p.Fails(2, "running or paused containers cannot be removed without force", "rm", "box")
	p.remove("box")

	p.start("deaf", "", "trap '' TERM; echo ready; while :; do sleep 0.05; done")
	p.waitFor("deaf", "ready")
	p.OK("stop", "--time", "1", "deaf")
	Equal(p.T, "exit status after a stop that was not heard", p.inspect("deaf", ".State.ExitCode"), "137")
	p.OK("start", "deaf")
	p.OK("pause", "deaf")
	p.remove("deaf")

	p.OK(p.line("create --name later", "", "box", "sh", "-c", "echo created; exit 4")...)
	p.OK("init", "later")
	Equal(p.T, "status after init", p.inspect("later", ".State.Status"), "initialized")
	for range 2 {
		if r := p.Try("start", "--attach", "later"); r.Code != 4 || r.Stdout != "created\n" {
			p.Errorf("want created, 4: %v", r)
		}
	}
	p.remove("later")
}

func (p podman) testTerminal() {
	converse(p.Engine, p.line("run --rm --interactive --tty", "", "box")...)
	p.start("box", "", untilTerm)
	p.waitFor("box", "ready")
	converse(p.Engine, "exec", "--interactive", "--tty", "box")

	p.OK(p.line("run --detach --interactive --tty --name shell", "", "box", "sh")...)
	con, wait := p.Terminal(24, 80, "attach", "--detach-keys", "ctrl-x", "shell")
	con.Write("echo $((6*7)) in $(tty)\n")
	con.WaitFor("42 in /dev/pts/0")
	con.Write("\x18") // ctrl-x
	Equal(p.T, "exit status of a detached client", wait(), 0)
	Equal(p.T, "status", p.inspect("shell", ".State.Status"), "running")
	p.remove("shell")
}

func (p podman) testRestart() {
	p.start("box", "--restart on-failure:2", "echo run; exit 1")
	Eventually(p.T, "two restarts", func() error {
		if n := p.inspect("box", ".RestartCount"); n != "2" {
			return fmt.Errorf("%s", n)
		}
		return nil
	})
	p.Prints("1", "wait", "box")
	Equal(p.T, "log", p.OK("logs", "box"), "run\nrun\nrun")
}

func (p podman) testHealth() {
	p.OK(p.line("run --detach --name box", "--health-interval disable --health-retries 1", "--health-cmd", "test -e /tmp/ok", "box", "sleep", "1000")...)
	defer p.remove("box")
	p.Fails(1, "", "healthcheck", "run", "box")
	Equal(p.T, "health", p.inspect("box", ".State.Health.Status"), "unhealthy")
	p.OK("exec", "box", "touch", "/tmp/ok")
	p.OK("healthcheck", "run", "box")
	Equal(p.T, "health", p.inspect("box", ".State.Health.Status"), "healthy")
}

// testPod shares namespaces by path; the infra container is of the one image that we have.
func (p podman) testPod() {
	p.OK(p.line("pod create --name pod --share net,ipc,uts,pid", "--infra-image box --infra-command", "/bin/sleep 1000")...)
	member := func(verb, flags string, args ...string) []string {
		return append(append(append(strings.Fields(verb), "--pod", "pod"), strings.Fields(flags)...), args...)
	}
	p.OK(member("run --detach", "--name one", "box", "sleep", "1000")...)
	Equal(p.T, "namespaces", p.OK(member("run --rm", "", "box", "sh", "-c", showNamespaces)...), p.OK("exec", "one", "sh", "-c", showNamespaces))
	p.OK("pod", "pause", "pod")
	Equal(p.T, "status", p.inspect("one", ".State.Status"), "paused")
	p.OK("pod", "unpause", "pod")
	p.OK("pod", "stop", "--time", "0", "pod")
	Equal(p.T, "status", p.inspect("one", ".State.Status"), "exited")
	p.OK("pod", "start", "pod")
	Equal(p.T, "status", p.inspect("one", ".State.Status"), "running")
	p.OK("pod", "rm", "--force", "--time", "0", "pod")
}

// testNetwork has the bridge and a port on the host, both in the room.
func (p podman) testNetwork() {
	p.start("box", "--network podman --publish 18080:80", "while :; do echo hello | busybox nc -l -p 80; done")
	address := p.inspect("box", ".NetworkSettings.IPAddress")
	Equal(p.T, "address", p.script("--network container:box", "ip -o -4 addr show eth0 | grep -o 'inet [0-9.]*'"), "inet "+address)
	for _, to := range []string{address + " 80", "127.0.0.1 18080"} {
		Eventually(p.T, "answer from "+to, func() error {
			if r := p.Do(p.Room.Command(append([]string{Busybox, "nc"}, strings.Fields(to)...)...)); r.Stdout != "hello\n" {
				return fmt.Errorf("%v", r)
			}
			return nil
		})
	}
}

func (p podman) testHooks() {
	log := filepath.Join(p.Dir, "hooks.log")
	WriteFile(p.T, filepath.Join(p.Dir, "hooks", "log.json"), fmt.Sprintf(`{"version": "1.0.0", "when": {"always": true}, "stages": ["prestart", "poststop"],
		"hook": {"path": "/bin/sh", "args": ["sh", "-c", "grep -o 'status\":\"[a-z]*' >> %s"]}}`, log), 0o644)
	cmd := p.Command("--hooks-dir", filepath.Join(p.Dir, "hooks"))
	cmd.Args = append(cmd.Args, p.line("run --rm", "", "box", "true")...)
	if r := p.Do(cmd); r.Code != 0 {
		p.Fatal(r)
	}
	Eventually(p.T, "both hooks", func() error {
		if got := ReadFile(log); got != "status\":\"creating\nstatus\":\"stopped\n" && got != "status\":\"created\nstatus\":\"stopped\n" {
			return fmt.Errorf("log: %q", got)
		}
		return nil
	})
}
