package spec

import (
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// SysctlPath returns the path below /proc/sys of a key of linux.sysctl. As in sysctl(8), the separator is the first '.' or
// '/' of the key; the other one of the two then stands for a '.' inside a name: "net.ipv4.conf.eth0/1.mtu" and
// "net/ipv4/conf/eth0.1/mtu" are the same.
func SysctlPath(key string) string {
	if i := strings.IndexAny(key, "./"); i < 0 || key[i] == '/' {
		return key
	}
	return strings.Map(func(r rune) rune {
		switch r {
		case '.':
			return '/'
		case '/':
			return '.'
		}
		return r
	}, key)
}

// checkSysctl refuses what isn't the container's own: runc's rules, which docs and engines rely on.
func (c *checker) checkSysctl(key, value string) error {
	at := member("linux.sysctl", key)
	if strings.IndexByte(value, 0) >= 0 {
		return Field(at, "value must not contain NUL")
	}
	path := SysctlPath(key)
	for name := range strings.SplitSeq(path, "/") {
		if name == "" || name == "." || name == ".." || strings.IndexByte(name, 0) >= 0 {
			return Field(at, "not the name of a sysctl")
		}
	}
	switch path {
	case "kernel/msgmax", "kernel/msgmnb", "kernel/msgmni", "kernel/sem",
		"kernel/shmall", "kernel/shmmax", "kernel/shmmni", "kernel/shm_rmid_forced":
		return c.needNamespace(specs.IPCNamespace, at)
	case "kernel/domainname":
		return c.needNamespace(specs.UTSNamespace, at)
	case "kernel/hostname":
		return Field(at, `not allowed as it conflicts with the field "hostname"`)
	}
	switch {
	case strings.HasPrefix(path, "fs/mqueue/"):
		return c.needNamespace(specs.IPCNamespace, at)
	case strings.HasPrefix(path, "net/"):
		if err := c.needNamespace(specs.NetworkNamespace, at); err != nil {
			return err
		}
		return c.needForeignNetwork(at)
	}
	return Field(at, "not in a separate kernel namespace")
}

func (c *checker) needNamespace(t specs.LinuxNamespaceType, at string) error {
	if c.namespace(t) == nil {
		return Field(at, "not allowed in the host's %s namespace", t)
	}
	return nil
}

// needForeignNetwork fails if the network namespace to join is the one that we are in.
func (c *checker) needForeignNetwork(at string) error {
	path := c.namespace(specs.NetworkNamespace).Path
	if path == "" {
		return nil
	}
	same, err := c.sameFile(path, "/proc/self/ns/net")
	if err != nil {
		return Field(at, "network namespace: %w", err)
	}
	if same {
		return Field(at, "not allowed in the host's network namespace")
	}
	return nil
}
