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

// engineCapabilities are what Docker and containerd give.
func engineCapabilities(c *specs.Spec) {
	list := strings.Fields("CAP_CHOWN CAP_DAC_OVERRIDE CAP_FSETID CAP_FOWNER CAP_MKNOD CAP_NET_RAW CAP_SETGID CAP_SETUID CAP_SETFCAP CAP_SETPCAP " +
		"CAP_NET_BIND_SERVICE CAP_SYS_CHROOT CAP_KILL CAP_AUDIT_WRITE")
	c.Process.Capabilities = &specs.LinuxCapabilities{Bounding: list, Effective: list, Permitted: list}
	c.Process.NoNewPrivileges = false
}

// The ways out of a root directory that chroot is known for, and others. With a private mount namespace and pivot_root none
// leads anywhere; there is no profile with less yet, and asking for it is refused.
func TestEscape(t *testing.T) {
	t.Parallel()
	unchanged(t, corePattern)
	for name, caps := range map[string]Change{"default": func(*specs.Spec) {}, "an engine's": engineCapabilities} {
		for _, user := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s capabilities, user namespace %t", name, user), func(t *testing.T) {
				t.Parallel()
				s := NewSandbox(t)
				marker := filepath.Join(s.Dir, "marker")
				WriteFile(t, marker, "the host's\n", 0o644)
				changes := []Change{Writable, attack("escape", marker), caps, MountAt("/tmp", "tmpfs", "tmpfs")}
				b := s.Bundle(changes...)
				if user {
					b = s.UserBundle(changes...)
				}
				link(s, b)
				out := s.OK("run", "--bundle", b.Dir, s.NewID())
				if len(steps(out)) < 20 {
					t.Fatalf("the attack was not played: %s", out)
				}
				if strings.Contains(out, "ESCAPED") {
					t.Error(out)
				}
				for _, step := range []string{
					"open_by_handle_at", "device of the file system", "device of memory", "trace another process", "namespace of another process",
					"root of another process", "load a module", "release agent", "device rules", "core pattern", "bind /proc/1/root", "mount the file system", "pivot_root",
				} {
					if result := steps(out)[step]; result == "done" || result == "" {
						t.Errorf("%s: %q", step, result)
					}
				}
			})
		}
	}

	// The control: of a mere chroot two of them lead out.
	s := NewSandbox(t)
	marker := filepath.Join(s.Dir, "marker")
	WriteFile(t, marker, "the host's\n", 0o644)
	root := filepath.Join(s.Dir, "root")
	Must(t, os.MkdirAll(filepath.Join(root, "tmp"), 0o755))
	Must(t, os.Link(attacker, filepath.Join(root, "attacker")))
	ways := []string{"second chroot", "kept directory"}
	out, err := exec.Command("unshare", append([]string{"--mount", "chroot", root, "/attacker", "escape", marker}, ways...)...).CombinedOutput()
	Must(t, err)
	for _, way := range ways {
		if !strings.Contains(string(out), "ESCAPED by "+way) {
			t.Errorf("%s does not work on a chroot, so the test shows nothing: %s", way, out)
		}
	}

	for _, flags := range [][]string{{"--profile", "lean", "run"}, {"run"}} {
		b := s.Bundle(Args("true"), func(c *specs.Spec) {
			if len(flags) == 1 {
				c.Annotations = map[string]string{"dev.sock.profile": "lean"}
			}
		})
		s.Fails(Said("lean"), append(flags, "--bundle", b.Dir, "lean")...)
	}
}

// What the host gives a user namespace read-only or masked stays so, as under runc.
func TestPreparedMountsUnlocked(t *testing.T) {
	t.Parallel()
	play := func(s *Sandbox, user bool) (results map[string]string, written bool) {
		dir := s.HostDir()
		Must(s.T, os.Chmod(dir, 0o777))
		changes := []Change{
			Writable, allCapabilitiesBut(), attack("unlock", "/volume", "/proc/version"), BindAt("/volume", dir, "ro", "rbind"),
			func(c *specs.Spec) { c.Linux.MaskedPaths = []string{"/proc/version", "/proc/acpi"} },
		}
		b := s.Bundle(changes...)
		if user {
			b = s.UserBundle(changes...)
		}
		link(s, b)
		r := s.Sock("run", "--bundle", b.Dir, s.NewID())
		results = steps(r.Stdout)
		if len(results) < 25 {
			s.Errorf("the attack was not played: %v", r)
		}
		return results, exists(filepath.Join(dir, "unlocked"))
	}
	s := NewSandbox(t)
	results, written := play(s, true)
	if written {
		t.Error("the read-only volume was written to")
	}
	// It may unmount what is its own, and finds its image below. But what it was given read-only stays so, and a procfs with
	// masks covers what another one would show, mount_namespaces(7).
	for _, where := range []string{"inside", "further inside"} {
		for _, step := range []string{
			"write", "remount the bind", "remount", "mount_setattr", "clone the mount", "clone the tree", "clone the root", "move it", "mount another procfs",
		} {
			if result := results[where+" "+step]; result == "done" || result == "" {
				t.Errorf("%s %s: %q", where, step, result)
			}
		}
	}
	// Further inside it owns nothing.
	for _, step := range []string{"unmount it", "detach it", "unmount the mask", "move the mask", "unmount /proc"} {
		Equal(t, "further inside "+step, results["further inside "+step], "invalid argument")
	}

	// The control: with these capabilities on the host, some of it works.
	results, written = play(NewSandbox(t), false)
	if !written || results["inside remount the bind"] != "done" || results["inside unmount the mask"] != "done" {
		t.Errorf("the attack does not work, so the test shows nothing: %v", results)
	}
}
