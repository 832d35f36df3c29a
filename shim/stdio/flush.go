package stdio

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// Clients read a process's output for as long as they don't know of its end; then some give up what they have not come to
// open. So the end is told when the output has been read, or when it has not been for flushTimeout: then nobody may want it.
const (
	flushTimeout  = 100 * time.Millisecond
	flushInterval = time.Millisecond
)

// Flushed says whether all that the process wrote, which has ended, is where it is to be.
func (s *IO) Flushed() bool { return s.relay == nil && !s.unread() }

// Flush waits until that is so, but not for ever.
func (s *IO) Flush() {
	deadline := time.Now().Add(flushTimeout)
	if s.relay != nil {
		s.relay.finish()
		select {
		case <-s.relay.moved:
		case <-time.After(flushTimeout):
			return
		}
	}
	for s.unread() && time.Now().Before(deadline) {
		time.Sleep(flushInterval)
	}
}

// unread says whether there are bytes in a FIFO, or nobody to read them. It looks as a writer: leave looks for readers, and
// must not find us.
func (s *IO) unread() bool {
	for _, name := range []string{s.paths.Stdout, s.paths.Stderr} {
		path := fifoOf(name)
		if path == "" {
			continue
		}
		fd, err := open(path, unix.O_WRONLY|unix.O_NONBLOCK)
		if errors.Is(err, unix.ENXIO) {
			return true
		}
		if err != nil {
			continue
		}
		n, err := unix.IoctlGetInt(fd, unix.TIOCINQ)
		_ = unix.Close(fd)
		if err == nil && n > 0 {
			return true
		}
	}
	return false
}
