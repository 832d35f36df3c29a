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
			"State":      Method(s.State),
			"Create":     Method(s.Create),
			"Start":      Method(s.Start),
			"Delete":     Method(s.Delete),
			"Pids":       Method(s.Pids),
			"Pause":      Method(s.Pause),
			"Resume":     Method(s.Resume),
			"Checkpoint": Method(s.Checkpoint),
			"Kill":       Method(s.Kill),
			"Exec":       Method(s.Exec),
			"ResizePty":  Method(s.ResizePty),
			"CloseIO":    Method(s.CloseIO),
			"Update":     Method(s.Update),
			"Wait":       Method(s.Wait),
			"Stats":      Method(s.Stats),
			"Connect":    Method(s.Connect),
			"Shutdown":   Method(s.Shutdown),
		}})
	}
}

// Method adapts a method to ttrpc.
func Method[Request, Response any](do func(context.Context, *Request) (*Response, error)) ttrpc.Method {
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
