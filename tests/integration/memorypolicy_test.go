package integration

import (
	"os"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	. "github.com/sock-runtime/sock/tests/sandbox"
)

// policyOfStack is what a process's own memory map says of its stack: the process's policy, set_mempolicy(2).
const policyOfStack = `sed -n 's/^[^ ]* \(.*\) stack.*/\1/p' /proc/self/numa_maps`

func TestMemoryPolicy(t *testing.T) {
	t.Parallel()
	Need(t, ReadFile("/proc/self/numa_maps") != "", "the kernel has no NUMA")
	policy := func(mode specs.MemoryPolicyModeType, nodes string, flags ...specs.MemoryPolicyFlagType) Change {
		return func(c *specs.Spec) {
			c.Linux.MemoryPolicy = &specs.LinuxMemoryPolicy{Mode: mode, Nodes: nodes, Flags: flags}
		}
	}
	s := NewSandbox(t)
	for _, c := range []struct {
		change Change
		want   string
	}{
		{func(*specs.Spec) {}, "default"},
		{policy(specs.MpolDefault, ""), "default"},
		{policy(specs.MpolLocal, ""), "local"},
		{policy(specs.MpolBind, "0"), "bind:0"},
		{policy(specs.MpolBind, "0", specs.MpolFStaticNodes), "bind=static:0"},
		{policy(specs.MpolInterleave, "0", specs.MpolFRelativeNodes), "interleave=relative:0"},
		{policy(specs.MpolPreferred, "0"), "prefer:0"},
		{policy(specs.MpolPreferredMany, "0"), "prefer (many):0"},
	} {
		Equal(t, "policy", strings.TrimSpace(s.OutputOf(policyOfStack, c.change)), c.want)
	}
	Equal(t, "in a user namespace", strings.TrimSpace(s.UserOutput(policyOfStack, policy(specs.MpolBind, "0"))), "bind:0")

	c := s.Running(policy(specs.MpolInterleave, "0"))
	Equal(t, "exec", c.Inside(policyOfStack), "interleave:0")
	Equal(t, "exec of a file", strings.TrimSpace(s.OK("exec", "--process", s.ProcessFile(&specs.Process{
		Args: []string{"sh", "-c", policyOfStack}, Env: []string{"PATH=/bin"}, Cwd: "/",
	}), c.ID)), "interleave:0")
	if _, err := os.Stat("/sys/devices/system/node/node1000"); err == nil {
		t.Skip("so many nodes")
	}
	s = NewSandbox(t)
	s.Refused(s.Bundle(policy(specs.MpolBind, "1000")), Said("linux.memoryPolicy", "MPOL_BIND, nodes 1000", "invalid argument"))
}
