package link

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/sock-runtime/sock/shim/wire"
)

// keeperLink is a Link to a keeper.
type keeperLink struct {
	socket *os.File // non-blocking: reads wait in Go's poller
	raw    rawConn

	write sync.Mutex // one message at a time

	listeners map[Kind]*listener
	exits     *queue[Exit]
	out       chan Exit
	held      map[string]*os.File
	done      chan struct{}

	mu       sync.Mutex
	conns    map[uint64]*conn
	syncs    map[uint64]chan<- unix.Errno
	lastSync uint64
}

// rawConn is syscall.RawConn.
type rawConn interface {
	Read(func(fd uintptr) (done bool)) error
	Write(func(fd uintptr) (done bool)) error
}

// Dial takes the descriptor of the socket that the keeper started this worker with, which it owns from then on. It returns
// when all that earlier workers had held is there.
func Dial(fd int) (Link, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, fmt.Errorf("link to the keeper: %w", err)
	}
	unix.CloseOnExec(fd)
	socket := os.NewFile(uintptr(fd), "keeper")
	raw, err := socket.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("link to the keeper: %w", err)
	}
	l := &keeperLink{
		socket: socket, raw: raw,
		listeners: map[Kind]*listener{Task: newListener("task"), Control: newListener("control")},
		exits:     newQueue[Exit](),
		out:       make(chan Exit),
		held:      map[string]*os.File{},
		done:      make(chan struct{}),
		conns:     map[uint64]*conn{},
		syncs:     map[uint64]chan<- unix.Errno{},
	}
	ready := make(chan error, 1)
	go l.read(ready)
	if err := <-ready; err != nil {
		return nil, fmt.Errorf("link to the keeper: %w", err)
	}
	go l.deliver()
	return l, nil
}

// read takes the keeper's messages until its end.
func (l *keeperLink) read(ready chan<- error) {
	defer close(l.done)
	defer l.socket.Close()
	var d wire.Decoder
	defer d.Close()
	buf := make([]byte, 64<<10)
	for {
		n, fds, err := l.receive(buf)
		if err == nil && n == 0 {
			err = io.EOF
		}
		if err == nil {
			d.Feed(buf[:n], fds)
			err = l.handleAll(&d, ready)
		}
		if err != nil {
			select {
			case ready <- err:
			default:
			}
			l.end()
			return
		}
	}
}

func (l *keeperLink) receive(buf []byte) (n int, fds []int, err error) {
	waited := l.raw.Read(func(fd uintptr) bool {
		n, fds, err = wire.Receive(int(fd), buf)
		return err != unix.EAGAIN
	})
	if waited != nil {
		err = waited
	}
	return n, fds, err
}

func (l *keeperLink) handleAll(d *wire.Decoder, ready chan<- error) error {
	for {
		m, ok, err := d.Next()
		if err != nil || !ok {
			return err
		}
		if m.Kind == wire.Ready {
			ready <- nil
		} else if err := l.handle(m); err != nil {
			return err
		}
	}
}

func (l *keeperLink) handle(m wire.Message) error {
	switch m.Kind {
	case wire.Held:
		l.held[string(m.Payload)] = os.NewFile(uintptr(m.FD), string(m.Payload))
	case wire.Exited:
		e, err := wire.DecodeExit(m.Payload)
		if err != nil {
			return err
		}
		l.exits.put(e)
	case wire.Open:
		if len(m.Payload) != 1 || l.listeners[Kind(m.Payload[0])] == nil {
			return fmt.Errorf("connection of an unknown listener %v", m.Payload)
		}
		in := l.listeners[Kind(m.Payload[0])]
		c := &conn{link: l, id: m.Conn, addr: in.Addr(), in: newQueue[[]byte]()}
		l.mu.Lock()
		l.conns[m.Conn] = c
		l.mu.Unlock()
		in.queue.put(c)
	case wire.Frame:
		if c := l.conn(m.Conn); c != nil {
			c.in.put(append([]byte(nil), m.Payload...))
		}
	case wire.Close:
		if c := l.forget(m.Conn); c != nil {
			c.in.close()
		}
	case wire.Sync:
		errno, err := strconv.Atoi(string(append([]byte{'0'}, m.Payload...)))
		if err != nil {
			return err
		}
		l.mu.Lock()
		if done := l.syncs[m.Conn]; done != nil {
			done <- unix.Errno(errno) // has room
			delete(l.syncs, m.Conn)
		}
		l.mu.Unlock()
	default:
		return fmt.Errorf("message of kind %d from the keeper", m.Kind)
	}
	return nil
}

func (l *keeperLink) conn(id uint64) *conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.conns[id]
}

// forget takes a connection off the list; it returns nil if it wasn't there.
func (l *keeperLink) forget(id uint64) *conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.conns[id]
	delete(l.conns, id)
	return c
}

// end lets everyone who waits know that nothing will come any more.
func (l *keeperLink) end() {
	for _, in := range l.listeners {
		in.queue.close()
	}
	l.exits.close()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.conns {
		c.in.close()
	}
}

// deliver hands exits on; the reader must not wait for whoever takes them.
func (l *keeperLink) deliver() {
	defer close(l.out)
	for {
		e, ok := l.exits.get()
		if !ok {
			return
		}
		select {
		case l.out <- e:
		case <-l.done:
			return
		}
	}
}

// send writes one message. When it returns nil, the message is in the socket, where this process's end doesn't harm it.
func (l *keeperLink) send(m wire.Message) error {
	b := wire.Append(make([]byte, 0, wire.HeaderSize+len(m.Payload)), m)
	l.write.Lock()
	defer l.write.Unlock()
	var err error
	waited := l.raw.Write(func(socket uintptr) bool {
		for len(b) > 0 {
			var n int
			if n, err = wire.Send(int(socket), b, m.FD); err != nil {
				return err != unix.EAGAIN
			}
			b, m.FD = b[n:], -1
		}
		return true
	})
	if waited != nil {
		err = waited
	}
	if err != nil {
		return fmt.Errorf("link to the keeper: %w", err)
	}
	return nil
}

func (l *keeperLink) Listener(k Kind) net.Listener { return l.listeners[k] }

func (l *keeperLink) Exits() <-chan Exit { return l.out }

func (l *keeperLink) Ack(e Exit) error {
	return l.send(wire.Message{Kind: wire.Ack, Payload: wire.AppendExit(nil, e), FD: -1})
}

func (l *keeperLink) Hold(name string, fd int) error {
	return l.send(wire.Message{Kind: wire.Hold, Payload: []byte(name), FD: fd})
}

func (l *keeperLink) Drop(name string) error {
	return l.send(wire.Message{Kind: wire.Drop, Payload: []byte(name), FD: -1})
}

func (l *keeperLink) Sync() error { return l.ask(wire.Message{Kind: wire.Sync, FD: -1})() }

func (l *keeperLink) HoldFIFO(name, path string) func() error {
	return l.ask(wire.Message{Kind: wire.HoldFIFO, Payload: wire.AppendHoldFIFO(nil, name, path), FD: -1})
}

// ask sends a message that is answered by a Sync; what it returns waits for that.
func (l *keeperLink) ask(m wire.Message) (wait func() error) {
	done := make(chan unix.Errno, 1)
	l.mu.Lock()
	l.lastSync++
	m.Conn = l.lastSync
	l.syncs[m.Conn] = done
	l.mu.Unlock()
	if err := l.send(m); err != nil {
		return func() error { return err }
	}
	return func() error {
		select {
		case errno := <-done:
			if errno != 0 {
				return errno
			}
			return nil
		case <-l.done:
			return errors.New("link to the keeper: it has ended")
		}
	}
}

func (l *keeperLink) Held() map[string]*os.File { return l.held }

func (l *keeperLink) CloneParent() bool { return true }

func (l *keeperLink) Quit() error { return l.send(wire.Message{Kind: wire.Quit, FD: -1}) }

func (l *keeperLink) Upgrade(executable string) error {
	return l.send(wire.Message{Kind: wire.Upgrade, Payload: []byte(executable), FD: -1})
}

func (l *keeperLink) Done() <-chan struct{} { return l.done }
