package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/sock-runtime/sock/libsock/cgroup/dbus"
)

// unit is the scope of systemd's that holds the group, where systemd manages cgroups (org.freedesktop.systemd1(5),
// systemd.scope(5)). systemd makes its directories and puts the first process into them; we write into them what systemd
// has no property for, which Delegate=yes allows.
type unit struct {
	name, slice string
	container   string // the container's ID
	user        bool   // of the user's systemd
	properties  []property
	conn        *dbus.Conn // nil: not connected yet
	version     int        // systemd's, 0: not asked yet
}

// property is a setting of a unit.
type property struct {
	name  string
	value dbus.Variant
}

// Where systemd is.
const (
	destination = "org.freedesktop.systemd1"
	objectPath  = "/org/freedesktop/systemd1"
	manager     = "org.freedesktop.systemd1.Manager"
)

// Error replies.
const (
	errUnitExists = "org.freedesktop.systemd1.UnitExists"
	errNoSuchUnit = "org.freedesktop.systemd1.NoSuchUnit"
)

// errNoSystemd begins with what runc says then.
var errNoSystemd = errors.New("systemd cgroup flag passed, but systemd support for managing cgroups is not available")

// unitPatience is how long systemd may take for an answer, and for a job. While it reloads itself it doesn't answer at all.
var unitPatience = 30 * time.Second

// IsUnit says whether linux.cgroupsPath has the form of a unit's, slice:prefix:name, in which nobody writes a directory.
func IsUnit(path string) bool {
	slice, rest, _ := strings.Cut(path, ":")
	return strings.HasSuffix(slice, ".slice") && strings.Count(rest, ":") == 1 && !strings.Contains(path, "/")
}

// parseUnit reads linux.cgroupsPath in the form that the systemd driver takes, slice:prefix:name, as runc does.
func parseUnit(cfg Config) (*unit, error) {
	u := &unit{slice: "system.slice", container: cfg.ID, user: cfg.Rootless}
	if cfg.Rootless {
		u.slice = "user.slice"
	}
	prefix, name := "sock", cfg.ID
	if cfg.Path != "" {
		parts := strings.Split(cfg.Path, ":")
		if len(parts) != 3 || parts[2] == "" {
			return nil, fmt.Errorf(`linux.cgroupsPath: expected cgroupsPath to be of format "slice:prefix:name" for systemd cgroups, got %q instead`, cfg.Path)
		}
		if parts[0] != "" {
			u.slice = parts[0]
		}
		prefix, name = parts[1], parts[2]
	}
	if strings.HasSuffix(name, ".slice") {
		// runc gives systemd a process to put into it, which systemd refuses.
		return nil, fmt.Errorf("linux.cgroupsPath: %q is a slice: it holds units, not a container's processes", name)
	}
	u.name = prefix + "-" + name + ".scope"
	if err := checkUnitName(u.name); err != nil {
		return nil, fmt.Errorf("linux.cgroupsPath: %w", err)
	}
	if _, err := expandSlice(u.slice); err != nil {
		return nil, fmt.Errorf("linux.cgroupsPath: %w", err)
	}
	var err error
	u.properties, err = annotatedProperties(cfg.Annotations)
	return u, err
}

// checkUnitName holds a name to what systemd.unit(5) allows. It becomes a part of paths.
func checkUnitName(name string) error {
	const longest = 255
	const valid = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789:-_.\\@"
	if len(name) > longest || strings.Trim(name, valid) != "" || strings.ContainsFunc(name, func(r rune) bool { return !strings.ContainsRune(valid, r) }) {
		return fmt.Errorf("%q can't be the name of a systemd unit", name)
	}
	return nil
}

// expandSlice gives the cgroup of a slice, whose name says what slices it is in: a-b.slice is in a.slice (systemd.slice(5)).
func expandSlice(slice string) (string, error) {
	name, ok := strings.CutSuffix(slice, ".slice")
	if !ok || checkUnitName(slice) != nil {
		return "", fmt.Errorf("invalid slice name: %q", slice)
	}
	if name == "-" {
		return "/", nil
	}
	path, prefix := "", ""
	for part := range strings.SplitSeq(name, "-") {
		if part == "" {
			return "", fmt.Errorf("invalid slice name: %q", slice)
		}
		prefix += part
		path += "/" + prefix + ".slice"
		prefix += "-"
	}
	return path, nil
}

// cgroup is where systemd has the unit, relative to the root of each hierarchy.
func (u *unit) cgroup() (string, error) {
	slice, err := expandSlice(u.slice)
	if err != nil {
		return "", err
	}
	if !u.user {
		return filepath.Join(slice, u.name), nil
	}
	// The user's systemd has a cgroup of its own.
	defer u.close()
	own, err := u.ask("ControlGroup")
	if err != nil {
		return "", err
	}
	if slices.Contains(strings.Split(own, "/"), "..") {
		return "", fmt.Errorf("systemd says that its cgroup is %q", own)
	}
	return filepath.Join("/", own, slice, u.name), nil
}

// connect connects to systemd: by its own socket if we are root, which is quicker and needs no message bus, else by the bus.
func (u *unit) connect() error {
	if u.conn != nil {
		return nil
	}
	conn, err := dialSystemd(u.user)
	if err == nil {
		err = conn.Subscribe("type='signal',interface='" + manager + "',member='JobRemoved',path='" + objectPath + "'")
		if err != nil {
			conn.Close()
		}
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errNoSystemd, err)
	}
	u.conn = conn
	return nil
}

func dialSystemd(user bool) (*dbus.Conn, error) {
	address, private, bus := os.Getenv("DBUS_SYSTEM_BUS_ADDRESS"), "/run/systemd/private", "/run/dbus/system_bus_socket"
	if user {
		dir := os.Getenv("XDG_RUNTIME_DIR")
		address, private, bus = os.Getenv("DBUS_SESSION_BUS_ADDRESS"), dir+"/systemd/private", dir+"/bus"
		if address == "" && dir == "" {
			return nil, errors.New("neither DBUS_SESSION_BUS_ADDRESS nor XDG_RUNTIME_DIR is set")
		}
	}
	if address != "" {
		return dbus.Dial(address, true, unitPatience)
	}
	var first error
	if user || os.Geteuid() == 0 {
		conn, err := dbus.Dial(dbus.SocketAddress(private), false, unitPatience)
		if err == nil {
			return conn, nil
		}
		first = err
	}
	conn, err := dbus.Dial(dbus.SocketAddress(bus), true, unitPatience)
	if err != nil && first != nil {
		err = fmt.Errorf("%w; %w", first, err)
	}
	return conn, err
}

// close ends the connection; the next call makes another.
func (u *unit) close() {
	if u.conn != nil {
		u.conn.Close()
		u.conn = nil
	}
}

// call calls a method of systemd's manager.
func (u *unit) call(method, signature string, args ...any) ([]any, error) {
	if err := u.connect(); err != nil {
		return nil, err
	}
	answer, err := u.conn.Call(destination, objectPath, manager, method, signature, args...)
	if err != nil && !isReply(err) {
		u.close() // what comes over it now would answer this call
	}
	return answer, err
}

// isReply tells a refusal by systemd from a failure to ask.
func isReply(err error) bool {
	var refusal *dbus.Error
	return errors.As(err, &refusal)
}

func isError(err error, name string) bool {
	var refusal *dbus.Error
	return errors.As(err, &refusal) && refusal.Name == name
}

// lost tells that systemd has gone away, so that nobody knows what became of a call. The bus then answers itself, with one of
// its own errors.
func lost(err error) bool {
	if errors.Is(err, errNoSystemd) || errors.Is(err, dbus.ErrClosed) {
		return true
	}
	var answer *dbus.Error
	if !errors.As(err, &answer) {
		return false
	}
	name, _ := strings.CutPrefix(answer.Name, "org.freedesktop.DBus.Error.")
	return strings.HasPrefix(name, "Spawn.") || slices.Contains([]string{"NoReply", "ServiceUnknown", "NameHasNoOwner", "Disconnected"}, name)
}

// ask returns a property of the manager that is a string.
func (u *unit) ask(name string) (string, error) {
	if err := u.connect(); err != nil {
		return "", err
	}
	answer, err := u.conn.Call(destination, objectPath, "org.freedesktop.DBus.Properties", "Get", "ss", manager, name)
	if err != nil {
		return "", fmt.Errorf("ask systemd for %s: %w", name, err)
	}
	if len(answer) == 1 {
		if v, ok := answer[0].(dbus.Variant); ok {
			if s, ok := v.Value.(string); ok {
				return s, nil
			}
		}
	}
	return "", fmt.Errorf("ask systemd for %s: got %v", name, answer)
}

// atLeast tells whether systemd has a version, such as 252 for "252.39-1~deb12u1" or "v252".
func (u *unit) atLeast(version int) bool {
	if u.version == 0 {
		u.version = -1
		if text, err := u.ask("Version"); err == nil {
			_, _ = fmt.Sscanf(strings.TrimLeft(text, "v"), "%d", &u.version)
		}
	}
	return u.version >= version
}

// job calls a method that starts a job, and waits for its end.
func (u *unit) job(method, signature string, args ...any) error {
	answer, err := u.call(method, signature, args...)
	if err != nil {
		return err
	}
	if len(answer) != 1 {
		return fmt.Errorf("%s: systemd answered %v", method, answer)
	}
	// JobRemoved(id, job, unit, result)
	end, err := u.conn.Await(func(s *dbus.Signal) bool {
		return s.Member == "JobRemoved" && s.Interface == manager && len(s.Body) == 4 && s.Body[1] == answer[0]
	})
	if err != nil {
		u.close()
		return fmt.Errorf("wait for systemd: %w", err)
	}
	if end.Body[3] != "done" {
		return fmt.Errorf("systemd's job ended with result %q", end.Body[3])
	}
	return nil
}

// start has systemd make the unit with a process in it. started says that there may be a unit of ours, also after an error.
func (u *unit) start(pid int, limits []property) (started bool, err error) {
	properties := []property{
		{"Description", dbus.Variant{Signature: "s", Value: "sock container " + u.container}},
		{"Slice", dbus.Variant{Signature: "s", Value: u.slice}},
		{"Delegate", dbus.Variant{Signature: "b", Value: true}},
		{"PIDs", dbus.Variant{Signature: "au", Value: []any{uint32(pid)}}},
		{"MemoryAccounting", dbus.Variant{Signature: "b", Value: true}},
		{"CPUAccounting", dbus.Variant{Signature: "b", Value: true}},
		{"TasksAccounting", dbus.Variant{Signature: "b", Value: true}},
		{"DefaultDependencies", dbus.Variant{Signature: "b", Value: false}},
	}
	properties = slices.Concat(properties, limits, u.properties)
	args := []any{u.name, "replace", pairs(properties), []any{}}
	const signature = "ssa(sv)a(sa(sv))"
	err = u.job("StartTransientUnit", signature, args...)
	if isError(err, errUnitExists) {
		// It may be one that has failed and is only remembered.
		_, _ = u.call("ResetFailedUnit", "s", u.name)
		err = u.job("StartTransientUnit", signature, args...)
	}
	if err != nil {
		return !isReply(err) || lost(err), fmt.Errorf("start systemd unit %s: %w", u.name, err)
	}
	return true, nil
}

func pairs(properties []property) []any {
	list := make([]any, 0, len(properties))
	for _, p := range properties {
		list = append(list, []any{p.name, p.value})
	}
	return list
}

// set changes properties of the running unit, until it ends.
func (u *unit) set(properties []property) error {
	if len(properties) == 0 {
		return nil
	}
	if _, err := u.call("SetUnitProperties", "sba(sv)", u.name, true, pairs(properties)); err != nil {
		return fmt.Errorf("set properties of systemd unit %s: %w", u.name, err)
	}
	return nil
}

// stop has systemd remove the unit, in which there is no process any more. That it is gone already is no error, since that
// is what systemd does with a scope that is empty; so it is none either if systemd itself has gone.
func (u *unit) stop() error {
	defer u.close()
	err := u.job("StopUnit", "ss", u.name, "replace")
	if lost(err) { // as it is for a moment when systemd executes itself anew
		u.close()
		err = u.job("StopUnit", "ss", u.name, "replace")
	}
	switch {
	case isError(err, errNoSuchUnit):
	case lost(err):
		return nil
	case err != nil:
		return fmt.Errorf("stop systemd unit %s: %w", u.name, err)
	}
	_, _ = u.call("ResetFailedUnit", "s", u.name) // one that has failed stays until then
	return nil
}

// SystemdVersion asks systemd, the user's or the host's, for its version: the systemd driver works where there is one.
func SystemdVersion(user bool) (string, error) {
	conn, err := dialSystemd(user)
	if err != nil {
		return "", err
	}
	u := &unit{user: user, conn: conn}
	defer u.close()
	return u.ask("Version")
}

// Systemd says which unit of systemd's the group is; "" if it is none.
func (g *Group) Systemd() string {
	if g.unit == nil {
		return ""
	}
	return g.unit.name
}

// Reach connects to systemd, before there is anything to take back if it isn't there.
func (g *Group) Reach() error { return g.unit.connect() }

// Release closes the connection to systemd that Reach made, if it is still open.
func (g *Group) Release() {
	if g.unit != nil {
		g.unit.close()
	}
}

// StartUnit has systemd make the group's unit, with its limits and a process, which waits for that, in it. Hierarchies of v1
// that systemd doesn't manage are left to the process: only their directories are made. started says that something may have
// to be taken back, also after an error.
func (g *Group) StartUnit(pid int, r *specs.LinuxResources) (started bool, err error) {
	defer g.unit.close()
	properties, err := g.unitProperties(r)
	if err != nil {
		return false, err
	}
	if started, err = g.unit.start(pid, properties); err != nil {
		return started, err
	}
	for _, d := range g.dirs {
		if d.managed(g.mode) {
			continue
		}
		var made []string
		if _, err := makeDir(d.path, &made); err != nil {
			return true, fmt.Errorf("create cgroup: %w", err)
		}
		if err := d.prepare(made, g.mode); err != nil {
			return true, fmt.Errorf("create cgroup: %w", err)
		}
	}
	return true, nil
}

// newUnit makes the group a unit of systemd's and returns the path of its cgroup.
func (g *Group) newUnit(cfg Config) (string, error) {
	if cfg.Rootless && g.mode != Unified {
		return "", errors.New("linux.cgroupsPath: the systemd cgroup driver can't be used without root on cgroup v1")
	}
	u, err := parseUnit(cfg)
	if err != nil {
		return "", err
	}
	g.unit = u
	return u.cgroup()
}

// updateUnit tells systemd of changed limits before they are written. On v1 the container is frozen meanwhile: systemd may
// write the device rules anew, and it denies all devices first.
func (g *Group) updateUnit(r *specs.LinuxResources) error {
	if g.unit == nil {
		return nil
	}
	defer g.unit.close()
	settings, err := g.settings(r, true)
	if err != nil {
		return err
	}
	properties, err := g.unit.limits(settings, g.mode)
	if err != nil || len(properties) == 0 {
		return err
	}
	if g.mode != Unified {
		frozen, err := g.Frozen()
		if err != nil {
			return err
		}
		if !frozen {
			if err := g.Freeze(); err != nil {
				return err
			}
			defer func() { _ = g.Thaw() }()
		}
	}
	return g.unit.set(properties)
}

// managed tells whether systemd makes the directory and puts processes into it by all means: on v1 and hybrid hosts the
// hierarchies in which it tracks processes.
func (d *dir) managed(mode Mode) bool {
	return mode != Unified && (d.V2 || d.Name == systemdHierarchy)
}

// systemdHierarchy is the named hierarchy of v1 in which systemd tracks processes.
const systemdHierarchy = "systemd"

// awaitEmpty waits until killed processes have left the group. Errors: EBUSY, there are others.
func (g *Group) awaitEmpty() error {
	deadline := time.Now().Add(destroyPatience)
	for pause := 50 * time.Microsecond; ; pause = min(2*pause, 20*time.Millisecond) {
		pids, err := g.Pids(true)
		if len(pids) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return errors.Join(fmt.Errorf("stop systemd unit %s: %d process(es) are in it", g.unit.name, len(pids)), err)
		}
		time.Sleep(pause)
	}
}
