package integration

import (
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// cgroupRoot is where distributions mount the hierarchies: v2's alone, or v1's, each in a directory.
const cgroupRoot = "/sys/fs/cgroup"

// unified tells that the host has cgroup v2 alone; else controllers are v1's.
func unified() bool {
	var st unix.Statfs_t
	return unix.Statfs(cgroupRoot, &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC
}

// byCgroup is what holds for the host's version of cgroups.
func byCgroup[T any](v1, v2 T) T {
	if unified() {
		return v2
	}
	return v1
}

// cgroups lists the cgroup directories of the sandbox, which are named after its mark.
func (s *sandbox) cgroups() []string {
	dirs, _ := filepath.Glob(filepath.Join(cgroupRoot, byCgroup("*", ""), s.mark+"*"))
	return dirs
}

// removeCgroup removes a cgroup and those below it.
func removeCgroup(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeCgroup(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return os.Remove(dir)
}

// cgroupDirs are the directories of the container's cgroups, by v1's controllers or named hierarchies and "" for v2.
func (c *container) cgroupDirs() map[string]string {
	c.Helper()
	dirs := make(map[string]string)
	for line := range strings.Lines(c.proc("cgroup")) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		hierarchy := strings.TrimPrefix(f[1], "name=")
		if f[1] == "" {
			hierarchy = byCgroup("unified", "")
		}
		for controller := range strings.SplitSeq(f[1], ",") {
			dirs[controller] = filepath.Join(cgroupRoot, hierarchy, f[2])
		}
	}
	return dirs
}

// cgroupFile is the path of a file of the container's cgroup that has the controller: on v2 the one cgroup has all.
func (c *container) cgroupFile(controller, name string) string {
	c.Helper()
	dir, ok := c.cgroupDirs()[byCgroup(controller, "")]
	if !ok {
		c.Fatalf("no %s cgroup in %q", controller, c.proc("cgroup"))
	}
	return filepath.Join(dir, name)
}
