package netdevice

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// namespace is a new network namespace, which ends with the test.
type namespace struct {
	*testing.T
	file *os.File
}

func newNamespace(t *testing.T) namespace {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	made := make(chan *os.File)
	go func() {
		defer close(made)
		runtime.LockOSThread() // and never back: the thread ends here
		if unix.Unshare(unix.CLONE_NEWNET) == nil {
			if f, err := os.Open("/proc/thread-self/ns/net"); err == nil {
				made <- f
			}
		}
	}()
	f := <-made
	if f == nil {
		t.Fatal("no network namespace")
	}
	t.Cleanup(func() { f.Close() })
	return namespace{t, f}
}

// ip runs ip(8) there.
func (n namespace) ip(args string) []byte {
	n.Helper()
	cmd := exec.Command("nsenter", append([]string{"--net=/proc/self/fd/3", "ip"}, strings.Fields(args)...)...)
	cmd.ExtraFiles = []*os.File{n.file}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		n.Fatalf("ip %s: %v: %s", args, err, stderr.String())
	}
	return out
}

func (n namespace) conn() *Conn {
	n.Helper()
	c, err := OpenIn(int(n.file.Fd()))
	if err != nil {
		n.Fatal(err)
	}
	n.Cleanup(c.Close)
	return c
}

// seen is what ip(8) tells of a device.
type seen struct {
	Ifindex   int32
	Ifname    string
	Flags     []string
	MTU       int
	Txqlen    int
	Address   string
	Addresses []struct {
		Local, Address, Broadcast, Scope string
		Prefixlen                        int
		Noprefixroute, Dynamic           bool
		Metric                           int
	} `json:"addr_info"`
}

// device makes one: an end of a veth, the other end of which doesn't count.
func (n namespace) device(name, options string) {
	n.Helper()
	args := strings.Fields("--net=/proc/self/fd/3 ip link add name " + name + " " + options + " type veth peer name " + name + otherEnd)
	cmd := exec.Command("nsenter", args...)
	cmd.ExtraFiles = []*os.File{n.file}
	if out, err := cmd.CombinedOutput(); strings.Contains(string(out), "Unknown device type") {
		n.Skip("the kernel makes no veth")
	} else if err != nil {
		n.Fatalf("make device %s: %v: %s", name, err, out)
	}
}

const otherEnd = "-end"

// devices lists those of the namespace by name, without loopback.
func (n namespace) devices() map[string]seen {
	n.Helper()
	var list []seen
	if err := json.Unmarshal(n.ip("-json address"), &list); err != nil {
		n.Fatal(err)
	}
	devices := map[string]seen{}
	for _, d := range list {
		if d.Ifname != "lo" && !strings.HasSuffix(d.Ifname, otherEnd) {
			devices[d.Ifname] = d
		}
	}
	return devices
}

func (n namespace) names() string {
	n.Helper()
	var names []string
	for name := range n.devices() {
		names = append(names, name)
	}
	return fmt.Sprint(names)
}

// ips are a device's addresses of global scope as ip(8) has them.
func (s seen) ips() string {
	var list []string
	for _, a := range s.Addresses {
		if a.Scope == "global" {
			list = append(list, fmt.Sprintf("%s%s/%d metric %d noprefixroute %t brd %q", a.Local, a.Address, a.Prefixlen, a.Metric, a.Noprefixroute, a.Broadcast))
		}
	}
	return strings.Join(list, ", ")
}

func (s seen) up() bool { return strings.Contains(strings.Join(s.Flags, " ")+" ", "UP ") }

// furnished is a device with something of everything.
func (n namespace) furnished(name string) seen {
	n.Helper()
	n.device(name, "address 02:11:22:33:44:55 mtu 1789 txqueuelen 77")
	n.ip("address add 192.0.2.7/24 broadcast 192.0.2.255 metric 5 dev " + name)
	n.ip("address add 192.0.2.8/24 dev " + name) // a secondary one
	n.ip("address add 198.51.100.1 peer 198.51.100.2 dev " + name)
	n.ip("address add 203.0.113.3/28 noprefixroute dev " + name)
	n.ip("address add 169.254.7.7/16 scope link dev " + name)
	n.ip("address add 203.0.113.99/28 valid_lft 1000 preferred_lft 1000 dev " + name) // not permanent
	n.ip("-6 address add 2001:db8::7/64 nodad dev " + name)
	n.ip("link set " + name + " up")
	return n.devices()[name]
}

func TestMove(t *testing.T) {
	for _, as := range []string{"", "eth0", "eth%d"} {
		t.Run("as "+as, func(t *testing.T) {
			host, box := newNamespace(t), newNamespace(t)
			was := host.furnished("d0")
			want := strings.ReplaceAll(was.ips(), ", 203.0.113.99/28 metric 0 noprefixroute false brd \"\"", "")
			if strings.Count(want, "/") != 5 || was.ips() == want {
				t.Fatalf("the device has %s", was.ips())
			}
			from, to := host.conn(), box.conn()
			moved, err := from.Move("d0", as, to)
			if err != nil {
				t.Fatal(err)
			}
			name := strings.Replace(as, "%d", "0", 1)
			if name == "" {
				name = "d0"
			}
			is, there := box.devices()[name]
			if !there || len(host.devices()) != 0 {
				t.Fatalf("on the host %s, in the box %s", host.names(), box.names())
			}
			if is.ips() != want {
				t.Errorf("addresses\n%s, want\n%s", is.ips(), want)
			}
			if is.MTU != 1789 || is.Txqlen != 77 || is.Address != "02:11:22:33:44:55" || is.Ifindex != was.Ifindex || !is.up() {
				t.Errorf("%+v, was %+v", is, was)
			}
			if err := moved.Back(); err != nil {
				t.Fatal(err)
			}
			back := host.devices()["d0"]
			if len(box.devices()) != 0 || back.ips() != want || back.Ifindex != was.Ifindex || !back.up() || back.MTU != 1789 {
				t.Errorf("back: %+v, was %+v", back, was)
			}
		})
	}
}

// One that is down, and has no address, comes up there and is down again when it is back.
func TestMoveOfUnusedDevice(t *testing.T) {
	host, box := newNamespace(t), newNamespace(t)
	host.device("d0", "")
	moved, err := host.conn().Move("d0", "", box.conn())
	if err != nil {
		t.Fatal(err)
	}
	if !box.devices()["d0"].up() {
		t.Error("it is not up")
	}
	if err := moved.Back(); err != nil {
		t.Fatal(err)
	}
	if d, there := host.devices()["d0"]; !there || d.up() {
		t.Errorf("back: %+v", d)
	}
}

// Its number and its old name may be somebody else's there.
func TestMoveToTakenNumber(t *testing.T) {
	host, box := newNamespace(t), newNamespace(t)
	host.device("d0", "index 7")
	host.device("d1", "index 8")
	box.device("d0", "index 7")
	box.device("eth0", "index 8")
	from, to := host.conn(), box.conn()
	for _, m := range []struct{ name, as string }{{"d0", "eth%d"}, {"d1", ""}} {
		if _, err := from.Move(m.name, m.as, to); err != nil {
			t.Fatal(err)
		}
	}
	var up []string
	for name, d := range box.devices() {
		if d.up() {
			up = append(up, strings.TrimRight(name, "0123456789"))
		}
	}
	slices.Sort(up)
	if got := fmt.Sprint(up); got != "[d eth]" || len(box.devices()) != 4 || len(host.devices()) != 0 {
		t.Errorf("on the host %s, in the box %s", host.names(), box.names())
	}
}

func TestMoveErrors(t *testing.T) {
	host, box := newNamespace(t), newNamespace(t)
	was := host.furnished("d0")
	box.device("eth0", "")
	box.device("d0", "")
	from, to := host.conn(), box.conn()
	for _, c := range []struct {
		name, as, want string
		errno          unix.Errno
	}{
		{"nosuch", "", "there is no device nosuch", unix.ENODEV},
		{"d0", "eth0", "there is a device eth0 already", 0},
		{"d0", "", "there is a device d0 already", 0},
		{"d0", "a/b", "invalid argument", unix.EINVAL},
		{"d0", "eth%s", "", unix.EINVAL},
		{"lo", "lo2", "", unix.EINVAL},
	} {
		_, err := from.Move(c.name, c.as, to)
		if err == nil || !strings.Contains(err.Error(), c.want) || c.errno != 0 && !errors.Is(err, c.errno) {
			t.Errorf("%s as %q: error %v, want %s", c.name, c.as, err, c.want)
		}
	}
	if is := host.devices()["d0"]; is.Ifindex != was.Ifindex || !is.up() || is.ips() != was.ips() {
		t.Errorf("a device that could not be moved: %+v, was %+v", is, was)
	}
	if n := len(box.devices()); n != 2 {
		t.Errorf("in the box: %s", box.names())
	}
}

// The kernel moves first and renames then. Whoever takes the name in between makes it fail in the middle.
func TestRenameFails(t *testing.T) {
	host, box := newNamespace(t), newNamespace(t)
	was := host.furnished("d0")
	box.device("eth0", "")
	from, to := host.conn(), box.conn()
	d, err := from.find("d0")
	if err != nil {
		t.Fatal(err)
	}
	there, err := from.transfer(d, device{d.index, "eth0", true}, to)
	if !errors.Is(err, unix.EEXIST) {
		t.Fatalf("transfer: %v", err)
	}
	if _, err := to.look(there.index, ""); err != nil {
		t.Skip("this kernel doesn't move it")
	}
	m := &Moved{from: from, to: to, was: d, is: there, addresses: []address{}}
	if err := m.Back(); err != nil {
		t.Fatal(err)
	}
	if is, ok := host.devices()["d0"]; !ok || !is.up() || is.Ifindex != was.Ifindex {
		t.Errorf("back: %+v", is)
	}
}

// What fails when the device is there already takes it back.
func TestMoveFailsThere(t *testing.T) {
	host, box := newNamespace(t), newNamespace(t)
	was := host.furnished("d0")
	cmd := exec.Command("nsenter", "--net=/proc/self/fd/3", "sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1")
	cmd.ExtraFiles = []*os.File{box.file}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Skipf("no IPv6: %s", out)
	}
	_, err := host.conn().Move("d0", "eth0", box.conn())
	if err == nil || !strings.Contains(err.Error(), "2001:db8::7/64") {
		t.Fatalf("error %v", err)
	}
	if d, there := host.devices()["d0"]; !there || !d.up() || d.Ifindex != was.Ifindex || !strings.Contains(d.ips(), "2001:db8::7/64") {
		t.Errorf("%+v, was %+v", d, was)
	}
	if n := len(box.devices()); n != 0 {
		t.Errorf("in the box: %s", box.names())
	}
}

// The other end of a veth stays where it is, and they still reach each other.
func TestMoveVeth(t *testing.T) {
	host, box := newNamespace(t), newNamespace(t)
	host.ip("link add v0 type veth peer name v1")
	host.ip("address add 192.0.2.1/24 dev v0")
	host.ip("address add 192.0.2.2/24 dev v1")
	host.ip("link set v0 up")
	if _, err := host.conn().Move("v1", "eth0", box.conn()); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("nsenter", "--net=/proc/self/fd/3", "busybox", "ping", "-c", "1", "-W", "5", "192.0.2.1")
	cmd.ExtraFiles = []*os.File{box.file}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("ping: %v: %s", err, out)
	}
}
