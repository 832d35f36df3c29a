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

	. "github.com/sock-runtime/sock/tests/sandbox"
)

func TestSpec(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	b := s.Bundle()
	Must(t, os.Remove(filepath.Join(b.Dir, "config.json")))
	s.OK("spec", "--bundle", b.Dir)
	config := Decode[specs.Spec](t, ReadFile(filepath.Join(b.Dir, "config.json")))
	Equal(t, "args", strings.Join(config.Process.Args, " "), "sh")
	s.Fails(Said("exist"), "spec", "--bundle", b.Dir) // never overwritten

	// What it writes runs as it is, but for the terminal.
	s.Set(b, false, "process", "terminal")
	cmd := s.Command("run", "--bundle", b.Dir, s.Mark)
	cmd.Stdin = strings.NewReader("echo hello from $(hostname)\n")
	r := s.Do(cmd)
	if r.Code != 0 || !strings.Contains(r.Stdout, "hello from") {
		t.Error(r)
	}

	Must(t, os.Remove(filepath.Join(b.Dir, "config.json")))
	s.OK("spec", "--rootless", "--bundle", b.Dir)
	config = Decode[specs.Spec](t, ReadFile(filepath.Join(b.Dir, "config.json")))
	Equal(t, "number of uid mappings", len(config.Linux.UIDMappings), 1)
}

func TestFeatures(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	f := Decode[features.Features](t, s.OK("features"))
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
	s := NewSandbox(t)
	for _, flag := range []string{"--version", "-v"} {
		out := s.OK(flag)
		if !strings.Contains(strings.SplitN(out, "\n", 2)[0], " version ") || !strings.Contains(out, "spec: 1.") || !strings.Contains(out, "go: go") {
			t.Errorf("version: %s", out)
		}
	}
	if !strings.Contains(s.OK("--help"), "create") {
		t.Error("no help")
	}
}

func TestPlan(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	b := s.Bundle(func(c *specs.Spec) { c.Hostname = "subzero" })
	if out := s.OK("plan", b.Dir); !strings.Contains(out, "subzero") || !strings.Contains(out, "/proc") {
		t.Errorf("plan: %s", out)
	}
	if out := s.OK("plan", "--explain", b.Dir); !strings.Contains(out, "hostname subzero") || !strings.Contains(out, "pivot_root") {
		t.Errorf("plan --explain: %s", out)
	}
	if out := s.OK("plan", "--json", b.Dir); !json.Valid([]byte(out)) {
		t.Errorf("plan --json: %s", out)
	}
	s.Configure(b, Args())
	s.Fails(Said("process.args"), "plan", b.Dir)
	s.CheckNothingLeft() // a plan changes nothing
	if _, err := os.Stat(s.Root); err == nil {
		t.Error("plan made the state directory")
	}
}

func TestDoctor(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	out := s.OK("doctor")
	for _, want := range []string{"kernel", "cgroup", "namespace", "containerd", "runtimes"} {
		if !strings.Contains(strings.ToLower(out), want) {
			t.Errorf("no %q in %s", want, out)
		}
	}
}

func TestCompletion(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	for _, shell := range []string{"bash", "zsh", "fish"} {
		if out := s.OK("completion", shell); !strings.Contains(out, "create") || !strings.Contains(out, "bundle") {
			t.Errorf("%s: %s", shell, out)
		}
	}
	s.Fails(nil, "completion", "csh")
}

func TestCheckpoint(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	c := s.Running()
	s.Fails(Said("not supported"), "checkpoint", c.ID)
	s.Fails(Said("not supported"), "restore", "other")
	Equal(t, "status", c.State().Status, "running")
}
