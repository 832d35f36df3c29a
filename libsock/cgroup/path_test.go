package cgroup

import (
	"strings"
	"testing"
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
	memory := Hierarchy{Name: "memory", Mount: "/m/memory", Controllers: []string{"memory"}, Own: "/own/deep"}
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
		tc.cfg.Rootless = true // or the devices hierarchy were missed
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

func TestNewNeedsDevices(t *testing.T) {
	h := Hierarchy{Name: "memory", Mount: "/m/memory", Controllers: []string{"memory"}}
	if _, err := newGroup(Config{ID: "x"}, Legacy, []Hierarchy{h}); err == nil || !strings.Contains(err.Error(), "devices hierarchy is not mounted") {
		t.Errorf("v1 without devices: %v", err)
	}
	if _, err := newGroup(Config{ID: "x", Systemd: true, Rootless: true}, Legacy, []Hierarchy{h}); err == nil || !strings.Contains(err.Error(), "without root") {
		t.Errorf("rootless unit on v1: %v", err)
	}
}
