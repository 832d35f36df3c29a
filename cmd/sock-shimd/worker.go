package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"time"

	v2 "github.com/containerd/containerd/api/runtime/task/v2"
	"github.com/containerd/ttrpc"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sock-runtime/sock/shim/control"
	"github.com/sock-runtime/sock/shim/link"
	"github.com/sock-runtime/sock/shim/pod"
	"github.com/sock-runtime/sock/shim/task"
)

// graces are how long a shim without tasks lives on: one that serves a namespace saves the next container the start of a shim.
const (
	namespaceGrace = 30 * time.Second
	groupGrace     = time.Second
)

// workerGC has the heap grow to 8 MiB before the collector runs: at Go's 4 MiB, or below, a third of all CPU time is its. The heap
// isn't copied at a clone.
const workerGC = 200

// runWorker is the worker: its arguments are those of control.Shim. It has the link to the keeper at descriptor 3, and ends
// with it.
func runWorker(args []string) error {
	debug.SetGCPercent(workerGC)
	shim, _, err := control.ParseShim(args)
	if err != nil {
		return fmt.Errorf("worker: %w", err)
	}
	// The keeper's is for what is in the shim's directory. Cgroups are for everybody to look into: a user namespace's root has to
	// come through those above its own.
	unix.Umask(0o022)
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	if err := control.SetOOMScore(shim.OOMScore); err != nil && !errors.Is(err, os.ErrPermission) {
		return fmt.Errorf("worker: %w", err)
	}
	l, err := link.Dial(3)
	if err != nil {
		return fmt.Errorf("worker: %w", err)
	}
	pods, err := pod.New(l, shim.Dir, log)
	if err != nil {
		return fmt.Errorf("worker: %w", err)
	}
	service, err := task.New(task.Config{Link: l, Dir: shim.Dir, Namespace: shim.Namespace, Address: shim.Events, Log: log, Pods: pods})
	if err != nil {
		return fmt.Errorf("worker: %w", err)
	}
	pods.Serve(service)
	server, err := ttrpc.NewServer(ttrpc.WithUnaryServerInterceptor(survive(log)))
	if err != nil {
		return fmt.Errorf("worker: %w", err)
	}
	service.Register(server)
	pods.Register(server)
	grace := namespaceGrace
	if shim.Grouped {
		grace = groupGrace
	}
	go control.New(l, shim.Dir, all{service, pods}, log, grace).Serve()
	go func() {
		if err := server.Serve(context.Background(), l.Listener(link.Task)); err != nil {
			log.Error("serve the tasks", "error", err)
		}
	}()
	<-l.Done()
	os.Exit(0) // connections are the keeper's, not to be closed in an orderly manner
	return nil
}

// all is what the shim serves.
type all struct {
	*task.Service
	pods *pod.Service
}

// Tasks counts pods as well.
func (a all) Tasks() int { return a.Service.Tasks() + a.pods.Pods() }

// Cleanup is for a task or a pod; a pod's process is a task of the same id.
func (a all) Cleanup(ctx context.Context, id, bundle string) (*v2.DeleteResponse, error) {
	if err := a.pods.Cleanup(ctx, id); err != nil {
		return nil, err
	}
	return a.Service.Cleanup(ctx, id, bundle)
}

// survive has a panic fail one request: another worker would get the same one, and end of it, too.
func survive(log *slog.Logger) ttrpc.UnaryServerInterceptor {
	return func(ctx context.Context, u ttrpc.Unmarshaler, i *ttrpc.UnaryServerInfo, m ttrpc.Method) (response any, err error) {
		defer func() {
			if p := recover(); p != nil {
				log.Error("panic", "method", i.FullMethod, "panic", p, "stack", string(debug.Stack()))
				response, err = nil, status.Errorf(codes.Internal, "%s: panic: %v", i.FullMethod, p)
			}
		}()
		return m(ctx, u)
	}
}
