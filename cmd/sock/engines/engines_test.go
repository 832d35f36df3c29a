package engines

import (
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var update = flag.Bool("update", false, "write the golden files, and contrib's")

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

const binary = "/usr/local/sbin/sock"

// place puts a text into a configuration file of a new directory, whose name stands where the text has DIR.
func place(t *testing.T, name, text string) string {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, name)
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(text, "DIR", dir)), 0o640); err != nil {
		t.Fatal(err)
	}
	return file
}

// tree are the files below a directory, with what they say.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(name)
		files[strings.TrimPrefix(name, dir+"/")] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// look is Docker or Containerd.
type look func(config string) (Edit, error)

func docker(config string) (Edit, error) { return Docker(config, binary) }

func containerd(version string) look {
	return func(config string) (Edit, error) { return Containerd(config, version) }
}

func mustLook(t *testing.T, l look, config string) Edit {
	t.Helper()
	edit, err := l(config)
	if err != nil {
		t.Fatal(err)
	}
	return edit
}

// golden compares what is shown of the changes with a file, makes them, and looks once more: nothing is left to do.
func golden(t *testing.T, l look, name, input string) {
	text, err := os.ReadFile(input)
	if err != nil {
		t.Fatal(err)
	}
	config := place(t, name, string(text))
	dir := filepath.Dir(config)
	edit := mustLook(t, l, config)
	got := strings.ReplaceAll(edit.Diff(), dir, "DIR")
	file := strings.TrimSuffix(input, filepath.Ext(input)) + ".diff"
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("would change\n%swant\n%s", got, want)
	}

	before := tree(t, dir)
	backups, err := edit.Apply(noon)
	if err != nil {
		t.Fatal(err)
	}
	after := tree(t, dir)
	for _, c := range edit.Changes {
		name := strings.TrimPrefix(c.File, dir+"/")
		if after[name] != string(c.After) {
			t.Errorf("%s says\n%s", name, after[name])
		}
		backup := strings.TrimPrefix(backups[c.File], dir+"/")
		if c.Before == nil {
			if backup != "" {
				t.Errorf("%s is a backup of nothing", backup)
			}
		} else if backup != name+".20260102-120000.bak" || after[backup] != before[name] {
			t.Errorf("the backup %s says\n%s", backup, after[backup])
		}
		delete(after, name)
		delete(after, backup)
	}
	if len(after) > 1 || len(after) == 1 && after[name] != before[name] {
		t.Errorf("left are %v", after)
	}
	if edit := mustLook(t, l, config); len(edit.Changes) > 0 {
		t.Errorf("there is still something to do:\n%s", edit.Diff())
	}
}

func TestDockerEdits(t *testing.T) {
	inputs, _ := filepath.Glob("testdata/docker/*.json")
	for _, input := range inputs {
		t.Run(filepath.Base(input), func(t *testing.T) { golden(t, docker, "daemon.json", input) })
	}
}

func TestContainerdEdits(t *testing.T) {
	inputs, _ := filepath.Glob("testdata/containerd/*.toml")
	for _, input := range inputs {
		// The version of the file decides, if there is one.
		t.Run(filepath.Base(input), func(t *testing.T) { golden(t, containerd(""), "config.toml", input) })
	}
}

// TestNoFile writes new files, those that contrib has.
func TestNoFile(t *testing.T) {
	for _, c := range []struct {
		name, config string
		look         look
		files        map[string]string // to those of contrib
	}{
		{"Docker", "daemon.json", docker, map[string]string{"daemon.json": "docker/daemon.json"}},
		{"containerd 1", "config.toml", containerd("1.7.27"), map[string]string{"config.toml": "containerd/config-1.toml"}},
		{"containerd 2", "config.toml", containerd("2.0.0"), map[string]string{
			"config.toml": "containerd/config.toml", "conf.d/sock.toml": "containerd/conf.d/sock.toml",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "etc", "engine")
			if _, err := mustLook(t, c.look, filepath.Join(dir, c.config)).Apply(noon); err != nil {
				t.Fatal(err)
			}
			got := tree(t, dir)
			if len(got) != len(c.files) {
				t.Errorf("wrote %v", got)
			}
			for name, contrib := range c.files {
				got := strings.ReplaceAll(got[name], dir, "/etc/containerd")
				contrib = filepath.Join("../../../contrib", contrib)
				if *update {
					if err := os.MkdirAll(filepath.Dir(contrib), 0o755); err != nil {
						t.Fatal(err)
					}
					if err := os.WriteFile(contrib, []byte(got), 0o644); err != nil {
						t.Fatal(err)
					}
				}
				if want, err := os.ReadFile(contrib); err != nil || got != string(want) {
					t.Errorf("%s says\n%s%s says (%v)\n%s", name, got, contrib, err, want)
				}
			}
		})
	}
	if edit, err := Containerd(filepath.Join(t.TempDir(), "config.toml"), ""); err == nil {
		t.Errorf("nobody knows which version to write, but it would be\n%s", edit.Diff())
	}
}

// TestRefusals has files that are left as they are.
func TestRefusals(t *testing.T) {
	const v3 = "version = 3\n"
	one, two := containerd("1.6.20"), containerd("2.4.2")
	handler := func(kind string) string {
		return "version = 2\n[plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.sock]\nruntime_type = '" + kind + "'\n"
	}
	for _, c := range []struct {
		name string
		look look
		text string
		err  string
	}{
		{"no JSON", docker, "{\n  \"debug\": true,\n}\n", "line 3, column 1"},
		{"half of it", docker, `{"debug": true`, "unexpected EOF"},
		{"a list", docker, `[]`, "not a JSON object"},
		{"two", docker, `{} {}`, "after the end"},
		{"no runtimes", docker, `{"runtimes": []}`, `"runtimes" is not an object`},
		{"null runtimes", docker, `{"runtimes": null}`, `"runtimes" is not an object`},
		{"twice", docker, `{"runtimes": {}, "runtimes": {}}`, `has two "runtimes"`},
		{"another sock", docker, `{"runtimes": {"sock": {"path": "/opt/sock"}}}`, `the runtime "sock" is something else than /usr/local/sbin/sock, {"path":"/opt/sock"}`},
		{"another shim", docker, `{"runtimes": {"sock": {"runtimeType": "io.containerd.runsc.v1"}}}`, "something else"},
		{"not even one", docker, `{"runtimes": {"sock": 1}}`, "runtimes.sock"},

		{"no TOML", one, "version = 2\n[plugins\n", "line 2, column"},
		{"twice in TOML", one, "version = 2\nroot = 'a'\nroot = 'b'\n", "root"},
		{"no version", one, "version = '2'\n", "version is not a number"},
		{"another handler", one, handler("io.containerd.runc.v2"), `something else than io.containerd.sock.v1, its runtime_type is "io.containerd.runc.v2"`},
		{"an inline table", one, "version = 2\n[plugins.'io.containerd.grpc.v1.cri'.containerd]\nruntimes = { runc = { runtime_type = 'x' } }\n", "can't be changed as text"},
		{"a table in a list", one, "version = 2\n[[plugins]]\n", "can't be changed as text"},
		{"no imports", two, v3 + "imports = 'x'\n", "imports is not a list"},
		{"broken pattern", two, v3 + "imports = ['[']\n", "syntax error in pattern"},
		{"another one imported", two, v3 + "imports = ['DIR/b.toml']\n", "b.toml: the runtime \"sock\""},
		{"an import that replaces", one, "version = 2\nimports = ['DIR/a.toml']\n", "by --config DIR/a.toml"},
		{"broken import", two, v3 + "imports = ['DIR/c.toml']\n", "c.toml: line 1"},
		{"broken drop-in", two, v3 + "imports = ['DIR/conf.d/s*.toml']\n", "conf.d/sock.toml is there already"},
		{"drop-in of somebody else's", two, v3, "conf.d/sock.toml is there already"},
	} {
		t.Run(c.name, func(t *testing.T) {
			config := place(t, "config", c.text)
			dir := filepath.Dir(config)
			for name, text := range map[string]string{
				"a.toml": "version = 2\n[plugins.'io.containerd.grpc.v1.cri']\nsandbox_image = 'x'\n", "b.toml": handler("x"), "c.toml": "x",
				"conf.d/sock.toml": "version = 3\n",
			} {
				if err := os.MkdirAll(filepath.Join(dir, "conf.d"), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			edit, err := c.look(config)
			if err == nil {
				t.Fatalf("would change\n%s", edit.Diff())
			}
			if got := strings.ReplaceAll(err.Error(), dir, "DIR"); !strings.Contains(got, c.err) {
				t.Errorf("says %q, want %q", got, c.err)
			}
		})
	}
}

// TestKnown has files in which sock is known in another manner than ours.
func TestKnown(t *testing.T) {
	link := filepath.Join(t.TempDir(), "sock")
	real := filepath.Join(t.TempDir(), "sock")
	if err := os.WriteFile(real, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(real, link); err != nil {
		t.Fatal(err)
	}
	linked := func(config string) (Edit, error) { return Docker(config, real) }
	for _, c := range []struct {
		name  string
		look  look
		text  string
		known string
	}{
		{"with arguments", docker, `{"runtimes": {"sock": {"path": "/usr/local/sbin/sock", "runtimeArgs": ["--debug"]}}}`, "config"},
		{"by a link", linked, `{"runtimes": {"sock": {"path": "` + link + `"}}}`, "config"},
		{"by its shim", docker, `{"runtimes": {"sock": {"runtimeType": "io.containerd.sock.v1"}}}`, "config"},
		{"in the file", containerd("2.4.2"), "version = 3\n[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.sock]\nruntime_type = 'io.containerd.sock.v1'\n", "config"},
		{"imported", containerd("2.4.2"), "version = 3\nimports = ['x.d/*']\n", "x.d/y"},
		{"imported by 1", containerd("1.7.0"), "version = 2\nimports = ['DIR/x.d/*']\n", "x.d/y"},
	} {
		t.Run(c.name, func(t *testing.T) {
			config := place(t, "config", c.text)
			dir := filepath.Dir(config)
			if err := os.Mkdir(filepath.Join(dir, "x.d"), 0o755); err != nil {
				t.Fatal(err)
			}
			imported := "version = 2\n[plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.sock]\nruntime_type = 'io.containerd.sock.v1'\n"
			if err := os.WriteFile(filepath.Join(dir, "x.d", "y"), []byte(imported), 0o644); err != nil {
				t.Fatal(err)
			}
			edit := mustLook(t, c.look, config)
			if len(edit.Changes) > 0 || edit.Known != filepath.Join(dir, c.known) {
				t.Errorf("known by %q, and would change\n%s", edit.Known, edit.Diff())
			}
		})
	}
}

// TestApplyKeepsModes also changes a file twice in a second.
func TestApplyKeepsModes(t *testing.T) {
	config := place(t, "daemon.json", "{}")
	if os.Geteuid() == 0 {
		if err := os.Chown(config, 12, 34); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(config, 0o604); err != nil {
		t.Fatal(err)
	}
	var was unix.Stat_t
	if err := unix.Stat(config, &was); err != nil {
		t.Fatal(err)
	}
	want := []string{config + ".20260102-120000.bak", config + ".20260102-120000-2.bak"}
	for i, runtime := range []string{"/a/sock", "/b/sock"} {
		if i > 0 {
			if err := os.WriteFile(config, []byte("{}"), 0); err != nil {
				t.Fatal(err)
			}
		}
		edit, err := Docker(config, runtime)
		if err != nil {
			t.Fatal(err)
		}
		backups, err := edit.Apply(noon)
		if err != nil || backups[config] != want[i] {
			t.Fatalf("backups are %v, %v", backups, err)
		}
	}
	for _, file := range append(want, config) {
		var st unix.Stat_t
		if err := unix.Stat(file, &st); err != nil || st.Mode != was.Mode || st.Uid != was.Uid || st.Gid != was.Gid {
			t.Errorf("%s: mode %o, owner %d:%d, %v; want %o, %d:%d", file, st.Mode, st.Uid, st.Gid, err, was.Mode, was.Uid, was.Gid)
		}
	}
}

func TestApplyRefuses(t *testing.T) {
	t.Run("a file that was changed meanwhile", func(t *testing.T) {
		config := place(t, "daemon.json", "{}")
		edit := mustLook(t, docker, config)
		if err := os.WriteFile(config, []byte("{ }"), 0); err != nil {
			t.Fatal(err)
		}
		if _, err := edit.Apply(noon); err == nil || len(tree(t, filepath.Dir(config))) != 1 {
			t.Errorf("error is %v; there are %v", err, tree(t, filepath.Dir(config)))
		}
	})
	t.Run("a file that appeared meanwhile", func(t *testing.T) {
		config := filepath.Join(t.TempDir(), "daemon.json")
		edit := mustLook(t, docker, config)
		if err := os.WriteFile(config, []byte("{ }"), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := edit.Apply(noon); err == nil || len(tree(t, filepath.Dir(config))) != 1 {
			t.Errorf("error is %v; there are %v", err, tree(t, filepath.Dir(config)))
		}
	})
}

// TestLinks has configuration files that are links.
func TestLinks(t *testing.T) {
	for _, c := range []struct {
		name string
		err  string
		// target makes what the link leads to
		target func(t *testing.T, dir string) string
	}{
		{"a file", "", func(t *testing.T, dir string) string { return place(t, "real.json", "{}") }},
		{"nothing", "leads nowhere", func(t *testing.T, dir string) string { return filepath.Join(dir, "nothing") }},
		{"itself", "leads nowhere", func(t *testing.T, dir string) string { return filepath.Join(dir, "daemon.json") }},
		{"a device", "writ", func(t *testing.T, dir string) string { return os.DevNull }},
		{"a directory", "regular", func(t *testing.T, dir string) string { return t.TempDir() }},
		{"a FIFO", "regular", func(t *testing.T, dir string) string {
			fifo := filepath.Join(t.TempDir(), "fifo")
			if err := unix.Mkfifo(fifo, 0o644); err != nil {
				t.Fatal(err)
			}
			return fifo
		}},
		{"a file that all may write", "may be written by all", func(t *testing.T, dir string) string {
			file := place(t, "real.json", "{}")
			if err := os.Chmod(file, 0o666); err != nil {
				t.Fatal(err)
			}
			return file
		}},
		{"a place where all may write", "may be written by all", func(t *testing.T, dir string) string {
			file := place(t, "real.json", "{}")
			if err := os.Chmod(filepath.Dir(file), 0o777|os.ModeSticky); err != nil {
				t.Fatal(err)
			}
			return file
		}},
		{"somebody else's", "belongs to another user", func(t *testing.T, dir string) string {
			if os.Geteuid() != 0 {
				t.Skip("needs root")
			}
			file := place(t, "real.json", "{}")
			if err := os.Chown(file, 12, 34); err != nil {
				t.Fatal(err)
			}
			return file
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			link := filepath.Join(dir, "daemon.json")
			target := c.target(t, dir)
			if err := os.Symlink(target, link); err != nil {
				t.Fatal(err)
			}
			edit, err := docker(link)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("error is %v, want %q", err, c.err)
				}
				return
			}
			if err == nil {
				_, err = edit.Apply(noon)
			}
			if err != nil {
				t.Fatal(err)
			}
			if now, err := os.Readlink(link); err != nil || now != target {
				t.Errorf("the link leads to %q, %v", now, err)
			}
			if text, _ := os.ReadFile(target); string(text) != string(edit.Changes[0].After) {
				t.Errorf("the file says %s", text)
			}
		})
	}
}

func TestFindShim(t *testing.T) {
	complete, alone, linked := t.TempDir(), t.TempDir(), t.TempDir()
	for _, file := range []string{filepath.Join(complete, Shim), filepath.Join(complete, Daemon), filepath.Join(alone, Shim)} {
		if err := os.WriteFile(file, nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(filepath.Join(complete, Shim), filepath.Join(linked, Shim)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ path, shim, err string }{
		{"/nonexistent:" + complete, filepath.Join(complete, Shim), ""},
		{linked, filepath.Join(linked, Shim), ""},
		{alone + ":" + complete, "", "but not " + filepath.Join(alone, Daemon)},
		{"/nonexistent", "", "not in containerd's PATH, /nonexistent"},
	} {
		shim, err := findShim(c.path)
		if shim != c.shim || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %q, %v; want %q, %q", c.path, shim, err, c.shim, c.err)
		}
	}
}

func TestMajor(t *testing.T) {
	for version, want := range map[string]int{"20.10.24+dfsg1": 20, "2.4.2+unknown": 2, "library-import": 0, "": 0} {
		if got := major(version); got != want {
			t.Errorf("%q: %d", version, got)
		}
	}
}
