package sandbox

import (
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sock-runtime/sock/tests/fakesystemd"
)

// NewSystemdSandbox is NewSandbox whose containers are units: of the host's systemd, where it runs, else of a stand-in.
func NewSystemdSandbox(t *testing.T) *Sandbox {
	t.Helper()
	s := NewSandbox(t)
	if !s.Systemd {
		s.useSystemd()
	}
	return s
}

// NewFakeSandbox is for what the real systemd can't be made to do.
func NewFakeSandbox(t *testing.T) *Sandbox {
	t.Helper()
	s := NewSystemdSandbox(t)
	Need(t, s.Fake != nil, "systemd runs here")
	return s
}

func (s *Sandbox) useSystemd() {
	s.Helper()
	if unix.Access("/run/systemd/private", unix.F_OK) != nil {
		Need(s.T, !Unified(), "the stand-in for systemd is for cgroup v1")
		_, err := exec.LookPath("dbus-daemon")
		Installable(s.T, err == nil, "dbus-daemon is missing: install dbus-daemon")
		s.Fake, err = fakesystemd.Start(s.Dir)
		Must(s.T, err)
	}
	s.Systemd = true
}

// endSystemd removes the slice.
func (s *Sandbox) endSystemd() {
	switch {
	case s.Fake != nil:
		s.Fake.Close()
	case s.Systemd:
		if out, err := exec.Command("systemctl", "stop", s.Slice()).CombinedOutput(); err != nil {
			s.Errorf("systemctl stop %s: %v: %s", s.Slice(), err, out)
		}
	}
}

// Beside is a sandbox with another --root and the same units.
func (s *Sandbox) Beside() *Sandbox {
	beside := *s
	beside.Root, beside.IDs = s.Root+"-2", nil
	return &beside
}

// BusAddress is what commands need in their environment to find the stand-in for systemd, if there is one.
func (s *Sandbox) BusAddress() string {
	if s.Fake == nil {
		return ""
	}
	return "DBUS_SYSTEM_BUS_ADDRESS=" + s.Fake.Address
}

// Slice is the sandbox's slice, for systemd.
func (s *Sandbox) Slice() string { return strings.ReplaceAll(s.Mark, "-", "_") + ".slice" }

// Unit is the unit of the sandbox's container.
func (s *Sandbox) Unit() string { return "it-" + s.Mark + ".scope" }

// CgroupsPath is linux.cgroupsPath of the sandbox's container.
func (s *Sandbox) CgroupsPath() string {
	if s.Systemd {
		return s.Slice() + ":it:" + s.Mark
	}
	return "/" + s.Mark
}

// Cgroup is where the sandbox's container is, relative to the hierarchies.
func (s *Sandbox) Cgroup() string {
	if s.Systemd {
		return "/" + s.Slice() + "/" + s.Unit()
	}
	return "/" + s.Mark
}
