package link

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sock-runtime/sock/shim/reap"
)

// local is a Link without a keeper.
type local struct {
	listeners map[Kind]net.Listener
	exits     *queue[Exit]
	out       chan Exit
	done      chan struct{}
	end       func()
	held      map[string]*os.File // what the caller gave

	mu  sync.Mutex
	own map[string]*os.File
}

// Local returns a Link that this process is keeper of itself, for tests: it listens on two sockets, becomes a subreaper and
// reaps all children, also those of os/exec, whose Wait then fails. What is held doesn't outlive the process. inherited is what
// Held returns.
func Local(task, control string, inherited map[string]*os.File) (Link, error) {
	l := &local{
		listeners: map[Kind]net.Listener{},
		exits:     newQueue[Exit](),
		out:       make(chan Exit),
		done:      make(chan struct{}),
		held:      inherited,
		own:       map[string]*os.File{},
	}
	for kind, path := range map[Kind]string{Task: task, Control: control} {
		in, err := net.Listen("unix", path)
		if err != nil {
			return nil, err
		}
		l.listeners[kind] = in
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("become a subreaper: %w", err)
	}
	l.end = sync.OnceFunc(func() {
		for _, in := range l.listeners {
			_ = in.Close()
		}
		close(l.done)
	})
	go l.reap()
	go l.deliver()
	return l, nil
}

func (l *local) reap() {
	for {
		if err := reap.Wait(); err != nil { // no children
			select {
			case <-l.done:
				return
			case <-time.After(childrenInterval):
			}
		}
		for {
			e, ok := reap.Next()
			if !ok {
				break
			}
			l.exits.put(e)
		}
	}
}

// childrenInterval is how often is looked for a first child.
const childrenInterval = 5 * time.Millisecond

func (l *local) deliver() {
	for {
		e, _ := l.exits.get()
		l.out <- e
	}
}

func (l *local) Listener(k Kind) net.Listener { return l.listeners[k] }
func (l *local) Exits() <-chan Exit           { return l.out }
func (l *local) Ack(Exit) error               { return nil }

func (l *local) Hold(name string, fd int) error {
	fd, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("hold %s: %w", name, err)
	}
	_ = l.Drop(name)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.own[name] = os.NewFile(uintptr(fd), name)
	return nil
}

func (l *local) Drop(name string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if f := l.own[name]; f != nil {
		_ = f.Close()
	}
	delete(l.own, name)
	return nil
}

func (l *local) HoldFIFO(name, path string) func() error {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err == nil {
		err = errors.Join(l.Hold(name, fd), unix.Close(fd))
	}
	return func() error { return err }
}

func (l *local) Sync() error               { return nil }
func (l *local) Held() map[string]*os.File { return l.held }
func (l *local) CloneParent() bool         { return false }

func (l *local) Quit() error {
	l.end()
	return nil
}

func (l *local) Upgrade(string) error  { return errors.New("there is no keeper to upgrade") }
func (l *local) Done() <-chan struct{} { return l.done }
