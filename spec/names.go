package spec

import (
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// capabilities holds the names of capabilities(7) at their numbers, up to Linux 5.9's CAP_CHECKPOINT_RESTORE, the newest.
var capabilities = [...]string{
	"CAP_CHOWN",
	"CAP_DAC_OVERRIDE",
	"CAP_DAC_READ_SEARCH",
	"CAP_FOWNER",
	"CAP_FSETID",
	"CAP_KILL",
	"CAP_SETGID",
	"CAP_SETUID",
	"CAP_SETPCAP",
	"CAP_LINUX_IMMUTABLE",
	"CAP_NET_BIND_SERVICE",
	"CAP_NET_BROADCAST",
	"CAP_NET_ADMIN",
	"CAP_NET_RAW",
	"CAP_IPC_LOCK",
	"CAP_IPC_OWNER",
	"CAP_SYS_MODULE",
	"CAP_SYS_RAWIO",
	"CAP_SYS_CHROOT",
	"CAP_SYS_PTRACE",
	"CAP_SYS_PACCT",
	"CAP_SYS_ADMIN",
	"CAP_SYS_BOOT",
	"CAP_SYS_NICE",
	"CAP_SYS_RESOURCE",
	"CAP_SYS_TIME",
	"CAP_SYS_TTY_CONFIG",
	"CAP_MKNOD",
	"CAP_LEASE",
	"CAP_AUDIT_WRITE",
	"CAP_AUDIT_CONTROL",
	"CAP_SETFCAP",
	"CAP_MAC_OVERRIDE",
	"CAP_MAC_ADMIN",
	"CAP_SYSLOG",
	"CAP_WAKE_ALARM",
	"CAP_BLOCK_SUSPEND",
	"CAP_AUDIT_READ",
	"CAP_PERFMON",
	"CAP_BPF",
	"CAP_CHECKPOINT_RESTORE",
}

// Capabilities returns the names of all known capabilities, ordered by number.
func Capabilities() []string { return slices.Clone(capabilities[:]) }

// CapabilityNumber returns the number of a capability, whose name begins with CAP_ in either case.
func CapabilityNumber(name string) (number uint, ok bool) {
	i := slices.IndexFunc(capabilities[:], func(c string) bool { return strings.EqualFold(c, name) })
	return uint(max(i, 0)), i >= 0
}

// namespaceTypes are those of config-linux.md "Namespaces", sorted.
var namespaceTypes = [...]specs.LinuxNamespaceType{
	specs.CgroupNamespace,
	specs.IPCNamespace,
	specs.MountNamespace,
	specs.NetworkNamespace,
	specs.PIDNamespace,
	specs.TimeNamespace,
	specs.UserNamespace,
	specs.UTSNamespace,
}

// NamespaceFlag returns the CLONE_NEW* flag of a namespace type.
func NamespaceFlag(t specs.LinuxNamespaceType) (flag uint64, ok bool) {
	switch t {
	case specs.CgroupNamespace:
		return unix.CLONE_NEWCGROUP, true
	case specs.IPCNamespace:
		return unix.CLONE_NEWIPC, true
	case specs.MountNamespace:
		return unix.CLONE_NEWNS, true
	case specs.NetworkNamespace:
		return unix.CLONE_NEWNET, true
	case specs.PIDNamespace:
		return unix.CLONE_NEWPID, true
	case specs.TimeNamespace:
		return unix.CLONE_NEWTIME, true
	case specs.UserNamespace:
		return unix.CLONE_NEWUSER, true
	case specs.UTSNamespace:
		return unix.CLONE_NEWUTS, true
	}
	return 0, false
}

// RlimitResource returns the number that setrlimit(2) takes for a name such as RLIMIT_NOFILE.
func RlimitResource(name string) (resource int, ok bool) {
	switch name {
	case "RLIMIT_AS":
		return unix.RLIMIT_AS, true
	case "RLIMIT_CORE":
		return unix.RLIMIT_CORE, true
	case "RLIMIT_CPU":
		return unix.RLIMIT_CPU, true
	case "RLIMIT_DATA":
		return unix.RLIMIT_DATA, true
	case "RLIMIT_FSIZE":
		return unix.RLIMIT_FSIZE, true
	case "RLIMIT_LOCKS":
		return unix.RLIMIT_LOCKS, true
	case "RLIMIT_MEMLOCK":
		return unix.RLIMIT_MEMLOCK, true
	case "RLIMIT_MSGQUEUE":
		return unix.RLIMIT_MSGQUEUE, true
	case "RLIMIT_NICE":
		return unix.RLIMIT_NICE, true
	case "RLIMIT_NOFILE":
		return unix.RLIMIT_NOFILE, true
	case "RLIMIT_NPROC":
		return unix.RLIMIT_NPROC, true
	case "RLIMIT_RSS":
		return unix.RLIMIT_RSS, true
	case "RLIMIT_RTPRIO":
		return unix.RLIMIT_RTPRIO, true
	case "RLIMIT_RTTIME":
		return unix.RLIMIT_RTTIME, true
	case "RLIMIT_SIGPENDING":
		return unix.RLIMIT_SIGPENDING, true
	case "RLIMIT_STACK":
		return unix.RLIMIT_STACK, true
	}
	return 0, false
}

// SchedulerPolicy returns the policy that sched_setattr(2) takes.
func SchedulerPolicy(policy specs.LinuxSchedulerPolicy) (number uint32, ok bool) {
	const schedISO = 4 // Reserved in linux/sched.h; no kernel implements it.
	switch policy {
	case specs.SchedOther:
		return unix.SCHED_NORMAL, true
	case specs.SchedFIFO:
		return unix.SCHED_FIFO, true
	case specs.SchedRR:
		return unix.SCHED_RR, true
	case specs.SchedBatch:
		return unix.SCHED_BATCH, true
	case specs.SchedISO:
		return schedISO, true
	case specs.SchedIdle:
		return unix.SCHED_IDLE, true
	case specs.SchedDeadline:
		return unix.SCHED_DEADLINE, true
	}
	return 0, false
}

// SchedulerFlag returns the bit of a flag that sched_setattr(2) takes.
func SchedulerFlag(flag specs.LinuxSchedulerFlag) (bit uint64, ok bool) {
	switch flag {
	case specs.SchedFlagResetOnFork:
		return unix.SCHED_FLAG_RESET_ON_FORK, true
	case specs.SchedFlagReclaim:
		return unix.SCHED_FLAG_RECLAIM, true
	case specs.SchedFlagDLOverrun:
		return unix.SCHED_FLAG_DL_OVERRUN, true
	case specs.SchedFlagKeepPolicy:
		return unix.SCHED_FLAG_KEEP_POLICY, true
	case specs.SchedFlagKeepParams:
		return unix.SCHED_FLAG_KEEP_PARAMS, true
	case specs.SchedFlagUtilClampMin:
		return unix.SCHED_FLAG_UTIL_CLAMP_MIN, true
	case specs.SchedFlagUtilClampMax:
		return unix.SCHED_FLAG_UTIL_CLAMP_MAX, true
	}
	return 0, false
}

// Propagation returns the MS_* flag of a mount propagation, as in linux.rootfsPropagation: "shared", "rslave" and so
// on. Those with an r apply to the whole tree: recursive.
func Propagation(name string) (flag uint64, recursive, ok bool) {
	name, recursive = strings.CutPrefix(name, "r")
	switch name {
	case "private":
		return unix.MS_PRIVATE, recursive, true
	case "shared":
		return unix.MS_SHARED, recursive, true
	case "slave":
		return unix.MS_SLAVE, recursive, true
	case "unbindable":
		return unix.MS_UNBINDABLE, recursive, true
	}
	return 0, false, false
}
