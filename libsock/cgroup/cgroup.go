// Package cgroup creates, limits, observes and removes the control groups of
// containers, on cgroup v1 and v2. Hosts in hybrid mode count as v1, as they do
// for runc: limits are set in their v1 hierarchies, and that of v2 is only joined.
//
// A [Group] is one container's cgroup: a directory of the same name in each v1
// hierarchy, or one directory on v2. Its life is New, Create, Set, the join of
// the first process (OpenJoin or Dir) and, in a later process of sock, Open and
// Destroy. What the limits mean follows the runtime spec's config-linux.md and,
// where that is silent, runc.
//
// The files are written with plain system calls: creating, configuring and
// removing a cgroup is a good part of a container's start.
package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Config says which cgroup a container wants.
type Config struct {
	// Path is linux.cgroupsPath. An absolute one is relative to each
	// hierarchy's mount point, a relative one to our own cgroup. Empty means
	// the container's ID below our own cgroup.
	Path string
	// ID is the container's ID.
	ID string
	// Systemd has systemd manage the cgroup, as a unit. Path then has the form
	// slice:prefix:name; where it is empty, the unit is sock-ID.scope in
	// system.slice (rootless: user.slice of the user's systemd).
	Systemd bool
	// Annotations are the container's: org.systemd.property.NAME is a property
	// of the unit.
	Annotations map[string]string
	// Rootless accepts that, without a Path, cgroups may be denied to us: the
	// container then has none in that hierarchy.
	Rootless bool
	// Disabled is for a container that is to stay in our own cgroup: it has
	// none, in no hierarchy, and no device rules. Limits are refused.
	Disabled bool
}

// Group is a container's cgroup.
type Group struct {
	mode     Mode
	dirs     []dir
	denied   []string // hierarchies that refused a rootless cgroup
	rootless bool
	implicit bool // no cgroupsPath: a rootless cgroup may be missing
	disabled bool // none was wanted
	unit     *unit
}

// dir is the group's directory in one hierarchy.
type dir struct {
	Hierarchy
	path  string
	fresh bool // made by this Group's Create, so nothing was ever set in it
}

// Saved is what a state file keeps of a Group.
type Saved struct {
	Mode     string            `json:"mode,omitempty"`
	Paths    map[string]string `json:"paths,omitempty"` // hierarchy name to absolute directory
	Rootless bool              `json:"rootless,omitempty"`
	Disabled bool              `json:"disabled,omitempty"`
	Unit     string            `json:"unit,omitempty"` // of systemd's
}

// New resolves where the cgroup of cfg is to be. It makes nothing.
func New(cfg Config) (*Group, error) {
	mode := HostMode()
	if cfg.Disabled {
		return &Group{mode: mode, rootless: true, disabled: true}, nil
	}
	hierarchies, err := hierarchiesOf(mode)
	if err == errNoHierarchy && cfg.Rootless && cfg.Path == "" {
		err = nil
	}
	if err != nil {
		return nil, err
	}
	return newGroup(cfg, mode, hierarchies)
}

func newGroup(cfg Config, mode Mode, hierarchies []Hierarchy) (*Group, error) {
	g := &Group{mode: mode, rootless: cfg.Rootless, implicit: cfg.Path == ""}
	var path string
	var err error
	if cfg.Systemd {
		path, err = g.newUnit(cfg)
	} else {
		path, err = containerPath(cfg)
	}
	if err != nil {
		return nil, err
	}
	for _, h := range hierarchies {
		base := "/"
		if !filepath.IsAbs(path) {
			base, err = parentCgroup(h, mode)
			if err != nil && !g.optional() {
				return nil, err
			}
		}
		d := dir{Hierarchy: h, path: filepath.Join(h.Mount, base, path)}
		if g.optional() && (err != nil || !d.granted()) {
			g.denied = append(g.denied, h.Controllers...)
			continue
		}
		g.dirs = append(g.dirs, d)
	}
	// A container without device rules is no container (runc refuses, too).
	if mode != Unified && !cfg.Rootless && g.dir("devices") == nil {
		return nil, errors.New("linux.resources.devices: devices hierarchy is not mounted")
	}
	return g, nil
}

// optional tells whether the container can do without a cgroup where we may not make one: as for runc, when it is rootless,
// its config names none, and systemd is not to make it.
func (g *Group) optional() bool { return g.rootless && g.implicit && g.unit == nil }

// granted tells whether we may make the directory and, on v2, join it: that takes the right to move processes within the
// cgroup that has both ours and the new one below it (cgroup-v2.rst, "Delegation Containment").
func (d *dir) granted() bool {
	parent := filepath.Dir(d.path)
	for parent != d.Mount && unix.Access(parent, unix.F_OK) == unix.ENOENT {
		parent = filepath.Dir(parent)
	}
	may := func(path string) bool { return unix.Faccessat(unix.AT_FDCWD, path, unix.W_OK, unix.AT_EACCESS) == nil }
	return may(parent) && (!d.V2 || may(parent+"/cgroup.procs"))
}

// errNone is what acts on a group without a directory end with. It is an fs.ErrNotExist.
var errNone noneError

type noneError struct{}

func (noneError) Error() string {
	return "the container has no cgroup"
}

func (noneError) Is(target error) bool { return target == fs.ErrNotExist }

// None tells that the group has no directory in any hierarchy: none was granted, or wanted.
func (g *Group) None() bool { return len(g.dirs) == 0 }

// Open finds a Group again from what Saved returned.
//
// Each path must be a cgroup below the root of a hierarchy, lest a damaged
// state file make Signal or Destroy work on the whole host.
func Open(saved Saved) (*Group, error) {
	mode, err := parseMode(saved.Mode)
	if err != nil {
		return nil, err
	}
	g := &Group{mode: mode, rootless: saved.Rootless, disabled: saved.Disabled, implicit: true}
	for name, path := range saved.Paths {
		if err := checkSavedPath(path); err != nil {
			return nil, fmt.Errorf("saved cgroup in the %s hierarchy: %w", name, err)
		}
		g.dirs = append(g.dirs, dir{Hierarchy: hierarchyOfName(name), path: path})
		if saved.Unit != "" && filepath.Base(path) != saved.Unit {
			return nil, fmt.Errorf("saved cgroup in the %s hierarchy: %q is not that of %q", name, path, saved.Unit)
		}
	}
	if saved.Unit != "" {
		g.unit = &unit{name: saved.Unit, user: saved.Rootless}
	}
	slices.SortFunc(g.dirs, func(a, b dir) int { return strings.Compare(a.Name, b.Name) })
	return g, nil
}

func checkSavedPath(path string) error {
	if !filepath.IsAbs(path) || filepath.Clean(path) != path {
		return fmt.Errorf("%q is not a clean absolute path", path)
	}
	// A parent that is a cgroup, too, tells a cgroup from a mount point.
	var st unix.Statfs_t
	err := unix.Statfs(filepath.Dir(path), &st)
	if err == unix.ENOENT {
		return nil
	}
	if err != nil {
		return &fs.PathError{Op: "statfs", Path: filepath.Dir(path), Err: err}
	}
	if st.Type != unix.CGROUP_SUPER_MAGIC && st.Type != unix.CGROUP2_SUPER_MAGIC {
		return fmt.Errorf("%q is not below the root of a cgroup hierarchy", path)
	}
	return nil
}

// Saved returns what Open needs to find the group again.
func (g *Group) Saved() Saved {
	s := Saved{Mode: g.mode.String(), Rootless: g.rootless, Disabled: g.disabled, Unit: g.Systemd(), Paths: make(map[string]string, len(g.dirs))}
	for _, d := range g.dirs {
		s.Paths[d.Name] = d.path
	}
	return s
}

// Unified tells whether the group is on cgroup v2.
func (g *Group) Unified() bool { return g.mode == Unified }

// dir returns the group's directory in the hierarchy of a controller; on v2
// that is always the one directory. It is nil where there is none.
func (g *Group) dir(controller string) *dir {
	for i := range g.dirs {
		if g.mode == Unified || slices.Contains(g.dirs[i].Controllers, controller) {
			return &g.dirs[i]
		}
	}
	return nil
}

// main returns the directory that stands for all of them where one must do.
func (g *Group) main() (*dir, error) {
	if d := g.dir("devices"); d != nil {
		return d, nil
	}
	if len(g.dirs) > 0 {
		return &g.dirs[0], nil
	}
	return nil, errNone
}

// Exists tells whether the group's directory is there.
func (g *Group) Exists() bool {
	d, err := g.main()
	return err == nil && unix.Access(d.path, unix.F_OK) == nil
}

// Create makes the group's directories and their missing parents. Existing ones
// are used if they hold no process and are not frozen. After an error nothing
// that Create made is left.
func (g *Group) Create() (err error) {
	var made []string
	defer func() {
		if err != nil {
			for _, path := range slices.Backward(made) {
				_ = unix.Rmdir(path)
			}
		}
	}()
	granted := make([]dir, 0, len(g.dirs))
	for _, d := range g.dirs {
		before := len(made)
		existed, err := makeDir(d.path, &made)
		if err == nil {
			err = d.prepare(made[before:], g.mode)
		}
		switch {
		case err != nil && g.optional() && isDenied(err):
			g.denied = append(g.denied, d.Controllers...)
			continue
		case err != nil:
			return fmt.Errorf("create cgroup: %w", err)
		case existed:
			if err := d.checkUnused(); err != nil {
				return err
			}
		}
		d.fresh = !existed
		granted = append(granted, d)
	}
	g.dirs = granted
	return nil
}

// makeDir makes a directory and its missing parents, appends them to made from
// the top down, and reports whether the directory existed before.
func makeDir(path string, made *[]string) (existed bool, err error) {
	err = unix.Mkdir(path, 0o755)
	if err == unix.ENOENT {
		if _, err := makeDir(filepath.Dir(path), made); err != nil {
			return false, err
		}
		err = unix.Mkdir(path, 0o755)
	}
	switch err {
	case nil:
		*made = append(*made, path)
		return false, nil
	case unix.EEXIST:
		return true, nil
	}
	return false, &fs.PathError{Op: "mkdir", Path: path, Err: err}
}

// prepare makes a new directory and its new parents fit for processes.
func (d *dir) prepare(made []string, mode Mode) error {
	if mode == Unified {
		return d.prepareUnified(made)
	}
	if slices.Contains(d.Controllers, "cpuset") {
		return inheritCpuset(d.Mount, d.path)
	}
	return nil
}

// checkUnused refuses a cgroup that something else is using.
func (d *dir) checkUnused() error {
	pids, err := pidsBelow(d.path)
	if err != nil && !isGone(err) {
		return fmt.Errorf("read processes of the container's cgroup: %w", err)
	}
	if len(pids) > 0 {
		return fmt.Errorf("container's cgroup is not empty: %d process(es) found in %s", len(pids), d.path)
	}
	for _, f := range []struct{ name, frozen string }{{"cgroup.freeze", "1"}, {"freezer.self_freezing", "1"}} {
		if v, err := readTrimmed(d.path, f.name); err == nil && v == f.frozen {
			return fmt.Errorf("container's cgroup unexpectedly frozen: %s", d.path)
		}
	}
	return nil
}

// HasDir tells whether the group has a directory in the v2 hierarchy.
func (g *Group) HasDir() bool { return g.v2() != nil }

func (g *Group) v2() *dir {
	for i := range g.dirs {
		if g.dirs[i].V2 {
			return &g.dirs[i]
		}
	}
	return nil
}

// Dir returns an O_PATH descriptor of the group's directory in the v2 hierarchy,
// for CLONE_INTO_CGROUP. The caller closes it. A host without v2, and a rootless
// group that was denied, have none: the error then is fs.ErrNotExist.
func (g *Group) Dir() (int, error) {
	d := g.v2()
	if d == nil {
		return -1, fmt.Errorf("container has no cgroup in the v2 hierarchy: %w", fs.ErrNotExist)
	}
	fd, err := unix.Open(d.path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &fs.PathError{Op: "open", Path: d.path, Err: err}
	}
	return fd, nil
}

// OpenJoin opens the files into which a single-threaded process writes "0" to
// join the group: tasks in each v1 hierarchy, cgroup.procs on v2. The caller
// closes the descriptors, which are close-on-exec.
//
// On v1 tasks is used because, unlike cgroup.procs, it does not wait for the
// lock on all thread groups, which took up to 17 ms.
func (g *Group) OpenJoin() (files []int, err error) {
	name := "/tasks"
	if g.mode == Unified {
		name = "/cgroup.procs"
	}
	files = make([]int, 0, len(g.dirs))
	for _, d := range g.dirs {
		if d.V2 && g.mode != Unified {
			continue // joined by the clone
		}
		fd, err := open(d.path+name, unix.O_WRONLY)
		if err != nil {
			for _, fd := range files {
				unix.Close(fd)
			}
			return nil, err
		}
		files = append(files, fd)
	}
	return files, nil
}

// destroyPatience is how long Destroy waits for killed processes to leave.
const destroyPatience = time.Second

// Destroy removes the group's directories and the cgroups below them, but not
// their parents. Processes that were just killed may take a moment to leave, so
// it tries for about a second. What is gone already is no error.
func (g *Group) Destroy() error {
	var errs []error
	if g.unit != nil {
		// Stopping a unit kills what is in it: by now that would be somebody
		// else's, who was given the same name.
		if err := g.awaitEmpty(); err != nil {
			return err
		}
		if err := g.unit.stop(); err != nil {
			errs = append(errs, err)
		}
	}
	var deadline time.Time // set once something is busy
	for _, d := range g.dirs {
		err := removeTree(d.path)
		for pause := 50 * time.Microsecond; errors.Is(err, unix.EBUSY); pause = min(2*pause, 20*time.Millisecond) {
			now := time.Now()
			if deadline.IsZero() {
				deadline = now.Add(destroyPatience)
			}
			if now.After(deadline) {
				break
			}
			time.Sleep(pause)
			err = removeTree(d.path)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("remove cgroup: %w", err))
		}
	}
	return errors.Join(errs...)
}

// removeTree removes a cgroup and those below it.
func removeTree(path string) error {
	err := unix.Rmdir(path)
	if err == nil || err == unix.ENOENT {
		return nil
	}
	// Having cgroups below it is one reason; a read-only mount, which answers
	// EROFS even for what does not exist, is another.
	children, readErr := subdirs(path)
	if isGone(readErr) {
		return nil
	}
	for _, child := range children {
		if err := removeTree(filepath.Join(path, child)); err != nil {
			return err
		}
	}
	if len(children) > 0 {
		err = unix.Rmdir(path)
		if err == nil || err == unix.ENOENT {
			return nil
		}
	}
	return &fs.PathError{Op: "rmdir", Path: path, Err: err}
}

// MountSource is one hierarchy as a container's cgroup mount shows it.
type MountSource struct {
	// Name is the directory's name under /sys/fs/cgroup; empty on v2, where
	// the hierarchy is mounted there itself.
	Name string
	// Links are the names of symbolic links to Name, such as cpu to
	// cpu,cpuacct.
	Links []string
	// Dir is the host's path of the container's own cgroup.
	Dir string
	// Data are the options for `mount -t cgroup -o`; empty on v2.
	Data string
	// Managed tells that systemd puts the group's first process into it.
	Managed bool
}

// MountSources lists what a mount of type cgroup shows in the container.
func (g *Group) MountSources() []MountSource {
	sources := make([]MountSource, 0, len(g.dirs))
	for _, d := range g.dirs {
		s := MountSource{Dir: d.path, Managed: g.unit != nil && d.managed(g.mode)}
		switch {
		case d.V2 && g.mode != Unified:
			continue
		case g.mode == Unified:
		case len(d.Controllers) == 0:
			s.Name, s.Data = d.Name, "none,name="+d.Name
		default:
			s.Name, s.Data = d.Name, strings.Join(d.Controllers, ",")
			if len(d.Controllers) > 1 {
				s.Links = d.Controllers
			}
		}
		sources = append(sources, s)
	}
	return sources
}
