package engines

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	. "github.com/sock-runtime/sock/tests/sandbox"
)

// doctor runs sock doctor in a room, where it finds these programs before others.
func doctor(room *Room, path string, args ...string) Result {
	room.Helper()
	cmd := room.Command(append([]string{Binary, "doctor"}, args...)...)
	cmd.Env = append(cmd.Env, "PATH="+path+":"+os.Getenv("PATH"))
	return room.Do(cmd)
}

// fixed has sock doctor --fix change a configuration: first it only says what it would do, and the second time there is
// nothing to do.
func fixed(room *Room, path, engine, config string) {
	room.Helper()
	before := ReadFile(config)
	args := []string{"--fix", engine, "--config", config}
	if r := doctor(room, path, append(args, "--dry-run")...); r.Code != 0 || !strings.Contains(r.Stdout, "+++ "+config) || ReadFile(config) != before {
		room.Errorf("%v\n%s", r, ReadFile(config))
	}
	if r := doctor(room, path, args...); r.Code != 0 || !strings.Contains(r.Stdout, config+": changed; the old one is "+config+".") {
		room.Errorf("%v", r)
	}
	backups, _ := filepath.Glob(config + ".*.bak")
	if len(backups) != 1 || ReadFile(backups[0]) != before {
		room.Errorf("backups: %v", backups)
	}
	after := ReadFile(config)
	if r := doctor(room, path, args...); r.Code != 0 || !strings.Contains(r.Stdout, "nothing to do") || ReadFile(config) != after {
		room.Errorf("%v\n%s", r, ReadFile(config))
	}
	if now, _ := filepath.Glob(config + ".*"); len(now) != 1 {
		room.Errorf("beside the configuration there are %v", now)
	}
}

// TestDoctorDocker has Dockers that run take sock from what doctor writes.
func TestDoctorDocker(t *testing.T) {
	t.Parallel()
	t.Run("Debian's", func(t *testing.T) {
		t.Parallel()
		room := engineRoom(t, "dockerd", "docker", "containerd", "iptables")
		client := "docker"
		if _, err := os.Stat("/usr/bin/docker"); err == nil {
			client = "/usr/bin/docker" // Debian's
		}
		t.Cleanup(func() { removeParents(Engine{Sandbox: room.Sandbox, Room: room}, "") })
		testDoctorDocker(room, [2]string{"dockerd", client}, "")
	})
	t.Run("29", func(t *testing.T) {
		t.Parallel()
		programs := [2]string{recent(t, "docker/dockerd"), recent(t, "docker/docker")}
		box := newContainerd(t, flavour{dir: newest, shim: true})
		c := testDoctorDocker(box.Room, programs, fmt.Sprintf("\n    \"containerd\": \"/run/containerd.sock\",\n    \"userland-proxy-path\": %q,", recent(t, "docker/docker-proxy")))
		Equal(t, "output", c.script("--runtime io.containerd.sock.v1", "echo by the shim"), "by the shim") // as it is
	})
}

// testDoctorDocker starts a dockerd with more lines of configuration, and has doctor change it.
func testDoctorDocker(room *Room, programs [2]string, more string) client {
	t, s := room.T, room.Sandbox
	t.Helper()
	config := filepath.Join(s.Dir, "daemon.json")
	original := fmt.Sprintf(`{%s
    "exec-opts": ["native.cgroupdriver=cgroupfs"],
    "cgroup-parent": "/%s",
    "data-root": %q,
    "exec-root": "/run/docker",
    "pidfile": "/run/docker.pid",
    "hosts": ["unix:///run/docker.sock"]
}
`, more, s.Mark, filepath.Join(s.Dir, "data"))
	WriteFile(t, config, original, 0o600)
	d := &daemon{Room: room, args: []string{programs[0], "--config-file", config}, log: filepath.Join(s.Dir, "dockerd.log")}
	c := client{
		Engine: Engine{Sandbox: s, Room: room, Args: []string{programs[1]}, Env: []string{
			"DOCKER_HOST=unix:///run/docker.sock", "DOCKER_CONFIG=" + s.Dir, "DOCKER_CONTEXT=default",
		}},
		parent: []string{"--cgroup-parent", "/" + s.Mark}, rm: []string{"rm", "--force", "--volumes"},
	}
	d.start(c)
	t.Cleanup(func() { d.stop(c) })
	c.OK("import", s.ImageTar(), "box")
	c.said(c.run("--runtime sock", "true"), 125, "sock")

	fixed(room, filepath.Dir(programs[0]), "docker", config)
	Must(t, d.cmd.Process.Signal(unix.SIGHUP)) // systemctl reload docker
	Eventually(t, "the runtime", func() error {
		if list := c.OK("info", "--format", "{{range $name, $r := .Runtimes}}{{$name}} {{end}}"); !strings.Contains(list+" ", "sock ") {
			return fmt.Errorf("there are %s", list)
		}
		return nil
	})
	Equal(t, "output", c.script("--runtime sock --hostname subzero", "hostname"), "subzero")
	c.start("box", "--runtime sock", untilTerm)
	gates := fmt.Sprintf("/proc/%d/root/run/docker/runtime-*/moby/*/started", room.Pid())
	if found, _ := filepath.Glob(gates); len(found) != 1 {
		t.Errorf("no state of sock's: %v", found)
	}
	c.remove("box")

	d.stop(c)
	d.start(c)
	Equal(t, "output", c.script("--runtime sock", "echo again"), "again")
	d.stop(c)
	// With --add-runtime on its command line dockerd refuses runtimes in the file.
	WriteFile(t, config, original, 0o600)
	d.args = append(d.args, "--add-runtime", "other="+Binary)
	d.start(c)
	if r := doctor(room, "", "--fix", "docker", "--config", config); r.Code != 1 || !strings.Contains(r.Stderr, "--add-runtime sock="+Binary) {
		t.Errorf("%v", r)
	}
	return c
}

// TestDoctorContainerd starts containerds with their own default configuration, and what doctor adds to it.
func TestDoctorContainerd(t *testing.T) {
	onShims(t, func(t *testing.T, f flavour) {
		f.configure = configureByDoctor
		c := newContainerd(t, f)
		if out := c.OK("plugins", "ls"); !regexp.MustCompile(`(?m)^io.containerd.grpc.v1 +cri +\S+ +ok`).MatchString(out) {
			t.Errorf("CRI has a state of its own:\n%s\n%s", out, ReadFile(c.config))
		}
		Equal(t, "output", c.OK(c.line("one", "--rm", "echo", "here")...), "here")
	})
}

// handlerOf finds the handler sock in what containerd says is its configuration.
func handlerOf(dump string) bool {
	return regexp.MustCompile(`runtimes\.sock\]\n(.+\n)*? +runtime_type = ['"]io\.containerd\.sock\.v1['"]`).MatchString(dump)
}

// TestDoctorContainerdFiles has both containerds read all kinds of files after doctor has changed them.
func TestDoctorContainerdFiles(t *testing.T) {
	t.Parallel()
	path, err := filepath.Abs(newest)
	Must(t, err)
	room := engineRoom(t, "containerd", filepath.Join(path, "containerd"))
	for _, file := range []string{"debian-1.6", "kubeadm-1.7", "empty", "no-newline", "kubeadm-2", "imports-none-windows", ""} {
		for _, dir := range []string{"/usr/bin", path} {
			if dir == "/usr/bin" && (file == "kubeadm-2" || file == "imports-none-windows") {
				continue // they are of containerd 2
			}
			config := filepath.Join(room.Dir, file+strings.ReplaceAll(dir, "/", "-"), "config.toml")
			if file != "" {
				WriteFile(t, config, ReadFile(filepath.Join("../../cmd/sock/engines/testdata/containerd", file+".toml")), 0o644)
			}
			if r := doctor(room, dir, "--fix", "containerd", "--config", config); r.Code != 0 {
				t.Errorf("%s, %s: %v", file, dir, r)
			}
			r := room.Do(room.Command(filepath.Join(dir, "containerd"), "--config", config, "config", "dump"))
			if r.Code != 0 || !handlerOf(r.Stdout) {
				t.Errorf("%s, %s: no handler: %v\n%s", file, dir, r, ReadFile(config))
			}
		}
	}
}

// configureByDoctor takes containerd's defaults, for our room.
func configureByDoctor(c *containerd, program string) {
	c.Helper()
	dump := func(args ...string) string {
		c.Helper()
		r := c.Do(c.Room.Command(append([]string{program}, args...)...))
		if r.Code != 0 {
			c.Fatal(r)
		}
		return r.Stdout
	}
	text := dump("config", "default")
	for pattern, value := range map[string]string{
		`(?m)^root = .*`: fmt.Sprintf("root = %q", filepath.Join(c.Dir, "containerd")), `(?m)^state = .*`: `state = "/run/containerd"`,
		`/run/containerd/containerd\.sock`: "/run/containerd.sock", `/opt/(cni|containerd)`: c.Dir + "/opt/$1", `/etc/(cni|nri)`: c.Dir + "/etc/$1",
		`/etc/containerd`: c.Dir,
	} {
		text = regexp.MustCompile(pattern).ReplaceAllString(text, value)
	}
	WriteFile(c.T, c.config, text, 0o644)
	path, _, _ := strings.Cut(strings.TrimPrefix(c.env[0], "PATH="), ":")
	if strings.Contains(program, "/") {
		path = filepath.Dir(program) + ":" + path
	}
	before := dump("--config", c.config, "config", "dump")
	if strings.Contains(before, "runtimes.sock") {
		c.Errorf("sock is known:\n%s", before)
	}
	if strings.Contains(text, "imports = []") || !strings.Contains(text, "conf.d") {
		fixed(c.Room, path, "containerd", c.config)
	} else if r := doctor(c.Room, path, "--fix", "containerd", "--config", c.config); r.Code != 0 || !strings.Contains(r.Stdout, "conf.d/sock.toml: written") || ReadFile(c.config) != text {
		c.Errorf("%v", r)
	}
	after := dump("--config", c.config, "config", "dump")
	if !handlerOf(after) {
		c.Errorf("no handler:\n%s", after)
	}
	// Nothing of what was there is gone.
	for line := range strings.Lines(before) {
		if !strings.HasPrefix(line, "imports") && !strings.Contains(after, line) {
			c.Errorf("gone is %s", line)
		}
	}
}
