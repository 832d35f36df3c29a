package cgroup

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestHierarchies compares what is found without mountinfo with mountinfo.
func TestHierarchies(t *testing.T) {
	got, err := Hierarchies()
	if err != nil {
		t.Skipf("no cgroups here: %v", err)
	}
	mountinfo, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	memberships, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(string(memberships)) {
		if HostMode() == Hybrid || strings.HasPrefix(line, "0::") == (HostMode() == Unified) {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	if want := searchHierarchies(lines, string(mountinfo)); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

func TestSearchHierarchies(t *testing.T) {
	const mountinfo = `31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw
32 31 0:29 /docker/abc /sys/fs/cgroup/cpu,cpuacct rw,relatime master:9 - cgroup cgroup rw,cpu,cpuacct
33 31 0:30 / /dev/my\040cg/freezer rw - cgroup cgroup rw,freezer
34 31 0:31 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
35 31 0:32 / /mnt/two rw - cgroup2 cgroup2 rw
`
	for _, tc := range []struct{ line, want string }{
		{"2:cpu,cpuacct:/docker/abc", "[{cpu,cpuacct /sys/fs/cgroup/cpu,cpuacct [cpu cpuacct] false /}]"},
		{"2:cpuacct,cpu:/docker/abc/in", "[{cpu,cpuacct /sys/fs/cgroup/cpu,cpuacct [cpuacct cpu] false /in}]"},
		{"2:cpu,cpuacct:/other", "[{cpu,cpuacct /sys/fs/cgroup/cpu,cpuacct [cpu cpuacct] false /../../other}]"},
		{"3:freezer:/a:b", "[{freezer /dev/my cg/freezer [freezer] false /a:b}]"},
		{"1:name=systemd:/init.scope", "[{systemd /sys/fs/cgroup/systemd [] false /init.scope}]"},
		{"0::/user.slice", "[{unified /mnt/two [] true /user.slice}]"},
		{"5:memory:/", "[]"},
		{"broken", "[]"},
	} {
		if got := fmt.Sprint(searchHierarchies([]string{tc.line}, mountinfo)); got != tc.want {
			t.Errorf("%s: got %s, want %s", tc.line, got, tc.want)
		}
	}
}

func TestHierarchyOfName(t *testing.T) {
	for name, want := range map[string]string{
		"memory":      "[memory]",
		"cpu,cpuacct": "[cpu cpuacct]",
		"systemd":     "[]",
		"unified":     "[]",
	} {
		if got := fmt.Sprint(hierarchyOfName(name).Controllers); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
}

func TestModeText(t *testing.T) {
	for _, m := range []Mode{Unified, Legacy, Hybrid} {
		if got, err := parseMode(m.String()); got != m || err != nil {
			t.Errorf("%s: got %s, %v", m, got, err)
		}
	}
	if _, err := parseMode("unknown"); err == nil {
		t.Error("parsed an unknown mode")
	}
}
