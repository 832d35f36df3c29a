package stdio

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Attach connects the master of the process's terminal, which it owns from then on, with stdin and stdout.
func (s *IO) Attach(console int) error {
	master := os.NewFile(uintptr(console), "console") // non-blocking, so it waits in Go's poller
	if err := s.holder.Hold(s.name(heldConsole), console); err != nil {
		master.Close()
		return err
	}
	input, err := s.terminalInput()
	if err != nil {
		master.Close()
		return fmt.Errorf("open stdin: %w", err)
	}
	output, err := s.terminalOutput()
	if err != nil {
		master.Close()
		closeFile(input)
		return fmt.Errorf("open stdout: %w", err)
	}
	s.relay = s.startRelay(master, input, output)
	return nil
}

// terminalInput opens the end of stdin that is moved into the terminal; nil if there is none.
func (s *IO) terminalInput() (*os.File, error) {
	if s.paths.Stdin == "" {
		return nil, nil
	}
	path, err := localPath(s.paths.Stdin)
	if err != nil {
		return nil, err
	}
	if _, err := s.isHeld(heldStdin); err != nil {
		return nil, err
	}
	fd, err := open(path, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), path)
	if err := s.holder.Hold(s.name(heldInput), fd); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// terminalOutput opens where the terminal's output is moved to; nil if it is not wanted.
func (s *IO) terminalOutput() (*os.File, error) {
	name := s.paths.Stdout
	if name == "" {
		return nil, nil
	}
	if u := loggerURI(name); u != nil {
		var err error
		if s.logger, err = startLogger(u, s.process); err != nil {
			return nil, fmt.Errorf("logging program: %w", err)
		}
		stdout, stderr := s.logger.takePipes()
		_ = unix.Close(stderr)
		if err := s.holder.Hold(s.name(heldStdout), stdout); err != nil {
			_ = unix.Close(stdout)
			return nil, err
		}
		return nonblocking(stdout, name)
	}
	path, err := localPath(name)
	if err != nil {
		return nil, err
	}
	fifo, err := s.isHeld(heldStdout)
	if err != nil {
		return nil, err
	}
	if fifo {
		fd, err := open(path, unix.O_RDWR|unix.O_NONBLOCK)
		return os.NewFile(uintptr(fd), path), err
	}
	fd, err := openFile(path)
	if err != nil {
		return nil, err
	}
	if err := s.holder.Hold(s.name(heldStdout), fd); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), path), nil
}

func nonblocking(fd int, name string) (*os.File, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

func closeFile(f *os.File) {
	if f != nil {
		f.Close()
	}
}

// relay moves bytes between a terminal and two files.
type relay struct {
	master, input, output *os.File      // input and output may be nil
	end                   func()        // gives the output up
	moved                 chan struct{} // closed when the last output is moved

	mu       sync.Mutex
	finished bool
}

func (s *IO) startRelay(master, input, output *os.File) *relay {
	r := &relay{
		master: master, input: input, output: output, moved: make(chan struct{}),
		end: func() { go s.leave(s.paths.Stdout, heldStdout) },
	}
	if input != nil {
		go r.moveInput()
	}
	go r.moveOutput()
	return r
}

// drainTimeout is how long the last output may wait for somebody to read it.
const drainTimeout = 3 * time.Second

// finish has what is in the terminal moved, and no more. A process in the background may keep the terminal open for ever.
func (r *relay) finish() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.finished {
		r.finished = true
		_ = r.master.SetReadDeadline(time.Now()) // wakes moveOutput up
	}
}

func (r *relay) isFinished() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.finished
}

func (r *relay) close() {
	r.finish()
	select {
	case <-r.moved:
	case <-time.After(drainTimeout):
		closeFile(r.output) // wakes it where it waits for a reader
		<-r.moved
	}
	closeFile(r.input) // ends moveInput
	r.master.Close()
}

func (r *relay) resize(width, height uint16) error {
	raw, err := r.master.SyscallConn()
	if err != nil {
		return err
	}
	control := raw.Control(func(fd uintptr) {
		err = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: height, Col: width})
	})
	return errors.Join(control, err)
}

// moveOutput moves what the terminal has to say, until it is closed on the other side or its process has ended.
func (r *relay) moveOutput() {
	defer close(r.moved)
	defer r.end()
	defer closeFile(r.output)
	move := r.discard
	if r.output != nil {
		if ok, err := isPipe(r.output); err == nil && ok {
			move = func() error { return transfer(r.master, r.output) }
		} else {
			move = r.copyOutput
		}
	}
	for {
		err := move()
		switch {
		case err == nil:
		case errors.Is(err, os.ErrDeadlineExceeded):
			// finish woke us. What is left is there already: poll(2) of a terminal sees it.
			_ = r.master.SetReadDeadline(time.Time{})
			if !readable(r.master) {
				return
			}
		default: // EIO: nobody has the other side open
			return
		}
		if r.isFinished() && !readable(r.master) {
			return
		}
	}
}

func (r *relay) moveInput() {
	for transfer(r.input, r.master) == nil {
	}
}

// discard reads what nobody wants, lest the process wait for ever.
func (r *relay) discard() error {
	var buf [4096]byte
	_, err := r.master.Read(buf[:])
	return err
}

// copyOutput moves bytes to a file, which splice(2) doesn't append to.
func (r *relay) copyOutput() error {
	var buf [4096]byte
	n, err := r.master.Read(buf[:])
	if n > 0 {
		_, err = r.output.Write(buf[:n])
	}
	return err
}

func isPipe(f *os.File) (bool, error) {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeNamedPipe != 0, err
}

// readable says whether a read would not wait.
func readable(f *os.File) bool { return pollNow(f, unix.POLLIN) }

func pollNow(f *os.File, events int16) bool {
	raw, err := f.SyscallConn()
	if err != nil {
		return true
	}
	ready := true // an error shows when it is used
	_ = raw.Control(func(fd uintptr) { ready = pollFD(fd, events) })
	return ready
}

func pollFD(fd uintptr, events int16) bool {
	fds := []unix.PollFd{{Fd: int32(fd), Events: events}}
	for {
		n, err := unix.Poll(fds, 0)
		if err != unix.EINTR {
			return n != 0
		}
	}
}

// chunk is how much is moved at a time, in bytes.
const chunk = 64 << 10

// errEnd is the end of input.
var errEnd = errors.New("end of input")

// transfer moves some bytes from one file to the other, one of which is a pipe. It waits for the source to have some and for
// the target to have room.
func transfer(from, to *os.File) error {
	source, err := from.SyscallConn()
	if err != nil {
		return err
	}
	target, err := to.SyscallConn()
	if err != nil {
		return err
	}
	var moved int64
	var spliced error
	full := false
	// The descriptors stay open during the calls: Control and Read keep them.
	controlled := target.Control(func(out uintptr) {
		err = source.Read(func(in uintptr) bool {
			moved, spliced = unix.Splice(int(in), nil, int(out), nil, chunk, unix.SPLICE_F_NONBLOCK)
			if spliced == unix.EINTR {
				spliced = unix.EAGAIN
			}
			full = spliced == unix.EAGAIN && pollFD(in, unix.POLLIN)
			return spliced != unix.EAGAIN || full
		})
	})
	switch {
	case controlled != nil:
		return controlled
	case err != nil:
		return err
	case full:
		return target.Write(func(out uintptr) bool { return pollFD(out, unix.POLLOUT) })
	case spliced != nil:
		return spliced
	case moved == 0:
		return errEnd
	}
	return nil
}
