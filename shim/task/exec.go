package task

import (
	"bytes"
	"encoding/json"
	"slices"
	"sync"
	"time"

	api "github.com/containerd/containerd/api/events"
	v2 "github.com/containerd/containerd/api/runtime/task/v2"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/sock-runtime/sock/libsock"
	"github.com/sock-runtime/sock/shim/lifecycle"
	"github.com/sock-runtime/sock/shim/link"
	"github.com/sock-runtime/sock/shim/stdio"
)

// exec is a process beside init.
type exec struct {
	task   *task
	id     string
	spec   json.RawMessage // until it is started
	change sync.Mutex      // one start or delete at a time

	// The rest is guarded by the task's mutex.
	state lifecycle.Exec
	process
	pidfd    int
	starting bool          // its pid is on record; whether it has executed is not known
	known    chan struct{} // not nil: closed when that is known of one that an earlier worker was starting
}

func (e *exec) record() *execRecord {
	return &execRecord{processRecord: e.process.record(), Spec: e.spec, Starting: e.starting}
}

// addExec notes a process that is to be started.
func (t *task) addExec(r *v2.ExecProcessRequest) error {
	spec := &specs.Process{}
	if err := json.Unmarshal(r.Spec.GetValue(), spec); err != nil {
		return invalid("exec %s: decode its process: %v", r.ExecID, err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if old := t.execs[r.ExecID]; old != nil {
		if t.replaying() && bytes.Equal(old.spec, r.Spec.GetValue()) {
			old.publishAdded() // the earlier worker may not have come to it
			return nil
		}
		return alreadyExists("id %s", r.ExecID)
	}
	switch t.state.(type) {
	case lifecycle.Created, lifecycle.Running:
	default:
		return precondition("cannot exec in a %s container", lifecycle.Name(t.state))
	}
	e := &exec{
		task: t, id: r.ExecID, spec: r.Spec.GetValue(), state: lifecycle.NewExec(), pidfd: -1,
		process: process{
			paths: stdio.Paths{Stdin: r.Stdin, Stdout: r.Stdout, Stderr: r.Stderr, Terminal: r.Terminal}, ended: make(chan struct{}),
		},
	}
	t.execs[r.ExecID] = e
	if err := t.save(); err != nil {
		delete(t.execs, r.ExecID)
		return coded(err, "")
	}
	e.publishAdded()
	return nil
}

func (e *exec) publishAdded() {
	e.task.service.events.Publish(&api.TaskExecAdded{ContainerID: e.task.id(), ExecID: e.id})
}

// exec finds a process, and waits until it is known what it is. t.mu is not held.
func (t *task) exec(id string) (*exec, error) {
	t.mu.Lock()
	e := t.execs[id]
	t.mu.Unlock()
	if e == nil {
		return nil, notFound("process does not exist %s", id)
	}
	if e.known != nil {
		<-e.known
	}
	return e, nil
}

// run starts the process.
func (e *exec) run() error {
	t := e.task
	e.change.Lock()
	defer e.change.Unlock()
	t.mu.Lock()
	added, ok := e.state.(lifecycle.Added)
	if !ok {
		defer t.mu.Unlock()
		if e.pid != 0 && t.replaying() {
			return nil
		}
		return precondition("cannot start a %s process", lifecycle.Name(e.state))
	}
	if _, live := t.state.(lifecycle.Live); !live || t.pending != nil {
		t.mu.Unlock()
		return precondition("container %s init process is not running", t.id())
	}
	t.active++
	e.busy = true
	t.mu.Unlock()

	started, err := e.launch()

	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil {
		t.log.Warn("exec", "exec", e.id, "error", err)
		e.exit = lifecycle.Exit{Status: failedExec, At: time.Now()}
		e.state = added.Failed(e.exit)
		e.pid, e.start, e.starting, e.busy = 0, 0, false, false
		close(e.ended)
		t.saveAnyway()
		t.active--
		t.settle()
		return coded(err, "OCI runtime exec failed: exec failed")
	}
	e.publishStart() // before the record says so: until then the next worker does it again
	e.state, e.spec, e.starting, e.pidfd = added.Started(), nil, false, started.PidFD
	t.saveAnyway()
	t.service.exits.watch(e.pid, e.start, func(x link.Exit) { go flushed(e.io, func() { e.hasEndedWith(x) }) })
	e.release(e.end)
	return nil
}

// failedExec is the exit status of a process that could not be started, as runc's.
const failedExec = 255

// launch makes the process. It is on record before it executes.
func (e *exec) launch() (*libsock.Process, error) {
	t := e.task
	spec := &specs.Process{}
	if err := json.Unmarshal(e.spec, spec); err != nil {
		return nil, err
	}
	spec.Terminal = e.paths.Terminal
	io := stdio.Prepare(e.paths, t.stdioOf(e.id), t.service.link)
	if err := t.service.openStdio(io, t.stdioOf(e.id)); err != nil {
		return nil, err
	}
	t.mu.Lock()
	e.io = io
	t.mu.Unlock()
	box, err := t.container()
	if err != nil {
		return nil, err
	}
	started, err := box.StartProcess(libsock.ExecOptions{Process: spec, Stdio: io.Stdio()}, func(p *libsock.Process) error {
		if p.Console >= 0 {
			console := p.Console
			p.Console = -1
			if err := io.Attach(console); err != nil {
				return err
			}
		}
		t.mu.Lock()
		defer t.mu.Unlock()
		e.pid, e.start, e.starting = p.Pid, p.StartTime, true
		return t.save()
	})
	io.Started()
	if err != nil {
		io.Close()
	}
	return started, err
}

func (e *exec) publishStart() {
	e.task.service.events.Publish(&api.TaskExecStarted{ContainerID: e.task.id(), ExecID: e.id, Pid: uint32(e.pid)})
}

// hasEndedWith is called with the end of the process.
func (e *exec) hasEndedWith(x link.Exit) {
	e.task.mu.Lock()
	defer e.task.mu.Unlock()
	if e.busy {
		e.held = &x
		return
	}
	e.end(x)
}

// end tells the end of the process. The task's mutex is held.
func (e *exec) end(x link.Exit) {
	active, ok := e.state.(lifecycle.Active)
	if !ok {
		return
	}
	e.exit = exitOf(x)
	e.state = active.Exited(e.exit)
	if e.pidfd >= 0 {
		_ = unix.Close(e.pidfd)
		e.pidfd = -1
	}
	e.task.tellEnd(e.id, &e.process, x)
	e.task.active--
	e.task.settle()
}

// kill sends a signal to the process.
func (e *exec) kill(signal uint32) error {
	e.task.mu.Lock()
	defer e.task.mu.Unlock()
	switch e.state.(type) {
	case lifecycle.Added:
		return precondition("process not created")
	case lifecycle.Ended:
		return killError(libsock.ErrNotRunning)
	}
	return killError(unix.PidfdSendSignal(e.pidfd, unix.Signal(signal), nil, 0))
}

// remove forgets the process.
func (e *exec) remove() (int, lifecycle.Exit, error) {
	t := e.task
	e.change.Lock()
	defer e.change.Unlock()
	t.mu.Lock()
	_, active := e.state.(lifecycle.Active)
	io := e.io
	t.mu.Unlock()
	if active {
		return 0, lifecycle.Exit{}, precondition("cannot delete a running process")
	}
	if io != nil {
		io.Close()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.execs[e.id] != e {
		return 0, lifecycle.Exit{}, notFound("process does not exist %s", e.id)
	}
	delete(t.execs, e.id)
	t.finished = append(t.finished, finishedExec{ID: e.id, Pid: e.pid, exitRecord: *recordOf(e.exit), here: true})
	t.finished = slices.Delete(t.finished, 0, max(len(t.finished)-maxFinished, 0))
	t.saveAnyway()
	return e.pid, e.exit, nil
}
