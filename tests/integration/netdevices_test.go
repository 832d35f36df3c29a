package integration

import (
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	. "github.com/sock-runtime/sock/tests/sandbox"
)

// network is a network namespace that stands for the host's, so that no test sees another's devices. A process holds it.
type network struct {
	*Sandbox
	pid int
}

func newNetwork(s *Sandbox) network {
	s.Helper()
	_, err := exec.LookPath("ip")
	Installable(s.T, err == nil, "ip is missing: install iproute2")
	holder := exec.Command("/bin/busybox", "sleep", "1000")
	holder.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNET}
	Must(s.T, holder.Start())
	s.Cleanup(func() { _ = holder.Process.Kill(); _ = holder.Wait() })
	return network{s, holder.Process.Pid}
}

func (n network) path() string { return fmt.Sprintf("/proc/%d/ns/net", n.pid) }

// ip runs ip(8) there.
func (n network) ip(args string) string {
	n.Helper()
	out, err := exec.Command("nsenter", append([]string{"--net=" + n.path(), "ip"}, strings.Fields(args)...)...).CombinedOutput()
	if err != nil {
		n.Fatalf("ip %s: %v: %s", args, err, out)
	}
	return string(out)
}

// device makes one with addresses; only one end of the veth counts.
func (n network) device(name string) {
	n.Helper()
	out, err := exec.Command("nsenter", "--net="+n.path(), "ip", "link", "add", "name", name, "mtu", "1400", "type", "veth", "peer", "name", name+"-end").CombinedOutput()
	Need(n.T, err == nil, fmt.Sprintf("the kernel makes no veth: %s", out))
	n.ip("address add 192.0.2.7/24 dev " + name)
	n.ip("address add 169.254.7.7/16 scope link dev " + name)
	n.ip("-6 address add 2001:db8::7/64 nodad dev " + name)
	n.ip("link set " + name + " up")
}

var deviceLine = regexp.MustCompile(`(?m)^\d+: ([^:@]+)[:@]`)

// devices are the names there but for loopback and the other ends, sorted.
func (n network) devices() string { return devicesIn(n.ip("-o link")) }

func devicesIn(list string) string {
	var names []string
	for _, m := range deviceLine.FindAllStringSubmatch(list, -1) {
		if m[1] != "lo" && !strings.HasSuffix(m[1], "-end") {
			names = append(names, m[1])
		}
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

// sock runs the runtime there.
func (n network) sock(args ...string) Result {
	n.Helper()
	cmd := n.Command(args...)
	cmd.Args = append([]string{"nsenter", "--net=" + n.path(), Binary}, cmd.Args[1:]...)
	cmd.Path, _ = exec.LookPath("nsenter")
	return n.Do(cmd)
}

// wants checks that what ip(8) says of a device has all of these.
func (n network) wants(what, text string, want ...string) {
	n.Helper()
	for _, w := range want {
		if !strings.Contains(text, w) {
			n.Errorf("no %q in what is %s:\n%s", w, what, text)
		}
	}
}

func withDevices(names ...string) Change {
	return func(c *specs.Spec) {
		c.Linux.NetDevices = map[string]specs.LinuxNetDevice{}
		for i := 0; i < len(names); i += 2 {
			c.Linux.NetDevices[names[i]] = specs.LinuxNetDevice{Name: names[i+1]}
		}
	}
}

func TestNetDevices(t *testing.T) {
	t.Parallel()
	for _, where := range []string{"new", "by path", "user namespace"} {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			s := NewSandbox(t)
			host := newNetwork(s)
			host.device("d0")
			host.device("d1")
			changes := []Change{withDevices("d0", "eth0", "d1", ""), func(c *specs.Spec) {
				c.Linux.Sysctl = map[string]string{"net.ipv4.conf.eth0.forwarding": "1"}
			}}
			b, other := s.Bundle, newNetwork(s)
			switch where {
			case "by path":
				changes = append(changes, WithNamespace(specs.NetworkNamespace, other.path()))
			case "user namespace":
				b = s.UserBundle
			}
			c := &Container{Sandbox: s, Bundle: b(changes...), ID: s.NewID()}
			if r := host.sock("create", "--bundle", c.Dir(), c.ID); r.Code != 0 {
				t.Fatal(r)
			}
			s.OK("start", c.ID)
			Equal(t, "devices of the host", host.devices(), "")
			Equal(t, "devices of the container", devicesIn(c.Inside("ip -o link")), "d1 eth0")
			host.wants("in the container", c.Inside("ip address show eth0"), "UP", "mtu 1400", "192.0.2.7/24", "2001:db8::7/64")
			if text := c.Inside("ip address show eth0"); strings.Contains(text, "169.254.7.7") {
				t.Errorf("an address of the host's link came along: %s", text)
			}
			Equal(t, "sysctl", c.Inside("cat /proc/sys/net/ipv4/conf/eth0/forwarding"), "1")
			s.OK("delete", "--force", c.ID)
			if where == "by path" { // its owner keeps it
				Equal(t, "devices of the namespace", other.devices(), "d1 eth0")
				return
			}
			// The namespace takes them with it, config-linux.md "Namespace Lifecycle and Container Termination".
			Eventually(t, "the end of the other ends", func() error {
				if list := host.ip("-o link"); strings.Contains(list, "-end") {
					return fmt.Errorf("there are %s", list)
				}
				return nil
			})
		})
	}
}

// The name may be a pattern, of which the kernel makes one that is free.
func TestNetDevicePattern(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	host := newNetwork(s)
	host.device("d0")
	host.device("d1")
	b := s.Bundle(withDevices("d0", "net%d", "d1", "net%d"), Args("ip", "-o", "link"))
	r := host.sock("run", "--bundle", b.Dir, s.NewID())
	Equal(t, "devices", devicesIn(r.Stdout), "net0 net1")
}

// Whatever fails, the device is on the host as it was, and the error names it.
func TestNetDeviceErrors(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		change Change
		texts  []string
	}{
		{"missing", withDevices("d0", "", "d9", ""), Said(`linux.netDevices["d9"]`, "there is no device d9", "no such device")},
		{"taken name", withDevices("d0", "lo"), Said(`linux.netDevices["d0"]`, "there is a device lo already")},
		{"immovable", withDevices("d0", "", "lo", "lo2"), Said(`linux.netDevices["lo"]`, "invalid argument")},
		{"host's namespace", func(c *specs.Spec) { WithoutNamespace(specs.NetworkNamespace)(c); withDevices("d0", "")(c) }, Said("linux.netDevices", "need a network namespace")},
		{"bad name", withDevices("d0", "a/b"), Said(`linux.netDevices["d0"].name`)},
		{"later error", func(c *specs.Spec) { withDevices("d0", "eth0")(c); c.Process.Args = []string{"nosuch"} }, Said("executable file not found")},
		{"failed hook", func(c *specs.Spec) { withDevices("d0", "eth0")(c); WithHook("createRuntime", "exit 1")(c) }, Said("createRuntime")},
		{"failed mount", func(c *specs.Spec) {
			withDevices("d0", "eth0")(c)
			BindAt("/mnt", "/no/such/source")(c)
		}, Said("/no/such/source")},
		{"user namespace", func(c *specs.Spec) {
			InUserNamespace(c)
			withDevices("d0", "eth0")(c)
			c.Process.Args = []string{"nosuch"}
		}, Said("executable file not found")},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := NewSandbox(t)
			host := newNetwork(s)
			host.device("d0")
			b := s.UserBundle(func(config *specs.Spec) {
				// Only one of them is for a user namespace.
				config.Linux.UIDMappings, config.Linux.GIDMappings = nil, nil
				WithoutNamespace(specs.UserNamespace)(config)
			}, c.change)
			for _, verb := range []string{"create", "run"} {
				r := host.sock(verb, "--bundle", b.Dir, "none")
				if r.Code == 0 {
					t.Errorf("succeeded: %v", r)
				}
				OneLine(t, r)
				for _, text := range c.texts {
					if !strings.Contains(strings.ReplaceAll(r.Stderr, `\"`, `"`), text) {
						t.Errorf("no %q in %v", text, r)
					}
				}
				s.CheckNothingLeft()
				Equal(t, "devices of the host", host.devices(), "d0")
				host.wants("back on the host", host.ip("address show d0"), ",UP", "mtu 1400", "192.0.2.7/24", "2001:db8::7/64")
			}
		})
	}
}

func TestNetDevicesInPlan(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	b := s.Bundle(withDevices("d0", "eth0"))
	if out := s.OK("plan", "--explain", b.Dir); !regexp.MustCompile(
		`(?m)^host +linux.netDevices\["d0"\] +move the network device d0 into the container as eth0 +ip link set d0 netns PID name eth0$`).MatchString(out) {
		t.Errorf("plan: %s", out)
	}
	if out := s.OK("plan", "--json", b.Dir); !strings.Contains(out, `"meanwhile"`) {
		t.Errorf("plan: %s", out)
	}
}
