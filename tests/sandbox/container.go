package sandbox

import (
	"fmt"
	"path/filepath"
	"strings"
	"time"
)

// Container is one that was created.
type Container struct {
	*Sandbox
	Bundle
	ID     string
	Stdout string
}

// Create makes a bundle and creates a container.
func (s *Sandbox) Create(changes ...Change) *Container {
	s.Helper()
	return s.CreateIn(s.Bundle(changes...))
}

// CreateIn creates a container of a bundle.
func (s *Sandbox) CreateIn(b Bundle, flags ...string) *Container {
	s.Helper()
	c := &Container{Sandbox: s, Bundle: b, ID: s.NewID()}
	cmd := s.Command(append(append([]string{"create", "--bundle", b.Dir}, flags...), c.ID)...)
	out := s.LogFile("stdout")
	c.Stdout = out.Name()
	cmd.Stdout = out
	if r := s.Do(cmd); r.Code != 0 {
		s.Fatal(r)
	}
	return c
}

// Running creates and starts a container.
func (s *Sandbox) Running(changes ...Change) *Container {
	s.Helper()
	c := s.Create(changes...)
	s.OK("start", c.ID)
	return c
}

// Dir is the bundle's directory.
func (c *Container) Dir() string { return c.Bundle.Dir }

// State is the answer of the state command.
type State struct {
	OCIVersion  string            `json:"ociVersion"`
	ID          string            `json:"id"`
	Pid         int               `json:"pid"`
	Status      string            `json:"status"`
	Bundle      string            `json:"bundle"`
	Rootfs      string            `json:"rootfs"`
	Created     time.Time         `json:"created"`
	Annotations map[string]string `json:"annotations"`
	Owner       string            `json:"owner"`
}

// State asks for the state.
func (c *Container) State() State {
	c.Helper()
	return Decode[State](c.T, c.OK("state", c.ID))
}

// Pid is that of init.
func (c *Container) Pid() int {
	c.Helper()
	return c.State().Pid
}

// WantStatus waits until the container is in a status.
func (c *Container) WantStatus(want string) {
	c.Helper()
	Eventually(c.T, "status "+want, func() error {
		if got := c.State().Status; got != want {
			return fmt.Errorf("is %s", got)
		}
		return nil
	})
}

// Inside runs a shell script in the container by exec.
func (c *Container) Inside(lines string) string {
	c.Helper()
	return strings.TrimSpace(c.OK("exec", c.ID, "sh", "-c", lines))
}

// Proc reads a file of the init process in the host's /proc.
func (c *Container) Proc(name string) string {
	c.Helper()
	return ReadFile(fmt.Sprintf("/proc/%d/%s", c.Pid(), name))
}

// Namespace identifies one of the container's namespaces.
func (c *Container) Namespace(name string) string {
	c.Helper()
	return NamespaceOf(c.T, c.Pid(), name)
}

// WaitOutput waits until the process has written this.
func (c *Container) WaitOutput(want string) {
	c.Helper()
	Eventually(c.T, fmt.Sprintf("output %q", want), func() error {
		if got := ReadFile(c.Stdout); got != want {
			return fmt.Errorf("is %q", got)
		}
		return nil
	})
}

// CgroupDirs are the directories of the container's cgroups, by v1's controllers or named hierarchies and "" for v2.
func (c *Container) CgroupDirs() map[string]string {
	c.Helper()
	dirs := make(map[string]string)
	for line := range strings.Lines(c.Proc("cgroup")) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		hierarchy := strings.TrimPrefix(f[1], "name=")
		if f[1] == "" {
			hierarchy = ByCgroup("unified", "")
		}
		for controller := range strings.SplitSeq(f[1], ",") {
			dirs[controller] = filepath.Join(CgroupRoot, hierarchy, f[2])
		}
	}
	return dirs
}

// CgroupFile is the path of a file of the container's cgroup that has the controller: on v2 the one cgroup has all.
func (c *Container) CgroupFile(controller, name string) string {
	c.Helper()
	dir, ok := c.CgroupDirs()[ByCgroup(controller, "")]
	if !ok {
		c.Fatalf("no %s cgroup in %q", controller, c.Proc("cgroup"))
	}
	return filepath.Join(dir, name)
}
