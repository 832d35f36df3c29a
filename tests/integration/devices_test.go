package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	. "github.com/sock-runtime/sock/tests/sandbox"
)

func TestDefaultDevices(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	out := s.OutputOf(`cd /dev; stat -c '%n %F %a %t:%T' null zero full random urandom tty
		for l in fd stdin stdout stderr ptmx; do echo $l $(readlink $l); done
		echo x > /dev/null; head -c 3 /dev/zero | wc -c; (echo x > /dev/full) 2>&1 | grep -c space`)
	Equal(t, "devices", strings.TrimSpace(out), strings.TrimSpace(`
null character special file 666 1:3
zero character special file 666 1:5
full character special file 666 1:7
random character special file 666 1:8
urandom character special file 666 1:9
tty character special file 666 5:0
fd /proc/self/fd
stdin /proc/self/fd/0
stdout /proc/self/fd/1
stderr /proc/self/fd/2
ptmx pts/ptmx
3
1`))
}

// Through /proc/self/fd/0, or a masked file, root of a container could change the mode of the host's /dev/null for everyone.
func TestNullStaysTheHosts(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	before := DeviceOwners(t)
	const lines = `stat -L -c '%d:%i' /proc/self/fd/0 /dev/null | uniq | wc -l; chmod 600 /proc/self/fd/0; echo x >&0; stat -c %a /dev/null
		chmod 600 /proc/keys 2>/dev/null || echo refused; echo x > /proc/keys; cat /proc/keys | wc -c`
	cmd := s.Command("run", "--bundle", s.Bundle(Script(lines)).Dir, s.NewID()) // its stdin is /dev/null
	Equal(t, "output", s.Do(cmd).Stdout, "1\n600\nrefused\n0\n")
	Equal(t, "output of exec", s.Running().Inside("stat -L -c '%d:%i' /proc/self/fd/0 /dev/null | uniq | wc -l; chmod 600 /proc/self/fd/0; stat -c %a /dev/null"), "1\n600")
	if after := DeviceOwners(t); after != before {
		t.Errorf("the host's devices are\n%swere\n%s", after, before)
		Must(t, os.Chmod("/dev/null", 0o666))
	}
}

func TestDevices(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	devices := func(c *specs.Spec) {
		mode := os.FileMode(0o640)
		c.Linux.Devices = []specs.LinuxDevice{
			{Path: "/dev/mine", Type: "c", Major: 10, Minor: 229, FileMode: &mode, UID: Ptr(uint32(11)), GID: Ptr(uint32(12))},
			{Path: "/dev/deep/block", Type: "b", Major: 7, Minor: 300, FileMode: Ptr(os.FileMode(0o600))},
			{Path: "/dev/pipe", Type: "p", FileMode: Ptr(os.FileMode(0o622)), UID: Ptr(uint32(13))},
			{Path: "/dev/unbuffered", Type: "u", Major: 1, Minor: 5, FileMode: Ptr(os.FileMode(0o666))},
			{Path: "/opt/outside", Type: "c", Major: 1, Minor: 3, FileMode: Ptr(os.FileMode(0o755))},
		}
		c.Process.User.Umask = Ptr(uint32(0o77))
	}
	b := s.Bundle(devices, Script(`stat -c '%n %F %a %u:%g %t:%T' /dev/mine /dev/deep/block /dev/pipe /dev/unbuffered /opt/outside`))
	Must(t, os.Mkdir(filepath.Join(b.Rootfs, "opt"), 0o755))
	Equal(t, "devices", s.OK("run", "--bundle", b.Dir, s.NewID()), strings.TrimLeft(`
/dev/mine character special file 640 11:12 a:e5
/dev/deep/block block special file 600 0:0 7:12c
/dev/pipe fifo 622 13:0 0:0
/dev/unbuffered character special file 666 0:0 1:5
/opt/outside character special file 755 0:0 1:3
`, "\n"))
}

// unknownDevice is a node without a driver and, unless more is said, without a rule: to open it gives EPERM where the
// rules forbid it, ENXIO where they don't. Its major number is for local use (admin-guide/devices.txt).
func unknownDevice(c *specs.Spec) {
	c.Linux.Devices = append(c.Linux.Devices, specs.LinuxDevice{
		Path: "/dev/unknown", Type: "c", Major: 60, Minor: 1, FileMode: Ptr(os.FileMode(0o666)),
	})
}

// What the rules allow is the same for v1's devices controller and v2's eBPF; nodes may be made of all devices.
func TestDevicesCgroup(t *testing.T) {
	t.Parallel()
	const denied, allowed = "Operation not permitted", "No such device or address"
	rule := func(allow bool, kind, access string, numbers ...int64) specs.LinuxDeviceCgroup {
		r := specs.LinuxDeviceCgroup{Allow: allow, Type: kind, Access: access}
		for i, to := range []**int64{&r.Major, &r.Minor}[:len(numbers)] {
			*to = &numbers[i]
		}
		return r
	}
	for _, c := range []struct {
		name               string
		rules              []specs.LinuxDeviceCgroup // beyond that nothing is allowed
		read, write, block string
	}{
		{"nothing", nil, denied, denied, denied},
		{"another minor", []specs.LinuxDeviceCgroup{rule(true, "c", "rwm", 60, 2)}, denied, denied, denied},
		{"another type", []specs.LinuxDeviceCgroup{rule(true, "b", "rwm", 60, 1)}, denied, denied, allowed},
		{"read", []specs.LinuxDeviceCgroup{rule(true, "c", "r", 60, 1)}, allowed, denied, denied},
		{"write", []specs.LinuxDeviceCgroup{rule(true, "c", "w", 60, 1)}, denied, allowed, denied},
		{"all minors", []specs.LinuxDeviceCgroup{rule(true, "c", "rw", 60)}, allowed, allowed, denied},
		{"write denied again", []specs.LinuxDeviceCgroup{rule(true, "c", "rw", 60, 1), rule(false, "c", "w", 60, 1)}, allowed, denied, denied},
		{"everything", []specs.LinuxDeviceCgroup{rule(true, "a", "rwm")}, allowed, allowed, allowed},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := NewSandbox(t)
			out := s.OutputOf(`
				try() { (eval ": $1") 2>&1 | sed 's/.*: //'; }
				try '< /dev/unknown'; try '> /dev/unknown'
				cd /tmp
				mknod char c 60 1 && mknod block b 60 1 && mknod null c 1 3 && mknod pts c 136 9999 && echo made
				try '< char'; try '< block'
				try '< pts' | grep -c 'not permitted'
				for device in /dev/null null; do echo x > $device && echo null; done`,
				unknownDevice, Privileged, MountAt("/tmp", "tmpfs", "tmpfs"), resources(func(r *specs.LinuxResources) {
					r.Devices = append([]specs.LinuxDeviceCgroup{rule(false, "", "rwm")}, c.rules...)
				}))
			Equal(t, "output", out, strings.Join([]string{c.read, c.write, "made", c.read, c.block, "0", "null", "null", ""}, "\n"))
		})
	}
}
