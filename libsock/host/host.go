// Package host executes a plan's host steps: it is where the parent's system calls are made, in ordinary Go with ordinary
// errors. Everything it opens stays in a table of named descriptors that the child's instructions refer to.
package host

import (
	"fmt"
	"path"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/sock-runtime/sock/libsock/cgroup"
	"github.com/sock-runtime/sock/libsock/plan"
	"github.com/sock-runtime/sock/libsock/resctrl"
)

// Host carries out the steps of one plan.
type Host struct {
	Group      *cgroup.Group // nil: no cgroup
	Resources  *specs.LinuxResources
	MadeCgroup bool           // set by the step
	Resctrl    *resctrl.Group // nil: linux.intelRdt does not ask for one
	IntelRdt   *specs.LinuxIntelRdt
	Child      int // pid, once it is cloned
	Rootfs     string
	StateDir   string

	fds     map[string]int
	devices networkDevices
}

// Do executes steps in order. After an error the caller closes and undoes.
func (h *Host) Do(steps []plan.Step) error {
	for _, s := range steps {
		if err := h.do(s.Do); err != nil {
			switch {
			case s.From == "":
				return fmt.Errorf("%s: %w", s.Does, err)
			case strings.HasPrefix(err.Error(), s.From): // it names the field itself, more closely
				return err
			}
			return fmt.Errorf("%s: %s: %w", s.From, s.Does, err)
		}
	}
	return nil
}

// Descriptors is the table of what was opened, by the names that the plan gave.
func (h *Host) Descriptors() map[string]int { return h.fds }

// Keep adds a descriptor under a name; Close will close it.
func (h *Host) Keep(name string, fd int) {
	if h.fds == nil {
		h.fds = map[string]int{}
	}
	if old, ok := h.fds[name]; ok {
		_ = unix.Close(old)
	}
	h.fds[name] = fd
}

// Close closes all descriptors.
func (h *Host) Close() {
	for _, fd := range h.fds {
		_ = unix.Close(fd)
	}
	h.fds = nil
	h.devices.close()
	if h.Group != nil {
		h.Group.Release()
	}
}

func (h *Host) do(a plan.Action) error {
	switch a := a.(type) {
	case plan.CloneTree:
		return h.cloneTree(a)
	case plan.Reserve:
		return h.reserve(a.Out)
	case plan.CheckDevice:
		return checkDevice(a)
	case plan.NewMount:
		return h.newMount(a)
	case plan.OpenNamespace:
		return h.openNamespace(a)
	case plan.OpenProc:
		return h.openProc(a.Out)
	case plan.MakeCgroup:
		if err := h.Group.Create(); err != nil {
			return err
		}
		h.MadeCgroup = true
		return nil
	case plan.LimitCgroup:
		return h.Group.Set(h.resources(a.Two))
	case plan.LimitPids:
		return h.Group.UpdateSet(&specs.LinuxResources{Pids: h.Resources.Pids})
	case plan.DelegateCgroup:
		return h.Group.Delegate(int(a.UID))
	case plan.JoinCgroup:
		return h.joinCgroup()
	case plan.MakeResctrl:
		return h.Resctrl.Make(h.IntelRdt)
	case plan.JoinResctrl:
		return h.joinResctrl()
	case plan.ReachSystemd:
		return h.Group.Reach()
	case plan.StartUnit:
		var err error
		h.MadeCgroup, err = h.Group.StartUnit(h.Child, h.resources(a.Two))
		return err
	case plan.MoveDevice:
		return h.moveDevice(a)
	case plan.MakeGate:
		return h.makeGate()
	default:
		return fmt.Errorf("unknown host step %T", a)
	}
}

// resources are the limits to set, if need be with room for two processes.
func (h *Host) resources(two bool) *specs.LinuxResources {
	if !two {
		return h.Resources
	}
	r := *h.Resources
	r.Pids = &specs.LinuxPids{Limit: new(int64(2))}
	return &r
}

func (h *Host) cloneTree(a plan.CloneTree) error {
	flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC)
	if a.Recursive {
		flags |= unix.AT_RECURSIVE
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, a.Path, flags)
	if err != nil {
		return err
	}
	h.Keep(a.Out, fd)
	if a.Device != 0 {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			return err
		}
		if err := isDevice(a.Path, &st, a.Device); err != nil {
			return err
		}
	}
	if a.IDMap != nil {
		if err := h.idMap(fd, a.IDMap); err != nil {
			return fmt.Errorf("idmap: %w", err)
		}
	}
	return setAttrs(fd, a.Attrs)
}

func isDevice(name string, st *unix.Stat_t, device uint64) error {
	if st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != device {
		return fmt.Errorf("%s is not the device %d:%d", name, unix.Major(device), unix.Minor(device))
	}
	return nil
}

func checkDevice(a plan.CheckDevice) error {
	var st unix.Stat_t
	if err := unix.Stat(a.Path, &st); err != nil {
		return err
	}
	return isDevice(a.Path, &st, a.Device)
}

func (h *Host) reserve(out string) error {
	fd, err := unix.Open("/", unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	h.Keep(out, fd)
	return nil
}

func setAttrs(fd int, attrs []plan.Attr) error {
	for _, a := range attrs {
		flags := uint(unix.AT_EMPTY_PATH)
		if a.Recursive {
			flags |= unix.AT_RECURSIVE
		}
		err := unix.MountSetattr(fd, "", flags, &unix.MountAttr{Attr_set: a.Set, Attr_clr: a.Clear, Propagation: a.Propagation})
		if err != nil {
			return fmt.Errorf("set attributes: %w", err)
		}
	}
	return nil
}

// longestOption is what fsconfig(2) takes of a string, without its NUL.
const longestOption = 255

func (h *Host) newMount(a plan.NewMount) error {
	fs, err := unix.Fsopen(a.Type, unix.FSOPEN_CLOEXEC)
	if err != nil {
		if err == unix.ENODEV {
			return fmt.Errorf("unknown filesystem type %q", a.Type)
		}
		return err
	}
	defer unix.Close(fs)
	explain := func(what string, err error) error {
		if log := messages(fs); log != "" {
			return fmt.Errorf("%s: %w (%s)", what, err, log)
		}
		return fmt.Errorf("%s: %w", what, err)
	}
	if err := unix.FsconfigSetString(fs, "source", a.Source); err != nil {
		return explain("source "+a.Source, err)
	}
	for _, key := range a.Super {
		if err := unix.FsconfigSetFlag(fs, key); err != nil {
			return explain(key, err)
		}
	}
	options := a.Options
	if mode, ok := h.modeOf(a.ModeOf); ok {
		options = append(options[:len(options):len(options)], mode)
	}
	for _, option := range expand(a.Type, options) {
		key, value, ok := strings.Cut(option, "=")
		if len(value) > longestOption {
			return fmt.Errorf("option %s is longer than the %d bytes that fsconfig takes", key, longestOption)
		}
		if ok {
			err = unix.FsconfigSetString(fs, key, value)
		} else {
			err = unix.FsconfigSetFlag(fs, key)
		}
		if err != nil {
			return explain("option "+option, err)
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return explain("create", err)
	}
	if a.Context {
		keep, err := unix.FcntlInt(uintptr(fs), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			return err
		}
		h.Keep(a.Out, keep)
		return nil
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, int(a.Attrs))
	if err != nil {
		return explain("mount", err)
	}
	h.Keep(a.Out, fd)
	for _, dir := range a.Dirs {
		if err := unix.Mkdirat(fd, dir, 0o755); err != nil {
			return fmt.Errorf("make directory %s: %w", dir, err)
		}
	}
	for _, file := range a.Files {
		if err := unix.Mknodat(fd, file, unix.S_IFREG|0o600, 0); err != nil {
			return fmt.Errorf("make file %s: %w", file, err)
		}
	}
	for _, link := range a.Links {
		if err := unix.Symlinkat(link[0], fd, link[1]); err != nil {
			return fmt.Errorf("link %s: %w", link[1], err)
		}
	}
	if a.CopyUp != "" {
		if err := h.copyUp(a.CopyUp, fd); err != nil {
			return fmt.Errorf("copy up: %w", err)
		}
	}
	return setAttrs(fd, a.After)
}

// expand splits overlay's list of lower directories, if it exceeds what fsconfig takes, into one option each (Linux 6.8).
// Lists of up to a page don't come here: the plan gives them to mount(2).
func expand(fstype string, options []string) []string {
	if fstype != "overlay" {
		return options
	}
	var list []string
	for _, option := range options {
		value, ok := strings.CutPrefix(option, "lowerdir=")
		if !ok || len(value) <= longestOption || strings.Contains(value, "::") || strings.Contains(value, `\`) {
			list = append(list, option)
			continue
		}
		for _, dir := range strings.Split(value, ":") {
			list = append(list, "lowerdir+="+dir)
		}
	}
	return list
}

// messages reads what the filesystem logged about the last error, fsopen(2).
func messages(fs int) string {
	var lines []string
	buf := make([]byte, 512)
	for {
		n, err := unix.Read(fs, buf)
		if err != nil || n <= 0 {
			return strings.Join(lines, "; ")
		}
		line := strings.TrimSpace(string(buf[:n]))
		if len(line) > 2 && line[1] == ' ' { // "e " or "w " in front
			line = line[2:]
		}
		lines = append(lines, line)
	}
}

// modeOf gives a tmpfs the mode of the directory that it covers, as runc does.
func (h *Host) modeOf(name string) (string, bool) {
	if name == "" {
		return "", false
	}
	dir, err := h.openInRoot(name)
	if err != nil {
		return "", false
	}
	defer unix.Close(dir)
	var st unix.Stat_t
	if err := unix.Fstat(dir, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return "", false
	}
	return "mode=" + strconv.FormatUint(uint64(st.Mode&0o7777), 8), true
}

func (h *Host) openNamespace(a plan.OpenNamespace) error {
	fd, err := unix.Open(a.Path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	h.Keep(a.Out, fd)
	kind, err := unix.IoctlRetInt(fd, unix.NS_GET_NSTYPE)
	if err != nil {
		return fmt.Errorf("%s is not a namespace", a.Path)
	}
	if kind != a.Flag {
		return fmt.Errorf("%s is a namespace of another type", a.Path)
	}
	return nil
}

func (h *Host) openProc(out string) error {
	fd, err := unix.Open("/proc", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	h.Keep(out, fd)
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil {
		return err
	}
	if st.Type != unix.PROC_SUPER_MAGIC {
		return fmt.Errorf("/proc is not a procfs")
	}
	return nil
}

func (h *Host) joinCgroup() error {
	if h.Group.HasDir() {
		fd, err := h.Group.Dir()
		if err != nil {
			return err
		}
		h.Keep("cgroup", fd)
	}
	if h.Group.Unified() {
		return nil
	}
	fds, err := h.Group.OpenJoin()
	if err != nil {
		return err
	}
	for i, m := range h.Group.MountSources() { // in the same order
		h.Keep("cgroup."+m.Name, fds[i])
	}
	return nil
}

func (h *Host) joinResctrl() error {
	for i, file := range h.Resctrl.Tasks() {
		fd, err := unix.Open(file, unix.O_WRONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open %s: %w", file, err)
		}
		h.Keep(plan.ResctrlFile(i), fd)
	}
	return nil
}

func (h *Host) makeGate() error {
	if err := unix.Mkfifo(path.Join(h.StateDir, plan.GateFile), 0o600); err != nil {
		return err
	}
	fd, err := unix.Open(h.StateDir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	h.Keep("state", fd)
	return nil
}

// openInRoot opens a directory of the rootfs; symbolic links don't lead out of it.
func (h *Host) openInRoot(name string) (int, error) {
	root, err := unix.Open(h.Rootfs, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(root)
	return unix.Openat2(root, name, &unix.OpenHow{Flags: unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT})
}
