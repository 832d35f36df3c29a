package hostile

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	. "github.com/sock-runtime/sock/tests/sandbox"
)

// CVE-2019-16884: what is mounted over /proc, or in it, takes the place of what is written there. The image's links must not
// lead there either.
func TestProcCovered(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	dir := s.HostDir()
	file := filepath.Join(dir, "file")
	links := map[string]string{
		"image": "/proc", "relative": "proc", "up": "usr/../../proc", "deep": "/proc/sys/kernel", "self": "/proc/self", "chain": "image", "chain2": "/chain/self/attr",
		"file": "/proc/version", "usr/far": "../proc/self/attr",
	}
	for destination, change := range map[string]Change{
		"directory on /proc":               BindAt("/proc", dir),
		"tmpfs on /proc":                   MountAt("/proc", "tmpfs", "tmpfs"),
		"directory on /proc by ..":         BindAt("/tmp/../proc", dir),
		"directory on /proc/self":          BindAt("/proc/self", dir),
		"directory on /proc/sys":           BindAt("/proc/sys", dir),
		"file on /proc/self/attr/exec":     BindAt("/proc/self/attr/exec", file),
		"file on /proc/cpuinfo/../uptimes": BindAt("/proc/cpuinfo/../uptimes", file),
		"directory on a link":              BindAt("/image", dir),
		"directory on a relative link":     BindAt("/relative", dir),
		"directory on a link up":           BindAt("/up", dir),
		"directory on a deep link":         BindAt("/deep", dir),
		"directory on a link to self":      BindAt("/self", dir),
		"directory below a link":           BindAt("/image/sys/net", dir),
		"directory on a chain":             BindAt("/chain", dir),
		"directory on a chain of more":     BindAt("/chain2", dir),
		"directory on a link further down": BindAt("/usr/far", dir),
		"file on a link":                   BindAt("/file", file),
		"file below a link":                BindAt("/image/self/attr/exec", file),
		"tmpfs on a link":                  MountAt("/deep", "tmpfs", "tmpfs"),
		"tmpfs with copy-up on a link":     MountAt("/deep", "tmpfs", "tmpfs", "tmpcopyup"),
		"mqueue on a link":                 MountAt("/deep", "mqueue", "mqueue"),
		"overlay on a link":                MountAt("/deep", "overlay", "overlay", "lowerdir="+dir+":"+s.HostDir()),
	} {
		t.Run(destination, func(t *testing.T) {
			for _, userns := range []bool{false, true} {
				changes := []Change{Writable, change}
				if userns {
					changes = append(changes, InUserNamespace)
				}
				b := s.Bundle(changes...)
				for name, target := range links {
					Must(t, os.Symlink(target, filepath.Join(b.Rootfs, name)))
				}
				r := s.Sock("run", "--bundle", b.Dir, "covered")
				if r.Code == 0 || !strings.Contains(r.Stderr, "inside /proc") && !strings.Contains(r.Stderr, "not of type proc") {
					t.Errorf("in a user namespace %t: %v", userns, r)
				}
				OneLine(t, r)
			}
		})
	}
	// Other links are what they were.
	b := s.Bundle(Script("cat /elsewhere/file; touch /mnt/made"), Writable, BindAt("/elsewhere", dir))
	Must(t, os.Symlink("/mnt", filepath.Join(b.Rootfs, "elsewhere")))
	Equal(t, "output", s.OK("run", "--bundle", b.Dir, s.NewID()), "host\n")
	Equal(t, "whether the mount is where the link leads", exists(filepath.Join(dir, "made")), true)
	// Known to be harmless.
	for _, name := range []string{"/proc/cpuinfo", "/proc/uptime", "/proc/loadavg"} {
		Equal(t, name, s.OutputOf("cat "+name, BindAt(name, file)), "host\n")
	}
	// The host's, in another place: a monitor's.
	Equal(t, "a file on the host's procfs in another place", s.OutputOf("cat /host/proc/uptime",
		BindAt("/host/proc", "/proc", "rbind"), BindAt("/host/proc/uptime", file)), "host\n")
}
