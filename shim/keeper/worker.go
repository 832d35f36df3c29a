package keeper

import (
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sock-runtime/sock/shim/reap"
	"github.com/sock-runtime/sock/shim/wire"
)

// worker is the process that does the work, and the link to it.
type worker struct {
	pid     int // 0: there is none
	socket  int // -1: none
	in      wire.Decoder
	out     []chunk
	queued  int  // bytes in out
	sending bool // epoll tells when there is room
	deaf    bool // it doesn't read any more, but what it sent must be read

	began    time.Duration // since boot
	failures int           // in a row
	due      time.Duration // when the next one is to start
}

// chunk is a piece of the stream to the worker; fd is sent with its first byte, if it isn't negative.
type chunk struct {
	b  []byte
	fd int
}

// chunkSize is how long chunks without a descriptor grow.
const chunkSize = 32 << 10

// startWorker starts a worker, and gives it all that the last one had.
func (k *keeper) startWorker() {
	w := &k.worker
	if err := k.fork(); err != nil {
		k.log("start worker: " + err.Error())
		w.failures++
		w.due = reap.Now() + delay(w.failures)
		return
	}
	for name, fd := range k.held {
		k.send(wire.Message{Kind: wire.Held, Payload: []byte(name), FD: fd})
	}
	k.send(wire.Message{Kind: wire.Ready, FD: -1})
	for _, e := range k.exits {
		k.send(wire.Message{Kind: wire.Exited, Payload: wire.AppendExit(nil, e), FD: -1})
	}
	for _, c := range k.sorted() {
		if c.finished {
			continue
		}
		k.send(wire.Message{Kind: wire.Open, Conn: c.id, Payload: []byte{c.listener}, FD: -1})
		for _, r := range c.requests {
			k.send(wire.Message{Kind: wire.Frame, Conn: c.id, Payload: r, FD: -1})
		}
	}
	k.flush()
	k.awaitChildren()
}

// self is this executable, also when another one has its name by now.
const self = "/proc/self/exe"

// fork executes the worker with one end of a new socket pair.
func (k *keeper) fork() error {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return failure("socketpair", err)
	}
	defer unix.Close(pair[1])
	err = unix.SetNonblock(pair[0], true)
	if err == nil {
		err = k.watch(pair[0], unix.EPOLLIN)
	}
	var pid int
	if err == nil {
		pid, err = syscall.ForkExec(self, k.Worker, &syscall.ProcAttr{
			Env: k.Env, Files: []uintptr{0, 1, 2, uintptr(pair[1])},
		})
	}
	if err != nil {
		_ = unix.Close(pair[0])
		return err
	}
	k.worker.pid, k.worker.socket, k.worker.began = pid, pair[0], reap.Now()
	return nil
}

// endWorker goes on after the worker's end: all that it sent is in the socket.
func (k *keeper) endWorker() {
	w := &k.worker
	for w.socket >= 0 && k.readWorker() {
	}
	k.unlink()
	if reap.Now()-w.began > steady {
		w.failures = 0
	}
	w.failures++
	w.due = reap.Now() + delay(w.failures)
}

// unlink closes the link.
func (k *keeper) unlink() {
	w := &k.worker
	if w.socket >= 0 {
		k.close(w.socket)
	}
	w.in.Close()
	w.socket, w.out, w.queued, w.sending, w.deaf = -1, nil, 0, false, false
}

// steady is how long a worker lives that didn't fail at its start.
const steady = 5 * time.Second

// delay is how long to wait after so many failures in a row: those that answered something don't count, and the first are
// forgiven.
func delay(failures int) time.Duration {
	const forgiven, first, longest = 2, 10 * time.Millisecond, time.Second
	if failures <= forgiven {
		return 0
	}
	return min(first<<min(failures-forgiven-1, 16), longest)
}

func (k *keeper) startWorkerIfDue() {
	if k.worker.pid > 0 || k.quit || reap.Now() < k.worker.due {
		return
	}
	if k.ending && !k.connected() {
		k.clear()
		k.quit = true
		return
	}
	k.ending = false
	if k.upgrade != "" {
		k.log("upgrade to " + k.upgrade + ": " + k.become(k.upgrade).Error()) // returns only if it failed
		k.upgrade = ""
	}
	k.startWorker()
}

// send queues a message for the worker, if there is one.
func (k *keeper) send(m wire.Message) {
	w := &k.worker
	if w.socket < 0 || w.deaf {
		return
	}
	last := len(w.out) - 1
	if m.FD >= 0 || last < 0 || len(w.out[last].b)+len(m.Payload) > chunkSize {
		w.out = append(w.out, chunk{fd: m.FD})
		last++
	}
	before := len(w.out[last].b)
	w.out[last].b = wire.Append(w.out[last].b, m)
	w.queued += len(w.out[last].b) - before
}

// flush writes as much to the worker as it takes.
func (k *keeper) flush() {
	w := &k.worker
	for len(w.out) > 0 && w.socket >= 0 {
		c := &w.out[0]
		n, err := wire.Send(w.socket, c.b, c.fd)
		if err == unix.EAGAIN {
			break
		}
		if err != nil {
			w.deaf, w.out, w.queued = true, nil, 0
			k.killWorker()
			break
		}
		c.b, c.fd = c.b[n:], -1
		w.queued -= n
		if len(c.b) == 0 {
			w.out = w.out[1:]
		}
	}
	if len(w.out) == 0 {
		w.out = nil
	}
	if sending := len(w.out) > 0; sending != w.sending && w.socket >= 0 {
		w.sending = sending
		events := uint32(unix.EPOLLIN)
		if sending {
			events |= unix.EPOLLOUT
		}
		_ = unix.EpollCtl(k.epoll, unix.EPOLL_CTL_MOD, w.socket, &unix.EpollEvent{Events: events, Fd: int32(w.socket)})
	}
}

// fail ends a worker that doesn't keep to the rules.
func (k *keeper) fail(why string) {
	k.log(why)
	k.unlink()
	k.killWorker()
}

func (k *keeper) killWorker() {
	if k.worker.pid > 0 {
		_ = unix.Kill(k.worker.pid, unix.SIGKILL)
	}
}

// readWorker takes what the worker has sent. It says whether there may be more.
func (k *keeper) readWorker() bool {
	w := &k.worker
	n, fds, err := wire.Receive(w.socket, k.buf[:])
	if err == unix.ECONNRESET { // an end, before which it didn't read all
		err = nil
	}
	w.in.Feed(k.buf[:n], fds)
	switch {
	case err == unix.EAGAIN:
		return false
	case err != nil:
		k.fail("read from worker: " + err.Error())
		return false
	case n == 0:
		// Its end is about to be told; or it has closed the link, and isn't a worker any more.
		k.unlink()
		k.killWorker()
		return false
	}
	for {
		m, ok, err := w.in.Next()
		if err == nil && ok {
			err = k.obey(m)
		}
		if err != nil {
			k.fail("worker: " + err.Error())
			return false
		}
		if !ok {
			return true
		}
	}
}

// obey does what the worker's message says.
func (k *keeper) obey(m wire.Message) error {
	switch m.Kind {
	case wire.Frame:
		if n, err := wire.FrameLen(m.Payload); err != nil || n != len(m.Payload) {
			return failure("frame", unix.EBADMSG)
		}
		k.worker.failures = 0
		if c := k.conns[m.Conn]; c != nil {
			k.answer(c, m.Payload)
		}
	case wire.Close:
		if c := k.conns[m.Conn]; c != nil {
			k.finish(c)
		}
	case wire.Ack:
		e, err := wire.DecodeExit(m.Payload)
		if err != nil {
			return err
		}
		k.acknowledge(e)
	case wire.Hold, wire.Drop:
		// Descriptors to be sent are known by their numbers, and these would change.
		if k.handingOver() {
			if m.FD >= 0 {
				_ = unix.Close(m.FD)
			}
			return failure("hold before the hand-over's end", unix.EBADMSG)
		}
		if m.Kind == wire.Hold {
			k.hold(string(m.Payload), m.FD)
		} else {
			k.drop(string(m.Payload))
		}
	case wire.Sync:
		k.send(wire.Message{Kind: wire.Sync, Conn: m.Conn, FD: -1})
	case wire.HoldFIFO:
		return k.holdFIFO(m)
	case wire.Quit:
		k.end()
	case wire.Upgrade:
		k.upgrade = string(m.Payload)
		k.killWorker()
	default:
		return failure("message of kind "+strconv.Itoa(int(m.Kind)), unix.EBADMSG)
	}
	return nil
}

// holdFIFO opens a FIFO, both ways, which never waits, and keeps it. The worker could send its own descriptor, but were it killed
// before that, a reader would see the end of the file.
func (k *keeper) holdFIFO(m wire.Message) error {
	if k.handingOver() {
		return failure("hold before the hand-over's end", unix.EBADMSG)
	}
	name, path, err := wire.DecodeHoldFIFO(m.Payload)
	if err != nil {
		return err
	}
	answer := wire.Message{Kind: wire.Sync, Conn: m.Conn, FD: -1}
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if errno, failed := err.(unix.Errno); failed {
		answer.Payload = []byte(strconv.Itoa(int(errno)))
	} else {
		k.hold(name, fd)
	}
	k.send(answer)
	return nil
}

// handingOver says whether held descriptors wait to be sent.
func (k *keeper) handingOver() bool {
	for _, c := range k.worker.out {
		if c.fd >= 0 {
			return true
		}
	}
	return false
}
