package stub

import (
	"fmt"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// callNames has the calls that plans use; others print as their number. It is made when somebody prints.
var callNames = sync.OnceValue(func() map[uintptr]string {
	return map[uintptr]string{
		unix.SYS_CAPSET: "capset", unix.SYS_CHDIR: "chdir", unix.SYS_CHROOT: "chroot", unix.SYS_CLOSE: "close", unix.SYS_CLONE3: "clone3", unix.SYS_EXIT_GROUP: "exit_group",
		unix.SYS_CLOSE_RANGE: "close_range", unix.SYS_DUP3: "dup3", unix.SYS_EXECVE: "execve",
		unix.SYS_FCHDIR: "fchdir", unix.SYS_FCHOWN: "fchown", unix.SYS_FCHOWNAT: "fchownat", unix.SYS_FCNTL: "fcntl",
		unix.SYS_FSCONFIG: "fsconfig", unix.SYS_FSTATFS: "fstatfs", unix.SYS_FUTEX: "futex", unix.SYS_FSMOUNT: "fsmount", unix.SYS_FSPICK: "fspick", unix.SYS_FSOPEN: "fsopen",
		unix.SYS_IOCTL: "ioctl", unix.SYS_IOPRIO_SET: "ioprio_set", unix.SYS_KEYCTL: "keyctl", unix.SYS_MKDIRAT: "mkdirat",
		unix.SYS_MKNODAT: "mknodat", unix.SYS_MOUNT: "mount", unix.SYS_MOUNT_SETATTR: "mount_setattr", unix.SYS_MOVE_MOUNT: "move_mount",
		unix.SYS_OPENAT: "openat", unix.SYS_OPENAT2: "openat2", unix.SYS_OPEN_TREE: "open_tree", unix.SYS_PERSONALITY: "personality",
		unix.SYS_PIVOT_ROOT: "pivot_root", unix.SYS_PRCTL: "prctl", unix.SYS_PRLIMIT64: "prlimit64", unix.SYS_READ: "read",
		unix.SYS_SCHED_SETAFFINITY: "sched_setaffinity", unix.SYS_SECCOMP: "seccomp", unix.SYS_SCHED_SETATTR: "sched_setattr", unix.SYS_SENDMSG: "sendmsg",
		unix.SYS_SETDOMAINNAME: "setdomainname", unix.SYS_SETGROUPS: "setgroups", unix.SYS_SETHOSTNAME: "sethostname",
		unix.SYS_SETNS: "setns", unix.SYS_SETRESGID: "setresgid", unix.SYS_SETRESUID: "setresuid", unix.SYS_SETSID: "setsid", unix.SYS_SETXATTR: "setxattr", unix.SYS_SET_MEMPOLICY: "set_mempolicy",
		unix.SYS_SOCKET: "socket", unix.SYS_FACCESSAT: "faccessat", unix.SYS_FACCESSAT2: "faccessat2",
		unix.SYS_SYMLINKAT: "symlinkat", unix.SYS_UMASK: "umask", unix.SYS_UMOUNT2: "umount2", unix.SYS_UNLINKAT: "unlinkat",
		unix.SYS_UNSHARE: "unshare", unix.SYS_WRITE: "write",
	}
})

// String writes the instruction like strace would, with its branches behind it.
func (in Instr) String() string {
	var s strings.Builder
	if in.Label != "" {
		fmt.Fprintf(&s, "%s: ", in.Label)
	}
	if in.Keep {
		fmt.Fprintf(&s, "$%d = ", in.Into)
	}
	name, ok := callNames()[in.Sys]
	if !ok {
		name = fmt.Sprintf("syscall_%d", in.Sys)
	}
	args := make([]string, len(in.Args))
	for i, a := range in.Args {
		args[i] = a.String()
	}
	fmt.Fprintf(&s, "%s(%s)", name, strings.Join(args, ", "))
	if in.Exact {
		fmt.Fprintf(&s, " == %d", in.Want)
	}
	for _, b := range in.On {
		label := b.Label
		if label == "" {
			label = "next"
		}
		fmt.Fprintf(&s, "; %s: %s", unix.ErrnoName(b.Errno), label)
	}
	if in.Then != "" {
		fmt.Fprintf(&s, "; then %s", in.Then)
	}
	return s.String()
}

// String writes the argument: numbers as such, descriptors by name in <>, slots with $, memory in quotes.
func (a Arg) String() string {
	switch a.kind {
	case argText:
		return fmt.Sprintf("%q", a.text)
	case argBytes:
		if n := len(a.text); n > 64 && strings.Count(a.text, a.text[:1]) == n {
			return fmt.Sprintf("{%x, %d times}", a.text[:1], n)
		}
		return fmt.Sprintf("{%x}", a.text)
	case argVector:
		return fmt.Sprintf("%q", *a.list)
	case argRights:
		return fmt.Sprintf("{%q, SCM_RIGHTS <%s>}", a.text, (*a.list)[0])
	case argFilter:
		return fmt.Sprintf("{BPF, %d instructions}", len(a.text)/8)
	case argClone:
		return fmt.Sprintf("{flags %#x|CLONE_PARENT}", uint64(a.num))
	case argCloned:
		return "{record of the clone}"
	case argScratch:
		return "{scratch}"
	case argFD:
		return "<" + a.text + ">"
	case argSlot:
		return fmt.Sprintf("$%d", a.num)
	default:
		return fmt.Sprintf("%#x", uint64(a.num))
	}
}
