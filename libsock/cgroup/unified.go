package cgroup

import (
	"path/filepath"
	"slices"
	"strings"
)

// prepareUnified gives the cgroup all controllers that its hierarchy has, as
// far as its ancestors let it. Which of them are needed, only Set knows: it
// reports those that are missing.
func (d *dir) prepareUnified(made []string) error {
	for _, path := range made {
		// Below a threaded cgroup a new one is of no use until it is threaded,
		// too (cgroup-v2.rst, "Threads").
		kind, err := readTrimmed(path, "cgroup.type")
		if err != nil {
			return err
		}
		if kind == "domain invalid" {
			if err := writeFile(path+"/cgroup.type", "threaded"); err != nil {
				return err
			}
		}
	}
	all, err := readTrimmed(d.Mount, "cgroup.controllers")
	if err != nil {
		return err
	}
	have, err := readTrimmed(d.path, "cgroup.controllers")
	if err != nil || have == all {
		return err
	}
	below, err := filepath.Rel(d.Mount, filepath.Dir(d.path))
	if err != nil {
		return err
	}
	path := d.Mount
	enableControllers(path, strings.Fields(all))
	if below != "." {
		for name := range strings.SplitSeq(below, "/") {
			path += "/" + name
			enableControllers(path, strings.Fields(all))
		}
	}
	return nil
}

// enableControllers passes controllers on to the cgroups below path. One that
// is refused must not cost the others, and is not an error here.
func enableControllers(path string, controllers []string) {
	enabled, err := readTrimmed(path, "cgroup.subtree_control")
	if err != nil {
		return
	}
	var missing []string
	for _, c := range controllers {
		if !slices.Contains(strings.Fields(enabled), c) {
			missing = append(missing, "+"+c)
		}
	}
	if len(missing) == 0 {
		return
	}
	file := path + "/cgroup.subtree_control"
	if writeFile(file, strings.Join(missing, " ")) == nil {
		return
	}
	for _, c := range missing {
		_ = writeFile(file, c)
	}
}
