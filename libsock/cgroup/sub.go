package cgroup

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// Sub is the cgroup below g where exec --cgroup puts a process; it must exist. paths are relative to g, by controller;
// the one of "" is for all that have none of their own.
func (g *Group) Sub(paths map[string]string) (*Group, error) {
	sub := *g
	sub.dirs = slices.Clone(g.dirs)
	used := 0
	for i := range sub.dirs {
		d := &sub.dirs[i]
		path := paths[""]
		for _, controller := range append([]string{d.Name}, d.Controllers...) {
			if own, ok := paths[controller]; ok {
				path = own
				used++
				break
			}
		}
		if slices.Contains(strings.Split(path, "/"), "..") || strings.ContainsAny(path, "\x00\n") {
			return nil, fmt.Errorf("bad sub cgroup path: %q", path)
		}
		d.path = filepath.Join(d.path, path)
	}
	if _, all := paths[""]; used == 0 && len(paths) > 0 && !all {
		return nil, fmt.Errorf("no cgroup hierarchy has one of the controllers of --cgroup")
	}
	return &sub, nil
}

// Of is the cgroup, g or one below it, that a process is in; on v2 only. Errors: it has left g.
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
		path := filepath.Join(root, own)
		if path != d.path && !strings.HasPrefix(path, d.path+"/") {
			return nil, fmt.Errorf("cgroup of process %d: %s is not in %s", pid, path, d.path)
		}
		in := *g
		in.dirs = []dir{*d}
		in.dirs[0].path = path
		return &in, nil
	}
	return nil, fmt.Errorf("cgroup of process %d: none", pid)
}
