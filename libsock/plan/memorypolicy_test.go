package plan_test

import (
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/sock-runtime/sock/libsock/plan"
)

func TestMemoryPolicy(t *testing.T) {
	bind := &specs.LinuxMemoryPolicy{Mode: specs.MpolBind, Nodes: "0, 65", Flags: []specs.MemoryPolicyFlagType{specs.MpolFStaticNodes}}
	p := built(t, func(in *input) { in.spec.Linux.MemoryPolicy, in.facts.Cgroup = bind, legacy().Cgroup })
	has(t, doing(t, p, "set the memory policy to MPOL_BIND, nodes 0, 65"), "set_mempolicy(0x8002, {01000000000000000200000000000000", "}, 0x401)")
	inOrder(t, p, "join the cgroup in cpuset", "set the memory policy", "close what", "exec")

	exec, err := plan.BuildExec(smallInput().spec.Process, plan.Join{MemoryPolicy: bind}, plan.Options{}, smallInput().facts)
	if err != nil {
		t.Fatal(err)
	}
	has(t, doing(t, exec, "set the memory policy to MPOL_BIND"), "set_mempolicy(0x8002,")

	local := built(t, func(in *input) { in.spec.Linux.MemoryPolicy = &specs.LinuxMemoryPolicy{Mode: specs.MpolLocal} })
	has(t, doing(t, local, "set the memory policy to MPOL_LOCAL"), "set_mempolicy(0x4, 0x0, 0x0)")
	if got := local.Child[position(t, local, "set the memory policy")].Explains(unix.EINVAL); !strings.HasPrefix(got, "linux.memoryPolicy: ") {
		t.Errorf("error: %s", got)
	}
}
