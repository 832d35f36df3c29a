package cgroup

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
)

// Sub is the cgroup below g where exec --cgroup puts a process; it must exist. paths are relative to g, by controller;
// the one of "" is for all that have none of their own.
func (g *Group) Sub(paths map[string]string) (*Group, error) {
	sub := *g
	sub.dirs = slices.Clone(g.dirs)
	unknown := maps.Clone(paths)
	delete(unknown, "")
	for i := range sub.dirs {
		d := &sub.dirs[i]
		path := paths[""]
		for _, controller := range append([]string{d.Name}, d.Controllers...) {
			if own, ok := paths[controller]; ok {
				path = own
				delete(unknown, controller)
			}
		}
		if slices.Contains(strings.Split(path, "/"), "..") || strings.ContainsAny(path, "\x00\n") {
			return nil, fmt.Errorf("bad sub cgroup path: %q", path)
		}
		d.path = filepath.Join(d.path, path)
	}
	for _, controller := range slices.Sorted(maps.Keys(unknown)) {
		return nil, fmt.Errorf("unknown controller %s of --cgroup: no cgroup hierarchy has it", controller)
	}
	return &sub, nil
}

// Of is the cgroup that a process of g's is in, on v2 only: g, one below it, or wherever it went.
func (g *Group) Of(pid int) (*Group, error) {
	d := g.v2()
	if g.mode != Unified || d == nil {
		return nil, fmt.Errorf("cgroup of process %d: not on cgroup v2", pid)
	}
	memberships, err := readFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(memberships) {
		controllers, own, ok := parseMembership(strings.TrimSuffix(line, "\n"))
		if !ok || len(controllers) > 0 {
			continue
		}
		in := *g
		in.dirs = []dir{*d}
		in.dirs[0].path = filepath.Join(root, own)
		return &in, nil
	}
	return nil, fmt.Errorf("cgroup of process %d: none", pid)
}
