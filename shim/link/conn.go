package link

import (
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/sock-runtime/sock/shim/wire"
)

// queue is a list that never makes the one who fills it wait.
type queue[T any] struct {
	mu     sync.Mutex
	more   sync.Cond
	items  []T
	closed bool
}

func newQueue[T any]() *queue[T] {
	q := &queue[T]{}
	q.more.L = &q.mu
	return q
}

func (q *queue[T]) put(item T) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.closed {
		q.items = append(q.items, item)
		q.more.Signal()
	}
}

// get waits for an item; ok is false when there is none and the queue was closed.
func (q *queue[T]) get() (item T, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.items) == 0 {
		if q.closed {
			return item, false
		}
		q.more.Wait()
	}
	item = q.items[0]
	clear(q.items[:1]) // the array may live longer
	if q.items = q.items[1:]; len(q.items) == 0 {
		q.items = nil
	}
	return item, true
}

func (q *queue[T]) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.more.Broadcast()
}

// listener accepts the connections that the keeper tells of.
type listener struct {
	queue *queue[*conn]
	addr  *net.UnixAddr
}

func newListener(name string) *listener {
	return &listener{queue: newQueue[*conn](), addr: &net.UnixAddr{Net: "unix", Name: name}}
}

func (l *listener) Accept() (net.Conn, error) {
	c, ok := l.queue.get()
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}

// Close ends Accept. The keeper's socket stays.
func (l *listener) Close() error {
	l.queue.close()
	return nil
}

func (l *listener) Addr() net.Addr { return l.addr }

// conn is a connection of the keeper's, seen from here as a stream of bytes; the keeper only sees whole frames of it.
type conn struct {
	link *keeperLink
	id   uint64
	addr net.Addr
	in   *queue[[]byte]

	read sync.Mutex
	rest []byte // of the frame that is being read

	write   sync.Mutex
	partial []byte // a frame that isn't whole yet
}

func (c *conn) Read(b []byte) (int, error) {
	c.read.Lock()
	defer c.read.Unlock()
	if len(c.rest) == 0 {
		var ok bool
		if c.rest, ok = c.in.get(); !ok {
			return 0, io.EOF
		}
	}
	n := copy(b, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

func (c *conn) Write(b []byte) (int, error) {
	c.write.Lock()
	defer c.write.Unlock()
	c.partial = append(c.partial, b...)
	for {
		n, err := wire.FrameLen(c.partial)
		if err != nil {
			return 0, err
		}
		if n == 0 {
			if len(c.partial) == 0 {
				c.partial = nil
			}
			return len(b), nil
		}
		if err := c.link.send(wire.Message{Kind: wire.Frame, Conn: c.id, Payload: c.partial[:n], FD: -1}); err != nil {
			return 0, err
		}
		c.partial = c.partial[n:]
	}
}

// Close has the keeper close the connection.
func (c *conn) Close() error {
	c.in.close()
	if c.link.forget(c.id) == nil {
		return nil
	}
	return c.link.send(wire.Message{Kind: wire.Close, Conn: c.id, FD: -1})
}

func (c *conn) LocalAddr() net.Addr  { return c.addr }
func (c *conn) RemoteAddr() net.Addr { return c.addr }

// Reads and writes can't be given a time.
func (c *conn) SetDeadline(time.Time) error      { return os.ErrNoDeadline }
func (c *conn) SetReadDeadline(time.Time) error  { return os.ErrNoDeadline }
func (c *conn) SetWriteDeadline(time.Time) error { return os.ErrNoDeadline }
