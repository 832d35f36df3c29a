package libsock

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/sock-runtime/sock/libsock/stub/signals"
)

// relayed are the signals that we pass on to the process that we stand in for: all but those that mean our own process
// (faults, Go's preemption, our children, a closed pipe), can't be caught, or belong to the C library (32, 33).
func relayed() []unix.Signal {
	ours := map[unix.Signal]bool{
		unix.SIGILL: true, unix.SIGTRAP: true, unix.SIGABRT: true, unix.SIGBUS: true, unix.SIGFPE: true, unix.SIGSEGV: true,
		unix.SIGSYS: true, unix.SIGPIPE: true, unix.SIGCHLD: true, unix.SIGURG: true, unix.SIGPROF: true, unix.SIGKILL: true,
		unix.SIGSTOP: true, 32: true, 33: true,
	}
	var list []unix.Signal
	for s := unix.Signal(1); s <= lastSignal; s++ {
		if !ours[s] {
			list = append(list, s)
		}
	}
	return list
}

const lastSignal = 64

// catchSignals collects the signals to relay, from now on, in a pipe.
func catchSignals() (int, error) { return signals.Catch(relayed()) }

// relay waits until the process has ended, and sends it the signals that we got. A change of our window's size goes to
// its terminal, what it says of itself to our service manager, for which we are its main process.
func relay(caught, pidfd int, t *terminal, n *notifier) error {
	fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}, {Fd: int32(caught), Events: unix.POLLIN}, {Fd: -1, Events: unix.POLLIN}}
	if n != nil {
		fds[2].Fd = int32(n.socket)
	}
	for fds[0].Revents == 0 {
		if _, err := unix.Poll(fds, -1); err != nil && err != unix.EINTR {
			return fmt.Errorf("wait for the process: %w", err)
		}
		if fds[2].Revents != 0 {
			n.relay(os.Getpid())
		}
		if fds[1].Revents == 0 {
			continue
		}
		var numbers [64]byte
		got, _ := unix.Read(caught, numbers[:])
		for _, s := range numbers[:max(got, 0)] {
			if unix.Signal(s) == unix.SIGWINCH {
				t.resize()
			} else {
				_ = unix.PidfdSendSignal(pidfd, unix.Signal(s), nil, 0)
			}
		}
	}
	n.drain(os.Getpid())
	return nil
}
