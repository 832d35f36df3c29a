package hostile

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	. "github.com/sock-runtime/sock/tests/sandbox"
)

// lines compares two texts line by line.
func compareLines(t *testing.T, what, got, want string) {
	t.Helper()
	a, b := strings.Split(got, "\n"), strings.Split(want, "\n")
	for _, line := range a {
		if !slices.Contains(b, line) {
			t.Errorf("%s: only in the container's: %s", what, line)
		}
	}
	for _, line := range b {
		if !slices.Contains(a, line) {
			t.Errorf("%s: not in the container's: %s", what, line)
		}
	}
}

// A container gets a network namespace in which nobody was before.
func TestFreshNetwork(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	b := bundleOf(s, attack("dump-network"), func(c *specs.Spec) { c.Linux.ReadonlyPaths, c.Linux.MaskedPaths = nil, nil })
	out := s.OK("run", "--bundle", b.Dir, s.NewID())
	reference, err := exec.Command("unshare", "--net", "sh", "-c", "ip link set lo up; exec "+attacker+" dump-network").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, reference)
	}
	if len(strings.Split(out, "\n")) < 100 {
		t.Fatalf("not much was seen: %s", out)
	}
	compareLines(t, "network", out, string(reference))

	// The control: the test would see what a former user leaves.
	for _, residue := range []string{"ip address add 10.1.2.3/32 dev lo", "sysctl -qw net.ipv4.ip_default_ttl=63", "ip route add blackhole 10.9.0.0/16"} {
		used, err := exec.Command("unshare", "--net", "sh", "-c", "ip link set lo up; "+residue+" || echo 63 > /proc/sys/net/ipv4/ip_default_ttl; exec "+attacker+" dump-network").CombinedOutput()
		Must(t, err)
		if string(used) == string(reference) {
			t.Errorf("the test does not see: %s", residue)
		}
	}
}

// snapshot reads all files of a cgroup directory.
func snapshot(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := make(map[string]string)
	Must(t, filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		relative, _ := filepath.Rel(dir, name)
		if d.IsDir() {
			files[relative] = "a directory"
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		files[relative] = info.Mode().String()
		if info.Mode()&0o400 != 0 {
			f, err := os.Open(name)
			if err == nil {
				data := make([]byte, 64<<10)
				n, _ := f.Read(data)
				files[relative] += " " + string(data[:n])
				f.Close()
			}
		}
		return nil
	}))
	return files
}

// differences of one cgroup directory from another, but for what a process is the reason of, or the machine as a whole.
func differences(got, want map[string]string) []string {
	live := []string{
		"cgroup.procs", "tasks", "cgroup.threads", "cgroup.events", "stat", "usage", "current", "peak", "pressure", "time", "events", "memory.oom_control", "swap", "kmem", "percpu",
		"misc", "hugetlb", "devices.list", // which is always set
	}
	var list []string
	for name, text := range want {
		if file, ok := got[name]; !ok {
			list = append(list, name+" is missing")
		} else if file != text && !slices.ContainsFunc(live, func(l string) bool { return strings.Contains(name, l) }) {
			list = append(list, fmt.Sprintf("%s is %q, not %q", name, file, text))
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			list = append(list, name+" is left")
		}
	}
	return list
}

// A container gets cgroups that are like new ones, but for what its config asks for and the process in them.
func TestFreshCgroup(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	c := s.Create(func(c *specs.Spec) { c.Linux.Resources = nil })
	compared := 0
	for controller, dir := range c.CgroupDirs() {
		if !strings.HasSuffix(dir, s.Mark) {
			continue // a hierarchy in which it has none of its own
		}
		reference := filepath.Join(filepath.Dir(dir), s.Mark+"-reference")
		Must(t, os.Mkdir(reference, 0o755))
		if controller == "cpuset" && !Unified() { // has to be set before a process can be in it
			for _, name := range []string{"cpuset.cpus", "cpuset.mems"} {
				Must(t, os.WriteFile(filepath.Join(reference, name), []byte(ReadFile(filepath.Join(dir, name))), 0))
			}
		}
		for _, difference := range differences(snapshot(t, dir), snapshot(t, reference)) {
			t.Errorf("%s: %s", dir, difference)
		}
		compared++
		// The control: the test would see what a former user leaves.
		fresh := snapshot(t, reference)
		Must(t, os.Mkdir(filepath.Join(reference, "child"), 0o755))
		for _, name := range []string{"cpu.shares", "cpu.weight", "pids.max", "blkio.weight", "net_cls.classid"} {
			if file := filepath.Join(reference, name); exists(file) {
				Must(t, os.WriteFile(file, []byte("77"), 0))
				if n := len(differences(snapshot(t, reference), fresh)); n < 2 {
					t.Errorf("the test does not see a change of %s", name)
				}
			}
		}
		if len(differences(snapshot(t, reference), fresh)) == 0 {
			t.Errorf("the test does not see a child in %s", reference)
		}
		Must(t, RemoveCgroup(reference))
	}
	if compared == 0 {
		t.Errorf("there was nothing to compare: %v", c.CgroupDirs())
	}
}

// CVE-2020-15257: a socket with an abstract name can be reached from every container on the host's network.
func TestNoAbstractSocket(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	// In a network namespace that is ours alone, everything that is there is the runtime's.
	b := s.Bundle(WithoutNamespace(specs.NetworkNamespace), func(c *specs.Spec) {
		c.Mounts = slices.DeleteFunc(c.Mounts, func(m specs.Mount) bool { return m.Type == "sysfs" || m.Type == "cgroup" })
		c.Linux.MaskedPaths, c.Linux.ReadonlyPaths = nil, nil
	})
	id := s.NewID()
	script := `set -e
sock="$0 --root $1"
$sock run --bundle $2 $3 &
until $sock exec $3 cat /proc/net/unix 2>/dev/null; do sleep 0.01; done
cat /proc/net/unix
$sock kill $3 KILL
wait || true`
	cmd := s.Command()
	cmd.Path = "/usr/bin/unshare"
	cmd.Args = []string{"unshare", "--net", "sh", "-c", script, Binary, s.Root, b.Dir, id}
	if _, err := os.Stat(cmd.Path); err != nil {
		cmd.Path = "/bin/unshare"
	}
	r := s.Do(cmd)
	if strings.Count(r.Stdout, "Inode") != 2 {
		t.Fatal(r)
	}
	for line := range strings.Lines(r.Stdout) {
		if f := strings.Fields(line); len(f) > 7 && strings.HasPrefix(f[7], "@") {
			t.Errorf("an abstract socket: %s", line)
		}
	}
}

// One container writes without end to a pipe that nobody reads, and has children without end. Its neighbours don't feel it,
// as far as two processors go around.
func TestFloodingNeighbour(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	flooding := bundleOf(s, attack("flood"), allCapabilities, func(c *specs.Spec) {
		c.Linux.Resources.Pids = &specs.LinuxPids{Limit: Ptr(int64(200))}
		c.Linux.Resources.CPU = &specs.LinuxCPU{Quota: Ptr(int64(50000)), Period: Ptr(uint64(100000))}
	})
	// In the foreground, with pipes that are full.
	var ends []io.Closer
	for n := range 2 {
		id := s.NewID()
		flooding := flooding
		s.Configure(flooding, attack("flood"), allCapabilities, inCgroup(fmt.Sprint(s.Mark, "-flood-", n)), func(c *specs.Spec) {
			c.Linux.Resources.Pids = &specs.LinuxPids{Limit: Ptr(int64(200))}
			c.Linux.Resources.CPU = &specs.LinuxCPU{Quota: Ptr(int64(30000)), Period: Ptr(uint64(100000))}
		})
		cmd := s.Command("run", "--bundle", flooding.Dir, id)
		read, write, err := os.Pipe()
		Must(t, err)
		cmd.Stdout = write
		s.Start(cmd)
		write.Close()
		ends = append(ends, read)
		Eventually(t, "the flood", func() error {
			if r := s.Sock("state", id); r.Code != 0 || Decode[State](t, r.Stdout).Status != "running" {
				return fmt.Errorf("%v", r)
			}
			return nil
		})
		t.Cleanup(func() { _ = cmd.Wait() })
	}
	c := s.Running(inCgroup(s.Mark + "-calm"))
	text := strings.Repeat("0123456789abcdef\n", 10000)
	var slowest time.Duration
	for range rounds(20) {
		begin := time.Now()
		cmd := s.Command("exec", c.ID, "cat")
		cmd.Stdin = strings.NewReader(text)
		if r := s.Do(cmd); r.Code != 0 || r.Stdout != text {
			t.Errorf("exit status %d, %d bytes of %d came back", r.Code, len(r.Stdout), len(text))
		}
		slowest = max(slowest, time.Since(begin))
	}
	t.Logf("the slowest took %s", slowest)
	if slowest > SettleTimeout {
		t.Errorf("an exec beside a flood takes %s", slowest)
	}
	for _, id := range s.IDs {
		s.OK("delete", "--force", id)
	}
	for _, end := range ends {
		end.Close()
	}
}
