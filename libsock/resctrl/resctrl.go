// Package resctrl gives containers their share of caches and of memory bandwidth: linux.intelRdt of config.json, by the
// kernel's resctrl file system (Documentation/arch/x86/resctrl.rst; AMD's is the same).
//
// A container is in a group that is a class of service (CLOS), and with enableMonitoring in a group within it, of its own,
// that counts.
package resctrl

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Root is where resctrl is mounted, "" where it is not.
func Root() (string, error) {
	const usual = "/sys/fs/resctrl" // the kernel makes this directory where the processor can do it
	var st unix.Statfs_t
	switch err := unix.Statfs(usual, &st); {
	case err == unix.ENOENT:
		return "", nil
	case err == nil && st.Type == unix.RDTGROUP_SUPER_MAGIC:
		return usual, nil
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	return mountPoint(string(mounts)), nil
}

// mountPoint finds resctrl in a mountinfo, proc_pid_mountinfo(5).
func mountPoint(mounts string) string {
	const pointField = 4
	for line := range strings.Lines(mounts) {
		mount, fs, _ := strings.Cut(line, " - ")
		if fields := strings.Fields(mount); strings.HasPrefix(fs, "resctrl ") && len(fields) > pointField {
			return strings.ReplaceAll(fields[pointField], `\040`, " ")
		}
	}
	return ""
}

// Group is where a container is in resctrl. It is part of the container's state.
type Group struct {
	Root    string `json:"root"`
	Dir     string `json:"dir"`               // its class of service
	Own     bool   `json:"own,omitempty"`     // it is made for the container and removed with it
	Monitor string `json:"monitor,omitempty"` // its monitoring group, "" for none

	made         []string               // by Make
	mkdir, rmdir func(dir string) error // nil: the kernel's; tests do what it does with the files in a group
}

// New names the groups of the container id in the resctrl file system at root. Errors name the JSON path.
func New(root, id string, r *specs.LinuxIntelRdt) (*Group, error) {
	g := &Group{Root: root, Dir: filepath.Join(root, r.ClosID)}
	if r.ClosID == "" {
		g.Dir = filepath.Join(root, id)
		g.Own = !exists(g.Dir)
	} else if preconfigured(r) && !exists(g.Dir) {
		return nil, fmt.Errorf("linux.intelRdt.closID: there is no %s, and nothing says what it should be", g.Dir)
	}
	if r.EnableMonitoring {
		g.Monitor = filepath.Join(g.Dir, "mon_groups", id)
	}
	return g, nil
}

func exists(dir string) bool {
	_, err := os.Lstat(dir)
	return err == nil
}

// preconfigured says whether the class of service must be there, for nothing says what it should be.
func preconfigured(r *specs.LinuxIntelRdt) bool { return r.ClosID != "" && len(Schemata(r)) == 0 }

// Schemata are the lines that are written, in their order.
func Schemata(r *specs.LinuxIntelRdt) []string {
	var lines []string
	for _, line := range append([]string{r.L3CacheSchema, r.MemBwSchema}, r.Schemata...) {
		if line != "" {
			lines = append(lines, line)
		}
	}
	return lines
}

// Make makes the groups that are missing and sets the class of service. After an error nothing is left of what it made.
func (g *Group) Make(r *specs.LinuxIntelRdt) (err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, g.Unmake())
		}
	}()
	if !preconfigured(r) {
		switch err := g.makeGroup(g.Dir); {
		case err == nil:
		case !errors.Is(err, os.ErrExist) || g.Own: // or it was made by another since New
			return err
		case r.ClosID != "":
			if err := g.compare(r); err != nil {
				return err
			}
		}
	}
	if err := g.Set(Schemata(r)...); err != nil {
		return err
	}
	if g.Monitor != "" {
		return g.makeGroup(g.Monitor)
	}
	return nil
}

func (g *Group) makeGroup(dir string) error {
	mkdir := g.mkdir
	if mkdir == nil {
		mkdir = func(dir string) error { return os.Mkdir(dir, 0o755) }
	}
	if err := mkdir(dir); err != nil {
		return g.explain(err)
	}
	g.made = append(g.made, dir)
	return nil
}

// Unmake removes the groups that Make made.
func (g *Group) Unmake() error {
	for len(g.made) > 0 {
		last := len(g.made) - 1
		if err := g.remove(g.made[last]); err != nil {
			return err
		}
		g.made = g.made[:last]
	}
	return nil
}

// Remove removes what was made for the container alone: its class of service, if the config does not name it, and its
// monitoring group. Processes that are left in it go up by one group.
func (g *Group) Remove() error {
	if g.Own {
		return g.remove(g.Dir) // with the monitoring groups in it
	}
	if g.Monitor != "" {
		return g.remove(g.Monitor)
	}
	return nil
}

func (g *Group) remove(dir string) error {
	rmdir := g.rmdir
	if rmdir == nil {
		rmdir = unix.Rmdir
	}
	if err := rmdir(dir); err != nil && err != unix.ENOENT {
		return fmt.Errorf("remove %s: %w", dir, err)
	}
	return nil
}

// Exists says whether the groups are still there: resctrl may have been unmounted.
func (g *Group) Exists() bool { return exists(g.Tasks()[0]) }

// Tasks are the files that a process joins the groups by, in this order.
func (g *Group) Tasks() []string {
	files := []string{filepath.Join(g.Dir, "tasks")}
	if g.Monitor != "" {
		files = append(files, filepath.Join(g.Monitor, "tasks"))
	}
	return files
}

// Set writes lines to the class of service's schemata, all in one write.
func (g *Group) Set(lines ...string) error {
	if len(lines) == 0 {
		return nil
	}
	name := filepath.Join(g.Dir, "schemata")
	fd, err := unix.Open(name, unix.O_WRONLY|unix.O_TRUNC|unix.O_CLOEXEC, 0)
	if err == nil {
		_, err = unix.Write(fd, []byte(strings.Join(lines, "\n")+"\n"))
		_ = unix.Close(fd)
	}
	if err != nil {
		return g.explain(fmt.Errorf("write %q to %s: %w", strings.Join(lines, "\n"), name, err))
	}
	return nil
}

// explain adds what the kernel has to say of the last thing that failed.
func (g *Group) explain(err error) error {
	status, failed := os.ReadFile(filepath.Join(g.Root, "info/last_cmd_status"))
	if text := strings.TrimSpace(string(status)); failed == nil && text != "" && text != "ok" {
		return fmt.Errorf("%w (%s)", err, text)
	}
	return err
}
