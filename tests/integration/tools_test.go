package integration

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/opencontainers/runtime-spec/specs-go/features"
)

func TestSpec(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	b := s.bundle()
	must(t, os.Remove(filepath.Join(b.dir, "config.json")))
	s.ok("spec", "--bundle", b.dir)
	config := decode[specs.Spec](t, readFile(filepath.Join(b.dir, "config.json")))
	equal(t, "args", strings.Join(config.Process.Args, " "), "sh")
	s.fails(said("exist"), "spec", "--bundle", b.dir) // never overwritten

	// What it writes runs as it is, but for the terminal.
	s.set(b, false, "process", "terminal")
	cmd := s.command("run", "--bundle", b.dir, s.mark)
	cmd.Stdin = strings.NewReader("echo hello from $(hostname)\n")
	r := s.do(cmd)
	if r.code != 0 || !strings.Contains(r.stdout, "hello from") {
		t.Error(r)
	}

	must(t, os.Remove(filepath.Join(b.dir, "config.json")))
	s.ok("spec", "--rootless", "--bundle", b.dir)
	config = decode[specs.Spec](t, readFile(filepath.Join(b.dir, "config.json")))
	equal(t, "number of uid mappings", len(config.Linux.UIDMappings), 1)
}

func TestFeatures(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	f := decode[features.Features](t, s.ok("features"))
	if f.OCIVersionMin == "" || f.OCIVersionMax == "" {
		t.Errorf("versions %q to %q", f.OCIVersionMin, f.OCIVersionMax)
	}
	for _, hook := range hookKinds {
		if !slices.Contains(f.Hooks, hook) {
			t.Errorf("no hook %s", hook)
		}
	}
	for _, option := range []string{"rro", "rbind", "tmpcopyup", "ridmap", "remount"} {
		if !slices.Contains(f.MountOptions, option) {
			t.Errorf("no mount option %s", option)
		}
	}
	for _, namespace := range []string{"pid", "network", "mount", "ipc", "uts", "cgroup", "time"} {
		if !slices.Contains(f.Linux.Namespaces, namespace) {
			t.Errorf("no namespace %s", namespace)
		}
	}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	for _, flag := range []string{"--version", "-v"} {
		out := s.ok(flag)
		if !strings.Contains(strings.SplitN(out, "\n", 2)[0], " version ") || !strings.Contains(out, "spec: 1.") || !strings.Contains(out, "go: go") {
			t.Errorf("version: %s", out)
		}
	}
	if !strings.Contains(s.ok("--help"), "create") {
		t.Error("no help")
	}
}

func TestPlan(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	b := s.bundle(func(c *specs.Spec) { c.Hostname = "subzero" })
	if out := s.ok("plan", b.dir); !strings.Contains(out, "subzero") || !strings.Contains(out, "/proc") {
		t.Errorf("plan: %s", out)
	}
	if out := s.ok("plan", "--explain", b.dir); !strings.Contains(out, "hostname subzero") || !strings.Contains(out, "pivot_root") {
		t.Errorf("plan --explain: %s", out)
	}
	if out := s.ok("plan", "--json", b.dir); !json.Valid([]byte(out)) {
		t.Errorf("plan --json: %s", out)
	}
	s.configure(b, args())
	s.fails(said("process.args"), "plan", b.dir)
	s.checkNothingLeft() // a plan changes nothing
	if _, err := os.Stat(s.root); err == nil {
		t.Error("plan made the state directory")
	}
}

func TestDoctor(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	out := s.ok("doctor")
	for _, want := range []string{"kernel", "cgroup", "namespace", "containerd", "runtimes"} {
		if !strings.Contains(strings.ToLower(out), want) {
			t.Errorf("no %q in %s", want, out)
		}
	}
}

func TestCompletion(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	for _, shell := range []string{"bash", "zsh", "fish"} {
		if out := s.ok("completion", shell); !strings.Contains(out, "create") || !strings.Contains(out, "bundle") {
			t.Errorf("%s: %s", shell, out)
		}
	}
	s.fails(nil, "completion", "csh")
}

func TestCheckpoint(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	c := s.running()
	s.fails(said("not supported"), "checkpoint", c.name)
	s.fails(said("not supported"), "restore", "other")
	equal(t, "status", c.state().Status, "running")
}
