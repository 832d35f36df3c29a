package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/sock-runtime/sock/shim/control"
	"github.com/sock-runtime/sock/shim/pod"
	"github.com/sock-runtime/sock/shim/rendezvous"
	"github.com/sock-runtime/sock/shim/task"
)

// remove removes what is left of a task whose shim doesn't run any more.
func remove(c rendezvous.Command) ([]byte, error) {
	bundle := c.Bundle
	if bundle == "" {
		var err error
		if bundle, err = os.Getwd(); err != nil {
			return nil, fmt.Errorf("delete: %w", err)
		}
	}
	dir := rendezvous.Dir(c.Address, c.Namespace, "")
	if address, err := os.ReadFile(filepath.Join(bundle, rendezvous.AddressFile)); err == nil {
		if other := rendezvous.DirOf(string(address)); other != "" {
			dir = other
		}
	}
	if err := pod.Remove(dir, c.ID); err != nil {
		return nil, fmt.Errorf("delete: %w", err)
	}
	response, err := task.Remove(dir, c.Namespace, c.ID, bundle)
	if err != nil {
		return nil, fmt.Errorf("delete: %w", err)
	}
	if err := control.Clear(dir, task.Records, pod.Records); err != nil {
		return nil, fmt.Errorf("delete: %w", err)
	}
	return marshal(response)
}
