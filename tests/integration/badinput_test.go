package integration

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// set changes a config as JSON, where Go's types would not let it be wrong. A nil value removes the key.
func (s *sandbox) set(b bundle, value any, keys ...string) {
	s.Helper()
	name := filepath.Join(b.dir, "config.json")
	config := decode[map[string]any](s.T, readFile(name))
	object := config
	for _, key := range keys[:len(keys)-1] {
		next, ok := object[key].(map[string]any)
		if !ok {
			next = map[string]any{}
			object[key] = next
		}
		object = next
	}
	if object[keys[len(keys)-1]] = value; value == nil {
		delete(object, keys[len(keys)-1])
	}
	data, err := json.Marshal(config)
	must(s.T, err)
	must(s.T, os.WriteFile(name, data, 0o644))
}

// Each is refused by create with one line that says what is wrong and where, and leaves nothing.
func TestBadConfig(t *testing.T) {
	t.Parallel()
	type object = map[string]any
	type list = []any
	for _, c := range []struct {
		name  string
		spoil func(s *sandbox, b bundle)
		texts []string
	}{
		{"no config.json", func(s *sandbox, b bundle) { must(s.T, os.Remove(filepath.Join(b.dir, "config.json"))) }, said("config.json")},
		{"broken JSON", func(s *sandbox, b bundle) {
			writeFile(s.T, filepath.Join(b.dir, "config.json"), "{\n  \"ociVersion\": \"1.0.2\",\n  oops\n}", 0o644)
		}, said("config.json", "3:3")},
		{"empty file", func(s *sandbox, b bundle) { writeFile(s.T, filepath.Join(b.dir, "config.json"), "", 0o644) }, said("config.json")},
		{"more after the end", func(s *sandbox, b bundle) {
			name := filepath.Join(b.dir, "config.json")
			writeFile(s.T, name, readFile(name)+"{}", 0o644)
		}, said("config.json")},
		{"config.json is a directory", func(s *sandbox, b bundle) {
			must(s.T, os.Remove(filepath.Join(b.dir, "config.json")))
			must(s.T, os.Mkdir(filepath.Join(b.dir, "config.json"), 0o755))
		}, said("config.json")},
		{"wrong type", func(s *sandbox, b bundle) { s.set(b, "zero", "process", "user", "uid") }, said("process.user.uid")},
		{"wrong type in a list", func(s *sandbox, b bundle) { s.set(b, list{"sh", 1}, "process", "args") }, said("process.args")},
		{"wrong type deep inside", func(s *sandbox, b bundle) { s.set(b, "much", "linux", "resources", "memory", "limit") }, said("linux.resources.memory.limit")},
		{"no ociVersion", func(s *sandbox, b bundle) { s.set(b, nil, "ociVersion") }, said("ociVersion")},
		{"ociVersion 2", func(s *sandbox, b bundle) { s.set(b, "2.0.0", "ociVersion") }, said("ociVersion", "2.0.0")},
		{"ociVersion nonsense", func(s *sandbox, b bundle) { s.set(b, "latest", "ociVersion") }, said("ociVersion")},
		{"no root", func(s *sandbox, b bundle) { s.set(b, nil, "root") }, said("root")},
		{"empty root.path", func(s *sandbox, b bundle) { s.set(b, "", "root", "path") }, said("root.path")},
		{"missing rootfs", func(s *sandbox, b bundle) { s.set(b, "nowhere", "root", "path") }, said("root.path", "nowhere", "no such file or directory")},
		{"rootfs is a file", func(s *sandbox, b bundle) { s.set(b, "config.json", "root", "path") }, said("root.path", "not a directory")},
		{"no process", func(s *sandbox, b bundle) { s.set(b, nil, "process") }, said("process")},
		{"no args", func(s *sandbox, b bundle) { s.set(b, nil, "process", "args") }, said("process.args")},
		{"empty args", func(s *sandbox, b bundle) { s.set(b, list{}, "process", "args") }, said("process.args")},
		{"empty cwd", func(s *sandbox, b bundle) { s.set(b, "", "process", "cwd") }, said("process.cwd")},
		{"relative cwd", func(s *sandbox, b bundle) { s.set(b, "tmp", "process", "cwd") }, said("process.cwd")},
		{"bad environment", func(s *sandbox, b bundle) { s.set(b, list{"A=1", "B"}, "process", "env") }, said("process.env[1]")},
		{"unknown rlimit", func(s *sandbox, b bundle) {
			s.set(b, list{object{"type": "RLIMIT_FUN", "soft": 1, "hard": 1}}, "process", "rlimits")
		}, said("process.rlimits[0].type", "RLIMIT_FUN")},
		{"soft limit above the hard one", func(s *sandbox, b bundle) {
			s.set(b, list{object{"type": "RLIMIT_CORE", "soft": 2, "hard": 1}}, "process", "rlimits")
		}, said("process.rlimits[0]")},
		{"unknown namespace", func(s *sandbox, b bundle) {
			s.set(b, list{object{"type": "mount"}, object{"type": "space"}}, "linux", "namespaces")
		}, said("linux.namespaces[1].type", "space")},
		{"duplicate namespaces", func(s *sandbox, b bundle) {
			s.set(b, list{object{"type": "mount"}, object{"type": "pid"}, object{"type": "pid"}}, "linux", "namespaces")
		}, said("linux.namespaces[2].type", "duplicate")},
		{"unknown mount option", func(s *sandbox, b bundle) {
			s.set(b, list{object{"destination": "/x", "type": "bind", "source": "/etc", "options": list{"bind", "frobnicate"}}}, "mounts")
		}, said("mounts[0]", "frobnicate")},
		{"option that the filesystem doesn't know", func(s *sandbox, b bundle) {
			s.set(b, list{object{"destination": "/x", "type": "tmpfs", "source": "tmpfs", "options": list{"frobnicate=1"}}}, "mounts")
		}, said("mounts[0]")},
		{"unknown filesystem", func(s *sandbox, b bundle) {
			s.set(b, list{object{"destination": "/x", "type": "nosuchfs", "source": "x"}}, "mounts")
		}, said("mounts[0]")},
		{"missing bind source", func(s *sandbox, b bundle) {
			s.set(b, list{object{"destination": "/x", "type": "bind", "source": "/no/such/source", "options": list{"bind"}}}, "mounts")
		}, said("mounts[0]", "/no/such/source", "no such file or directory")},
		{"directory bound over a file", func(s *sandbox, b bundle) {
			s.set(b, list{object{"destination": "/etc/passwd", "type": "bind", "source": "/etc", "options": list{"bind"}}}, "mounts")
		}, said("mounts[0]", "not a directory")},
		{"mount without destination", func(s *sandbox, b bundle) { s.set(b, list{object{"type": "tmpfs", "source": "tmpfs"}}, "mounts") }, said("mounts[0].destination")},
		{"device of an impossible type", func(s *sandbox, b bundle) {
			s.set(b, list{object{"path": "/dev/x", "type": "z", "major": 1, "minor": 3}}, "linux", "devices")
		}, said("linux.devices[0].type")},
		{"device without path", func(s *sandbox, b bundle) {
			s.set(b, list{object{"type": "c", "major": 1, "minor": 3}}, "linux", "devices")
		}, said("linux.devices[0].path")},
		{"hostname without namespace", func(s *sandbox, b bundle) {
			s.set(b, list{object{"type": "mount"}}, "linux", "namespaces")
		}, said("hostname")},
		{"unknown propagation", func(s *sandbox, b bundle) { s.set(b, "everywhere", "linux", "rootfsPropagation") }, said("linux.rootfsPropagation")},
		{"sysctl of the host", func(s *sandbox, b bundle) { s.set(b, object{"vm.swappiness": "1"}, "linux", "sysctl") }, said("vm.swappiness")},
		{"sysctl that doesn't exist", func(s *sandbox, b bundle) { s.set(b, object{"net.nosuch": "1"}, "linux", "sysctl") }, said("net.nosuch")},
		{"relative hook", func(s *sandbox, b bundle) { s.set(b, list{object{"path": "hook"}}, "hooks", "createRuntime") }, said("hooks.createRuntime[0].path")},
		{"hook without time", func(s *sandbox, b bundle) {
			s.set(b, list{object{"path": "/bin/true", "timeout": 0}}, "hooks", "createRuntime")
		}, said("hooks.createRuntime[0].timeout")},
		{"cgroup outside", func(s *sandbox, b bundle) { s.set(b, "/a/../../b", "linux", "cgroupsPath") }, said("linux.cgroupsPath")},
		{"impossible CPU", func(s *sandbox, b bundle) { s.set(b, "999", "linux", "resources", "cpu", "cpus") }, said("cpu")},
		{"umask", func(s *sandbox, b bundle) { s.set(b, 0o1000, "process", "user", "umask") }, said("process.user.umask")},
		{"unknown profile", func(s *sandbox, b bundle) { s.set(b, "extreme", "annotations", "dev.sock.profile") }, said("dev.sock.profile")},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newSandbox(t)
			b := s.bundle()
			c.spoil(s, b)
			s.refused(b, c.texts)
		})
	}
}

// refused checks that create and run fail with one clear line, in the log too, and leave nothing.
func (s *sandbox) refused(b bundle, texts []string) {
	s.Helper()
	log := filepath.Join(s.dir, "log.json")
	for _, verb := range []string{"create", "run"} {
		_ = os.Remove(log)
		r := s.fails(texts, "--log", log, "--log-format", "json", verb, "--bundle", b.dir, "refused")
		oneLine(s.T, r)
		entries := readLog(s.T, log)
		if len(entries) != 1 || entries[0].Level != "error" || entries[0].Time.IsZero() {
			s.Errorf("log: %+v", entries)
			continue
		}
		for _, text := range texts {
			if !strings.Contains(entries[0].Msg, text) {
				s.Errorf("no %q in the log: %+v", text, entries[0])
			}
		}
		s.checkNothingLeft()
	}
}

// A field that is not supported yet is refused by its name and never ignored.
func TestUnsupported(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		field  string
		change change
	}{
		{"process.apparmorProfile", func(c *specs.Spec) { c.Process.ApparmorProfile = "profile" }},
		{"process.selinuxLabel", func(c *specs.Spec) { c.Process.SelinuxLabel = "label" }},
		{"linux.mountLabel", func(c *specs.Spec) { c.Linux.MountLabel = "label" }},
		{"linux.intelRdt", func(c *specs.Spec) { c.Linux.IntelRdt = &specs.LinuxIntelRdt{ClosID: "x"} }},
		{"linux.netDevices", func(c *specs.Spec) { c.Linux.NetDevices = map[string]specs.LinuxNetDevice{"eth9": {}} }},
		{"linux.memoryPolicy", func(c *specs.Spec) {
			c.Linux.MemoryPolicy = &specs.LinuxMemoryPolicy{Mode: specs.MpolInterleave, Nodes: "0"}
		}},
		{"vm", func(c *specs.Spec) { c.VM = &specs.VM{} }},
		{"windows", func(c *specs.Spec) { c.Windows = &specs.Windows{} }},
	} {
		t.Run(c.field, func(t *testing.T) {
			t.Parallel()
			s := newSandbox(t)
			s.refused(s.bundle(c.change), said(c.field, "not supported"))
		})
	}
}

func TestBadID(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	b := s.bundle()
	for _, id := range []string{"", ".", "..", "a/b", "../escape", "a b", "é", "a\nb", strings.Repeat("x", 2000)} {
		s.fails(nil, "create", "--bundle", b.dir, "--", id)
		s.checkNothingLeft()
	}
	for _, id := range []string{"..", "../" + filepath.Base(b.dir), "/etc"} {
		s.fails(nil, "state", id)
		s.fails(nil, "kill", id)
		s.sock("delete", "--force", id)
		if _, err := os.Stat(b.rootfs); err != nil {
			t.Fatal(err)
		}
	}
	for _, id := range []string{"a.b_c+d-e", "0", "UPPER"} {
		s.ids = append(s.ids, id)
		s.ok("create", "--bundle", b.dir, id)
		s.ok("delete", id)
	}
}

func TestBadCommandLine(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	b := s.bundle()
	for _, args := range [][]string{
		{"create"},
		{"create", "--bundle", b.dir},
		{"create", "--bundle", b.dir, "one", "two"},
		{"create", "--bundle", filepath.Join(s.dir, "nowhere"), "id"},
		{"create", "--no-such-flag", "id"},
		{"create", "--preserve-fds", "-1", "--bundle", b.dir, "id"},
		{"create", "--preserve-fds", "3", "--bundle", b.dir, "id"}, // none of them is open
		{"create", "--pid-file", "/no/such/dir/pid", "--bundle", b.dir, "id"},
		{"start"},
		{"state"},
		{"delete"},
		{"kill"},
		{"exec"},
		{"no-such-command"},
		{"checkpoint", "id"},
		{"restore", "id"},
	} {
		s.fails(nil, args...)
		s.checkNothingLeft()
	}
}
