package hostile

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	. "github.com/sock-runtime/sock/tests/sandbox"
)

const corePattern = "/proc/sys/kernel/core_pattern"

// unchanged fails if a file is another one when the test ends.
func unchanged(t *testing.T, file string) {
	t.Helper()
	before := ReadFile(file)
	t.Cleanup(func() { Equal(t, file, ReadFile(file), before) })
}

// ownDev leaves /dev as the image has it.
func ownDev(c *specs.Spec) {
	var rest []specs.Mount
	for _, m := range c.Mounts {
		if !strings.HasPrefix(m.Destination, "/dev") {
			rest = append(rest, m)
		}
	}
	c.Mounts = rest
}

// CVE-2025-31133: the image's /dev/null, which masks files, is something else.
func TestMaskRedirected(t *testing.T) {
	t.Parallel()
	unchanged(t, corePattern)
	for name, null := range map[string]func(t *testing.T, file string){
		"link":         func(t *testing.T, file string) { Must(t, os.Symlink(corePattern, file)) },
		"link up":      func(t *testing.T, file string) { Must(t, os.Symlink("../../../.."+corePattern, file)) },
		"link to self": func(t *testing.T, file string) { Must(t, os.Symlink("/proc/self/mem", file)) },
		"file":         func(t *testing.T, file string) { WriteFile(t, file, "the image's\n", 0o666) },
		"directory":    func(t *testing.T, file string) { Must(t, os.Mkdir(file, 0o755)) },
		"zero":         func(t *testing.T, file string) { Must(t, unix.Mknod(file, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 5)))) },
		"fifo":         func(t *testing.T, file string) { Must(t, unix.Mkfifo(file, 0o666)) },
		"nothing":      func(*testing.T, string) {},
	} {
		for _, dev := range []string{"dev", "other"} {
			t.Run(name+" in "+dev, func(t *testing.T) {
				t.Parallel()
				s := NewSandbox(t)
				masked := []string{"/secret", "/proc/version", "/proc/uptime"}
				script := "for f in " + strings.Join(masked, " ") + "; do stat -c '%t:%T %F' $f; cat $f; echo '|/attacked' > $f; done; cat $(echo " + corePattern + ")"
				b := s.Bundle(Writable, ownDev, Script(script), func(c *specs.Spec) { c.Linux.MaskedPaths = masked })
				WriteFile(t, filepath.Join(b.Rootfs, "secret"), "secret\n", 0o666)
				if dev == "other" { // /dev itself is a link
					Must(t, os.Remove(filepath.Join(b.Rootfs, "dev")))
					Must(t, os.Mkdir(filepath.Join(b.Rootfs, "other"), 0o755))
					Must(t, os.Symlink("other", filepath.Join(b.Rootfs, "dev")))
				}
				null(t, filepath.Join(b.Rootfs, dev, "null"))
				r := s.Sock("run", "--bundle", b.Dir, s.NewID())
				t.Log(r)
				if r.Code != 0 && r.Stdout == "" {
					OneLine(t, r) // it was refused
					return
				}
				want := strings.Repeat("1:3 character special file\n", len(masked)) + ReadFile(corePattern)
				Equal(t, "what the container sees", r.Stdout, want)
			})
		}
	}

	// The control: the mask by its path in the image, in a mount namespace that ends with it.
	root := filepath.Join(t.TempDir(), "root")
	Must(t, os.MkdirAll(filepath.Join(root, "proc"), 0o755))
	Must(t, os.MkdirAll(filepath.Join(root, "dev"), 0o755))
	WriteFile(t, filepath.Join(root, "secret"), "secret\n", 0o666)
	Must(t, os.Symlink(corePattern, filepath.Join(root, "dev/null")))
	out, err := exec.Command(attacker, "naive-mask", root, "/secret").CombinedOutput()
	if want := fmt.Sprintf("read %q: done\n", ReadFile(corePattern)); err != nil || string(out) != want {
		t.Errorf("the attack does not work, so the test shows nothing: %v %s", err, out)
	}
}

// The same while somebody who shares the root filesystem exchanges /dev/null for a link.
func TestMaskRace(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	unchanged(t, corePattern)
	b := s.Bundle(Writable, ownDev, inCgroup(s.Mark+"-victim"), Script("cat /secret; echo '|/attacked' > /secret; cat /proc/version"),
		func(c *specs.Spec) { c.Linux.MaskedPaths = []string{"/secret", "/proc/version"} })
	WriteFile(t, filepath.Join(b.Rootfs, "secret"), "secret\n", 0o666)
	link(s, b)
	dev := filepath.Join(b.Rootfs, "dev")
	Must(t, unix.Mknod(filepath.Join(dev, "null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	Must(t, os.Symlink(corePattern, filepath.Join(dev, "link")))
	swapper := s.CreateIn(bundleOf(s, BindAt("/dev-of-other", dev), attack("swap", "/dev-of-other/null", "/dev-of-other/link")))
	s.OK("start", swapper.ID)
	waitFor(swapper, "ready\n")
	ran, rounds := 0, rounds(50)
	for range rounds {
		r := s.Sock("run", "--bundle", b.Dir, "raced")
		if r.Stdout != "" {
			t.Error(r)
		}
		if r.Code == 0 {
			ran++
		}
	}
	t.Logf("%d of %d containers ran", ran, rounds)
}

// CVE-2025-52565: what becomes /dev/console, and where the terminal comes from, is a link of the image's.
func TestConsoleRedirected(t *testing.T) {
	t.Parallel()
	unchanged(t, corePattern)
	for name, prepare := range map[string]func(t *testing.T, dev string){
		"console is a link":         func(t *testing.T, dev string) { Must(t, os.Symlink(corePattern, dev+"/console")) },
		"console is a link to /etc": func(t *testing.T, dev string) { Must(t, os.Symlink("/etc/passwd", dev+"/console")) },
		"console dangles":           func(t *testing.T, dev string) { Must(t, os.Symlink("/etc/new", dev+"/console")) },
		"ptmx is a link":            func(t *testing.T, dev string) { Must(t, os.Symlink(corePattern, dev+"/ptmx")) },
		"pts is a link":             func(t *testing.T, dev string) { Must(t, os.Symlink("/proc/sys/kernel", dev+"/pts")) },
		"pts is a directory of ours": func(t *testing.T, dev string) {
			Must(t, os.Mkdir(dev+"/pts", 0o755))
			Must(t, os.Symlink(corePattern, dev+"/pts/0"))
		},
	} {
		for _, devpts := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, devpts %t", name, devpts), func(t *testing.T) {
				t.Parallel()
				s := NewSandbox(t)
				changes := []Change{
					Writable, ownDev, WithTerminal,
					Script("stat -c '%t %F' /dev/console; tty; echo '|/attacked' > /dev/console; echo over; sleep 1000"),
				}
				if devpts {
					changes = append(changes, MountAt("/dev/pts", "devpts", "devpts", "newinstance", "ptmxmode=0666", "mode=0620"))
				}
				b := s.Bundle(changes...)
				before := ReadFile(filepath.Join(b.Rootfs, "etc/passwd"))
				prepare(t, filepath.Join(b.Rootfs, "dev"))
				con := s.Console()
				id := s.NewID()
				r := s.Sock("create", "--bundle", b.Dir, "--console-socket", con.Path, id)
				if r.Code != 0 {
					OneLine(t, r)
					t.Log(r)
					return
				}
				con.Receive()
				s.OK("start", id)
				con.WaitFor("over")
				out := strings.Fields(con.Output())
				// 88 is the major number of a pty's slave.
				if len(out) < 4 || out[0] != "88" || !strings.HasPrefix(out[4], "/dev/pts/") {
					t.Errorf("the terminal: %q", out)
				}
				Equal(t, "a file of the image's", ReadFile(filepath.Join(b.Rootfs, "etc/passwd")), before)
				if exists(filepath.Join(b.Rootfs, "etc/new")) {
					t.Error("a file was made where a link leads")
				}
			})
		}
	}
}
