package task

import (
	"context"
	"log/slog"
	"sync"
	"time"

	api "github.com/containerd/containerd/api/events"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sock-runtime/sock/libsock"
	"github.com/sock-runtime/sock/shim/lifecycle"
	"github.com/sock-runtime/sock/shim/link"
	"github.com/sock-runtime/sock/shim/stdio"
)

// task is one container with its processes.
type task struct {
	service   *Service
	log       *slog.Logger
	kept      record             // what doesn't change of its record
	inherited bool               // from an earlier worker
	box       *libsock.Container // used through copies; nil if libsock knows it no more

	change sync.Mutex // one start, pause, resume or delete at a time

	mu       sync.Mutex
	state    lifecycle.State
	init     process
	execs    map[string]*exec
	active   int        // execs that run or are being started
	pending  *link.Exit // init's end, to be told after those of all execs
	finished []finishedExec
	oom      oomWatch
}

// process is what init and execs have in common.
type process struct {
	pid   int
	start uint64 // clock ticks since boot
	paths stdio.Paths
	io    *stdio.IO     // nil before it is opened
	ended chan struct{} // closed when its end has been told
	exit  lifecycle.Exit
	busy  bool       // it is being started: its end is told after that
	held  *link.Exit // the end, if it came meanwhile
}

// maxFinished is how many ends of deleted execs are kept, for Deletes that come again.
const maxFinished = 16

func (t *task) id() string     { return t.kept.ID }
func (t *task) bundle() string { return t.kept.Bundle }

// container is the libsock container for one goroutine.
func (t *task) container() (*libsock.Container, error) {
	if t.box == nil {
		return nil, libsock.ErrNotExist
	}
	return t.box.Copy(), nil
}

// record is what there is to record of a process.
func (p *process) record() processRecord {
	r := processRecord{Pid: p.pid, Start: p.start, Stdio: p.paths}
	if p.io != nil {
		r.Logger, r.Began = p.io.Logger()
	}
	select {
	case <-p.ended:
		r.Exit = recordOf(p.exit)
	default:
	}
	return r
}

// save writes the task's record. t.mu is held.
func (t *task) save() error {
	r := t.kept
	r.Init = t.init.record()
	r.Finished = t.finished
	if len(t.execs) > 0 {
		r.Execs = make(map[string]*execRecord, len(t.execs))
		for id, e := range t.execs {
			r.Execs[id] = e.record()
		}
	}
	return t.service.records.write(&r)
}

// saveAnyway is for what has happened already.
func (t *task) saveAnyway() bool {
	err := t.save()
	if err != nil {
		t.log.Error("record the task", "error", err)
	}
	return err == nil
}

// exitOf is an end as containerd wants it.
func exitOf(e link.Exit) lifecycle.Exit {
	status := uint32(e.Status.ExitStatus())
	if e.Status.Signaled() {
		status = 128 + uint32(e.Status.Signal())
	}
	return lifecycle.Exit{Status: status, At: link.WallTime(e.At)}
}

// flushed calls f when all that a process wrote that has ended is read: now, as a rule. It doesn't wait for that.
func flushed(io *stdio.IO, f func()) {
	if io == nil || io.Flushed() {
		f()
		return
	}
	go func() {
		io.Flush()
		f()
	}()
}

// initEnded is called with the end of init.
func (t *task) initEnded(e link.Exit) {
	flushed(t.init.io, func() { t.endedInit(e) })
}

func (t *task) endedInit(e link.Exit) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.init.busy {
		t.init.held = &e
		return
	}
	t.endInit(e)
}

// endInit has init's end told as the last of all: the other processes end with it, by the kernel's hand in a PID namespace of
// their own, by ours otherwise. t.mu is held.
func (t *task) endInit(e link.Exit) {
	t.pending = &e
	if t.box == nil || t.box.OwnsPIDs() {
		t.settle()
		return
	}
	box := t.box.Copy()
	go func() {
		if err := killError(box.Kill(unix.SIGKILL, true)); err != nil && !isNotFound(err) {
			t.log.Warn("end what init has left", "error", err)
		}
	}()
	t.settle()
}

// settle tells init's end if nothing else runs any more. t.mu is held.
func (t *task) settle() {
	live, ok := t.state.(lifecycle.Live)
	if t.pending == nil || t.active > 0 || !ok {
		return
	}
	e := *t.pending
	t.pending = nil
	if t.oom.end(t.box) {
		t.publishOOM()
	}
	t.init.exit = exitOf(e)
	t.state = live.Exited(t.init.exit)
	t.tellEnd(t.id(), &t.init, e)
}

// tellEnd records and publishes the end of a process, which is in p.exit. t.mu is held.
func (t *task) tellEnd(id string, p *process, e link.Exit) {
	close(p.ended)
	saved := t.saveAnyway()
	t.publishEnd(id, p)
	if p.io != nil {
		p.io.Ended()
	}
	if saved { // otherwise the next worker gets it again
		if err := t.service.link.Ack(e); err != nil {
			t.log.Error("acknowledge an exit", "error", err)
		}
	}
}

// publishEnd tells containerd. Were this process killed before that, the next one would find the end on record, and get it from
// the keeper all the same.
func (t *task) publishEnd(id string, p *process) {
	t.service.events.Publish(&api.TaskExit{
		ContainerID: t.id(), ID: id, Pid: uint32(p.pid), ExitStatus: p.exit.Status, ExitedAt: timestamppb.New(p.exit.At),
	})
}

// release lets an end come that was held back while the process was started. t.mu is held.
func (p *process) release(end func(link.Exit)) {
	p.busy = false
	if e := p.held; e != nil {
		p.held = nil
		end(*e)
	}
}

// wait waits until the end of a process has been told.
func (p *process) wait(ctx context.Context) error {
	select {
	case <-p.ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// hasEnded says whether the end of a process has been told.
func (p *process) hasEnded() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// paused says whether the whole container is.
func (t *task) paused() bool {
	_, paused := t.state.(lifecycle.Paused)
	return paused
}

// stdioOf says whose stdio a process's is.
func (t *task) stdioOf(exec string) stdio.Process {
	return stdio.Process{Namespace: t.service.namespace, ID: t.id(), Key: t.id() + "/" + exec, UID: t.kept.UID, GID: t.kept.GID}
}

// timeoutEnd is how long the end of a killed process may take to be told.
const timeoutEnd = 10 * time.Second
