package task

import (
	"context"

	"github.com/containerd/ttrpc"
)

// Register has the server serve both versions of the API. Version 3 differs in the service's name alone: its messages have the
// same fields, and its Go types would bring gRPC along, twice the memory of the whole worker.
func (s *Service) Register(server *ttrpc.Server) {
	for _, name := range []string{"containerd.task.v2.Task", "containerd.task.v3.Task"} {
		server.RegisterService(name, &ttrpc.ServiceDesc{Methods: map[string]ttrpc.Method{
			"State":      method(s.State),
			"Create":     method(s.Create),
			"Start":      method(s.Start),
			"Delete":     method(s.Delete),
			"Pids":       method(s.Pids),
			"Pause":      method(s.Pause),
			"Resume":     method(s.Resume),
			"Checkpoint": method(s.Checkpoint),
			"Kill":       method(s.Kill),
			"Exec":       method(s.Exec),
			"ResizePty":  method(s.ResizePty),
			"CloseIO":    method(s.CloseIO),
			"Update":     method(s.Update),
			"Wait":       method(s.Wait),
			"Stats":      method(s.Stats),
			"Connect":    method(s.Connect),
			"Shutdown":   method(s.Shutdown),
		}})
	}
}

// method adapts a method to ttrpc.
func method[Request, Response any](do func(context.Context, *Request) (*Response, error)) ttrpc.Method {
	return func(ctx context.Context, unmarshal func(any) error) (any, error) {
		r := new(Request)
		if err := unmarshal(r); err != nil {
			return nil, err
		}
		response, err := do(ctx, r)
		if err != nil {
			return nil, err // a typed nil would be a response
		}
		return response, nil
	}
}
