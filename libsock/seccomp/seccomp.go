// Package seccomp compiles the linux.seccomp profile of config.json to a classic BPF program, without cgo.
//
// The verdicts are those of libseccomp as runc drives it, tested against libseccomp itself; the program is another one:
// a binary tree over system call numbers, in which neighbours with the same verdict are one range, so that a profile
// of several hundred names costs a handful of comparisons a call.
//
// Sources: the runtime specification 1.3 (config-linux.md, Seccomp), seccomp(2), Documentation/userspace-api/seccomp_filter.rst.
package seccomp

import (
	"fmt"
	"math"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// maxInstructions is the kernel's limit for one filter (BPF_MAXINSNS in linux/bpf_common.h).
const maxInstructions = 4096

// Program is what seccomp(2) takes with SECCOMP_SET_MODE_FILTER.
type Program struct {
	Filter []unix.SockFilter
	Flags  uint // SECCOMP_FILTER_FLAG_*
	Notify bool // the call returns a listener, which belongs to the agent at listenerPath
}

// Compile translates a profile for the architecture that this binary is built for. A nil profile, or one with neither
// a default action nor system calls, asks for no filter: the program is nil then, as under runc.
// Errors name the field of config.json, for example linux.seccomp.syscalls[3].args[0].op.
func Compile(p *specs.LinuxSeccomp) (*Program, error) { return compile(p, nativeArch()) }

func compile(p *specs.LinuxSeccomp, native specs.Arch) (*Program, error) {
	if isEmpty(p) {
		return nil, nil
	}
	pr, err := parse(p, native)
	if err != nil {
		return nil, err
	}
	filter, err := pr.filter()
	if err != nil {
		return nil, err
	}
	if len(filter) > maxInstructions {
		return nil, fmt.Errorf("linux.seccomp: the filter needs %d instructions, the kernel takes %d", len(filter), maxInstructions)
	}
	return &Program{Filter: filter, Flags: pr.flags, Notify: pr.notify}, nil
}

func isEmpty(p *specs.LinuxSeccomp) bool {
	return p == nil || p.DefaultAction == "" && len(p.Syscalls) == 0
}

// x32Bit distinguishes x32's calls from those of x86_64, with which it shares AUDIT_ARCH_X86_64.
const x32Bit = 1 << 30

// filter generates the program: it finds the architecture, then the number, then looks at arguments.
func (pr *profile) filter() ([]unix.SockFilter, error) {
	var a assembler
	other := a.ret(unix.SECCOMP_RET_KILL_THREAD) // libseccomp's "bad architecture" action
	var x86_64, x32 *abiVerdicts
	for _, abi := range slices.Backward(pr.abis) { // the native one comes first in the program
		v, err := pr.verdicts(abi)
		if err != nil {
			return nil, err
		}
		switch abi.arch {
		case specs.ArchX86_64:
			x86_64 = v
		case specs.ArchX32:
			x32 = v
		default:
			other = a.section(abi, pr.wholeRange(v), pr.defaultAction, other)
		}
		if len(a.reversed) > maxInstructions {
			break // hopeless, and a profile of megabytes should not take minutes
		}
	}
	if x86_64 != nil || x32 != nil {
		other = a.section(findABI(specs.ArchX86_64), pr.x86_64Range(x86_64, x32), pr.defaultAction, other)
	}
	a.load(offsetArch)
	return a.program(), nil
}

// wholeRange lays out the verdicts of an ABI that has its AUDIT_ARCH for itself.
func (pr *profile) wholeRange(v *abiVerdicts) []span {
	var s spans
	s.region(v, pr.defaultAction, 0, math.MaxUint32)
	return s
}

// x86_64Range lays out those of x86_64 and x32, one of which may be nil: then its calls are as bad as an
// architecture that the profile does not name. runc compares with the newest call by bit 30 alone, so the upper half
// of the numbers repeats the lower.
func (pr *profile) x86_64Range(x86_64, x32 *abiVerdicts) []span {
	const kill = unix.SECCOMP_RET_KILL_THREAD
	lower, upper := pr.defaultAction, pr.defaultAction
	if x86_64 == nil {
		x86_64, lower = &abiVerdicts{}, kill
	}
	if x32 == nil {
		// A tracer skips a call by making its number -1, and the kernel filters again: seccomp(2), PTRACE_EVENT_SECCOMP.
		x32, upper = &abiVerdicts{calls: []callVerdict{{math.MaxUint32, verdict{action: pr.defaultAction}}}}, kill
	}
	var s spans
	s.region(x86_64, lower, 0, x32Bit-1)
	s.region(x32, upper, x32Bit, 2*x32Bit-1)
	s.region(x86_64, upper, 2*x32Bit, 3*x32Bit-1)
	s.region(x32, upper, 3*x32Bit, math.MaxUint32)
	return s
}
