package host

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/sock-runtime/sock/libsock/host/netdevice"
	"github.com/sock-runtime/sock/libsock/plan"
)

// networkDevices are those that were moved into the child's network namespace, which our connection to it keeps alive.
type networkDevices struct {
	here, there *netdevice.Conn
	moved       []*netdevice.Moved
}

// moveDevice moves one into the network namespace that the child is in.
func (h *Host) moveDevice(a plan.MoveDevice) error {
	if err := h.devices.connect(h.Child); err != nil {
		return err
	}
	moved, err := h.devices.here.Move(a.Name, a.As, h.devices.there)
	if err == nil {
		h.devices.moved = append(h.devices.moved, moved)
	}
	return err
}

func (n *networkDevices) connect(child int) (err error) {
	if n.there != nil {
		return nil
	}
	ns, err := unix.Open(fmt.Sprintf("/proc/%d/ns/net", child), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open the container's network namespace: %w", err)
	}
	defer unix.Close(ns)
	if n.here, err = netdevice.Open(); err != nil {
		return err
	}
	if n.there, err = netdevice.OpenIn(ns); err != nil {
		n.here.Close()
	}
	return err
}

// ReturnDevices takes back the network devices that were moved. Those that are not of hardware end with their namespace,
// and so would be lost with a container that could not be made.
func (h *Host) ReturnDevices() error {
	var errs error
	for _, m := range slices.Backward(h.devices.moved) {
		errs = errors.Join(errs, m.Back())
	}
	h.devices.moved = nil
	return errs
}

func (n *networkDevices) close() {
	if n.there != nil {
		n.here.Close()
		n.there.Close()
	}
	*n = networkDevices{}
}
