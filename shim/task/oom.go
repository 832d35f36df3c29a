package task

import (
	"context"

	api "github.com/containerd/containerd/api/events"

	"github.com/sock-runtime/sock/libsock"
)

// oomWatch tells when the kernel kills processes of a container for want of memory.
type oomWatch struct {
	cancel context.CancelFunc
	told   int
	early  int // while init was being started: its start is told first
	over   bool
}

// watchOOM publishes an event each time. Without a memory controller there is nothing to watch.
func (t *task) watchOOM() {
	ctx, cancel := context.WithCancel(context.Background())
	killed, err := t.box.Copy().NotifyOOM(ctx)
	if err != nil {
		cancel()
		t.log.Warn("watch for lack of memory", "error", err)
		return
	}
	t.mu.Lock()
	t.oom.cancel = cancel
	over := t.oom.over
	t.mu.Unlock()
	if over {
		cancel()
	}
	go func() {
		defer cancel()
		for range killed {
			t.mu.Lock()
			switch {
			case t.oom.over:
			case t.init.busy:
				t.oom.early++
			default:
				t.tellOOM()
			}
			t.mu.Unlock()
		}
	}()
}

// tellOOM tells of a kill, and tellEarlyOOM of those that waited for init's start to be told. The task's mutex is held.
func (t *task) tellOOM() {
	t.oom.told++
	t.publishOOM()
}

func (t *task) tellEarlyOOM() {
	for ; t.oom.early > 0; t.oom.early-- {
		t.tellOOM()
	}
}

func (t *task) publishOOM() { t.service.events.Publish(&api.TaskOOM{ContainerID: t.id()}) }

// end ends the watch before init's end is told, and says whether there was a kill that has not been: clients want to know
// it before the end that it caused. The task's mutex is held.
func (o *oomWatch) end(box *libsock.Container) bool {
	o.over = true
	if o.cancel != nil {
		o.cancel()
	}
	if box == nil || o.told > 0 {
		return false
	}
	kills, err := box.Copy().OOMKills()
	return err == nil && kills > 0
}
