package sandbox

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/sock-runtime/sock/spec"
)

// applets are the commands of busybox in the root filesystem.
const applets = "sh cat chmod chown chrt cut date dd dmesg echo env false getopt grep head hostname id ionice ip ls mkdir mkfifo " +
	"mknod mount nice ps pwd readlink renice rm sed seq sleep sort stat stty sync tail test touch tr true tty umount uname wc"

// Bundle is a directory with config.json and rootfs.
type Bundle struct {
	Dir, Rootfs string
}

// Change modifies a config.
type Change func(c *specs.Spec)

// Bundle makes one of busybox and the default config without a terminal, with changes.
func (s *Sandbox) Bundle(changes ...Change) Bundle {
	s.Helper()
	dir, err := os.MkdirTemp(s.Dir, "b")
	Must(s.T, err)
	b := Bundle{Dir: dir, Rootfs: filepath.Join(dir, "rootfs")}
	for _, name := range strings.Fields("bin dev etc proc sys tmp mnt root usr") {
		Must(s.T, os.MkdirAll(filepath.Join(b.Rootfs, name), 0o755))
	}
	Must(s.T, os.Link(Busybox, filepath.Join(b.Rootfs, "bin/busybox")))
	for _, name := range strings.Fields(applets) {
		Must(s.T, os.Symlink("busybox", filepath.Join(b.Rootfs, "bin", name)))
	}
	Must(s.T, os.WriteFile(filepath.Join(b.Rootfs, "etc/passwd"), []byte("root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n"), 0o644))
	Must(s.T, os.WriteFile(filepath.Join(b.Rootfs, "etc/group"), []byte("root:x:0:\nuser:x:1000:\n"), 0o644))
	s.Configure(b, changes...)
	return b
}

// Configure writes the bundle's config.json.
func (s *Sandbox) Configure(b Bundle, changes ...Change) {
	s.Helper()
	c := spec.Default(false)
	c.Process.Terminal = false
	c.Process.Args = []string{"sleep", "1000"}
	c.Linux.CgroupsPath = s.CgroupsPath()
	for _, change := range changes {
		change(c)
	}
	data, err := json.MarshalIndent(c, "", "\t")
	Must(s.T, err)
	Must(s.T, os.WriteFile(filepath.Join(b.Dir, "config.json"), data, 0o644))
}

// Set changes a config as JSON, where Go's types would not let it be wrong. A nil value removes the key.
func (s *Sandbox) Set(b Bundle, value any, keys ...string) {
	s.Helper()
	name := filepath.Join(b.Dir, "config.json")
	config := Decode[map[string]any](s.T, ReadFile(name))
	object := config
	for _, key := range keys[:len(keys)-1] {
		next, ok := object[key].(map[string]any)
		if !ok {
			next = map[string]any{}
			object[key] = next
		}
		object = next
	}
	if object[keys[len(keys)-1]] = value; value == nil {
		delete(object, keys[len(keys)-1])
	}
	data, err := json.Marshal(config)
	Must(s.T, err)
	Must(s.T, os.WriteFile(name, data, 0o644))
}

// Args sets the command line of the process.
func Args(list ...string) Change {
	return func(c *specs.Spec) { c.Process.Args = list }
}

// Script makes the process a shell that runs the lines.
func Script(lines string) Change { return Args("sh", "-c", lines) }

// Writable is for a root filesystem that may be written.
func Writable(c *specs.Spec) { c.Root.Readonly = false }

// Privileged gives the process every capability that we have ourselves.
func Privileged(c *specs.Spec) {
	bounding, _ := strconv.ParseUint(StatusField(ReadFile("/proc/self/status"), "CapBnd"), 16, 64)
	var all []string
	for _, name := range strings.Fields("CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_ADMIN NET_RAW IPC_LOCK " +
		"SYS_CHROOT SYS_PTRACE SYS_ADMIN SYS_NICE SYS_TIME MKNOD SYSLOG SYS_RESOURCE") {
		if number, ok := spec.CapabilityNumber("CAP_" + name); ok && bounding&(1<<number) != 0 {
			all = append(all, "CAP_"+name)
		}
	}
	c.Process.Capabilities = &specs.LinuxCapabilities{Bounding: all, Effective: all, Permitted: all}
}

// MountAt adds a mount.
func MountAt(destination, kind, source string, options ...string) Change {
	return func(c *specs.Spec) {
		c.Mounts = append(c.Mounts, specs.Mount{Destination: destination, Type: kind, Source: source, Options: options})
	}
}

// BindAt adds a bind mount of a file or directory of the host.
func BindAt(destination, source string, options ...string) Change {
	return MountAt(destination, "bind", source, append([]string{"bind"}, options...)...)
}

// WithNamespace asks for a namespace: a new one, or that of the path.
func WithNamespace(kind specs.LinuxNamespaceType, path string) Change {
	return func(c *specs.Spec) {
		WithoutNamespace(kind)(c)
		c.Linux.Namespaces = append(c.Linux.Namespaces, specs.LinuxNamespace{Type: kind, Path: path})
	}
}

// WithoutNamespace leaves the process in the runtime's namespace.
func WithoutNamespace(kind specs.LinuxNamespaceType) Change {
	return func(c *specs.Spec) {
		c.Linux.Namespaces = slices.DeleteFunc(c.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == kind })
	}
}

// WithTerminal gives the process a terminal.
func WithTerminal(c *specs.Spec) { c.Process.Terminal = true }

// WithHook adds a shell script as a hook of a kind.
func WithHook(kind, script string) Change {
	return AddHook(kind, specs.Hook{Path: "/bin/sh", Args: []string{"sh", "-c", script}, Env: []string{"PATH=/bin:/usr/bin", "KIND=" + kind}})
}

// AddHook adds a hook of a kind, named as in config.json.
func AddHook(kind string, hook specs.Hook) Change {
	return func(c *specs.Spec) {
		if c.Hooks == nil {
			c.Hooks = &specs.Hooks{}
		}
		list := map[string]*[]specs.Hook{
			//lint:ignore SA1019 Docker 20.10 configures networks in it.
			"prestart":        &c.Hooks.Prestart,
			"createRuntime":   &c.Hooks.CreateRuntime,
			"createContainer": &c.Hooks.CreateContainer,
			"startContainer":  &c.Hooks.StartContainer,
			"poststart":       &c.Hooks.Poststart,
			"poststop":        &c.Hooks.Poststop,
		}[kind]
		*list = append(*list, hook)
	}
}

// HostRoot is who root of the tests' user namespaces is on the host.
const HostRoot = 100000

// InUserNamespace maps root and the 65535 users behind it to those from HostRoot on.
func InUserNamespace(c *specs.Spec) {
	WithNamespace(specs.UserNamespace, "")(c)
	mapping := []specs.LinuxIDMapping{{HostID: HostRoot, Size: 65536}}
	c.Linux.UIDMappings, c.Linux.GIDMappings = mapping, mapping
}

// UserBundle is a bundle whose rootfs belongs to the namespace's root.
func (s *Sandbox) UserBundle(changes ...Change) Bundle {
	s.Helper()
	b := s.Bundle(append([]Change{InUserNamespace}, changes...)...)
	Must(s.T, filepath.WalkDir(b.Rootfs, func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.Name() != "busybox" { // a link to the host's
			err = os.Lchown(name, HostRoot, HostRoot)
		}
		return err
	}))
	return b
}

// ProcessFile writes a process for exec --process.
func (s *Sandbox) ProcessFile(p *specs.Process) string {
	s.Helper()
	data, err := json.Marshal(p)
	Must(s.T, err)
	name := filepath.Join(s.Dir, "process.json")
	Must(s.T, os.WriteFile(name, data, 0o644))
	return name
}
