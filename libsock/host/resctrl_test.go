package host

import (
	"os"
	"path/filepath"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/sock-runtime/sock/libsock/plan"
	"github.com/sock-runtime/sock/libsock/resctrl"
	"github.com/sock-runtime/sock/libsock/stub"
)

// A child joins the groups by itself, "0" being the writer, before anything else that a plan has it do. The kernel of the
// test need not have resctrl: the groups are files that are there already.
func TestJoinResctrl(t *testing.T) {
	root := t.TempDir()
	for _, name := range []string{"gold/tasks", "gold/mon_groups/other/tasks", "gold/schemata"} {
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	config := &specs.Spec{
		Root: &specs.Root{Path: "rootfs"}, Process: &specs.Process{Args: []string{"true"}, Cwd: "/"},
		Linux: &specs.Linux{IntelRdt: &specs.LinuxIntelRdt{ClosID: "gold"}, Namespaces: []specs.LinuxNamespace{{Type: specs.MountNamespace}}},
	}
	group, err := resctrl.New(root, "box", config.Linux.IntelRdt)
	if err != nil {
		t.Fatal(err)
	}
	p, err := plan.Build(config, plan.Options{Rootfs: "/"}, plan.Facts{
		Cgroup: plan.Cgroup{None: true}, Resctrl: &plan.Resctrl{Dir: group.Dir},
	})
	if err != nil {
		t.Fatal(err)
	}
	h := Host{Resctrl: group, IntelRdt: config.Linux.IntelRdt}
	defer h.Close()
	for _, step := range p.Host {
		if step.From == "linux.intelRdt" {
			if err := h.Do([]plan.Step{step}); err != nil {
				t.Fatal(err)
			}
		}
	}
	var calls []stub.Instr
	for _, line := range p.Child {
		if line.From != "linux.intelRdt" {
			continue
		}
		for _, call := range line.Ops {
			for i, arg := range call.Args { // what the launcher does for all descriptors
				if arg.String() == "<"+plan.ResctrlFile(0)+">" {
					call.Args[i] = stub.Int(h.Descriptors()[plan.ResctrlFile(0)])
				}
			}
			calls = append(calls, call)
		}
	}
	if err := inChild(plainClone, calls...); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(group.Tasks()[0])
	if err != nil || string(got) != "0" {
		t.Errorf("tasks: %q %v", got, err)
	}
}
