package pod

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	v2 "github.com/containerd/containerd/api/runtime/task/v2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sock-runtime/sock/shim/podconfig"
)

// pod is a sandbox.
type pod struct {
	service *Service
	config  *podconfig.Config

	change sync.Mutex // one start or stop at a time

	mu    sync.Mutex
	kept  record
	held  map[string]*os.File // namespaces, by their names in /proc/PID/ns
	ended chan struct{}       // closed when it is stopped
}

func (s *Service) newPod(r record, config *podconfig.Config) *pod {
	return &pod{service: s, config: config, kept: r, held: map[string]*os.File{}, ended: make(chan struct{})}
}

func (p *pod) dir() string { return p.service.dir.pod(p.kept.ID) }

// holdName is the link's name for a namespace. No task's begins with a comma.
func holdName(id, kind string) string { return holdPrefix + id + "/" + kind }

const holdPrefix = ",pod/"

// recover takes over what an earlier worker left.
func (s *Service) recover() error {
	entries, err := os.ReadDir(string(s.dir))
	if err != nil {
		return err
	}
	held := s.link.Held()
	for _, e := range entries {
		r, err := s.dir.read(e.Name())
		if errors.Is(err, fs.ErrNotExist) { // nobody was told of it
			err = s.dir.remove(e.Name())
		}
		if err == nil && r != nil {
			err = s.takeOver(r, held)
		}
		if err != nil {
			s.log.Error("take a sandbox over", "id", e.Name(), "error", err)
		}
	}
	for name, f := range held {
		if strings.HasPrefix(name, holdPrefix) { // of a start or a stop that was under way
			_ = s.link.Drop(name)
			_ = f.Close()
			delete(held, name)
		}
	}
	return nil
}

func (s *Service) takeOver(r *record, held map[string]*os.File) error {
	config := &podconfig.Config{PID: podconfig.Container, Network: networkOf(r.Network)}
	if r.Config != nil {
		var err error
		if config, err = podconfig.Decode(r.Config); err != nil {
			return err
		}
	}
	p := s.newPod(*r, config)
	s.pods[r.ID] = p
	switch r.State {
	case stopped:
		close(p.ended)
	case ready:
		for _, kind := range r.Held {
			name := holdName(r.ID, kind)
			f := held[name]
			if f == nil {
				return p.end(lostStatus, fmt.Errorf("its %s namespace is lost", kind))
			}
			delete(held, name)
			p.held[kind] = f
		}
	}
	return nil
}

// lostStatus is the exit status of a pod that is not there any more, and nobody knows why.
const lostStatus = 255

func (p *pod) isReady() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.kept.State == ready
}

// pid is what stands for the pod in /proc/PID/ns of its containers' configs: its process or, where it has none, a number that
// is no process's, which Amend knows.
func (p *pod) pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pidLocked()
}

func (p *pod) pidLocked() int {
	if p.kept.Init {
		return p.kept.Pid
	}
	return p.kept.Handle
}

// start makes what the containers will share. Doing again what was done succeeds.
func (p *pod) start(ctx context.Context) (err error) {
	p.change.Lock()
	defer p.change.Unlock()
	switch p.kept.State {
	case ready:
		return nil
	case stopped:
		return status.Errorf(codes.FailedPrecondition, "sandbox %s is stopped: failed precondition", p.kept.ID)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.undo(ctx))
		}
	}()
	if err := p.mountShm(); err != nil {
		return err
	}
	if p.kept.Init {
		err = p.startInit(ctx)
	} else {
		err = p.makeNamespaces()
	}
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.kept
	now.State, now.Held = ready, nil
	for kind := range p.held {
		now.Held = append(now.Held, kind)
	}
	slices.Sort(now.Held)
	if err := p.service.dir.write(&now); err != nil {
		return err
	}
	p.kept = now
	if p.kept.Init {
		go p.watch()
	}
	return nil
}

// hold keeps a namespace, which is the pod's from then on.
func (p *pod) hold(kind string, f *os.File) error {
	if err := p.service.link.Hold(holdName(p.kept.ID, kind), int(f.Fd())); err != nil {
		_ = f.Close()
		return err
	}
	p.mu.Lock()
	old := p.held[kind]
	p.held[kind] = f
	p.mu.Unlock()
	if old != nil {
		_ = old.Close()
	}
	return nil
}

// undo takes back what start has made.
func (p *pod) undo(ctx context.Context) error {
	var err error
	if p.kept.Init {
		_, err = p.service.tasks.Cleanup(ctx, p.kept.ID, p.initBundle())
	}
	// Nobody may find another file under the number of a namespace that was named to it.
	p.service.using.Lock()
	p.mu.Lock()
	for kind, f := range p.held {
		err = errors.Join(err, p.service.link.Drop(holdName(p.kept.ID, kind)), f.Close())
	}
	p.held = map[string]*os.File{}
	p.mu.Unlock()
	p.service.using.Unlock()
	return errors.Join(err, p.unmountShm())
}

// stop ends the pod, and with it all processes in its PID namespace. containerd has ended the containers before.
func (p *pod) stop(ctx context.Context) error {
	p.change.Lock()
	defer p.change.Unlock()
	p.mu.Lock()
	state := p.kept.State
	p.mu.Unlock()
	if state != stopped {
		exit := uint32(0)
		if state == ready && p.kept.Init {
			exit = 128 + 9 // as a pause container's
		}
		if err := p.end(exit, nil); err != nil {
			return err
		}
	}
	return p.undo(ctx)
}

// end records that the pod is stopped, and why if nobody asked for it.
func (p *pod) end(exit uint32, why error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.kept.State == stopped {
		return nil
	}
	if why != nil {
		p.service.log.Warn("a sandbox has ended", "id", p.kept.ID, "error", why)
	}
	now := p.kept
	now.State, now.Exited, now.ExitStatus = stopped, time.Now(), exit
	if err := p.service.dir.write(&now); err != nil {
		return err
	}
	p.kept = now
	close(p.ended)
	return nil
}

// watch waits for the end of the pod's process, without which there is no pod.
func (p *pod) watch() {
	r, err := p.service.tasks.Wait(context.Background(), &v2.WaitRequest{ID: p.kept.ID})
	exit := uint32(lostStatus)
	if err == nil {
		exit = r.ExitStatus
	}
	if err := p.end(exit, errors.New("its process has ended")); err != nil {
		p.service.log.Error("record the end of a sandbox", "id", p.kept.ID, "error", err)
	}
}
