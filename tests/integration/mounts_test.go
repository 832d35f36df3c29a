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
)

// hostTmpfs makes a host directory that is a mount of its own.
func (s *sandbox) hostTmpfs(propagation uintptr) string {
	s.Helper()
	dir, err := os.MkdirTemp(s.dir, "host")
	must(s.T, err)
	must(s.T, unix.Mount("host", dir, "tmpfs", 0, ""))
	s.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	must(s.T, unix.Mount("", dir, "", propagation, ""))
	return dir
}

// hostDir makes a host directory with the file "file" in it.
func (s *sandbox) hostDir() string {
	s.Helper()
	dir, err := os.MkdirTemp(s.dir, "host")
	must(s.T, err)
	must(s.T, os.Chmod(dir, 0o755))
	writeFile(s.T, filepath.Join(dir, "file"), "host\n", 0o644)
	return dir
}

const catMounts = "cat /proc/self/mountinfo"

func TestBind(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	dir := s.hostDir()
	writeFile(t, filepath.Join(dir, "sub/other"), "other\n", 0o644)
	out := s.output("cat /made/for/it/file /etc/single; echo changed > /made/for/it/file; "+
		"touch /ro/x 2>/dev/null || echo read-only; "+catMounts,
		bindAt("/made/for/it", dir),
		bindAt("/etc/single", filepath.Join(dir, "sub/other"), "ro"),
		bindAt("/ro", dir, "ro", "noexec", "nosuid", "nodev"),
	)
	if !strings.HasPrefix(out, "host\nother\nread-only\n") {
		t.Errorf("output: %s", out)
	}
	equal(t, "file on the host", readFile(filepath.Join(dir, "file")), "changed\n")
	mounts := mountsOf(out)
	for _, option := range []string{"ro", "noexec", "nosuid", "nodev"} {
		if !mounts["/ro"].has(option) {
			t.Errorf("/ro has no %s: %+v", option, mounts["/ro"])
		}
	}
	if !mounts["/etc/single"].has("ro") || !mounts["/made/for/it"].has("rw") {
		t.Errorf("%+v, %+v", mounts["/etc/single"], mounts["/made/for/it"])
	}
}

// A type without bind among the options is no bind; bind makes any type one.
func TestBindByOption(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	out := s.output("cat /a/file /b/file", mountAt("/a", "none", s.hostDir(), "rbind"), mountAt("/b", "", s.hostDir(), "bind", "rprivate"))
	equal(t, "output", out, "host\nhost\n")
}

func TestBindRelativeSource(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	b := s.bundle(bindAt("/mnt", "data"), args("cat", "/mnt/file"))
	writeFile(t, filepath.Join(b.dir, "data/file"), "bundle\n", 0o644)
	equal(t, "output", s.ok("run", "--bundle", b.dir, s.id()), "bundle\n")
}

func TestBindRecursive(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	dir := s.hostTmpfs(unix.MS_PRIVATE)
	sub := filepath.Join(dir, "sub")
	must(t, os.Mkdir(sub, 0o755))
	must(t, unix.Mount("sub", sub, "tmpfs", 0, ""))
	t.Cleanup(func() { _ = unix.Unmount(sub, unix.MNT_DETACH) })

	mounts := mountsOf(s.output(catMounts,
		bindAt("/plain", dir),
		mountAt("/rbind", "bind", dir, "rbind"),
		mountAt("/ro", "bind", dir, "rbind", "ro"),
		mountAt("/rro", "bind", dir, "rbind", "rro", "rnosuid", "rnodev", "rnoexec"),
		mountAt("/mixed", "bind", dir, "rbind", "rro", "rw", "rnoatime"),
	))
	if _, ok := mounts["/plain/sub"]; ok {
		t.Error("a plain bind took a mount below along")
	}
	for point, option := range map[string]string{
		"/rbind/sub": "rw", "/ro": "ro", "/ro/sub": "rw", "/rro": "ro", "/rro/sub": "ro", "/mixed/sub": "ro",
	} {
		if !mounts[point].has(option) {
			t.Errorf("%s is not %s: %+v", point, option, mounts[point])
		}
	}
	for _, option := range []string{"nosuid", "nodev", "noexec"} {
		if !mounts["/rro/sub"].has(option) {
			t.Errorf("/rro/sub is not %s: %+v", option, mounts["/rro/sub"])
		}
	}
	if !mounts["/mixed/sub"].has("noatime") {
		t.Errorf("/mixed/sub is not noatime: %+v", mounts["/mixed/sub"])
	}
	if host := mountsOf(readFile("/proc/self/mountinfo")); !host[sub].has("rw") || !host[dir].has("rw") {
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
			s := newSandbox(t)
			dir := s.hostTmpfs(unix.MS_SHARED)
			for _, name := range []string{"out", "in"} {
				must(t, os.Mkdir(filepath.Join(dir, name), 0o755))
				t.Cleanup(func() { _ = unix.Unmount(filepath.Join(dir, name), unix.MNT_DETACH) })
			}
			box := s.running(privileged, mountAt("/mnt", "bind", dir, "rbind", c.option), func(config *specs.Spec) {
				config.Linux.RootfsPropagation = c.root
			}, script("mount -t tmpfs out /mnt/out && echo mounted; sleep 1000"))
			box.waitOutput("mounted\n")
			_, came := mountsOf(readFile("/proc/self/mountinfo"))[filepath.Join(dir, "out")]
			equal(t, "mount on the host", came, c.out)
			must(t, unix.Mount("in", filepath.Join(dir, "in"), "tmpfs", 0, ""))
			_, came = mountsOf(box.proc("mountinfo"))["/mnt/in"]
			equal(t, "mount in the container", came, c.in)
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
			s := newSandbox(t)
			// The bundle lies on a shared mount, as on a host that systemd set up.
			dir := s.hostTmpfs(unix.MS_SHARED)
			b := s.bundle(args("cat", "/proc/self/mountinfo"), func(config *specs.Spec) {
				config.Linux.RootfsPropagation = c.value
				config.Root.Path = filepath.Join(dir, "rootfs")
			})
			must(t, os.CopyFS(filepath.Join(dir, "rootfs"), os.DirFS(b.rootfs)))
			root := mountsOf(s.ok("run", "--bundle", b.dir, s.id()))["/"]
			right := strings.HasPrefix(root.optional, c.want)
			switch c.want {
			case "":
				right = root.optional == ""
			case "not shared":
				right = !strings.Contains(root.optional, "shared:") && root.optional != "unbindable"
			}
			if !right {
				t.Errorf("/ is %q, want %q: %+v", root.optional, c.want, root)
			}
			if now := mountsOf(readFile("/proc/self/mountinfo"))[dir]; !strings.HasPrefix(now.optional, "shared:") {
				t.Errorf("the host's mount has become %+v", now)
			}
		})
	}
}

func TestTmpfs(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	b := s.bundle(
		script("stat -c '%a %u' /imagedir /given /fresh; "+catMounts),
		mountAt("/imagedir", "tmpfs", "tmpfs", "nosuid", "nodev", "noexec", "size=64k"),
		mountAt("/given", "tmpfs", "tmpfs", "mode=0711", "uid=12"),
		mountAt("/fresh", "tmpfs", "tmpfs", "ro"),
	)
	must(t, os.Mkdir(filepath.Join(b.rootfs, "imagedir"), 0o755))
	must(t, os.Chmod(filepath.Join(b.rootfs, "imagedir"), os.ModeSticky|0o750))
	out := s.ok("run", "--bundle", b.dir, s.id())
	if want := "1750 0\n711 12\n1777 0\n"; !strings.HasPrefix(out, want) {
		t.Errorf("modes are %q, want %q", strings.SplitAfterN(out, "\n", 4)[:3], want)
	}
	mounts := mountsOf(out)
	if m := mounts["/imagedir"]; !strings.Contains(m.super, "size=64k") || !m.has("noexec") || !m.has("nosuid") || !m.has("nodev") {
		t.Errorf("/imagedir: %+v", m)
	}
	if m := mounts["/fresh"]; !m.has("ro") {
		t.Errorf("/fresh: %+v", m)
	}
}

func TestTmpCopyUp(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	b := s.bundle(script("cat /image/a /image/sub/b; readlink /image/link; stat -c '%a %u:%g' /image /image/a; echo new > /image/a"), privileged,
		mountAt("/image", "tmpfs", "tmpfs", "tmpcopyup"))
	image := filepath.Join(b.rootfs, "image")
	writeFile(t, filepath.Join(image, "a"), "a\n", 0o644)
	writeFile(t, filepath.Join(image, "sub/b"), "b\n", 0o644)
	must(t, os.Chown(filepath.Join(image, "a"), 5, 6))
	must(t, os.Symlink("a", filepath.Join(image, "link")))
	must(t, os.Chmod(image, 0o711))
	equal(t, "output", s.ok("run", "--bundle", b.dir, s.id()), "a\nb\na\n711 0:0\n644 5:6\n")
	equal(t, "file of the image", readFile(filepath.Join(image, "a")), "a\n")
}

func TestTmpCopyUpOfLinkOutside(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	secret := s.hostDir()
	b := s.bundle(script("ls /image"), mountAt("/image", "tmpfs", "tmpfs", "tmpcopyup"))
	must(t, os.Symlink(secret, filepath.Join(b.rootfs, "image")))
	r := s.sock("run", "--bundle", b.dir, s.id())
	if strings.Contains(r.stdout, "file") {
		t.Errorf("the host's files were copied: %v", r)
	}
}

func idmapped(destination, source string, uid, gid uint32, options ...string) change {
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
func (s *sandbox) idMappable() string {
	s.Helper()
	child := exec.Command("/bin/busybox", "sleep", "1000")
	mapping := []syscall.SysProcIDMap{{HostID: 100000, Size: 1}}
	child.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER, UidMappings: mapping, GidMappings: mapping}
	must(s.T, child.Start())
	defer func() {
		_ = child.Process.Kill()
		_ = child.Wait()
	}()
	namespace, err := os.Open(fmt.Sprintf("/proc/%d/ns/user", child.Process.Pid))
	must(s.T, err)
	defer namespace.Close()

	for _, dir := range []string{s.hostTmpfs(unix.MS_PRIVATE), s.hostDir()} {
		fd, err := unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
		must(s.T, err)
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
	s := newSandbox(t)
	top := s.idMappable()
	dir, other := filepath.Join(top, "dir"), filepath.Join(top, "other")
	writeFile(t, filepath.Join(dir, "file"), "", 0o644)
	must(t, os.Chown(filepath.Join(dir, "file"), 3, 4))
	writeFile(t, filepath.Join(other, "file"), "", 0o644)
	sub := filepath.Join(dir, "sub")
	must(t, os.Mkdir(sub, 0o755))
	must(t, unix.Mount(other, sub, "", unix.MS_BIND, ""))
	t.Cleanup(func() { _ = unix.Unmount(sub, unix.MNT_DETACH) })

	out := s.output("stat -c %u:%g /id/file /id/sub/file /rid/file /rid/sub/file /implied/file",
		idmapped("/id", dir, 100000, 200000, "rbind", "idmap"),
		idmapped("/rid", dir, 100000, 200000, "rbind", "ridmap"),
		idmapped("/implied", dir, 1000, 1000, "bind"),
	)
	equal(t, "owners", out, "100003:200004\n0:0\n100003:200004\n100000:200000\n1003:1004\n")

	b := s.bundle(mountAt("/id", "bind", dir, "bind", "idmap"))
	s.fails(said("mounts["), "create", "--bundle", b.dir, "no-mappings") // nothing to map with
}

func TestMountData(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	out := s.output(catMounts+"; ls -ld /dev/ptmx /dev/mqueue; touch /sys/x 2>/dev/null || echo no", func(c *specs.Spec) {
		c.Mounts[0].Options = []string{"hidepid=2", "nosuid", "noexec", "nodev"}
	})
	mounts := mountsOf(out)
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
		if m.kind != c.kind || !strings.HasPrefix(m.options, c.options) || !strings.Contains(m.super, c.super) {
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
		change change
		root   string // as the container sees it, below the hierarchy's
	}{
		{"without namespace", withoutNamespace(specs.CgroupNamespace), "/MARK"},
		{"with namespace", withNamespace(specs.CgroupNamespace, ""), "/"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newSandbox(t)
			root := strings.ReplaceAll(c.root, "MARK", s.mark)
			dir := filepath.Join(cgroupRoot, byCgroup("pids", ""))
			out := s.output(fmt.Sprintf("cat %s/pids.max; mkdir %s/x %s/x 2>/dev/null || echo no; cat /proc/self/cgroup; ", dir, cgroupRoot, dir)+catMounts, c.change,
				func(c *specs.Spec) { c.Linux.Resources.Pids = &specs.LinuxPids{Limit: ptr(int64(77))} })
			if !strings.HasPrefix(out, "77\nno\n") || !strings.Contains(out, ":"+root+"\n") {
				t.Errorf("output: %s", out)
			}
			mounts := mountsOf(out)
			for _, controller := range byCgroup([]string{"memory", "pids", "devices"}, []string{""}) {
				m := mounts[filepath.Join(cgroupRoot, controller)]
				if m.kind != byCgroup("cgroup", "cgroup2") || m.root != root || !m.has("ro") || !m.has("nosuid") {
					t.Errorf("%s: %+v, want root %s", controller, m, root)
				}
			}
			if m := mounts[cgroupRoot]; m.kind != byCgroup("tmpfs", "cgroup2") || !m.has("ro") {
				t.Errorf("%s: %+v", cgroupRoot, m)
			}
		})
	}
}

// A container may make cgroups where its mount is writable; they go with it.
func TestCgroupMountWritable(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	c := s.running(func(c *specs.Spec) {
		for i := range c.Mounts {
			if m := &c.Mounts[i]; m.Type == "cgroup" {
				m.Options = slices.DeleteFunc(m.Options, func(o string) bool { return o == "ro" })
			}
		}
	})
	dir := filepath.Join(cgroupRoot, byCgroup("pids", ""), "made")
	c.inside("mkdir -p " + dir + "/deep && echo 0 > " + dir + "/deep/cgroup.procs && sleep 1001 >/dev/null 2>&1 &")
	eventually(t, "the process", func() error {
		if readFile(c.cgroupFile("pids", "made/deep/cgroup.procs")) == "" {
			return fmt.Errorf("is not in the cgroup")
		}
		return nil
	})
	s.ok("delete", "--force", c.name)
	s.checkNothingLeft()
}

func TestRemount(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	mounts := mountsOf(s.output(catMounts,
		mountAt("/scratch", "tmpfs", "tmpfs", "nosuid"),
		mountAt("/scratch", "tmpfs", "tmpfs", "remount", "ro", "nosuid", "noexec"),
	))
	if m := mounts["/scratch"]; !m.has("ro") || !m.has("noexec") || !m.has("nosuid") {
		t.Errorf("/scratch: %+v", m)
	}
}

func TestMountsInOrder(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	dir := s.hostDir()
	out := s.output("cat /a/b/c/file; ls /hidden",
		mountAt("/a", "tmpfs", "tmpfs"),
		mountAt("/a/b", "tmpfs", "tmpfs"),
		bindAt("/a/b/c", dir),
		bindAt("/hidden", dir),
		mountAt("/hidden", "tmpfs", "tmpfs"),
	)
	equal(t, "output", out, "host\n")
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
			s := newSandbox(t)
			dir := s.hostDir()
			b := s.bundle(bindAt(c.destination, dir), script("cat /"+c.inside+"/file"))
			must(t, os.Symlink(c.link, filepath.Join(b.rootfs, "link")))
			must(t, os.Symlink("/tmp", filepath.Join(b.rootfs, "second")))
			r := s.sock("run", "--bundle", b.dir, s.id())
			if r.code != 0 || r.stdout != "host\n" {
				t.Error(r)
			}
			if _, err := os.Lstat("/" + c.inside); err == nil {
				t.Errorf("/%s was made on the host", c.inside)
			}
		})
	}
	t.Run("to a host directory", func(t *testing.T) {
		t.Parallel()
		s := newSandbox(t)
		victim := s.hostDir()
		b := s.bundle(mountAt("/link", "tmpfs", "tmpfs"), mountAt("/link/made", "tmpfs", "tmpfs"),
			func(c *specs.Spec) { c.Linux.MaskedPaths = append(c.Linux.MaskedPaths, "/masked") }, args("cat", "/proc/self/mountinfo"))
		must(t, os.Symlink(victim, filepath.Join(b.rootfs, "link")))
		must(t, os.Symlink(filepath.Join(victim, "file"), filepath.Join(b.rootfs, "masked")))
		r := s.sock("run", "--bundle", b.dir, s.id())
		equal(t, "exit status", r.code, 0)
		if _, ok := mountsOf(r.stdout)[filepath.Join(victim, "made")]; !ok {
			t.Errorf("not mounted inside: %v", r)
		}
		entries, err := os.ReadDir(victim)
		must(t, err)
		equal(t, "number of host files", len(entries), 1)
		equal(t, "host file", readFile(filepath.Join(victim, "file")), "host\n")
	})
	t.Run("device over a link", func(t *testing.T) {
		t.Parallel()
		s := newSandbox(t)
		victim := filepath.Join(s.hostDir(), "file")
		b := s.bundle(func(c *specs.Spec) {
			c.Linux.Devices = []specs.LinuxDevice{{Path: "/opt/null", Type: "c", Major: 1, Minor: 3}}
		}, args("true"), writable)
		must(t, os.Mkdir(filepath.Join(b.rootfs, "opt"), 0o755))
		must(t, os.Symlink(victim, filepath.Join(b.rootfs, "opt/null")))
		s.sock("run", "--bundle", b.dir, s.id()) // may refuse it
		equal(t, "host file", readFile(victim), "host\n")
	})
}

// /proc must be no link: the process would be in another place than the checks.
func TestProcIsNoLink(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	b := s.bundle(args("true"))
	must(t, os.Remove(filepath.Join(b.rootfs, "proc")))
	must(t, os.Symlink("/tmp", filepath.Join(b.rootfs, "proc")))
	s.fails(nil, "run", "--bundle", b.dir, s.id())
	s.checkNothingLeft()
}

func TestReadonlyRoot(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	lines := "touch /x 2>/dev/null && echo written; touch /dev/shm/y && echo shm; chmod 700 / 2>/dev/null && echo changed; true"
	equal(t, "read-only", s.output(lines), "shm\n")
	equal(t, "writable", s.output(lines, writable), "written\nshm\nchanged\n")
}

// The rootfs itself may be on a read-only mount when it has all mount points.
func TestReadonlyRootfsMount(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	b := s.bundle(args("echo", "fine"))
	must(t, unix.Mount(b.rootfs, b.rootfs, "", unix.MS_BIND, ""))
	t.Cleanup(func() { _ = unix.Unmount(b.rootfs, unix.MNT_DETACH) })
	must(t, unix.Mount("", b.rootfs, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""))
	equal(t, "output", s.ok("run", "--bundle", b.dir, s.id()), "fine\n")
	_ = unix.Unmount(b.rootfs, unix.MNT_DETACH)
}

func TestMaskedAndReadonlyPaths(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	b := s.bundle(writable, func(c *specs.Spec) {
		c.Linux.MaskedPaths = []string{"/secret/file", "/secret/dir", "/secret/missing"}
		c.Linux.ReadonlyPaths = []string{"/ro", "/ro-missing", "/rofile", "/proc/sys"}
	}, script(`
		cat /secret/file; ls /secret/dir; ls -e /secret/missing 2>/dev/null
		touch /secret/dir/x 2>/dev/null && echo masked dir is writable
		stat -c %t:%T /secret/file
		touch /ro/x 2>/dev/null && echo readonly dir is writable
		echo x 2>/dev/null >/rofile && echo readonly file is writable
		cat /ro/file; touch /free && echo free`), privileged)
	writeFile(t, filepath.Join(b.rootfs, "secret/file"), "secret\n", 0o644)
	writeFile(t, filepath.Join(b.rootfs, "secret/dir/file"), "secret\n", 0o644)
	writeFile(t, filepath.Join(b.rootfs, "ro/file"), "visible\n", 0o644)
	writeFile(t, filepath.Join(b.rootfs, "rofile"), "visible\n", 0o644)
	r := s.sock("run", "--bundle", b.dir, s.id())
	equal(t, "output", r.stdout, "1:3\nvisible\nfree\n")
	equal(t, "image file", readFile(filepath.Join(b.rootfs, "secret/file")), "secret\n")
	if _, err := os.Stat(filepath.Join(b.rootfs, "secret/missing")); err == nil {
		t.Error("a missing masked path was made")
	}
}

func TestManyMounts(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	dir := s.hostDir()
	var many []change
	for i := range 200 {
		if i%2 == 0 {
			many = append(many, bindAt(fmt.Sprint("/many/", i), dir, "ro"))
		} else {
			many = append(many, mountAt(fmt.Sprint("/many/", i), "tmpfs", "tmpfs"))
		}
	}
	out := s.output("grep -c ' /many/' /proc/self/mountinfo; cat /many/198/file", many...)
	equal(t, "output", out, "200\nhost\n")
}

func TestNoPivot(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	r := s.sock("run", "--no-pivot", "--bundle", s.bundle(script("ls /etc; ls / | grep -c host")).dir, s.id())
	equal(t, "output", r.stdout, "group\npasswd\n0\n")
}

// The host's mount table is out of sight, not only covered.
func TestHostMountsAreGone(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	for point, m := range mountsOf(s.output(catMounts)) {
		if point != "/" && !strings.HasPrefix(point, "/proc") && !strings.HasPrefix(point, "/dev") && !strings.HasPrefix(point, "/sys") {
			t.Errorf("%s: %+v", point, m)
		}
	}
}

// A host directory in the place of /dev is not filled with devices and links: it could be the host's /dev.
func TestBoundDev(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	dir := s.hostDir()
	for _, name := range []string{"null", "ptmx"} {
		writeFile(t, filepath.Join(dir, name), name, 0o644)
	}
	out := s.output("cat /dev/ptmx /dev/null; ls /dev", func(c *specs.Spec) {
		c.Mounts = append(c.Mounts[:1], specs.Mount{Destination: "/dev", Type: "bind", Source: dir, Options: []string{"rbind"}})
	})
	equal(t, "output", out, "ptmxnullfile\nnull\nptmx\n")
	entries, err := os.ReadDir(dir)
	must(t, err)
	equal(t, "number of files", len(entries), 3)
}

// Devices are made before what asks for it becomes read-only.
func TestReadonlyDev(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	out := s.output("[ -c /dev/null ] && echo device; touch /dev/x 2>/dev/null || echo read-only; touch /dev/shm/x && echo shm", func(c *specs.Spec) {
		c.Mounts[1].Options = append(c.Mounts[1].Options, "ro")
	})
	equal(t, "output", out, "device\nread-only\nshm\n")
}

func TestNoMounts(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	r := s.run(args("/bin/echo", "bare"), writable, func(c *specs.Spec) {
		c.Mounts = nil
		c.Linux.MaskedPaths, c.Linux.ReadonlyPaths = nil, nil
	})
	equal(t, "output", r.stdout, "bare\n")
}

func TestRelativeBundle(t *testing.T) {
	t.Parallel()
	s := newSandbox(t)
	b := s.bundle(args("echo", "here"))
	equal(t, "output", s.ok("run", "--bundle", "./"+filepath.Base(b.dir), s.id()), "here\n") // commands run in s.dir
}
