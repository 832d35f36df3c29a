// Package task implements containerd's task API, versions 2 and 3, with libsock in this process: no runtime is executed.
//
// One Service serves all tasks of one shim. Whatever it has to know is on disk (see record) or held by the link, so that
// another process can take over at any time: requests that were not answered come again, and doing again what was done
// already succeeds.
package task

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	api "github.com/containerd/containerd/api/events"
	v2 "github.com/containerd/containerd/api/runtime/task/v2"
	runc "github.com/containerd/containerd/api/types/runc/options"
	types "github.com/containerd/containerd/api/types/task"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sock-runtime/sock/shim/events"
	"github.com/sock-runtime/sock/shim/lifecycle"
	"github.com/sock-runtime/sock/shim/link"
	"github.com/sock-runtime/sock/shim/options"
	"github.com/sock-runtime/sock/shim/rendezvous"
	"github.com/sock-runtime/sock/spec/settings"
)

// Config is what a Service needs.
type Config struct {
	Link      link.Link
	Dir       string // the shim's own directory, for what has to survive this process
	Namespace string // containerd's
	Address   string // containerd's ttrpc socket, for events
	Log       *slog.Logger
	Pods      Pods // nil: there are none
}

// Pods know what the containers of a pod have in common, where there is no pause container.
type Pods interface {
	// Amend gives a container what its pod has for it.
	Amend(*specs.Spec) error
	// Using is to be held from before Amend until what it has named isn't needed any more.
	Using() sync.Locker
}

// Service serves the tasks.
type Service struct {
	link      link.Link
	dir       string
	namespace string
	pods      Pods
	log       *slog.Logger
	records   records
	events    *events.Publisher
	exits     *exits
	began     time.Time
	launches  chan struct{} // holds one for each launch under way

	mu       sync.Mutex
	tasks    map[string]*task
	creating map[string]bool
	deleted  map[string]*record  // by earlier workers; their Deletes may come again
	buried   []tombstone         // by this one
	left     map[string]*os.File // what earlier workers had held for processes that they didn't finish to make
}

var _ v2.TTRPCTaskService = (*Service)(nil)

const (
	// maxLaunches bounds how many processes are made at once: each takes some thirty descriptors until it executes.
	maxLaunches = 32
	// replayTime is how long after its start requests may come that an earlier worker has carried out, but not answered.
	replayTime = 10 * time.Second
)

// New takes over the tasks of an earlier worker, if there was one, and serves.
func New(c Config) (*Service, error) {
	s := &Service{
		link: c.Link, dir: c.Dir, namespace: c.Namespace, pods: c.Pods, log: c.Log, records: records(filepath.Join(c.Dir, Records)), exits: newExits(c.Link),
		began: time.Now(), launches: make(chan struct{}, maxLaunches),
		tasks: map[string]*task{}, creating: map[string]bool{}, deleted: map[string]*record{},
	}
	if err := os.MkdirAll(string(s.records), 0o700); err != nil {
		return nil, err
	}
	var err error
	if s.events, err = events.New(c.Address, c.Namespace, filepath.Join(c.Dir, "events"), c.Log); err != nil {
		return nil, err
	}
	if err := s.recover(); err != nil {
		return nil, err
	}
	go s.exits.run()
	go s.bury()
	time.AfterFunc(replayTime, s.dropLeft)
	return s, nil
}

// replaying says whether a request may be one that an earlier worker has carried out.
func (s *Service) replaying() bool { return time.Since(s.began) < replayTime }

func (t *task) replaying() bool { return t.inherited && t.service.replaying() }

// launch waits for its turn to make a process.
func (s *Service) launch(ctx context.Context) (done func(), err error) {
	select {
	case s.launches <- struct{}{}:
		return func() { <-s.launches }, nil
	case <-ctx.Done():
		return nil, coded(ctx.Err(), "wait to launch")
	}
}

// Tasks is how many tasks there are, also those that are being created.
func (s *Service) Tasks() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.tasks) + len(s.creating)
}

func (s *Service) task(id string) (*task, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.tasks[id]; t != nil {
		return t, nil
	}
	return nil, notFound("container not created")
}

// process finds init or, with an id, an exec.
func (s *Service) process(id, execID string) (t *task, p *process, e *exec, err error) {
	if t, err = s.task(id); err != nil {
		return nil, nil, nil, err
	}
	if execID == "" {
		return t, &t.init, nil, nil
	}
	if e, err = t.exec(execID); err != nil {
		return nil, nil, nil, err
	}
	return t, &e.process, e, nil
}

var empty = &emptypb.Empty{}

// Create makes a container whose process waits for Start.
func (s *Service) Create(ctx context.Context, r *v2.CreateTaskRequest) (*v2.CreateTaskResponse, error) {
	if err := CheckID("container", r.ID); err != nil {
		return nil, err
	}
	if r.Checkpoint != "" || r.ParentCheckpoint != "" {
		return nil, unimplemented("restoring a checkpoint")
	}
	host, err := settings.Read()
	if err != nil {
		return nil, precondition("%v", err)
	}
	o, err := options.Decode(r.Options, host)
	if err != nil {
		return nil, invalid("%v", err)
	}
	if info, err := os.Stat(r.Bundle); err != nil || !info.IsDir() || !filepath.IsAbs(r.Bundle) {
		return nil, notFound("bundle %s", r.Bundle)
	}
	if old, err := s.reserve(r); old != nil || err != nil {
		if err != nil {
			return nil, err
		}
		s.publishCreate(r, old) // the earlier worker may not have come to it
		return &v2.CreateTaskResponse{Pid: uint32(old.init.pid)}, nil
	}
	defer s.unreserve(r.ID)
	if err := s.leaveAddress(r.Bundle); err != nil {
		return nil, err
	}
	done, err := s.launch(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	t, err := s.newTask(r, o, host)
	if err != nil {
		logTo(r.Bundle, r.ID).Warn("create", "error", err)
		return nil, coded(err, "")
	}
	s.mu.Lock()
	s.tasks[r.ID] = t
	s.mu.Unlock()
	s.publishCreate(r, t)
	t.watchOOM()
	s.exits.watch(t.init.pid, t.init.start, t.initEnded)
	return &v2.CreateTaskResponse{Pid: uint32(t.init.pid)}, nil
}

func (s *Service) publishCreate(r *v2.CreateTaskRequest, t *task) {
	s.events.Publish(&api.TaskCreate{
		ContainerID: r.ID, Bundle: r.Bundle, Rootfs: r.Rootfs, Checkpoint: r.Checkpoint, Pid: uint32(t.init.pid),
		IO: &api.TaskIO{Stdin: r.Stdin, Stdout: r.Stdout, Stderr: r.Stderr, Terminal: r.Terminal},
	})
}

// leaveAddress writes the shim's address into a bundle, where delete looks for it, if start was not asked to: as for containers
// of a sandbox.
func (s *Service) leaveAddress(bundle string) error {
	f, err := os.OpenFile(filepath.Join(bundle, rendezvous.AddressFile), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err == nil {
		_, err = f.WriteString(rendezvous.Scheme + filepath.Join(s.dir, rendezvous.TaskSocket))
		err = errors.Join(err, f.Close())
	}
	return coded(err, "leave the shim's address")
}

// reserve takes an ID for a new task. It returns the one that an earlier worker made for the same request.
func (s *Service) reserve(r *v2.CreateTaskRequest) (*task, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.tasks[r.ID]; t != nil {
		if t.replaying() && t.bundle() == r.Bundle {
			return t, nil
		}
		return nil, alreadyExists("task %s", r.ID)
	}
	if s.creating[r.ID] {
		return nil, alreadyExists("task %s", r.ID)
	}
	s.creating[r.ID] = true
	delete(s.deleted, r.ID)
	return nil, nil
}

func (s *Service) unreserve(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.creating, id)
}

// Start has a process execute.
func (s *Service) Start(ctx context.Context, r *v2.StartRequest) (*v2.StartResponse, error) {
	t, p, e, err := s.process(r.ID, r.ExecID)
	if err != nil {
		return nil, err
	}
	if e == nil {
		err = t.startInit()
	} else {
		var done func()
		if done, err = s.launch(ctx); err != nil {
			return nil, err
		}
		err = e.run()
		done()
	}
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return &v2.StartResponse{Pid: uint32(p.pid)}, nil
}

// Delete removes a process that has ended; with init goes the container.
func (s *Service) Delete(_ context.Context, r *v2.DeleteRequest) (*v2.DeleteResponse, error) {
	t, _, e, err := s.process(r.ID, r.ExecID)
	if err != nil {
		if response := s.deletedBefore(r); response != nil {
			return response, nil
		}
		return nil, err
	}
	if e != nil {
		pid, exit, err := e.remove()
		if err != nil {
			return nil, err
		}
		return deleteResponse(pid, exit), nil
	}
	exit, err := t.remove()
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	mine := s.tasks[r.ID] == t
	delete(s.tasks, r.ID)
	s.mu.Unlock()
	if !mine {
		return nil, notFound("container not created")
	}
	s.events.Publish(deletedEvent(r.ID, t.init.pid, exit))
	s.bequeath(t)
	return deleteResponse(t.init.pid, exit), nil
}

func deleteResponse(pid int, e lifecycle.Exit) *v2.DeleteResponse {
	return &v2.DeleteResponse{Pid: uint32(pid), ExitStatus: e.Status, ExitedAt: timestamppb.New(e.At)}
}

// Exec notes a process that Start will start in the container.
func (s *Service) Exec(_ context.Context, r *v2.ExecProcessRequest) (*emptypb.Empty, error) {
	t, err := s.task(r.ID)
	if err != nil {
		return nil, err
	}
	if err := CheckID("exec", r.ExecID); err != nil {
		return nil, err
	}
	if err := t.addExec(r); err != nil {
		return nil, err
	}
	return empty, nil
}

// ResizePty gives a process's terminal another size.
func (s *Service) ResizePty(_ context.Context, r *v2.ResizePtyRequest) (*emptypb.Empty, error) {
	t, p, _, err := s.process(r.ID, r.ExecID)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	io, ended := p.io, p.hasEnded()
	t.mu.Unlock()
	if ended {
		return nil, precondition("cannot resize a stopped container")
	}
	if io == nil {
		return empty, nil // not started yet: whoever asks will ask again
	}
	if err := io.Resize(uint16(r.Width), uint16(r.Height)); err != nil {
		return nil, coded(err, "resize")
	}
	return empty, nil
}

// State says what a process is doing.
func (s *Service) State(_ context.Context, r *v2.StateRequest) (*v2.StateResponse, error) {
	t, p, e, err := s.process(r.ID, r.ExecID)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	response := &v2.StateResponse{
		ID: t.id(), ExecID: r.ExecID, Bundle: t.bundle(), Pid: uint32(p.pid), Status: t.state.Status(),
		Stdin: p.paths.Stdin, Stdout: p.paths.Stdout, Stderr: p.paths.Stderr, Terminal: p.paths.Terminal,
	}
	if e != nil {
		response.ID = e.id
		if !t.paused() {
			response.Status = e.state.Status()
		}
	}
	if p.hasEnded() {
		response.ExitStatus, response.ExitedAt = p.exit.Status, timestamppb.New(p.exit.At)
	}
	return response, nil
}

// Pause freezes a container.
func (s *Service) Pause(_ context.Context, r *v2.PauseRequest) (*emptypb.Empty, error) {
	return s.on(r.ID, (*task).pause)
}

// Resume thaws a container.
func (s *Service) Resume(_ context.Context, r *v2.ResumeRequest) (*emptypb.Empty, error) {
	return s.on(r.ID, (*task).resume)
}

func (s *Service) on(id string, do func(*task) error) (*emptypb.Empty, error) {
	t, err := s.task(id)
	if err != nil {
		return nil, err
	}
	if err := do(t); err != nil {
		return nil, err
	}
	return empty, nil
}

// Kill sends a signal to a process, or to all of a container.
func (s *Service) Kill(_ context.Context, r *v2.KillRequest) (*emptypb.Empty, error) {
	t, _, e, err := s.process(r.ID, r.ExecID)
	if err != nil {
		return nil, err
	}
	if e != nil {
		err = e.kill(r.Signal)
	} else {
		err = t.killInit(r.Signal, r.All)
	}
	if err != nil {
		return nil, err
	}
	return empty, nil
}

// Pids lists a container's processes and says which are execs. Of a task without processes, which has ended, it names init: a
// containerd that starts takes one with none for what a crash has left of a create, and removes it, exit status and all.
func (s *Service) Pids(_ context.Context, r *v2.PidsRequest) (*v2.PidsResponse, error) {
	t, err := s.task(r.ID)
	if err != nil {
		return nil, err
	}
	box, err := t.container()
	if err != nil {
		return nil, coded(err, "")
	}
	pids, err := box.Pids()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, coded(err, "list processes")
	}
	t.mu.Lock()
	if len(pids) == 0 {
		pids = []int{t.init.pid}
	}
	execs := map[int]string{}
	for id, e := range t.execs {
		if _, ok := e.state.(lifecycle.Active); ok {
			execs[e.pid] = id
		}
	}
	t.mu.Unlock()
	response := &v2.PidsResponse{}
	for _, pid := range pids {
		info := &types.ProcessInfo{Pid: uint32(pid)}
		if id, ok := execs[pid]; ok {
			if info.Info, err = Pack(&runc.ProcessDetails{ExecID: id}); err != nil {
				return nil, err
			}
		}
		response.Processes = append(response.Processes, info)
	}
	return response, nil
}

// Pack makes an Any as containerd does: the type's bare name is its URL.
func Pack(m proto.Message) (*anypb.Any, error) {
	data, err := proto.Marshal(m)
	return &anypb.Any{TypeUrl: string(m.ProtoReflect().Descriptor().FullName()), Value: data}, err
}

// CloseIO ends a process's standard input.
func (s *Service) CloseIO(_ context.Context, r *v2.CloseIORequest) (*emptypb.Empty, error) {
	t, p, _, err := s.process(r.ID, r.ExecID)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	io := p.io
	t.mu.Unlock()
	if io != nil && r.Stdin {
		if err := io.CloseStdin(); err != nil {
			return nil, coded(err, "close stdin")
		}
	}
	return empty, nil
}

// Checkpoint is not supported.
func (s *Service) Checkpoint(_ context.Context, r *v2.CheckpointTaskRequest) (*emptypb.Empty, error) {
	if _, err := s.task(r.ID); err != nil {
		return nil, err
	}
	return nil, unimplemented("checkpoint")
}

// Update changes a container's limits.
func (s *Service) Update(_ context.Context, r *v2.UpdateTaskRequest) (*emptypb.Empty, error) {
	t, err := s.task(r.ID)
	if err != nil {
		return nil, err
	}
	resources := &specs.LinuxResources{}
	if err := json.Unmarshal(r.Resources.GetValue(), resources); err != nil {
		return nil, invalid("decode resources: %v", err)
	}
	t.mu.Lock()
	_, live := t.state.(lifecycle.Live)
	t.mu.Unlock()
	if !live {
		return nil, precondition("cannot update a stopped container")
	}
	box, err := t.container()
	if err == nil {
		err = box.Update(resources)
	}
	if err != nil {
		return nil, coded(err, "OCI runtime update failed")
	}
	return empty, nil
}

// Wait returns when a process has ended.
func (s *Service) Wait(ctx context.Context, r *v2.WaitRequest) (*v2.WaitResponse, error) {
	t, p, _, err := s.process(r.ID, r.ExecID)
	if err != nil {
		return nil, err
	}
	if err := p.wait(ctx); err != nil {
		return nil, coded(err, "")
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return &v2.WaitResponse{ExitStatus: p.exit.Status, ExitedAt: timestamppb.New(p.exit.At)}, nil
}

// Stats reads a container's use of resources.
func (s *Service) Stats(_ context.Context, r *v2.StatsRequest) (*v2.StatsResponse, error) {
	t, err := s.task(r.ID)
	if err != nil {
		return nil, err
	}
	box, err := t.container()
	if err != nil {
		return nil, coded(err, "")
	}
	metrics, err := Metrics(box)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, notFound("cgroup does not exist")
	}
	if err != nil {
		return nil, coded(err, "")
	}
	any, err := Pack(metrics)
	if err != nil {
		return nil, coded(err, "")
	}
	return &v2.StatsResponse{Stats: any}, nil
}

// Connect says which processes these are. It never fails: containerd would take the shim for dead.
func (s *Service) Connect(_ context.Context, r *v2.ConnectRequest) (*v2.ConnectResponse, error) {
	response := &v2.ConnectResponse{ShimPid: uint32(os.Getpid()), Version: "v2"}
	if s.link.CloneParent() {
		response.ShimPid = uint32(os.Getppid()) // the keeper lives as long as the shim
	}
	if t, err := s.task(r.ID); err == nil {
		response.TaskPid = uint32(t.init.pid)
	}
	return response, nil
}

// Shutdown comes after each task; other tasks live on. Whoever runs the Service ends it when nothing is left, see Tasks.
func (s *Service) Shutdown(context.Context, *v2.ShutdownRequest) (*emptypb.Empty, error) {
	return empty, nil
}
