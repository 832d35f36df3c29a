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
)

// namespaceFiles are the names in /proc/PID/ns by the config's types.
var namespaceFiles = map[specs.LinuxNamespaceType]string{
	specs.PIDNamespace: "pid", specs.NetworkNamespace: "net", specs.IPCNamespace: "ipc", specs.UTSNamespace: "uts",
	specs.MountNamespace: "mnt", specs.CgroupNamespace: "cgroup", specs.TimeNamespace: "time",
}

func TestNewNamespaces(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	c := s.running(withNamespace(specs.CgroupNamespace, ""), withNamespace(specs.TimeNamespace, ""))
	for kind, file := range namespaceFiles {
		if c.namespace(file) == namespaceOf(t, os.Getpid(), file) {
			t.Errorf("%s is the host's", kind)
		}
	}
	equal(t, "user namespace", c.namespace("user"), namespaceOf(t, os.Getpid(), "user"))
	equal(t, "own pid", c.inside("echo $PPID; ls /sys/class/net"), "0\nlo")
}

func TestHostNamespaces(t *testing.T) {
	t.Parallel()
	for _, kind := range []specs.LinuxNamespaceType{
		specs.PIDNamespace, specs.NetworkNamespace, specs.IPCNamespace, specs.UTSNamespace, specs.CgroupNamespace, specs.TimeNamespace,
	} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			s := newSandbox(t)
			c := s.running(withoutNamespace(kind), func(c *specs.Spec) {
				if kind == specs.UTSNamespace {
					c.Hostname = ""
				}
			})
			file := namespaceFiles[kind]
			equal(t, "namespace", c.namespace(file), namespaceOf(t, os.Getpid(), file))
			equal(t, "namespace of exec", c.inside("readlink /proc/self/ns/"+file), c.namespace(file))
		})
	}
}

func TestWithoutMountNamespace(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	c := s.running(withoutNamespace(specs.MountNamespace), func(c *specs.Spec) {
		c.Linux.MaskedPaths, c.Linux.ReadonlyPaths = nil, nil
		c.Mounts = c.Mounts[:1]
	})
	equal(t, "namespace", c.namespace("mnt"), namespaceOf(t, os.Getpid(), "mnt"))
	equal(t, "root of exec", c.inside("ls /etc"), "group\npasswd")
	s.ok("delete", "--force", c.name)
	s.checkNothingLeft()
}

func TestJoinNamespaces(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	first := s.running(withNamespace(specs.CgroupNamespace, ""), withNamespace(specs.TimeNamespace, ""),
		func(c *specs.Spec) { c.Hostname = "first" })
	for kind, file := range namespaceFiles {
		if kind == specs.MountNamespace {
			continue // the rootfs is not in sight there; see TestJoinMountNamespace
		}
		t.Run(string(kind), func(t *testing.T) {
			s := &sandbox{T: t, dir: s.dir, root: s.root, mark: s.mark}
			c := &container{sandbox: s, name: "join-" + file}
			c.bundle = s.bundle(func(c *specs.Spec) {
				c.Hostname = ""
				c.Linux.CgroupsPath += "-" + file
			}, withNamespace(kind, fmt.Sprintf("/proc/%d/ns/%s", first.pid(), file)))
			s.ok("create", "--bundle", c.dir(), c.name)
			defer s.ok("delete", "--force", c.name)
			s.ok("start", c.name)
			equal(t, "namespace", c.namespace(file), first.namespace(file))
			equal(t, "namespace of exec", c.inside("readlink /proc/self/ns/"+file), first.namespace(file))
			switch kind {
			case specs.UTSNamespace:
				equal(t, "hostname", c.inside("hostname"), "first")
			case specs.PIDNamespace:
				if n, _ := strconv.Atoi(strings.Fields(statusField(c.proc("status"), "NSpid"))[1]); n <= 1 {
					t.Errorf("pid is %d in the namespace of another init", n)
				}
				equal(t, "processes", c.inside("ls -d /proc/1 | wc -l"), "1")
			}
		})
	}
	equal(t, "status of the first", first.state().Status, "running")
}

func TestJoinMountNamespace(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	keeper := exec.Command("/bin/busybox", "sleep", "1000")
	keeper.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
	must(t, keeper.Start())
	t.Cleanup(func() { _ = keeper.Process.Kill(); _ = keeper.Wait() })
	c := s.running(withNamespace(specs.MountNamespace, fmt.Sprintf("/proc/%d/ns/mnt", keeper.Process.Pid)))
	equal(t, "namespace", c.namespace("mnt"), namespaceOf(t, keeper.Process.Pid, "mnt"))
	equal(t, "root of exec", c.inside("ls /etc"), "group\npasswd")
	s.ok("delete", "--force", c.name)
	s.checkNothingLeft()
}

// The processes of a container that joined a PID namespace do not end with its init by themselves.
func TestDeleteInForeignPIDNamespace(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	first := s.running()
	second := s.running(withNamespace(specs.PIDNamespace, fmt.Sprintf("/proc/%d/ns/pid", first.pid())),
		script("sleep 1001 & echo ready; wait"), func(c *specs.Spec) { c.Linux.CgroupsPath += "-second" })
	second.waitOutput("ready\n")
	s.ok("delete", "--force", second.name)
	for _, dir := range s.cgroups() {
		if strings.HasSuffix(dir, "-second") {
			t.Errorf("left: %s", dir)
		}
	}
	equal(t, "status of the first", first.state().Status, "running")
	equal(t, "processes of the second", first.inside("grep -l 100[1] /proc/[0-9]*/cmdline | wc -l"), "0")
}

func TestWrongNamespacePath(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	notOne := filepath.Join(s.dir, "file")
	writeFile(t, notOne, "", 0o644)
	for _, path := range []string{"/proc/self/ns/uts", notOne, filepath.Join(s.dir, "missing")} {
		b := s.bundle(withNamespace(specs.NetworkNamespace, path))
		r := s.fails(said("linux.namespaces["), "create", "--bundle", b.dir, "wrong")
		oneLine(t, r)
		s.checkNothingLeft()
	}
}

func TestTimeOffsets(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	c := s.running(withNamespace(specs.TimeNamespace, ""), func(c *specs.Spec) {
		c.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{
			"boottime":  {Secs: 1000000, Nanosecs: 5},
			"monotonic": {Secs: 2000000},
		}
	})
	offsets := strings.Join(strings.Fields(c.proc("timens_offsets")), " ")
	equal(t, "offsets", offsets, "monotonic 2000000 0 boottime 1000000 5")
	host, _ := strconv.ParseFloat(strings.Fields(readFile("/proc/uptime"))[0], 64)
	for _, out := range []string{c.inside("cat /proc/uptime"), s.output("cat /proc/uptime", withNamespace(specs.TimeNamespace, ""), func(c *specs.Spec) {
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
	s := newSandbox(t)
	host := readFile("/proc/sys/kernel/hostname") + readFile("/proc/sys/kernel/domainname")
	out := s.output("cat /proc/sys/kernel/hostname /proc/sys/kernel/domainname", func(c *specs.Spec) {
		c.Hostname, c.Domainname = "inside", "example.org"
	})
	equal(t, "names", out, "inside\nexample.org\n")
	equal(t, "host's names", readFile("/proc/sys/kernel/hostname")+readFile("/proc/sys/kernel/domainname"), host)
}

func TestSysctl(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	files := "/proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/conf/lo/forwarding /proc/sys/kernel/shmmni /proc/sys/fs/mqueue/msg_max"
	host := func() (text string) {
		for _, name := range strings.Fields(files) {
			text += readFile(name)
		}
		return text
	}
	before := host()
	out := s.output("cat "+files, func(c *specs.Spec) {
		c.Linux.Sysctl = map[string]string{
			"net.ipv4.ip_forward": "1", "net/ipv4/conf/lo/forwarding": "1", "kernel.shmmni": "1234", "fs.mqueue.msg_max": "44",
		}
	})
	equal(t, "values", out, "1\n1\n1234\n44\n")
	equal(t, "host's values", host(), before)
}

// A sysctl without a namespace of its own would be the host's.
func TestSysctlOfHost(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	for _, c := range []struct {
		key    string
		change change
	}{
		{"net.ipv4.ip_forward", withoutNamespace(specs.NetworkNamespace)},
		{"kernel.shmmni", withoutNamespace(specs.IPCNamespace)},
		{"kernel.pid_max", writable},
		{"vm.swappiness", writable},
	} {
		file := "/proc/sys/" + strings.ReplaceAll(c.key, ".", "/")
		before := readFile(file)
		b := s.bundle(c.change, func(config *specs.Spec) { config.Linux.Sysctl = map[string]string{c.key: "7"} })
		s.fails(said(c.key), "create", "--bundle", b.dir, "sysctl")
		equal(t, c.key, readFile(file), before)
	}
	s.checkNothingLeft()
}
