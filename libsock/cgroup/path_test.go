package cgroup

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

func TestContainerPath(t *testing.T) {
	for _, tc := range []struct{ path, id, want, err string }{
		{"", "c1", "c1", ""},
		{"/docker/c1", "c1", "/docker/c1", ""},
		{"//a/./b//", "c1", "/a/b", ""},
		{"a/b", "c1", "a/b", ""},
		{"/a..b", "c1", "/a..b", ""},
		{"", "", "", "container ID"},
		{"", "..", "", "container ID"},
		{"", "a/b", "", "container ID"},
		{"/", "c1", "", "linux.cgroupsPath: "},
		{".", "c1", "", "linux.cgroupsPath: "},
		{"..", "c1", "", "linux.cgroupsPath: "},
		{"../c1", "c1", "", "linux.cgroupsPath: "},
		{"/a/../b", "c1", "", "linux.cgroupsPath: "},
		{"/a\x00", "c1", "", "linux.cgroupsPath: "},
		{"/a\nb", "c1", "", "linux.cgroupsPath: "},
	} {
		got, err := containerPath(Config{Path: tc.path, ID: tc.id})
		if got != tc.want || (err == nil) != (tc.err == "") || err != nil && !strings.HasPrefix(err.Error(), tc.err) {
			t.Errorf("path %q, ID %q: got %q, %v", tc.path, tc.id, got, err)
		}
	}
}

func TestGroupPaths(t *testing.T) {
	memory := Hierarchy{Name: "memory", Mount: "/m/memory", Controllers: []string{"memory", "devices"}, Own: "/own/deep"}
	for _, tc := range []struct {
		cfg  Config
		mode Mode
		own  string
		want string // empty: an error
	}{
		{Config{Path: "/a/b"}, Legacy, "/own/deep", "/m/memory/a/b"},
		{Config{Path: "a/b"}, Legacy, "/own/deep", "/m/memory/own/deep/a/b"},
		{Config{ID: "c1"}, Legacy, "/own/deep", "/m/memory/own/deep/c1"},
		{Config{ID: "c1"}, Legacy, "/", "/m/memory/c1"},
		{Config{Path: "/a/b"}, Unified, "/own/deep", "/m/memory/a/b"},
		{Config{Path: "a/b"}, Unified, "/own/deep", "/m/memory/own/a/b"},
		{Config{ID: "c1"}, Unified, "/own", "/m/memory/c1"},
		{Config{ID: "c1"}, Unified, "/", "/m/memory/c1"},
		{Config{ID: "c1"}, Legacy, "/../other", ""},
		{Config{Path: "/a"}, Legacy, "/../other", "/m/memory/a"},
	} {
		h := memory
		h.Own = tc.own
		g, err := newGroup(tc.cfg, tc.mode, []Hierarchy{h})
		got := ""
		if err == nil {
			got = g.dirs[0].path
		}
		if got != tc.want {
			t.Errorf("%+v in %s of %s: got %q, %v", tc.cfg, tc.own, tc.mode, got, err)
		}
	}
}

// TestGranted leaves out the hierarchies that are not ours, but only where the config names no cgroup.
func TestGranted(t *testing.T) {
	ours := t.TempDir()
	hierarchies := []Hierarchy{
		{Name: "memory", Mount: ours, Controllers: []string{"memory"}, Own: "/"},
		{Name: "pids", Mount: ours + "/none", Controllers: []string{"pids"}, Own: "/"},
		{Name: "cpu", Mount: ours, Controllers: []string{"cpu"}, Own: "/../other"},
	}
	for _, tc := range []struct {
		cfg  Config
		want string
	}{
		{Config{ID: "x", Rootless: true}, "[" + ours + "/x]"},
		{Config{Path: "/x", Rootless: true}, "[" + ours + "/x " + ours + "/none/x " + ours + "/x]"},
	} {
		g, err := newGroup(tc.cfg, Legacy, hierarchies)
		if err != nil {
			t.Fatal(err)
		}
		var paths []string
		for _, d := range g.dirs {
			paths = append(paths, d.path)
		}
		if fmt.Sprint(paths) != tc.want || g.None() {
			t.Errorf("%+v: got %v, want %s", tc.cfg, paths, tc.want)
		}
	}
	// On v2 whoever may make the directory still must be able to enter it.
	v2 := Hierarchy{Name: "unified", Mount: ours, V2: true, Own: "/a/b"}
	if err := os.Mkdir(ours+"/a", 0o755); err != nil {
		t.Fatal(err)
	}
	g, err := newGroup(Config{ID: "x", Rootless: true}, Unified, []Hierarchy{v2})
	if err != nil || !g.None() {
		t.Errorf("without cgroup.procs: %v, %v", g, err)
	}
	if err := g.Set(&specs.LinuxResources{Pids: &specs.LinuxPids{Limit: new(int64)}}); err == nil || !strings.HasPrefix(err.Error(), "linux.resources.pids.limit: no permission") {
		t.Errorf("a limit without a cgroup: %v", err)
	}
	if err := os.WriteFile(ours+"/a/cgroup.procs", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if g, err = newGroup(Config{ID: "x", Rootless: true}, Unified, []Hierarchy{v2}); err != nil || g.None() || g.dirs[0].path != ours+"/a/x" {
		t.Errorf("with cgroup.procs: %v, %v", g, err)
	}
}

func TestNewNeedsDevices(t *testing.T) {
	h := Hierarchy{Name: "memory", Mount: "/m/memory", Controllers: []string{"memory"}}
	if _, err := newGroup(Config{ID: "x"}, Legacy, []Hierarchy{h}); err == nil || !strings.Contains(err.Error(), "devices hierarchy is not mounted") {
		t.Errorf("v1 without devices: %v", err)
	}
	if _, err := newGroup(Config{ID: "x", Systemd: true, Rootless: true}, Legacy, []Hierarchy{h}); err == nil || !strings.Contains(err.Error(), "without root") {
		t.Errorf("rootless unit on v1: %v", err)
	}
}
