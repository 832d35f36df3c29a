//go:build libseccomp

package seccomp

import (
	"math/rand/v2"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
)

var (
	allActions = []specs.LinuxSeccompAction{
		specs.ActKill, specs.ActKillProcess, specs.ActKillThread, specs.ActTrap, specs.ActErrno, specs.ActTrace, specs.ActLog, specs.ActNotify, specs.ActAllow,
	}
	allOperators = []specs.LinuxSeccompOperator{
		specs.OpEqualTo, specs.OpMaskedEqual, specs.OpGreaterThan, specs.OpGreaterEqual, specs.OpLessThan, specs.OpLessEqual, specs.OpNotEqual,
	}
)

func pick[T any](rnd *rand.Rand, list []T) T { return list[rnd.IntN(len(list))] }

// randomProfile makes a profile for a random architecture out of names: either for several architectures, or with
// conditions on one of the calls. libseccomp 2.5.4 cannot be trusted with more at once: it shares equal pieces of
// program without regard for the word that is in the accumulator.
func randomProfile(rnd *rand.Rand, names []string, archs []specs.Arch) (p *specs.LinuxSeccomp, native specs.Arch) {
	native = specs.ArchX86_64
	if rnd.IntN(2) == 0 {
		native = pick(rnd, archs)
	}
	p = &specs.LinuxSeccomp{ListenerPath: "/run/agent"}
	for p.DefaultAction == "" || p.DefaultAction == specs.ActNotify {
		p.DefaultAction = pick(rnd, allActions)
	}
	conditional := pick(rnd, names)
	if rnd.IntN(3) == 0 || conditional == "write" {
		conditional = ""
	}
	for range rnd.IntN(5) {
		if arch := pick(rnd, archs); conditional == "" && findABI(arch).bigEndian == findABI(native).bigEndian {
			p.Architectures = append(p.Architectures, arch)
		}
	}
	for range rnd.IntN(30) {
		action, errno := randomAction(rnd)
		s := specs.LinuxSyscall{Action: action, ErrnoRet: errno}
		for range 1 + rnd.IntN(20) {
			if name := pick(rnd, names); name != "write" {
				s.Names = append(s.Names, name)
			}
		}
		p.Syscalls = append(p.Syscalls, s)
	}
	// With rules for a single call libseccomp forgets to load the number.
	for _, action := range []specs.LinuxSeccompAction{specs.ActTrap, specs.ActAllow} {
		p.Syscalls = append(p.Syscalls, specs.LinuxSyscall{Names: []string{"getpid", "gettid"}, Action: action})
	}
	if conditional != "" {
		p.Syscalls = append(p.Syscalls, randomRules(rnd, conditional)...)
	}
	rnd.Shuffle(len(p.Syscalls), func(i, j int) { p.Syscalls[i], p.Syscalls[j] = p.Syscalls[j], p.Syscalls[i] })
	return p, native
}

func randomAction(rnd *rand.Rand) (specs.LinuxSeccompAction, *uint) {
	action := pick(rnd, allActions)
	if (action == specs.ActErrno || action == specs.ActTrace) && rnd.IntN(2) == 0 {
		errno := rnd.UintN(200)
		return action, &errno
	}
	return action, nil
}

// randomRules makes rules for one call. They are what libseccomp 2.5.4 compiles correctly. It does not where rules
// compare an argument with different upper halves, masks or families of operators, or different arguments (a jump to
// the next comparison may find another word in the accumulator than it was compiled for), where conditions follow an
// inequality in several rules (they are merged as if the inequalities were the same one), and where more than two
// inequalities with different actions overlap (the action for a larger upper half is that of neither).
// TestRandomRules compares the rest with the definition.
func randomRules(rnd *rand.Rand, name string) []specs.LinuxSyscall {
	var list []specs.LinuxSyscall
	action, errno := randomAction(rnd)
	add := func(args ...specs.LinuxSeccompArg) {
		list = append(list, specs.LinuxSyscall{Names: []string{name}, Action: action, ErrnoRet: errno, Args: args})
	}
	families := [][]specs.LinuxSeccompOperator{
		{specs.OpEqualTo, specs.OpNotEqual},
		{specs.OpMaskedEqual},
		{specs.OpGreaterThan, specs.OpGreaterEqual},
		{specs.OpLessThan, specs.OpLessEqual},
	}
	rnd.Shuffle(len(families), func(i, j int) { families[i], families[j] = families[j], families[i] })
	mask := randomArg(rnd, 0, 0, allOperators).Value
	ofFamily := func(index uint) specs.LinuxSeccompArg {
		arg := randomArg(rnd, index, 0, families[index])
		if arg.Op == specs.OpMaskedEqual {
			arg.Value = mask
		}
		return arg
	}
	switch rnd.IntN(4) {
	case 0: // one rule, many arguments
		upper := uint64(pick(rnd, []uint32{0, 1, 5, 1 << 31, 1<<32 - 1})) << 32
		var args []specs.LinuxSeccompArg
		for i := range uint(6) {
			if rnd.IntN(3) > 0 {
				args = append(args, randomArg(rnd, i, upper, allOperators))
			}
		}
		add(args...)
	case 1: // an argument with several conditions
		add(ofFamily(0), ofFamily(1), ofFamily(1))
	case 2: // several rules of one action about one argument
		index := uint(rnd.IntN(3))
		for i := range uint64(2 + rnd.IntN(4)) {
			arg := ofFamily(index)
			if arg.Op != specs.OpMaskedEqual {
				arg.Value ^= i << 4 // no value twice
			}
			add(arg)
		}
	default: // two rules of different actions
		for i := range families {
			families[i] = families[i][:1]
		}
		add(ofFamily(uint(rnd.IntN(3))))
		action, errno = randomAction(rnd)
		add(ofFamily(uint(rnd.IntN(3))))
	}
	if rnd.IntN(8) == 0 {
		action, errno = randomAction(rnd)
		add()
	}
	return list
}

func randomArg(rnd *rand.Rand, index uint, upper uint64, operators []specs.LinuxSeccompOperator) specs.LinuxSeccompArg {
	values := []uint64{0, 1, 5, 7, 100, 1 << 31, 1<<32 - 1}
	return specs.LinuxSeccompArg{Index: index, Value: upper | pick(rnd, values), ValueTwo: upper | pick(rnd, values), Op: pick(rnd, operators)}
}

// archsBut gives all architectures except some.
func archsBut(without ...specs.Arch) []specs.Arch {
	var list []specs.Arch
	for i := range abis {
		if !slices.Contains(without, abis[i].arch) {
			list = append(list, abis[i].arch)
		}
	}
	return list
}
