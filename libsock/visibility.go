package libsock

import (
	"slices"

	"golang.org/x/sys/unix"

	"github.com/sock-runtime/sock/libsock/exe"
)

// visibility is what a container can see of a child before it executes.
type visibility int

const (
	hidden  visibility = iota // nothing
	exposed                   // its processes can see it, but not look into it
	watched                   // they can look into it from its birth, if they have CAP_SYS_PTRACE
)

// initVisibility is that of a container's init, which is alone in a PID namespace of its own.
func initVisibility(namespaces int, ownPIDs bool) visibility {
	if ownPIDs {
		return exposed
	}
	return visibilityAmong(namespaces, []string{"CAP_SYS_PTRACE"}) // we don't know who is there
}

// visibilityAmong processes that have capabilities. Those of a user namespace are none on the host, ptrace(2).
func visibilityAmong(namespaces int, capabilities []string) visibility {
	born := namespaces&unix.CLONE_NEWPID != 0
	if born && namespaces&unix.CLONE_NEWUSER == 0 && slices.Contains(capabilities, "CAP_SYS_PTRACE") {
		return watched
	}
	return exposed
}

// visibility is that of a process that joins the container.
func (c *Container) visibility() visibility {
	s := c.state
	if !s.OwnPIDs || s.Process.Capabilities == nil {
		return initVisibility(s.Namespaces, s.OwnPIDs)
	}
	return visibilityAmong(s.Namespaces, slices.Concat(s.Process.Capabilities.Bounding, s.Process.Capabilities.Permitted))
}

// Protected says whether this program's file is protected when a process joins the container. Errors: exe.ErrUnprotected.
func (c *Container) Protected() error { return c.visibility().check() }

// check says whether a child that can be seen so can be launched. Errors: exe.ErrUnprotected.
func (v visibility) check() error { return exe.Check(v == watched) }
