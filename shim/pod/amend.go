package pod

import (
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/sock-runtime/sock/shim/podconfig"
	"github.com/sock-runtime/sock/spec"
)

// Using is to be held from before Amend until what it has named isn't needed any more.
func (s *Service) Using() sync.Locker { return s.using.RLocker() }

// Amend gives a container what its pod has for it. CRI names a pod's namespaces /proc/PID/ns/…, with what start answered for
// PID: these become the pod's, which are held, and never those of a process that came to have this number. Where the pod has
// the host's, so does the container.
//
// CRI leaves the files in /etc and /dev/shm to who makes the pod; they are added where nobody has asked for others.
func (s *Service) Amend(config *specs.Spec) error {
	if config.Linux == nil {
		return nil
	}
	p := s.podOf(config.Linux.Namespaces)
	if p == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.joinNamespaces(config.Linux); err != nil {
		return err
	}
	switch p.kept.State {
	case created: // this is the pod's own process
		return nil
	case ready:
		return p.addMounts(config)
	}
	return fmt.Errorf("sandbox %s is not ready", p.kept.ID)
}

// podOf finds the pod whose namespaces are named.
func (s *Service) podOf(list []specs.LinuxNamespace) *pod {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, ns := range list {
		pid := pidOf(ns)
		for _, p := range s.pods {
			if p.stands(pid) {
				return p
			}
		}
	}
	return nil
}

// stands says whether a number stands for the pod.
func (p *pod) stands(pid int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.standsLocked(pid)
}

func (p *pod) standsLocked(pid int) bool {
	return pid != 0 && (pid == p.kept.Handle || pid == p.kept.Pid)
}

// pidOf is the process in the path /proc/PID/ns/… of a namespace; 0 if it has another.
func pidOf(ns specs.LinuxNamespace) int {
	rest, ok := strings.CutPrefix(ns.Path, "/proc/")
	number, file, found := strings.Cut(rest, "/ns/")
	if !ok || !found || file != namespaceFiles[ns.Type] {
		return 0
	}
	pid, err := strconv.Atoi(number)
	if err != nil {
		return 0
	}
	return pid
}

// joinNamespaces replaces the paths of the pod's namespaces. p.mu is held.
func (p *pod) joinNamespaces(l *specs.Linux) error {
	var list []specs.LinuxNamespace
	for i, ns := range l.Namespaces {
		if p.standsLocked(pidOf(ns)) {
			if f := p.held[namespaceFiles[ns.Type]]; f != nil {
				ns.Path = fmt.Sprintf("/proc/self/fd/%d", f.Fd())
			} else if p.hostHas(ns.Type) {
				continue
			} else if ns.Type == specs.NetworkNamespace {
				ns.Path = p.kept.Network
			} else {
				return spec.Field(fmt.Sprintf("linux.namespaces[%d]", i), "sandbox %s has no %s namespace that containers could share", p.kept.ID, ns.Type)
			}
		}
		list = append(list, ns)
	}
	l.Namespaces = list
	return nil
}

// hostHas says whether the pod has the host's namespace of a type.
func (p *pod) hostHas(kind specs.LinuxNamespaceType) bool {
	switch kind {
	case specs.NetworkNamespace, specs.UTSNamespace:
		return p.config.Network == podconfig.Node
	case specs.IPCNamespace:
		return p.config.IPC == podconfig.Node
	case specs.PIDNamespace:
		return p.config.PID == podconfig.Node
	}
	return false
}

// addMounts adds what is common to the pod's containers.
func (p *pod) addMounts(config *specs.Spec) error {
	has := func(destination string) int {
		return slices.IndexFunc(config.Mounts, func(m specs.Mount) bool { return path.Clean(m.Destination) == destination })
	}
	access := "rw"
	if config.Root != nil && config.Root.Readonly {
		access = "ro"
	}
	for _, name := range etc {
		if has("/etc/"+name) >= 0 {
			continue
		}
		source := filepath.Join(p.dir(), name)
		if err := relabel(source, config.Linux.MountLabel); err != nil {
			return err
		}
		config.Mounts = append(config.Mounts, specs.Mount{Destination: "/etc/" + name, Type: "bind", Source: source, Options: []string{"rbind", "rprivate", access}})
	}
	shm := specs.Mount{Destination: "/dev/shm", Type: "bind", Source: p.shm(), Options: []string{"rbind", "rprivate", "rw"}}
	switch i := has("/dev/shm"); {
	case i < 0:
		config.Mounts = append(config.Mounts, shm)
	case config.Mounts[i].Type == "tmpfs" && config.Mounts[i].Source == "shm": // containerd's default, which is in every config
		config.Mounts[i] = shm
	default:
		return nil
	}
	if p.config.IPC == podconfig.Node {
		return nil
	}
	return relabel(shm.Source, config.Linux.MountLabel)
}

// relabel has containers with an SELinux label use a file.
func relabel(file, label string) error {
	if label == "" {
		return nil
	}
	if err := unix.Lsetxattr(file, "security.selinux", []byte(label), 0); err != nil && err != unix.ENOTSUP {
		return fmt.Errorf("linux.mountLabel: label %s: %w", file, err)
	}
	return nil
}
