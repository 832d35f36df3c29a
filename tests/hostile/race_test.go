package hostile

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	. "github.com/sock-runtime/sock/tests/sandbox"
)

// onlyMounts leaves out what takes time and has nothing to do with mounts.
func onlyMounts(c *specs.Spec) {
	c.Linux.Namespaces = []specs.LinuxNamespace{{Type: specs.MountNamespace}, {Type: specs.PIDNamespace}}
	c.Linux.MaskedPaths, c.Linux.ReadonlyPaths, c.Mounts, c.Hostname = nil, nil, c.Mounts[:1], ""
}

// mountsBelow lists the host's mounts below a directory.
func mountsBelow(dir string) []string {
	var list []string
	for _, point := range MountPoints() {
		if strings.HasPrefix(point, dir) {
			list = append(list, point)
		}
	}
	return list
}

// CVE-2021-30465 and CVE-2024-45310: a container that shares a volume exchanges a directory in it for a link to a host
// directory, while mount points and directories are made there for another one.
func TestMountTargetRace(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	volume, source, outside := s.HostDir(), s.HostDir(), filepath.Join(s.Dir, "outside")
	Must(t, os.Mkdir(outside, 0o755))
	Must(t, os.Mkdir(filepath.Join(volume, "directory"), 0o755))
	Must(t, os.Symlink("/../../../../../../../.."+outside, filepath.Join(volume, "link")))
	swapper := func(dir string) *Container {
		c := s.CreateIn(bundleOf(s, BindAt("/volume", dir), attack("swap", "/volume/directory", "/volume/link"), inCgroup(s.Mark+"-swap")))
		s.OK("start", c.ID)
		waitFor(c, "ready\n")
		return c
	}
	c := swapper(volume)
	victim := []Change{
		onlyMounts, Writable, Args("true"), BindAt("/volume", volume),
		MountAt("/volume/directory/tmpfs/a", "tmpfs", "tmpfs"), BindAt("/volume/directory/bind/b", source),
		BindAt("/volume/directory/file/c", filepath.Join(source, "file")), MountAt("/volume/directory", "tmpfs", "tmpfs"),
		MountAt("/volume/link/d", "tmpfs", "tmpfs"),
		func(c *specs.Spec) { c.Process.Cwd = "/volume/directory/cwd" },
	}
	before := mountsBelow(s.Dir)
	rounds := rounds(1000)
	const workers = 2
	succeeded, workersDone := [workers]int{}, sync.WaitGroup{}
	for worker := range workers {
		b := s.Bundle(append(victim, inCgroup(fmt.Sprint(s.Mark, "-", worker)))...)
		Must(t, os.MkdirAll(filepath.Join(b.Rootfs, outside), 0o755)) // where the link leads, to whom is inside
		workersDone.Go(func() {
			for range rounds / workers {
				r := s.Sock("run", "--bundle", b.Dir, fmt.Sprint("victim-", worker))
				if r.Code == 0 {
					succeeded[worker]++
				} else if !strings.Contains(r.Stderr, "mounts[") && !strings.Contains(r.Stderr, "cwd") {
					t.Error(r)
					return
				}
			}
		})
	}
	workersDone.Wait()
	t.Logf("%v of %d containers ran", succeeded, rounds)
	if entries, err := os.ReadDir(outside); err != nil || len(entries) > 0 {
		t.Errorf("in the host's directory: %v, %v", entries, err)
	}
	Equal(t, "the host's mounts", fmt.Sprint(mountsBelow(s.Dir)), fmt.Sprint(before))
	Equal(t, "the file that was bound", ReadFile(filepath.Join(source, "file")), "host\n")

	// The controls.
	for _, verb := range []string{"naive-mkdir", "naive-bind"} {
		root := filepath.Join(s.Dir, verb)
		Must(t, os.MkdirAll(filepath.Join(root, "volume/directory"), 0o755))
		Must(t, os.Symlink(outside, filepath.Join(root, "volume/link")))
		s.OK("delete", "--force", c.ID)
		c = swapper(filepath.Join(root, "volume"))
		out, err := exec.Command(attacker, verb, root, "volume/directory", outside).CombinedOutput()
		if err != nil || string(out) != "escaped\n" {
			t.Errorf("%s: the attack does not work, so the test shows nothing: %v %s", verb, err, out)
		}
	}
}

// The image's directories are links to the host's, absolute or up: what is made for the container appears in it, or nowhere.
func TestHostFilesThroughLinks(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	outside, ran := filepath.Join(s.Dir, "outside"), 0
	file := filepath.Join(s.HostDir(), "file")
	for _, target := range []string{outside, "../../../../../../../../.." + outside, outside + "/missing", outside + "/missing/more"} {
		for _, userns := range []bool{false, true} {
			Must(t, os.MkdirAll(outside, 0o777))
			changes := []Change{
				Writable, Args("true"), WithTerminal,
				BindAt("/etc/hosts", file), BindAt("/etc/some/where", file), MountAt("/run/lock", "tmpfs", "tmpfs"),
				func(c *specs.Spec) {
					c.Process.Cwd = "/new"
					if !userns {
						c.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/extra", Type: "c", Major: 1, Minor: 3}}
					}
				},
			}
			b := s.Bundle(changes...)
			if userns {
				b = s.UserBundle(changes...)
			}
			for _, name := range strings.Fields("dev etc run var") {
				path := filepath.Join(b.Rootfs, name)
				Must(t, os.RemoveAll(path))
				Must(t, os.Symlink(target+"/"+name, path))
			}
			console := s.Console()
			r := s.Sock("create", "--bundle", b.Dir, "--console-socket", console.Path, "links")
			if r.Code == 0 {
				ran++
				s.OK("start", "links")
				s.OK("delete", "--force", "links")
			}
			t.Logf("%s, user namespace %t: %v", target, userns, r)
			if entries, err := os.ReadDir(outside); err != nil || len(entries) > 0 {
				t.Errorf("%s, user namespace %t: in the host's directory: %v, %v", target, userns, entries, err)
			}
		}
	}
	if ran == 0 {
		t.Error("no container was created, so nothing was made")
	}
}
