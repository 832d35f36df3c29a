package plan

import (
	"fmt"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/sock-runtime/sock/libsock/stub"
)

// Filter is a compiled seccomp profile.
type Filter struct {
	Program []byte // BPF instructions of 8 bytes each
	Flags   uint   // SECCOMP_FILTER_FLAG_*
	Notify  bool   // loading it gives a listener, whose descriptor is ListenerFD in the child
}

// ListenerFD is the number that the listener gets: the lowest one, with only stdio and the preserved descriptors open.
func ListenerFD(preserveFDs int) int { return 3 + preserveFDs }

// moment is when a filter can be loaded.
type moment int

const (
	beforeCredentials moment = iota // without no_new_privs that takes CAP_SYS_ADMIN, seccomp(2)
	beforeWait                      // with a listener, so that it is with the agent before the container is created
	beforeExec                      // otherwise, so that it filters nothing of ours but execve
)

func (b *builder) filterMoment(p *specs.Process) moment {
	switch {
	case !p.NoNewPrivileges:
		return beforeCredentials
	case b.facts.Filter != nil && b.facts.Filter.Notify:
		return beforeWait
	default:
		return beforeExec
	}
}

// seccomp loads the filter if this is its moment.
func (b *builder) seccomp(p *specs.Process, now moment) {
	f := b.facts.Filter
	if f == nil || b.filterMoment(p) != now {
		return
	}
	ops := []stub.Instr{sys(unix.SYS_SECCOMP, stub.Int(unix.SECCOMP_SET_MODE_FILTER), stub.Int(f.Flags), stub.Filter(f.Program))}
	if f.Notify && b.reachable() { // for whoever fetches the listener
		ops = append([]stub.Instr{unseal()}, ops...)
	}
	if f.Notify { // at once: from here on any other call than write may wait for the agent, who needs the listener
		ops = append(ops, writeRecord(stub.Value(slotReport), stub.Listening))
	}
	b.line(Note{From: "linux.seccomp", Does: fmt.Sprintf("load the seccomp filter, %d instructions", len(f.Program)/8)}, ops...)
}
