package cgroup

import (
	"golang.org/x/sys/unix"

	"github.com/sock-runtime/sock/libsock/stub/bpf"
)

// The few operations that a device filter needs (bpf_insn.rst).
const (
	opLoadWord = unix.BPF_LDX | unix.BPF_MEM | unix.BPF_W
	opMove     = unix.BPF_ALU | unix.BPF_MOV | unix.BPF_K
	opMoveReg  = unix.BPF_ALU | unix.BPF_MOV | unix.BPF_X
	opAnd      = unix.BPF_ALU | unix.BPF_AND | unix.BPF_K
	opShift    = unix.BPF_ALU | unix.BPF_RSH | unix.BPF_K
	opJumpNE   = unix.BPF_JMP32 | unix.BPF_JNE | unix.BPF_K
	opJumpNEr  = unix.BPF_JMP32 | unix.BPF_JNE | unix.BPF_X
	opJumpEQ   = unix.BPF_JMP32 | unix.BPF_JEQ | unix.BPF_K
	opExit     = unix.BPF_JMP | unix.BPF_EXIT
)

// Registers: the context and later a scratch value, and what is in it.
const (
	regResult = iota
	regScratch
	regType
	regAccess
	regMajor
	regMinor
)

// program compiles the policy to a program of type BPF_PROG_TYPE_CGROUP_DEVICE,
// which gets a struct bpf_cgroup_dev_ctx and returns 1 to allow.
func (p *devicePolicy) program() []bpf.Instruction {
	verdict := func(allow bool) []bpf.Instruction {
		result := int32(0)
		if allow {
			result = 1
		}
		return []bpf.Instruction{{Code: opMove, Registers: regResult, Immediate: result}, {Code: opExit}}
	}
	prog := []bpf.Instruction{
		// access_type: the type in the lower half, the access in the upper
		{Code: opLoadWord, Registers: regType | regScratch<<4, Offset: 0},
		{Code: opAnd, Registers: regType, Immediate: 0xffff},
		{Code: opLoadWord, Registers: regAccess | regScratch<<4, Offset: 0},
		{Code: opShift, Registers: regAccess, Immediate: 16},
		{Code: opLoadWord, Registers: regMajor | regScratch<<4, Offset: 4},
		{Code: opLoadWord, Registers: regMinor | regScratch<<4, Offset: 8},
	}
	for _, e := range p.exceptions {
		kind := int32(unix.BPF_DEVCG_DEV_CHAR)
		if e.kind == 'b' {
			kind = unix.BPF_DEVCG_DEV_BLOCK
		}
		block := []bpf.Instruction{{Code: opJumpNE, Registers: regType, Immediate: kind}}
		if e.access != allAccess {
			block = append(block,
				bpf.Instruction{Code: opMoveReg, Registers: regScratch | regAccess<<4},
				bpf.Instruction{Code: opAnd, Registers: regScratch, Immediate: int32(e.access)})
			if p.allow {
				// To deny, any part of the access is enough.
				block = append(block, bpf.Instruction{Code: opJumpEQ, Registers: regScratch, Immediate: 0})
			} else {
				// To allow, one rule must cover all of it.
				block = append(block, bpf.Instruction{Code: opJumpNEr, Registers: regScratch | regAccess<<4})
			}
		}
		if e.major != wildcard {
			block = append(block, bpf.Instruction{Code: opJumpNE, Registers: regMajor, Immediate: int32(uint32(e.major))})
		}
		if e.minor != wildcard {
			block = append(block, bpf.Instruction{Code: opJumpNE, Registers: regMinor, Immediate: int32(uint32(e.minor))})
		}
		block = append(block, verdict(!p.allow)...)
		for i := range block {
			switch block[i].Code {
			case opJumpNE, opJumpNEr, opJumpEQ: // all lead to the next block
				block[i].Offset = int16(len(block) - i - 1)
			}
		}
		prog = append(prog, block...)
	}
	return append(prog, verdict(p.allow)...)
}

// attach enforces the policy on a v2 cgroup. It takes the place of programs
// that were attached before; those of the ancestors stay in force.
func (p *devicePolicy) attach(d *dir) error {
	cgroup, err := open(d.path, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(cgroup)
	var old []int
	if !d.fresh {
		old, err = bpf.Attached(cgroup)
		if err != nil {
			return err
		}
		defer func() {
			for _, fd := range old {
				unix.Close(fd)
			}
		}()
	}
	allowsAll := p.allow && len(p.exceptions) == 0
	if !allowsAll {
		prog, err := bpf.LoadDeviceFilter(p.program())
		if err != nil {
			return err
		}
		defer unix.Close(prog)
		if err := bpf.Attach(cgroup, prog); err != nil {
			return err
		}
	}
	for _, fd := range old {
		if err := bpf.Detach(cgroup, fd); err != nil {
			return err
		}
	}
	return nil
}
