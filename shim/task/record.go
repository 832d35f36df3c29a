package task

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sock-runtime/sock/shim/jsonfile"
	"github.com/sock-runtime/sock/shim/lifecycle"
	"github.com/sock-runtime/sock/shim/stdio"
)

// record is what a new worker has to know of a task beside what libsock's state says. It is written before the request
// that changes it is answered, and before a process that it names executes.
type record struct {
	ID       string                 `json:"id"`
	Bundle   string                 `json:"bundle"`
	Root     string                 `json:"root"` // directory of the container's state is Root/ID
	Systemd  bool                   `json:"systemd,omitempty"`
	Profile  string                 `json:"profile,omitempty"`
	UID      int                    `json:"uid,omitempty"` // owner of stdio
	GID      int                    `json:"gid,omitempty"`
	Rootfs   bool                   `json:"rootfs,omitempty"` // BUNDLE/rootfs was mounted by us
	Init     processRecord          `json:"init"`
	Execs    map[string]*execRecord `json:"execs,omitempty"`
	Deleted  bool                   `json:"deleted,omitempty"` // only its exit is left, for a Delete that comes again
	Finished []finishedExec         `json:"finished,omitempty"`
}

// processRecord is a process. Without a pid it has not been started.
type processRecord struct {
	Pid    int         `json:"pid,omitempty"`
	Start  uint64      `json:"start,omitempty"`
	Stdio  stdio.Paths `json:"stdio"`
	Logger int         `json:"logger,omitempty"` // pid of its logging program
	Began  uint64      `json:"began,omitempty"`  // when that began
	Exit   *exitRecord `json:"exit,omitempty"`
}

// execRecord is a process beside init.
type execRecord struct {
	processRecord
	Spec     json.RawMessage `json:"spec,omitempty"`     // until it is started
	Starting bool            `json:"starting,omitempty"` // it may not have executed
}

// finishedExec is the end of an exec that was deleted.
type finishedExec struct {
	ID  string `json:"id"`
	Pid int    `json:"pid"`
	exitRecord
	here bool // by this worker, which has answered
}

type exitRecord struct {
	Status uint32    `json:"status"`
	At     time.Time `json:"at"`
}

func (e *exitRecord) exit() lifecycle.Exit { return lifecycle.Exit{Status: e.Status, At: e.At} }

func recordOf(e lifecycle.Exit) *exitRecord { return &exitRecord{Status: e.Status, At: e.At} }

// Records is the directory of them in the shim's, one file a task.
const Records = "tasks"

// records is its path.
type records string

func (d records) path(id string) string { return filepath.Join(string(d), id) }

// write replaces a task's record.
func (d records) write(r *record) error {
	if err := jsonfile.Write(d.path(r.ID), r); err != nil {
		return fmt.Errorf("record task %s: %w", r.ID, err)
	}
	return nil
}

// read returns one record. Errors: fs.ErrNotExist.
func (d records) read(id string) (*record, error) {
	r := &record{}
	if err := jsonfile.Read(d.path(id), r); err != nil {
		return nil, fmt.Errorf("record of task %s: %w", id, err)
	}
	if r.ID != id {
		return nil, fmt.Errorf("record of task %s: it is that of %q", id, r.ID)
	}
	return r, nil
}

// remove forgets a task.
func (d records) remove(id string) error {
	if err := os.Remove(d.path(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove record of task %s: %w", id, err)
	}
	return nil
}

// list returns the ids of all records.
func (d records) list() ([]string, error) {
	entries, err := os.ReadDir(string(d))
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), jsonfile.Unfinished) {
			ids = append(ids, e.Name())
		}
	}
	return ids, nil
}
