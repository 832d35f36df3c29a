// Package pod implements containerd's sandbox service: pods of the CRI without a pause container. containerd makes a pod's
// network namespace; the others that its containers share are made here and held, as descriptors, by the link, so that they
// outlive this process. There is no process for a pod, unless its containers share process numbers or have a user namespace:
// then there is one that does nothing, package pause, run like any other container.
package pod

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	v2 "github.com/containerd/containerd/api/runtime/task/v2"
	"github.com/containerd/ttrpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sock-runtime/sock/libsock/cgroup"
	"github.com/sock-runtime/sock/shim/link"
	"github.com/sock-runtime/sock/shim/podconfig"
	"github.com/sock-runtime/sock/shim/task"
)

//go:generate protoc -I ../.. --go_out=../.. --go_opt=paths=source_relative shim/pod/sandbox.proto

// Tasks run the process of a pod that needs one.
type Tasks interface {
	Create(context.Context, *v2.CreateTaskRequest) (*v2.CreateTaskResponse, error)
	Start(context.Context, *v2.StartRequest) (*v2.StartResponse, error)
	Wait(context.Context, *v2.WaitRequest) (*v2.WaitResponse, error)
	Cleanup(ctx context.Context, id, bundle string) (*v2.DeleteResponse, error)
}

// Service serves the pods of one shim.
type Service struct {
	link  link.Link
	dir   directory
	log   *slog.Logger
	tasks Tasks

	// using is held by whoever uses what Amend has named, and against those by whoever closes it.
	using sync.RWMutex

	mu   sync.Mutex
	pods map[string]*pod
}

// New takes over the pods of an earlier worker. dir is the shim's own directory. What the link held for them is theirs from
// then on, so this comes before others look for what is theirs. Serve has to follow.
func New(l link.Link, dir string, log *slog.Logger) (*Service, error) {
	s := &Service{link: l, dir: directory(filepath.Join(dir, Records)), log: log, pods: map[string]*pod{}}
	if err := os.MkdirAll(string(s.dir), 0o700); err != nil {
		return nil, err
	}
	return s, s.recover()
}

// Serve says who runs processes.
func (s *Service) Serve(tasks Tasks) {
	s.tasks = tasks
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.pods {
		if p.isReady() && p.kept.Init {
			go p.watch()
		}
	}
}

// Register has the server serve the API.
func (s *Service) Register(server *ttrpc.Server) {
	server.RegisterService("containerd.runtime.sandbox.v1.Sandbox", &ttrpc.ServiceDesc{Methods: map[string]ttrpc.Method{
		"CreateSandbox":   task.Method(s.create),
		"StartSandbox":    task.Method(s.start),
		"Platform":        task.Method(s.platform),
		"StopSandbox":     task.Method(s.stop),
		"WaitSandbox":     task.Method(s.wait),
		"SandboxStatus":   task.Method(s.status),
		"PingSandbox":     task.Method(s.ping),
		"ShutdownSandbox": task.Method(s.shutdown),
		"SandboxMetrics":  task.Method(s.metrics),
		"UpdateSandbox":   task.Method(s.ping), // containers' limits are updated by themselves, those of the pod's cgroup by the kubelet
	}})
}

// Pods is how many there are.
func (s *Service) Pods() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.pods)
}

// Cleanup removes whatever is left of a pod when containerd has lost it.
func (s *Service) Cleanup(ctx context.Context, id string) error {
	_, err := s.shutdown(ctx, &SandboxRequest{SandboxId: id})
	return err
}

var empty = &emptypb.Empty{}

func notFound(id string) error {
	return status.Errorf(codes.NotFound, "sandbox %s: not found", id)
}

// coded is for errors without a code of their own.
func coded(err error, does string) error {
	var has interface{ GRPCStatus() *status.Status }
	if err == nil || errors.As(err, &has) {
		return err
	}
	return status.Errorf(codes.Unknown, "%s: %v", does, err)
}

func (s *Service) pod(id string) (*pod, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.pods[id]; p != nil {
		return p, nil
	}
	return nil, notFound(id)
}

// configOf decodes what CRI sends along. Without it a pod has namespaces of its own but for processes, and a network if it is
// given one.
func configOf(r *CreateSandboxRequest) (*podconfig.Config, []byte, error) {
	given := r.Options
	if given.GetTypeUrl() == "" {
		return &podconfig.Config{PID: podconfig.Container, Network: networkOf(r.NetnsPath)}, nil, nil
	}
	const kind = "runtime.v1.PodSandboxConfig"
	if url := given.TypeUrl; url != kind && !strings.HasSuffix(url, "/"+kind) {
		return nil, nil, fmt.Errorf("options of type %q, not %s", url, kind)
	}
	config, err := podconfig.Decode(given.Value)
	if err == nil && config.Network != podconfig.Node && r.NetnsPath == "" {
		err = errors.New("no network namespace was given")
	}
	return config, given.Value, err
}

func networkOf(path string) podconfig.Mode {
	if path == "" {
		return podconfig.Node
	}
	return podconfig.Pod
}

func (s *Service) create(_ context.Context, r *CreateSandboxRequest) (*emptypb.Empty, error) {
	if err := task.CheckID("sandbox", r.SandboxId); err != nil {
		return nil, err
	}
	config, raw, err := configOf(r)
	if err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "create sandbox: %v", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.pods[r.SandboxId]; p != nil {
		if p.kept.Bundle == r.BundlePath && p.kept.State == created { // the answer didn't come through
			return empty, nil
		}
		return nil, status.Errorf(codes.AlreadyExists, "sandbox %s: already exists", r.SandboxId)
	}
	p := s.newPod(record{
		ID: r.SandboxId, Bundle: r.BundlePath, Network: r.NetnsPath, Config: raw, Handle: s.freeHandle(), Created: time.Now(), State: created,
		Init: config.PID == podconfig.Pod || config.Users != nil,
	}, config)
	if err := p.make(); err != nil {
		return nil, coded(errors.Join(err, s.dir.remove(p.kept.ID)), "create sandbox")
	}
	s.pods[r.SandboxId] = p
	return empty, nil
}

// firstHandle is the first number that is no pid: PID_MAX_LIMIT of 64-bit kernels, proc_sys_kernel(5).
const firstHandle = 1 << 22

// freeHandle is a number for a pod by which its containers find it. s.mu is held.
func (s *Service) freeHandle() int {
	handle := firstHandle + 1
	for _, p := range s.pods {
		handle = max(handle, p.kept.Handle+1)
	}
	return handle
}

func (s *Service) start(ctx context.Context, r *SandboxRequest) (*StartSandboxResponse, error) {
	p, err := s.pod(r.SandboxId)
	if err != nil {
		return nil, err
	}
	if err := p.start(ctx); err != nil {
		return nil, coded(err, "start sandbox")
	}
	return &StartSandboxResponse{Pid: uint32(p.pid()), CreatedAt: timestamppb.New(p.kept.Created)}, nil
}

func (s *Service) platform(_ context.Context, r *SandboxRequest) (*PlatformResponse, error) {
	if _, err := s.pod(r.SandboxId); err != nil {
		return nil, err
	}
	p := &Platform{Os: runtime.GOOS, Architecture: runtime.GOARCH}
	if p.Architecture == "arm64" {
		p.Variant = "v8"
	}
	return &PlatformResponse{Platform: p}, nil
}

func (s *Service) stop(ctx context.Context, r *SandboxRequest) (*emptypb.Empty, error) {
	p, err := s.pod(r.SandboxId)
	if err != nil {
		return nil, err
	}
	return empty, coded(p.stop(ctx), "stop sandbox")
}

func (s *Service) wait(ctx context.Context, r *SandboxRequest) (*WaitSandboxResponse, error) {
	p, err := s.pod(r.SandboxId)
	if err != nil {
		return nil, err
	}
	select {
	case <-p.ended:
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return &WaitSandboxResponse{ExitStatus: p.kept.ExitStatus, ExitedAt: timestamppb.New(p.kept.Exited)}, nil
}

func (s *Service) status(_ context.Context, r *StatusRequest) (*StatusResponse, error) {
	p, err := s.pod(r.SandboxId)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	response := &StatusResponse{SandboxId: p.kept.ID, State: "SANDBOX_NOTREADY", CreatedAt: timestamppb.New(p.kept.Created)}
	switch p.kept.State {
	case ready:
		response.State, response.Pid = "SANDBOX_READY", uint32(p.pidLocked())
	case stopped:
		response.ExitedAt = timestamppb.New(p.kept.Exited)
	}
	if r.Verbose {
		if response.Info, err = p.info(); err != nil {
			return nil, coded(err, "sandbox status")
		}
	}
	return response, nil
}

// info is what `crictl inspectp` shows: the pid, and where the pod's namespaces can be entered, nsenter(1).
func (p *pod) info() (map[string]string, error) {
	paths := map[string]string{}
	for kind, f := range p.held {
		paths[kind] = fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), f.Fd())
	}
	if p.config.Network != podconfig.Node {
		paths["net"] = p.kept.Network
	}
	info := map[string]string{}
	for name, value := range map[string]any{"info": map[string]any{"pid": p.pidLocked()}, "namespaces": paths} {
		text, err := json.Marshal(value)
		if err != nil {
			return nil, err
		}
		info[name] = string(text)
	}
	return info, nil
}

// ping says that the pod is there.
func (s *Service) ping(_ context.Context, r *SandboxRequest) (*emptypb.Empty, error) {
	if _, err := s.pod(r.SandboxId); err != nil {
		return nil, err
	}
	return empty, nil
}

// shutdown removes the pod, if it is there: the request may come again. The shim itself lives on for others.
func (s *Service) shutdown(ctx context.Context, r *SandboxRequest) (*emptypb.Empty, error) {
	p, err := s.pod(r.SandboxId)
	if err != nil {
		return empty, nil
	}
	if err := p.stop(ctx); err != nil {
		return nil, coded(err, "shut sandbox down")
	}
	if err := s.dir.remove(p.kept.ID); err != nil {
		return nil, coded(err, "shut sandbox down")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.pods, p.kept.ID)
	return empty, nil
}

// metrics are those of the cgroup that all of the pod is in.
func (s *Service) metrics(_ context.Context, r *SandboxRequest) (*MetricsResponse, error) {
	p, err := s.pod(r.SandboxId)
	if err != nil {
		return nil, err
	}
	if p.config.CgroupParent == "" {
		return nil, status.Errorf(codes.FailedPrecondition, "sandbox %s has no cgroup", r.SandboxId)
	}
	group, err := cgroup.New(cgroup.Config{Path: filepath.Join("/", p.config.CgroupParent), ID: r.SandboxId})
	if err != nil {
		return nil, coded(err, "sandbox metrics")
	}
	metrics, err := task.Metrics(group)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, status.Errorf(codes.NotFound, "cgroup %s: not found", p.config.CgroupParent)
	}
	if err != nil {
		return nil, coded(err, "sandbox metrics")
	}
	var data *anypb.Any
	if data, err = task.Pack(metrics); err != nil {
		return nil, coded(err, "sandbox metrics")
	}
	return &MetricsResponse{Metrics: &Metric{Timestamp: timestamppb.Now(), Id: r.SandboxId, Data: data}}, nil
}
