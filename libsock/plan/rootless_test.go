package plan_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/sock-runtime/sock/libsock/plan"
	"github.com/sock-runtime/sock/spec"
)

// user makes facts those of an ordinary user's: without a cgroup or, on v2, with a delegated one.
func user(facts plan.Facts) plan.Facts {
	facts.Rootless, facts.NoMounts = true, true
	if !facts.Cgroup.Unified {
		facts.Cgroup = plan.Cgroup{None: true}
	}
	return facts
}

// rootlessConfig is what `sock spec --rootless` writes.
func rootlessConfig(t *testing.T) *specs.Spec {
	t.Helper()
	const file = "../../spec/testdata/rootless.json"
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	config, err := spec.Parse(data, file)
	if err != nil {
		t.Fatal(err)
	}
	return config
}

func rootless(t *testing.T, facts plan.Facts, changes ...func(c *specs.Spec)) (*plan.Plan, error) {
	t.Helper()
	config := rootlessConfig(t)
	for _, change := range changes {
		change(config)
	}
	return plan.Build(config, options(config), facts)
}

func mustRootless(t *testing.T, facts plan.Facts, changes ...func(c *specs.Spec)) *plan.Plan {
	t.Helper()
	p, err := rootless(t, facts, changes...)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestRootless(t *testing.T) {
	for version, facts := range map[string]plan.Facts{"v1": user(legacy()), "v2": user(unified())} {
		t.Run(version, func(t *testing.T) {
			p := mustRootless(t, facts)
			golden(t, "rootless."+version, dump(t, p))
			compiles(t, p)
		})
	}
}

// TestRootlessMounts has the parent make none, and the child clone the host's before it is the container's root.
func TestRootlessMounts(t *testing.T) {
	p := mustRootless(t, user(legacy()), func(c *specs.Spec) {
		c.Mounts = append(c.Mounts,
			specs.Mount{Destination: "/mnt", Type: "bind", Source: "/data", Options: []string{"rbind", "ro"}},
			specs.Mount{Destination: "/layers", Type: "overlay", Source: "overlay", Options: []string{"lowerdir=/a:/b"}})
	})
	for _, s := range p.Host {
		switch s.Do.(type) {
		case plan.CloneTree, plan.NewMount:
			t.Errorf("the parent mounts: %s", s.Does)
		}
	}
	inOrder(t, p, "wait until the ids are mapped", "keep other processes out", "clone the mount of /data", "become root of the user namespace",
		"make the other namespaces", "let no mount out", "mount /mnt")
	has(t, doing(t, p, "clone the mount of /data"), `open_tree(0xffffffffffffff9c, "/data", 0x88001)`, "mount_setattr(", "dup3($11, <mounts[7]>")
	has(t, doing(t, p, "mount /layers"), `fsopen("overlay"`, "fsmount(")
	inOrder(t, p, "enter /bundle/rootfs", "become root of the user namespace", "mount the root file system")
}

// TestRootlessIsSealed follows the child's dumpable flag: it must be set while the parent writes the id maps and while the
// container waits to be reached by hooks or exec, and never while another one may share its user namespace.
func TestRootlessIsSealed(t *testing.T) {
	prctl := func(value int) func(string) bool {
		text := fmt.Sprintf("prctl(%#x, %#x,", unix.PR_SET_DUMPABLE, value)
		return func(call string) bool { return strings.HasPrefix(call, text) }
	}
	p := mustRootless(t, user(unified()))
	if !p.Clone.Dumpable || p.Clone.Flags&unix.CLONE_NEWUSER == 0 || p.Maps == nil || p.Maps.Joined || !p.Waits() {
		t.Errorf("clone %+v, maps %+v", p.Clone, p.Maps)
	}
	seals, unseals, reads := places(p, prctl(0)), places(p, prctl(1)), places(p, calls("read"))
	if seals[0] != reads[0]+1 {
		t.Errorf("sealed at %v, maps are awaited at %d", seals, reads[0])
	}
	if len(unseals) != 1 || unseals[0] < seals[len(seals)-1] || unseals[0] > reads[1] {
		t.Errorf("unsealed at %v, sealed at %v, reads at %v", unseals, seals, reads)
	}

	joined := mustRootless(t, user(unified()), func(c *specs.Spec) {
		c.Linux.Namespaces[len(c.Linux.Namespaces)-1].Path = "/proc/7/ns/user"
		c.Linux.UIDMappings, c.Linux.GIDMappings = nil, nil
	})
	compiles(t, joined)
	if n := len(places(joined, prctl(1))); n != 0 {
		t.Error("unsealed in a user namespace that others may share")
	}
	if seals, enters := places(joined, prctl(0)), places(joined, calls("setns")); seals[0] > enters[0] {
		t.Errorf("sealed at %v, the user namespace is entered at %v", seals, enters)
	}
}

// TestRootlessJoins has namespaces by path joined by whoever has the rights: of the user namespace for an ordinary user, of
// the one outside for its root.
func TestRootlessJoins(t *testing.T) {
	join := func(kinds ...specs.LinuxNamespaceType) func(c *specs.Spec) {
		return func(c *specs.Spec) {
			for i, ns := range c.Linux.Namespaces {
				for _, kind := range kinds {
					if ns.Type == kind {
						c.Linux.Namespaces[i].Path = "/proc/7/ns/" + string(kind)
					}
				}
			}
		}
	}
	root := user(legacy())
	root.Rootless, root.UserNS = false, true

	all := join("user", "pid", "ipc")
	inOrder(t, mustRootless(t, user(legacy()), all), "join the user namespace", "join pid", "join ipc", "clone init", "clone the mount of", "become root")
	inOrder(t, mustRootless(t, root, all), "join pid", "join ipc", "join the user namespace", "clone init", "clone the mount of", "become root")
	p := mustRootless(t, root, join("pid"))
	inOrder(t, p, "join pid", "clone init", "clone the mount of", "become root")
	if p.Clone.Flags != 0 || p.Clone.PID != "" || !p.Clone.Again {
		t.Errorf("clone %+v", p.Clone)
	}
	for _, p := range []*plan.Plan{p, mustRootless(t, root, all)} {
		compiles(t, p)
		if first := places(p, calls("prctl")); first[0] != 0 {
			t.Error("root of a user namespace isn't sealed from the beginning")
		}
	}
}

func TestRootlessRefusals(t *testing.T) {
	for want, change := range map[string]func(c *specs.Spec){
		"linux.namespaces: a container of an ordinary user needs a user namespace": func(c *specs.Spec) {
			c.Linux.Namespaces = c.Linux.Namespaces[:len(c.Linux.Namespaces)-1]
			c.Linux.UIDMappings, c.Linux.GIDMappings = nil, nil
		},
		"linux.namespaces: without root on the host a container needs a new mount namespace": func(c *specs.Spec) {
			c.Linux.Namespaces = []specs.LinuxNamespace{{Type: "user"}}
			c.Linux.MaskedPaths, c.Linux.ReadonlyPaths = nil, nil
		},
		"mounts[7]: an idmapped mount takes root on the host": func(c *specs.Spec) {
			c.Mounts = append(c.Mounts, specs.Mount{Destination: "/m", Type: "bind", Source: "/m", Options: []string{"rbind", "idmap"}})
		},
		"mounts[7].options: tmpcopyup takes root on the host": func(c *specs.Spec) {
			c.Mounts = append(c.Mounts, specs.Mount{Destination: "/m", Type: "tmpfs", Options: []string{"tmpcopyup"}})
		},
	} {
		if _, err := rootless(t, user(legacy()), change); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// TestRootlessCgroupMount shows a container without a cgroup none of the host's to write to (CVE-2023-25809).
func TestRootlessCgroupMount(t *testing.T) {
	readOnly := fmt.Sprintf("fsmount($12, 0x1, %#x)", unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOSUID)
	own := func(c *specs.Spec) {
		for i := range c.Mounts {
			if c.Mounts[i].Type == "cgroup" {
				c.Mounts[i].Options = []string{"nosuid", "rw"}
			}
		}
	}
	none := user(unified())
	none.Cgroup = plan.Cgroup{None: true, Unified: true}
	empty := func(p *plan.Plan) {
		t.Helper()
		has(t, doing(t, p, "mount /sys/fs/cgroup"), `fsopen("tmpfs"`)
		has(t, doing(t, p, "make /sys/fs/cgroup read-only"), "mount_setattr(") // when other mounts on it are made
	}
	empty(mustRootless(t, none, own))
	has(t, doing(t, mustRootless(t, none, own, func(c *specs.Spec) {
		c.Linux.Namespaces = append(c.Linux.Namespaces, specs.LinuxNamespace{Type: "cgroup"})
	}), "mount /sys/fs/cgroup"), `fsopen("cgroup2"`, readOnly)
	empty(mustRootless(t, user(legacy()), own))
	for _, s := range mustRootless(t, none).Host {
		if _, ok := s.Do.(plan.LimitCgroup); ok {
			return // it refuses limits that nothing can set
		}
	}
	t.Error("limits are dropped")
}

func TestRootlessExec(t *testing.T) {
	join := plan.Join{Flags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC}
	adj := 100
	p, err := plan.BuildExec(&specs.Process{Cwd: "/", Args: []string{"true"}, OOMScoreAdj: &adj}, join, plan.Options{Console: true, Pause: true}, user(legacy()))
	if err != nil {
		t.Fatal(err)
	}
	compiles(t, p)
	inOrder(t, p, "set oom_score_adj", "keep other processes out", "join the container", "clone init", "open a pty", "wait for the startContainer hooks")
	if p.Clone.PID != "" || !p.Clone.Again || !p.Clone.Dumpable || p.Maps != nil {
		t.Errorf("clone %+v, maps %+v", p.Clone, p.Maps)
	}
	if n := len(places(p, func(call string) bool {
		return strings.HasPrefix(call, fmt.Sprintf("prctl(%#x, 0x1,", unix.PR_SET_DUMPABLE))
	})); n != 0 {
		t.Error("a process that joins a container is unsealed in it")
	}
}
