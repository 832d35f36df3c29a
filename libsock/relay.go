package libsock

import (
	"os"
	"os/signal"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// relay passes the signals that we get on to the process that we stand in for.
//
// Go takes about 25 µs to subscribe to one signal (two switches to a thread of the runtime's), 3 ms for all of them on
// and off: more than the rest of a start. So the usual ones are subscribed in the background, while the container is being
// made, and the others when it turns out to live longer.
type relay struct {
	signals chan os.Signal
	stopped atomic.Bool
}

// usual are the signals that terminals, shells and service managers send.
var usual = []unix.Signal{
	unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT, unix.SIGWINCH, unix.SIGUSR1, unix.SIGUSR2, unix.SIGCONT,
	unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU, unix.SIGALRM,
}

// ours are signals that mean our own process: faults, Go's preemption, our children, a closed pipe.
var ours = map[unix.Signal]bool{
	unix.SIGILL: true, unix.SIGTRAP: true, unix.SIGABRT: true, unix.SIGBUS: true, unix.SIGFPE: true, unix.SIGSEGV: true,
	unix.SIGSYS: true, unix.SIGPIPE: true, unix.SIGCHLD: true, unix.SIGURG: true, unix.SIGPROF: true, unix.SIGKILL: true,
	unix.SIGSTOP: true, 32: true, 33: true, // the last two are the C library's
}

const lastSignal = 64

// settle is when a process counts as one that lives longer.
const settle = 20 * time.Millisecond

// newRelay starts collecting signals.
func newRelay() *relay {
	r := &relay{signals: make(chan os.Signal, 128)}
	go func() {
		for _, s := range usual {
			signal.Notify(r.signals, s)
		}
		time.Sleep(settle)
		for s := unix.Signal(1); s <= lastSignal && !r.stopped.Load(); s++ {
			if !ours[s] {
				signal.Notify(r.signals, s) // the usual ones again, which costs nothing
			}
		}
	}()
	return r
}

// start sends what was and will be collected to the process; a change of our window's size goes to its terminal.
func (r *relay) start(pidfd int, t *terminal) {
	go func() {
		for s := range r.signals {
			if s == unix.SIGWINCH && t != nil {
				t.resize()
			} else {
				_ = unix.PidfdSendSignal(pidfd, s.(unix.Signal), nil, 0)
			}
		}
	}()
}

// stop ends the subscription in the background. The process that is left is about to exit.
func (r *relay) stop() { r.stopped.Store(true) }
