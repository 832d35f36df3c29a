package integration

import (
	"os"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	. "github.com/sock-runtime/sock/tests/sandbox"
)

// Where the kernel or the processor has no resctrl: what it does where there is one is tested in package resctrl.
func TestNoIntelRdt(t *testing.T) {
	t.Parallel()
	_, err := os.Stat("/sys/fs/resctrl")
	Need(t, err != nil, "there is a resctrl")
	s := NewSandbox(t)
	for _, r := range []specs.LinuxIntelRdt{{}, {ClosID: "/"}, {L3CacheSchema: "L3:0=f"}, {EnableMonitoring: true}} {
		s.Refused(s.Bundle(func(c *specs.Spec) { c.Linux.IntelRdt = &r }), Said("linux.intelRdt: no resctrl filesystem is mounted"))
	}
	c := s.Running()
	for _, flag := range []string{"--l3-cache-schema=L3:0=f", "--mem-bw-schema=MB:0=20"} {
		s.Fails(Said("updating a non-existent Intel RDT configuration is not supported"), "update", flag, c.ID)
	}
}
