package seccomp

import (
	"math"
	"runtime"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

//go:generate go run gentables.go x32=/usr/include/x86_64-linux-gnu/asm/unistd_x32.h s390=/usr/s390x-linux-gnu/include/asm/unistd_32.h mips64n32=/usr/mips64-linux-gnuabi64/include/asm/unistd_n32.h

// abi is one of libseccomp's architectures: a table of numbers, and how the kernel hands over arguments.
type abi struct {
	arch       specs.Arch
	audit      uint32 // AUDIT_ARCH_* of seccomp_data.arch
	numbers    *numberTable
	wide       bool   // arguments have 64 bits; else libseccomp compares the lower 32 only, on x32 too
	bigEndian  bool   // the upper half of an argument comes first
	socketcall uint32 // number of the call that multiplexes the socket calls, or 0
	ipc        uint32 // the same for System V IPC
	setup      bool   // number 0 stands for every call that the kernel has no number for
}

// abis are the architectures of the specification that Linux still has and Go's or Debian's headers describe.
// PARISC, M68K and SH are missing: runc does not know them either.
var abis = [...]abi{
	{arch: specs.ArchX86_64, audit: unix.AUDIT_ARCH_X86_64, numbers: &amd64Numbers, wide: true},
	{arch: specs.ArchX86, audit: unix.AUDIT_ARCH_I386, numbers: &x86Numbers, socketcall: 102, ipc: 117},
	{arch: specs.ArchX32, audit: unix.AUDIT_ARCH_X86_64, numbers: &x32Numbers},
	{arch: specs.ArchAARCH64, audit: unix.AUDIT_ARCH_AARCH64, numbers: &arm64Numbers, wide: true},
	{arch: specs.ArchARM, audit: unix.AUDIT_ARCH_ARM, numbers: &armNumbers},
	{arch: specs.ArchRISCV64, audit: unix.AUDIT_ARCH_RISCV64, numbers: &riscv64Numbers, wide: true},
	{arch: specs.ArchLOONGARCH64, audit: unix.AUDIT_ARCH_LOONGARCH64, numbers: &loong64Numbers, wide: true},
	{arch: specs.ArchPPC64LE, audit: unix.AUDIT_ARCH_PPC64LE, numbers: &ppc64Numbers, wide: true, socketcall: 102, ipc: 117},
	{arch: specs.ArchPPC64, audit: unix.AUDIT_ARCH_PPC64, numbers: &ppc64Numbers, wide: true, bigEndian: true, socketcall: 102, ipc: 117},
	{arch: specs.ArchPPC, audit: unix.AUDIT_ARCH_PPC, numbers: &ppcNumbers, bigEndian: true, socketcall: 102, ipc: 117},
	{arch: specs.ArchS390X, audit: unix.AUDIT_ARCH_S390X, numbers: &s390xNumbers, wide: true, bigEndian: true, socketcall: 102, ipc: 117, setup: true},
	{arch: specs.ArchS390, audit: unix.AUDIT_ARCH_S390, numbers: &s390Numbers, bigEndian: true, socketcall: 102, ipc: 117, setup: true},
	{arch: specs.ArchMIPS, audit: unix.AUDIT_ARCH_MIPS, numbers: &mipsNumbers, bigEndian: true, socketcall: 4102, ipc: 4117},
	{arch: specs.ArchMIPSEL, audit: unix.AUDIT_ARCH_MIPSEL, numbers: &mipsNumbers, socketcall: 4102, ipc: 4117},
	{arch: specs.ArchMIPS64, audit: unix.AUDIT_ARCH_MIPS64, numbers: &mips64Numbers, wide: true, bigEndian: true},
	{arch: specs.ArchMIPSEL64, audit: unix.AUDIT_ARCH_MIPSEL64, numbers: &mips64Numbers, wide: true},
	{arch: specs.ArchMIPS64N32, audit: unix.AUDIT_ARCH_MIPS64N32, numbers: &mips64n32Numbers, bigEndian: true},
	{arch: specs.ArchMIPSEL64N32, audit: unix.AUDIT_ARCH_MIPSEL64N32, numbers: &mips64n32Numbers},
}

// nativeArch gives the architecture of this binary, or "".
func nativeArch() specs.Arch {
	switch runtime.GOARCH {
	case "amd64":
		return specs.ArchX86_64
	case "386":
		return specs.ArchX86
	case "arm64":
		return specs.ArchAARCH64
	case "arm":
		return specs.ArchARM
	case "riscv64":
		return specs.ArchRISCV64
	case "loong64":
		return specs.ArchLOONGARCH64
	case "ppc64le":
		return specs.ArchPPC64LE
	case "ppc64":
		return specs.ArchPPC64
	case "s390x":
		return specs.ArchS390X
	case "mips":
		return specs.ArchMIPS
	case "mipsle":
		return specs.ArchMIPSEL
	case "mips64":
		return specs.ArchMIPS64
	case "mips64le":
		return specs.ArchMIPSEL64
	}
	return ""
}

// findABI gives the ABI of that name, or nil.
func findABI(arch specs.Arch) *abi {
	for i := range abis {
		if abis[i].arch == arch {
			return &abis[i]
		}
	}
	return nil
}

// nameIndex finds a system call in syscallNames.
func nameIndex(name string) (index int, known bool) {
	return slices.BinarySearch(syscallNames[:], name)
}

// number gives the number of syscallNames[index] as the kernel sees it.
func (b *abi) number(index int) (nr uint32, ok bool) {
	nr = uint32(b.numbers[index])
	switch {
	case nr == math.MaxUint16:
		return 0, false
	case nr >= 0xf000: // arm's private calls, from __ARM_NR_BASE on
		return nr - 0xf000 + 0x0f0000, true
	case b.arch == specs.ArchX32:
		return nr | x32Bit, true
	}
	return nr, true
}

// multiplexer tells which call of old ABIs does the work of several.
type multiplexer uint8

const (
	noMultiplexer multiplexer = iota
	socketcall                // linux/net.h: SYS_SOCKET and so on
	ipc                       // linux/ipc.h: SEMOP and so on
)

// number gives the multiplexer's own number on an ABI, or 0 where there is none.
func (m multiplexer) number(b *abi) uint32 {
	switch m {
	case socketcall:
		return b.socketcall
	case ipc:
		return b.ipc
	}
	return 0
}

// multiplexed gives a call's multiplexer, and the first argument by which the multiplexer knows it.
func multiplexed(name string) (m multiplexer, first uint64) {
	switch name {
	case "socket":
		return socketcall, 1
	case "bind":
		return socketcall, 2
	case "connect":
		return socketcall, 3
	case "listen":
		return socketcall, 4
	case "accept":
		return socketcall, 5
	case "getsockname":
		return socketcall, 6
	case "getpeername":
		return socketcall, 7
	case "socketpair":
		return socketcall, 8
	case "send":
		return socketcall, 9
	case "recv":
		return socketcall, 10
	case "sendto":
		return socketcall, 11
	case "recvfrom":
		return socketcall, 12
	case "shutdown":
		return socketcall, 13
	case "setsockopt":
		return socketcall, 14
	case "getsockopt":
		return socketcall, 15
	case "sendmsg":
		return socketcall, 16
	case "recvmsg":
		return socketcall, 17
	case "accept4":
		return socketcall, 18
	case "recvmmsg":
		return socketcall, 19
	case "sendmmsg":
		return socketcall, 20
	case "semop":
		return ipc, 1
	case "semget":
		return ipc, 2
	case "semctl":
		return ipc, 3
	case "semtimedop":
		return ipc, 4
	case "msgsnd":
		return ipc, 11
	case "msgrcv":
		return ipc, 12
	case "msgget":
		return ipc, 13
	case "msgctl":
		return ipc, 14
	case "shmat":
		return ipc, 21
	case "shmdt":
		return ipc, 22
	case "shmget":
		return ipc, 23
	case "shmctl":
		return ipc, 24
	}
	return noMultiplexer, 0
}
