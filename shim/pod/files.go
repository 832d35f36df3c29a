package pod

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sock-runtime/sock/shim/podconfig"
	"github.com/sock-runtime/sock/shim/rootfs"
)

// shmDir is where the pod's shared memory is mounted.
const shmDir = "shm"

// etc are the files that all containers of the pod have in /etc.
var etc = []string{"hostname", "hosts", "resolv.conf"}

// make puts the pod on disk, the record last.
func (p *pod) make() error {
	if err := p.validate(); err != nil {
		return err
	}
	if err := os.Mkdir(p.dir(), 0o700); err != nil {
		return err
	}
	for _, name := range etc {
		if err := p.writeFile(name); err != nil {
			return err
		}
	}
	if p.kept.Init {
		if err := p.makeInitBundle(); err != nil {
			return err
		}
	}
	return p.service.dir.write(&p.kept)
}

// writeFile makes one of the files in /etc. It belongs to the pod's root.
func (p *pod) writeFile(name string) error {
	content, err := p.content(name)
	if err != nil {
		return err
	}
	file := filepath.Join(p.dir(), name)
	if err := os.WriteFile(file, content, 0o644); err != nil {
		return err
	}
	if users := p.config.Users; users != nil {
		return os.Chown(file, rootOf(users.UIDs), rootOf(users.GIDs))
	}
	return nil
}

// rootOf is the host's id of a user namespace's 0.
func rootOf(list []podconfig.Mapping) int {
	for _, m := range list {
		if m.Container == 0 && m.Size > 0 {
			return int(m.Host)
		}
	}
	return -1
}

func (p *pod) content(name string) ([]byte, error) {
	switch name {
	case "hostname":
		host := p.config.Hostname
		if host == "" {
			var err error
			if host, err = os.Hostname(); err != nil {
				return nil, err
			}
		}
		return []byte(host + "\n"), nil
	case "resolv.conf":
		if p.config.DNS != nil {
			return resolvConf(p.config.DNS), nil
		}
	}
	content, err := os.ReadFile("/etc/" + name)
	if os.IsNotExist(err) {
		err = nil
	}
	return content, err
}

// resolvConf writes resolv.conf(5) as containerd does.
func resolvConf(dns *podconfig.DNS) []byte {
	var b strings.Builder
	if len(dns.Searches) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(dns.Searches, " "))
	}
	for _, server := range dns.Servers {
		fmt.Fprintf(&b, "nameserver %s\n", server)
	}
	if len(dns.Options) > 0 {
		fmt.Fprintf(&b, "options %s\n", strings.Join(dns.Options, " "))
	}
	return []byte(b.String())
}

// shm is what the pod's containers have at /dev/shm.
func (p *pod) shm() string {
	if p.config.IPC == podconfig.Node {
		return "/dev/shm"
	}
	return filepath.Join(p.dir(), shmDir)
}

// mountShm mounts the pod's shared memory, as large as containerd's.
func (p *pod) mountShm() error {
	if p.config.IPC == podconfig.Node {
		return nil
	}
	dir := p.shm()
	if err := os.Mkdir(dir, 0o700); err != nil && !os.IsExist(err) {
		return err
	}
	if err := p.unmountShm(); err != nil { // an earlier worker's
		return err
	}
	if err := unix.Mount("shm", dir, "tmpfs", unix.MS_NOEXEC|unix.MS_NOSUID|unix.MS_NODEV, "mode=1777,size=65536k"); err != nil {
		return fmt.Errorf("mount shared memory: %w", err)
	}
	return nil
}

func (p *pod) unmountShm() error { return rootfs.Unmount(filepath.Join(p.dir(), shmDir)) }
