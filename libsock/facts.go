package libsock

import (
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"

	securejoin "github.com/cyphar/filepath-securejoin"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/sock-runtime/sock/libsock/cgroup"
	"github.com/sock-runtime/sock/libsock/host"
	"github.com/sock-runtime/sock/libsock/plan"
	"github.com/sock-runtime/sock/libsock/resctrl"
	"github.com/sock-runtime/sock/libsock/stub/nofile"
	"github.com/sock-runtime/sock/spec"
)

// processFacts are the facts that any process needs, a container's init or one that joins.
func (r *Runtime) processFacts(p *specs.Process, home func(uid uint32) string) (plan.Facts, error) {
	facts := plan.Facts{}
	r.rights(&facts)
	last, err := lastCap()
	if err != nil {
		return facts, err
	}
	facts.LastCap = last
	if plan.Variable(p.Env, "HOME") == "" {
		facts.Home = home(p.User.UID)
	}
	facts.AppArmor = p.ApparmorProfile != "" && host.AppArmor()
	facts.SELinux = p.SelinuxLabel != "" && host.SELinux()
	if nofile.Known {
		var now unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &now); err == nil && now.Cur != nofile.Original.Soft {
			facts.NOFILE = &plan.Rlimit{Soft: nofile.Original.Soft, Hard: nofile.Original.Hard}
		}
	}
	return facts, nil
}

// lastCap is the number of the kernel's last capability.
func lastCap() (uint, error) {
	// The bounding set knows every capability that the kernel knows; asking for the next one is an error, prctl(2). The
	// search begins at the last one that is known today, so that usually two calls suffice.
	known := func(c uint) bool {
		_, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(c), 0, 0, 0)
		return err == nil
	}
	c := uint(unix.CAP_LAST_CAP)
	for c > 0 && !known(c) {
		c--
	}
	for known(c + 1) {
		c++
	}
	if c == 0 {
		return 0, fmt.Errorf("ask for the kernel's capabilities: PR_CAPBSET_READ is refused")
	}
	return c, nil
}

// homeOf is the home directory of uid in the passwd file name below root, as runc sets HOME; "/" where it is not listed.
func homeOf(uid uint32, root int, name string) string {
	const usual = "/"
	fd, err := unix.Openat2(root, name, &unix.OpenHow{Flags: unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK, Resolve: unix.RESOLVE_IN_ROOT})
	if err != nil {
		return usual
	}
	defer unix.Close(fd)
	buf := make([]byte, maxPasswd)
	n, err := unix.Read(fd, buf)
	if err != nil {
		return usual
	}
	want := strconv.FormatUint(uint64(uid), 10)
	for line := range strings.Lines(string(buf[:n])) {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), ":")
		if len(fields) >= 6 && fields[2] == want && fields[5] != "" {
			return fields[5]
		}
	}
	return usual
}

// maxPasswd is how much of a passwd file is looked at, in bytes: some thousand users.
const maxPasswd = 64 << 10

// initFacts gathers what Build needs to know for a container's init process.
func (r *Runtime) initFacts(config *specs.Spec, o plan.Options, group *cgroup.Group, stdio *Stdio) (plan.Facts, error) {
	facts, err := r.processFacts(config.Process, func(uid uint32) string {
		holder, passwd := passwdOf(config, o)
		root, err := unix.Open(holder, unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			return "/" // the mount or the root will say so
		}
		defer unix.Close(root)
		return homeOf(uid, root, passwd)
	})
	if err != nil {
		return facts, err
	}
	facts.Files, facts.Procfs = map[string]bool{}, map[string]bool{}
	for _, m := range config.Mounts {
		if m.Source == "" {
			continue
		}
		source := m.Source
		if !path.IsAbs(source) {
			source = path.Join(o.Bundle, source)
		}
		var st unix.Stat_t
		if unix.Stat(source, &st) == nil && st.Mode&unix.S_IFMT != unix.S_IFDIR {
			facts.Files[source] = true
		}
		var fs unix.Statfs_t
		if unix.Statfs(source, &fs) == nil {
			facts.Procfs[source] = fs.Type == unix.PROC_SUPER_MAGIC
		}
	}
	destinations := make([]string, 0, len(config.Mounts)+1)
	for _, m := range config.Mounts {
		if m.Type != "proc" && m.Type != "sysfs" { // these must be on an ordinary directory
			destinations = append(destinations, m.Destination)
		}
	}
	if o.Notify != "" {
		destinations = append(destinations, plan.NotifyDir)
	}
	facts.Resolved = resolveDestinations(destinations, o.Rootfs)
	if facts.NoMounts || joinFlags(config)&unix.CLONE_NEWUSER != 0 {
		facts.Modes = tmpfsModes(config, o.Rootfs)
	}
	facts.Kcore = unix.Access("/proc/kcore", unix.F_OK) == nil
	if config.Linux != nil && config.Linux.MountLabel != "" {
		facts.SELinux = host.SELinux()
	}
	facts.Cgroup = cgroupFacts(group)
	if o.NoPivot {
		facts.ProcSys, err = procAndSysMounts(o.Rootfs)
	}
	if !o.Console {
		facts.OwnStdio, facts.NullStdio = stdio.sort(hostUID(config, config.Process.User.UID))
	}
	return facts, err
}

// resolveDestinations finds where mount destinations that lead through dangling links of the image end: /run/x for
// /var/run/x with /var/run a link to a /run that is missing. The child makes them there, as runc does. Destinations on
// other mounts are left alone, the rootfs doesn't show them.
func resolveDestinations(destinations []string, rootfs string) map[string]string {
	var resolved map[string]string
	root, err := unix.Open(rootfs, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(root)
	for _, destination := range destinations {
		name := strings.TrimPrefix(path.Clean("/"+destination), "/")
		fd, err := unix.Openat2(root, name, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT})
		if err == nil {
			_ = unix.Close(fd)
		}
		if err != unix.ENOENT && err != unix.EAGAIN { // EAGAIN: a ".." while somebody renames things
			continue
		}
		real, err := securejoin.SecureJoin(rootfs, name)
		if err != nil {
			continue
		}
		if real = strings.TrimPrefix(strings.TrimPrefix(real, rootfs), "/"); real != name {
			if resolved == nil {
				resolved = map[string]string{}
			}
			resolved[name] = real
		}
	}
	return resolved
}

// tmpfsModes gives the modes of the rootfs's directories on which the child mounts a tmpfs by itself: it takes over the mode,
// as in runc.
func tmpfsModes(config *specs.Spec, rootfs string) map[string]uint32 {
	modes := map[string]uint32{}
	for _, m := range config.Mounts {
		if m.Type != "tmpfs" {
			continue
		}
		name := strings.TrimPrefix(path.Clean("/"+m.Destination), "/")
		if real, err := securejoin.SecureJoin(rootfs, name); err == nil {
			var st unix.Stat_t
			if unix.Lstat(real, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
				modes[name] = st.Mode & 0o7777
			}
		}
	}
	return modes
}

// passwdOf says where the container's /etc/passwd is: in the rootfs, or in the last volume that covers it.
func passwdOf(config *specs.Spec, o plan.Options) (holder, name string) {
	for i := len(config.Mounts) - 1; i >= 0; i-- {
		m := config.Mounts[i]
		if options, err := spec.ParseMountOptions(m.Type, m.Options); err != nil || !options.Bind {
			continue
		}
		source := m.Source
		if !path.IsAbs(source) {
			source = path.Join(o.Bundle, source)
		}
		switch path.Clean("/" + m.Destination) {
		case "/etc":
			return source, "passwd"
		case "/etc/passwd":
			return path.Dir(source), path.Base(source)
		}
	}
	return o.Rootfs, "etc/passwd"
}

func cgroupFacts(group *cgroup.Group) plan.Cgroup {
	facts := plan.Cgroup{None: group.None(), Unified: group.Unified(), Into: group.HasDir(), Unit: group.Systemd()}
	for _, m := range group.MountSources() {
		facts.Mounts = append(facts.Mounts, plan.CgroupMount{Name: m.Name, Links: m.Links, Dir: m.Dir, Data: m.Data, Own: m.Managed})
	}
	return facts
}

// resctrlGroup names the container's groups in the host's resctrl; nil where the config asks for none, or resctrl is not
// mounted. Without linux.intelRdt nothing may look there.
func resctrlGroup(id string, l *specs.Linux) (*resctrl.Group, error) {
	if l == nil || l.IntelRdt == nil {
		return nil, nil
	}
	root, err := resctrl.Root()
	if err != nil {
		return nil, fmt.Errorf("linux.intelRdt: %w", err)
	}
	if root == "" {
		return nil, nil
	}
	return resctrl.New(root, id, l.IntelRdt)
}

func resctrlFacts(g *resctrl.Group) *plan.Resctrl {
	if g == nil {
		return nil
	}
	facts := &plan.Resctrl{Dir: g.Dir, Monitor: g.Monitor, Remove: g.Monitor}
	if g.Own {
		facts.Remove = g.Dir
	}
	return facts
}

// procAndSysMounts lists the host's procfs and sysfs mounts, deepest first, but for those below the rootfs.
func procAndSysMounts(rootfs string) ([]string, error) {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	var list []string
	for line := range strings.Lines(string(data)) {
		before, after, _ := strings.Cut(line, " - ")
		fields := strings.Fields(before)
		if len(fields) < 5 || strings.HasPrefix(fields[4]+"/", rootfs+"/") {
			continue
		}
		if strings.HasPrefix(after, "proc ") || strings.HasPrefix(after, "sysfs ") {
			list = append([]string{fields[4]}, list...)
		}
	}
	return list, nil
}
