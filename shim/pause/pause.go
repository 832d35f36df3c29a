// Package pause is a program of some two hundred bytes that does nothing, for ever: process 1 of a PID namespace that a pod's
// containers share. It ignores SIGCHLD, so the kernel reaps whatever is left to it; other signals don't reach a process 1
// that has no handlers, pid_namespaces(7), but SIGKILL from outside.
package pause

import (
	"encoding/binary"
	"runtime"
)

const (
	base       = 0x400000 // where it is mapped
	headerSize = 64 + 56  // of ELF and of its one segment, elf(5)
	sigchld    = 17
	actionSize = 32 // struct sigaction of rt_sigaction(2): handler, flags, restorer, mask
)

// Program returns the ELF executable for this architecture, nil where there is none.
func Program() []byte {
	switch runtime.GOARCH {
	case "amd64":
		return link(62, amd64) // EM_X86_64
	case "arm64":
		return link(183, arm64) // EM_AARCH64
	}
	return nil
}

// amd64 is the code for a struct sigaction at an address.
func amd64(action uint32) []byte {
	le := binary.LittleEndian
	code := []byte{0xb8, 13, 0, 0, 0} // mov eax, rt_sigaction
	code = append(code, 0xbf, sigchld, 0, 0, 0)
	code = le.AppendUint32(append(code, 0xbe), action) // mov esi, action
	return append(code,
		0x31, 0xd2, // xor edx, edx
		0x41, 0xba, 8, 0, 0, 0, // mov r10d, 8
		0x0f, 0x05, // syscall
		0xb8, 15, 1, 0, 0, // mov eax, ppoll
		0x31, 0xff, // xor edi, edi
		0x31, 0xf6, // xor esi, esi
		0x31, 0xd2, // xor edx, edx
		0x45, 0x31, 0xd2, // xor r10d, r10d
		0x45, 0x31, 0xc0, // xor r8d, r8d
		0x0f, 0x05, // syscall
		0xeb, 0xeb, // jmp back to ppoll
	)
}

func arm64(action uint32) []byte {
	const here = base + headerSize
	away := action - (here + 8) // from the third instruction
	var code []byte
	for _, instruction := range []uint32{
		0xd28010c8, // mov x8, rt_sigaction
		0xd2800000 | sigchld<<5,
		0x10000001 | away&3<<29 | away>>2<<5, // adr x1, action
		0xd2800002,                           // mov x2, 0
		0xd2800103,                           // mov x3, 8
		0xd4000001,                           // svc 0
		0xd2800928,                           // mov x8, ppoll
		0xd2800000, 0xd2800001, 0xd2800002, 0xd2800003, 0xd2800004,
		0xd4000001, // svc 0
		0x17fffff9, // b back to ppoll
	} {
		code = binary.LittleEndian.AppendUint32(code, instruction)
	}
	return code
}

// link makes a file of one segment, for reading and executing: headers, code, and the struct sigaction that says SIG_IGN.
func link(machine uint16, assemble func(action uint32) []byte) []byte {
	size := len(assemble(0))
	code := assemble(uint32(base + headerSize + size))
	total := uint64(headerSize + size + actionSize)
	le := binary.LittleEndian
	b := []byte{0x7f, 'E', 'L', 'F', 2, 1, 1, 15: 0} // 64 bits, little endian
	b = le.AppendUint16(b, 2)                        // ET_EXEC
	b = le.AppendUint16(b, machine)
	b = le.AppendUint32(b, 1)
	b = le.AppendUint64(b, base+headerSize) // entry
	b = le.AppendUint64(b, 64)              // program headers
	b = le.AppendUint64(b, 0)
	b = le.AppendUint32(b, 0)
	for _, n := range []uint16{64, 56, 1, 0, 0, 0} {
		b = le.AppendUint16(b, n)
	}
	b = le.AppendUint32(b, 1) // PT_LOAD
	b = le.AppendUint32(b, 5) // PF_R, PF_X
	for _, n := range []uint64{0, base, base, total, total, 0x10000} {
		b = le.AppendUint64(b, n)
	}
	b = append(b, code...)
	action := make([]byte, actionSize)
	action[0] = 1 // SIG_IGN
	return append(b, action...)
}
