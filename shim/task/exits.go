package task

import (
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sock-runtime/sock/shim/link"
	"github.com/sock-runtime/sock/shim/reap"
)

// exits tells the ends of processes, which the link delivers, to those who made them. It is the libsock.Reaper of all
// containers.
//
// A pid may be used again as soon as the link has reaped it, before its end arrives here. So an end belongs to a process
// with the same pid and start time.
type exits struct {
	link link.Link

	mu        sync.Mutex
	launching int           // launches under way
	since     time.Duration // when the first of them began, since boot
	early     []link.Exit   // ends during launches that nobody has expected yet
	expected  map[int][]*end
	recorded  map[int]recorded // by an earlier worker
}

// recorded is the end of a process that is on record, but comes again if nobody may have been told of it.
type recorded struct {
	start uint64
	tell  func()
}

// again has tell called if the end of the process comes once more.
func (x *exits) again(pid int, startTime uint64, tell func()) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.recorded[pid] = recorded{startTime, tell}
}

// end is the end of an expected process.
type end struct {
	start uint64        // when the process began; 0 if that isn't known
	since time.Duration // not before that was it cloned
	exit  *link.Exit    // once it came
	watch func(link.Exit)
	came  chan struct{} // closed with exit
}

func newExits(l link.Link) *exits {
	return &exits{link: l, expected: map[int][]*end{}, recorded: map[int]recorded{}}
}

// earlyTimeout is how long the end of an unknown process is kept while something is being launched: far longer than it takes
// from a clone until the pid is known.
const earlyTimeout = 10 * time.Second

// run takes what the link delivers, until the link ends.
func (x *exits) run() {
	for e := range x.link.Exits() {
		x.handle(e)
	}
}

func (x *exits) handle(e link.Exit) {
	x.mu.Lock()
	for i, w := range x.expected[e.Pid] {
		if w.exit == nil && w.is(e) {
			w.exit = &e
			close(w.came)
			if w.watch != nil {
				x.forget(e.Pid, i)
			}
			x.mu.Unlock()
			if w.watch != nil {
				w.watch(e)
			}
			return
		}
	}
	if r, ok := x.recorded[e.Pid]; ok && r.start == e.Start {
		delete(x.recorded, e.Pid)
		x.mu.Unlock()
		r.tell()
		x.ack([]link.Exit{e})
		return
	}
	unknown := []link.Exit{e}
	if x.launching > 0 {
		x.early = append(x.early, e)
		fresh := slices.IndexFunc(x.early, func(old link.Exit) bool { return old.At > e.At-earlyTimeout })
		unknown, x.early = slices.Clone(x.early[:fresh]), x.early[fresh:]
	}
	x.mu.Unlock()
	x.ack(unknown)
}

// ack lets the link forget ends of processes that are nobody's: orphans of containers.
func (x *exits) ack(list []link.Exit) {
	for _, e := range list {
		_ = x.link.Ack(e) // fails only with the link, and us
	}
}

func (w *end) is(e link.Exit) bool {
	if w.start != 0 && e.Start != 0 {
		return w.start == e.Start
	}
	return e.At >= w.since
}

// forget takes the i-th end of a pid off.
func (x *exits) forget(pid, i int) {
	list := slices.Delete(x.expected[pid], i, i+1)
	if len(list) == 0 {
		delete(x.expected, pid)
	} else {
		x.expected[pid] = list
	}
}

// Launch implements libsock.Reaper.
func (x *exits) Launch(clone func() error) error {
	x.mu.Lock()
	if x.launching == 0 {
		x.since = reap.Now()
	}
	x.launching++
	x.mu.Unlock()
	defer func() {
		x.mu.Lock()
		x.launching--
		var unknown []link.Exit
		if x.launching == 0 {
			unknown, x.early = x.early, nil
		}
		x.mu.Unlock()
		x.ack(unknown)
	}()
	return clone()
}

// Expect implements libsock.Reaper.
func (x *exits) Expect(pid int, startTime uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.expect(pid, startTime, x.since)
}

func (x *exits) expect(pid int, startTime uint64, since time.Duration) *end {
	w := &end{start: startTime, since: since, came: make(chan struct{})}
	for i, e := range x.early {
		if e.Pid == pid && w.is(e) {
			w.exit = &e
			close(w.came)
			x.early = slices.Delete(x.early, i, i+1)
			break
		}
	}
	x.expected[pid] = append(x.expected[pid], w)
	return w
}

// Wait implements libsock.Reaper.
func (x *exits) Wait(pid int) (unix.WaitStatus, error) {
	x.mu.Lock()
	list := x.expected[pid]
	if len(list) == 0 {
		x.mu.Unlock()
		return 0, unix.ECHILD
	}
	w := list[len(list)-1]
	x.mu.Unlock()
	select {
	case <-w.came:
	case <-x.link.Done():
		return 0, unix.ECHILD
	}
	x.mu.Lock()
	if i := slices.Index(x.expected[pid], w); i >= 0 {
		x.forget(pid, i)
	}
	x.mu.Unlock()
	return w.exit.Status, x.link.Ack(*w.exit)
}

// watch has f called, once, with the end of a process that was expected, or that an earlier worker made. f must not wait; it
// is the one to acknowledge.
func (x *exits) watch(pid int, startTime uint64, f func(link.Exit)) {
	x.mu.Lock()
	list := x.expected[pid]
	i := slices.IndexFunc(list, func(w *end) bool { return w.start == startTime && w.watch == nil })
	if i < 0 {
		x.expect(pid, startTime, 0).watch = f
		x.mu.Unlock()
		return
	}
	w := list[i]
	w.watch = f
	if w.exit != nil {
		x.forget(pid, i)
	}
	x.mu.Unlock()
	if w.exit != nil {
		f(*w.exit)
	}
}
