package engines

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	. "github.com/sock-runtime/sock/tests/sandbox"
)

// daemon is dockerd in a room.
type daemon struct {
	*Room
	args []string
	log  string
	cmd  *exec.Cmd
}

// start starts dockerd and waits until it answers.
func (d *daemon) start(c client) {
	c.Helper()
	d.cmd = d.Room.Command(d.args...)
	log, err := os.OpenFile(d.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	Must(c.T, err)
	defer log.Close()
	d.cmd.Stdout, d.cmd.Stderr = log, log
	Must(c.T, d.cmd.Start())
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		r := c.Try("version")
		if r.Code == 0 {
			return
		}
		if time.Now().After(deadline) {
			c.Fatalf("dockerd does not start: %v\n%s", r, ReadFile(d.log))
		}
	}
}

// stop has dockerd end in an orderly way.
func (d *daemon) stop(c client) {
	c.Helper()
	_ = d.cmd.Process.Signal(unix.SIGTERM)
	kill := time.AfterFunc(30*time.Second, func() { _ = d.cmd.Process.Kill() })
	defer kill.Stop()
	if err := d.cmd.Wait(); err != nil {
		c.Errorf("dockerd: %v\n%s", err, ReadFile(d.log))
	}
}

// kill is what a crash does.
func (d *daemon) kill() {
	_ = d.cmd.Process.Kill()
	_ = d.cmd.Wait()
}

// newDocker starts a dockerd in a room, whose default runtime is the one called "tested": so builds use it, too.
// states is where the runtime keeps its states.
func newDocker(room *Room, programs [2]string, runtimes map[string]any, states string, settings map[string]any) (client, *daemon) {
	t, s := room.T, room.Sandbox
	t.Helper()
	Must(t, os.Chmod(s.Dir, 0o711)) // the users of user namespaces have to get to their containers
	all := map[string]any{
		"runtimes":        runtimes,
		"default-runtime": "tested",
		"exec-opts":       []string{"native.cgroupdriver=cgroupfs"},
		"cgroup-parent":   "/" + s.Mark,
		"data-root":       filepath.Join(s.Dir, "data"),
		"exec-root":       "/run/docker",
		"pidfile":         "/run/docker.pid",
		"hosts":           []string{"unix:///run/docker.sock"},
		"live-restore":    true,
	}
	maps.Copy(all, settings)
	config, err := json.Marshal(all)
	Must(t, err)
	WriteFile(t, filepath.Join(s.Dir, "daemon.json"), string(config), 0o644)
	d := &daemon{Room: room, args: []string{programs[0], "--config-file", filepath.Join(s.Dir, "daemon.json")}, log: filepath.Join(s.Dir, "dockerd.log")}
	c := client{
		Engine: Engine{Sandbox: s, Room: room, Args: []string{programs[1]}, Env: []string{
			"DOCKER_HOST=unix:///run/docker.sock", "DOCKER_CONFIG=" + s.Dir, "DOCKER_BUILDKIT=0", "DOCKER_CONTEXT=default",
		}},
		parent: []string{"--cgroup-parent", "/" + s.Mark}, rm: []string{"rm", "--force", "--volumes"}, execNotFound: 127,
	}
	if all := allCapabilities(); ownCapabilities() == all {
		c.privileged = all // for which Docker asks, also where we haven't got them
	}
	d.start(c)
	t.Cleanup(func() {
		if all := strings.Fields(c.OK("ps", "--all", "--quiet")); len(all) > 0 {
			c.Try(append([]string{"rm", "--force"}, all...)...)
		}
		left, _ := filepath.Glob(fmt.Sprintf("/proc/%d/root%s/moby/[0-9a-f]*", room.Pid(), states))
		if len(left) > 0 {
			t.Errorf("states are left: %v", left)
		}
		d.stop(c)
	})
	c.OK("import", "--change", `CMD ["sh"]`, s.ImageTar(), "box")
	return c, d
}

// bySock checks that it is sock that runs the engine's containers, with its states there.
func bySock(c client, states string) {
	c.Helper()
	c.start("box", "", "sleep 1000")
	gate := fmt.Sprintf("/proc/%d/root%s/moby/%s/started", c.Room.Pid(), states, c.inspect("box", ".Id"))
	if found, _ := filepath.Glob(gate); len(found) != 1 {
		c.Errorf("no state of sock's in %s", states)
	}
	c.remove("box")
}

// dockers are the scenarios of all Dockers.
var dockers = append(slices.Clone(alike), []scenario{
	{"demo", dockerDemo},
	{"own network", dockerOwnNetwork},
	{"out of memory", dockerOutOfMemory},
	{"more flags", dockerFlags},
	{"health", dockerHealth},
	{"namespaces of another", dockerContainerNamespaces},
	{"host pids", dockerHostPids},
	{"cgroup parent", dockerCgroupParent},
	{"read-only below", dockerReadOnlyBelow},
	{"policies", dockerPolicies},
	{"stats", dockerStats},
	{"commit", dockerCommit},
	{"events", dockerEvents},
	{"bytes", dockerBytes},
	{"storm", dockerStorm},
	{"build", dockerBuild},
}...)

// TestDocker has Debian's Docker, 20.10 in Debian 12, whose only runtimes are programs. It starts its containerd itself, which
// ends with it.
func TestDocker(t *testing.T) {
	t.Parallel()
	room := engineRoom(t, "dockerd", "docker", "containerd", "iptables")
	programs := [2]string{"dockerd", "docker"}
	if _, err := os.Stat("/usr/bin/docker"); err == nil {
		programs[1] = "/usr/bin/docker" // Debian's
	}
	t.Cleanup(func() { removeParents(Engine{Sandbox: room.Sandbox, Room: room}, "") })
	c, d := newDocker(room, programs, map[string]any{"tested": map[string]string{"path": Binary}}, "/run/docker/runtime-*", nil)
	c.column, c.execNotFound = oldDocker, 126
	bySock(c, "/run/docker/runtime-*")
	c.play(dockers)
	c.play([]scenario{
		{"live restore", func(c client) { dockerLiveRestore(c, d) }},
		{"killed daemons", func(c client) { dockerKilled(c, d.kill, func() { d.start(c) }) }},
		{"killed daemons, ended", func(c client) { dockerEnded(c, d.kill, func() { d.start(c) }) }},
		{"user namespaces", func(c client) { dockerUserNamespaces(c, d) }}, // for all that come after it
	})
}

// recent is where tests/setup.sh builds a program in a recent version.
func recent(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("../../.cache", name))
	Must(t, err)
	_, err = os.Stat(path)
	Installable(t, err == nil, path+" is missing: run tests/setup.sh test")
	return path
}

// TestDocker29 has a recent Docker on a recent containerd, with the runtime under test as a program that runc's shim executes,
// with sock's shim, and with a recent runc, which must do alike. (Debian's has no time namespaces, for which Docker asks.)
func TestDocker29(t *testing.T) {
	t.Parallel()
	for _, way := range []struct {
		column  string
		runtime map[string]string
		states  string
	}{
		{dockerPath, map[string]string{"path": Binary}, "/run/docker/runtime-runc"},
		{dockerShim, map[string]string{"runtimeType": "io.containerd.sock.v1"}, "/run/containerd/sock"},
		{dockerRunc, map[string]string{"path": recent(t, "runc/runc")}, "/run/docker/runtime-runc"},
	} {
		t.Run(way.column, func(t *testing.T) {
			t.Parallel()
			programs := [2]string{recent(t, "docker/dockerd"), recent(t, "docker/docker")}
			box := newContainerd(t, flavour{dir: newest, shim: true})
			runtimes := map[string]any{"tested": way.runtime}
			if way.column == dockerShim {
				dockerOptions(box.Room, runtimes)
			}
			c, d := newDocker(box.Room, programs, runtimes, way.states, map[string]any{
				"containerd": "/run/containerd.sock", "userland-proxy-path": recent(t, "docker/docker-proxy"),
			})
			c.column, c.privileged = way.column, ownCapabilities()
			kill := func() {
				d.kill()
				_ = box.server.Process.Kill()
				_ = box.server.Wait()
			}
			start := func() {
				box.start(recent(t, "containerd/containerd"))
				d.start(c)
			}
			ended := []scenario{
				{"killed daemon, ended", func(c client) { dockerEnded(c, d.kill, func() { d.start(c) }) }},
				{"killed daemons, ended", func(c client) { dockerEnded(c, kill, start) }},
			}
			if way.column == dockerRunc {
				c.play(alike)
				c.play(ended)
				return
			}
			bySock(c, way.states)
			c.play(dockers)
			if way.column == dockerShim {
				c.play([]scenario{{"options", testDockerOptions}})
			}
			c.play([]scenario{
				{"live restore", func(c client) { dockerLiveRestore(c, d) }},
				{"killed daemons", func(c client) { dockerKilled(c, kill, start) }},
			})
			c.play(ended)
			c.play([]scenario{{"user namespaces", func(c client) { dockerUserNamespaces(c, d) }}}) // for all that come after it
		})
	}
}

// dockerOptions adds runtimes with options.
func dockerOptions(room *Room, runtimes map[string]any) {
	for name, lines := range map[string]string{
		"configured": "Root = \"/run/configured\"\nGrouping = \"container\"\n",
		"wrong":      "Rot = \"/run/wrong\"\n",
	} {
		file := filepath.Join(room.Dir, name+".toml")
		WriteFile(room.T, file, lines, 0o644)
		runtimes[name] = map[string]any{
			"runtimeType": "io.containerd.sock.v1", "options": map[string]string{"TypeUrl": "dev.sock.v1.Options", "ConfigPath": file},
		}
	}
}

func testDockerOptions(c client) {
	c.start("box", "--runtime configured", untilTerm)
	c.waitFor("box", "ready")
	state := fmt.Sprintf("/proc/%d/root/run/configured/moby/%s", c.Room.Pid(), c.inspect("box", ".Id"))
	if _, err := os.Stat(state); err != nil {
		c.Error(err)
	}
	c.Prints("0", "exec", "box", "id", "-u")
	c.OK("stop", "box")
	Equal(c.T, "exit status", c.inspect("box", ".State.ExitCode"), "3")
	if _, err := os.Stat(state); err == nil {
		c.Errorf("%s is left", state)
	}
	c.said(c.run("--runtime wrong", "true"), 125, `unknown key "Rot"`)
	Equal(c.T, "output", c.script("--runtime io.containerd.sock.v1", "echo by its type"), "by its type")
}

// dockerOwnNetwork has two containers on a network of their own, where Docker's name server knows them.
func dockerOwnNetwork(c client) {
	c.OK("network", "create", "own")
	defer func() { c.OK("network", "rm", "own") }()
	c.OK(c.line("run --detach --name server", "--network own", "box", "sh", "-c", "while :; do echo hello | busybox nc -l -p 80; done")...)
	defer c.remove("server")
	Equal(c.T, "answer", c.script("--network own", "until busybox nc server 80; do sleep 0.05; done"), "hello")
	c.OK("network", "disconnect", "own", "server")
	Equal(c.T, "interfaces left", c.OK("exec", "server", "ls", "/sys/class/net"), "lo")
	c.OK("network", "connect", "bridge", "server")
	Equal(c.T, "interfaces then", c.OK("exec", "server", "sh", "-c", "ls /sys/class/net | wc -l"), "2")
}

func dockerOutOfMemory(c client) {
	r := c.Try(c.line("run --name box", "--memory 8m --memory-swap 8m", "box", "sh", "-c", "a=x; while :; do a=$a$a; done")...)
	defer c.remove("box")
	Equal(c.T, "exit status", r.Code, 137)
	Equal(c.T, "OOMKilled", c.inspect("box", ".State.OOMKilled"), "true")
}

// dockerFlags are those that Podman treats in another manner.
func dockerFlags(c client) {
	Equal(c.T, "a working directory that isn't there", c.script("--workdir /made/here --user 1000", "pwd"), "/made/here")
	const lines = `trap 'echo hup' HUP; trap 'echo usr1; exit 4' USR1; echo ready; while :; do sleep 0.05; done`
	c.start("box", "--stop-signal USR1", lines)
	c.waitFor("box", "ready")
	c.OK("kill", "--signal", "HUP", "box")
	c.waitFor("box", "hup")
	c.OK("stop", "box")
	Equal(c.T, "exit status", c.inspect("box", ".State.ExitCode"), "4")
}

func dockerHealth(c client) {
	c.OK(c.line("run --detach --name box", "--health-interval 200ms --health-retries 1", "--health-cmd", "test -e /tmp/ok", "box", "sleep", "1000")...)
	defer c.remove("box")
	want := func(health string) {
		c.Helper()
		Eventually(c.T, health, func() error {
			if got := c.inspect("box", ".State.Health.Status"); got != health {
				return fmt.Errorf("is %s", got)
			}
			return nil
		})
	}
	want("unhealthy")
	c.OK("exec", "box", "touch", "/tmp/ok")
	want("healthy")
}

func dockerContainerNamespaces(c client) {
	c.start("box", "--ipc shareable", untilTerm)
	const show = "for kind in pid net ipc; do readlink /proc/self/ns/$kind; done"
	Equal(c.T, "namespaces", c.script("--network container:box --pid container:box --ipc container:box", show), c.OK("exec", "box", "sh", "-c", show))
}

// dockerBuild has Docker's old builder, which runs the steps as containers of the default runtime; BuildKit executes runc.
func dockerBuild(c client) {
	dir := filepath.Join(c.Dir, "context")
	const lines = "FROM box\nRUN echo built > /built\nUSER 1000\nWORKDIR /work\nRUN id -u > /tmp/who && pwd >> /tmp/who\nCMD cat /built /tmp/who\n"
	WriteFile(c.T, filepath.Join(dir, "Dockerfile"), strings.Replace(lines, "USER", "RUN chmod 1777 /tmp\nUSER", 1), 0o644)
	c.OK("build", "--network", "none", "--tag", "built", dir)
	Equal(c.T, "output of the image", c.OK(c.line("run --rm", "", "built")...), "built\n1000\n/work")
	WriteFile(c.T, filepath.Join(dir, "Dockerfile"), "FROM box\nRUN exit 3\n", 0o644)
	c.said(c.Try("build", "--network", "none", dir), 3, "returned a non-zero code: 3")
}

// dockerUserNamespaces restarts the daemon with --userns-remap, and a user to whom ids of root's are given.
func dockerUserNamespaces(c client, d *daemon) {
	d.stop(c)
	c.Room.AddUser("remap", 99999, HostRoot)
	d.args = append(d.args, "--userns-remap", "remap")
	d.start(c)
	c.OK("import", c.ImageTar(), "box")

	before := DeviceOwners(c.T)
	out := c.script("--network bridge", "cat /proc/self/uid_map; touch /x; stat -c %u /x /proc/1; echo x > /dev/null; ls /sys/class/net | wc -l")
	Equal(c.T, "output", strings.Join(strings.Fields(out), " "), "0 100000 65536 0 0 2")
	Equal(c.T, "capabilities in it", c.script("--cap-add SYS_ADMIN --security-opt seccomp=unconfined", "mount -t tmpfs x /tmp && echo mounted"), "mounted")
	Equal(c.T, "without", strings.Join(strings.Fields(c.script("--userns host", "cat /proc/self/uid_map")), " "), "0 0 4294967295")
	c.start("box", "", untilTerm)
	c.waitFor("box", "ready")
	Equal(c.T, "exec", c.OK("exec", "box", "sh", "-c", "id -u; cut -c 11-21 /proc/self/uid_map"), "0\n     100000")
	c.converse("exec", "--interactive", "--tty", "--user", "1000", "box")
	c.converse(c.line("run --rm --interactive --tty", "", "box")...)
	c.OK("pause", "box")
	c.OK("unpause", "box")
	c.OK("stop", "box")
	Equal(c.T, "exit status", c.inspect("box", ".State.ExitCode"), "3")
	Equal(c.T, "the host's devices", DeviceOwners(c.T), before)
}
