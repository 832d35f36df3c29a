package cgroup

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// Sub is the cgroup at path below g in every hierarchy, which must exist: where exec --cgroup puts a process. An empty
// path is g itself.
func (g *Group) Sub(path string) (*Group, error) {
	if slices.Contains(strings.Split(path, "/"), "..") || strings.ContainsAny(path, "\x00\n") {
		return nil, fmt.Errorf("bad sub cgroup path: %q", path)
	}
	sub := *g
	sub.dirs = slices.Clone(g.dirs)
	for i := range sub.dirs {
		sub.dirs[i].path = filepath.Join(sub.dirs[i].path, path)
	}
	return &sub, nil
}
