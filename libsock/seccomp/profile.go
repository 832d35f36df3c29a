package seccomp

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// profile is a validated linux.seccomp.
type profile struct {
	defaultAction uint32 // SECCOMP_RET_*
	calls         []call
	abis          []*abi // the native one first, none twice
	enosys        bool   // calls newer than the profile get ENOSYS
	flags         uint
	notify        bool
}

// call is one name in a rule of the profile, if some ABI has it.
type call struct {
	name    int // in syscallNames
	mux     multiplexer
	muxCall uint64
	entry   int // in linux.seccomp.syscalls, for errors
	action  uint32
	// alternatives are lists of conditions, sorted by argument, no argument twice; an empty list always matches.
	alternatives [][]condition
}

func parse(p *specs.LinuxSeccomp, native specs.Arch) (*profile, error) {
	pr := &profile{}
	var err error
	pr.defaultAction, err = parseAction(p.DefaultAction, p.DefaultErrnoRet, "linux.seccomp.defaultAction", "linux.seccomp.defaultErrnoRet")
	switch {
	case err != nil:
		return nil, err
	case pr.defaultAction == unix.SECCOMP_RET_USER_NOTIF:
		return nil, fmt.Errorf("linux.seccomp.defaultAction: %s would stop the container before its agent has the listener", p.DefaultAction)
	}
	switch p.DefaultAction {
	case specs.ActAllow, specs.ActLog, specs.ActTrace:
	default:
		// Programs try new calls and fall back on ENOSYS, never on EPERM; a permissive profile lets the kernel say it.
		pr.enosys = true
	}
	if pr.abis, err = parseArchitectures(p.Architectures, native); err != nil {
		return nil, err
	}
	n := 0
	for i := range p.Syscalls {
		n += len(p.Syscalls[i].Names)
	}
	pr.calls = make([]call, 0, n)
	for i := range p.Syscalls {
		if err := pr.parseSyscall(i, &p.Syscalls[i]); err != nil {
			return nil, err
		}
	}
	switch {
	case pr.notify && p.ListenerPath == "":
		return nil, fmt.Errorf("linux.seccomp.listenerPath: needed with %s", specs.ActNotify)
	case p.ListenerMetadata != "" && p.ListenerPath == "":
		return nil, fmt.Errorf("linux.seccomp.listenerMetadata: set without listenerPath")
	}
	pr.flags, err = parseFlags(p.Flags, pr.notify)
	return pr, err
}

// parseAction gives the SECCOMP_RET_* value; the arguments after the first two are the paths of those, for errors.
func parseAction(action specs.LinuxSeccompAction, errnoRet *uint, path, errnoPath string) (uint32, error) {
	data := uint32(unix.EPERM)
	if errnoRet != nil {
		switch {
		case action != specs.ActErrno && action != specs.ActTrace:
			return 0, fmt.Errorf("%s: %s takes no errno", errnoPath, action)
		case *errnoRet > unix.SECCOMP_RET_DATA:
			return 0, fmt.Errorf("%s: %d has more than 16 bits", errnoPath, *errnoRet)
		}
		data = uint32(*errnoRet)
	}
	switch action {
	case specs.ActKill, specs.ActKillThread:
		return unix.SECCOMP_RET_KILL_THREAD, nil
	case specs.ActKillProcess:
		return unix.SECCOMP_RET_KILL_PROCESS, nil
	case specs.ActTrap:
		return unix.SECCOMP_RET_TRAP, nil
	case specs.ActErrno:
		return unix.SECCOMP_RET_ERRNO | data, nil
	case specs.ActTrace:
		return unix.SECCOMP_RET_TRACE | data, nil
	case specs.ActLog:
		return unix.SECCOMP_RET_LOG, nil
	case specs.ActNotify:
		return unix.SECCOMP_RET_USER_NOTIF, nil
	case specs.ActAllow:
		return unix.SECCOMP_RET_ALLOW, nil
	}
	return 0, fmt.Errorf("%s: unknown action %q", path, action)
}

func parseArchitectures(archs []specs.Arch, native specs.Arch) ([]*abi, error) {
	own := findABI(native)
	if own == nil {
		return nil, fmt.Errorf("linux.seccomp: no table of system calls for this machine")
	}
	list := []*abi{own}
	for i, arch := range archs {
		b := findABI(arch)
		switch {
		case b == nil:
			return nil, fmt.Errorf("linux.seccomp.architectures[%d]: unknown architecture %q", i, arch)
		case b.bigEndian != own.bigEndian:
			return nil, fmt.Errorf("linux.seccomp.architectures[%d]: %s has another byte order than this machine", i, arch)
		case !slices.Contains(list, b):
			list = append(list, b)
		}
	}
	return list, nil
}

func (pr *profile) parseSyscall(i int, s *specs.LinuxSyscall) error {
	action, err := parseAction(s.Action, s.ErrnoRet, "action", "errnoRet")
	if err != nil {
		return fmt.Errorf("linux.seccomp.syscalls[%d].%w", i, err)
	}
	alternatives, err := parseArgs(s.Args)
	if err != nil {
		return fmt.Errorf("linux.seccomp.syscalls[%d].%w", i, err)
	}
	notify := action == unix.SECCOMP_RET_USER_NOTIF
	pr.notify = pr.notify || notify
	for j, name := range s.Names {
		switch {
		case name == "":
			return fmt.Errorf("linux.seccomp.syscalls[%d].names[%d]: empty", i, j)
		case name == "write" && notify:
			return fmt.Errorf("linux.seccomp.syscalls[%d].names[%d]: write cannot have %s: the listener could not be handed over", i, j, s.Action)
		}
		index, known := nameIndex(name)
		if !known {
			continue // from another kernel, or a newer one: nothing to filter
		}
		mux, muxCall := multiplexed(name)
		pr.calls = append(pr.calls, call{index, mux, muxCall, i, action, alternatives})
	}
	return nil
}

// parseArgs gives the alternatives of a rule. Conditions are ANDed, but as in runc each is a rule of its own once an
// argument has two of them: profiles of that form are older than the AND.
func parseArgs(args []specs.LinuxSeccompArg) ([][]condition, error) {
	conditions := make([]condition, 0, len(args))
	repeated := false
	for i, arg := range args {
		c := condition{arg: arg.Index, mask: math.MaxUint64, value: arg.Value}
		if c.arg >= 6 {
			return nil, fmt.Errorf("args[%d].index: %d, a system call has six arguments", i, c.arg)
		}
		switch arg.Op {
		case specs.OpEqualTo:
			c.test = equal
		case specs.OpNotEqual:
			c.test, c.negate = equal, true
		case specs.OpGreaterThan:
			c.test = greater
		case specs.OpLessEqual:
			c.test, c.negate = greater, true
		case specs.OpGreaterEqual:
			c.test = greaterEqual
		case specs.OpLessThan:
			c.test, c.negate = greaterEqual, true
		case specs.OpMaskedEqual:
			c.test, c.mask, c.value = maskedEqual, arg.Value, arg.ValueTwo&arg.Value
		default:
			return nil, fmt.Errorf("args[%d].op: unknown operator %q", i, arg.Op)
		}
		repeated = repeated || slices.ContainsFunc(conditions, func(o condition) bool { return o.arg == c.arg })
		conditions = append(conditions, c)
	}
	if repeated {
		alternatives := make([][]condition, len(conditions))
		for i := range conditions {
			alternatives[i] = conditions[i : i+1]
		}
		return alternatives, nil
	}
	slices.SortFunc(conditions, func(a, b condition) int { return cmp.Compare(a.arg, b.arg) })
	return [][]condition{conditions}, nil
}

// parseFlags gives SECCOMP_FILTER_FLAG_*. Without a list it is SPEC_ALLOW, as in runc; an empty list is none.
func parseFlags(names []specs.LinuxSeccompFlag, notify bool) (uint, error) {
	var flags uint
	if names == nil {
		flags = unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW
	}
	for i, name := range names {
		switch name {
		case "SECCOMP_FILTER_FLAG_TSYNC":
			// Nothing to do, as in runc: the filter is loaded by a process of one thread.
		case specs.LinuxSeccompFlagLog:
			flags |= unix.SECCOMP_FILTER_FLAG_LOG
		case specs.LinuxSeccompFlagSpecAllow:
			flags |= unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW
		case specs.LinuxSeccompFlagWaitKillableRecv:
			if !notify { // seccomp(2) would say EINVAL
				return 0, fmt.Errorf("linux.seccomp.flags[%d]: %s without a rule that has %s", i, name, specs.ActNotify)
			}
			flags |= unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
		default:
			return 0, fmt.Errorf("linux.seccomp.flags[%d]: unknown flag %q", i, name)
		}
	}
	if notify {
		flags |= unix.SECCOMP_FILTER_FLAG_NEW_LISTENER
	}
	return flags, nil
}
