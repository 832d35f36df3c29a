// Package plan turns a config.json into a Plan: everything that has to happen for a container to exist, as data.
//
// Build is a pure function of the config, the caller's options and facts about the host. It makes no system call, so a
// plan can be printed, compared with a golden file, and explained line by line. Package host executes the host steps,
// package stub the child's instructions.
package plan

import (
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/sock-runtime/sock/libsock/stub"
)

// Plan is how one process comes to be: a container's init, one that joins a container (exec), or a hook.
type Plan struct {
	Host  []Step     // by the parent, in order, before the clone
	Clone Clone      // the one clone
	After []Step     // by the parent, in order, after the clone, while the child waits for it
	Late  []Step     // by the parent, once the process is there that the child clones in its place
	Maps  *Maps      // by the parent, behind them
	Child []Line     // by the child, in order, up to execve
	Undo  []Undo     // by whoever deletes the container, or at once when creating it fails
	Fast  []FastPath // decisions on fast paths, taken or refused
}

// Note says where a line of the plan comes from and what it does, for people.
type Note struct {
	From string `json:"from,omitempty"` // JSON path in config.json; empty: every container needs it
	Does string `json:"does"`           // the act and its object, as errors name it
	Hand string `json:"hand,omitempty"` // what one would type to do it by hand
	Fast string `json:"fast,omitempty"` // the fast path that put it here
}

// Step is one host step.
type Step struct {
	Note
	Do Action `json:"-"`
}

// Line is one act of the child: a few system calls with one purpose. A failing call is reported as its line.
type Line struct {
	Note
	Ops []stub.Instr `json:"-"`
	// Act is what errors call the line where clients know it by another name, runc's, than its Note gives it.
	Act string `json:"-"`
	// Says replaces an errno's usual text where clients match another: runc's.
	Says map[unix.Errno]string `json:"-"`
	// Meanwhile is what the parent does while the child waits in this line, having reported stub.Paused.
	Meanwhile []Step `json:"-"`
}

// Clone is the clone call.
type Clone struct {
	Flags      uint64 // CLONE_NEW*
	PID        string // descriptor of the PID namespace to be born in, or ""
	IntoCgroup string // descriptor of the cgroup v2 directory to be born in, or ""
	// Again says that the child clones the process that the plan is about, tells its number (stub.Cloned) and ends.
	Again bool
	// Dumpable leaves the child dumpable: its own lines say until when. Of what is undumpable an ordinary user may write
	// neither the id maps nor oom_score_adj, proc(5).
	Dumpable bool
}

// Waits says whether the process waits for a byte of the parent's behind the clone: until its id maps are written, and so
// that its records come after the one on itself.
func (p *Plan) Waits() bool { return p.Clone.Again || p.Maps != nil }

// Maps are the id maps of the user namespace that the process has entered.
type Maps struct {
	UIDs, GIDs []specs.LinuxIDMapping
	Joined     bool // it was not made for the process and has its maps: they must be these
}

// Undo is one act that takes something back.
type Undo struct {
	Note
	Unmount string `json:"-"` // a mount point on the host; other kinds are recognised by the launcher's own records
}

// FastPath is a decision on one of the named substitutions.
type FastPath struct {
	Name  string `json:"name"`
	Taken bool   `json:"taken"`
	Why   string `json:"why,omitempty"` // the reason when it was not taken
}

// Profiles that choose the fast paths.
const (
	Standard = "standard" // only those that cannot be told apart from runc
	Lean     = "lean"     // SOCK's, where their gate lets them
)

// Options are what the caller of create or run asks for beside config.json.
type Options struct {
	ID          string
	Bundle      string // absolute
	Rootfs      string // absolute
	Gate        bool   // create: the process waits for start; false (run): it executes as soon as it is recorded
	Pause       bool   // wait for the parent before executing, though there is no gate
	Console     bool   // the pty's master goes to descriptor "console"
	Stdio       bool   // without a console: its stdio are the descriptors "stdin", "stdout", "stderr", not the caller's
	NoPivot     bool
	NoKeyring   bool
	PreserveFDs int
	Env         []string // what the caller adds to process.env
	Notify      string   // directory on the host that is shown at NotifyDir, or ""
	Profile     string
}

// Facts are what Build has to know of the host. The zero value is a host that offers nothing beyond the kernel floor.
type Facts struct {
	// What our rights are short of, see userns.go. The zero value is the host's root.
	Rootless bool // an ordinary user: only a user namespace of its own gives the child rights
	UserNS   bool // we are in a user namespace, perhaps as its root: no device can be made there
	NoMounts bool // we may not mount where we are; the child may, in a mount namespace of its own

	LastCap uint            // the kernel's last capability, /proc/sys/kernel/cap_last_cap
	Home    string          // HOME for the process's uid, from the container's /etc/passwd
	Files   map[string]bool // bind sources that are not directories
	Procfs  map[string]bool // bind sources that are on a procfs
	// Resolved has the destinations, without their first slash, that lead through links of the image to what does not
	// exist yet, and where that would be.
	Resolved  map[string]string
	Kcore     bool // /proc/kcore exists
	AppArmor  bool // it is enabled; only needed where the config has a profile
	SELinux   bool // it is enabled and has a policy; only needed where the config has a label
	Cgroup    Cgroup
	Resctrl   *Resctrl          // nil: resctrl is not mounted, or the config doesn't ask for it
	Filter    *Filter           // linux.seccomp, compiled
	NOFILE    *Rlimit           // the caller's RLIMIT_NOFILE, where Go's runtime raised it
	OwnStdio  []int             // stdio descriptors that must be given to process.user.uid
	NullStdio []int             // stdio descriptors that are the host's /dev/null
	Modes     map[string]uint32 // modes of the rootfs's directories that a tmpfs covers, by destination without its slash
	ProcSys   []string          // mount points of procfs and sysfs on the host; only needed with NoPivot
}

// Rlimit is a soft and a hard limit, getrlimit(2).
type Rlimit struct{ Soft, Hard uint64 }

// Cgroup is what a plan needs to know of the container's cgroup.
type Cgroup struct {
	Unified bool
	Into    bool          // there is a directory in the v2 hierarchy to be born in: also on hybrid hosts
	None    bool          // no cgroup: rootless without rights on any
	Unit    string        // the unit of systemd's that it is, "" if it is none
	Mounts  []CgroupMount // one on v2, one for each hierarchy to join on v1
}

// CgroupMount is one hierarchy as the container sees it under /sys/fs/cgroup.
type CgroupMount struct {
	Name  string   // directory
	Links []string // symbolic links to it
	Dir   string   // the container's cgroup on the host
	Data  string   // options to mount it as a file system of its own
	Own   bool     // systemd puts the first process into it
}

// Descriptors that plans name and the launcher provides.
const (
	fdSync         = "sync"    // socket to the parent
	fdState        = "state"   // directory of the container's state
	fdProc         = "proc"    // the host's procfs
	fdConsole      = "console" // socket that takes the pty's master
	fdSpare        = "spare"   // any descriptor that the child may put another in place of
	fdRoot         = "rootfs"  // detached tree of the root file system
	fdPIDFD        = "pidfd"   // the container's init process
	fdRootDir      = "rootdir" // its root directory
	fdPIDNamespace = "pidns"   // its PID namespace
	fdCgroup       = "cgroup"  // cgroup v2 directory
	fdDevNull      = "devnull" // its /dev/null
	fdStdin        = "stdin"
	fdStdout       = "stdout"
	fdStderr       = "stderr"
	cgroupFile     = "cgroup."
)

// Names of files in the state directory.
const (
	GateFile  = "start"       // FIFO on which a created container waits
	GateUsed  = "started"     // its name once start took it
	ErrorFile = "start.error" // record of an execve that failed after start
)

// NotifyDir is where a container that is to notify a service manager finds the socket, as with runc.
const NotifyDir = "/run/notify"

// Slots that live longer than a line; the others are for one line each.
const (
	slotReport   = stub.Report
	slotRoot     = stub.Slot(1)
	slotGate     = stub.Slot(2)
	slotError    = stub.Slot(3)
	slotMaster   = stub.Slot(4)
	slotSlave    = stub.Slot(5)
	slotDevpts   = stub.Slot(6)
	slotCwd      = stub.Slot(7) // set when root could enter the working directory
	slotDev      = stub.Slot(8)
	slotNull     = stub.Slot(9)  // a mask that is in place, for files
	slotEmpty    = stub.Slot(15) // the same for directories
	slotNullTree = stub.Slot(16) // a mount of /dev/null that has no place yet
	slotHolder   = stub.Slot(17) // the tmpfs that holds cgroup v1's hierarchies
	slotStage    = stub.Slot(18) // the stage, see userns.go
	slotProc     = stub.Slot(19) // what is mounted on /proc, see anchored
	slotSys      = stub.Slot(20) // and on /sys
	slotT        = stub.Slot(10) // a mount's target
	slotM        = stub.Slot(11) // a mount
	slotS        = stub.Slot(12) // a file system context, or any other passing descriptor
	slotP        = stub.Slot(13) // parent directories, two in turn
	slotQ        = stub.Slot(14)
)

// high is where the child keeps the descriptors that it needs to the end, above all that it opens on the way.
const high = 128

// builder collects a plan.
type builder struct {
	spec   *specs.Spec
	opt    Options
	facts  Facts
	plan   *Plan
	late   []Line   // for just before execve
	staged []staged // with a new mount namespace in another user namespace: what waits to be cloned there
	early  []Line   // where the parent may not mount: the child's first mounts
	joins  []Line   // namespaces by path, which the child joins among its first acts where the parent may not mount
	devpts bool     // slotDevpts holds the container's devpts
	procfs []string // destinations of procfs
	proc   bool     // slotProc holds what is mounted on /proc
	sys    bool     // slotSys holds what is mounted on /sys
}

func (b *builder) step(n Note, do Action) { b.plan.Host = append(b.plan.Host, Step{n, do}) }

func (b *builder) line(n Note, ops ...stub.Instr) {
	b.plan.Child = append(b.plan.Child, Line{Note: n, Ops: ops})
}
