// Package keeper holds what a shim must not lose while the process that does the work, the worker, dies and is replaced:
// containerd's connections and the requests on them that are not answered, the ends of the containers' processes, whose
// parent it is, and descriptors. It knows where a frame ends and which response belongs to which request, and nothing else of
// what passes through it.
//
// One goroutine does everything, on epoll; a second one only waits for children.
package keeper

import (
	"cmp"
	"errors"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sock-runtime/sock/shim/reap"
	"github.com/sock-runtime/sock/shim/wire"
)

// Config is what a keeper starts with.
type Config struct {
	Dir     string            // the shim's own; it goes when the keeper quits
	Sockets [Listeners]string // their names in Dir; nobody else listens as long as the last is there
	// Worker is the command line of the worker: this executable with other arguments. It finds the link at descriptor 3.
	Worker []string
	// Keeper is the keeper's own command line, for Upgrade, which appends a word: the number of the descriptor with the
	// tables that Resume and Check take. For Check it appends another one, "check".
	Keeper []string
	Env    []string // of both
}

// LogFile is where keeper and worker write what goes wrong, in Dir.
const LogFile = "log"

// Listeners is the number of listening sockets. Connections of the first are kind 1 of package link, and so on.
const Listeners = 2

// keeper is the state of the loop.
type keeper struct {
	Config
	epoll     int
	children  int // eventfd: a child has ended
	reaped    chan struct{}
	listening [Listeners]int
	deaf      bool // no new connections for now
	maxConns  int

	conns  map[uint64]*conn
	byFD   map[int]*conn
	lastID uint64
	held   map[string]int
	exits  []wire.Exit // not acknowledged

	worker  worker
	upgrade string // executable to become once the worker has ended

	load   int // bytes of unanswered requests
	paused bool
	bulky  bool // large frames have passed
	ending bool // to quit once the worker has ended
	quit   bool
	buf    [64 << 10]byte // of every read
}

// maxLoad is how many bytes of unanswered requests, and of messages that the worker didn't read, stop the reading of further
// ones: so that a worker that hangs doesn't cost the keeper its memory.
const maxLoad = 32 << 20

// gcPercent keeps the heap small: with Go's 100, the collector waits until there are 4 MiB of garbage. With 10 it would run
// at the start, and what it needs for itself is more than it finds.
const gcPercent = 25

// Run keeps, until the worker asks it to quit. listening are the listening sockets. Errors: what couldn't be set up.
func Run(c Config, listening [Listeners]int) error {
	k, err := setUp(c)
	if err != nil {
		return err
	}
	k.listening = listening
	return k.run()
}

func setUp(c Config) (*keeper, error) {
	debug.SetGCPercent(gcPercent)
	k := &keeper{
		Config: c,
		conns:  map[uint64]*conn{},
		byFD:   map[int]*conn{},
		held:   map[string]int{},
		reaped: make(chan struct{}, 1),
		worker: worker{socket: -1},
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, failure("become a subreaper", err)
	}
	var err error
	if k.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, failure("epoll", err)
	}
	if k.children, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return nil, failure("eventfd", err)
	}
	if err := k.watch(k.children, unix.EPOLLIN); err != nil {
		return nil, failure("epoll", err)
	}
	// Connections may take half of the descriptors; the rest is for what is held.
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return nil, failure("limit of descriptors", err)
	}
	k.maxConns = int(min(limit.Cur, 1<<20) / 2)
	return k, nil
}

func (k *keeper) run() error {
	for _, fd := range k.listening {
		if err := unix.SetNonblock(fd, true); err != nil {
			return failure("listening socket", err)
		}
		unix.CloseOnExec(fd)
		if err := k.watch(fd, unix.EPOLLIN); err != nil {
			return failure("listening socket", err)
		}
	}
	go watchChildren(k.children, k.reaped)
	k.startWorker()
	var events [64]unix.EpollEvent
	for !k.quit {
		n, err := unix.EpollWait(k.epoll, events[:], k.timeout())
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return failure("epoll", err)
		}
		for _, e := range events[:n] {
			k.handle(int(e.Fd), e.Events)
		}
		k.flush()
		k.throttle()
		k.startWorkerIfDue()
		k.trim()
	}
	return nil
}

// trim gives memory back that large frames needed; Go would wait for more garbage.
func (k *keeper) trim() {
	if k.bulky && k.load+k.worker.queued < bulk {
		k.bulky = false
		debug.FreeOSMemory()
	}
}

// bulk is the size in bytes from which on a frame is large.
const bulk = 1 << 20

// handle deals with one event. Descriptors that were closed meanwhile may be others' by now, so nothing is concluded from an
// event but that a call is worth a try; none of them blocks.
func (k *keeper) handle(fd int, events uint32) {
	switch {
	case fd == k.children:
		k.reap()
	case fd == k.worker.socket:
		k.readWorker()
	case slices.Contains(k.listening[:], fd):
		k.accept(slices.Index(k.listening[:], fd))
	default:
		if c := k.byFD[fd]; c != nil {
			if events&unix.EPOLLOUT != 0 {
				k.writeConn(c)
			}
			if events&^unix.EPOLLOUT != 0 {
				k.readConn(c)
			}
		}
	}
}

// watchChildren tells by the eventfd that children have ended, each time once until they were reaped.
func watchChildren(events int, reaped <-chan struct{}) {
	one := []byte{0, 0, 0, 0, 0, 0, 0, 1} // as good as any number other than 0 and the largest
	for {
		if reap.Wait() == nil {
			_, _ = unix.Write(events, one)
		}
		<-reaped // or, without children, there is a new one
	}
}

// reap collects the children that have ended, the worker among them.
func (k *keeper) reap() {
	var count [8]byte
	_, _ = unix.Read(k.children, count[:])
	ended := false
	for {
		e, ok := reap.Next()
		if !ok {
			break
		}
		if e.Pid == k.worker.pid {
			ended, k.worker.pid = true, 0 // another process may have this pid from now on
			k.log("worker ended: " + describe(e.Status))
			continue
		}
		k.exits = append(k.exits, e)
		k.send(wire.Message{Kind: wire.Exited, Payload: wire.AppendExit(nil, e), FD: -1})
	}
	if ended {
		k.endWorker()
	}
	k.awaitChildren()
}

// awaitChildren has watchChildren wait again.
func (k *keeper) awaitChildren() {
	select {
	case k.reaped <- struct{}{}:
	default:
	}
}

func describe(s unix.WaitStatus) string {
	if s.Signaled() {
		return "signal " + strconv.Itoa(int(s.Signal()))
	}
	return "status " + strconv.Itoa(s.ExitStatus())
}

// acknowledge forgets an exit.
func (k *keeper) acknowledge(e wire.Exit) {
	if i := slices.Index(k.exits, e); i >= 0 {
		k.exits = slices.Delete(k.exits, i, i+1)
	}
	if len(k.exits) == 0 {
		k.exits = nil
	}
}

// hold keeps fd, which is the keeper's from now on, under a name.
func (k *keeper) hold(name string, fd int) {
	k.drop(name)
	k.held[name] = fd
}

func (k *keeper) drop(name string) {
	if fd, ok := k.held[name]; ok {
		delete(k.held, name)
		k.close(fd)
	}
}

// end ends the keeper, unless somebody is connected: a request may be on its way. The worker goes first.
func (k *keeper) end() {
	if k.ending = !k.connected(); k.ending {
		k.killWorker()
	}
}

// connected says whether there is a client.
func (k *keeper) connected() bool {
	for i := range k.listening {
		k.accept(i)
	}
	return len(k.conns) > 0
}

// clear removes all that is in the directory, which nobody uses while the last socket's name is there: then somebody listens,
// and no other keeper is started. Who connects from now on loses the connection without an answer, and starts one.
func (k *keeper) clear() {
	last := k.Sockets[Listeners-1]
	names, err := os.ReadDir(k.Dir)
	for _, entry := range names {
		if entry.Name() != last {
			err = errors.Join(err, os.RemoveAll(k.Dir+"/"+entry.Name()))
		}
	}
	if err != nil {
		k.log("clear the directory: " + err.Error())
	}
	_ = unix.Unlink(k.Dir + "/" + last)
	_ = unix.Rmdir(k.Dir) // unless another keeper has begun to use it
}

// watch has epoll tell of events of fd.
func (k *keeper) watch(fd int, events uint32) error {
	return unix.EpollCtl(k.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)})
}

// close closes a descriptor, and listens again if there were too many.
func (k *keeper) close(fd int) {
	_ = unix.Close(fd)
	if k.deaf {
		k.deaf = false
		for _, l := range k.listening {
			_ = k.watch(l, unix.EPOLLIN)
		}
	}
}

// timeout is how long epoll may wait, in milliseconds; -1 for ever.
func (k *keeper) timeout() int {
	if k.worker.pid > 0 {
		return -1
	}
	return int(max(0, (k.worker.due-reap.Now()+time.Millisecond-1)/time.Millisecond))
}

// throttle stops reading requests while too many are unanswered.
func (k *keeper) throttle() {
	load := k.load + k.worker.queued
	if paused := load > maxLoad || k.paused && load > maxLoad/2; paused != k.paused {
		k.paused = paused
		for _, c := range k.conns {
			k.interest(c)
		}
	}
}

// sorted lists the connections in the order in which they came.
func (k *keeper) sorted() []*conn {
	all := make([]*conn, 0, len(k.conns))
	for _, c := range k.conns {
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b *conn) int { return cmp.Compare(a.id, b.id) })
	return all
}

// log writes a line to standard error, a file that doesn't grow beyond maxLog.
func (k *keeper) log(text string) {
	const stderr = 2
	var st unix.Stat_t
	if unix.Fstat(stderr, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFREG && st.Size > maxLog {
		_ = unix.Ftruncate(stderr, 0)
	}
	_, _ = unix.Write(stderr, []byte(time.Now().UTC().Format(time.RFC3339)+" keeper: "+text+"\n"))
}

const maxLog = 1 << 20

// opError is an error with what was tried.
type opError struct {
	op  string
	err error
}

func failure(op string, err error) error { return &opError{op, err} }

func (e *opError) Error() string { return e.op + ": " + e.err.Error() }
func (e *opError) Unwrap() error { return e.err }
