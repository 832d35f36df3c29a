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

// The mapping of an idmapped mount is that of the user namespace, also of one by path.
func TestIDMapOfJoinedUserNamespace(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	dir := idMappable(s)
	WriteFile(t, filepath.Join(dir, "file"), "", 0o644)
	Must(t, os.Chown(filepath.Join(dir, "file"), 3, 4))
	other := s.CreateIn(s.UserBundle(func(c *specs.Spec) { c.Linux.CgroupsPath += "-other" }))
	b := s.UserBundle()
	s.Configure(b, WithNamespace(specs.UserNamespace, fmt.Sprintf("/proc/%d/ns/user", other.Pid())),
		Script("stat -c %u:%g /mnt/file"), BindAt("/mnt", dir, "idmap"))
	Equal(t, "owner", s.OK("run", "--bundle", b.Dir, s.NewID()), "3:4\n")
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

// A mount on the stage is a slave of the host's; in the container it is what config.json wants.
func TestUserNamespacePropagation(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	dir := s.HostDir()
	b := s.UserBundle(Args("cat", "/proc/self/mountinfo"),
		BindAt("/shared", dir, "shared"), BindAt("/unbindable", dir, "unbindable"), BindAt("/private", dir, "private"),
		MountAt("/tmpfs", "tmpfs", "tmpfs", "shared"))
	mounts := MountsOf(s.OK("run", "--bundle", b.Dir, s.NewID()))
	for point, want := range map[string]string{"/shared": "shared:", "/unbindable": "unbindable", "/private": "", "/tmpfs": "shared:"} {
		if got, ok := mounts[point]; !ok || !strings.HasPrefix(got.Optional, want) || want == "" && got.Optional != "" {
			t.Errorf("%s is %+v, want %q", point, got, want)
		}
	}
}

// A source below the rootfs is what the container has there, mounts that came before too.
func TestUserNamespaceBindOfOwn(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	b := s.UserBundle()
	own := func(c *specs.Spec) {
		InUserNamespace(c)
		Script("cat /final/inner/file; touch /ro/x 2>&1")(c)
		BindAt("/mnt/inner", s.HostDir())(c)
		MountAt("/final", "bind", b.Rootfs+"/mnt", "rbind")(c)
		BindAt("/ro", b.Rootfs+"/tmp", "ro")(c)
	}
	s.Configure(b, own)
	r := s.Sock("run", "--bundle", b.Dir, s.NewID())
	if !strings.HasPrefix(r.Stdout, "host\n") || !strings.Contains(r.Stdout, "Read-only") {
		t.Error(r)
	}
}

// TestNewUserNamespaceInOthers has a new user namespace with each of another container's other namespaces. What the kernel
// lets only their owner do there fails with an error that says so.
func TestNewUserNamespaceInOthers(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	first := s.Running(WithNamespace(specs.CgroupNamespace, ""), WithNamespace(specs.TimeNamespace, ""))
	bound := func(destination, source string) Change {
		return func(c *specs.Spec) {
			for i := range c.Mounts {
				if c.Mounts[i].Destination == destination {
					c.Mounts[i] = specs.Mount{Destination: destination, Type: "bind", Source: source, Options: []string{"rbind", "ro"}}
				}
			}
		}
	}
	for kind, c := range map[specs.LinuxNamespaceType]struct {
		file    string
		instead Change
		refused string // without it
	}{
		specs.PIDNamespace:     {"pid", bound("/proc", "/proc"), "a new proc takes a pid namespace"},
		specs.NetworkNamespace: {"net", bound("/sys", "/sys"), "a new sysfs takes a network namespace"},
		specs.IPCNamespace:     {"ipc", bound("/dev/mqueue", s.HostDir()), "a new mqueue takes a ipc namespace"},
		specs.UTSNamespace:     {"uts", func(c *specs.Spec) { c.Hostname = "" }, "hostname: set the host name to runc: operation not permitted"},
		specs.CgroupNamespace:  {"cgroup", func(*specs.Spec) {}, ""},
		specs.TimeNamespace:    {"time", func(*specs.Spec) {}, ""},
	} {
		t.Run(string(kind), func(t *testing.T) {
			change := func(config *specs.Spec) {
				config.Linux.CgroupsPath += "-second"
				WithNamespace(kind, fmt.Sprintf("/proc/%d/ns/%s", first.Pid(), c.file))(config)
			}
			if c.refused != "" {
				s.Fails(Said(c.refused), "run", "--bundle", s.UserBundle(change).Dir, "refused")
			}
			second := s.CreateIn(s.UserBundle(change, c.instead))
			s.OK("start", second.ID)
			Equal(t, "namespace", second.Namespace(c.file), first.Namespace(c.file))
			Equal(t, "namespace of exec", second.Inside("id -u; readlink /proc/self/ns/"+c.file), "0\n"+first.Namespace(c.file))
			s.OK("delete", "--force", second.ID)
		})
	}
	s.Fails(Said("linux.namespaces", "new mount namespace"), "run", "--bundle", s.UserBundle(WithNamespace(specs.MountNamespace, fmt.Sprintf("/proc/%d/ns/mnt", first.Pid())), func(c *specs.Spec) {
		c.Linux.CgroupsPath += "-second"
	}).Dir, "refused")
}

func TestUserNamespaceTime(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	out := s.UserOutput("cat /proc/self/timens_offsets", WithNamespace(specs.TimeNamespace, ""), func(c *specs.Spec) {
		c.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"monotonic": {Secs: 77}, "boottime": {Secs: 88, Nanosecs: 5}}
	})
	Equal(t, "offsets", Words(out), "monotonic 77 0 boottime 88 5")
}

// TestUserNamespaceGroups has the ids of a process in a user namespace: additional groups, and what is not mapped.
func TestUserNamespaceGroups(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	c := s.CreateIn(s.UserBundle(func(c *specs.Spec) {
		c.Process.User = specs.User{UID: 7, GID: 8, AdditionalGids: []uint32{9, 65535}}
	}))
	s.OK("start", c.ID)
	Equal(t, "groups of init on the host", StatusField(c.Proc("status"), "Groups"), fmt.Sprintf("%d %d", HostRoot+9, HostRoot+65535))
	Equal(t, "exec", Words(c.Inside("id -u; id -G")), "7 8 9 65535")
	Equal(t, "exec as another user", Words(s.OK("exec", "--user", "10:11", c.ID, "sh", "-c", "id -u; id -G")), "10 11 9 65535")
	s.Fails(Said("process.user: uid 65536", "not mapped"), "exec", "--user", "65536", c.ID, "id")
	s.Fails(Said("process.user", "not mapped"), "run", "--bundle", s.UserBundle(func(c *specs.Spec) {
		c.Linux.CgroupsPath += "-second"
		c.Process.User.AdditionalGids = []uint32{70000}
	}).Dir, "refused")
	s.Fails(Said("linux.uidMappings", "id 0", "not mapped"), "run", "--bundle", s.UserBundle(func(c *specs.Spec) {
		c.Linux.CgroupsPath += "-second"
		c.Linux.UIDMappings = []specs.LinuxIDMapping{{ContainerID: 1, HostID: HostRoot, Size: 10}}
	}).Dir, "refused")
}
