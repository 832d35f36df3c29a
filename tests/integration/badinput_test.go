package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	. "github.com/sock-runtime/sock/tests/sandbox"
)

// Each is refused by create with one line that says what is wrong and where, and leaves nothing.
func TestBadConfig(t *testing.T) {
	t.Parallel()
	type object = map[string]any
	type list = []any
	for _, c := range []struct {
		name  string
		spoil func(s *Sandbox, b Bundle)
		texts []string
	}{
		{"no config.json", func(s *Sandbox, b Bundle) { Must(s.T, os.Remove(filepath.Join(b.Dir, "config.json"))) }, Said("config.json")},
		{"broken JSON", func(s *Sandbox, b Bundle) {
			WriteFile(s.T, filepath.Join(b.Dir, "config.json"), "{\n  \"ociVersion\": \"1.0.2\",\n  oops\n}", 0o644)
		}, Said("config.json", "3:3")},
		{"empty file", func(s *Sandbox, b Bundle) { WriteFile(s.T, filepath.Join(b.Dir, "config.json"), "", 0o644) }, Said("config.json")},
		{"more after the end", func(s *Sandbox, b Bundle) {
			name := filepath.Join(b.Dir, "config.json")
			WriteFile(s.T, name, ReadFile(name)+"{}", 0o644)
		}, Said("config.json")},
		{"config.json is a directory", func(s *Sandbox, b Bundle) {
			Must(s.T, os.Remove(filepath.Join(b.Dir, "config.json")))
			Must(s.T, os.Mkdir(filepath.Join(b.Dir, "config.json"), 0o755))
		}, Said("config.json")},
		{"wrong type", func(s *Sandbox, b Bundle) { s.Set(b, "zero", "process", "user", "uid") }, Said("process.user.uid")},
		{"wrong type in a list", func(s *Sandbox, b Bundle) { s.Set(b, list{"sh", 1}, "process", "args") }, Said("process.args")},
		{"wrong type deep inside", func(s *Sandbox, b Bundle) { s.Set(b, "much", "linux", "resources", "memory", "limit") }, Said("linux.resources.memory.limit")},
		{"no ociVersion", func(s *Sandbox, b Bundle) { s.Set(b, nil, "ociVersion") }, Said("ociVersion")},
		{"ociVersion 2", func(s *Sandbox, b Bundle) { s.Set(b, "2.0.0", "ociVersion") }, Said("ociVersion", "2.0.0")},
		{"ociVersion nonsense", func(s *Sandbox, b Bundle) { s.Set(b, "latest", "ociVersion") }, Said("ociVersion")},
		{"no root", func(s *Sandbox, b Bundle) { s.Set(b, nil, "root") }, Said("root")},
		{"empty root.path", func(s *Sandbox, b Bundle) { s.Set(b, "", "root", "path") }, Said("root.path")},
		{"missing rootfs", func(s *Sandbox, b Bundle) { s.Set(b, "nowhere", "root", "path") }, Said("root.path", "nowhere", "no such file or directory")},
		{"rootfs is a file", func(s *Sandbox, b Bundle) { s.Set(b, "config.json", "root", "path") }, Said("root.path", "not a directory")},
		{"no process", func(s *Sandbox, b Bundle) { s.Set(b, nil, "process") }, Said("process")},
		{"no args", func(s *Sandbox, b Bundle) { s.Set(b, nil, "process", "args") }, Said("process.args")},
		{"empty args", func(s *Sandbox, b Bundle) { s.Set(b, list{}, "process", "args") }, Said("process.args")},
		{"empty cwd", func(s *Sandbox, b Bundle) { s.Set(b, "", "process", "cwd") }, Said("process.cwd")},
		{"relative cwd", func(s *Sandbox, b Bundle) { s.Set(b, "tmp", "process", "cwd") }, Said("process.cwd")},
		{"bad environment", func(s *Sandbox, b Bundle) { s.Set(b, list{"A=1", "B"}, "process", "env") }, Said("process.env[1]")},
		{"unknown rlimit", func(s *Sandbox, b Bundle) {
			s.Set(b, list{object{"type": "RLIMIT_FUN", "soft": 1, "hard": 1}}, "process", "rlimits")
		}, Said("process.rlimits[0].type", "RLIMIT_FUN")},
		{"soft limit above the hard one", func(s *Sandbox, b Bundle) {
			s.Set(b, list{object{"type": "RLIMIT_CORE", "soft": 2, "hard": 1}}, "process", "rlimits")
		}, Said("process.rlimits[0]")},
		{"unknown namespace", func(s *Sandbox, b Bundle) {
			s.Set(b, list{object{"type": "mount"}, object{"type": "space"}}, "linux", "namespaces")
		}, Said("linux.namespaces[1].type", "space")},
		{"duplicate namespaces", func(s *Sandbox, b Bundle) {
			s.Set(b, list{object{"type": "mount"}, object{"type": "pid"}, object{"type": "pid"}}, "linux", "namespaces")
		}, Said("linux.namespaces[2].type", "duplicate")},
		{"unknown mount option", func(s *Sandbox, b Bundle) {
			s.Set(b, list{object{"destination": "/x", "type": "bind", "source": "/etc", "options": list{"bind", "frobnicate"}}}, "mounts")
		}, Said("mounts[0]", "frobnicate")},
		{"option that the filesystem doesn't know", func(s *Sandbox, b Bundle) {
			s.Set(b, list{object{"destination": "/x", "type": "tmpfs", "source": "tmpfs", "options": list{"frobnicate=1"}}}, "mounts")
		}, Said("mounts[0]")},
		{"unknown filesystem", func(s *Sandbox, b Bundle) {
			s.Set(b, list{object{"destination": "/x", "type": "nosuchfs", "source": "x"}}, "mounts")
		}, Said("mounts[0]")},
		{"missing bind source", func(s *Sandbox, b Bundle) {
			s.Set(b, list{object{"destination": "/x", "type": "bind", "source": "/no/such/source", "options": list{"bind"}}}, "mounts")
		}, Said("mounts[0]", "/no/such/source", "no such file or directory")},
		{"directory bound over a file", func(s *Sandbox, b Bundle) {
			s.Set(b, list{object{"destination": "/etc/passwd", "type": "bind", "source": "/etc", "options": list{"bind"}}}, "mounts")
		}, Said("mounts[0]", "not a directory")},
		{"file bound over a directory", func(s *Sandbox, b Bundle) {
			s.Set(b, list{object{"destination": "/etc", "type": "bind", "source": "/etc/passwd", "options": list{"bind"}}}, "mounts")
		}, Said("mounts[0]", "/etc", "not a directory")},
		{"mount without destination", func(s *Sandbox, b Bundle) { s.Set(b, list{object{"type": "tmpfs", "source": "tmpfs"}}, "mounts") }, Said("mounts[0].destination")},
		{"device of an impossible type", func(s *Sandbox, b Bundle) {
			s.Set(b, list{object{"path": "/dev/x", "type": "z", "major": 1, "minor": 3}}, "linux", "devices")
		}, Said("linux.devices[0].type")},
		{"device without path", func(s *Sandbox, b Bundle) {
			s.Set(b, list{object{"type": "c", "major": 1, "minor": 3}}, "linux", "devices")
		}, Said("linux.devices[0].path")},
		{"hostname without namespace", func(s *Sandbox, b Bundle) {
			s.Set(b, list{object{"type": "mount"}}, "linux", "namespaces")
		}, Said("hostname")},
		{"unknown propagation", func(s *Sandbox, b Bundle) { s.Set(b, "everywhere", "linux", "rootfsPropagation") }, Said("linux.rootfsPropagation")},
		{"sysctl of the host", func(s *Sandbox, b Bundle) { s.Set(b, object{"vm.swappiness": "1"}, "linux", "sysctl") }, Said("vm.swappiness")},
		{"sysctl that doesn't exist", func(s *Sandbox, b Bundle) { s.Set(b, object{"net.nosuch": "1"}, "linux", "sysctl") }, Said("net.nosuch")},
		{"relative hook", func(s *Sandbox, b Bundle) { s.Set(b, list{object{"path": "hook"}}, "hooks", "createRuntime") }, Said("hooks.createRuntime[0].path")},
		{"hook without time", func(s *Sandbox, b Bundle) {
			s.Set(b, list{object{"path": "/bin/true", "timeout": 0}}, "hooks", "createRuntime")
		}, Said("hooks.createRuntime[0].timeout")},
		{"cgroup outside", func(s *Sandbox, b Bundle) { s.Set(b, "/a/../../b", "linux", "cgroupsPath") }, Said("linux.cgroupsPath")},
		{"impossible CPU", func(s *Sandbox, b Bundle) { s.Set(b, "999", "linux", "resources", "cpu", "cpus") }, Said("cpu")},
		{"umask", func(s *Sandbox, b Bundle) { s.Set(b, 0o1000, "process", "user", "umask") }, Said("process.user.umask")},
		{
			"profile not allowed", func(s *Sandbox, b Bundle) { s.Set(b, "lean", "annotations", "dev.sock.profile") },
			Said(`annotations["dev.sock.profile"]: profile "lean"`, `AnnotationProfiles = ["standard"] in /etc/sock/config.toml`),
		},
		{"unknown profile", func(s *Sandbox, b Bundle) { s.Set(b, "extreme", "annotations", "dev.sock.profile") }, Said("dev.sock.profile")},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := NewSandbox(t)
			b := s.Bundle()
			c.spoil(s, b)
			s.Refused(b, c.texts)
		})
	}
}

// A field that is not supported yet is refused by its name and never ignored.
func TestUnsupported(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		field  string
		change Change
	}{
		{"vm", func(c *specs.Spec) { c.VM = &specs.VM{} }},
		{"windows", func(c *specs.Spec) { c.Windows = &specs.Windows{} }},
	} {
		t.Run(c.field, func(t *testing.T) {
			t.Parallel()
			s := NewSandbox(t)
			s.Refused(s.Bundle(c.change), Said(c.field, "not supported"))
		})
	}
}

func TestBadID(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	b := s.Bundle()
	for _, id := range []string{"", ".", "..", "a/b", "../escape", "a b", "é", "a\nb", strings.Repeat("x", 2000)} {
		s.Fails(nil, "create", "--bundle", b.Dir, "--", id)
		s.CheckNothingLeft()
	}
	for _, id := range []string{"..", "../" + filepath.Base(b.Dir), "/etc"} {
		s.Fails(nil, "state", id)
		s.Fails(nil, "kill", id)
		s.Sock("delete", "--force", id)
		if _, err := os.Stat(b.Rootfs); err != nil {
			t.Fatal(err)
		}
	}
	for _, id := range []string{"a.b_c+d-e", "0", "UPPER"} {
		s.IDs = append(s.IDs, id)
		s.OK("create", "--bundle", b.Dir, id)
		s.OK("delete", id)
	}
}

func TestBadCommandLine(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	b := s.Bundle()
	for _, args := range [][]string{
		{"create"},
		{"create", "--bundle", b.Dir},
		{"create", "--bundle", b.Dir, "one", "two"},
		{"create", "--bundle", filepath.Join(s.Dir, "nowhere"), "id"},
		{"create", "--no-such-flag", "id"},
		{"create", "--preserve-fds", "-1", "--bundle", b.Dir, "id"},
		{"create", "--preserve-fds", "3", "--bundle", b.Dir, "id"}, // none of them is open
		{"create", "--pid-file", "/no/such/dir/pid", "--bundle", b.Dir, "id"},
		{"start"},
		{"state"},
		{"delete"},
		{"kill"},
		{"exec"},
		{"no-such-command"},
		{"checkpoint", "id"},
		{"restore", "id"},
	} {
		s.Fails(nil, args...)
		s.CheckNothingLeft()
	}
}
