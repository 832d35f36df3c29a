package engines

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	. "github.com/sock-runtime/sock/tests/sandbox"
)

// newPodman is Debian's Podman with the runtime under test, and all else of its own in a directory.
func newPodman(room *Room, dir, runtime string, parent ...string) client {
	config := filepath.Join(dir, "containers.conf")
	WriteFile(room.T, config, fmt.Sprintf(`
[containers]
default_ulimits = []
[engine]
lock_type = "file"
runtime_supports_json = ["sock"]
runtime_supports_nocgroup = ["sock"]
[engine.runtimes]
sock = [%q]
[network]
network_config_dir = %q
`, runtime, filepath.Join(dir, "cni")), 0o644)
	return client{
		Engine: Engine{Sandbox: room.Sandbox, Room: room, Env: []string{"CONTAINERS_CONF=" + config}, Args: []string{
			"podman", "--runtime", "sock",
			"--root", filepath.Join(dir, "root"), "--runroot", filepath.Join(dir, "run"), "--tmpdir", filepath.Join(dir, "tmp"),
			"--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--events-backend", "file",
		}},
		parent: parent, rm: []string{"rm", "--force", "--ignore", "--time", "0"}, privileged: ownCapabilities(), execNotFound: 127, lossy: true,
	}
}

// removeAll removes what the Podman has.
func removeAll(c client) {
	c.Helper()
	c.Try("pod", "rm", "--force", "--all", "--time", "0")
	c.Try("rm", "--force", "--all", "--time", "0")
	c.Try("system", "migrate") // without root: ends the process that holds the user's namespaces
	removeParents(c.Engine, "libpod-")
}

func TestPodman(t *testing.T) {
	t.Parallel()
	room := engineRoom(t, "podman", "conmon")
	c := newPodman(room, room.Dir, Binary, "--cgroup-parent", "/"+room.Mark)
	c.column = podman
	t.Cleanup(func() { removeAll(c) })
	c.OK("import", c.ImageTar(), "box")
	c.play(alike)
	c.play([]scenario{
		{"more flags", podmanFlags},
		{"rootfs", podmanRootfs},
		{"user namespaces", podmanUserNamespace},
		{"health", podmanHealth},
		{"pod", podmanPod},
		{"hooks", podmanHooks},
	})
}

// TestPodmanRootless has the Podman of an ordinary user, with ids of its own in /etc/subuid. On cgroup v1 its containers
// have no cgroups.
func TestPodmanRootless(t *testing.T) {
	t.Parallel()
	room := engineRoom(t, "podman", "conmon", "newuidmap")
	home, runtime, prefix := ordinaryUser(room)
	image := room.ImageTar()
	Must(t, os.Chmod(image, 0o644))

	c := newPodman(room, home, runtime)
	c.column = podmanRootless
	c.Args = append(append(prefix, c.Env...), c.Args...)
	c.privileged = allCapabilities() // in a user namespace of its own
	t.Cleanup(func() { removeAll(c) })
	c.OK("import", image, "box")
	c.play([]scenario{
		{"run", client.testRun},
		{"process", client.testProcess},
		{"privileged", client.testPrivileged},
		{"exec", client.testExec},
		{"terminal", client.testTerminal},
		{"restart", client.testRestart},
		{"health", podmanHealth},
		{"life", func(c client) {
			c.start("box", "", untilTerm)
			c.waitFor("box", "ready")
			c.OK("restart", "box")
			c.waitFor("box", "ready\nterm\nready")
			c.OK("stop", "box")
			Equal(c.T, "exit status after stop", c.inspect("box", ".State.ExitCode"), "3")
			c.OK("start", "box")
			c.OK("kill", "box")
			c.Prints("137", "wait", "box")
			c.OK("start", "box")
			c.remove("box")
		}},
		{"user namespaces", func(c client) {
			mapping := func(flags string) string {
				return strings.Join(strings.Fields(c.script(flags, "id -u; cat /proc/self/uid_map")), " ")
			}
			Equal(c.T, "mapping", mapping(""), fmt.Sprintf("0 0 %d 1 1 %d 65536", userID, userSubIDs))
			Equal(c.T, "mapping of a part", mapping("--uidmap 0:1:500"), "0 0 1 500")
			if own := mapping("--userns keep-id"); !strings.HasPrefix(own, fmt.Sprint(userID)+" ") {
				c.Errorf("with the user's own id: %s", own)
			}
			dir := filepath.Join(home, "volume")
			Must(c.T, os.MkdirAll(dir, 0o755))
			Must(c.T, os.Chown(dir, userID, userID))
			c.script("--volume "+dir+":/v", "echo written > /v/file; chown 5 /v/file; echo stored")
			var st unix.Stat_t
			Must(c.T, unix.Stat(filepath.Join(dir, "file"), &st))
			Equal(c.T, "owner on the host", st.Uid, userSubIDs+4)
		}},
		{"host namespaces", func(c client) {
			for flag, kind := range map[string]string{"pid": "pid", "uts": "uts", "network": "net"} {
				Equal(c.T, "--"+flag+" host", c.script("--"+flag+" host", "readlink /proc/self/ns/"+kind), NamespaceOf(c.T, c.Room.Pid(), kind))
			}
			Equal(c.T, "tmpfs for systemd", MountsOf(c.script("--systemd always", "cat /proc/self/mountinfo"))["/run/lock"].Kind, "tmpfs")
		}},
		{"namespaces of another", func(c client) {
			c.start("box", "", "sleep 1000")
			Equal(c.T, "of another", c.script("--network container:box --pid container:box --ipc container:box --uts container:box", showNamespaces), c.OK("exec", "box", "sh", "-c", showNamespaces))
		}},
	})
}

// podmanFlags are those that Docker hasn't.
func podmanFlags(c client) {
	Equal(c.T, "umask, personality", c.script("--umask 077 --personality LINUX32", "umask; uname -m"), "0077\ni686")
	Equal(c.T, "output without a log", c.script("--log-driver none", "echo nolog"), "nolog")
	if r := c.run("--timeout 1", "sleep", "100"); r.Code == 0 {
		c.Errorf("a timeout of 1 s: %v", r)
	}
	Equal(c.T, "masked and unmasked", c.script("--security-opt mask=/etc/group --security-opt unmask=/proc/acpi",
		"cat /etc/group | wc -c; mount | grep -c acpi || true"), "0\n0")
	cmd := c.Command(c.line("run --rm --preserve-fds 1", "", "box", "sh", "-c", "cat <&3")...)
	file, err := os.Open(filepath.Join(c.HostDir(), "file"))
	Must(c.T, err)
	defer file.Close()
	cmd.ExtraFiles = []*os.File{file}
	Equal(c.T, "preserved descriptor", c.Do(cmd).Stdout, "host\n")
	systemd := MountsOf(c.script("--systemd always", "cat /proc/self/mountinfo"))
	for _, name := range []string{"/run", "/run/lock", "/tmp", "/var/log/journal"} {
		Equal(c.T, name+" for systemd", systemd[name].Kind, "tmpfs")
	}
	if own := c.OK("run", "--rm", "--network", "none", "--cgroups", "disabled", "box", "cat", "/proc/self/cgroup"); strings.Contains(own, "libpod") {
		c.Errorf("cgroup without one: %s", own)
	}
	c.OK(c.line("create --name later", "", "box", "sh", "-c", "echo created; exit 4")...)
	c.OK("init", "later")
	c.wantStatus("later", "initialized")
	if r := c.Try("start", "--attach", "later"); r.Code != 4 || r.Stdout != "created\n" {
		c.Errorf("want created, 4: %v", r)
	}
	Equal(c.T, "runtime", c.inspect("later", ".OCIRuntime"), "sock")
	c.remove("later")
}

func podmanRootfs(c client) {
	b := c.Bundle()
	run := func(rootfs, lines string) string {
		return c.OK(c.line("run --rm", "--rootfs", rootfs, "sh", "-c", lines)...)
	}
	Equal(c.T, "output", run(b.Rootfs, "touch /made; cat /etc/passwd | wc -l"), "2")
	if _, err := os.Stat(filepath.Join(b.Rootfs, "made")); err != nil {
		c.Error(err)
	}
	Equal(c.T, "output of an overlay", run(b.Rootfs+":O", "echo x > /over; cat /over"), "x")
	if _, err := os.Stat(filepath.Join(b.Rootfs, "over")); err == nil {
		c.Error("the overlay's lower directory was written to")
	}
}

func podmanUserNamespace(c client) {
	before := DeviceOwners(c.T)
	const mapped = "--uidmap 0:100000:5000 --gidmap 0:100000:5000"
	out := c.script(mapped, "cat /proc/self/uid_map; touch /x; stat -c %u /x /dev /proc/1; echo x > /dev/null; stat -c %u:%g /bin/sh")
	Equal(c.T, "output", strings.Join(strings.Fields(out), " "), "0 100000 5000 0 0 0 0:0")
	Equal(c.T, "privileged", c.script(mapped+" --privileged", "readlink /dev/ptmx"), "pts/ptmx")
	Equal(c.T, "with the host's processes", c.script(mapped+" --pid host", "readlink /proc/self/ns/pid"), NamespaceOf(c.T, c.Room.Pid(), "pid"))

	c.start("mapped", mapped, untilTerm)
	c.waitFor("mapped", "ready")
	Equal(c.T, "exec", c.OK("exec", "mapped", "sh", "-c", "id -u; echo x > /dev/null && echo null"), "0\nnull")
	Equal(c.T, "exec of a user", c.OK("exec", "--user", "1000", "mapped", "id", "-u"), "1000")
	Equal(c.T, "top", strings.Join(strings.Fields(c.OK("top", "mapped", "user", "huser", "pid", "args"))[:6], " "), "USER HUSER PID COMMAND root 100000")
	Equal(c.T, "namespaces of another", c.script("--userns container:mapped --network container:mapped --pid container:mapped --ipc container:mapped --uts container:mapped",
		showNamespaces), c.OK("exec", "mapped", "sh", "-c", showNamespaces))
	c.OK("pause", "mapped")
	c.OK("unpause", "mapped")
	c.OK("stop", "mapped")
	Equal(c.T, "exit status", c.inspect("mapped", ".State.ExitCode"), "3")
	Equal(c.T, "the host's devices", DeviceOwners(c.T), before)
}

func podmanHealth(c client) {
	c.OK(c.line("run --detach --name box", "--health-interval disable --health-retries 1", "--health-cmd", "test -e /tmp/ok", "box", "sleep", "1000")...)
	defer c.remove("box")
	c.Fails(1, "", "healthcheck", "run", "box")
	Equal(c.T, "health", c.inspect("box", ".State.Health.Status"), "unhealthy")
	c.OK("exec", "box", "touch", "/tmp/ok")
	c.OK("healthcheck", "run", "box")
	Equal(c.T, "health", c.inspect("box", ".State.Health.Status"), "healthy")
}

// podmanPod shares namespaces by path; the infra container is of the one image that we have.
func podmanPod(c client) {
	c.OK(c.line("pod create --name pod --share net,ipc,uts,pid", "--infra-image box --infra-command", "/bin/sleep 1000")...)
	member := func(verb, flags string, args ...string) []string {
		return append(append(append(strings.Fields(verb), "--pod", "pod"), strings.Fields(flags)...), args...)
	}
	c.OK(member("run --detach", "--name one", "box", "sleep", "1000")...)
	Equal(c.T, "namespaces", c.OK(member("run --rm", "", "box", "sh", "-c", showNamespaces)...), c.OK("exec", "one", "sh", "-c", showNamespaces))
	c.OK("pod", "pause", "pod")
	c.wantStatus("one", "paused")
	c.OK("pod", "unpause", "pod")
	c.OK("pod", "stop", "--time", "0", "pod")
	c.wantStatus("one", "exited")
	c.OK("pod", "start", "pod")
	c.wantStatus("one", "running")
	c.OK("pod", "rm", "--force", "--time", "0", "pod")
}

func podmanHooks(c client) {
	log := filepath.Join(c.Dir, "hooks.log")
	WriteFile(c.T, filepath.Join(c.Dir, "hooks", "log.json"), fmt.Sprintf(`{"version": "1.0.0", "when": {"always": true}, "stages": ["prestart", "poststop"],
		"hook": {"path": "/bin/sh", "args": ["sh", "-c", "grep -o 'status\":\"[a-z]*' >> %s"]}}`, log), 0o644)
	cmd := c.Command("--hooks-dir", filepath.Join(c.Dir, "hooks"))
	cmd.Args = append(cmd.Args, c.line("run --rm", "", "box", "true")...)
	if r := c.Do(cmd); r.Code != 0 {
		c.Fatal(r)
	}
	Eventually(c.T, "both hooks", func() error {
		if got := ReadFile(log); got != "status\":\"creating\nstatus\":\"stopped\n" && got != "status\":\"created\nstatus\":\"stopped\n" {
			return fmt.Errorf("log: %q", got)
		}
		return nil
	})
}
