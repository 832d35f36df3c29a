package control

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"time"

	task "github.com/containerd/containerd/api/runtime/task/v2"
	"google.golang.org/protobuf/proto"

	"github.com/sock-runtime/sock/shim/link"
	"github.com/sock-runtime/sock/shim/rendezvous"
)

// Tasks are what the shim serves.
type Tasks interface {
	// Tasks is how many there are.
	Tasks() int
	// Cleanup removes whatever is left of a task, if anything, and says how it ended.
	Cleanup(ctx context.Context, id, bundle string) (*task.DeleteResponse, error)
}

// Server answers the calls that come to a worker, and ends the shim when nobody needs it any more.
type Server struct {
	link  link.Link
	dir   string
	tasks Tasks
	log   *slog.Logger
	grace time.Duration

	mu       sync.Mutex
	reserved map[string]time.Time // tasks whose start was answered, until when they may come
	timer    *time.Timer
}

// reservation is how long containerd may take from start to its connection: until then the shim doesn't end.
const reservation = time.Minute

// New returns a server for the shim in dir, which ends after it had no task for the time of grace.
func New(l link.Link, dir string, tasks Tasks, log *slog.Logger, grace time.Duration) *Server {
	s := &Server{link: l, dir: dir, tasks: tasks, log: log, grace: grace, reserved: map[string]time.Time{}}
	s.timer = time.AfterFunc(grace, s.idle)
	return s
}

// Serve answers calls until the link ends.
func (s *Server) Serve() {
	in := s.link.Listener(link.Control)
	for {
		c, err := in.Accept()
		if err != nil {
			return
		}
		go s.serve(c)
	}
}

// serve answers the calls of one connection. The connection stays open until the caller closes it: a call may have been
// answered by an earlier worker.
func (s *Server) serve(c net.Conn) {
	defer c.Close()
	for {
		content, err := readFrame(c)
		if err != nil {
			return
		}
		call, ok := rendezvous.DecodeCall(content)
		if !ok {
			s.log.Warn("control: not a call")
			return
		}
		answer, then := s.answer(call)
		frame, ok := rendezvous.EncodeAnswer(answer)
		if !ok {
			frame, _ = rendezvous.EncodeAnswer(Failure(fmt.Errorf("the answer is too long")))
		}
		if _, err := c.Write(frame); err != nil {
			return
		}
		if then != nil {
			then()
		}
	}
}

// answer carries a call out. then, if not nil, is to be done when the answer has been sent.
func (s *Server) answer(call rendezvous.Call) (answer rendezvous.Answer, then func()) {
	defer func() {
		if p := recover(); p != nil {
			s.log.Error("control: panic", "panic", p, "stack", string(debug.Stack()))
			answer, then = Failure(fmt.Errorf("panic: %v", p)), nil
		}
	}()
	command, _ := rendezvous.Parse(call.Args[1:])
	var err error
	switch command.Action {
	case "start":
		answer, err = s.start(call)
	case "delete":
		answer, err = s.delete(call, command)
	case "upgrade":
		executable := call.Args[len(call.Args)-1]
		then = func() {
			if err := s.link.Upgrade(executable); err != nil {
				s.log.Error("control: upgrade", "error", err)
			}
		}
	default:
		err = fmt.Errorf("unknown action %q", command.Action)
	}
	if err != nil {
		return Failure(err), nil
	}
	return answer, then
}

// start says where the task will be served: here, or by the shim of its group.
func (s *Server) start(call rendezvous.Call) (rendezvous.Answer, error) {
	where, err := ParseStart(call)
	if err != nil {
		return rendezvous.Answer{}, err
	}
	if where.Dir != s.dir {
		answer, err := Ask(where.Dir, call)
		if err != nil { // there is none yet
			return rendezvous.Answer{Code: rendezvous.Elsewhere}, nil
		}
		return answer, nil
	}
	s.mu.Lock()
	s.reserved[where.ID] = time.Now().Add(reservation)
	s.mu.Unlock()
	address := rendezvous.Scheme + filepath.Join(s.dir, rendezvous.TaskSocket)
	if err := os.WriteFile(filepath.Join(call.Dir, rendezvous.AddressFile), []byte(address), 0o600); err != nil {
		return rendezvous.Answer{}, fmt.Errorf("start: %w", err)
	}
	if where.Version < sandboxVersion {
		return rendezvous.Answer{Stdout: []byte(address)}, nil // understood by all
	}
	out, err := json.Marshal(map[string]any{"version": sandboxVersion, "address": address, "protocol": "ttrpc"})
	if err != nil {
		return rendezvous.Answer{}, fmt.Errorf("start: %w", err)
	}
	return rendezvous.Answer{Stdout: out}, nil
}

// delete comes after each task, also where the task was removed as it should be.
func (s *Server) delete(call rendezvous.Call, c rendezvous.Command) (rendezvous.Answer, error) {
	bundle := c.Bundle
	if bundle == "" {
		bundle = call.Dir
	}
	response, err := s.tasks.Cleanup(context.Background(), c.ID, bundle)
	if err != nil {
		return rendezvous.Answer{}, fmt.Errorf("delete: %w", err)
	}
	out, err := proto.Marshal(response)
	if err != nil {
		return rendezvous.Answer{}, fmt.Errorf("delete: %w", err)
	}
	s.mu.Lock()
	delete(s.reserved, c.ID)
	s.timer.Reset(s.grace)
	s.mu.Unlock()
	return rendezvous.Answer{Stdout: out}, nil
}

// idle ends the shim, unless there is a task, or one may come. The keeper has the last word: it knows who is connected.
func (s *Server) idle() {
	if s.tasks.Tasks() > 0 {
		return // a delete will come after it
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for id, until := range s.reserved {
		if now.After(until) {
			delete(s.reserved, id)
		}
	}
	if len(s.reserved) == 0 {
		if err := s.link.Quit(); err != nil {
			return
		}
	}
	s.timer.Reset(s.grace)
}
