// Package bpf makes the few calls of bpf(2) with which a program that filters access to devices is put on a cgroup of v2.
// It stands beside the stub because it needs unsafe, too.
package bpf

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Instruction is struct bpf_insn of linux/bpf.h.
type Instruction struct {
	Code      uint8
	Registers uint8 // destination in the low, source in the high four bits
	Offset    int16
	Immediate int32
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

func call(command uintptr, attr unsafe.Pointer, size uintptr) (int, error) {
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

// LoadDeviceFilter loads a device filter; if the verifier refuses it, the error
// holds the verifier's log.
func LoadDeviceFilter(prog []Instruction) (int, error) {
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
	fd, err := call(unix.BPF_PROG_LOAD, unsafe.Pointer(&attr), unsafe.Sizeof(attr))
	if err == nil {
		return fd, nil
	}
	if errors.Is(err, fs.ErrPermission) {
		return -1, os.NewSyscallError("load device filter: bpf", err)
	}
	log := make([]byte, 1<<16)
	pins.Pin(&log[0])
	attr.logLevel, attr.logSize, attr.log = 1, uint32(len(log)), uint64(uintptr(unsafe.Pointer(&log[0])))
	if fd, err := call(unix.BPF_PROG_LOAD, unsafe.Pointer(&attr), unsafe.Sizeof(attr)); err == nil {
		return fd, nil
	}
	return -1, fmt.Errorf("load device filter: bpf: %w: %s", err, unix.ByteSliceToString(log))
}

// Attach puts a loaded device filter on a cgroup, beside those that are there.
func Attach(cgroup, prog int) error {
	attr := attachAttr{uint32(cgroup), uint32(prog), uint32(unix.BPF_CGROUP_DEVICE), unix.BPF_F_ALLOW_MULTI}
	_, err := call(unix.BPF_PROG_ATTACH, unsafe.Pointer(&attr), unsafe.Sizeof(attr))
	return os.NewSyscallError("attach device filter: bpf", err)
}

// Detach takes a device filter off a cgroup.
func Detach(cgroup, prog int) error {
	attr := attachAttr{uint32(cgroup), uint32(prog), uint32(unix.BPF_CGROUP_DEVICE), 0}
	_, err := call(unix.BPF_PROG_DETACH, unsafe.Pointer(&attr), unsafe.Sizeof(attr))
	return os.NewSyscallError("detach old device filter: bpf", err)
}

// Attached opens the device filters of a cgroup, except for those that
// a security module hides from us: they can only forbid more.
func Attached(cgroup int) (programs []int, err error) {
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
	if _, err := call(unix.BPF_PROG_QUERY, unsafe.Pointer(&query), unsafe.Sizeof(query)); err != nil {
		return nil, os.NewSyscallError("query device filters: bpf", err)
	}
	for _, id := range ids[:query.count] {
		attr := idAttr{id: id}
		fd, err := call(unix.BPF_PROG_GET_FD_BY_ID, unsafe.Pointer(&attr), unsafe.Sizeof(attr))
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
