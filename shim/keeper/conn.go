package keeper

import (
	"golang.org/x/sys/unix"

	"github.com/sock-runtime/sock/shim/wire"
)

// conn is a client's connection.
type conn struct {
	id       uint64
	fd       int
	listener byte     // as the worker is told: from 1
	in       []byte   // a frame that isn't whole yet
	requests [][]byte // not answered, in their order
	out      []byte   // for the client, who hasn't read it yet
	finished bool     // to be closed when that is done
	events   uint32   // what epoll tells of
}

// maxOut is how many bytes a client may leave unread before its requests are left unread.
const maxOut = 1 << 20

// accept takes all connections that wait.
func (k *keeper) accept(listener int) {
	for !k.deaf {
		if len(k.conns) >= k.maxConns {
			k.stopAccepting("too many connections")
			return
		}
		fd, _, err := unix.Accept4(k.listening[listener], unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		switch err {
		case nil:
		case unix.EINTR, unix.ECONNABORTED:
			continue
		case unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM:
			k.stopAccepting(err.Error())
			return
		default:
			return
		}
		k.lastID++
		c := &conn{id: k.lastID, fd: fd, listener: byte(listener + 1)}
		if err := k.add(c); err != nil {
			k.log("new connection: " + err.Error())
			_ = unix.Close(fd)
			continue
		}
		k.send(wire.Message{Kind: wire.Open, Conn: c.id, Payload: []byte{c.listener}, FD: -1})
	}
}

// stopAccepting leaves new connections waiting until a descriptor is closed.
func (k *keeper) stopAccepting(why string) {
	k.deaf = true
	k.log("no more connections: " + why)
	for _, l := range k.listening {
		_ = unix.EpollCtl(k.epoll, unix.EPOLL_CTL_DEL, l, nil)
	}
}

// add puts a connection into the tables.
func (k *keeper) add(c *conn) error {
	c.events = k.wanted(c)
	if err := k.watch(c.fd, c.events); err != nil {
		return err
	}
	k.conns[c.id], k.byFD[c.fd] = c, c
	return nil
}

// wanted says which events of a connection matter now.
func (k *keeper) wanted(c *conn) (events uint32) {
	if !k.paused && !c.finished && len(c.out) <= maxOut {
		events |= unix.EPOLLIN
	}
	if len(c.out) > 0 {
		events |= unix.EPOLLOUT
	}
	return events
}

func (k *keeper) interest(c *conn) {
	if events := k.wanted(c); events != c.events {
		c.events = events
		_ = unix.EpollCtl(k.epoll, unix.EPOLL_CTL_MOD, c.fd, &unix.EpollEvent{Events: events, Fd: int32(c.fd)})
	}
}

// readConn takes what a client has sent, and passes whole frames on.
func (k *keeper) readConn(c *conn) {
	n, err := unix.Read(c.fd, k.buf[:])
	if err == unix.EAGAIN || err == unix.EINTR {
		return
	}
	if err != nil || n == 0 {
		k.hangUp(c)
		return
	}
	c.in = append(c.in, k.buf[:n]...)
	for {
		n, err := wire.FrameLen(c.in)
		if err != nil {
			k.log("connection " + err.Error())
			k.hangUp(c)
			return
		}
		if n == 0 {
			break
		}
		k.bulky = k.bulky || n >= bulk
		frame := c.in[:n:n]
		c.in = c.in[n:]
		if wire.Type(frame) == wire.Request {
			frame = append([]byte(nil), frame...)
			c.requests = append(c.requests, frame)
			k.load += n
		}
		k.send(wire.Message{Kind: wire.Frame, Conn: c.id, Payload: frame, FD: -1})
	}
	if len(c.in) == 0 {
		c.in = nil
	}
}

// answer passes a frame of the worker's on to the client.
func (k *keeper) answer(c *conn, frame []byte) {
	k.bulky = k.bulky || len(frame) >= bulk
	if wire.Type(frame) == wire.Response {
		for i, r := range c.requests {
			if wire.Stream(r) == wire.Stream(frame) {
				k.load -= len(r)
				copy(c.requests[i:], c.requests[i+1:])
				c.requests[len(c.requests)-1] = nil
				c.requests = c.requests[:len(c.requests)-1]
				break
			}
		}
		if len(c.requests) == 0 {
			c.requests = nil
		}
	}
	if len(c.out) == 0 {
		n, err := wire.Send(c.fd, frame, -1)
		if err != nil && err != unix.EAGAIN {
			k.hangUp(c)
			return
		}
		frame = frame[max(n, 0):]
	}
	c.out = append(c.out, frame...)
	k.interest(c)
}

// writeConn goes on with what the client couldn't take before.
func (k *keeper) writeConn(c *conn) {
	for len(c.out) > 0 {
		n, err := wire.Send(c.fd, c.out, -1)
		if err == unix.EAGAIN {
			break
		}
		if err != nil {
			k.hangUp(c)
			return
		}
		c.out = c.out[n:]
	}
	if len(c.out) == 0 {
		c.out = nil
		if c.finished {
			k.forget(c)
			return
		}
	}
	k.interest(c)
}

// finish closes a connection for the worker, once the client has read all.
func (k *keeper) finish(c *conn) {
	c.finished = true
	k.writeConn(c)
}

// hangUp ends a connection, and tells the worker.
func (k *keeper) hangUp(c *conn) {
	if k.forget(c) && !c.finished {
		k.send(wire.Message{Kind: wire.Close, Conn: c.id, FD: -1})
	}
}

// forget closes a connection; it says whether it was still there.
func (k *keeper) forget(c *conn) bool {
	if k.conns[c.id] != c {
		return false
	}
	for _, r := range c.requests {
		k.load -= len(r)
	}
	delete(k.conns, c.id)
	delete(k.byFD, c.fd)
	k.close(c.fd)
	return true
}
