package plan

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/sock-runtime/sock/libsock/stub"
	"github.com/sock-runtime/sock/spec"
)

// memoryPolicy sets the NUMA memory policy, set_mempolicy(2), in the cpuset that bounds its nodes.
func (b *builder) memoryPolicy() error {
	const from = "linux.memoryPolicy"
	m := b.spec.Linux.MemoryPolicy
	if m == nil {
		return nil
	}
	mode, ok := spec.MemoryPolicyMode(m.Mode)
	if !ok {
		return spec.Field(from+".mode", "unknown mode %q", m.Mode)
	}
	for i, flag := range m.Flags {
		bit, ok := spec.MemoryPolicyFlag(flag)
		if !ok {
			return spec.Field(fmt.Sprintf("%s.flags[%d]", from, i), "unknown flag %q", flag)
		}
		mode |= bit
	}
	n := Note{From: from, Does: fmt.Sprintf("set the memory policy to %s", m.Mode), Hand: "numactl"}
	mask, bits := zero, 0
	if m.Nodes != "" {
		nodes, err := spec.ParseNodeList(m.Nodes)
		if err != nil {
			return spec.Field(from+".nodes", "%w", err)
		}
		n.Does += ", nodes " + m.Nodes
		mask, bits = setOf(nodes), len(nodes)*64+1 // the kernel takes one less than it is told
	}
	b.line(n, sys(unix.SYS_SET_MEMPOLICY, stub.Int(mode), mask, stub.Int(bits)))
	return nil
}

// setOf is a set of CPUs or nodes as the kernel takes it.
func setOf(set unix.CPUSet) stub.Arg {
	mask := make([]uint64, len(set))
	for i, word := range set {
		mask[i] = uint64(word)
	}
	return words(mask...)
}
