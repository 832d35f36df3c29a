package hostile

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	. "github.com/sock-runtime/sock/tests/sandbox"
)

const forward = "net/ipv4/ip_forward"

// writesProc makes create write to a procfs: a sysctl, an OOM score.
func writesProc(c *specs.Spec) {
	c.Linux.Sysctl = map[string]string{"net.ipv4.ip_forward": "1"}
	c.Process.OOMScoreAdj = Ptr(321)
	c.Linux.MaskedPaths, c.Linux.ReadonlyPaths = nil, nil
}

func withoutProc(c *specs.Spec) { c.Mounts = c.Mounts[1:] }

// fakeProc is a tree that looks like a procfs.
func fakeProc(t *testing.T, dir string) {
	t.Helper()
	for _, name := range []string{"sys/" + forward, "self/oom_score_adj", "thread-self/attr/exec", "self/attr/exec", "1/oom_score_adj", "sys/kernel/cap_last_cap", "uptime", "version", "loadavg"} {
		WriteFile(t, filepath.Join(dir, name), "fake\n", 0o666)
	}
}

func checkFake(t *testing.T, dir string) {
	t.Helper()
	Must(t, filepath.Walk(dir, func(name string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().IsRegular() && ReadFile(name) != "fake\n" {
			t.Errorf("%s was written: %q", name, ReadFile(name))
		}
		return err
	}))
}

// checkWritten looks at the truth: the container's network namespace, and its process.
func checkWritten(t *testing.T, pid int) {
	t.Helper()
	out, err := exec.Command("nsenter", "--net=/proc/"+fmt.Sprint(pid)+"/ns/net", "cat", "/proc/sys/"+forward).CombinedOutput()
	Must(t, err)
	Equal(t, "the sysctl", string(out), "1\n")
	Equal(t, "the OOM score", ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid)), "321\n")
}

// CVE-2019-19921, CVE-2023-27561, CVE-2025-52881: what is written to /proc goes where the image wants.
func TestProcfsWritesRedirected(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	for _, target := range []string{"/fake", "fake", "usr/../fake", "/nowhere", "/nowhere/at/all"} {
		b := s.Bundle(writesProc, inCgroup(s.Mark+"-link"))
		Must(t, os.Remove(filepath.Join(b.Rootfs, "proc")))
		Must(t, os.Symlink(target, filepath.Join(b.Rootfs, "proc")))
		fakeProc(t, filepath.Join(b.Rootfs, "fake"))
		s.Fails(Said("must be mounted on ordinary directory"), "create", "--bundle", b.Dir, "link")
		checkFake(t, filepath.Join(b.Rootfs, "fake"))
	}

	// A tree in the image, with no procfs over it; and one in a volume.
	volume := filepath.Join(s.Dir, "volume")
	fakeProc(t, volume)
	for name, changes := range map[string][]Change{
		"image":   {writesProc, withoutProc},
		"covered": {writesProc},
		"link":    {writesProc, withoutProc, BindAt("/volume", volume)},
	} {
		b := s.Bundle(append(changes, inCgroup(s.Mark+"-"+name))...)
		proc := filepath.Join(b.Rootfs, "proc")
		if name == "link" {
			Must(t, os.Remove(proc))
			Must(t, os.Symlink("/volume", proc))
		} else {
			fakeProc(t, proc)
		}
		c := s.CreateIn(b)
		checkWritten(t, c.Pid())
		checkFake(t, proc)
		checkFake(t, volume)
	}
}

// checkMasked looks whether the masks and the read-only copies are in the procfs, and not in what was in its place.
func checkMasked(t *testing.T, pid int) {
	t.Helper()
	var proc string // the mount's ID
	mounts := ReadFile(fmt.Sprintf("/proc/%d/mountinfo", pid))
	for line := range strings.Lines(mounts) {
		if f := strings.Fields(line); strings.Contains(line, " - proc proc ") && f[3] == "/" {
			proc = f[0]
		}
	}
	covered := 0
	for line := range strings.Lines(mounts) {
		if f := strings.Fields(line); f[1] == proc {
			covered++
		}
	}
	if covered != len(raced.MaskedPaths)+len(raced.ReadonlyPaths) {
		t.Errorf("%d files are covered in the procfs:\n%s", covered, mounts)
	}
}

// raced are covers of what every kernel has in its procfs, and fakeProc, too.
var raced = specs.Linux{MaskedPaths: []string{"/proc/uptime", "/proc/version"}, ReadonlyPaths: []string{"/proc/sys", "/proc/loadavg"}}

// The same while somebody who shares the root filesystem exchanges /proc for a link or a tree.
func TestProcfsRace(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	b := s.Bundle(writesProc, Writable, inCgroup(s.Mark+"-victim"), func(c *specs.Spec) {
		c.Linux.MaskedPaths, c.Linux.ReadonlyPaths = raced.MaskedPaths, raced.ReadonlyPaths
	})
	fakeProc(t, filepath.Join(b.Rootfs, "fake"))
	fakeProc(t, filepath.Join(b.Rootfs, "swapped"))
	Must(t, os.Symlink("/fake", filepath.Join(b.Rootfs, "link")))
	for _, with := range []string{"link", "swapped"} {
		name := "swap-" + with
		swapper := s.CreateIn(bundleOf(s, inCgroup(s.Mark+"-"+name), BindAt("/root-of-other", b.Rootfs), attack("swap", "/root-of-other/proc", "/root-of-other/"+with)))
		s.OK("start", swapper.ID)
		waitFor(swapper, "ready\n")
		created := 0
		for range rounds(50) {
			r := s.Sock("create", "--bundle", b.Dir, "raced")
			if r.Code == 0 {
				created++
				pid := Decode[State](t, s.OK("state", "raced")).Pid
				checkWritten(t, pid)
				checkMasked(t, pid)
				s.OK("delete", "--force", "raced")
			} else if !strings.Contains(r.Stderr, "ordinary directory") {
				t.Error(r)
			}
		}
		if created == 0 {
			t.Errorf("no container was created while /proc was exchanged for %s", with)
		}
		s.OK("delete", "--force", swapper.ID)
		for _, dir := range []string{"fake", "swapped", "proc"} {
			checkFake(t, filepath.Join(b.Rootfs, dir))
		}
	}
}
