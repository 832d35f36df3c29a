package cgroup

import (
	"fmt"
	"testing"
)

func TestSub(t *testing.T) {
	g := &Group{mode: Hybrid, dirs: []dir{
		{Hierarchy: Hierarchy{Name: "cpu,cpuacct", Controllers: []string{"cpu", "cpuacct"}}, path: "/c/cpu,cpuacct/x"},
		{Hierarchy: Hierarchy{Name: "memory", Controllers: []string{"memory"}}, path: "/c/memory/x"},
		{Hierarchy: Hierarchy{Name: "systemd"}, path: "/c/systemd/x"},
		{Hierarchy: Hierarchy{Name: "unified", V2: true}, path: "/c/unified/x"},
	}}
	for _, tc := range []struct {
		paths map[string]string
		want  string // the directories, or "" for an error
	}{
		{nil, "[/c/cpu,cpuacct/x /c/memory/x /c/systemd/x /c/unified/x]"},
		{map[string]string{"": "a/b"}, "[/c/cpu,cpuacct/x/a/b /c/memory/x/a/b /c/systemd/x/a/b /c/unified/x/a/b]"},
		{map[string]string{"cpuacct": "a"}, "[/c/cpu,cpuacct/x/a /c/memory/x /c/systemd/x /c/unified/x]"},
		{map[string]string{"memory": "m", "": "rest"}, "[/c/cpu,cpuacct/x/rest /c/memory/x/m /c/systemd/x/rest /c/unified/x/rest]"},
		{map[string]string{"cpu": "a", "cpuacct": "a"}, "[/c/cpu,cpuacct/x/a /c/memory/x /c/systemd/x /c/unified/x]"},
		{map[string]string{"nosuch": "a"}, ""},
		{map[string]string{"memory": "a", "nosuch": "a"}, ""},
		{map[string]string{"": "../y"}, ""},
		{map[string]string{"memory": "a/../../y"}, ""},
		{map[string]string{"": "a\x00"}, ""},
	} {
		sub, err := g.Sub(tc.paths)
		got := ""
		if err == nil {
			var paths []string
			for _, d := range sub.dirs {
				paths = append(paths, d.path)
			}
			got = fmt.Sprint(paths)
		}
		if got != tc.want {
			t.Errorf("%q: got %s, %v; want %s", tc.paths, got, err, tc.want)
		}
	}
	if g.dirs[0].path != "/c/cpu,cpuacct/x" {
		t.Error("Sub changed its receiver")
	}
}
