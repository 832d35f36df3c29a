package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	. "github.com/sock-runtime/sock/tests/sandbox"
)

func TestUserNamespace(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	before := DeviceOwners(t)
	out := s.UserOutput("id -u; cat /proc/self/uid_map; readlink /proc/self/ns/user; ls -lnd /dev /dev/mqueue /dev/shm | while read a b u rest; do echo $u; done; echo x > /dev/null && echo null; hostname inside; hostname",
		Privileged)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	Equal(t, "uid", lines[0], "0")
	Equal(t, "mapping", strings.Join(strings.Fields(lines[1]), " "), fmt.Sprintf("0 %d 65536", HostRoot))
	if lines[2] == NamespaceOf(t, os.Getpid(), "user") {
		t.Error("the user namespace is the host's")
	}
	Equal(t, "owners of /dev, /dev/mqueue, /dev/shm; null; hostname", strings.Join(lines[3:], " "), "0 0 0 null inside")
	Equal(t, "the host's devices", DeviceOwners(t), before)
}

// TestUserNamespaceLife has a created container, exec and a device on the way, as any engine would.
func TestUserNamespaceLife(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	b := s.UserBundle(Privileged)
	c := s.CreateIn(b)
	c.WantStatus("created")
	s.OK("start", c.ID)
	Equal(t, "uid of init on the host", StatusField(c.Proc("status"), "Uid"), fmt.Sprintf("%[1]d %[1]d %[1]d %[1]d", HostRoot))
	Equal(t, "exec", c.Inside("id -u; readlink /proc/self/ns/user"), "0\n"+c.Namespace("user"))
	Equal(t, "exec as a user", strings.TrimSpace(s.OK("exec", "--user", "1000:1000", c.ID, "id", "-u")), "1000")
	s.OK("kill", c.ID, "KILL")
	c.WantStatus("stopped")
	s.OK("delete", c.ID)
}

// TestUserNamespaceLocksMounts plays the container's root that wants to write what the host gave read-only.
func TestUserNamespaceLocksMounts(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	host := filepath.Join(s.Dir, "host")
	Must(t, os.Mkdir(host, 0o777))
	Must(t, os.Chmod(host, 0o777))
	out := s.UserOutput("mount -o remount,bind,rw /mnt; touch /mnt/x; echo end", Privileged, BindAt("/mnt", host, "ro"))
	if !strings.HasSuffix(out, "end\n") {
		t.Errorf("got %q", out)
	}
	left, err := os.ReadDir(host)
	Must(t, err)
	if len(left) != 0 {
		t.Errorf("the container wrote %v through a read-only bind", left)
	}
}

func TestJoinUserNamespace(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	first := s.CreateIn(s.UserBundle(Privileged))
	path := func(kind string) string { return fmt.Sprintf("/proc/%d/ns/%s", first.Pid(), kind) }
	b := s.UserBundle(Privileged, func(c *specs.Spec) { c.Linux.CgroupsPath += "-second" },
		WithNamespace(specs.UserNamespace, path("user")), WithNamespace(specs.NetworkNamespace, path("net")),
		func(c *specs.Spec) { c.Linux.UIDMappings, c.Linux.GIDMappings = nil, nil })
	second := s.CreateIn(b)
	s.OK("start", second.ID)
	Equal(t, "user namespace", second.Namespace("user"), first.Namespace("user"))
	Equal(t, "network namespace", second.Namespace("net"), first.Namespace("net"))
	Equal(t, "exec", second.Inside("id -u"), "0")
}
