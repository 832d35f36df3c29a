// Package libsock creates, starts, joins and removes OCI containers. It is what the sock command and the containerd shim
// are made of.
//
// One container goes through it in one direction: package spec reads config.json, package plan turns it into a Plan,
// launch carries the plan out, and package state remembers what later commands need.
package libsock

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/sock-runtime/sock/libsock/cgroup"
	"github.com/sock-runtime/sock/libsock/host"
	"github.com/sock-runtime/sock/libsock/plan"
	"github.com/sock-runtime/sock/libsock/resctrl"
	"github.com/sock-runtime/sock/libsock/state"
	"github.com/sock-runtime/sock/spec"
)

// Errors that callers distinguish.
var (
	ErrNotExist   = state.ErrNotExist
	ErrExists     = state.ErrExists
	ErrNotRunning = fmt.Errorf("container not running")
)

// Runtime holds what all containers of one state directory share. It may be used by many goroutines.
type Runtime struct {
	Root          string // absolute directory of all states
	SystemdCgroup bool
	NoCgroup      bool   // containers get no cgroup, and stay in ours
	Rootless      bool   // cgroups may be denied to us
	UserNS        bool   // we are in a user namespace, and not the host's root even if our uid is 0
	Profile       string // plan.Standard or plan.Lean
	ProfileFrom   string // who has chosen it, for errors
	Log           *slog.Logger
	Reaper        Reaper // nil: we wait for our children ourselves
	CloneParent   bool   // processes become children of our own parent; needs a Reaper

	// AnnotationProfiles are those that config.json's annotation may choose: who writes annotations, a pod's author say, isn't
	// who decides for the host. Nil is plan.Standard alone.
	AnnotationProfiles []string
	// SystemdPaths has systemd make a cgroup also without SystemdCgroup if cgroupsPath has the form slice:prefix:name.
	SystemdPaths bool
}

// CreateOptions are the arguments of create and run.
type CreateOptions struct {
	ID            string
	Bundle        string // absolute
	ConsoleSocket string // AF_UNIX socket that takes the pty's master
	KeepConsole   bool   // the pty's master stays with the Container instead
	Stdio         *Stdio // nil: the process inherits the caller's
	PidfdSocket   string // AF_UNIX socket that takes the process's pidfd
	PidFile       string
	NoPivot       bool
	NoNewKeyring  bool
	PreserveFDs   int    // descriptors from 3 on that the process inherits
	ListenFDs     int    // how many of them it is told of as sockets that systemd passed, sd_listen_fds(3)
	NotifySocket  string // where the service manager listens, sd_notify(3); "" if none does
	// Amend, if not nil, changes what was read from config.json before it is validated.
	Amend func(*specs.Spec) error

	pipes bool // stand between our stdio and the process where it would have to be given away
}

// prepared is a container whose config was read and whose plan is made; nothing has happened yet.
type prepared struct {
	config  *specs.Spec
	group   *cgroup.Group
	plan    *plan.Plan
	opt     plan.Options
	filter  *plan.Filter   // nil: none
	resctrl *resctrl.Group // nil: none
	pidfds  *pidfdSocket
	pipes   *pipes // nil: none
	notify  *notifier
	beside  host.Host // carries out what the child pauses for
	// beforeExec, if not nil, runs while a process without a gate waits to execute.
	beforeExec func() error
}

func hasStartHooks(h *specs.Hooks) bool { return h != nil && len(h.StartContainer) > 0 }

// notifies says whether a listener has to be passed on.
func notifies(f *plan.Filter) bool { return f != nil && f.Notify }

// Plan says what creating the container would do, and does nothing.
func (r *Runtime) Plan(o CreateOptions) (*plan.Plan, error) {
	p, err := r.prepare(o, true)
	if err != nil {
		return nil, err
	}
	return p.plan, nil
}

// prepare reads, validates and plans. gate says whether the process is to wait for start.
func (r *Runtime) prepare(o CreateOptions, gate bool) (*prepared, error) {
	if err := state.CheckID(o.ID); err != nil {
		return nil, err
	}
	config, err := spec.Load(o.Bundle)
	if err != nil {
		return nil, err
	}
	if o.Amend != nil {
		if err := o.Amend(config); err != nil {
			return nil, err
		}
	}
	if err := spec.Validate(config, o.Bundle); err != nil {
		return nil, err
	}
	for _, warning := range spec.Warnings(config) {
		r.Log.Warn(warning)
	}
	profile, err := r.profile(config)
	if err != nil {
		return nil, err
	}
	rootfs := config.Root.Path
	if !filepath.IsAbs(rootfs) {
		rootfs = filepath.Join(o.Bundle, rootfs)
	}
	stripRootfs(config.Mounts, rootfs)
	p := &prepared{config: config}
	if config.Linux != nil && len(config.Linux.NetDevices) > 0 && r.Rootless {
		return nil, spec.Field("linux.netDevices", "not possible without root on the host")
	}
	linux := config.Linux
	if linux == nil {
		linux = &specs.Linux{}
	}
	p.group, err = cgroup.New(cgroup.Config{
		Path: linux.CgroupsPath, ID: o.ID, Annotations: config.Annotations, Rootless: r.Rootless,
		Disabled: r.NoCgroup, Systemd: r.SystemdCgroup || r.SystemdPaths && cgroup.IsUnit(linux.CgroupsPath),
	})
	if err != nil {
		return nil, err
	}
	p.opt = plan.Options{
		ID: o.ID, Bundle: o.Bundle, Rootfs: rootfs, Gate: gate, Console: config.Process.Terminal, NoPivot: o.NoPivot,
		NoKeyring: o.NoNewKeyring, PreserveFDs: o.PreserveFDs, Profile: profile, Stdio: o.Stdio != nil,
		Env: listenVariables(o.ListenFDs),
	}
	if o.NotifySocket != "" {
		p.opt.Notify = filepath.Join(r.Root, o.ID, notifyDir)
		p.opt.Env = append(p.opt.Env, notifyVariable)
	}
	if o.pipes {
		if p.pipes, err = openPipes(config.Process, hostUID(config, config.Process.User.UID)); err != nil {
			return nil, err
		}
		if p.pipes != nil {
			o.Stdio, p.opt.Stdio = p.pipes.files(), true
		}
	}
	facts, err := r.initFacts(config, p.opt, p.group, o.Stdio)
	if err != nil {
		return nil, err
	}
	if facts.Filter, err = r.compileFilter(config); err != nil {
		return nil, err
	}
	if p.resctrl, err = resctrlGroup(o.ID, config.Linux); err != nil {
		return nil, err
	}
	facts.Resctrl = resctrlFacts(p.resctrl)
	p.filter = facts.Filter
	p.opt.Pause = !gate && (hasStartHooks(config.Hooks) || notifies(p.filter) || config.Process.Terminal)
	if p.plan, err = plan.Build(config, p.opt, facts); err != nil {
		return nil, err
	}
	r.logPlan(p.plan)
	return p, nil
}

// protected says whether this program's file is protected from whoever can see the container's init.
func (p *prepared) protected() error {
	return initVisibility(joinFlags(p.config), makesPIDs(p.config)).check()
}

// logPlan tells a debug log everything that is going to happen: what happened, if no error follows.
func (r *Runtime) logPlan(p *plan.Plan) {
	if !r.Log.Enabled(context.Background(), slog.LevelDebug) {
		return
	}
	var text strings.Builder
	_ = p.Print(&text) // a Builder takes everything
	for line := range strings.Lines(text.String()) {
		r.Log.Debug("plan: " + strings.TrimSuffix(line, "\n"))
	}
}

// stripRootfs takes a destination below the rootfs's own path on the host as one in the container, as runc does.
func stripRootfs(mounts []specs.Mount, rootfs string) {
	for i := range mounts {
		if inside, ok := strings.CutPrefix(filepath.Clean(mounts[i].Destination), filepath.Clean(rootfs)+"/"); ok && rootfs != "/" {
			mounts[i].Destination = "/" + inside
		}
	}
}

// listenVariables tell the process of the sockets that systemd passed to us for it, sd_listen_fds(3): process 1 is what a
// container's init usually is, and what runc writes in any case.
func listenVariables(sockets int) []string {
	if sockets == 0 {
		return nil
	}
	return []string{fmt.Sprintf("LISTEN_FDS=%d", sockets), "LISTEN_PID=1"}
}

// profile decides between the config's annotation and the runtime's default. Lean's substitutions are not there yet, so
// asking for it is refused rather than quietly answered with the standard ones.
func (r *Runtime) profile(config *specs.Spec) (string, error) {
	profile, from := r.Profile, r.ProfileFrom
	asked, annotated := config.Annotations[spec.AnnotationProfile]
	if annotated {
		profile, from = asked, fmt.Sprintf("annotations[%q]", spec.AnnotationProfile)
	}
	allowed := r.AnnotationProfiles
	if allowed == nil {
		allowed = []string{plan.Standard}
	}
	switch {
	case profile != "" && profile != plan.Standard && profile != plan.Lean:
		return "", fmt.Errorf("%s: unknown profile %q", from, profile)
	case annotated && !slices.Contains(allowed, cmp.Or(profile, plan.Standard)):
		return "", fmt.Errorf("%s: profile %q is not among those that annotations may choose, AnnotationProfiles = %q in %s",
			from, profile, allowed, spec.SettingsFile)
	case profile == plan.Lean:
		return "", fmt.Errorf("%s: profile %q is not supported yet", from, profile)
	default:
		return plan.Standard, nil
	}
}

// Load finds a container. Errors: ErrNotExist.
func (r *Runtime) Load(id string) (*Container, error) {
	s, err := state.Read(r.Root, id)
	if err != nil {
		return nil, err
	}
	return &Container{runtime: r, state: s, console: -1}, nil
}

// List returns all containers' statuses by ID. One that vanishes meanwhile is left out; one whose state can't be read is
// logged.
func (r *Runtime) List() ([]Status, error) {
	ids, err := state.List(r.Root)
	if err != nil {
		return nil, err
	}
	var list []Status
	for _, id := range ids {
		c, err := r.Load(id)
		if err == nil {
			var s Status
			if s, err = c.Status(); err == nil {
				list = append(list, s)
			}
		}
		if err != nil && err != ErrNotExist {
			r.Log.Warn("read container's state", "id", id, "error", err)
		}
	}
	return list, nil
}

// makesPIDs says whether the container gets a PID namespace of its own: all its processes then end with init.
func makesPIDs(config *specs.Spec) bool {
	return config.Linux != nil && slices.ContainsFunc(config.Linux.Namespaces, func(ns specs.LinuxNamespace) bool {
		return ns.Type == specs.PIDNamespace && ns.Path == ""
	})
}

// joinFlags are the namespaces that exec has to join: those that the config names, new or by path.
func joinFlags(config *specs.Spec) int {
	flags := 0
	if config.Linux != nil {
		for _, ns := range config.Linux.Namespaces {
			flag, _ := spec.NamespaceFlag(ns.Type)
			flags |= int(flag)
		}
	}
	return flags
}
