package integration

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// hostRoot is who root of the tests' user namespaces is on the host.
const hostRoot = 100000

func inUserNamespace(c *specs.Spec) {
	withNamespace(specs.UserNamespace, "")(c)
	mapping := []specs.LinuxIDMapping{{HostID: hostRoot, Size: 65536}}
	c.Linux.UIDMappings, c.Linux.GIDMappings = mapping, mapping
}

// userBundle is a bundle whose rootfs belongs to the namespace's root.
func (s *sandbox) userBundle(changes ...change) bundle {
	s.Helper()
	b := s.bundle(append([]change{inUserNamespace}, changes...)...)
	must(s.T, filepath.WalkDir(b.rootfs, func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.Name() != "busybox" { // a link to the host's
			err = os.Lchown(name, hostRoot, hostRoot)
		}
		return err
	}))
	return b
}

func (s *sandbox) userOutput(lines string, changes ...change) string {
	s.Helper()
	b := s.userBundle(append([]change{script(lines)}, changes...)...)
	return s.ok("run", "--bundle", b.dir, s.id())
}

func deviceOwners(t *testing.T) string {
	t.Helper()
	var owners strings.Builder
	for _, name := range []string{"null", "zero", "full", "random", "urandom", "tty"} {
		info, err := os.Stat("/dev/" + name)
		must(t, err)
		st := info.Sys().(*syscall.Stat_t)
		fmt.Fprintf(&owners, "%s %d:%d %o\n", name, st.Uid, st.Gid, st.Mode)
	}
	return owners.String()
}

func TestUserNamespace(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	before := deviceOwners(t)
	out := s.userOutput("id -u; cat /proc/self/uid_map; readlink /proc/self/ns/user; ls -lnd /dev /dev/mqueue /dev/shm | while read a b u rest; do echo $u; done; echo x > /dev/null && echo null; hostname inside; hostname",
		privileged)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	equal(t, "uid", lines[0], "0")
	equal(t, "mapping", strings.Join(strings.Fields(lines[1]), " "), fmt.Sprintf("0 %d 65536", hostRoot))
	if lines[2] == namespaceOf(t, os.Getpid(), "user") {
		t.Error("the user namespace is the host's")
	}
	equal(t, "owners of /dev, /dev/mqueue, /dev/shm; null; hostname", strings.Join(lines[3:], " "), "0 0 0 null inside")
	equal(t, "the host's devices", deviceOwners(t), before)
}

// TestUserNamespaceLife has a created container, exec and a device on the way, as any engine would.
func TestUserNamespaceLife(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	b := s.userBundle(privileged)
	c := s.createIn(b)
	c.wantStatus("created")
	s.ok("start", c.name)
	equal(t, "uid of init on the host", statusField(c.proc("status"), "Uid"), fmt.Sprintf("%[1]d %[1]d %[1]d %[1]d", hostRoot))
	equal(t, "exec", c.inside("id -u; readlink /proc/self/ns/user"), "0\n"+c.namespace("user"))
	equal(t, "exec as a user", strings.TrimSpace(s.ok("exec", "--user", "1000:1000", c.name, "id", "-u")), "1000")
	s.ok("kill", c.name, "KILL")
	c.wantStatus("stopped")
	s.ok("delete", c.name)
}

// TestUserNamespaceLocksMounts plays the container's root that wants to write what the host gave read-only.
func TestUserNamespaceLocksMounts(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	host := filepath.Join(s.dir, "host")
	must(t, os.Mkdir(host, 0o777))
	must(t, os.Chmod(host, 0o777))
	out := s.userOutput("mount -o remount,bind,rw /mnt; touch /mnt/x; echo end", privileged, bindAt("/mnt", host, "ro"))
	if !strings.HasSuffix(out, "end\n") {
		t.Errorf("got %q", out)
	}
	left, err := os.ReadDir(host)
	must(t, err)
	if len(left) != 0 {
		t.Errorf("the container wrote %v through a read-only bind", left)
	}
}

func TestJoinUserNamespace(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	first := s.createIn(s.userBundle(privileged))
	path := func(kind string) string { return fmt.Sprintf("/proc/%d/ns/%s", first.pid(), kind) }
	b := s.userBundle(privileged, func(c *specs.Spec) { c.Linux.CgroupsPath += "-second" },
		withNamespace(specs.UserNamespace, path("user")), withNamespace(specs.NetworkNamespace, path("net")),
		func(c *specs.Spec) { c.Linux.UIDMappings, c.Linux.GIDMappings = nil, nil })
	second := s.createIn(b)
	s.ok("start", second.name)
	equal(t, "user namespace", second.namespace("user"), first.namespace("user"))
	equal(t, "network namespace", second.namespace("net"), first.namespace("net"))
	equal(t, "exec", second.inside("id -u"), "0")
}
