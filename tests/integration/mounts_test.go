package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	. "github.com/sock-runtime/sock/tests/sandbox"
)

const catMounts = "cat /proc/self/mountinfo"

func TestBind(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	dir := s.HostDir()
	WriteFile(t, filepath.Join(dir, "sub/other"), "other\n", 0o644)
	out := s.OutputOf("cat /made/for/it/file /etc/single; echo changed > /made/for/it/file; "+
		"touch /ro/x 2>/dev/null || echo read-only; "+catMounts,
		BindAt("/made/for/it", dir),
		BindAt("/etc/single", filepath.Join(dir, "sub/other"), "ro"),
		BindAt("/ro", dir, "ro", "noexec", "nosuid", "nodev"),
	)
	if !strings.HasPrefix(out, "host\nother\nread-only\n") {
		t.Errorf("output: %s", out)
	}
	Equal(t, "file on the host", ReadFile(filepath.Join(dir, "file")), "changed\n")
	mounts := MountsOf(out)
	for _, option := range []string{"ro", "noexec", "nosuid", "nodev"} {
		if !mounts["/ro"].Has(option) {
			t.Errorf("/ro has no %s: %+v", option, mounts["/ro"])
		}
	}
	if !mounts["/etc/single"].Has("ro") || !mounts["/made/for/it"].Has("rw") {
		t.Errorf("%+v, %+v", mounts["/etc/single"], mounts["/made/for/it"])
	}
}

// A type without bind among the options is no bind; bind makes any type one.
func TestBindByOption(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	out := s.OutputOf("cat /a/file /b/file", MountAt("/a", "none", s.HostDir(), "rbind"), MountAt("/b", "", s.HostDir(), "bind", "rprivate"))
	Equal(t, "output", out, "host\nhost\n")
}

func TestBindRelativeSource(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	b := s.Bundle(BindAt("/mnt", "data"), Args("cat", "/mnt/file"))
	WriteFile(t, filepath.Join(b.Dir, "data/file"), "bundle\n", 0o644)
	Equal(t, "output", s.OK("run", "--bundle", b.Dir, s.NewID()), "bundle\n")
}

func TestBindRecursive(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	dir := s.HostTmpfs(unix.MS_PRIVATE)
	sub := filepath.Join(dir, "sub")
	Must(t, os.Mkdir(sub, 0o755))
	Must(t, unix.Mount("sub", sub, "tmpfs", 0, ""))
	t.Cleanup(func() { _ = unix.Unmount(sub, unix.MNT_DETACH) })

	mounts := MountsOf(s.OutputOf(catMounts,
		BindAt("/plain", dir),
		MountAt("/rbind", "bind", dir, "rbind"),
		MountAt("/ro", "bind", dir, "rbind", "ro"),
		MountAt("/rro", "bind", dir, "rbind", "rro", "rnosuid", "rnodev", "rnoexec"),
		MountAt("/mixed", "bind", dir, "rbind", "rro", "rw", "rnoatime"),
	))
	if _, ok := mounts["/plain/sub"]; ok {
		t.Error("a plain bind took a mount below along")
	}
	for point, option := range map[string]string{
		"/rbind/sub": "rw", "/ro": "ro", "/ro/sub": "rw", "/rro": "ro", "/rro/sub": "ro", "/mixed/sub": "ro",
	} {
		if !mounts[point].Has(option) {
			t.Errorf("%s is not %s: %+v", point, option, mounts[point])
		}
	}
	for _, option := range []string{"nosuid", "nodev", "noexec"} {
		if !mounts["/rro/sub"].Has(option) {
			t.Errorf("/rro/sub is not %s: %+v", option, mounts["/rro/sub"])
		}
	}
	if !mounts["/mixed/sub"].Has("noatime") {
		t.Errorf("/mixed/sub is not noatime: %+v", mounts["/mixed/sub"])
	}
	if host := MountsOf(ReadFile("/proc/self/mountinfo")); !host[sub].Has("rw") || !host[dir].Has("rw") {
		t.Errorf("the host's mounts have changed: %+v, %+v", host[dir], host[sub])
	}
}

func TestPropagation(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		option, root, host string
		out, in            bool // do mounts come out of the container, and into it?
	}{
		{"rshared", "rshared", "shared", true, true},
		{"rslave", "rslave", "shared", false, true},
		{"rprivate", "rslave", "shared", false, false},
		{"shared", "shared", "shared", true, true},
		{"slave", "", "shared", false, true},
		{"private", "", "shared", false, false},
	} {
		t.Run(c.option+" in "+c.root, func(t *testing.T) {
			t.Parallel()
			s := NewSandbox(t)
			dir := s.HostTmpfs(unix.MS_SHARED)
			for _, name := range []string{"out", "in"} {
				Must(t, os.Mkdir(filepath.Join(dir, name), 0o755))
				t.Cleanup(func() { _ = unix.Unmount(filepath.Join(dir, name), unix.MNT_DETACH) })
			}
			box := s.Running(Privileged, MountAt("/mnt", "bind", dir, "rbind", c.option), func(config *specs.Spec) {
				config.Linux.RootfsPropagation = c.root
			}, Script("mount -t tmpfs out /mnt/out && echo mounted; sleep 1000"))
			box.WaitOutput("mounted\n")
			_, came := MountsOf(ReadFile("/proc/self/mountinfo"))[filepath.Join(dir, "out")]
			Equal(t, "mount on the host", came, c.out)
			Must(t, unix.Mount("in", filepath.Join(dir, "in"), "tmpfs", 0, ""))
			_, came = MountsOf(box.Proc("mountinfo"))["/mnt/in"]
			Equal(t, "mount in the container", came, c.in)
		})
	}
}

func TestRootfsPropagation(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ value, want string }{
		{"", "not shared"},
		{"private", ""},
		{"rprivate", ""},
		{"slave", "not shared"}, // a slave of the host's mount, or of nobody if that is private
		{"rslave", "not shared"},
		{"shared", "shared:"},
		{"rshared", "shared:"},
		{"unbindable", "unbindable"},
		{"runbindable", "unbindable"},
	} {
		t.Run("value "+c.value, func(t *testing.T) {
			t.Parallel()
			s := NewSandbox(t)
			// The bundle lies on a shared mount, as on a host that systemd set up.
			dir := s.HostTmpfs(unix.MS_SHARED)
			b := s.Bundle(Args("cat", "/proc/self/mountinfo"), func(config *specs.Spec) {
				config.Linux.RootfsPropagation = c.value
				config.Root.Path = filepath.Join(dir, "rootfs")
			})
			Must(t, os.CopyFS(filepath.Join(dir, "rootfs"), os.DirFS(b.Rootfs)))
			root := MountsOf(s.OK("run", "--bundle", b.Dir, s.NewID()))["/"]
			right := strings.HasPrefix(root.Optional, c.want)
			switch c.want {
			case "":
				right = root.Optional == ""
			case "not shared":
				right = !strings.Contains(root.Optional, "shared:") && root.Optional != "unbindable"
			}
			if !right {
				t.Errorf("/ is %q, want %q: %+v", root.Optional, c.want, root)
			}
			if now := MountsOf(ReadFile("/proc/self/mountinfo"))[dir]; !strings.HasPrefix(now.Optional, "shared:") {
				t.Errorf("the host's mount has become %+v", now)
			}
		})
	}
}

func TestTmpfs(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	b := s.Bundle(
		Script("stat -c '%a %u' /imagedir /given /fresh; "+catMounts),
		MountAt("/imagedir", "tmpfs", "tmpfs", "nosuid", "nodev", "noexec", "size=64k"),
		MountAt("/given", "tmpfs", "tmpfs", "mode=0711", "uid=12"),
		MountAt("/fresh", "tmpfs", "tmpfs", "ro"),
	)
	Must(t, os.Mkdir(filepath.Join(b.Rootfs, "imagedir"), 0o755))
	Must(t, os.Chmod(filepath.Join(b.Rootfs, "imagedir"), os.ModeSticky|0o750))
	out := s.OK("run", "--bundle", b.Dir, s.NewID())
	if want := "1750 0\n711 12\n1777 0\n"; !strings.HasPrefix(out, want) {
		t.Errorf("modes are %q, want %q", strings.SplitAfterN(out, "\n", 4)[:3], want)
	}
	mounts := MountsOf(out)
	if m := mounts["/imagedir"]; !strings.Contains(m.Super, "size=64k") || !m.Has("noexec") || !m.Has("nosuid") || !m.Has("nodev") {
		t.Errorf("/imagedir: %+v", m)
	}
	if m := mounts["/fresh"]; !m.Has("ro") {
		t.Errorf("/fresh: %+v", m)
	}
}

func TestTmpCopyUp(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	b := s.Bundle(Script("cat /image/a /image/sub/b; readlink /image/link; stat -c '%a %u:%g' /image /image/a; echo new > /image/a"), Privileged,
		MountAt("/image", "tmpfs", "tmpfs", "tmpcopyup"))
	image := filepath.Join(b.Rootfs, "image")
	WriteFile(t, filepath.Join(image, "a"), "a\n", 0o644)
	WriteFile(t, filepath.Join(image, "sub/b"), "b\n", 0o644)
	Must(t, os.Chown(filepath.Join(image, "a"), 5, 6))
	Must(t, os.Symlink("a", filepath.Join(image, "link")))
	Must(t, os.Chmod(image, 0o711))
	Equal(t, "output", s.OK("run", "--bundle", b.Dir, s.NewID()), "a\nb\na\n711 0:0\n644 5:6\n")
	Equal(t, "file of the image", ReadFile(filepath.Join(image, "a")), "a\n")
}

// Podman's --systemd has /run and /run/lock so.
func TestTmpCopyUpOnAnother(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	up := func(destination string) Change { return MountAt(destination, "tmpfs", "tmpfs", "tmpcopyup") }
	b := s.Bundle(Script("cat /run/a /run/lock/b; stat -c %a /run/lock; ls /mnt/sub"), up("/run"), up("/run/lock"), MountAt("/mnt", "tmpfs", "tmpfs"), up("/mnt/sub"))
	WriteFile(t, filepath.Join(b.Rootfs, "run/a"), "a\n", 0o644)
	WriteFile(t, filepath.Join(b.Rootfs, "run/lock/b"), "b\n", 0o644)
	Must(t, os.Chmod(filepath.Join(b.Rootfs, "run/lock"), 0o710))
	WriteFile(t, filepath.Join(b.Rootfs, "mnt/sub/hidden"), "", 0o644)
	Equal(t, "output", s.OK("run", "--bundle", b.Dir, s.NewID()), "a\nb\n710\n")
}

func TestTmpCopyUpOfLinkOutside(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	secret := s.HostDir()
	b := s.Bundle(Script("ls /image"), MountAt("/image", "tmpfs", "tmpfs", "tmpcopyup"))
	Must(t, os.Symlink(secret, filepath.Join(b.Rootfs, "image")))
	r := s.Sock("run", "--bundle", b.Dir, s.NewID())
	if strings.Contains(r.Stdout, "file") {
		t.Errorf("the host's files were copied: %v", r)
	}
}

func idmapped(destination, source string, uid, gid uint32, options ...string) Change {
	return func(c *specs.Spec) {
		c.Mounts = append(c.Mounts, specs.Mount{
			Destination: destination, Type: "bind", Source: source, Options: options,
			UIDMappings: []specs.LinuxIDMapping{{ContainerID: 0, HostID: uid, Size: 65536}},
			GIDMappings: []specs.LinuxIDMapping{{ContainerID: 0, HostID: gid, Size: 65536}},
		})
	}
}

// idMappable makes a host directory on a filesystem that can be mounted with mapped ids: tmpfs can since Linux 6.3, the
// one of the temporary files perhaps.
func idMappable(s *Sandbox) string {
	s.Helper()
	child := exec.Command("/bin/busybox", "sleep", "1000")
	mapping := []syscall.SysProcIDMap{{HostID: 100000, Size: 1}}
	child.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER, UidMappings: mapping, GidMappings: mapping}
	Must(s.T, child.Start())
	defer func() {
		_ = child.Process.Kill()
		_ = child.Wait()
	}()
	namespace, err := os.Open(fmt.Sprintf("/proc/%d/ns/user", child.Process.Pid))
	Must(s.T, err)
	defer namespace.Close()

	for _, dir := range []string{s.HostTmpfs(unix.MS_PRIVATE), s.HostDir()} {
		fd, err := unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
		Must(s.T, err)
		err = unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(namespace.Fd())})
		unix.Close(fd)
		if err == nil {
			return dir
		}
		s.Logf("%s can't be idmapped: %v", dir, err)
	}
	s.Skip("needs a filesystem that can be idmapped")
	return ""
}

func TestIDMappedBind(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	top := idMappable(s)
	dir, other := filepath.Join(top, "dir"), filepath.Join(top, "other")
	WriteFile(t, filepath.Join(dir, "file"), "", 0o644)
	Must(t, os.Chown(filepath.Join(dir, "file"), 3, 4))
	WriteFile(t, filepath.Join(other, "file"), "", 0o644)
	sub := filepath.Join(dir, "sub")
	Must(t, os.Mkdir(sub, 0o755))
	Must(t, unix.Mount(other, sub, "", unix.MS_BIND, ""))
	t.Cleanup(func() { _ = unix.Unmount(sub, unix.MNT_DETACH) })

	out := s.OutputOf("stat -c %u:%g /id/file /id/sub/file /rid/file /rid/sub/file /implied/file",
		idmapped("/id", dir, 100000, 200000, "rbind", "idmap"),
		idmapped("/rid", dir, 100000, 200000, "rbind", "ridmap"),
		idmapped("/implied", dir, 1000, 1000, "bind"),
	)
	Equal(t, "owners", out, "100003:200004\n0:0\n100003:200004\n100000:200000\n1003:1004\n")

	b := s.Bundle(MountAt("/id", "bind", dir, "bind", "idmap"))
	s.Fails(Said("mounts["), "create", "--bundle", b.Dir, "no-mappings") // nothing to map with
}

func TestMountData(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	out := s.OutputOf(catMounts+"; ls -ld /dev/ptmx /dev/mqueue; touch /sys/x 2>/dev/null || echo no", func(c *specs.Spec) {
		c.Mounts[0].Options = []string{"hidepid=2", "nosuid", "noexec", "nodev"}
	})
	mounts := MountsOf(out)
	for _, c := range []struct{ point, kind, options, super string }{
		{"/proc", "proc", "rw,nosuid,nodev,noexec", "hidepid="},
		{"/sys", "sysfs", "ro,nosuid,nodev,noexec", "ro"},
		{"/dev", "tmpfs", "rw,nosuid", "size=65536k"},
		{"/dev/pts", "devpts", "rw,nosuid,noexec", "gid=5"},
		{"/dev/pts", "devpts", "rw,nosuid,noexec", "mode=620"},
		{"/dev/pts", "devpts", "rw,nosuid,noexec", "ptmxmode=666"},
		{"/dev/shm", "tmpfs", "rw,nosuid,nodev,noexec", "size=65536k"},
		{"/dev/mqueue", "mqueue", "rw,nosuid,nodev,noexec", "rw"},
	} {
		m := mounts[c.point]
		if m.Kind != c.kind || !strings.HasPrefix(m.Options, c.options) || !strings.Contains(m.Super, c.super) {
			t.Errorf("%s: %+v, want %+v", c.point, m, c)
		}
	}
	if !strings.Contains(out, "pts/ptmx") {
		t.Errorf("/dev/ptmx is not of the container's devpts: %s", out)
	}
	if !strings.HasSuffix(out, "no\n") {
		t.Errorf("/sys is writable")
	}
}

// A cgroup mount shows the container's own cgroup, of v1 in one directory a hierarchy.
func TestCgroupMount(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		change Change
		root   string // as the container sees it, below the hierarchy's
	}{
		{"without namespace", WithoutNamespace(specs.CgroupNamespace), "CGROUP"},
		{"with namespace", WithNamespace(specs.CgroupNamespace, ""), "/"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := NewSandbox(t)
			root := strings.ReplaceAll(c.root, "CGROUP", s.Cgroup())
			dir := filepath.Join(CgroupRoot, ByCgroup("pids", ""))
			out := s.OutputOf(fmt.Sprintf("cat %s/pids.max; mkdir %s/x %s/x 2>/dev/null || echo no; cat /proc/self/cgroup; ", dir, CgroupRoot, dir)+catMounts, c.change,
				func(c *specs.Spec) { c.Linux.Resources.Pids = &specs.LinuxPids{Limit: Ptr(int64(77))} })
			if !strings.HasPrefix(out, "77\nno\n") || !strings.Contains(out, ":"+root+"\n") {
				t.Errorf("output: %s", out)
			}
			mounts := MountsOf(out)
			for _, controller := range ByCgroup([]string{"memory", "pids", "devices"}, []string{""}) {
				m := mounts[filepath.Join(CgroupRoot, controller)]
				if m.Kind != ByCgroup("cgroup", "cgroup2") || m.Root != root || !m.Has("ro") || !m.Has("nosuid") {
					t.Errorf("%s: %+v, want root %s", controller, m, root)
				}
			}
			if m := mounts[CgroupRoot]; m.Kind != ByCgroup("tmpfs", "cgroup2") || !m.Has("ro") {
				t.Errorf("%s: %+v", CgroupRoot, m)
			}
		})
	}
}

// A container may make cgroups where its mount is writable; they go with it.
func TestCgroupMountWritable(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	c := s.Running(func(c *specs.Spec) {
		for i := range c.Mounts {
			if m := &c.Mounts[i]; m.Type == "cgroup" {
				m.Options = slices.DeleteFunc(m.Options, func(o string) bool { return o == "ro" })
			}
		}
	})
	dir := filepath.Join(CgroupRoot, ByCgroup("pids", ""), "made")
	c.Inside("mkdir -p " + dir + "/deep && echo 0 > " + dir + "/deep/cgroup.procs && sleep 1001 >/dev/null 2>&1 &")
	Eventually(t, "the process", func() error {
		if ReadFile(c.CgroupFile("pids", "made/deep/cgroup.procs")) == "" {
			return fmt.Errorf("is not in the cgroup")
		}
		return nil
	})
	s.OK("delete", "--force", c.ID)
	s.CheckNothingLeft()
}

func TestRemount(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	mounts := MountsOf(s.OutputOf(catMounts,
		MountAt("/scratch", "tmpfs", "tmpfs", "nosuid"),
		MountAt("/scratch", "tmpfs", "tmpfs", "remount", "ro", "nosuid", "noexec"),
	))
	if m := mounts["/scratch"]; !m.Has("ro") || !m.Has("noexec") || !m.Has("nosuid") {
		t.Errorf("/scratch: %+v", m)
	}
}

// A destination below the rootfs's own path is one in the container, as in runc.
func TestDestinationBelowRootfs(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	b := s.Bundle(Script("cat /mnt/file"))
	s.Configure(b, Script("cat /mnt/file"), BindAt(b.Rootfs+"/mnt", s.HostDir()))
	Equal(t, "output", s.OK("run", "--bundle", b.Dir, s.NewID()), "host\n")
}

func TestMountsInOrder(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	dir := s.HostDir()
	out := s.OutputOf("cat /a/b/c/file; ls /hidden",
		MountAt("/a", "tmpfs", "tmpfs"),
		MountAt("/a/b", "tmpfs", "tmpfs"),
		BindAt("/a/b/c", dir),
		BindAt("/hidden", dir),
		MountAt("/hidden", "tmpfs", "tmpfs"),
	)
	Equal(t, "output", out, "host\n")
}

// Destinations lead through links of the image; they must stay inside the root.
func TestDestinationThroughLinks(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, link, destination, inside string }{
		{"absolute", "/etc", "/link/x", "etc/x"},
		{"many parents", "../../../../../../../../etc", "/link/x", "etc/x"},
		{"dangling", "/missing/deep", "/link/x", "missing/deep/x"},
		{"parents in the destination", "/etc", "/../../link/../x", "x"},
		{"chain", "/second", "/link/x", "tmp/x"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := NewSandbox(t)
			dir := s.HostDir()
			b := s.Bundle(BindAt(c.destination, dir), Script("cat /"+c.inside+"/file"))
			Must(t, os.Symlink(c.link, filepath.Join(b.Rootfs, "link")))
			Must(t, os.Symlink("/tmp", filepath.Join(b.Rootfs, "second")))
			r := s.Sock("run", "--bundle", b.Dir, s.NewID())
			if r.Code != 0 || r.Stdout != "host\n" {
				t.Error(r)
			}
			if _, err := os.Lstat("/" + c.inside); err == nil {
				t.Errorf("/%s was made on the host", c.inside)
			}
		})
	}
	t.Run("to a host directory", func(t *testing.T) {
		t.Parallel()
		s := NewSandbox(t)
		victim := s.HostDir()
		b := s.Bundle(MountAt("/link", "tmpfs", "tmpfs"), MountAt("/link/made", "tmpfs", "tmpfs"),
			func(c *specs.Spec) { c.Linux.MaskedPaths = append(c.Linux.MaskedPaths, "/masked") }, Args("cat", "/proc/self/mountinfo"))
		Must(t, os.Symlink(victim, filepath.Join(b.Rootfs, "link")))
		Must(t, os.Symlink(filepath.Join(victim, "file"), filepath.Join(b.Rootfs, "masked")))
		r := s.Sock("run", "--bundle", b.Dir, s.NewID())
		Equal(t, "exit status", r.Code, 0)
		if _, ok := MountsOf(r.Stdout)[filepath.Join(victim, "made")]; !ok {
			t.Errorf("not mounted inside: %v", r)
		}
		entries, err := os.ReadDir(victim)
		Must(t, err)
		Equal(t, "number of host files", len(entries), 1)
		Equal(t, "host file", ReadFile(filepath.Join(victim, "file")), "host\n")
	})
	t.Run("device over a link", func(t *testing.T) {
		t.Parallel()
		s := NewSandbox(t)
		victim := filepath.Join(s.HostDir(), "file")
		b := s.Bundle(func(c *specs.Spec) {
			c.Linux.Devices = []specs.LinuxDevice{{Path: "/opt/null", Type: "c", Major: 1, Minor: 3}}
		}, Args("true"), Writable)
		Must(t, os.Mkdir(filepath.Join(b.Rootfs, "opt"), 0o755))
		Must(t, os.Symlink(victim, filepath.Join(b.Rootfs, "opt/null")))
		s.Sock("run", "--bundle", b.Dir, s.NewID()) // may refuse it
		Equal(t, "host file", ReadFile(victim), "host\n")
	})
}

// /proc must be no link: the process would be in another place than the checks.
func TestProcIsNoLink(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	b := s.Bundle(Args("true"))
	Must(t, os.Remove(filepath.Join(b.Rootfs, "proc")))
	Must(t, os.Symlink("/tmp", filepath.Join(b.Rootfs, "proc")))
	s.Fails(nil, "run", "--bundle", b.Dir, s.NewID())
	s.CheckNothingLeft()
}

func TestReadonlyRoot(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	lines := "touch /x 2>/dev/null && echo written; touch /dev/shm/y && echo shm; chmod 700 / 2>/dev/null && echo changed; true"
	Equal(t, "read-only", s.OutputOf(lines), "shm\n")
	Equal(t, "writable", s.OutputOf(lines, Writable), "written\nshm\nchanged\n")
}

// The rootfs itself may be on a read-only mount when it has all mount points.
func TestReadonlyRootfsMount(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	b := s.Bundle(Args("echo", "fine"))
	Must(t, unix.Mount(b.Rootfs, b.Rootfs, "", unix.MS_BIND, ""))
	t.Cleanup(func() { _ = unix.Unmount(b.Rootfs, unix.MNT_DETACH) })
	Must(t, unix.Mount("", b.Rootfs, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""))
	Equal(t, "output", s.OK("run", "--bundle", b.Dir, s.NewID()), "fine\n")
	_ = unix.Unmount(b.Rootfs, unix.MNT_DETACH)
}

func TestMaskedAndReadonlyPaths(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	b := s.Bundle(Writable, func(c *specs.Spec) {
		c.Linux.MaskedPaths = []string{"/secret/file", "/secret/dir", "/secret/missing", "/secret/file", "/secret/dir/"}
		c.Linux.ReadonlyPaths = []string{"/ro", "/ro-missing", "/rofile", "/proc/sys"}
	}, Script(`
		cat /secret/file; ls /secret/dir; ls -e /secret/missing 2>/dev/null
		touch /secret/dir/x 2>/dev/null && echo masked dir is writable
		stat -c %t:%T /secret/file
		touch /ro/x 2>/dev/null && echo readonly dir is writable
		echo x 2>/dev/null >/rofile && echo readonly file is writable
		cat /ro/file; touch /free && echo free; grep -c /secret /proc/self/mountinfo`), Privileged)
	WriteFile(t, filepath.Join(b.Rootfs, "secret/file"), "secret\n", 0o644)
	WriteFile(t, filepath.Join(b.Rootfs, "secret/dir/file"), "secret\n", 0o644)
	WriteFile(t, filepath.Join(b.Rootfs, "ro/file"), "visible\n", 0o644)
	WriteFile(t, filepath.Join(b.Rootfs, "rofile"), "visible\n", 0o644)
	r := s.Sock("run", "--bundle", b.Dir, s.NewID())
	Equal(t, "output", r.Stdout, "1:3\nvisible\nfree\n2\n")
	Equal(t, "image file", ReadFile(filepath.Join(b.Rootfs, "secret/file")), "secret\n")
	if _, err := os.Stat(filepath.Join(b.Rootfs, "secret/missing")); err == nil {
		t.Error("a missing masked path was made")
	}
}

func TestManyMounts(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	dir := s.HostDir()
	var many []Change
	for i := range 200 {
		if i%2 == 0 {
			many = append(many, BindAt(fmt.Sprint("/many/", i), dir, "ro"))
		} else {
			many = append(many, MountAt(fmt.Sprint("/many/", i), "tmpfs", "tmpfs"))
		}
	}
	out := s.OutputOf("grep -c ' /many/' /proc/self/mountinfo; cat /many/198/file", many...)
	Equal(t, "output", out, "200\nhost\n")
}

func TestNoPivot(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	r := s.Sock("run", "--no-pivot", "--bundle", s.Bundle(Script("ls /etc; ls / | grep -c host")).Dir, s.NewID())
	Equal(t, "output", r.Stdout, "group\npasswd\n0\n")
}

// The host's mount table is out of sight, not only covered.
func TestHostMountsAreGone(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	for point, m := range MountsOf(s.OutputOf(catMounts)) {
		if point != "/" && !strings.HasPrefix(point, "/proc") && !strings.HasPrefix(point, "/dev") && !strings.HasPrefix(point, "/sys") {
			t.Errorf("%s: %+v", point, m)
		}
	}
}

// A host directory in the place of /dev is not filled with devices and links: it could be the host's /dev.
func TestBoundDev(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	dir := s.HostDir()
	for _, name := range []string{"null", "ptmx"} {
		WriteFile(t, filepath.Join(dir, name), name, 0o644)
	}
	out := s.OutputOf("cat /dev/ptmx /dev/null; ls /dev", func(c *specs.Spec) {
		c.Mounts = append(c.Mounts[:1], specs.Mount{Destination: "/dev", Type: "bind", Source: dir, Options: []string{"rbind"}})
	})
	Equal(t, "output", out, "ptmxnullfile\nnull\nptmx\n")
	entries, err := os.ReadDir(dir)
	Must(t, err)
	Equal(t, "number of files", len(entries), 3)
}

// Devices are made before what asks for it becomes read-only.
func TestReadonlyDev(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	out := s.OutputOf("[ -c /dev/null ] && echo device; touch /dev/x 2>/dev/null || echo read-only; touch /dev/shm/x && echo shm", func(c *specs.Spec) {
		c.Mounts[1].Options = append(c.Mounts[1].Options, "ro")
	})
	Equal(t, "output", out, "device\nread-only\nshm\n")
}

func TestNoMounts(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	r := s.RunOnce(Args("/bin/echo", "bare"), Writable, func(c *specs.Spec) {
		c.Mounts = nil
		c.Linux.MaskedPaths, c.Linux.ReadonlyPaths = nil, nil
	})
	Equal(t, "output", r.Stdout, "bare\n")
}

func TestRelativeBundle(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	b := s.Bundle(Args("echo", "here"))
	Equal(t, "output", s.OK("run", "--bundle", "./"+filepath.Base(b.Dir), s.NewID()), "here\n") // commands run in s.dir
}
