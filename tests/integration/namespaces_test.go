package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	. "github.com/sock-runtime/sock/tests/sandbox"
)

// namespaceFiles are the names in /proc/PID/ns by the config's types.
var namespaceFiles = map[specs.LinuxNamespaceType]string{
	specs.PIDNamespace: "pid", specs.NetworkNamespace: "net", specs.IPCNamespace: "ipc", specs.UTSNamespace: "uts",
	specs.MountNamespace: "mnt", specs.CgroupNamespace: "cgroup", specs.TimeNamespace: "time",
}

func TestNewNamespaces(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	c := s.Running(WithNamespace(specs.CgroupNamespace, ""), WithNamespace(specs.TimeNamespace, ""))
	for kind, file := range namespaceFiles {
		if c.Namespace(file) == NamespaceOf(t, os.Getpid(), file) {
			t.Errorf("%s is the host's", kind)
		}
	}
	Equal(t, "user namespace", c.Namespace("user"), NamespaceOf(t, os.Getpid(), "user"))
	Equal(t, "own pid", c.Inside("echo $PPID; ls /sys/class/net"), "0\nlo")
}

func TestHostNamespaces(t *testing.T) {
	t.Parallel()
	for _, kind := range []specs.LinuxNamespaceType{
		specs.PIDNamespace, specs.NetworkNamespace, specs.IPCNamespace, specs.UTSNamespace, specs.CgroupNamespace, specs.TimeNamespace,
	} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			s := NewSandbox(t)
			c := s.Running(WithoutNamespace(kind), func(c *specs.Spec) {
				if kind == specs.UTSNamespace {
					c.Hostname = ""
				}
			})
			file := namespaceFiles[kind]
			Equal(t, "namespace", c.Namespace(file), NamespaceOf(t, os.Getpid(), file))
			Equal(t, "namespace of exec", c.Inside("readlink /proc/self/ns/"+file), c.Namespace(file))
		})
	}
}

func TestWithoutMountNamespace(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	c := s.Running(WithoutNamespace(specs.MountNamespace), func(c *specs.Spec) {
		c.Linux.MaskedPaths, c.Linux.ReadonlyPaths = nil, nil
		c.Mounts = c.Mounts[:1]
	})
	Equal(t, "namespace", c.Namespace("mnt"), NamespaceOf(t, os.Getpid(), "mnt"))
	Equal(t, "root of exec", c.Inside("ls /etc"), "group\npasswd")
	s.OK("delete", "--force", c.ID)
	s.CheckNothingLeft()
}

func TestJoinNamespaces(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	first := s.Running(WithNamespace(specs.CgroupNamespace, ""), WithNamespace(specs.TimeNamespace, ""),
		func(c *specs.Spec) { c.Hostname = "first" })
	for kind, file := range namespaceFiles {
		if kind == specs.MountNamespace {
			continue // the rootfs is not in sight there; see TestJoinMountNamespace
		}
		t.Run(string(kind), func(t *testing.T) {
			s := &Sandbox{T: t, Dir: s.Dir, Root: s.Root, Mark: s.Mark}
			c := &Container{Sandbox: s, ID: "join-" + file}
			c.Bundle = s.Bundle(func(c *specs.Spec) {
				c.Hostname = ""
				c.Linux.CgroupsPath += "-" + file
			}, WithNamespace(kind, fmt.Sprintf("/proc/%d/ns/%s", first.Pid(), file)))
			s.OK("create", "--bundle", c.Dir(), c.ID)
			defer s.OK("delete", "--force", c.ID)
			s.OK("start", c.ID)
			Equal(t, "namespace", c.Namespace(file), first.Namespace(file))
			Equal(t, "namespace of exec", c.Inside("readlink /proc/self/ns/"+file), first.Namespace(file))
			switch kind {
			case specs.UTSNamespace:
				Equal(t, "hostname", c.Inside("hostname"), "first")
			case specs.PIDNamespace:
				if n, _ := strconv.Atoi(strings.Fields(StatusField(c.Proc("status"), "NSpid"))[1]); n <= 1 {
					t.Errorf("pid is %d in the namespace of another init", n)
				}
				Equal(t, "processes", c.Inside("ls -d /proc/1 | wc -l"), "1")
			}
		})
	}
	Equal(t, "status of the first", first.State().Status, "running")
}

func TestJoinMountNamespace(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	keeper := exec.Command("/bin/busybox", "sleep", "1000")
	keeper.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
	Must(t, keeper.Start())
	t.Cleanup(func() { _ = keeper.Process.Kill(); _ = keeper.Wait() })
	c := s.Running(WithNamespace(specs.MountNamespace, fmt.Sprintf("/proc/%d/ns/mnt", keeper.Process.Pid)))
	Equal(t, "namespace", c.Namespace("mnt"), NamespaceOf(t, keeper.Process.Pid, "mnt"))
	Equal(t, "root of exec", c.Inside("ls /etc"), "group\npasswd")
	s.OK("delete", "--force", c.ID)
	s.CheckNothingLeft()
}

// The processes of a container that joined a PID namespace do not end with its init by themselves.
func TestDeleteInForeignPIDNamespace(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	first := s.Running()
	second := s.Running(WithNamespace(specs.PIDNamespace, fmt.Sprintf("/proc/%d/ns/pid", first.Pid())),
		Script("sleep 1001 & echo ready; wait"), func(c *specs.Spec) { c.Linux.CgroupsPath += "-second" })
	second.WaitOutput("ready\n")
	s.OK("delete", "--force", second.ID)
	for _, dir := range s.Cgroups() {
		if strings.HasSuffix(dir, "-second") {
			t.Errorf("left: %s", dir)
		}
	}
	Equal(t, "status of the first", first.State().Status, "running")
	Equal(t, "processes of the second", first.Inside("grep -l 100[1] /proc/[0-9]*/cmdline | wc -l"), "0")
}

func TestWrongNamespacePath(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	notOne := filepath.Join(s.Dir, "file")
	WriteFile(t, notOne, "", 0o644)
	for _, path := range []string{"/proc/self/ns/uts", notOne, filepath.Join(s.Dir, "missing")} {
		b := s.Bundle(WithNamespace(specs.NetworkNamespace, path))
		r := s.Fails(Said("linux.namespaces["), "create", "--bundle", b.Dir, "wrong")
		OneLine(t, r)
		s.CheckNothingLeft()
	}
}

func TestTimeOffsets(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	c := s.Running(WithNamespace(specs.TimeNamespace, ""), func(c *specs.Spec) {
		c.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{
			"boottime":  {Secs: 1000000, Nanosecs: 5},
			"monotonic": {Secs: 2000000},
		}
	})
	offsets := strings.Join(strings.Fields(c.Proc("timens_offsets")), " ")
	Equal(t, "offsets", offsets, "monotonic 2000000 0 boottime 1000000 5")
	host, _ := strconv.ParseFloat(strings.Fields(ReadFile("/proc/uptime"))[0], 64)
	for _, out := range []string{c.Inside("cat /proc/uptime"), s.OutputOf("cat /proc/uptime", WithNamespace(specs.TimeNamespace, ""), func(c *specs.Spec) {
		c.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {Secs: 1000000}}
		c.Linux.CgroupsPath += "-2"
	})} {
		got, _ := strconv.ParseFloat(strings.Fields(out)[0], 64)
		if d := got - host; d < 999999 || d > 1000030 {
			t.Errorf("uptime is off by %.0f s", d)
		}
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	host := ReadFile("/proc/sys/kernel/hostname") + ReadFile("/proc/sys/kernel/domainname")
	out := s.OutputOf("cat /proc/sys/kernel/hostname /proc/sys/kernel/domainname", func(c *specs.Spec) {
		c.Hostname, c.Domainname = "inside", "example.org"
	})
	Equal(t, "names", out, "inside\nexample.org\n")
	Equal(t, "host's names", ReadFile("/proc/sys/kernel/hostname")+ReadFile("/proc/sys/kernel/domainname"), host)
}

func TestSysctl(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	files := "/proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/conf/lo/forwarding /proc/sys/kernel/shmmni /proc/sys/fs/mqueue/msg_max"
	host := func() (text string) {
		for _, name := range strings.Fields(files) {
			text += ReadFile(name)
		}
		return text
	}
	before := host()
	out := s.OutputOf("cat "+files, func(c *specs.Spec) {
		c.Linux.Sysctl = map[string]string{
			"net.ipv4.ip_forward": "1", "net/ipv4/conf/lo/forwarding": "1", "kernel.shmmni": "1234", "fs.mqueue.msg_max": "44",
		}
	})
	Equal(t, "values", out, "1\n1\n1234\n44\n")
	Equal(t, "host's values", host(), before)
}

// A sysctl without a namespace of its own would be the host's.
func TestSysctlOfHost(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	for _, c := range []struct {
		key    string
		change Change
	}{
		{"net.ipv4.ip_forward", WithoutNamespace(specs.NetworkNamespace)},
		{"kernel.shmmni", WithoutNamespace(specs.IPCNamespace)},
		{"kernel.pid_max", Writable},
		{"vm.swappiness", Writable},
	} {
		file := "/proc/sys/" + strings.ReplaceAll(c.key, ".", "/")
		before := ReadFile(file)
		b := s.Bundle(c.change, func(config *specs.Spec) { config.Linux.Sysctl = map[string]string{c.key: "7"} })
		s.Fails(Said(c.key), "create", "--bundle", b.Dir, "sysctl")
		Equal(t, c.key, ReadFile(file), before)
	}
	s.CheckNothingLeft()
}
