// Package stub runs a list of system calls in a child that was cloned from this process and never executes Go code of
// its own: no scheduler, no allocation, no stack growth. It and the small packages below it are
// the only ones of sock that use unsafe.
//
// A Program is data. An instruction is one system call with its arguments; it may put its result into a slot, take
// arguments from slots, and on named errnos carry on elsewhere. There is no other control flow: what would need more is
// work for the parent. The child reports with 8-byte records (see Record): one when it is ready, or one that says which
// instruction failed with which errno.
package stub

import (
	"golang.org/x/sys/unix"
)

// Slots is how many results a program can keep at a time.
const Slots = 32

// Slot names a place for a result. The child writes failure records to the descriptor in slot Report.
type Slot int

// Report is the slot that holds the descriptor for records; Program.Report sets its first value.
const Report Slot = 0

// argKind says what a word of a system call is made from.
type argKind uint8

const (
	argInt    argKind = iota
	argText           // pointer to NUL-terminated bytes
	argBytes          // pointer to bytes as they are
	argVector         // pointer to a NULL-terminated array of strings
	argRights         // pointer to a msghdr that passes one descriptor, unix(7)
	argFilter         // pointer to a sock_fprog, seccomp(2)
	argClone          // pointer to a clone_args, clone3(2)
	argCloned         // pointer to the record that the clone fills in
	argScratch
	argFD   // a descriptor of the parent's, by name
	argSlot // a slot's value
)

// Arg is one argument of a system call. The zero Arg is the number 0.
type Arg struct {
	kind argKind
	num  int64
	text string
	list *[]string
}

// Int is a number.
func Int[T ~int | ~int32 | ~int64 | ~uint | ~uint32 | ~uint64 | ~uintptr](n T) Arg {
	return Arg{kind: argInt, num: int64(n)}
}

// Text is a pointer to s with a NUL behind it. The plan rejects strings with NUL in them beforehand.
func Text(s string) Arg { return Arg{kind: argText, text: s} }

// Bytes is a pointer to b as it is: a structure that the kernel reads, or room for one that it writes.
func Bytes(b []byte) Arg { return Arg{kind: argBytes, text: string(b)} }

// Vector is a pointer to an argv or envp of the strings in list.
func Vector(list []string) Arg { return Arg{kind: argVector, list: &list} }

// Rights is a pointer to a msghdr with text as its payload and an SCM_RIGHTS message that passes the descriptor that has
// the number of the parent's fd by then.
func Rights(text, fd string) Arg { return Arg{kind: argRights, text: text, list: &[]string{fd}} }

// Filter is a pointer to a sock_fprog with a BPF program of 8-byte instructions.
func Filter(program []byte) Arg { return Arg{kind: argFilter, text: string(program)} }

// CloneArgs is a pointer to the arguments of a clone3 whose child gets the caller's parent as its own (CLONE_PARENT) and
// whose process ID the kernel puts into the record at Cloned.
func CloneArgs(flags uint64) Arg { return Arg{kind: argClone, num: int64(flags)} }

// CloneArgsSize is the size that goes with CloneArgs, in bytes.
const CloneArgsSize = 88

// ClonedRecord is a pointer to a record with the event Cloned; its second word is the process ID that CloneArgs left there.
func ClonedRecord() Arg { return Arg{kind: argCloned} }

// Scratch is a pointer to ScratchSize bytes, the same for all instructions: what one call leaves there another may read.
func Scratch() Arg { return Arg{kind: argScratch} }

// ScratchSize is enough for struct statfs, in bytes.
const ScratchSize = 128

// FD is the parent's descriptor that host steps named so; Compile looks it up.
func FD(name string) Arg { return Arg{kind: argFD, text: name} }

// Value is what slot s holds when the instruction runs.
func Value(s Slot) Arg { return Arg{kind: argSlot, num: int64(s)} }

// Instr is one system call.
type Instr struct {
	Sys  uintptr
	Args []Arg

	// Keep, with Into, stores the result.
	Keep bool
	Into Slot

	// Want, when Exact is set, is the only good result: a read that meets end of file (0) is then an error (EPIPE).
	Exact bool
	Want  int

	// On lists errnos (at most eight) that are not failures, and where the program goes on after them.
	On []Branch

	// Then is the label to go on at after success; empty is the next instruction.
	Then string

	// Tries is how often the call is made again while it fails with EAGAIN.
	Tries uint8

	// Label names this place for On and Then. A label may be given to several instructions: the next one after the
	// jump is meant, so jumps only lead forward and every program ends.
	Label string
}

// Branch is where a program goes on after an errno; an empty label is the next instruction.
type Branch struct {
	Errno unix.Errno
	Label string
}

// End is the label behind the last instruction of the line that an instruction belongs to.
const End = "end"

// Descriptors returns the names of the parent's descriptors that lines use.
func Descriptors(lines [][]Instr) map[string]bool {
	names := map[string]bool{}
	for _, line := range lines {
		for _, in := range line {
			for _, a := range in.Args {
				switch a.kind {
				case argFD:
					names[a.text] = true
				case argRights:
					names[(*a.list)[0]] = true
				}
			}
		}
	}
	return names
}
