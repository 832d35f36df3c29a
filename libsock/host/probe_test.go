package host

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sock-runtime/sock/libsock/exe"
	"github.com/sock-runtime/sock/libsock/plan"
	"github.com/sock-runtime/sock/libsock/stub"
)

func TestCheckRelease(t *testing.T) {
	for release, want := range map[string]Verdict{
		"6.18.44-fc-v669": OK, "5.14.0-427.el9": OK, "5.15": OK, "10.0.1": OK,
		"5.13.19": Fail, "4.19.0-27-amd64": Fail, "linux": Warn,
	} {
		if c := checkRelease(release); c.Verdict != want {
			t.Errorf("%s: %s, want %s", release, c.Verdict, want)
		}
	}
}

func TestCheckControllers(t *testing.T) {
	for _, test := range []struct {
		name    string
		present []string
		unified bool
		missing []string
	}{
		{"all of v1", strings.Fields("cpu cpuset memory pids blkio hugetlb devices freezer net_cls net_prio rdma"), false, nil},
		{"v1 without pids", strings.Fields("cpu cpuset memory blkio hugetlb devices freezer net_cls net_prio rdma"), false, []string{"pids"}},
		{"v2 needs no devices, has no net", strings.Fields("cpu cpuset memory pids io hugetlb rdma"), true, []string{"net_cls", "net_prio"}},
		{"v2 without io", strings.Fields("cpu cpuset memory pids hugetlb rdma"), true, []string{"io", "net_cls", "net_prio"}},
	} {
		var missing []string
		for _, c := range checkControllers(test.present, test.unified) {
			if c.Verdict != OK {
				missing = append(missing, c.Name)
			}
		}
		if !slices.Equal(missing, test.missing) {
			t.Errorf("%s: missing %q, want %q", test.name, missing, test.missing)
		}
	}
}

func TestCheckProtection(t *testing.T) {
	for active, want := range map[exe.Protection]Check{
		exe.ReadOnlyMount: {Verdict: OK, Detail: "read-only mount, which costs nothing"},
		exe.Exchange:      {Verdict: OK, Detail: "mount -o remount,bind,ro /opt/bin"},
		exe.Foreign:       {Verdict: OK, Detail: "root's"},
		exe.Unprotected:   {Verdict: Warn, Detail: "sealed copy, some ms (why)"},
	} {
		if c := checkProtection(active, errors.New("why"), "/opt/bin"); c.Verdict != want.Verdict || !strings.Contains(c.Detail, want.Detail) {
			t.Errorf("%s: %+v, want %s with %q", active, c, want.Verdict, want.Detail)
		}
	}
}

func TestCheckBinary(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("makes a file of root's")
	}
	dir, err := os.MkdirTemp("/root", "sock-probe-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	file := filepath.Join(dir, "sock")
	if err := os.WriteFile(file, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	expect := func(want Verdict, detail string) {
		t.Helper()
		if c := checkBinary(file); c.Verdict != want || !strings.Contains(c.Detail, detail) {
			t.Errorf("%+v, want %s with %q", c, want, detail)
		}
	}
	expect(OK, "writable by root alone")
	for _, change := range []struct {
		do, undo func() error
		detail   string
	}{
		{func() error { return os.Chmod(file, 0o777) }, func() error { return os.Chmod(file, 0o755) }, "writable by others"},
		{func() error { return os.Chmod(dir, 0o777) }, func() error { return os.Chmod(dir, 0o755) }, dir + " is writable by others"},
		{func() error { return os.Chown(file, 1000, 0) }, func() error { return os.Chown(file, 0, 0) }, "uid 1000"},
	} {
		if err := change.do(); err != nil {
			t.Fatal(err)
		}
		expect(Warn, change.detail)
		if err := change.undo(); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	expect(Warn, "no such file")
}

// A probe that can't fail would say nothing.
func TestInChild(t *testing.T) {
	bad := stub.Instr{Sys: unix.SYS_CLOSE, Args: []stub.Arg{stub.Int(-1)}}
	if err := inChild(plainClone, bad); !errors.Is(err, unix.EBADF) {
		t.Errorf("close(-1) in a child: %v, want EBADF", err)
	}
	if err := inChild(plainClone); err != nil {
		t.Errorf("no calls: %v", err)
	}
	if err := inChild(stub.Clone{Flags: unix.CLONE_NEWPID | unix.CLONE_PARENT, PIDNamespace: -1, Cgroup: -1}); err == nil {
		t.Error("CLONE_NEWPID with CLONE_PARENT was accepted")
	}
	if c := result("group", "name", unix.ENOSYS, Fail, "good"); c.Verdict != Fail || !strings.Contains(c.Detail, "does not have it") {
		t.Errorf("ENOSYS: %+v", c)
	}
}

func TestProbe(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("namespaces and mounts need root")
	}
	descriptors := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	fds := descriptors()
	checks := Probe()
	if descriptors() != fds {
		t.Errorf("%d descriptors before, %d after", fds, descriptors())
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || strings.Contains(string(mounts), probeSource) {
		t.Errorf("a probe's mount is left in %s (%v)", mounts, err)
	}
	found := map[string]Verdict{}
	for _, c := range checks {
		if c.Detail == "" {
			t.Errorf("%s, %s: no detail", c.Group, c.Name)
		}
		if _, ok := found[c.Name]; ok {
			t.Errorf("%s is there twice", c.Name)
		}
		found[c.Name] = c.Verdict
	}
	// Where the other tests of sock run, containers can.
	for _, name := range []string{"release", "root", "mount", "pid", "network", "ipc", "uts", "openat2", "setns by pidfd", "mode", plan.FastDetached} {
		if found[name] != OK {
			t.Errorf("%s: %q, want ok", name, found[name])
		}
	}
}
