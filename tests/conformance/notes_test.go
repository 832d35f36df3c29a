package conformance

// note says what has to be known of a program.
type note struct {
	why      string // it fails for every runtime, or what is special
	silent   bool   // it wants create to fail, and says nothing when it does
	luck     bool   // its verdict says nothing about the runtime: it is not compared
	deviates bool   // sock fails on purpose
}

const (
	noBlkioWeight = "the kernel has no blkio.weight and no blkio.leaf_weight"
	noHugetlb     = "there is no v1 hierarchy for hugetlb"
	noKmem        = "kernel memory has had no limit since Linux 5.16"
	noNetwork     = "there are no v1 hierarchies for net_cls and net_prio"
)

// notes has all programs that fail for everyone on the machine of the recorded table, and those that need special care.
var notes = map[string]note{
	"delete": {why: "it wants a container that was created, but not started, not to be deleted; engines rely on runc, which does that"},
	"hooks":  {why: "defective: it compares the hooks' output with what they don't write"},

	"linux_cgroups_blkio":            {why: noBlkioWeight},
	"linux_cgroups_relative_blkio":   {why: noBlkioWeight},
	"linux_cgroups_hugetlb":          {why: noHugetlb},
	"linux_cgroups_relative_hugetlb": {why: noHugetlb},
	"linux_cgroups_memory":           {why: noKmem},
	"linux_cgroups_relative_memory":  {why: noKmem},
	"linux_cgroups_network":          {why: noNetwork},
	"linux_cgroups_relative_network": {why: noNetwork},

	"linux_mount_label": {
		why:      "it asks for linux.mountLabel where the kernel has no SELinux: sock refuses what would not be enforced, crun ignores it",
		deviates: true,
	},
	"linux_process_apparmor_profile": {why: "the kernel has no AppArmor"},
	"misc_props":                     {why: "defective: it wants to run /runtimetest, but does not put it into the bundle"},
	"pidfile": {
		why:  "defective: it waits until a process that ends at once is running, then kills it: luck decides",
		luck: true,
	},
	"prestart":             {why: "it wants prestart hooks to run when the container is started; by the spec create runs them"},
	"process_capabilities": {why: "it wants all capabilities; this machine lacks CAP_SYS_RESOURCE"},
	"process_capabilities_fail": {
		why:    "it wants an unknown capability to be an error; by the spec it is a warning",
		silent: true,
	},
	"process_rlimits":      {why: "runtimetest, built by Go 1.19 or newer, finds that it has raised its RLIMIT_NOFILE itself"},
	"process_rlimits_fail": {silent: true},
	"start":                {why: "defective: it wants a start without process to succeed and to be an error"},
}
