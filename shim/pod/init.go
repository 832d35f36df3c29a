package pod

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	v2 "github.com/containerd/containerd/api/runtime/task/v2"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/sock-runtime/sock/shim/pause"
	"github.com/sock-runtime/sock/shim/podconfig"
	"github.com/sock-runtime/sock/spec"
)

// initBundle is the bundle of the pod's process.
func (p *pod) initBundle() string { return filepath.Join(p.dir(), "init") }

// pauseUser is who the process is, if its user namespace has it: the pause image's user.
const pauseUser = 65535

// initSpec is the config of the pod's process. It can do nothing, and sees nothing: its root has no file but its own.
func (p *pod) initSpec() *specs.Spec {
	s := &specs.Spec{
		Version:  specs.Version,
		Root:     &specs.Root{Path: "rootfs", Readonly: true},
		Hostname: p.config.Hostname,
		Process: &specs.Process{
			Args: []string{"/pause"}, Cwd: "/", User: specs.User{UID: pauseUser, GID: pauseUser},
			Capabilities: &specs.LinuxCapabilities{}, NoNewPrivileges: true,
		},
		// A /dev that is none keeps devices away.
		Mounts: []specs.Mount{{Destination: "/dev", Type: "bind", Source: filepath.Join(p.initBundle(), "rootfs/dev"), Options: []string{"bind", "ro"}}},
		Linux: &specs.Linux{
			Namespaces: append(p.namespaces(), specs.LinuxNamespace{Type: specs.MountNamespace}),
			Sysctl:     p.sysctls(),
			CgroupsPath: func() string {
				if parent := p.config.CgroupParent; strings.HasSuffix(parent, ".slice") { // as CRI names containers' to systemd
					return path.Base(parent) + ":cri-containerd:" + p.kept.ID
				} else if parent != "" {
					return path.Join("/", parent, p.kept.ID)
				}
				return ""
			}(),
			Resources: &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Access: "rwm"}}},
		},
	}
	if p.config.Network == podconfig.Node {
		s.Hostname = ""
	}
	if p.config.PID != podconfig.Node {
		s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.PIDNamespace})
	}
	if users := p.config.Users; users != nil {
		ns := specs.LinuxNamespace{Type: specs.UserNamespace}
		if p.config.Network != podconfig.Node {
			ns.Path = fmt.Sprintf("/proc/%d/ns/user", p.kept.Handle) // see Amend
		}
		s.Linux.Namespaces = append(s.Linux.Namespaces, ns)
		s.Linux.UIDMappings, s.Linux.GIDMappings = mappings(users.UIDs), mappings(users.GIDs)
		if !mapped(users.UIDs, pauseUser) || !mapped(users.GIDs, pauseUser) {
			s.Process.User = specs.User{}
		}
	}
	return s
}

func mappings(list []podconfig.Mapping) []specs.LinuxIDMapping {
	var all []specs.LinuxIDMapping
	for _, m := range list {
		all = append(all, specs.LinuxIDMapping{ContainerID: m.Container, HostID: m.Host, Size: m.Size})
	}
	return all
}

func mapped(list []podconfig.Mapping, id uint32) bool {
	return slices.ContainsFunc(list, func(m podconfig.Mapping) bool { return id >= m.Container && id-m.Container < m.Size })
}

// validate finds out now what is wrong with the pod.
func (p *pod) validate() error {
	s := p.initSpec()
	s.Root.Path, s.Mounts = "/", nil
	s.Linux.Namespaces = slices.DeleteFunc(s.Linux.Namespaces, func(ns specs.LinuxNamespace) bool { return ns.Type == specs.UserNamespace })
	s.Linux.UIDMappings, s.Linux.GIDMappings = nil, nil
	return spec.Validate(s, p.dir())
}

// makeInitBundle writes what the process is made of.
func (p *pod) makeInitBundle() error {
	program := pause.Program()
	if program == nil {
		return fmt.Errorf("pods that share process numbers or a user namespace need a program that there isn't for this architecture")
	}
	root := filepath.Join(p.initBundle(), "rootfs")
	if err := os.MkdirAll(filepath.Join(root, "dev"), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(root, "pause"), program, 0o755); err != nil {
		return err
	}
	config, err := json.Marshal(p.initSpec())
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(p.initBundle(), "config.json"), config, 0o600)
}

// startInit runs the process, and holds its namespaces.
func (p *pod) startInit(ctx context.Context) error {
	if p.config.Users != nil && p.config.Network != podconfig.Node {
		if err := p.holdOwner(); err != nil {
			return err
		}
	}
	r, err := p.service.tasks.Create(ctx, &v2.CreateTaskRequest{ID: p.kept.ID, Bundle: p.initBundle()})
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.kept.Pid = int(r.Pid)
	p.mu.Unlock()
	// It waits for its start, so the pid is its own.
	for _, ns := range p.initSpec().Linux.Namespaces {
		if kind := namespaceFiles[ns.Type]; kind != "" && kind != "net" {
			f, err := os.Open(fmt.Sprintf("/proc/%d/ns/%s", r.Pid, kind))
			if err == nil {
				err = p.hold(kind, f)
			}
			if err != nil {
				return fmt.Errorf("keep the %s namespace: %w", kind, err)
			}
		}
	}
	_, err = p.service.tasks.Start(ctx, &v2.StartRequest{ID: p.kept.ID})
	return err
}
