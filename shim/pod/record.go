package pod

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/sock-runtime/sock/shim/jsonfile"
	"github.com/sock-runtime/sock/shim/rootfs"
)

// The states of a pod.
const (
	created = "created"
	ready   = "ready"
	stopped = "stopped"
)

// record is what a new worker has to know of a pod. It is written before the request that changes it is answered.
type record struct {
	ID         string    `json:"id"`
	Bundle     string    `json:"bundle"`
	Network    string    `json:"network,omitempty"` // path of the network namespace
	Config     []byte    `json:"config,omitempty"`  // CRI's PodSandboxConfig
	Handle     int       `json:"handle"`            // a number that is no pid
	Init       bool      `json:"init,omitempty"`    // it has a process
	Pid        int       `json:"pid,omitempty"`     // of that
	Held       []string  `json:"held,omitempty"`    // the namespaces that the link holds
	State      string    `json:"state"`
	Created    time.Time `json:"created"`
	Exited     time.Time `json:"exited,omitzero"`
	ExitStatus uint32    `json:"exitStatus,omitempty"`
}

// directory has a directory for each pod, with what is in no namespace.
type directory string

func (d directory) pod(id string) string { return filepath.Join(string(d), id) }

const recordFile = "record"

// write replaces a pod's record.
func (d directory) write(r *record) error {
	if err := jsonfile.Write(filepath.Join(d.pod(r.ID), recordFile), r); err != nil {
		return fmt.Errorf("record sandbox %s: %w", r.ID, err)
	}
	return nil
}

// read returns a pod's record. Errors: fs.ErrNotExist.
func (d directory) read(id string) (*record, error) {
	r := &record{}
	if err := jsonfile.Read(filepath.Join(d.pod(id), recordFile), r); err != nil {
		return nil, fmt.Errorf("record of sandbox %s: %w", id, err)
	}
	if r.ID != id {
		return nil, fmt.Errorf("record of sandbox %s: it is that of %q", id, r.ID)
	}
	return r, nil
}

// remove forgets a pod.
func (d directory) remove(id string) error {
	if err := rootfs.Unmount(filepath.Join(d.pod(id), shmDir)); err != nil {
		return err
	}
	if err := os.RemoveAll(d.pod(id)); err != nil {
		return fmt.Errorf("remove sandbox %s: %w", id, err)
	}
	return nil
}

// Records is the directory of all pods in the shim's.
const Records = "sandboxes"

// Remove removes what is on disk of a pod, if there is one, where no worker runs any more: dir is the directory that it had.
// Its process is a task of the same id.
func Remove(dir, id string) error {
	d := directory(filepath.Join(dir, Records))
	if _, err := os.Lstat(d.pod(id)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return d.remove(id)
}
