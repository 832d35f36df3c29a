// Package events publishes what happens to tasks: to containerd, in order, until each event is acknowledged, and across the
// death of this process.
package events

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	api "github.com/containerd/containerd/api/events"
	service "github.com/containerd/containerd/api/services/ttrpc/events/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/ttrpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// Publisher sends events one after the other.
type Publisher struct {
	address   string
	namespace string
	log       *slog.Logger

	mu      sync.Mutex
	journal *journal
	queue   []item
	more    *sync.Cond
	closed  bool
	ended   chan struct{}
}

type item struct {
	envelope  *types.Envelope
	journaled bool
}

const (
	// forwardTimeout is how long containerd may take to acknowledge an event.
	forwardTimeout = 5 * time.Second
	// A containerd that can't be reached is asked again after a while, longer each time.
	firstPause = 10 * time.Millisecond
	lastPause  = 2 * time.Second
)

// New publishes for a namespace to containerd's ttrpc socket at address, beginning with what the journal, a file, still has.
func New(address, namespace, journal string, log *slog.Logger) (*Publisher, error) {
	j, left, err := openJournal(journal)
	if err != nil {
		return nil, err
	}
	p := &Publisher{address: address, namespace: namespace, log: log, journal: j, ended: make(chan struct{})}
	p.more = sync.NewCond(&p.mu)
	for _, record := range left {
		e := &types.Envelope{}
		if err := proto.Unmarshal(record, e); err != nil {
			return nil, fmt.Errorf("read event journal: %w", err)
		}
		p.queue = append(p.queue, item{e, true})
	}
	go p.run()
	return p, nil
}

// topic is where containerd's clients look for an event.
func topic(e proto.Message) string {
	switch e.(type) {
	case *api.TaskCreate:
		return "/tasks/create"
	case *api.TaskStart:
		return "/tasks/start"
	case *api.TaskOOM:
		return "/tasks/oom"
	case *api.TaskExit:
		return "/tasks/exit"
	case *api.TaskDelete:
		return "/tasks/delete"
	case *api.TaskExecAdded:
		return "/tasks/exec-added"
	case *api.TaskExecStarted:
		return "/tasks/exec-started"
	case *api.TaskPaused:
		return "/tasks/paused"
	case *api.TaskResumed:
		return "/tasks/resumed"
	default:
		return "/tasks/unknown"
	}
}

// Publish puts an event in the journal and in the queue, and doesn't wait for containerd. An event that the journal can't
// take, for want of space, is sent all the same.
func (p *Publisher) Publish(event proto.Message) {
	data, err := proto.Marshal(event)
	if err != nil {
		p.log.Error("encode event", "error", err)
		return
	}
	e := &types.Envelope{
		Timestamp: timestamppb.Now(), Namespace: p.namespace, Topic: topic(event),
		// containerd's types have their bare name as URL.
		Event: &anypb.Any{TypeUrl: string(event.ProtoReflect().Descriptor().FullName()), Value: data},
	}
	record, err := proto.Marshal(e)
	if err != nil {
		p.log.Error("encode event", "error", err)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	err = p.journal.add(record)
	if err != nil {
		p.log.Error("keep event", "topic", e.Topic, "error", err)
	}
	p.queue = append(p.queue, item{e, err == nil})
	p.more.Signal()
}

// run sends what is in the queue. The first goes only when containerd has taken it.
func (p *Publisher) run() {
	defer close(p.ended)
	var client *ttrpc.Client
	defer func() {
		if client != nil {
			client.Close()
		}
	}()
	for {
		next, ok := p.first()
		if !ok {
			return
		}
		for pause := firstPause; ; pause = min(2*pause, lastPause) {
			var err error
			if client == nil {
				client, err = p.dial()
			}
			if err == nil {
				err = forward(client, next.envelope)
				if code := status.Code(err); code == codes.InvalidArgument || code == codes.Unimplemented {
					p.log.Error("event refused", "topic", next.envelope.Topic, "error", err) // it would be again
					err = nil
				}
				if err == nil {
					break
				}
				client.Close()
				client = nil
			}
			if pause == firstPause {
				p.log.Warn("publish event, trying again", "topic", next.envelope.Topic, "error", err)
			}
			if !p.sleep(pause) {
				return
			}
		}
		p.sent()
	}
}

// sleep waits, but not when the Publisher is closed.
func (p *Publisher) sleep(d time.Duration) bool {
	time.Sleep(d)
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.closed
}

func (p *Publisher) dial() (*ttrpc.Client, error) {
	conn, err := net.DialTimeout("unix", p.address, forwardTimeout)
	if err != nil {
		return nil, err
	}
	return ttrpc.NewClient(conn), nil
}

func forward(client *ttrpc.Client, e *types.Envelope) error {
	ctx, cancel := context.WithTimeout(context.Background(), forwardTimeout)
	defer cancel()
	_, err := service.NewTTRPCEventsClient(client).Forward(ctx, &service.ForwardRequest{Envelope: e})
	return err
}

// first waits for the first event of the queue and leaves it there.
func (p *Publisher) first() (item, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.queue) == 0 {
		if p.closed {
			return item{}, false
		}
		p.more.Wait()
	}
	return p.queue[0], true
}

// sent takes the first event off.
func (p *Publisher) sent() {
	p.mu.Lock()
	defer p.mu.Unlock()
	first := p.queue[0]
	p.queue[0] = item{}
	if p.queue = p.queue[1:]; len(p.queue) == 0 {
		p.queue = nil
	}
	if first.journaled {
		if err := p.journal.drop(); err != nil {
			p.log.Error("take event off the journal", "error", err)
		}
	}
}

// Close sends what is in the queue, for as long as containerd can be reached, and ends.
func (p *Publisher) Close() {
	p.mu.Lock()
	p.closed = true
	p.more.Signal()
	p.mu.Unlock()
	<-p.ended
	p.journal.file.Close()
}
