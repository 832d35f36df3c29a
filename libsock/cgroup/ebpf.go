package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// instruction is struct bpf_insn of linux/bpf.h.
type instruction struct {
	code      uint8
	registers uint8 // destination in the low, source in the high four bits
	offset    int16
	immediate int32
}

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
func (p *devicePolicy) program() []instruction {
	verdict := func(allow bool) []instruction {
		result := int32(0)
		if allow {
			result = 1
		}
		return []instruction{{code: opMove, registers: regResult, immediate: result}, {code: opExit}}
	}
	prog := []instruction{
		// access_type: the type in the lower half, the access in the upper
		{code: opLoadWord, registers: regType | regScratch<<4, offset: 0},
		{code: opAnd, registers: regType, immediate: 0xffff},
		{code: opLoadWord, registers: regAccess | regScratch<<4, offset: 0},
		{code: opShift, registers: regAccess, immediate: 16},
		{code: opLoadWord, registers: regMajor | regScratch<<4, offset: 4},
		{code: opLoadWord, registers: regMinor | regScratch<<4, offset: 8},
	}
	for _, e := range p.exceptions {
		kind := int32(unix.BPF_DEVCG_DEV_CHAR)
		if e.kind == 'b' {
			kind = unix.BPF_DEVCG_DEV_BLOCK
		}
		block := []instruction{{code: opJumpNE, registers: regType, immediate: kind}}
		if e.access != allAccess {
			block = append(block,
				instruction{code: opMoveReg, registers: regScratch | regAccess<<4},
				instruction{code: opAnd, registers: regScratch, immediate: int32(e.access)})
			if p.allow {
				// To deny, any part of the access is enough.
				block = append(block, instruction{code: opJumpEQ, registers: regScratch, immediate: 0})
			} else {
				// To allow, one rule must cover all of it.
				block = append(block, instruction{code: opJumpNEr, registers: regScratch | regAccess<<4})
			}
		}
		if e.major != wildcard {
			block = append(block, instruction{code: opJumpNE, registers: regMajor, immediate: int32(uint32(e.major))})
		}
		if e.minor != wildcard {
			block = append(block, instruction{code: opJumpNE, registers: regMinor, immediate: int32(uint32(e.minor))})
		}
		block = append(block, verdict(!p.allow)...)
		for i := range block {
			switch block[i].code {
			case opJumpNE, opJumpNEr, opJumpEQ: // all lead to the next block
				block[i].offset = int16(len(block) - i - 1)
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
		old, err = attachedPrograms(cgroup)
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
		prog, err := loadProgram(p.program())
		if err != nil {
			return err
		}
		defer unix.Close(prog)
		if err := attachProgram(cgroup, prog); err != nil {
			return err
		}
	}
	for _, fd := range old {
		if err := detachProgram(cgroup, fd); err != nil {
			return err
		}
	}
	return nil
}

// The parts of union bpf_attr (bpf(2), linux/bpf.h) that are used. The kernel
// takes what is beyond them as zero.
type (
	loadAttr struct {
		programType   uint32
		count         uint32
		program       uint64
		license       uint64
		logLevel      uint32
		logSize       uint32
		log           uint64
		kernelVersion uint32
		flags         uint32
	}
	attachAttr struct {
		target     uint32
		program    uint32
		attachType uint32
		flags      uint32
	}
	queryAttr struct {
		target      uint32
		attachType  uint32
		flags       uint32
		attachFlags uint32
		programs    uint64
		count       uint32
		_           uint32
		// Linux 6.17 and later write the revision behind these, whatever the
		// size that we pass.
		_ [4]uint64
	}
	idAttr struct {
		id, next, flags uint32
	}
)

func bpf(command uintptr, attr unsafe.Pointer, size uintptr) (int, error) {
	for tries := 0; ; tries++ {
		r, _, errno := unix.Syscall(unix.SYS_BPF, command, uintptr(attr), size)
		switch {
		case errno == 0:
			return int(r), nil
		case (errno == unix.EAGAIN || errno == unix.EINTR) && tries < 30:
			// A signal interrupted the verifier.
		default:
			return -1, errno
		}
	}
}

// loadProgram loads a device filter; if the verifier refuses it, the error
// holds the verifier's log.
func loadProgram(prog []instruction) (int, error) {
	license := []byte("Apache-2.0\x00")
	var pins runtime.Pinner
	defer pins.Unpin()
	pins.Pin(&prog[0])
	pins.Pin(&license[0])
	attr := loadAttr{
		programType: unix.BPF_PROG_TYPE_CGROUP_DEVICE,
		count:       uint32(len(prog)),
		program:     uint64(uintptr(unsafe.Pointer(&prog[0]))),
		license:     uint64(uintptr(unsafe.Pointer(&license[0]))),
	}
	fd, err := bpf(unix.BPF_PROG_LOAD, unsafe.Pointer(&attr), unsafe.Sizeof(attr))
	if err == nil {
		return fd, nil
	}
	if errors.Is(err, fs.ErrPermission) {
		return -1, os.NewSyscallError("load device filter: bpf", err)
	}
	log := make([]byte, 1<<16)
	pins.Pin(&log[0])
	attr.logLevel, attr.logSize, attr.log = 1, uint32(len(log)), uint64(uintptr(unsafe.Pointer(&log[0])))
	if fd, err := bpf(unix.BPF_PROG_LOAD, unsafe.Pointer(&attr), unsafe.Sizeof(attr)); err == nil {
		return fd, nil
	}
	return -1, fmt.Errorf("load device filter: bpf: %w: %s", err, unix.ByteSliceToString(log))
}

func attachProgram(cgroup, prog int) error {
	attr := attachAttr{uint32(cgroup), uint32(prog), uint32(unix.BPF_CGROUP_DEVICE), unix.BPF_F_ALLOW_MULTI}
	_, err := bpf(unix.BPF_PROG_ATTACH, unsafe.Pointer(&attr), unsafe.Sizeof(attr))
	return os.NewSyscallError("attach device filter: bpf", err)
}

func detachProgram(cgroup, prog int) error {
	attr := attachAttr{uint32(cgroup), uint32(prog), uint32(unix.BPF_CGROUP_DEVICE), 0}
	_, err := bpf(unix.BPF_PROG_DETACH, unsafe.Pointer(&attr), unsafe.Sizeof(attr))
	return os.NewSyscallError("detach old device filter: bpf", err)
}

// attachedPrograms opens the device filters of a cgroup, except for those that
// a security module hides from us: they can only forbid more.
func attachedPrograms(cgroup int) (programs []int, err error) {
	ids := make([]uint32, 64) // BPF_CGROUP_MAX_PROGS
	var pins runtime.Pinner
	defer pins.Unpin()
	pins.Pin(&ids[0])
	query := queryAttr{
		target:     uint32(cgroup),
		attachType: uint32(unix.BPF_CGROUP_DEVICE),
		programs:   uint64(uintptr(unsafe.Pointer(&ids[0]))),
		count:      uint32(len(ids)),
	}
	if _, err := bpf(unix.BPF_PROG_QUERY, unsafe.Pointer(&query), unsafe.Sizeof(query)); err != nil {
		return nil, os.NewSyscallError("query device filters: bpf", err)
	}
	for _, id := range ids[:query.count] {
		attr := idAttr{id: id}
		fd, err := bpf(unix.BPF_PROG_GET_FD_BY_ID, unsafe.Pointer(&attr), unsafe.Sizeof(attr))
		switch {
		case err == nil:
			programs = append(programs, fd)
		case errors.Is(err, fs.ErrPermission), errors.Is(err, fs.ErrNotExist):
		default:
			for _, fd := range programs {
				unix.Close(fd)
			}
			return nil, os.NewSyscallError("open device filter: bpf", err)
		}
	}
	return programs, nil
}
