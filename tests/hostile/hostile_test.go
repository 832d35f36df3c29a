package hostile

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/sock-runtime/sock/spec"
	. "github.com/sock-runtime/sock/tests/sandbox"
)

// attacker is the program that plays the attacks; unprotected is a sock that doesn't protect its own file.
var attacker, unprotected string

func TestMain(m *testing.M) {
	os.Exit(Main(m, func(dir string) (err error) {
		if attacker, err = Program(dir, "attacker", "./attacker"); err != nil {
			return err
		}
		unprotected, err = Program(dir, "sock-unprotected", "../../cmd/sock", "weak_exe")
		return err
	}))
}

// attack is a change that makes the process the attacker.
func attack(verb string, args ...string) Change {
	return Args(append([]string{"/attacker", verb}, args...)...)
}

// bundleOf makes a bundle with the attacker in it.
func bundleOf(s *Sandbox, changes ...Change) Bundle {
	s.Helper()
	b := s.Bundle(changes...)
	link(s, b)
	return b
}

// link puts the attacker into a bundle.
func link(s *Sandbox, b Bundle) {
	s.Helper()
	Must(s.T, os.Link(attacker, filepath.Join(b.Rootfs, "attacker")))
}

// allCapabilities gives the process what we have ourselves.
func allCapabilities(c *specs.Spec) { allCapabilitiesBut()(c) }

func allCapabilitiesBut(but ...string) Change {
	bounding, _ := strconv.ParseUint(StatusField(ReadFile("/proc/self/status"), "CapBnd"), 16, 64)
	var all []string
	for number, name := range spec.Capabilities() {
		if bounding&(1<<number) != 0 && !slices.Contains(but, name) {
			all = append(all, name)
		}
	}
	return func(c *specs.Spec) {
		c.Process.Capabilities = &specs.LinuxCapabilities{Bounding: all, Effective: all, Permitted: all}
	}
}

// rounds is how often something is tried: often enough, or less where everything takes long.
func rounds(n int) int {
	if testing.Short() {
		return n / 10
	}
	return n
}

// steps reads what the attacker printed: what came of each step.
func steps(output string) map[string]string {
	results := make(map[string]string)
	for line := range strings.Lines(output) {
		if step, result, ok := strings.Cut(strings.TrimSpace(line), ": "); ok {
			results[step] = result
		}
	}
	return results
}

// waitFor waits until a container has written a text.
func waitFor(c *Container, text string) {
	c.Helper()
	Eventually(c.T, "output of "+c.ID, func() error {
		if out := ReadFile(c.Stdout); !strings.Contains(out, text) {
			return fmt.Errorf("is %q", out)
		}
		return nil
	})
}

func exists(name string) bool {
	_, err := os.Lstat(name)
	return err == nil
}

// inCgroup is for a second container of a sandbox; name begins with the sandbox's mark.
func inCgroup(name string) Change {
	return func(c *specs.Spec) { c.Linux.CgroupsPath = "/" + name }
}
