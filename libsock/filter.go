package libsock

import (
	"encoding/binary"
	"path/filepath"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/sock-runtime/sock/libsock/plan"
	"github.com/sock-runtime/sock/libsock/seccomp"
	"github.com/sock-runtime/sock/libsock/state"
)

// filterDir is where compiled seccomp profiles are cached, below the directory of all states; no container's ID has a
// comma in it.
const filterDir = ",seccomp"

// compileFilter compiles linux.seccomp, or takes it from the cache. It is nil where no filter is asked for.
func (r *Runtime) compileFilter(config *specs.Spec) (*plan.Filter, error) {
	if config.Linux == nil || config.Linux.Seccomp == nil {
		return nil, nil
	}
	program, err := seccomp.Cached(filepath.Join(r.Root, filterDir), config.Linux.Seccomp)
	if program == nil || err != nil {
		return nil, err
	}
	f := &plan.Filter{Flags: program.Flags, Notify: program.Notify, Program: make([]byte, 0, 8*len(program.Filter))}
	for _, in := range program.Filter { // struct sock_filter
		f.Program = binary.NativeEndian.AppendUint16(f.Program, in.Code)
		f.Program = append(f.Program, in.Jt, in.Jf)
		f.Program = binary.NativeEndian.AppendUint32(f.Program, in.K)
	}
	return f, nil
}

// filter is the container's filter as create compiled it.
func (c *Container) filter() (*plan.Filter, error) {
	f, err := state.ReadFilter(c.runtime.Root, c.state.ID)
	if f == nil || err != nil {
		return nil, err
	}
	return &plan.Filter{Program: f.Program, Flags: f.Flags, Notify: f.Notify}, nil
}
