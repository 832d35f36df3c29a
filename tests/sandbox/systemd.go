package sandbox

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

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
	case s.Systemd && s.manager == "":
		if out, err := exec.Command("systemctl", "stop", s.Slice()).CombinedOutput(); err != nil {
			s.Errorf("systemctl stop %s: %v: %s", s.Slice(), err, out)
		}
	}
	if !s.Systemd {
		return
	}
	// In hierarchies that systemd doesn't manage, slices are left to whoever named them, as with runc.
	slices, _ := filepath.Glob(filepath.Join(CgroupRoot, ByCgroup("*", ""), s.Slice()))
	for _, dir := range slices {
		if err := RemoveCgroup(dir); err != nil && !os.IsNotExist(err) {
			s.Error(err)
		}
	}
	if s.Fake != nil { // no systemd: nobody needs it
		shared, _ := filepath.Glob(CgroupRoot + "/*/system.slice")
		for _, dir := range shared {
			_ = unix.Rmdir(dir)
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

// StartUserManager starts a systemd of the sandbox's user, in a cgroup that is delegated to it, and has the user's commands ask
// it. Those have to be in that cgroup, too: see InCgroup.
func (s *Sandbox) StartUserManager() {
	s.Helper()
	const systemd = "/lib/systemd/systemd"
	Need(s.T, Unified() && unix.Access(systemd, unix.X_OK) == nil, "needs systemd, on cgroup v2")
	above := s.UserCgroup(true)
	s.manager = filepath.Join(above, "shell")
	cmd := exec.Command(systemd, "--user", "--unit=basic.target")
	cmd.Env = append(os.Environ(), "SYSTEMD_LOG_TARGET=console")
	cmd.Dir = s.Dir
	s.User.become(cmd)
	s.InCgroup(cmd, above)
	s.Start(cmd)
	s.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	socket := s.User.RunDir() + "/systemd/private"
	for deadline := time.Now().Add(commandTimeout); unix.Access(socket, unix.F_OK) != nil && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
	if unix.Access(socket, unix.F_OK) != nil {
		s.Fatalf("it said: %s", ReadFile(cmd.Stderr.(*os.File).Name()))
	}
	shell := filepath.Join(s.manager, "shell")
	Must(s.T, os.Mkdir(shell, 0o755))
	for _, file := range []string{"", "cgroup.procs"} {
		Must(s.T, os.Chown(filepath.Join(shell, file), s.User.UID, s.User.UID))
	}
	s.Systemd = true
}

// Manager is the cgroup of the user's systemd.
func (s *Sandbox) Manager() string { return s.manager }
