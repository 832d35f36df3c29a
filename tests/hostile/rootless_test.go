package hostile

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	. "github.com/sock-runtime/sock/tests/sandbox"
)

// CVE-2023-25809: an ordinary user's container has the host's cgroups to write to.
func TestRootlessCgroupEscape(t *testing.T) {
	t.Parallel()
	for name, changes := range map[string][]Change{
		"as given":     {},
		"writable":     {cgroupMount("cgroup")},
		"cgroup2":      {cgroupMount("cgroup2")},
		"a bind":       {withoutCgroupMount, BindAt("/sys/fs/cgroup", "/sys/fs/cgroup", "rbind", "rw")},
		"no namespace": {cgroupMount("cgroup"), WithoutNamespace(specs.CgroupNamespace)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := NewRootless(t)
			name := s.Mark + "-escaped"
			// Everything that there is to write, and directories.
			script := fmt.Sprintf(`for d in $(find /sys/fs/cgroup -type d 2>/dev/null | head -n 300); do
	mkdir $d/%[1]s 2>/dev/null && echo "made $d/%[1]s"
	for f in cgroup.procs tasks release_agent devices.allow memory.limit_in_bytes memory.max cgroup.freeze freezer.state cgroup.kill notify_on_release; do
		[ -e $d/$f ] && (echo 1 > $d/$f) 2>/dev/null && echo "wrote $d/$f"
	done
done
echo over`, name)
			b := s.OwnBundle(append(changes, Script(script), allCapabilitiesBut("CAP_SYS_RESOURCE"))...)
			r := s.Sock("run", "--bundle", b.Dir, s.NewID())
			if r.Code != 0 {
				OneLine(t, r)
				t.Log(r)
			} else if r.Stdout != "over\n" {
				t.Error(r)
			}
			found, err := filepath.Glob(CgroupRoot + "/" + ByCgroup("*/", "") + "*" + name)
			if err != nil || len(found) > 0 {
				t.Errorf("on the host: %v, %v", found, err)
			}
		})
	}
	// The control: root finds enough to write to.
	s := NewSandbox(t)
	out := s.OutputOf("for f in $(find /sys/fs/cgroup -name cgroup.procs | head -n 5); do (echo 0 > $f) 2>/dev/null && echo wrote; done; true",
		withoutCgroupMount, BindAt("/sys/fs/cgroup", "/sys/fs/cgroup", "rbind", "rw"))
	if !strings.Contains(out, "wrote") {
		t.Errorf("nothing can be written to, so the test shows nothing: %s", out)
	}
}

func withoutCgroupMount(c *specs.Spec) {
	var rest []specs.Mount
	for _, m := range c.Mounts {
		if m.Destination != "/sys/fs/cgroup" {
			rest = append(rest, m)
		}
	}
	c.Mounts = rest
}

// cgroupMount is one that may be written to.
func cgroupMount(kind string) Change {
	return func(c *specs.Spec) {
		withoutCgroupMount(c)
		MountAt("/sys/fs/cgroup", kind, kind, "rw", "nosuid", "noexec", "nodev")(c)
	}
}

// A user's own binary is the user's to write, and the container's root is the user.
func TestRootlessRuntimeOverwritten(t *testing.T) {
	t.Parallel()
	play := func(t *testing.T, runtime string) (before, after, out string) {
		s := NewRootless(t)
		own := install(s, runtime, s.Dir)
		Must(t, os.Chown(own, s.User.UID, s.User.UID))
		before = fingerprint(t, own)
		b := s.OwnBundle(Writable, attack("overwrite", "/go"), allCapabilitiesBut("CAP_SYS_RESOURCE"))
		link(s, b)
		WriteFile(t, filepath.Join(b.Rootfs, "entry"), "#!/proc/self/exe\n", 0o755)
		c := s.CreateIn(b)
		s.OK("start", c.ID)
		waitFor(c, "ready\n")
		s.Runtime = own
		for range 20 {
			s.Sock("exec", c.ID, "/entry")
			s.Sock("exec", c.ID, "/proc/self/exe", "features")
		}
		s.Runtime = ""
		WriteFile(s.T, filepath.Join(b.Rootfs, "go"), "", 0o644)
		c.WantStatus("stopped")
		return before, fingerprint(t, own), ReadFile(c.Stdout)
	}
	before, after, _ := play(t, Binary)
	Equal(t, "the runtime", after, before)
	before, after, out := play(t, unprotected)
	if before == after {
		t.Errorf("the attack does not work, so the test shows nothing: %s", out)
	}
}
