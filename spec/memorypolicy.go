package spec

import (
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// MemoryPolicyMode returns the mode that set_mempolicy(2) takes.
func MemoryPolicyMode(mode specs.MemoryPolicyModeType) (number int, ok bool) {
	switch mode {
	case specs.MpolDefault:
		return unix.MPOL_DEFAULT, true
	case specs.MpolBind:
		return unix.MPOL_BIND, true
	case specs.MpolInterleave:
		return unix.MPOL_INTERLEAVE, true
	case specs.MpolWeightedInterleave: // Linux 6.9
		return unix.MPOL_WEIGHTED_INTERLEAVE, true
	case specs.MpolPreferred:
		return unix.MPOL_PREFERRED, true
	case specs.MpolPreferredMany: // Linux 5.15
		return unix.MPOL_PREFERRED_MANY, true
	case specs.MpolLocal:
		return unix.MPOL_LOCAL, true
	}
	return 0, false
}

// MemoryPolicyFlag returns the bit of a flag that set_mempolicy(2) takes with the mode.
func MemoryPolicyFlag(flag specs.MemoryPolicyFlagType) (bit int, ok bool) {
	switch flag {
	case specs.MpolFNumaBalancing:
		return unix.MPOL_F_NUMA_BALANCING, true
	case specs.MpolFRelativeNodes:
		return unix.MPOL_F_RELATIVE_NODES, true
	case specs.MpolFStaticNodes:
		return unix.MPOL_F_STATIC_NODES, true
	}
	return 0, false
}

// memoryPolicyModes and memoryPolicyFlags are those of config-linux.md "Memory policy", sorted.
var (
	memoryPolicyModes = [...]specs.MemoryPolicyModeType{
		specs.MpolBind, specs.MpolDefault, specs.MpolInterleave, specs.MpolLocal, specs.MpolPreferred, specs.MpolPreferredMany,
		specs.MpolWeightedInterleave,
	}
	memoryPolicyFlags = [...]specs.MemoryPolicyFlagType{specs.MpolFNumaBalancing, specs.MpolFRelativeNodes, specs.MpolFStaticNodes}
)

// checkMemoryPolicy refuses what no kernel takes, set_mempolicy(2); which flags go with which mode, and which nodes there
// are, it leaves to the kernel.
func checkMemoryPolicy(m *specs.LinuxMemoryPolicy) error {
	const at = "linux.memoryPolicy"
	if m.Mode == "" {
		return Field(at+".mode", "must be set")
	}
	if _, ok := MemoryPolicyMode(m.Mode); !ok {
		return Field(at+".mode", "unknown mode %q", m.Mode)
	}
	if m.Nodes != "" {
		if _, err := ParseNodeList(m.Nodes); err != nil {
			return &FieldError{Path: at + ".nodes", Err: err}
		}
	}
	switch m.Mode {
	case specs.MpolDefault, specs.MpolLocal:
		if m.Nodes != "" {
			return Field(at+".nodes", "%s takes no nodes", m.Mode)
		}
	case specs.MpolPreferred: // without nodes it is MPOL_LOCAL
	default:
		if m.Nodes == "" {
			return Field(at+".nodes", "must be set for %s", m.Mode)
		}
	}
	for i, flag := range m.Flags {
		if _, ok := MemoryPolicyFlag(flag); !ok {
			return Field(element(at+".flags", i), "unknown flag %q", flag)
		}
	}
	if slices.Contains(m.Flags, specs.MpolFStaticNodes) && slices.Contains(m.Flags, specs.MpolFRelativeNodes) {
		return Field(at+".flags", "%s and %s exclude each other", specs.MpolFStaticNodes, specs.MpolFRelativeNodes)
	}
	return nil
}
