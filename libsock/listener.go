package libsock

import (
	"encoding/json"
	"errors"
	"fmt"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/sock-runtime/sock/libsock/plan"
)

// passListener fetches the seccomp listener of a child that has just loaded its filter, and sends it to the agent at
// linux.seccomp.listenerPath with the container's state, config-linux.md "The Container Process State".
func (c *Container) passListener(child *child, preserveFDs int) error {
	if c.state.Listener == nil {
		return errors.New("linux.seccomp: the filter has a listener that nobody waits for")
	}
	listener, err := unix.PidfdGetfd(child.pidfd, plan.ListenerFD(preserveFDs), 0)
	if err != nil {
		return fmt.Errorf("linux.seccomp: fetch the listener: %w", err)
	}
	defer unix.Close(listener)
	message, err := json.Marshal(specs.ContainerProcessState{
		Version: c.state.Version, Fds: []string{specs.SeccompFdName}, Pid: child.pid, Metadata: c.state.Listener.Metadata,
		State: specs.State{
			Version: c.state.Version, ID: c.state.ID, Status: specs.StateCreating, Pid: c.state.Pid, Bundle: c.state.Bundle,
			Annotations: c.state.Annotations,
		},
	})
	if err != nil {
		return fmt.Errorf("linux.seccomp: encode the state: %w", err)
	}
	socket, err := connectUnix(c.state.Listener.Path)
	if err != nil {
		return fmt.Errorf("linux.seccomp.listenerPath: %w", err)
	}
	defer unix.Close(socket)
	if err := sendDescriptor(socket, string(message), listener); err != nil {
		return fmt.Errorf("linux.seccomp.listenerPath: send the listener to %s: %w", c.state.Listener.Path, err)
	}
	return nil
}
