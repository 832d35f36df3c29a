package hostile

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	. "github.com/sock-runtime/sock/tests/sandbox"
)

// sharing makes the process a neighbour of another container's, in its PID and, if it has one, its user namespace.
func sharing(c *Container, user bool) Change {
	return func(config *specs.Spec) {
		WithNamespace(specs.PIDNamespace, fmt.Sprintf("/proc/%d/ns/pid", c.Pid()))(config)
		if user {
			WithNamespace(specs.UserNamespace, fmt.Sprintf("/proc/%d/ns/user", c.Pid()))(config)
		}
	}
}

// Between create and start a process waits that was root on the host a moment ago.
func TestWaitingStub(t *testing.T) {
	t.Parallel()
	for name, caps := range map[string]Change{
		"default capabilities":  func(*specs.Spec) {},
		"all but to trace":      allCapabilitiesBut("CAP_SYS_PTRACE"),
		"all, a user namespace": func(c *specs.Spec) { InUserNamespace(c); allCapabilitiesBut()(c) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := NewSandbox(t)
			user := strings.HasSuffix(name, "user namespace")
			bundle := s.Bundle
			if user {
				bundle = s.UserBundle
			}
			b := bundle(attack("pry", "1", "stay"), caps)
			link(s, b)
			c := s.CreateIn(b)
			s.OK("start", c.ID)
			waitFor(c, "ready\n")
			victim := func() *Container {
				return s.CreateIn(bundle(Args("sleep", "1000"), caps, sharing(c, user), inCgroup(s.Mark+"-victim")))
			}
			waiting := victim()
			waitFor(c, "over\n")
			results := steps(ReadFile(c.Stdout))
			if len(results) < 18 {
				t.Errorf("the attack was not played: %v", ReadFile(c.Stdout))
			}
			for step, result := range results {
				// Since Linux 6.13 this much is given to CAP_PERFMON and CAP_SYS_ADMIN on the host.
				perfmon := name == "all but to trace" && slices.Contains([]string{"environ", "maps", "auxv"}, step)
				if result == "done" && !perfmon {
					t.Errorf("%s succeeds", step)
				}
			}
			s.OK("start", waiting.ID)
			waiting.WantStatus("running")

			// The control: nothing of this is refused of a process that runs.
			s.OK("delete", "--force", waiting.ID)
			running := victim()
			s.OK("start", running.ID)
			for step, result := range steps(s.OK("exec", c.ID, "/attacker", "pry", "2")) {
				if result != "done" && !slices.Contains([]string{"setns"}, step) {
					t.Errorf("%s on a process that runs: %s", step, result)
				}
			}
		})
	}
}
