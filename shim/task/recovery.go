package task

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	v2 "github.com/containerd/containerd/api/runtime/task/v2"
	"golang.org/x/sys/unix"

	"github.com/sock-runtime/sock/libsock"
	"github.com/sock-runtime/sock/shim/lifecycle"
	"github.com/sock-runtime/sock/shim/link"
	"github.com/sock-runtime/sock/shim/options"
	"github.com/sock-runtime/sock/shim/rootfs"
	"github.com/sock-runtime/sock/shim/stdio"
)

// recover takes over what earlier workers left.
func (s *Service) recover() error {
	ids, err := s.records.list()
	if err != nil {
		return err
	}
	held := s.link.Held()
	for _, id := range ids {
		r, err := s.records.read(id)
		if err != nil {
			s.log.Error("take a task over", "id", id, "error", err)
			continue
		}
		if r.Deleted {
			s.deleted[id] = r
			s.buried = append(s.buried, tombstone{id, time.Now().Add(replayTime)})
			continue
		}
		if err := s.takeOver(r, held); err != nil {
			s.log.Error("take a task over", "id", id, "error", err)
		}
	}
	s.left = held
	return nil
}

// openStdio opens stdio for a process, perhaps once more after an earlier worker's attempt: then what that had held is let go
// only now, so that no reader sees an end.
func (s *Service) openStdio(io *stdio.IO, p stdio.Process) error {
	err := io.Open()
	s.mu.Lock()
	defer s.mu.Unlock()
	stdio.Forget(p, s.left)
	return err
}

// dropLeft lets go of what is left of attempts that were not made again.
func (s *Service) dropLeft() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, f := range s.left {
		_ = s.link.Drop(name)
		f.Close()
	}
	s.left = nil
}

// reopenStdio takes the stdio of a process over.
func (t *task) reopenStdio(r *processRecord, exec string, held map[string]*os.File) *stdio.IO {
	return stdio.Reopen(r.Stdio, t.stdioOf(exec), t.service.link, held, r.Logger, r.Began)
}

// takeOver makes a task of its record and of what the kernel says.
func (s *Service) takeOver(r *record, held map[string]*os.File) error {
	t := &task{service: s, inherited: true, log: logTo(r.Bundle, r.ID), kept: *r, execs: map[string]*exec{}, finished: r.Finished}
	t.kept.Init, t.kept.Execs, t.kept.Finished = processRecord{}, nil, nil
	t.init = t.takeOverProcess(&r.Init, "", held)
	box, err := s.runtime(r, r.Bundle).Load(r.ID)
	if err != nil && !errors.Is(err, libsock.ErrNotExist) {
		return err
	}
	t.box = box
	if t.state, err = t.stateNow(r); err != nil {
		return err
	}
	started := false
	for id, er := range r.Execs {
		t.takeOverExec(id, er, held)
		started = started || er.Starting && !t.execs[id].starting
	}
	if started { // its Start may be answered before there is a reason to save, and this worker killed then
		t.saveAnyway()
	}
	s.tasks[r.ID] = t
	if _, live := t.state.(lifecycle.Live); live {
		t.announce()
		t.watchOOM()
		s.exits.watch(t.init.pid, t.init.start, t.initEnded)
	}
	return nil
}

// announce publishes the start of an init that was started, if the earlier worker may not have come to that: it is lost
// otherwise, or comes after the end.
func (t *task) announce() {
	if _, created := t.state.(lifecycle.Created); created {
		return // the request comes again
	}
	if at, err := t.box.Copy().Started(); err == nil && time.Since(at) < replayTime {
		t.publishStart()
	}
}

func (t *task) takeOverProcess(r *processRecord, exec string, held map[string]*os.File) process {
	p := process{pid: r.Pid, start: r.Start, paths: r.Stdio, ended: make(chan struct{})}
	if held != nil && (r.Pid != 0 || exec == "") {
		p.io = t.reopenStdio(r, exec, held)
	}
	if r.Exit != nil {
		p.exit = r.Exit.exit()
		close(p.ended)
		if r.Pid != 0 {
			ended := p
			t.service.exits.again(r.Pid, r.Start, func() { t.publishEnd(cmp.Or(exec, t.id()), &ended) })
		}
		if p.io != nil {
			p.io.Ended()
		}
	}
	return p
}

// stateNow is init's state. One that has ended and whose end has not been told is still what it was: the end will come.
func (t *task) stateNow(r *record) (lifecycle.State, error) {
	if r.Init.Exit != nil {
		return lifecycle.New().Exited(t.init.exit), nil
	}
	if t.box == nil { // deleted but for its record; killed then, for lack of a better word
		t.init.exit = lifecycle.Exit{Status: 128 + uint32(unix.SIGKILL), At: time.Now()}
		close(t.init.ended)
		return lifecycle.New().Exited(t.init.exit), nil
	}
	status, err := t.box.Copy().Status()
	if err != nil {
		return nil, err
	}
	switch status.Status {
	case "created", "creating":
		return lifecycle.New(), nil
	case "paused":
		return lifecycle.New().Started().Paused(), nil
	default:
		return lifecycle.New().Started(), nil
	}
}

func (t *task) takeOverExec(id string, r *execRecord, held map[string]*os.File) {
	e := &exec{task: t, id: id, spec: r.Spec, state: lifecycle.NewExec(), pidfd: -1, starting: r.Starting}
	t.execs[id] = e
	if r.Exit == nil && r.Pid != 0 && r.Starting && !hasExecuted(r) {
		e.process = t.takeOverProcess(&r.processRecord, id, nil)
		e.known = make(chan struct{})
		t.service.exits.watch(e.pid, e.start, func(x link.Exit) { go e.decide(x, &r.processRecord) })
		return
	}
	e.process = t.takeOverProcess(&r.processRecord, id, held)
	switch {
	case r.Exit != nil && r.Pid == 0:
		e.state = lifecycle.NewExec().Failed(e.exit)
	case r.Exit != nil:
		e.state = lifecycle.NewExec().Started().Exited(e.exit)
	case r.Pid == 0:
	default:
		e.active()
		if r.Starting {
			e.publishStart()
		}
		if fd, _, err := libsock.OpenProcess(r.Pid, r.Start); err == nil {
			e.pidfd = fd
		}
		t.service.exits.watch(e.pid, e.start, func(x link.Exit) { go flushed(e.io, func() { e.hasEndedWith(x) }) })
	}
}

// active makes a process that was added one that runs.
func (e *exec) active() {
	if added, ok := e.state.(lifecycle.Added); ok {
		e.state = added.Started()
		e.spec, e.starting = nil, false
		e.task.active++
	}
}

// decide says of a process that has ended, and whose worker was killed while it started it, whether it has executed: one that
// has not sees that its worker is gone and ends, still under our name. Its status doesn't tell: it may be failedExec, or SIGPIPE
// for a report to nobody, and both may be a program's own. Then Start will come again.
func (e *exec) decide(x link.Exit, r *processRecord) {
	t := e.task
	t.mu.Lock()
	defer t.mu.Unlock()
	defer close(e.known)
	if x.Comm == ourComm() {
		e.pid, e.start, e.starting = 0, 0, false
		if t.saveAnyway() {
			_ = t.service.link.Ack(x)
		}
		return
	}
	t.service.mu.Lock()
	e.io = t.reopenStdio(r, e.id, t.service.left)
	t.service.mu.Unlock()
	e.active()
	e.publishStart()
	e.end(x)
}

// stubTimeout is how long a process may take to see that the worker that cloned it is gone.
const stubTimeout = time.Second

// hasExecuted says whether a process that was being started runs. One that has not come to its execve has the name of our
// threads until it sees that its worker is gone; then it ends.
func hasExecuted(r *execRecord) bool {
	for deadline := time.Now().Add(stubTimeout); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		fd, _, err := libsock.OpenProcess(r.Pid, r.Start)
		if err != nil {
			return false
		}
		name := comm(r.Pid)
		_ = unix.Close(fd)
		if name != ourComm() {
			return name != ""
		}
	}
	return true
}

// tombstone is the record of a deleted task, kept until its Delete must have been answered.
type tombstone struct {
	id    string
	until time.Time
}

// answerTime is how long an answer may take from here to the keeper, with much to spare.
const answerTime = 2 * time.Second

// bequeath leaves what a Delete would be answered with that comes again.
func (s *Service) bequeath(t *task) {
	t.mu.Lock()
	r := record{ID: t.id(), Bundle: t.bundle(), Root: t.kept.Root, Deleted: true, Init: processRecord{Pid: t.init.pid, Exit: recordOf(t.init.exit)}}
	t.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.creating[r.ID] || s.tasks[r.ID] != nil {
		return
	}
	if err := s.records.write(&r); err != nil {
		_ = s.records.remove(r.ID)
	}
	s.buried = append(s.buried, tombstone{r.ID, time.Now().Add(answerTime)})
}

// bury removes tombstones whose time has come.
func (s *Service) bury() {
	tick := time.NewTicker(answerTime / 2)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-s.link.Done():
			return
		}
		s.mu.Lock()
		for len(s.buried) > 0 && time.Now().After(s.buried[0].until) {
			id := s.buried[0].id
			s.buried = s.buried[1:]
			delete(s.deleted, id)
			if s.tasks[id] == nil && !s.creating[id] {
				_ = s.records.remove(id)
			}
		}
		s.mu.Unlock()
	}
}

// deletedBefore answers a Delete that an earlier worker has carried out; nil if none has.
func (s *Service) deletedBefore(r *v2.DeleteRequest) *v2.DeleteResponse {
	if !s.replaying() {
		return nil
	}
	s.mu.Lock()
	t, d := s.tasks[r.ID], s.deleted[r.ID]
	s.mu.Unlock()
	if r.ExecID == "" {
		if d != nil && d.Init.Exit != nil {
			return deleteResponse(d.Init.Pid, d.Init.Exit.exit())
		}
		return nil
	}
	if t != nil {
		t.mu.Lock()
		defer t.mu.Unlock()
		for _, f := range t.finished {
			if f.ID == r.ExecID && !f.here {
				return deleteResponse(f.Pid, f.exit())
			}
		}
	}
	return nil
}

// Cleanup is what containerd's delete command asks for, after each task and when it has lost one: whatever is left of it goes.
func (s *Service) Cleanup(ctx context.Context, id, bundle string) (*v2.DeleteResponse, error) {
	t, err := s.task(id)
	if err != nil {
		r := record{ID: id, Bundle: bundle, Root: filepath.Join(options.DefaultRoot, s.namespace), Rootfs: true}
		return removeRest(&r)
	}
	_ = t.killInit(uint32(unix.SIGKILL), false)
	wait, cancel := context.WithTimeout(ctx, timeoutEnd)
	defer cancel()
	_ = t.init.wait(wait)
	return s.Delete(ctx, &v2.DeleteRequest{ID: id})
}

// Remove is Cleanup where no worker runs any more: dir is the directory that it had.
func Remove(dir, namespace, id, bundle string) (*v2.DeleteResponse, error) {
	all := records(filepath.Join(dir, Records))
	r, err := all.read(id)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		r = &record{ID: id, Root: filepath.Join(options.DefaultRoot, namespace), Rootfs: true}
	case err != nil:
		return nil, err
	}
	if r.Bundle == "" {
		r.Bundle = bundle
	}
	response, err := removeRest(r)
	if err != nil {
		return nil, err
	}
	return response, all.remove(id)
}

// removeRest removes a container that nobody serves.
func removeRest(r *record) (*v2.DeleteResponse, error) {
	exit := &exitRecord{Status: 128 + uint32(unix.SIGKILL), At: time.Now()}
	if r.Init.Exit != nil {
		exit = r.Init.Exit
	}
	runtime := &libsock.Runtime{Root: r.Root, SystemdCgroup: r.Systemd, Log: logTo(r.Bundle, r.ID)}
	box, err := runtime.Load(r.ID)
	if err == nil {
		err = box.Delete(true)
	}
	if err != nil && !errors.Is(err, libsock.ErrNotExist) {
		return nil, err
	}
	if r.Rootfs && r.Bundle != "" {
		if err := rootfs.Unmount(filepath.Join(r.Bundle, "rootfs")); err != nil {
			return nil, err
		}
	}
	return deleteResponse(r.Init.Pid, exit.exit()), nil
}
