package stdio

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// leave gives an output up when its process has ended. Whoever is to read a FIFO may not have opened it yet, or not again: what
// was written would be gone with the last descriptor, and their open(2) would wait for a writer for ever. So a writer is held
// until there is a reader, who finds the bytes, and the end behind them; then a reader again, for processes that the ended one
// has left.
func (s *IO) leave(name, held string) {
	path := fifoOf(name)
	if path == "" {
		s.unlessClosed(func() { _ = s.holder.Drop(s.name(held)) })
		return
	}
	if !s.replace(path, held, unix.O_WRONLY) || s.holder.Sync() != nil {
		return
	}
	for wait := firstLook; !hasReader(path); wait = min(2*wait, longestLook) {
		select {
		case <-s.closed:
			return
		case <-time.After(wait):
		}
	}
	s.replace(path, held, unix.O_RDONLY)
}

// How often is looked for a reader.
const (
	firstLook   = time.Millisecond
	longestLook = 100 * time.Millisecond
)

// replace has one end of a FIFO held in place of both, or of the other; it says whether that is so.
func (s *IO) replace(path, held string, flags int) (ok bool) {
	s.unlessClosed(func() {
		fd, err := open(path, flags|unix.O_NONBLOCK)
		if err != nil {
			return
		}
		defer unix.Close(fd)
		ok = s.holder.Hold(s.name(held), fd) == nil
	})
	return ok
}

// hasReader says whether anybody has the FIFO open for reading.
func hasReader(path string) bool {
	fd, err := open(path, unix.O_WRONLY|unix.O_NONBLOCK)
	if err == nil {
		_ = unix.Close(fd)
	}
	return !errors.Is(err, unix.ENXIO)
}

// unlessClosed does something while Close doesn't: what is held then is given up.
func (s *IO) unlessClosed(do func()) {
	s.end.Lock()
	defer s.end.Unlock()
	select {
	case <-s.closed:
	default:
		do()
	}
}
