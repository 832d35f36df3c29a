package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

func TestDefaultDevices(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	out := s.output(`cd /dev; stat -c '%n %F %a %t:%T' null zero full random urandom tty
		for l in fd stdin stdout stderr ptmx; do echo $l $(readlink $l); done
		echo x > /dev/null; head -c 3 /dev/zero | wc -c; (echo x > /dev/full) 2>&1 | grep -c space`)
	equal(t, "devices", strings.TrimSpace(out), strings.TrimSpace(`
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

func TestDevices(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	devices := func(c *specs.Spec) {
		mode := os.FileMode(0o640)
		c.Linux.Devices = []specs.LinuxDevice{
			{Path: "/dev/mine", Type: "c", Major: 10, Minor: 229, FileMode: &mode, UID: ptr(uint32(11)), GID: ptr(uint32(12))},
			{Path: "/dev/deep/block", Type: "b", Major: 7, Minor: 300, FileMode: ptr(os.FileMode(0o600))},
			{Path: "/dev/pipe", Type: "p", FileMode: ptr(os.FileMode(0o622)), UID: ptr(uint32(13))},
			{Path: "/dev/unbuffered", Type: "u", Major: 1, Minor: 5, FileMode: ptr(os.FileMode(0o666))},
			{Path: "/opt/outside", Type: "c", Major: 1, Minor: 3, FileMode: ptr(os.FileMode(0o755))},
		}
		c.Process.User.Umask = ptr(uint32(0o77))
	}
	b := s.bundle(devices, script(`stat -c '%n %F %a %u:%g %t:%T' /dev/mine /dev/deep/block /dev/pipe /dev/unbuffered /opt/outside`))
	must(t, os.Mkdir(filepath.Join(b.rootfs, "opt"), 0o755))
	equal(t, "devices", s.ok("run", "--bundle", b.dir, s.id()), strings.TrimLeft(`
/dev/mine character special file 640 11:12 a:e5
/dev/deep/block block special file 600 0:0 7:12c
/dev/pipe fifo 622 13:0 0:0
/dev/unbuffered character special file 666 0:0 1:5
/opt/outside character special file 755 0:0 1:3
`, "\n"))
}

func TestDevicesCgroup(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	device := func(c *specs.Spec) {
		c.Linux.Devices = []specs.LinuxDevice{
			{Path: "/dev/denied", Type: "c", Major: 1, Minor: 11, FileMode: ptr(os.FileMode(0o666))}, // kmsg
			{Path: "/dev/allowed", Type: "c", Major: 10, Minor: 229, FileMode: ptr(os.FileMode(0o666))},
		}
		c.Linux.Resources.Devices = []specs.LinuxDeviceCgroup{
			{Allow: false, Access: "rwm"},
			{Allow: true, Type: "c", Major: ptr(int64(10)), Minor: ptr(int64(229)), Access: "r"},
		}
	}
	out := s.output(`
		mknod /tmp/block b 7 0 2>/dev/null && (head -c1 /tmp/block 2>&1 | grep -o 'Operation not permitted')
		head -c1 /dev/denied 2>&1 | grep -o 'Operation not permitted'
		echo x > /dev/null && echo null
		mknod /tmp/null c 1 3 && echo made
		cat /sys/fs/cgroup/devices/devices.list`, device, privileged, mountAt("/tmp", "tmpfs", "tmpfs"))
	for _, want := range []string{"Operation not permitted\n", "null\nmade\n", "c 10:229 r\n", "c 1:3 rwm\n", "c 136:* rwm\n", "c *:* m\n", "b *:* m\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in %q", want, out)
		}
	}
	equal(t, "denials", strings.Count(out, "Operation not permitted"), 2)
	if strings.Contains(out, "a *:*") {
		t.Errorf("everything is allowed: %s", out)
	}
}
