package pod

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/sock-runtime/sock/shim/podconfig"
	"github.com/sock-runtime/sock/spec"
)

// namespaceFiles are the names in /proc/PID/ns, namespaces(7).
var namespaceFiles = map[specs.LinuxNamespaceType]string{
	specs.NetworkNamespace: "net", specs.IPCNamespace: "ipc", specs.UTSNamespace: "uts", specs.PIDNamespace: "pid", specs.UserNamespace: "user",
}

// namespaces are those that the pod has for its containers, but for that of processes: its own, not the host's. A pod on the
// host's network has the host's name, as with a pause container.
func (p *pod) namespaces() []specs.LinuxNamespace {
	var list []specs.LinuxNamespace
	if p.config.Network != podconfig.Node {
		list = append(list, specs.LinuxNamespace{Type: specs.NetworkNamespace, Path: p.kept.Network}, specs.LinuxNamespace{Type: specs.UTSNamespace})
	}
	if p.config.IPC != podconfig.Node {
		list = append(list, specs.LinuxNamespace{Type: specs.IPCNamespace})
	}
	return list
}

// sysctls are what the pod asks for and, on a network of its own, what containerd sets by default: ports below 1024, and
// ping, for everybody.
func (p *pod) sysctls() map[string]string {
	all := map[string]string{}
	if p.config.Network != podconfig.Node {
		all["net.ipv4.ip_unprivileged_port_start"] = "0"
		if p.config.Users == nil { // the range has to be mapped
			all["net.ipv4.ping_group_range"] = "0 2147483647"
		}
	}
	for key, value := range p.config.Sysctls {
		all[key] = value
	}
	return all
}

// makeNamespaces makes those of a pod without a process.
func (p *pod) makeNamespaces() error {
	made := make(chan error)
	go func() {
		// The thread has other namespaces then, so it ends with this function.
		runtime.LockOSThread()
		made <- p.enterNamespaces()
	}()
	return <-made
}

// enterNamespaces has the calling thread make and furnish the namespaces, and holds them.
func (p *pod) enterNamespaces() error {
	flags := 0
	for _, ns := range p.namespaces() {
		switch ns.Type {
		case specs.IPCNamespace:
			flags |= unix.CLONE_NEWIPC
		case specs.UTSNamespace:
			flags |= unix.CLONE_NEWUTS
		case specs.NetworkNamespace:
			if err := enterNetwork(ns.Path); err != nil {
				return err
			}
		}
	}
	if err := unix.Unshare(flags); err != nil {
		return fmt.Errorf("make namespaces: %w", err)
	}
	if flags&unix.CLONE_NEWUTS != 0 && p.config.Hostname != "" {
		if err := unix.Sethostname([]byte(p.config.Hostname)); err != nil {
			return fmt.Errorf("set the host name to %s: %w", p.config.Hostname, err)
		}
	}
	for key, value := range p.sysctls() {
		if err := writeSysctl(key, value); err != nil {
			return fmt.Errorf("set sysctl %s: %w", key, err)
		}
	}
	for kind, flag := range map[string]int{"ipc": unix.CLONE_NEWIPC, "uts": unix.CLONE_NEWUTS} {
		if flags&flag == 0 {
			continue
		}
		f, err := os.Open("/proc/thread-self/ns/" + kind)
		if err == nil {
			err = p.hold(kind, f)
		}
		if err != nil {
			return fmt.Errorf("keep the %s namespace: %w", kind, err)
		}
	}
	return nil
}

func enterNetwork(path string) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("network namespace %s: %w", path, err)
	}
	defer unix.Close(fd)
	if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("join network namespace %s: %w", path, err)
	}
	return nil
}

// writeSysctl writes with one call, as proc_sys(5) wants it. The name was validated.
func writeSysctl(key, value string) error {
	fd, err := unix.Open(filepath.Join("/proc/sys", spec.SysctlPath(key)), unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	_, err = unix.Write(fd, []byte(value))
	_ = unix.Close(fd)
	return err
}

// holdOwner holds the user namespace that the pod's network namespace belongs to: containerd has made it, with the pod's
// mappings.
func (p *pod) holdOwner() error {
	fd, err := unix.Open(p.kept.Network, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("network namespace %s: %w", p.kept.Network, err)
	}
	owner, err := unix.IoctlRetInt(fd, unix.NS_GET_USERNS)
	_ = unix.Close(fd)
	if err != nil {
		return fmt.Errorf("user namespace of %s: %w", p.kept.Network, err)
	}
	unix.CloseOnExec(owner)
	return p.hold("user", os.NewFile(uintptr(owner), "user namespace"))
}
