package seccomp

import (
	"slices"

	"golang.org/x/sys/unix"
)

// Offsets in struct seccomp_data (linux/seccomp.h).
const (
	offsetNr   = 0
	offsetArch = 4
	offsetArgs = 16
	sizeOfData = 64
)

// The instructions that filters are made of; seccomp_check_filter in the kernel allows them.
const (
	opLoad         = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
	opAnd          = unix.BPF_ALU | unix.BPF_AND | unix.BPF_K
	opJump         = unix.BPF_JMP | unix.BPF_JA
	opEqual        = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
	opGreater      = unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K
	opGreaterEqual = unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K
	opReturn       = unix.BPF_RET | unix.BPF_K
)

// span is a verdict for all numbers from first on, up to the next span.
type span struct {
	first uint32
	verdict
}

type spans []span

// region appends the spans for the numbers first to last: v's calls, gap between them, ENOSYS above v's newest.
func (s *spans) region(v *abiVerdicts, gap uint32, first, last uint32) {
	next := uint64(first) // the first number that has no span yet
	for _, c := range v.calls {
		if c.nr < first || c.nr > last || v.newest != 0 && c.nr > v.newest {
			continue
		}
		if uint64(c.nr) > next {
			s.add(uint32(next), verdict{action: gap})
		}
		s.add(c.nr, c.verdict)
		next = uint64(c.nr) + 1
	}
	if v.newest != 0 {
		if next <= uint64(v.newest) {
			s.add(uint32(next), verdict{action: gap})
			next = uint64(v.newest) + 1
		}
		gap = actionENOSYS
	}
	if next <= uint64(last) {
		s.add(uint32(next), verdict{action: gap})
	}
}

func (s *spans) add(first uint32, v verdict) {
	if n := len(*s); n == 0 || (*s)[n-1].verdict != v {
		*s = append(*s, span{first, v})
	}
}

// assembler writes a program from its end to its beginning: BPF jumps forward only, so that every target is known.
type assembler struct {
	reversed []unix.SockFilter
	returns  []returnAt
}

// label is a place in the program, counted from the end: the number of instructions from there on.
type label int

// returnAt is the nearest instruction that returns an action.
type returnAt struct {
	action uint32
	at     label
}

func (a *assembler) emit(i unix.SockFilter) label {
	a.reversed = append(a.reversed, i)
	return label(len(a.reversed))
}

// program gives what was written, in the order of execution.
func (a *assembler) program() []unix.SockFilter {
	slices.Reverse(a.reversed)
	return a.reversed
}

func (a *assembler) load(offset uint32) label {
	return a.emit(unix.SockFilter{Code: opLoad, K: offset})
}

// maxOffset is how far a conditional jump goes: it has eight bits for each outcome.
const maxOffset = 255

// ret gives the place of an instruction that returns an action, near enough to be jumped to from here.
func (a *assembler) ret(action uint32) label {
	i := slices.IndexFunc(a.returns, func(r returnAt) bool { return r.action == action })
	if i < 0 {
		i = len(a.returns)
		a.returns = append(a.returns, returnAt{action: action})
	}
	r := &a.returns[i]
	if r.at == 0 || len(a.reversed)-int(r.at) > maxOffset/2 {
		r.at = a.emit(unix.SockFilter{Code: opReturn, K: action})
	}
	return r.at
}

// branch compares the accumulator with k and goes to one of two places.
func (a *assembler) branch(op uint16, k uint32, then, otherwise label) label {
	then, otherwise = a.reachable(then), a.reachable(otherwise)
	then = a.reachable(then) // the detour for otherwise may have moved it out of reach
	return a.emit(unix.SockFilter{Code: op, Jt: a.offset(then), Jf: a.offset(otherwise), K: k})
}

func (a *assembler) offset(to label) uint8 { return uint8(len(a.reversed) - int(to)) }

// reachable gives a place from which to is reached, at most maxOffset-1 away to leave room for one more detour.
func (a *assembler) reachable(to label) label {
	if distance := len(a.reversed) - int(to); distance >= maxOffset {
		return a.emit(unix.SockFilter{Code: opJump, K: uint32(distance)})
	}
	return to
}

// section writes the filter of one AUDIT_ARCH, and the instruction that goes there or to other.
func (a *assembler) section(b *abi, s []span, defaultAction uint32, other label) label {
	entry := a.tree(s, defaultAction)
	if len(s) > 1 {
		entry = a.load(offsetNr)
	}
	return a.branch(opEqual, b.audit, entry, other)
}

// tree finds the span of the number in the accumulator.
func (a *assembler) tree(s []span, defaultAction uint32) label {
	if len(s) == 1 {
		return a.verdict(s[0].verdict, defaultAction)
	}
	middle := len(s) / 2
	upper := a.tree(s[middle:], defaultAction)
	lower := a.tree(s[:middle], defaultAction)
	return a.branch(opGreaterEqual, s[middle].first, upper, lower)
}

func (a *assembler) verdict(v verdict, defaultAction uint32) label {
	if v.rules == nil {
		return a.ret(v.action)
	}
	next := a.ret(defaultAction)
	for _, r := range slices.Backward(v.rules.rules) {
		match := a.ret(r.action)
		for i := len(r.conditions) - 1; i >= 0; i-- {
			match = a.condition(v.rules.abi, &r.conditions[i], match, next)
		}
		next = match
	}
	return next
}

// condition compares an argument, lower word last.
func (a *assembler) condition(b *abi, c *condition, match, mismatch label) label {
	if c.negate {
		match, mismatch = mismatch, match
	}
	lower, upper := offsetArgs+8*uint32(c.arg), offsetArgs+8*uint32(c.arg)+4
	if b.bigEndian {
		lower, upper = upper, lower
	}
	ops := [...]uint16{equal: opEqual, maskedEqual: opEqual, greater: opGreater, greaterEqual: opGreaterEqual}
	at := a.compare(lower, ops[c.test], uint32(c.mask), uint32(c.value), match, mismatch)
	if !b.wide {
		return at
	}
	same := a.branch(opEqual, uint32(c.value>>32), at, mismatch)
	if c.test == greater || c.test == greaterEqual {
		a.branch(opGreater, uint32(c.value>>32), match, same)
	}
	return a.masked(upper, uint32(c.mask>>32))
}

// compare loads a word and compares it.
func (a *assembler) compare(offset uint32, op uint16, mask, value uint32, match, mismatch label) label {
	a.branch(op, value, match, mismatch)
	return a.masked(offset, mask)
}

// masked loads a word into the accumulator.
func (a *assembler) masked(offset, mask uint32) label {
	if mask != ^uint32(0) {
		a.emit(unix.SockFilter{Code: opAnd, K: mask})
	}
	return a.load(offset)
}
