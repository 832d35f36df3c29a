package plan_test

import (
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/sock-runtime/sock/libsock/plan"
)

func TestIntelRdt(t *testing.T) {
	const dir = "/sys/fs/resctrl/box"
	ask := func(in *input) {
		in.spec.Linux.IntelRdt = &specs.LinuxIntelRdt{EnableMonitoring: true}
		in.facts.Resctrl = &plan.Resctrl{Dir: dir, Monitor: dir + "/mon_groups/box", Remove: dir}
	}
	p := built(t, ask)
	action[plan.MakeResctrl](t, p)
	action[plan.JoinResctrl](t, p)
	has(t, doing(t, p, "join "+dir+"/mon_groups/box"), `write(<resctrl.1>, "0", 0x1) == 1`, "close(<resctrl.1>)")
	inOrder(t, p, "keep other processes out", "join "+dir, "join "+dir+"/mon_groups/box", "let no mount out", "exec")
	if len(p.Undo) != 1 || p.Undo[0].Does != "remove "+dir {
		t.Errorf("undo: %v", p.Undo)
	}

	in := smallInput()
	ask(in)
	exec, err := plan.BuildExec(in.spec.Process, plan.Join{}, in.opt, in.facts)
	if err != nil {
		t.Fatal(err)
	}
	action[plan.JoinResctrl](t, exec)
	inOrder(t, exec, "join "+dir, "exec")

	in.facts.Resctrl = nil
	_, err = plan.Build(in.spec, in.opt, in.facts)
	if want := "linux.intelRdt: no resctrl filesystem is mounted on this host"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
