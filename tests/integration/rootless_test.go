package integration

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	. "github.com/sock-runtime/sock/tests/sandbox"
)

// TestRootlessRun looks around in a container of an ordinary user's.
func TestRootlessRun(t *testing.T) {
	t.Parallel()
	s := NewRootless(t)
	before := DeviceOwners(t)
	out := s.OwnOutput("id -u; id -g; cat /proc/self/uid_map; readlink /proc/self/ns/user; ls -lnd /dev /dev/pts /dev/mqueue /dev/shm | while read a b u rest; do echo $u; done; " +
		"echo x > /dev/null && cat /dev/null && head -c 1 /dev/zero | wc -c; hostname; touch /x 2> /dev/null || echo read-only; touch /proc/sys/x 2> /dev/null || echo sealed; wc -c < /proc/timer_list; ps > /dev/shm/ps; wc -l < /dev/shm/ps")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	Equal(t, "ids, map", Words(strings.Join(lines[:3], " ")), fmt.Sprintf("0 0 0 %d 1", s.User.UID))
	if lines[3] == NamespaceOf(t, os.Getpid(), "user") {
		t.Error("the user namespace is the host's")
	}
	Equal(t, "owners, devices and the rest", strings.Join(lines[4:], " "), "0 0 0 0 1 runc read-only sealed 0 3")
	Equal(t, "the host's devices", DeviceOwners(t), before)
}

// TestRootlessLife takes a container through every verb, without rights on any cgroup.
func TestRootlessLife(t *testing.T) {
	t.Parallel()
	s := NewRootless(t)
	pidFile := filepath.Join(s.Dir, "pid")
	c := s.CreateIn(s.OwnBundle(Script("sleep 1000 & sleep 1000")), "--pid-file", pidFile)
	c.WantStatus("created")
	Equal(t, "pid file", Atoi(ReadFile(pidFile)), c.Pid())
	Equal(t, "exec before start", c.Inside("id -u"), "0")
	s.OK("start", c.ID)
	c.WantStatus("running")
	uid := s.User.UID
	Equal(t, "uid of init on the host", StatusField(c.Proc("status"), "Uid"), fmt.Sprintf("%[1]d %[1]d %[1]d %[1]d", uid))
	for _, name := range []string{"user", "mnt", "pid", "ipc", "uts"} {
		Equal(t, "exec's "+name+" namespace", c.Inside("readlink /proc/self/ns/"+name), c.Namespace(name))
	}
	Equal(t, "exit status of exec", s.Sock("exec", c.ID, "sh", "-c", "exit 7").Code, 7)
	s.Fails(Said("process.user: uid 1", "not mapped"), "exec", "--user", "1:1", c.ID, "id")
	s.Fails(Said("process.user.additionalGids"), "exec", "--additional-gids", "0", c.ID, "id")
	Equal(t, "list", strings.Contains(s.OK("list"), fmt.Sprintf("#%d", uid)), true)
	Eventually(t, "both sleeps in ps", func() error {
		pids := Decode[[]int](t, s.OK("ps", "--format", "json", c.ID))
		if len(pids) != 2 || pids[0] != c.Pid() {
			return fmt.Errorf("has %v", pids)
		}
		return nil
	})
	s.Fails(Said("no cgroup"), "pause", c.ID)
	s.Fails(Said("not paused"), "resume", c.ID)
	s.Fails(Said("linux.resources.memory.limit", "cgroup"), "update", "--memory", "10000000", c.ID)
	Equal(t, "events", Decode[map[string]any](t, s.OK("events", "--stats", c.ID))["type"], any("stats"))
	s.OK("kill", "--all", c.ID, "KILL")
	c.WantStatus("stopped")
	s.Fails(Said("stopped"), "exec", c.ID, "id")
	s.OK("delete", c.ID)
	s.CheckNothingLeft()
}

// TestRootlessTerminal is in the foreground, by exec too, with the container's own pty.
func TestRootlessTerminal(t *testing.T) {
	t.Parallel()
	s := NewRootless(t)
	const script = "trap 'echo interrupted; exit 3' INT; tty; stat -L -c %u:%a /proc/self/fd/0; stat -c %u /dev/console; echo ready > /dev/tty; sleep 1000 & while :; do wait; done"
	b := s.OwnBundle(WithTerminal, Script(script))
	for _, args := range [][]string{{"run", "--bundle", b.Dir, s.NewID()}, {"exec", "--tty", "c2", "sh", "-c", script}} {
		if args[0] == "exec" {
			s.OK("run", "--detach", "--bundle", s.OwnBundle().Dir, s.NewID())
		}
		console, slave := s.Pty(24, 80)
		cmd := s.Command(args...)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
		s.Start(cmd)
		console.WaitFor("ready")
		console.WaitFor("/dev/pts/0")
		console.WaitFor("0:620")
		console.Write("\x03")
		console.WaitFor("interrupted")
		_ = cmd.Wait()
		Equal(t, "exit status", cmd.ProcessState.ExitCode(), 3)
	}
}

// TestRootlessHooks has hooks of every kind, those in the container too, by create and start and by run.
func TestRootlessHooks(t *testing.T) {
	t.Parallel()
	s := NewRootless(t)
	log := filepath.Join(s.Dir, "hooks")
	WriteFile(t, log, "", 0o666)
	b := s.OwnBundle(Script("cat /log >&2"), BindAt("/log", log), func(c *specs.Spec) {
		for _, kind := range []string{"prestart", "createRuntime", "createContainer", "poststart", "poststop"} {
			WithHook(kind, "echo $KIND $(readlink /proc/self/ns/user) >> "+log)(c)
		}
		WithHook("startContainer", "echo $KIND $(readlink /proc/self/ns/user) >> /log")(c)
	})
	host := NamespaceOf(t, os.Getpid(), "user")
	check := func(inside string) {
		t.Helper()
		var want strings.Builder
		for _, kind := range []string{"prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"} {
			ns := host
			if kind == "createContainer" || kind == "startContainer" {
				ns = inside
			}
			fmt.Fprintln(&want, kind, ns)
		}
		got := ReadFile(log)
		if inside == "" { // the container is gone: its namespace was another one, the same both times
			inside = strings.Fields(got + " ? ? ? ? ? ?")[5]
			if inside == host {
				t.Error("createContainer hooks run on the host")
			}
			check := strings.ReplaceAll(want.String(), "Container \n", "Container "+inside+"\n")
			Equal(t, "hooks", got, check)
			return
		}
		Equal(t, "hooks", got, want.String())
	}
	c := s.CreateIn(b)
	inside := c.Namespace("user")
	s.OK("start", c.ID)
	c.WantStatus("stopped")
	s.OK("delete", c.ID)
	check(inside)
	Must(t, os.Truncate(log, 0))
	s.OK("run", "--bundle", b.Dir, s.NewID())
	check("")
}

// TestRootlessSubIDs maps further ids by newuidmap and newgidmap, which then can be had in the container.
func TestRootlessSubIDs(t *testing.T) {
	t.Parallel()
	s := NewRootless(t)
	s.GrantSubIDs()
	u := s.User
	c := s.CreateIn(s.OwnBundle(Privileged, func(c *specs.Spec) {
		c.Process.User = specs.User{UID: 1000, GID: 1000, AdditionalGids: []uint32{5, 6}}
	}))
	s.OK("start", c.ID)
	Equal(t, "uid of init on the host", StatusField(c.Proc("status"), "Uid"), fmt.Sprintf("%[1]d %[1]d %[1]d %[1]d", u.Sub+999))
	Equal(t, "groups of init on the host", StatusField(c.Proc("status"), "Groups"), fmt.Sprintf("%d %d", u.Sub+4, u.Sub+5))
	Equal(t, "map", Words(c.Inside("cat /proc/self/uid_map")), fmt.Sprintf("0 %d 1 1 %d %d", u.UID, u.Sub, SubIDs))
	Equal(t, "exec", c.Inside("id -u; id -g; id -G"), "1000\n1000\n1000 5 6")
	Equal(t, "exec as another user", Words(s.OK("exec", "--user", "7:8", "--additional-gids", "9", c.ID, "sh", "-c", "id -u; id -G")), "7 8 5 6 9")
	s.OK("exec", "--user", "0:0", c.ID, "sh", "-c", "touch /tmp/file && chown 33:44 /tmp/file 2>/dev/null || touch /dev/shm/file && chown 33:44 /dev/shm/file")
	Equal(t, "owner of a file", Words(s.OK("exec", "--user", "0:0", c.ID, "stat", "-c", "%u:%g", "/dev/shm/file")), "33:44")
	Equal(t, "groups of a container without any", Words(s.OwnOutput("id -G")), "0")
}

// TestRootlessForeignRoot maps the container's root to another id than the user's, who alone may search the way to the bundle.
func TestRootlessForeignRoot(t *testing.T) {
	t.Parallel()
	s := NewRootless(t)
	s.GrantSubIDs()
	mapping := []specs.LinuxIDMapping{{HostID: uint32(s.User.Sub), Size: SubIDs}}
	b := s.OwnBundle(Script("id -u; ls -lnd /dev/mqueue /dev/shm / | while read a b u rest; do echo $u; done; cat /mnt/file"),
		BindAt("/mnt", s.HostDir(), "ro"), func(c *specs.Spec) { c.Linux.UIDMappings, c.Linux.GIDMappings = mapping, mapping })
	s.Own(b.Rootfs, s.User.Sub)
	Must(t, os.Chmod(b.Dir, 0o700))
	Equal(t, "output", Words(s.OK("run", "--bundle", b.Dir, s.NewID())), "0 0 0 0 host")
}

// TestRootlessMapErrors names the mapping that can't be had, and what it would take.
func TestRootlessMapErrors(t *testing.T) {
	t.Parallel()
	s := NewRootless(t)
	u := s.User
	mapped := func(uids, gids []specs.LinuxIDMapping) Bundle {
		return s.OwnBundle(func(c *specs.Spec) { c.Linux.UIDMappings, c.Linux.GIDMappings = uids, gids })
	}
	own := u.Map()
	more := append(u.Map(), specs.LinuxIDMapping{ContainerID: 1, HostID: HostRoot, Size: 10})
	fails := func(b Bundle, path string, texts ...string) {
		t.Helper()
		cmd := s.Command("run", "--bundle", b.Dir, s.NewID())
		if path != "" {
			cmd.Env = append(cmd.Env, "PATH="+path)
		}
		r := s.Do(cmd)
		OneLine(t, r)
		for _, text := range texts {
			if r.Code != 1 || !strings.Contains(r.Stderr, text) {
				t.Errorf("no %q in %v", text, r)
			}
		}
		s.CheckNothingLeft()
	}
	fails(mapped(more, own), "/nowhere", "linux.uidMappings", "newuidmap", "not in PATH", "uidmap")
	fails(mapped(own, more), "/nowhere", "linux.gidMappings", "newgidmap", "not in PATH")
	fails(mapped([]specs.LinuxIDMapping{{ContainerID: 5, HostID: uint32(u.UID), Size: 1}}, own), "", "linux.uidMappings", "id 0", "not mapped")
	s.GrantSubIDs()
	fails(mapped(more, own), "", "linux.uidMappings", "newuidmap", "not allowed")
	fails(mapped(own, more), "", "linux.gidMappings", "newgidmap", "not allowed")
}

// TestRootlessRefusals has clear errors for what an ordinary user can't have.
func TestRootlessRefusals(t *testing.T) {
	t.Parallel()
	s := NewRootless(t)
	limit := int64(1 << 28)
	for _, c := range []struct {
		texts  []string
		change Change
	}{
		{Said("linux.namespaces", "needs a user namespace"), func(c *specs.Spec) {
			WithoutNamespace(specs.UserNamespace)(c)
			c.Linux.UIDMappings, c.Linux.GIDMappings = nil, nil
		}},
		{Said("linux.namespaces", "new mount namespace"), func(c *specs.Spec) {
			WithoutNamespace(specs.MountNamespace)(c)
			c.Linux.MaskedPaths, c.Linux.ReadonlyPaths = nil, nil
		}},
		{Said("linux.namespaces[", "join pid namespace"), WithNamespace(specs.PIDNamespace, "/proc/self/ns/pid")},
		{Said("linux.resources.memory.limit", "no permission to create a cgroup"), func(c *specs.Spec) {
			c.Linux.Resources = &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit}}
		}},
		{Said("cgroup", "permission denied"), func(c *specs.Spec) { c.Linux.CgroupsPath = "/" + s.Mark }},
		{Said("process.user.additionalGids"), func(c *specs.Spec) { c.Process.User.AdditionalGids = []uint32{0} }},
		{Said("process.user", "uid 1,", "not mapped"), func(c *specs.Spec) { c.Process.User.UID = 1 }},
		{Said("mounts[7].options", "tmpcopyup"), MountAt("/mnt", "tmpfs", "tmpfs", "tmpcopyup")},
		{Said("mounts[7]", "idmapped"), BindAt("/mnt", s.Dir, "idmap")},
		{Said("mounts[7]", "gid=5", "not mapped"), MountAt("/mnt", "devpts", "devpts", "newinstance", "gid=5")},
		{Said("mounts[7]", "/mnt", "network namespace"), MountAt("/mnt", "sysfs", "sysfs")},
		{Said("mounts[7]", "rbind"), BindAt("/mnt", "/")},
		{Said("mounts[7]", "operation not permitted"), MountAt("/mnt", "ext4", "/dev/null")},
	} {
		s.Refused(s.OwnBundle(c.change), c.texts)
	}
	// The mere rules for devices are no limits: runc does not mind, either.
	s.OwnOutput("true", func(c *specs.Spec) {
		c.Linux.Resources = &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Access: "rwm"}}}
	})
}

// TestRootlessMounts has every kind of mount that an ordinary user can have.
func TestRootlessMounts(t *testing.T) {
	t.Parallel()
	s := NewRootless(t)
	dir := s.HostDir()
	s.Own(dir, s.User.UID)
	upper, work := filepath.Join(s.Dir, "upper"), filepath.Join(s.Dir, "work")
	for _, name := range []string{upper, work} {
		Must(t, os.Mkdir(name, 0o755))
		s.Own(name, s.User.UID)
	}
	out := s.OwnOutput("cat /proc/self/mountinfo; echo x > /data/new; echo y > /data/file 2> /dev/null || echo denied; cat /overlay/file; echo z > /overlay/file && cat /overlay/file; stat -c %a:%u /tmp; mkdir /tmp/d",
		Privileged,
		BindAt("/data", dir), BindAt("/data/file", filepath.Join(dir, "file"), "ro", "nosuid"),
		MountAt("/tmp", "tmpfs", "tmpfs", "size=1m", "nodev"),
		MountAt("/mnt", "tmpfs", "tmpfs", "ro"),
		MountAt("/overlay", "overlay", "overlay", "lowerdir="+dir, "upperdir="+upper, "workdir="+work),
		MountAt("/usr", "tmpfs", "tmpfs"), MountAt("/usr", "none", "none", "remount", "ro", "nosuid"), Writable)
	mounts := MountsOf(out)
	for at, options := range map[string][]string{"/data/file": {"ro", "nosuid"}, "/tmp": {"nodev"}, "/mnt": {"ro"}, "/usr": {"ro", "nosuid"}} {
		for _, o := range options {
			if !mounts[at].Has(o) {
				t.Errorf("%s is not %s: %+v", at, o, mounts[at])
			}
		}
	}
	Equal(t, "type of /overlay", mounts["/overlay"].Kind, "overlay")
	Equal(t, "written through a bind", ReadFile(filepath.Join(dir, "new")), "x\n")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	Equal(t, "the rest", strings.Join(lines[len(lines)-4:], " "), "denied host z 755:0")
	Equal(t, "overlay's lower file", ReadFile(filepath.Join(dir, "file")), "host\n")
}

// TestRootlessJoins has a second container in namespaces of the first, as in a pod.
func TestRootlessJoins(t *testing.T) {
	t.Parallel()
	s := NewRootless(t)
	first := s.CreateIn(s.OwnBundle())
	s.OK("start", first.ID)
	join := func(kinds map[specs.LinuxNamespaceType]string) Change {
		return func(c *specs.Spec) {
			for kind, file := range kinds {
				WithNamespace(kind, fmt.Sprintf("/proc/%d/ns/%s", first.Pid(), file))(c)
			}
		}
	}
	for _, kinds := range []map[specs.LinuxNamespaceType]string{
		{specs.UserNamespace: "user"},
		{specs.UserNamespace: "user", specs.IPCNamespace: "ipc", specs.UTSNamespace: "uts"},
		{specs.UserNamespace: "user", specs.PIDNamespace: "pid", specs.IPCNamespace: "ipc"},
	} {
		second := s.CreateIn(s.OwnBundle(join(kinds), func(c *specs.Spec) {
			if kinds[specs.UTSNamespace] != "" {
				c.Hostname = ""
			}
		}))
		s.OK("start", second.ID)
		second.WantStatus("running")
		for _, name := range []string{"user", "pid", "ipc", "uts", "mnt"} {
			same := second.Namespace(name) == first.Namespace(name)
			joined := false
			for _, file := range kinds {
				joined = joined || file == name
			}
			if same != joined {
				t.Errorf("%v: is the %s namespace that of the first container? %t", kinds, name, same)
			}
			Equal(t, "exec's "+name+" namespace", second.Inside("readlink /proc/self/ns/"+name), second.Namespace(name))
		}
		Equal(t, "exec", second.Inside("id -u"), "0")
		s.OK("delete", "--force", second.ID)
	}
	wrong := s.OwnBundle(join(map[specs.LinuxNamespaceType]string{specs.UserNamespace: "user"}), func(c *specs.Spec) {
		c.Linux.UIDMappings = []specs.LinuxIDMapping{{HostID: 1, Size: 1}}
	})
	s.Fails(Said("linux.uidMappings"), "run", "--bundle", wrong.Dir, s.NewID())
}

// TestInUserNamespace runs sock as root of a user namespace, where the mount namespace is still the host's and where it isn't,
// with and without a further user namespace for the container.
func TestInUserNamespace(t *testing.T) {
	t.Parallel()
	for _, unshare := range []string{"unshare -U -r", "unshare -U -r -m"} {
		for name, nested := range map[string]bool{"shared": false, "nested": true} {
			t.Run(unshare+"/"+name, func(t *testing.T) {
				t.Parallel()
				s := NewRootless(t)
				b := s.OwnBundle(Script("sleep 1000"), func(c *specs.Spec) {
					if nested {
						mapping := []specs.LinuxIDMapping{{HostID: 0, Size: 1}}
						c.Linux.UIDMappings, c.Linux.GIDMappings = mapping, mapping
						return
					}
					WithoutNamespace(specs.UserNamespace)(c)
					c.Linux.UIDMappings, c.Linux.GIDMappings = nil, nil
				})
				own := s.OwnBundle(Script("id -u; echo x > /dev/null; ps | grep -c sleep"), func(c *specs.Spec) {
					*c = Decode[specs.Spec](t, ReadFile(filepath.Join(b.Dir, "config.json")))
					c.Process.Args = []string{"sh", "-c", "id -u; echo x > /dev/null; ps | grep -v grep | grep -c sleep"}
				})
				script := `set -e
$sock create --bundle $1 c1 > /dev/null 2>&1 < /dev/null
$sock exec c1 id -u
$sock start c1
$sock exec c1 sh -c 'readlink /proc/self/ns/pid; id -u'
readlink /proc/$($sock ps --format json c1 | tr -d '[]')/ns/pid
if $sock pause c1 2> /dev/null; then echo paused; fi
sed 's|"type": "pid"|"type": "pid", "path": "/proc/'$($sock ps --format json c1 | tr -d '[]')'/ns/pid"|' $2/config.json > $2/new
mv $2/new $2/config.json
$sock run --bundle $2 c2 || echo failed
$sock kill c1 KILL
while ! $sock delete c1 2> /dev/null; do sleep 0.01; done`
				r := s.Shell(unshare+" sh -c '"+strings.ReplaceAll(script, "'", `'\''`)+"' sh $1 $2", b.Dir, own.Dir)
				lines := strings.Split(strings.TrimSpace(r.Stdout), "\n")
				if r.Code != 0 || len(lines) < 5 {
					t.Fatal(r)
				}
				Equal(t, "PID namespace of exec", lines[1], lines[3])
				Equal(t, "ids", lines[0]+lines[2], "00")
				// A container in a user namespace of its own has no rights over the PID namespace that another one's owns.
				want := "0 1"
				if nested {
					want = "failed"
				}
				Equal(t, "container in the first one's PID namespace", strings.Join(lines[4:], " "), want)
			})
		}
	}
}

// TestRootlessDefaultRoot has the states where the user has its other runtime files.
func TestRootlessDefaultRoot(t *testing.T) {
	t.Parallel()
	s := NewRootless(t)
	b := s.OwnBundle(Script("echo ran"))
	r := s.Shell("${sock%% *} run --bundle $1 c && ls -ld $XDG_RUNTIME_DIR/sock", b.Dir)
	if r.Code != 0 || !strings.HasPrefix(r.Stdout, "ran\ndrwx-----T") {
		t.Error(r)
	}
}

// TestRootlessSpec runs what `spec --rootless` writes, as it is.
func TestRootlessSpec(t *testing.T) {
	t.Parallel()
	s := NewRootless(t)
	b := s.OwnBundle()
	Must(t, os.Remove(filepath.Join(b.Dir, "config.json")))
	s.OK("spec", "--rootless", "--bundle", b.Dir)
	s.Set(b, false, "process", "terminal")
	cmd := s.Command("run", "--bundle", b.Dir, s.NewID())
	cmd.Stdin = strings.NewReader("echo hello from $(hostname), $(id -u)\n")
	if r := s.Do(cmd); r.Code != 0 || r.Stdout != "hello from runc, 0\n" {
		t.Error(r)
	}
}

// TestRootlessCgroupfs plays CVE-2023-25809: a container that brings the host's /sys along writes to the host's cgroups, of
// which the user may write some.
func TestRootlessCgroupfs(t *testing.T) {
	t.Parallel()
	attack := `cat /proc/self/cgroup; find() { for d in "$1"/*; do [ -d "$d" ] && { echo "$d"; find "$d"; }; done; }
for d in /sys/fs/cgroup $(find /sys/fs/cgroup); do
	mkdir "$d/attack" 2> /dev/null && echo "made $d/attack"
	echo 5 > "$d/pids.max" 2> /dev/null && echo "limited $d"
	echo 0 > "$d/cgroup.procs" 2> /dev/null && echo "joined $d"
done; cat /proc/self/cgroup; echo end`
	for _, delegated := range []bool{false, true} {
		for name, change := range map[string]Change{
			"as it is":                func(*specs.Spec) {},
			"writable":                cgroupOptions("rw", "nosuid"),
			"with a cgroup namespace": func(c *specs.Spec) { WithNamespace(specs.CgroupNamespace, "")(c); cgroupOptions("rw")(c) },
		} {
			t.Run(fmt.Sprintf("%s/delegated=%t", name, delegated), func(t *testing.T) {
				s := NewRootless(t)
				g := s.UserCgroup(delegated)
				before := cgroupTree(g)
				b := s.OwnBundle(Script(attack), change)
				cmd := s.Command("run", "--bundle", b.Dir, s.NewID())
				s.InCgroup(cmd, g)
				r := s.Do(cmd)
				memberships, after, _ := strings.Cut(r.Stdout, "\n")
				if r.Code != 0 || !strings.HasSuffix(after, "end\n") {
					t.Fatal(r)
				}
				Equal(t, "the user's cgroups", cgroupTree(g), before)
				if n := strings.Count(r.Stdout, memberships); n != 2 {
					t.Errorf("it left its cgroup: %v", r)
				}
				if !delegated && (strings.Contains(r.Stdout, "made ") || strings.Contains(r.Stdout, "limited ")) {
					t.Errorf("it wrote to a cgroup that is not its own: %v", r)
				}
			})
		}
	}
}

// cgroupTree shows a cgroup of v2, those below it, and their limits.
func cgroupTree(dir string) string {
	if dir == "" {
		return ""
	}
	var tree strings.Builder
	_ = filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			fmt.Fprintf(&tree, "%s %s\n", name, strings.TrimSpace(ReadFile(filepath.Join(name, "pids.max"))))
		}
		return nil
	})
	return tree.String()
}

// TestRootlessDelegation has a container in a cgroup that the user was given, with limits, and all that acts on cgroups.
func TestRootlessDelegation(t *testing.T) {
	t.Parallel()
	s := NewRootless(t)
	Need(t, Unified(), "needs cgroup v2")
	g := s.UserCgroup(true)
	do := func(args ...string) Result {
		t.Helper()
		cmd := s.Command(args...)
		s.InCgroup(cmd, g)
		return s.Do(cmd)
	}
	limit := int64(1 << 26)
	b := s.OwnBundle(Script("sleep 1000 & sleep 1000"), func(c *specs.Spec) {
		c.Linux.Resources = &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit}, Pids: &specs.LinuxPids{Limit: Ptr(int64(20))}}
	})
	id := s.NewID()
	for _, args := range [][]string{{"create", "--bundle", b.Dir, id}, {"start", id}, {"pause", id}, {"resume", id}, {"update", "--pids-limit", "30", id}} {
		if r := do(args...); r.Code != 0 {
			t.Fatal(r)
		}
	}
	c := &Container{Sandbox: s, Bundle: b, ID: id}
	own := filepath.Join(g, id)
	Equal(t, "cgroup of init", Words(c.Proc("cgroup")), "0::"+strings.TrimPrefix(own, CgroupRoot))
	Equal(t, "memory.max", Words(ReadFile(filepath.Join(own, "memory.max"))), fmt.Sprint(limit))
	Equal(t, "pids.max", Words(ReadFile(filepath.Join(own, "pids.max"))), "30")
	Equal(t, "processes", len(Decode[[]int](t, do("ps", "--format", "json", id).Stdout)), 2)
	if r := do("exec", id, "cat", "/proc/self/cgroup"); r.Stdout != "0::/\n" { // in its cgroup namespace
		t.Error(r)
	}
	if r := do("kill", "--all", id, "KILL"); r.Code != 0 {
		t.Error(r)
	}
	c.WantStatus("stopped")
	if r := do("delete", id); r.Code != 0 {
		t.Error(r)
	}
	if _, err := os.Stat(own); err == nil {
		t.Errorf("%s is left", own)
	}
}

func cgroupOptions(options ...string) Change {
	return func(c *specs.Spec) {
		for i := range c.Mounts {
			if c.Mounts[i].Type == "cgroup" {
				c.Mounts[i].Options = options
			}
		}
	}
}

// TestRootlessWaiting has no other process of the user namespace look into one that waits in it, where the namespace is shared.
func TestRootlessWaiting(t *testing.T) {
	t.Parallel()
	s := NewRootless(t)
	first := s.CreateIn(s.OwnBundle(Privileged))
	s.OK("start", first.ID)
	second := s.CreateIn(s.OwnBundle(Privileged, WithNamespace(specs.UserNamespace, fmt.Sprintf("/proc/%d/ns/user", first.Pid())),
		WithNamespace(specs.PIDNamespace, fmt.Sprintf("/proc/%d/ns/pid", first.Pid()))))
	second.WantStatus("created")
	out := first.Inside(`for d in /proc/[0-9]*; do
	case $(cat $d/comm) in sh|sleep|cat) continue;; esac
	echo waits; for f in mem environ fd root cwd exe ns/mnt; do cat $d/$f > /dev/null 2>&1 && echo "read $f"; readlink $d/$f > /dev/null 2>&1 && echo "saw $f"; ls $d/$f/ 2> /dev/null; done
done`)
	Equal(t, "what can be seen of the waiting process", out, "waits")
}

// TestRootlessProcess has the rest of process in a container of an ordinary user's.
func TestRootlessProcess(t *testing.T) {
	t.Parallel()
	s := NewRootless(t)
	c := s.CreateIn(s.OwnBundle(func(c *specs.Spec) {
		c.Process.OOMScoreAdj = Ptr(500)
		c.Process.User.Umask = Ptr(uint32(0o27))
		c.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Hard: 200, Soft: 100}}
		c.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {Secs: 1000000}}
		c.Linux.Namespaces = append(c.Linux.Namespaces, specs.LinuxNamespace{Type: specs.TimeNamespace}, specs.LinuxNamespace{Type: specs.NetworkNamespace})
		c.Linux.Sysctl = map[string]string{"net.ipv4.ip_forward": "1"}
		c.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{{Names: []string{"mkdir", "mkdirat"}, Action: specs.ActErrno, ErrnoRet: Ptr(uint(13))}}}
	}))
	s.OK("start", c.ID)
	const look = "cat /proc/self/oom_score_adj; umask; ulimit -n; ulimit -Hn; cat /proc/sys/net/ipv4/ip_forward; cut -d. -f1 /proc/uptime | grep -c '^1.......*$'; mkdir /dev/shm/x 2> /dev/null || echo denied"
	Equal(t, "exec", Words(c.Inside(look)), "500 0027 100 200 1 1 denied")
	Equal(t, "init's seccomp mode", StatusField(c.Proc("status"), "Seccomp"), "2")
}

// TestRootlessNoPivot enters the root without pivot_root, and covers what of the host's can't be unmounted.
func TestRootlessNoPivot(t *testing.T) {
	t.Parallel()
	s := NewRootless(t)
	b := s.OwnBundle(Script("id -u; ls / | tr '\\n' ' '; grep -c . /proc/self/mountinfo > /dev/null && echo mounted"))
	Equal(t, "output", Words(s.OK("run", "--no-pivot", "--bundle", b.Dir, s.NewID())), "0 bin dev etc mnt proc root sys tmp usr mounted")
}

// TestRootlessKilled kills sock at any moment of a create: what it leaves ends by itself, and delete --force removes the rest.
func TestRootlessKilled(t *testing.T) {
	t.Parallel()
	s := NewRootless(t)
	b := s.OwnBundle()
	for i := range 30 {
		id := s.NewID()
		cmd := s.Command("create", "--bundle", b.Dir, id)
		s.Start(cmd)
		time.Sleep(time.Duration(i) * time.Millisecond)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		s.OK("delete", "--force", id)
		Eventually(t, "the end of all processes", func() error {
			if left := s.Processes(); len(left) > 0 {
				return fmt.Errorf("after %d ms: %v", i, left)
			}
			return nil
		})
	}
}

// TestReadme has a new user type what README.md tells ordinary users, on a machine that knows the user.
func TestReadme(t *testing.T) {
	t.Parallel()
	s := NewRootless(t)
	readme, err := os.ReadFile("../../README.md")
	Need(t, err == nil, "README.md is not here")
	_, section, ok := strings.Cut(string(readme), "## As an ordinary user\n")
	if !ok {
		t.Fatal("README.md tells ordinary users nothing")
	}
	section, _, _ = strings.Cut(section, "\n## ")
	var commands []string
	for line := range strings.Lines(section) {
		if command, ok := strings.CutPrefix(line, "    "); ok {
			commands = append(commands, command)
		}
	}
	s.GrantSubIDs()
	console, slave := s.Pty(24, 80)
	cmd := s.ShellCommand("cd; set -e; mkdir bin; ln -s ${sock%% *} bin/sock; PATH=$HOME/bin:$PATH; set -x\n" + strings.Join(commands, ""))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	s.Start(cmd)
	console.WaitFor("/ # ")
	console.Write("echo I am $(id -u)$(hostname)\n")
	console.WaitFor("I am 0runc")
	console.Write("exit 3\n")
	_ = cmd.Wait()
	Equal(t, "exit status of "+console.Output(), cmd.ProcessState.ExitCode(), 3)
}
