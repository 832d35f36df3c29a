package seccomp

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func readProfile(t testing.TB, file string) *specs.LinuxSeccomp {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	p := &specs.LinuxSeccomp{}
	if err := json.Unmarshal(b, p); err != nil {
		t.Fatal(err)
	}
	return p
}

// mustCompile compiles for x86_64.
func mustCompile(t *testing.T, p *specs.LinuxSeccomp) *Program {
	t.Helper()
	program, err := compile(p, specs.ArchX86_64)
	if err != nil {
		t.Fatal(err)
	}
	if err := verify(program.Filter); err != nil {
		t.Fatal(err)
	}
	return program
}

// number gives a call's number on an architecture.
func number(t *testing.T, arch specs.Arch, name string) uint32 {
	t.Helper()
	index, known := nameIndex(name)
	if !known {
		t.Fatalf("no call %s", name)
	}
	nr, exists := findABI(arch).number(index)
	if !exists {
		t.Fatalf("no call %s on %s", name, arch)
	}
	return nr
}

// on gives the verdict of a little-endian program.
func (p *Program) on(t *testing.T, arch specs.Arch, name string, args ...uint64) uint32 {
	t.Helper()
	d := Data{Arch: findABI(arch).audit, Nr: number(t, arch, name)}
	copy(d.Args[:], args)
	return Simulate(p.Filter, &d, false)
}

func rules(action specs.LinuxSeccompAction, names ...string) specs.LinuxSyscall {
	return specs.LinuxSyscall{Names: names, Action: action}
}

func conditions(action specs.LinuxSeccompAction, name string, args ...specs.LinuxSeccompArg) specs.LinuxSyscall {
	return specs.LinuxSyscall{Names: []string{name}, Action: action, Args: args}
}

const (
	killThread = unix.SECCOMP_RET_KILL_THREAD
	allow      = unix.SECCOMP_RET_ALLOW
	eperm      = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
)

func TestActions(t *testing.T) {
	seven := uint(7)
	for _, c := range []struct {
		action specs.LinuxSeccompAction
		errno  *uint
		want   uint32
	}{
		{specs.ActKill, nil, 0},
		{specs.ActKillThread, nil, 0},
		{specs.ActKillProcess, nil, 0x80000000},
		{specs.ActTrap, nil, 0x00030000},
		{specs.ActErrno, nil, 0x00050001},
		{specs.ActErrno, &seven, 0x00050007},
		{specs.ActTrace, nil, 0x7ff00001},
		{specs.ActTrace, &seven, 0x7ff00007},
		{specs.ActLog, nil, 0x7ffc0000},
		{specs.ActNotify, nil, 0x7fc00000},
		{specs.ActAllow, nil, 0x7fff0000},
	} {
		rule := specs.LinuxSyscall{Names: []string{"getpid"}, Action: c.action, ErrnoRet: c.errno}
		p := mustCompile(t, &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, ListenerPath: "/s", Syscalls: []specs.LinuxSyscall{rule}})
		if got := p.on(t, specs.ArchX86_64, "getpid"); got != c.want {
			t.Errorf("rule with %s: %#x, want %#x", c.action, got, c.want)
		}
		if p.Notify != (c.action == specs.ActNotify) {
			t.Errorf("%s: notify is %v", c.action, p.Notify)
		}
		if c.action == specs.ActNotify {
			continue
		}
		p = mustCompile(t, &specs.LinuxSeccomp{DefaultAction: c.action, DefaultErrnoRet: c.errno, Syscalls: []specs.LinuxSyscall{rules(specs.ActLog, "gettid")}})
		if got := p.on(t, specs.ArchX86_64, "getpid"); got != c.want {
			t.Errorf("default %s: %#x, want %#x", c.action, got, c.want)
		}
	}
}

// operators are the comparisons as the specification defines them.
var operators = []struct {
	op      specs.LinuxSeccompOperator
	matches func(arg, value, second uint64) bool
}{
	{specs.OpEqualTo, func(a, v, _ uint64) bool { return a == v }},
	{specs.OpNotEqual, func(a, v, _ uint64) bool { return a != v }},
	{specs.OpLessThan, func(a, v, _ uint64) bool { return a < v }},
	{specs.OpLessEqual, func(a, v, _ uint64) bool { return a <= v }},
	{specs.OpGreaterThan, func(a, v, _ uint64) bool { return a > v }},
	{specs.OpGreaterEqual, func(a, v, _ uint64) bool { return a >= v }},
	{specs.OpMaskedEqual, func(a, v, s uint64) bool { return a&v == s&v }},
}

// TestRandomRules compares rules of one action with their definition: one of them must match in all conditions.
func TestRandomRules(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	values := []uint64{0, 1, 2, 1<<32 - 1, 1 << 32, 1<<32 + 1, 5<<32 + 2, 1 << 63, 1<<64 - 1}
	value := func() uint64 { return values[rnd.IntN(len(values))] }
	for n := range 2000 {
		b := &abis[n%len(abis)]
		p := &specs.LinuxSeccomp{DefaultAction: specs.ActAllow}
		var tests [][6]func(arg uint64) bool // of each rule, by argument
		for range 1 + rnd.IntN(5) {
			var args []specs.LinuxSeccompArg
			var ruleTests [6]func(uint64) bool
			for index := range uint(6) {
				if rnd.IntN(3) > 0 {
					continue
				}
				o, v, second := operators[rnd.IntN(len(operators))], value(), value()
				args = append(args, specs.LinuxSeccompArg{Index: index, Op: o.op, Value: v, ValueTwo: second})
				if !b.wide {
					v, second = v&(1<<32-1), second&(1<<32-1)
				}
				ruleTests[index] = func(arg uint64) bool { return o.matches(arg, v, second) }
			}
			tests = append(tests, ruleTests)
			p.Syscalls = append(p.Syscalls, conditions(specs.ActErrno, "read", args...))
		}
		program, err := compile(p, b.arch)
		if err != nil {
			t.Fatal(err)
		}
		for range 50 {
			d := Data{Arch: b.audit, Nr: number(t, b.arch, "read"), Args: [6]uint64{value(), value(), value(), value(), value(), value()}}
			want := uint32(allow)
			for _, ruleTests := range tests {
				if !slices.ContainsFunc([]int{0, 1, 2, 3, 4, 5}, func(i int) bool {
					arg := d.Args[i]
					if !b.wide {
						arg &= 1<<32 - 1
					}
					return ruleTests[i] != nil && !ruleTests[i](arg)
				}) {
					want = eperm
				}
			}
			if got := Simulate(program.Filter, &d, b.bigEndian); got != want {
				t.Fatalf("%s: %#x: %#x, want %#x: %+v", b.arch, d.Args, got, want, p.Syscalls)
			}
		}
	}
}

// TestConditions compares every operator with its definition, on every architecture as the machine's own.
func TestConditions(t *testing.T) {
	values := []uint64{0, 1, 2, 1<<32 - 1, 1 << 32, 1<<32 + 1, 5<<32 + 2, 1 << 63, 1<<64 - 1}
	for i := range abis {
		b := &abis[i]
		for _, o := range operators {
			for _, value := range values {
				p, err := compile(&specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{
					conditions(specs.ActErrno, "read", specs.LinuxSeccompArg{Index: 3, Op: o.op, Value: value, ValueTwo: 1<<32 + 1}),
				}}, b.arch)
				if err != nil {
					t.Fatal(err)
				}
				for _, arg := range values {
					a, v, second := arg, value, uint64(1<<32+1)
					if !b.wide {
						a, v, second = a&(1<<32-1), v&(1<<32-1), second&(1<<32-1)
					}
					want := uint32(allow)
					if o.matches(a, v, second) {
						want = eperm
					}
					d := Data{Arch: b.audit, Nr: number(t, b.arch, "read"), Args: [6]uint64{3: arg}}
					if got := Simulate(p.Filter, &d, b.bigEndian); got != want {
						t.Errorf("%s: %#x %s %#x: %#x, want %#x", b.arch, arg, o.op, value, got, want)
					}
				}
			}
		}
	}
}

func TestSeveralRules(t *testing.T) {
	arg := func(index uint, op specs.LinuxSeccompOperator, value uint64) specs.LinuxSeccompArg {
		return specs.LinuxSeccompArg{Index: index, Op: op, Value: value}
	}
	for name, c := range map[string]struct {
		rules []specs.LinuxSyscall
		want  map[[2]uint64]uint32
	}{
		"conditions on several arguments are ANDed": {
			[]specs.LinuxSyscall{conditions(specs.ActAllow, "read", arg(1, specs.OpEqualTo, 2), arg(0, specs.OpEqualTo, 1))},
			map[[2]uint64]uint32{{1, 2}: allow, {1, 3}: eperm, {0, 2}: eperm},
		},
		"conditions on one argument are ORed, and all others with them": {
			[]specs.LinuxSyscall{conditions(specs.ActAllow, "read", arg(0, specs.OpEqualTo, 1), arg(0, specs.OpEqualTo, 2), arg(1, specs.OpEqualTo, 9))},
			map[[2]uint64]uint32{{1, 0}: allow, {2, 0}: allow, {3, 0}: eperm, {3, 9}: allow},
		},
		"rules are ORed": {
			[]specs.LinuxSyscall{conditions(specs.ActAllow, "read", arg(0, specs.OpLessThan, 38)), conditions(specs.ActAllow, "read", arg(0, specs.OpGreaterThan, 40))},
			map[[2]uint64]uint32{{37}: allow, {38}: eperm, {40}: eperm, {41}: allow},
		},
		"a rule without conditions wins": {
			[]specs.LinuxSyscall{conditions(specs.ActTrap, "read", arg(0, specs.OpEqualTo, 1)), rules(specs.ActAllow, "read"), rules(specs.ActLog, "read")},
			map[[2]uint64]uint32{{1}: allow, {2}: allow},
		},
		"a mask of zero is no condition": {
			[]specs.LinuxSyscall{conditions(specs.ActAllow, "read", arg(0, specs.OpMaskedEqual, 0))},
			map[[2]uint64]uint32{{1}: allow},
		},
		"an equality comes before an inequality, the larger lower limit before the smaller": {
			[]specs.LinuxSyscall{
				conditions(specs.ActAllow, "read", arg(0, specs.OpGreaterThan, 1)),
				conditions(specs.ActLog, "read", arg(0, specs.OpGreaterThan, 5)),
				conditions(specs.ActTrap, "read", arg(0, specs.OpEqualTo, 9)),
			},
			map[[2]uint64]uint32{{1}: eperm, {2}: allow, {6}: unix.SECCOMP_RET_LOG, {9}: unix.SECCOMP_RET_TRAP},
		},
	} {
		p := mustCompile(t, &specs.LinuxSeccomp{DefaultAction: specs.ActErrno, Syscalls: c.rules})
		for args, want := range c.want {
			if got := p.on(t, specs.ArchX86_64, "read", args[:]...); got != want {
				t.Errorf("%s: read%v: %#x, want %#x", name, args, got, want)
			}
		}
	}
}

func TestArchitectures(t *testing.T) {
	profile := func(archs ...specs.Arch) *Program {
		return mustCompile(t, &specs.LinuxSeccomp{
			DefaultAction: specs.ActAllow, Architectures: archs, Syscalls: []specs.LinuxSyscall{rules(specs.ActErrno, "ioctl", "socket")},
		})
	}
	native, both, all := profile(), profile(specs.ArchX32), profile(specs.ArchX86, specs.ArchX32, specs.ArchX86_64, specs.ArchARM)
	for _, c := range []struct {
		name    string
		program *Program
		arch    specs.Arch
		want    uint32
	}{
		{"native", native, specs.ArchX86_64, eperm},
		{"x32 without x32", native, specs.ArchX32, killThread},
		{"x86 without x86", native, specs.ArchX86, killThread},
		{"x32", both, specs.ArchX32, eperm},
		{"x86_64 with x32", both, specs.ArchX86_64, eperm},
		{"x86", all, specs.ArchX86, eperm},
		{"arm", all, specs.ArchARM, eperm},
		{"s390x", all, specs.ArchS390X, killThread},
	} {
		if got := c.program.on(t, c.arch, "ioctl"); got != c.want {
			t.Errorf("%s: %#x, want %#x", c.name, got, c.want)
		}
	}
	skipped := Data{Arch: unix.AUDIT_ARCH_X86_64, Nr: ^uint32(0)}
	if got := Simulate(native.Filter, &skipped, false); got != allow {
		t.Errorf("a call that a tracer skips: %#x", got)
	}
	muxed := Data{Arch: unix.AUDIT_ARCH_I386, Nr: 102, Args: [6]uint64{1}}
	if got := Simulate(all.Filter, &muxed, false); got != eperm {
		t.Errorf("socketcall(SYS_SOCKET): %#x", got)
	}
	muxed.Args[0] = 2
	if got := Simulate(all.Filter, &muxed, false); got != allow {
		t.Errorf("socketcall(SYS_BIND): %#x", got)
	}
	if archOfHost := nativeArch(); findABI(archOfHost) == nil {
		t.Errorf("no ABI for this machine (%q)", archOfHost)
	}
}

func TestNewerCalls(t *testing.T) {
	for _, c := range []struct {
		action specs.LinuxSeccompAction
		nr     uint32
		want   uint32
	}{
		{specs.ActErrno, 39, allow},               // getpid
		{specs.ActErrno, 40, eperm},               // older than the newest, which is openat2
		{specs.ActErrno, 437, allow},              // openat2
		{specs.ActErrno, 438, actionENOSYS},       //
		{specs.ActKill, 1 << 29, actionENOSYS},    //
		{specs.ActKill, 438 | x32Bit, killThread}, // no x32 in the profile
		{specs.ActAllow, 438, allow},              // permissive: the kernel says ENOSYS
		{specs.ActLog, 438, unix.SECCOMP_RET_LOG}, //
		{specs.ActTrace, 438, uint32(unix.EPERM) | unix.SECCOMP_RET_TRACE},
	} {
		p := mustCompile(t, &specs.LinuxSeccomp{DefaultAction: c.action, Syscalls: []specs.LinuxSyscall{rules(specs.ActAllow, "getpid", "openat2", "not_a_call")}})
		d := Data{Arch: unix.AUDIT_ARCH_X86_64, Nr: c.nr}
		if got := Simulate(p.Filter, &d, false); got != c.want {
			t.Errorf("default %s, number %#x: %#x, want %#x", c.action, c.nr, got, c.want)
		}
	}
}

func TestFlags(t *testing.T) {
	notify := []specs.LinuxSyscall{rules(specs.ActNotify, "mkdir")}
	for _, c := range []struct {
		flags []specs.LinuxSeccompFlag
		calls []specs.LinuxSyscall
		want  uint
	}{
		{nil, nil, unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW},
		{[]specs.LinuxSeccompFlag{}, nil, 0},
		{[]specs.LinuxSeccompFlag{"SECCOMP_FILTER_FLAG_TSYNC"}, nil, 0},
		{[]specs.LinuxSeccompFlag{specs.LinuxSeccompFlagLog, specs.LinuxSeccompFlagSpecAllow}, nil, unix.SECCOMP_FILTER_FLAG_LOG | unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW},
		{[]specs.LinuxSeccompFlag{}, notify, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER},
		{
			[]specs.LinuxSeccompFlag{specs.LinuxSeccompFlagWaitKillableRecv},
			notify,
			unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
		},
	} {
		p := mustCompile(t, &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Flags: c.flags, Syscalls: c.calls, ListenerPath: "/s"})
		if p.Flags != c.want {
			t.Errorf("%v: flags %#x, want %#x", c.flags, p.Flags, c.want)
		}
	}
}

func TestNoFilter(t *testing.T) {
	for _, p := range []*specs.LinuxSeccomp{nil, {Architectures: []specs.Arch{specs.ArchX86}}} {
		if program, err := Compile(p); program != nil || err != nil {
			t.Errorf("%v: %v, %v", p, program, err)
		}
	}
}

func TestErrors(t *testing.T) {
	big, five := uint(1<<16), uint(5)
	arg := func(index uint, op specs.LinuxSeccompOperator) specs.LinuxSeccompArg {
		return specs.LinuxSeccompArg{Index: index, Op: op}
	}
	var many []specs.LinuxSyscall
	for i := range uint64(2000) {
		many = append(many, conditions(specs.ActErrno, "read", specs.LinuxSeccompArg{Value: i << 33}))
		many[i].Args[0].Op = specs.OpEqualTo
	}
	tooMany := slices.Repeat(many, 3)
	for i := range tooMany {
		tooMany[i].Args = []specs.LinuxSeccompArg{{Value: uint64(i), Op: specs.OpEqualTo}}
	}
	for want, p := range map[string]specs.LinuxSeccomp{
		`linux.seccomp.defaultAction: unknown action "ALLOW"`:                    {DefaultAction: "ALLOW"},
		`linux.seccomp.defaultAction: SCMP_ACT_NOTIFY would stop`:                {DefaultAction: specs.ActNotify},
		`linux.seccomp.defaultErrnoRet: SCMP_ACT_ALLOW takes no errno`:           {DefaultErrnoRet: &five},
		`linux.seccomp.defaultErrnoRet: 65536 has more than 16 bits`:             {DefaultAction: specs.ActErrno, DefaultErrnoRet: &big},
		`linux.seccomp.architectures[1]: unknown architecture "SCMP_ARCH_SH"`:    {Architectures: []specs.Arch{specs.ArchX86, specs.ArchSH}},
		`linux.seccomp.architectures[0]: SCMP_ARCH_S390X has another byte order`: {Architectures: []specs.Arch{specs.ArchS390X}},
		`linux.seccomp.flags[0]: unknown flag "X"`:                               {Flags: []specs.LinuxSeccompFlag{"X"}},
		`linux.seccomp.flags[0]: SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV without`: {Flags: []specs.LinuxSeccompFlag{specs.LinuxSeccompFlagWaitKillableRecv}},
		`linux.seccomp.listenerPath: needed`:                                     {Syscalls: []specs.LinuxSyscall{rules(specs.ActNotify, "mkdir")}},
		`linux.seccomp.listenerMetadata: set without listenerPath`:               {ListenerMetadata: "x"},
		`linux.seccomp.syscalls[0].names[1]: write cannot have SCMP_ACT_NOTIFY`:  {Syscalls: []specs.LinuxSyscall{rules(specs.ActNotify, "read", "write")}},
		`linux.seccomp.syscalls[0].names[0]: empty`:                              {Syscalls: []specs.LinuxSyscall{rules(specs.ActLog, "")}},
		`linux.seccomp.syscalls[1].action: unknown action ""`:                    {Syscalls: []specs.LinuxSyscall{rules(specs.ActLog, "read"), rules("", "read")}},
		`linux.seccomp.syscalls[0].errnoRet: SCMP_ACT_LOG takes no errno`:        {Syscalls: []specs.LinuxSyscall{{Action: specs.ActLog, ErrnoRet: &five}}},
		`linux.seccomp.syscalls[0].args[1].op: unknown operator "=="`:            {Syscalls: []specs.LinuxSyscall{conditions(specs.ActLog, "read", arg(0, specs.OpEqualTo), arg(1, "=="))}},
		`linux.seccomp.syscalls[0].args[0].index: 6, a system call has six`:      {Syscalls: []specs.LinuxSyscall{conditions(specs.ActLog, "read", arg(6, specs.OpEqualTo))}},
		`linux.seccomp.syscalls[1]: contradicts syscalls[0] on read`:             {Syscalls: []specs.LinuxSyscall{conditions(specs.ActLog, "read", arg(0, specs.OpEqualTo)), conditions(specs.ActTrap, "read", arg(0, specs.OpEqualTo))}},
		`the kernel takes 4096`: {Syscalls: many},
		`linux.seccomp.syscalls[4095]: more conditions for read than the kernel takes`: {Syscalls: tooMany},
	} {
		if p.DefaultAction == "" {
			p.DefaultAction = specs.ActAllow
		}
		if _, err := compile(&p, specs.ArchX86_64); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// TestLongJumps has a verdict far behind the tree that leads to it.
func TestLongJumps(t *testing.T) {
	p := &specs.LinuxSeccomp{DefaultAction: specs.ActErrno}
	for i := range uint64(60) {
		for _, name := range []string{"read", "openat", "ioctl"} {
			p.Syscalls = append(p.Syscalls, conditions(specs.ActAllow, name, specs.LinuxSeccompArg{Op: specs.OpEqualTo, Value: i<<32 | i}))
		}
	}
	program := mustCompile(t, p)
	if len(program.Filter) < 2*255 {
		t.Fatalf("only %d instructions", len(program.Filter))
	}
	for i := range uint64(61) {
		want := uint32(allow)
		if i == 60 {
			want = eperm
		}
		for _, name := range []string{"read", "openat", "ioctl"} {
			if got := program.on(t, specs.ArchX86_64, name, i<<32|i); got != want {
				t.Errorf("%s(%d): %#x, want %#x", name, i, got, want)
			}
		}
	}
}

// TestTables knows a few numbers by heart, one from each source.
func TestTables(t *testing.T) {
	if !slices.IsSorted(syscallNames[:]) {
		t.Error("names are not sorted")
	}
	for _, c := range []struct {
		arch specs.Arch
		name string
		want uint32
	}{
		{specs.ArchX86_64, "openat", 257},
		{specs.ArchX86, "socketcall", 102},
		{specs.ArchX32, "ioctl", 514 | x32Bit},
		{specs.ArchX32, "mseal", 462 | x32Bit},
		{specs.ArchAARCH64, "openat", 56},
		{specs.ArchARM, "set_tls", 0x0f0005},
		{specs.ArchRISCV64, "riscv_flush_icache", 259},
		{specs.ArchLOONGARCH64, "openat", 56},
		{specs.ArchPPC64LE, "openat", 286},
		{specs.ArchS390X, "s390_sthyi", 380},
		{specs.ArchS390, "getuid32", 199},
		{specs.ArchMIPS64N32, "mseal", 6462},
		{specs.ArchMIPSEL, "openat", 4288},
	} {
		if got := number(t, c.arch, c.name); got != c.want {
			t.Errorf("%s on %s: %d, want %d", c.name, c.arch, got, c.want)
		}
	}
}

func FuzzCompile(f *testing.F) {
	f.Add([]byte(`{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":1,"architectures":["SCMP_ARCH_X86_64","SCMP_ARCH_X86","SCMP_ARCH_X32"],
		"syscalls":[{"names":["accept","read","openat2"],"action":"SCMP_ACT_ALLOW"}]}`), uint32(unix.AUDIT_ARCH_X86_64), uint32(41), uint64(38))
	f.Add([]byte(`{"defaultAction":"SCMP_ACT_TRAP","syscalls":[{"names":["socket"],"action":"SCMP_ACT_ERRNO","errnoRet":3,
		"args":[{"index":1,"value":255,"valueTwo":3,"op":"SCMP_CMP_MASKED_EQ"},{"index":0,"value":4294967296,"op":"SCMP_CMP_LE"}]}]}`),
		uint32(unix.AUDIT_ARCH_S390X), uint32(102), uint64(1))
	f.Fuzz(func(t *testing.T, config []byte, audit, nr uint32, arg uint64) {
		p := &specs.LinuxSeccomp{}
		if json.Unmarshal(config, p) != nil {
			return
		}
		for _, native := range []specs.Arch{specs.ArchX86_64, specs.ArchS390X} {
			program, err := compile(p, native)
			if err != nil || program == nil {
				continue
			}
			if err := verify(program.Filter); err != nil {
				t.Fatalf("%s: %v", native, err)
			}
			known := []uint32{killThread, actionENOSYS}
			pr, err := parse(p, native)
			if err != nil {
				t.Fatal(err)
			}
			known = append(known, pr.defaultAction)
			for _, c := range pr.calls {
				known = append(known, c.action)
			}
			d := Data{Arch: audit, Nr: nr, Args: [6]uint64{arg, arg, arg, arg, arg, arg}}
			if got := Simulate(program.Filter, &d, findABI(native).bigEndian); !slices.Contains(known, got) {
				t.Fatalf("%s: verdict %#x is in no rule", native, got)
			}
		}
	})
}

func BenchmarkCompile(b *testing.B) {
	p := readProfile(b, "docker.json")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Compile(p); err != nil {
			b.Fatal(err)
		}
	}
}

func ExampleCompile() {
	_, err := Compile(&specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{
		{Names: []string{"socket"}, Action: specs.ActErrno, Args: []specs.LinuxSeccompArg{{Index: 0, Value: 16, Op: "=="}}},
	}})
	fmt.Println(err)
	// Output: linux.seccomp.syscalls[0].args[0].op: unknown operator "=="
}
