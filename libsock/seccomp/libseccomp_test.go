//go:build libseccomp

// The differential test needs cgo and libseccomp-dev:
//
//	CGO_ENABLED=1 go test -tags libseccomp ./libsock/seccomp -run Libseccomp -cases 10000000

package seccomp

import (
	"encoding/json"
	"errors"
	"flag"
	"math/bits"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/sock-runtime/sock/libsock/seccomp/internal/libseccomp"
)

var (
	diffCases = flag.Int("cases", 1_000_000, "number of system calls to compare with libseccomp")
	diffSeed  = flag.Uint64("seed", 1, "seed of the random profiles and system calls")
)

// libName is libseccomp's name of an architecture.
func libName(arch specs.Arch) string {
	return strings.ToLower(strings.TrimPrefix(string(arch), "SCMP_ARCH_"))
}

// newerThanLibseccomp are calls below 424 (from there on every kernel may add some) that libseccomp 2.5 lacks.
var newerThanLibseccomp = []string{"uretprobe", "uprobe", "riscv_hwprobe"}

// agreed says whether libseccomp has the same number for a name as we, or is too old to have one.
func agreed(b *abi, name string) (same, older bool, err error) {
	theirs, _, err := libseccomp.Number(libName(b.arch), name)
	if err != nil {
		return false, false, err
	}
	ours, exists := uint32(0), false
	if i, known := nameIndex(name); known {
		ours, exists = b.number(i)
	}
	if m, _ := multiplexed(name); m.number(b) != 0 {
		return theirs < 0, false, nil // its number stands for both ways
	}
	base := ours &^ x32Bit
	if ours >= 4000 && ours < 7000 {
		base %= 1000 // mips
	}
	if exists && theirs < 0 {
		return false, base >= 424 || slices.Contains(newerThanLibseccomp, name), nil
	}
	return exists == (theirs >= 0) && (!exists || ours == uint32(theirs)), false, nil
}

func TestLibseccompNumbers(t *testing.T) {
	for i := range abis {
		for _, name := range syscallNames {
			same, older, err := agreed(&abis[i], name)
			if err != nil {
				t.Logf("skipped: %v", err)
				break
			}
			if !same && !older {
				t.Errorf("%s: %s has another number in libseccomp", abis[i].arch, name)
			}
		}
	}
}

// reference is what runc would load: libseccomp's program behind runc's check for calls newer than the profile.
type reference struct {
	program   []unix.SockFilter
	bigEndian bool
	newest    map[uint32][2]uint32 // by AUDIT_ARCH; the second one is x32's
}

func newReference(p *specs.LinuxSeccomp, native specs.Arch) (*reference, error) {
	own := findABI(native)
	action := func(a specs.LinuxSeccompAction, errno *uint) uint32 {
		v, err := parseAction(a, errno, "", "")
		if err != nil {
			panic(err)
		}
		return v
	}
	defaultAction := action(p.DefaultAction, p.DefaultErrnoRet)
	f, err := libseccomp.New(defaultAction, libName(native), own.bigEndian)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	archs := []specs.Arch{native}
	for _, arch := range p.Architectures {
		if err := f.AddArch(libName(arch)); err != nil {
			return nil, err
		}
		archs = append(archs, arch)
	}
	r := &reference{bigEndian: own.bigEndian, newest: map[uint32][2]uint32{}}
	calls := 0
	actions := []uint32{defaultAction, unix.SECCOMP_RET_KILL_THREAD}
	for _, s := range p.Syscalls {
		calls += len(s.Names)
		for _, name := range s.Names {
			if p.DefaultAction != specs.ActAllow && p.DefaultAction != specs.ActLog && p.DefaultAction != specs.ActTrace {
				for _, arch := range archs {
					nr, _, err := libseccomp.Number(libName(arch), name)
					if err != nil {
						return nil, err
					}
					b := findABI(arch)
					newest := r.newest[b.audit]
					mode := 0
					if arch == specs.ArchX32 {
						mode = 1
					}
					newest[mode] = uint32(max(int(newest[mode]), nr))
					r.newest[b.audit] = newest
				}
			}
			act := action(s.Action, s.ErrnoRet)
			if act == defaultAction {
				continue
			}
			actions = append(actions, act)
			var args []libseccomp.Arg
			counts := [6]int{}
			for _, arg := range s.Args {
				op := slices.Index([]specs.LinuxSeccompOperator{
					"", specs.OpNotEqual, specs.OpLessThan, specs.OpLessEqual, specs.OpEqualTo, specs.OpGreaterEqual, specs.OpGreaterThan, specs.OpMaskedEqual,
				}, arg.Op)
				args = append(args, libseccomp.Arg{Index: arg.Index, Op: uint(op), Value: arg.Value, Second: arg.ValueTwo})
				counts[arg.Index]++
			}
			rules := [][]libseccomp.Arg{args}
			if slices.Max(counts[:]) > 1 {
				rules = nil
				for _, arg := range args {
					rules = append(rules, []libseccomp.Arg{arg})
				}
			}
			for _, args := range rules {
				if err := f.Rule(act, name, args); err != nil {
					return nil, err
				}
			}
		}
	}
	if calls > 32 {
		f.Tree()
	}
	if r.program, err = f.Export(); err != nil || !own.bigEndian {
		return r, err
	}
	// On a little-endian machine libseccomp swaps the bytes of some instructions for big-endian ones twice.
	for i := range r.program {
		in := &r.program[i]
		if in.Code == opReturn && !slices.Contains(actions, in.K) || in.Code == opJump && int(in.K) >= len(r.program) {
			in.K = bits.ReverseBytes32(in.K)
		}
	}
	return r, nil
}

// verdict applies runc's rule (libcontainer/seccomp/patchbpf), then libseccomp's program.
func (r *reference) verdict(d *Data) uint32 {
	if newest, ok := r.newest[d.Arch]; ok {
		mode := 0
		if d.Arch == unix.AUDIT_ARCH_X86_64 && d.Nr&x32Bit != 0 {
			mode = 1
		}
		if newest[mode] != 0 && (d.Nr > newest[mode] || d.Nr == 0 && (d.Arch == unix.AUDIT_ARCH_S390 || d.Arch == unix.AUDIT_ARCH_S390X)) {
			return actionENOSYS
		}
	}
	return Simulate(r.program, d, r.bigEndian)
}

// compare counts cases cases down while checking one profile.
func compare(t *testing.T, rnd *rand.Rand, p *specs.LinuxSeccomp, native specs.Arch, cases int) bool {
	t.Helper()
	ref, refErr := newReference(p, native)
	own, err := compile(p, native)
	if errors.Is(refErr, unix.EEXIST) && err == nil {
		return true // it also refuses contradictions about calls that no architecture of the profile has
	}
	if (err == nil) != (refErr == nil) {
		t.Errorf("native %s: we say %v, libseccomp says %v\n%s", native, err, refErr, asJSON(p))
		return false
	}
	if err != nil {
		return true
	}
	if err := verify(own.Filter); err != nil {
		t.Errorf("%v\n%s", err, asJSON(p))
		return false
	}
	source := newDataSource(rnd, p, native)
	for range cases {
		d := source.next()
		if got, want := Simulate(own.Filter, &d, ref.bigEndian), ref.verdict(&d); got != want {
			t.Errorf("native %s, %#x: %#x, libseccomp %#x\n%s", native, d, got, want, rulesFor(p, &d))
			return false
		}
	}
	return true
}

// rulesFor gives the part of a profile that can have decided on a system call.
func rulesFor(p *specs.LinuxSeccomp, d *Data) string {
	small := *p
	small.Syscalls = nil
	for _, s := range p.Syscalls {
		for _, name := range s.Names {
			i, _ := nameIndex(name)
			mux, _ := multiplexed(name)
			for j := range abis {
				if nr, exists := abis[j].number(i); abis[j].audit == d.Arch && (exists && nr == d.Nr || mux != 0 && mux.number(&abis[j]) == d.Nr) {
					s.Names = []string{name}
					small.Syscalls = append(small.Syscalls, s)
				}
			}
		}
	}
	return asJSON(&small)
}

func asJSON(p *specs.LinuxSeccomp) string {
	b, err := json.Marshal(p)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// dataSource makes system calls that are near a profile's decisions.
type dataSource struct {
	rnd    *rand.Rand
	abis   []*abi
	nrs    map[*abi][]uint32
	values []uint64
}

func newDataSource(rnd *rand.Rand, p *specs.LinuxSeccomp, native specs.Arch) *dataSource {
	s := &dataSource{rnd: rnd, nrs: map[*abi][]uint32{}, values: []uint64{0, 1, 1 << 31, 1 << 32, 1<<64 - 1}}
	for _, arch := range append([]specs.Arch{native}, p.Architectures...) {
		s.abis = append(s.abis, findABI(arch))
	}
	for _, b := range s.abis {
		s.nrs[b] = append(s.nrs[b], 0, b.socketcall, b.ipc)
		for _, call := range p.Syscalls {
			for _, name := range call.Names {
				if i, known := nameIndex(name); known {
					if nr, exists := b.number(i); exists {
						s.nrs[b] = append(s.nrs[b], nr)
						for range 20 * len(call.Args) {
							s.nrs[b] = append(s.nrs[b], nr)
						}
					}
				}
			}
		}
	}
	for _, call := range p.Syscalls {
		for _, arg := range call.Args {
			s.values = append(s.values, arg.Value, arg.ValueTwo)
		}
	}
	return s
}

func (s *dataSource) next() Data {
	b := s.abis[s.rnd.IntN(len(s.abis))]
	d := Data{Arch: b.audit}
	if s.rnd.IntN(50) == 0 {
		d.Arch = abis[s.rnd.IntN(len(abis))].audit
	}
	known := s.nrs[b]
	d.Nr = known[s.rnd.IntN(len(known))]
	switch s.rnd.IntN(16) {
	case 0:
		d.Nr++
	case 1:
		d.Nr--
	case 2:
		d.Nr = s.rnd.Uint32N(600)
	case 3:
		d.Nr = s.rnd.Uint32()
	case 4:
		d.Nr ^= 1 << (24 + s.rnd.IntN(8))
	case 5:
		d.Nr = slices.Max(known) + s.rnd.Uint32N(3)
	case 6:
		d.Nr = ^uint32(0)
	}
	// libseccomp keeps names that an ABI lacks as negative numbers in its programs; the kernel knows none of them.
	if n := int32(d.Nr); n < -1 && n > -20000 {
		d.Nr &= 0xff
	}
	for i := range d.Args {
		v := s.values[s.rnd.IntN(len(s.values))]
		switch s.rnd.IntN(12) {
		case 0:
			v++
		case 1:
			v--
		case 2:
			v = s.rnd.Uint64()
		case 3:
			v ^= 1 << s.rnd.IntN(64)
		case 4:
			v = s.rnd.Uint64N(32)
		case 5:
			v |= s.rnd.Uint64() << 32
		}
		d.Args[i] = v
	}
	return d
}

func TestLibseccompEngines(t *testing.T) {
	for i, file := range []string{"docker.json", "podman.json"} {
		rnd := rand.New(rand.NewPCG(*diffSeed, uint64(i)))
		p := withoutNewer(t, readProfile(t, file))
		for _, native := range []specs.Arch{specs.ArchX86_64, specs.ArchAARCH64, specs.ArchARM, specs.ArchX86, specs.ArchPPC64LE} {
			compare(t, rnd, p, native, *diffCases/30)
		}
	}
}

// withoutNewer removes the names that the installed libseccomp is too old for.
func withoutNewer(t *testing.T, p *specs.LinuxSeccomp) *specs.LinuxSeccomp {
	t.Helper()
	for i := range p.Syscalls {
		p.Syscalls[i].Names = slices.DeleteFunc(p.Syscalls[i].Names, func(name string) bool { return !inBoth(name) })
	}
	return p
}

// inBoth says whether a name has the same number here and in libseccomp, on all architectures that both know.
func inBoth(name string) bool {
	for i := range abis {
		if same, _, err := agreed(&abis[i], name); err == nil && !same {
			return false
		}
	}
	return libseccomp.Unique(name)
}

func TestLibseccompRandom(t *testing.T) {
	const perProfile = 500
	names := slices.DeleteFunc(slices.Clone(syscallNames[:]), func(name string) bool { return !inBoth(name) })
	t.Logf("%d of %d names", len(names), len(syscallNames))
	for n := range *diffCases * 2 / 3 / perProfile {
		rnd := rand.New(rand.NewPCG(*diffSeed, uint64(n)+1000))
		p, native := randomProfile(rnd, names, archsBut(specs.ArchLOONGARCH64))
		if findABI(native).bigEndian {
			// A little-endian machine's libseccomp muddles words of conditions for them; TestConditions covers those.
			p.Syscalls = slices.DeleteFunc(p.Syscalls, func(s specs.LinuxSyscall) bool { return len(s.Args) > 0 })
		}
		if !compare(t, rnd, p, native, perProfile) {
			t.Fatalf("profile %d", n)
		}
	}
}
