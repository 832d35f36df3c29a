package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	api "github.com/containerd/containerd/api/events"
	task "github.com/containerd/containerd/api/runtime/task/v2"
	service "github.com/containerd/containerd/api/services/ttrpc/events/v1"
	"github.com/containerd/containerd/api/types"
	status "github.com/containerd/containerd/api/types/task"
	"github.com/containerd/ttrpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// nothing is a shim that answers at once and makes no container: what remains is what containerd costs. Like a real one it
// publishes events, on one connection.
type nothing struct {
	task.TTRPCTaskService // what isn't asked here is a panic
	events                chan *types.Envelope

	mu        sync.Mutex
	processes map[string]*nothingProcess
}

// nothingProcess ends when it is started, unless it is to be killed.
type nothingProcess struct {
	state  status.Status
	ended  chan struct{}
	lives  bool
	exited time.Time
}

// nothingEnv names, for the shim's program, the address that `start` is answered with.
const nothingEnv = "SOCK_BENCH_NOTHING"

// serveNothing is the shim's server: at a socket, until it is killed.
func serveNothing(socket, events string) error {
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	s := &nothing{events: make(chan *types.Envelope, 1024), processes: map[string]*nothingProcess{}}
	go s.forward(events)
	server, err := ttrpc.NewServer()
	if err != nil {
		return err
	}
	task.RegisterTTRPCTaskService(server, s)
	return server.Serve(context.Background(), listener)
}

// forward sends the events.
func (s *nothing) forward(address string) {
	var client service.TTRPCEventsService
	for e := range s.events {
		if client == nil {
			conn, err := net.Dial("unix", address)
			if err != nil {
				fmt.Fprintln(os.Stderr, "bench: the shim that does nothing:", err)
				return
			}
			client = service.NewTTRPCEventsClient(ttrpc.NewClient(conn))
		}
		if _, err := client.Forward(context.Background(), &service.ForwardRequest{Envelope: e}); err != nil {
			fmt.Fprintln(os.Stderr, "bench: the shim that does nothing:", err)
			return
		}
	}
}

func (s *nothing) publish(topic string, event proto.Message) {
	data, err := proto.Marshal(event)
	if err != nil {
		return
	}
	s.events <- &types.Envelope{
		Timestamp: timestamppb.Now(), Namespace: namespace, Topic: topic,
		Event: &anypb.Any{TypeUrl: string(event.ProtoReflect().Descriptor().FullName()), Value: data},
	}
}

// pid is that of all its processes: containerd looks at its cgroups.
var pid = uint32(os.Getpid())

func (s *nothing) add(id, exec string, lives bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.processes[id+"/"+exec] = &nothingProcess{state: status.Status_CREATED, ended: make(chan struct{}), lives: lives}
}

func (s *nothing) process(id, exec string) (*nothingProcess, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.processes[id+"/"+exec]; p != nil {
		return p, nil
	}
	return nil, errors.New("not found")
}

func (s *nothing) end(id, exec string, p *nothingProcess) {
	s.mu.Lock()
	p.state, p.exited = status.Status_STOPPED, time.Now()
	close(p.ended)
	s.mu.Unlock()
	ends := id
	if exec != "" {
		ends = exec
	}
	s.publish("/tasks/exit", &api.TaskExit{ContainerID: id, ID: ends, Pid: pid, ExitedAt: timestamppb.New(p.exited)})
}

// Create implements the task API. A container that is to run has "running" in its id.
func (s *nothing) Create(_ context.Context, r *task.CreateTaskRequest) (*task.CreateTaskResponse, error) {
	s.add(r.ID, "", isWaiting(r.ID))
	s.publish("/tasks/create", &api.TaskCreate{ContainerID: r.ID, Bundle: r.Bundle, Rootfs: r.Rootfs, IO: &api.TaskIO{}, Pid: pid})
	return &task.CreateTaskResponse{Pid: pid}, nil
}

// Exec implements the task API.
func (s *nothing) Exec(_ context.Context, r *task.ExecProcessRequest) (*emptypb.Empty, error) {
	s.add(r.ID, r.ExecID, false)
	s.publish("/tasks/exec-added", &api.TaskExecAdded{ContainerID: r.ID, ExecID: r.ExecID})
	return &emptypb.Empty{}, nil
}

// Start implements the task API.
func (s *nothing) Start(_ context.Context, r *task.StartRequest) (*task.StartResponse, error) {
	p, err := s.process(r.ID, r.ExecID)
	if err != nil {
		return nil, err
	}
	if r.ExecID == "" {
		s.publish("/tasks/start", &api.TaskStart{ContainerID: r.ID, Pid: pid})
	} else {
		s.publish("/tasks/exec-started", &api.TaskExecStarted{ContainerID: r.ID, ExecID: r.ExecID, Pid: pid})
	}
	s.mu.Lock()
	p.state = status.Status_RUNNING
	s.mu.Unlock()
	if !p.lives {
		s.end(r.ID, r.ExecID, p)
	}
	return &task.StartResponse{Pid: pid}, nil
}

// Wait implements the task API.
func (s *nothing) Wait(_ context.Context, r *task.WaitRequest) (*task.WaitResponse, error) {
	p, err := s.process(r.ID, r.ExecID)
	if err != nil {
		return nil, err
	}
	<-p.ended
	return &task.WaitResponse{ExitedAt: timestamppb.New(p.exited)}, nil
}

// Kill implements the task API.
func (s *nothing) Kill(_ context.Context, r *task.KillRequest) (*emptypb.Empty, error) {
	p, err := s.process(r.ID, r.ExecID)
	if err == nil {
		s.end(r.ID, r.ExecID, p)
	}
	return &emptypb.Empty{}, err
}

// Delete implements the task API.
func (s *nothing) Delete(_ context.Context, r *task.DeleteRequest) (*task.DeleteResponse, error) {
	p, err := s.process(r.ID, r.ExecID)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	delete(s.processes, r.ID+"/"+r.ExecID)
	s.mu.Unlock()
	if r.ExecID == "" {
		s.publish("/tasks/delete", &api.TaskDelete{ContainerID: r.ID, Pid: pid, ExitedAt: timestamppb.New(p.exited)})
	}
	return &task.DeleteResponse{Pid: pid, ExitedAt: timestamppb.New(p.exited)}, nil
}

// State implements the task API.
func (s *nothing) State(_ context.Context, r *task.StateRequest) (*task.StateResponse, error) {
	p, err := s.process(r.ID, r.ExecID)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return &task.StateResponse{ID: r.ID, ExecID: r.ExecID, Pid: pid, Status: p.state, ExitedAt: timestamppb.New(p.exited)}, nil
}

// Connect implements the task API.
func (s *nothing) Connect(context.Context, *task.ConnectRequest) (*task.ConnectResponse, error) {
	return &task.ConnectResponse{ShimPid: pid, TaskPid: pid}, nil
}

// Shutdown implements the task API.
func (s *nothing) Shutdown(context.Context, *task.ShutdownRequest) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, nil
}
