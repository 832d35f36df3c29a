package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	. "github.com/sock-runtime/sock/tests/sandbox"
)

const (
	profile      = "sock-test"
	otherProfile = "sock-test-other"
	appArmorFS   = "/sys/kernel/security/apparmor/"

	confinedLabel = "u:r:confined:s0:c1,c2"
	sharedLabel   = "u:object_r:shared:s0:c1,c2"
)

func appArmorEnabled() bool {
	return strings.HasPrefix(ReadFile("/sys/module/apparmor/parameters/enabled"), "Y")
}

// loadProfiles has the kernel know testdata/apparmor.profiles until the tests are over. Where no apparmor_parser is,
// SOCK_TEST_APPARMOR names a file that holds what it made of them.
var loadProfiles = sync.OnceValue(func() error {
	if compiled := os.Getenv("SOCK_TEST_APPARMOR"); compiled != "" {
		data, err := os.ReadFile(compiled)
		if err != nil {
			return err
		}
		return os.WriteFile(appArmorFS+".replace", data, 0)
	}
	out, err := exec.Command("apparmor_parser", "--replace", "--skip-cache", "testdata/apparmor.profiles").CombinedOutput()
	if err != nil {
		return fmt.Errorf("apparmor_parser: %w: %s", err, out)
	}
	return nil
})

func unloadProfiles() {
	for _, name := range []string{profile, otherProfile} {
		_ = os.WriteFile(appArmorFS+".remove", []byte(name), 0)
	}
}

func needAppArmor(t *testing.T) {
	t.Helper()
	Need(t, os.Geteuid() == 0, "needs root")
	Need(t, appArmorEnabled(), "AppArmor is not enabled")
	Must(t, loadProfiles())
}

func withProfile(name string) Change {
	return func(c *specs.Spec) { c.Process.ApparmorProfile = name }
}

// tryWrites tells the profile that it runs with and which of two files in /tmp it may write.
const tryWrites = `cat /proc/self/attr/apparmor/current
for name in denied other; do
	{ echo x > /tmp/$name; } 2>/dev/null && echo $name
done
true`

// tmpfs gives everybody a /tmp to write to.
var tmpfs = MountAt("/tmp", "tmpfs", "tmpfs", "mode=1777")

func TestAppArmor(t *testing.T) {
	needAppArmor(t)
	t.Parallel()
	const confined, confinedOther = profile + " (enforce)\nother\n", otherProfile + " (enforce)\ndenied\n"
	privileges := func(c *specs.Spec) { c.Process.NoNewPrivileges = false }
	s := NewSandbox(t)
	Equal(t, "confined", s.OutputOf(tryWrites, tmpfs, withProfile(profile)), confined)
	Equal(t, "may gain privileges", s.OutputOf(tryWrites, tmpfs, withProfile(profile), privileges), confined)
	Equal(t, "by its name", s.OutputOf(tryWrites, tmpfs, withProfile("unconfined")), "unconfined\ndenied\nother\n")
	Equal(t, "in a user namespace", s.UserOutput(tryWrites, tmpfs, withProfile(profile)), confined)
	Equal(t, "as a user", s.OutputOf(tryWrites, tmpfs, withProfile(profile), func(c *specs.Spec) { c.Process.User.UID = 1000 }), confined)

	c := s.Running(tmpfs, withProfile(profile))
	Equal(t, "init", c.Proc("attr/apparmor/current"), profile+" (enforce)\n")
	Equal(t, "exec", c.Inside(tryWrites)+"\n", confined)
	Equal(t, "exec with another", s.OK("exec", "--apparmor", otherProfile, c.ID, "sh", "-c", "rm /tmp/other; "+tryWrites), confinedOther)
	p := &specs.Process{Args: []string{"sh", "-c", tryWrites}, Env: []string{"PATH=/bin"}, Cwd: "/", ApparmorProfile: otherProfile}
	Equal(t, "exec of a file", s.OK("exec", "--process", s.ProcessFile(p), c.ID), otherProfile+" (enforce)\ndenied\n")
	p.ApparmorProfile = ""
	Equal(t, "exec of a file without one", s.OK("exec", "--process", s.ProcessFile(p), c.ID), confined)
	r := s.Fails(Said("process.apparmorProfile", `AppArmor profile "sock-test-missing" is not loaded`),
		"exec", "--apparmor", "sock-test-missing", c.ID, "true")
	Equal(t, "exit status of exec", r.Code, 255)

	s = NewSandbox(t)
	s.Refused(s.Bundle(withProfile("sock-test-missing")), Said("process.apparmorProfile", `AppArmor profile "sock-test-missing" is not loaded`))
}

// A hook in the container is a program of the image's.
func TestAppArmorConfinesHooks(t *testing.T) {
	needAppArmor(t)
	t.Parallel()
	s := NewSandbox(t)
	dir := filepath.Join(s.Dir, "hook")
	Must(t, os.Mkdir(dir, 0o777))
	hook := WithHook("startContainer", "cat /proc/self/attr/apparmor/current > /mnt/profile; { echo x > /tmp/denied; } 2>/dev/null && echo written >> /mnt/profile; true")
	s.OutputOf("true", BindAt("/mnt", dir), tmpfs, hook, withProfile(profile))
	Equal(t, "profile", ReadFile(filepath.Join(dir, "profile")), profile+" (enforce)\n")
}

// An image that brings its own /proc does not get the write (CVE-2019-19921).
func TestAppArmorWithFakeProc(t *testing.T) {
	needAppArmor(t)
	t.Parallel()
	s := NewSandbox(t)
	b := s.Bundle(withProfile(profile), func(c *specs.Spec) {
		c.Mounts, c.Linux.MaskedPaths, c.Linux.ReadonlyPaths = nil, nil, nil
	})
	for _, file := range []string{"proc/self/attr/apparmor/exec", "proc/thread-self/attr/apparmor/exec", "proc/self/attr/exec", "proc/1/attr/apparmor/exec"} {
		Must(t, os.MkdirAll(filepath.Join(b.Rootfs, filepath.Dir(file)), 0o777))
		WriteFile(t, filepath.Join(b.Rootfs, file), "", 0o666)
		t.Cleanup(func() { Equal(t, file, ReadFile(filepath.Join(b.Rootfs, file)), "") })
	}
	c := s.CreateIn(b)
	s.OK("start", c.ID)
	Equal(t, "profile", c.Proc("attr/apparmor/current"), profile+" (enforce)\n")
}

// selinuxEnabled says whether the kernel knows the policy of testdata/selinux.cil.
func selinuxEnabled() bool {
	return ReadFile("/sys/fs/selinux/enforce") == "1" && strings.HasPrefix(ReadFile("/proc/self/attr/current"), "u:r:host:s0")
}

func withLabels(c *specs.Spec) {
	c.Process.SelinuxLabel, c.Linux.MountLabel = confinedLabel, sharedLabel
}

func labelOf(t *testing.T, file string) string {
	t.Helper()
	buf := make([]byte, 256)
	n, err := unix.Lgetxattr(file, "security.selinux", buf)
	Must(t, err)
	return strings.TrimRight(string(buf[:n]), "\x00")
}

func TestSELinux(t *testing.T) {
	Need(t, selinuxEnabled(), "SELinux is not enabled, or has another policy")
	t.Parallel()
	const tryWrites = `cat /proc/self/attr/current | tr '\0' '\n'
for name in /tmp/shared /root/file; do
	{ echo x > $name; } 2>/dev/null && echo $name
done
true`
	const confined = confinedLabel + "\n/tmp/shared\n"
	s := NewSandbox(t)
	Equal(t, "confined", s.OutputOf(tryWrites, tmpfs, Writable, withLabels), confined)
	Equal(t, "in a user namespace", s.UserOutput(tryWrites, tmpfs, Writable, withLabels), confined)

	c := s.Running(tmpfs, withLabels, Writable)
	Equal(t, "exec", c.Inside(tryWrites)+"\n", confined)
	Equal(t, "exec with another label", s.OK("exec", "--process-label", "u:r:host:s0", c.ID, "sh", "-c", tryWrites),
		"u:r:host:s0\n/tmp/shared\n/root/file\n")
	root := filepath.Join("/proc", fmt.Sprint(c.Pid()), "root")
	for _, dir := range []string{"/tmp", "/dev", "/dev/shm", "/dev/pts", "/dev/mqueue", "/proc/acpi"} {
		Equal(t, "label of "+dir, labelOf(t, root+dir), sharedLabel)
	}
	for _, dir := range []string{"/proc", "/sys"} {
		Equal(t, "label of "+dir, labelOf(t, root+dir), "u:r:host:s0")
	}
	if mounts := c.Inside("mount"); !strings.Contains(mounts, `context="`+sharedLabel+`"`) {
		t.Errorf("mounts: %s", mounts)
	}

	const own = "u:object_r:shared:s0:c2"
	s = NewSandbox(t)
	c = s.Running(withLabels, MountAt("/tmp", "tmpfs", "tmpfs", `context="`+own+`"`))
	Equal(t, "a context of the mount's own", labelOf(t, filepath.Join("/proc", fmt.Sprint(c.Pid()), "root/tmp")), own)

	s = NewSandbox(t)
	s.Refused(s.Bundle(func(c *specs.Spec) { c.Process.SelinuxLabel = "no:such:label:s0" }),
		Said("process.selinuxLabel", `the SELinux policy does not know the label "no:such:label:s0"`))
	s.Refused(s.Bundle(func(c *specs.Spec) { c.Linux.MountLabel = "no:such:label:s0" }), Said("mounts[1]", "context=no:such:label:s0"))
}

// Where the kernel would not enforce it, a label is no decoration.
func TestNoLSM(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		field   string
		enabled bool
		change  Change
	}{
		{"process.apparmorProfile: AppArmor", appArmorEnabled(), withProfile(profile)},
		{"process.selinuxLabel: SELinux", selinuxEnabled(), func(c *specs.Spec) { c.Process.SelinuxLabel = confinedLabel }},
		{"linux.mountLabel: SELinux", selinuxEnabled(), func(c *specs.Spec) { c.Linux.MountLabel = sharedLabel }},
	} {
		t.Run(c.field, func(t *testing.T) {
			Need(t, !c.enabled, "it is enabled")
			t.Parallel()
			s := NewSandbox(t)
			s.Refused(s.Bundle(c.change), Said(c.field, "is not enabled on this host"))
			file := s.ProcessFile(&specs.Process{Args: []string{"true"}, Cwd: "/", ApparmorProfile: profile, SelinuxLabel: confinedLabel})
			s.Fails(Said("is not enabled on this host"), "exec", "--process", file, s.Running().ID)
		})
	}
}
