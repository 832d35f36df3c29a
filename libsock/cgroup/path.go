package cgroup

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// containerPath returns the clean path of the container's cgroup by the rules
// of config-linux.md, "Cgroups Path". It can't leave the hierarchy, nor name
// its root or our own cgroup.
func containerPath(cfg Config) (string, error) {
	path := cfg.Path
	if path == "" {
		if cfg.ID == "" || cfg.ID == "." || cfg.ID == ".." || strings.ContainsAny(cfg.ID, "/\x00\n") {
			return "", fmt.Errorf("container ID %q can't name a cgroup", cfg.ID)
		}
		return cfg.ID, nil
	}
	if strings.ContainsAny(path, "\x00\n") {
		return "", fmt.Errorf("linux.cgroupsPath: %q contains a NUL or a newline", path)
	}
	if slices.Contains(strings.Split(path, "/"), "..") {
		return "", fmt.Errorf(`linux.cgroupsPath: %q contains ".."`, path)
	}
	path = filepath.Clean(path)
	if path == "/" || path == "." {
		return "", fmt.Errorf("linux.cgroupsPath: %q names no cgroup of the container's own", cfg.Path)
	}
	return path, nil
}

// parentCgroup returns the cgroup, relative to the mount point, below which
// relative paths lie.
//
// On v1 it is our own. On v2 it is our own one's parent, as for runc: a cgroup
// with processes of its own can't give controllers to those below it
// (cgroup-v2.rst, "No Internal Process Constraint").
func parentCgroup(h Hierarchy, mode Mode) (string, error) {
	if slices.Contains(strings.Split(h.Own, "/"), "..") {
		return "", fmt.Errorf("linux.cgroupsPath: our own cgroup %s is not visible in %s, so nothing can be relative to it", h.Own, h.Mount)
	}
	if mode == Unified {
		return filepath.Dir(h.Own), nil
	}
	return h.Own, nil
}
