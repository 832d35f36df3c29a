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

func TestUserNamespaceTerminal(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	con := s.Console()
	box := s.CreateIn(s.UserBundle(WithTerminal, Script("trap 'echo interrupted; exit 0' INT; sleep 1000 & tty; echo ready > /dev/tty; while :; do wait; done")), "--console-socket", con.Path)
	con.Receive()
	s.OK("start", box.ID)
	con.WaitFor("ready")
	con.Write("\x03") // it is the controlling terminal
	con.WaitFor("interrupted")
	box.WantStatus("stopped")
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

// joining has a container's process join another's namespaces, a user namespace among them.
func joining(c *Container, kinds ...specs.LinuxNamespaceType) Change {
	files := map[specs.LinuxNamespaceType]string{
		specs.UserNamespace: "user", specs.PIDNamespace: "pid", specs.NetworkNamespace: "net", specs.IPCNamespace: "ipc", specs.UTSNamespace: "uts",
	}
	pid := c.Pid()
	return func(config *specs.Spec) {
		config.Hostname = "" // would be set in the other's namespace, too
		for _, kind := range kinds {
			WithNamespace(kind, fmt.Sprintf("/proc/%d/ns/%s", pid, files[kind]))(config)
		}
	}
}

func TestJoinUserNamespace(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	first := s.CreateIn(s.UserBundle(Privileged, Args("sleep", "1000")))
	s.OK("start", first.ID)
	unmapped := func(c *specs.Spec) { c.Linux.UIDMappings, c.Linux.GIDMappings = nil, nil }
	all := joining(first, specs.UserNamespace, specs.PIDNamespace, specs.NetworkNamespace, specs.IPCNamespace, specs.UTSNamespace)
	for _, test := range []struct {
		name   string
		change []Change
		joined []string
	}{
		{"user and network", []Change{joining(first, specs.UserNamespace, specs.NetworkNamespace), unmapped}, []string{"user", "net"}},
		{"with its mappings in config.json", []Change{joining(first, specs.UserNamespace)}, []string{"user"}}, // podman run --userns container:X
		{"all of a pod", []Change{all}, []string{"user", "pid", "net", "ipc", "uts"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			second := s.CreateIn(s.UserBundle(append([]Change{Privileged, func(c *specs.Spec) { c.Linux.CgroupsPath += "-second" }}, test.change...)...))
			s.OK("start", second.ID)
			for _, kind := range test.joined {
				Equal(t, kind+" namespace", second.Namespace(kind), first.Namespace(kind))
			}
			Equal(t, "exec", second.Inside("id -u; readlink /proc/self/ns/pid"), "0\n"+second.Namespace("pid"))
			s.OK("kill", second.ID, "KILL")
			second.WantStatus("stopped")
			s.OK("delete", second.ID)
			first.WantStatus("running")
		})
	}
	s.Fails(Said("linux.uidMappings: the user namespace that is joined has others: 0 100000 65536"), "run", "--bundle",
		s.UserBundle(joining(first, specs.UserNamespace), func(c *specs.Spec) {
			c.Linux.UIDMappings = []specs.LinuxIDMapping{{HostID: HostRoot, Size: 1000}}
			c.Linux.CgroupsPath += "-third"
		}).Dir, "other")
}

// A new user namespace with another's PID namespace, which is the host's to join.
func TestNewUserNamespaceInPIDNamespace(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	first := s.Running()
	second := s.CreateIn(s.UserBundle(joining(first, specs.PIDNamespace), func(c *specs.Spec) {
		c.Linux.CgroupsPath += "-second"
		// A procfs of that PID namespace is not for this user namespace to mount; Podman does this, too.
		c.Mounts[0] = specs.Mount{Destination: "/proc", Type: "bind", Source: "/proc", Options: []string{"rbind"}}
	}))
	s.OK("start", second.ID)
	Equal(t, "PID namespace", second.Namespace("pid"), first.Namespace("pid"))
	Equal(t, "processes that the first one sees", first.Inside("ps -o comm | grep -c sleep"), "2")
	s.OK("kill", second.ID, "KILL")
	second.WantStatus("stopped")
}
