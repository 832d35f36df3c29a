package plan

import specs "github.com/opencontainers/runtime-spec/specs-go"

// Action is what a host step does. The types below are all there are; package host executes them.
type Action interface{ action() }

// Attr changes a mount's attributes, mount_setattr(2).
type Attr struct {
	Recursive   bool
	Set, Clear  uint64 // MOUNT_ATTR_*
	Propagation uint64 // MS_PRIVATE, MS_SLAVE, MS_SHARED or MS_UNBINDABLE; 0: leave it
}

// CloneTree takes a detached copy of what is mounted at Path, open_tree(2): a bind mount without a place.
type CloneTree struct {
	Out       string
	Path      string
	Recursive bool
	Device    uint64 // if not 0, Path must be the character device with this number
	Attrs     []Attr // in order
	IDMap     *IDMap
}

// Reserve opens a descriptor only for its number: the child puts the mount of that name in its place.
type Reserve struct{ Out string }

// CheckDevice makes sure that the file at Path is the character device with this number.
type CheckDevice struct {
	Path   string
	Device uint64
}

// IDMap is a mapping of ids: of a user namespace, user_namespaces(7), or of the owners that a mount shows, mount_setattr(2)
// with MOUNT_ATTR_IDMAP (Linux 5.12).
type IDMap struct {
	Recursive bool
	Namespace string // descriptor of a user namespace that has the mapping; "": the lists below are it
	UIDs      []specs.LinuxIDMapping
	GIDs      []specs.LinuxIDMapping
}

// NewMount makes a file system that belongs to no namespace of the container, detached: fsopen(2) to fsmount(2).
type NewMount struct {
	Out string
	// Context leaves fsmount to the child: Out is the created file system's context. A mount gets its place in mountinfo
	// when it is made, not when it is attached (Linux 6.8), and there they should be in the order of config.json.
	Context bool
	Type    string
	Source  string
	Super   []string // flags of the superblock
	Options []string // "key" or "key=value"
	Attrs   uint64   // MOUNT_ATTR_*
	After   []Attr   // recursive attributes and propagation, in order
	ModeOf  string   // take mode= from this directory of the rootfs, if it exists there
	CopyUp  string   // copy this directory of the rootfs into it
	Dirs    []string // directories to make in it
	Files   []string // empty files to make in it
	Links   [][2]string
}

// OpenNamespace opens a namespace that config.json gives by path. Errors: the file is no namespace, or of another type.
type OpenNamespace struct {
	Out  string
	Path string
	Flag int // CLONE_NEW*
}

// OpenProc opens the host's procfs and makes sure that it is one.
type OpenProc struct{ Out string }

// MakeCgroup makes the container's cgroup.
type MakeCgroup struct{}

// LimitCgroup sets its limits, those on devices too.
type LimitCgroup struct {
	Two bool `json:",omitempty"` // let it hold two processes, whatever the limit
}

// LimitPids sets the limit of processes.
type LimitPids struct{}

// DelegateCgroup gives the cgroup to a user of the host's: the container's process, which may then make cgroups below it.
type DelegateCgroup struct{ UID uint32 }

// JoinCgroup opens what the child needs to join: a `tasks` file for each v1 hierarchy, or the v2 directory.
type JoinCgroup struct{}

// MakeResctrl makes the container's groups in resctrl and sets them.
type MakeResctrl struct{}

// JoinResctrl opens the tasks files by which the child joins them.
type JoinResctrl struct{}

// ReachSystemd connects to systemd.
type ReachSystemd struct{}

// StartUnit has systemd make the container's cgroup, as a unit, and put the child into it; after the clone.
type StartUnit struct {
	Two bool `json:",omitempty"` // as in LimitCgroup
}

// MoveDevice moves a network device of the host's into the container's network namespace.
type MoveDevice struct {
	Name string
	As   string // its name there; "": as it is
}

// MakeGate makes the FIFO on which the created container waits, and opens the state directory.
type MakeGate struct{}

func (CloneTree) action()      {}
func (Reserve) action()        {}
func (CheckDevice) action()    {}
func (NewMount) action()       {}
func (OpenNamespace) action()  {}
func (OpenProc) action()       {}
func (MakeCgroup) action()     {}
func (LimitCgroup) action()    {}
func (DelegateCgroup) action() {}
func (LimitPids) action()      {}
func (JoinCgroup) action()     {}
func (ReachSystemd) action()   {}
func (StartUnit) action()      {}
func (MoveDevice) action()     {}
func (MakeGate) action()       {}
func (MakeResctrl) action()    {}
func (JoinResctrl) action()    {}
