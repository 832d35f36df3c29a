// Package stdio connects processes with what containerd names as their standard streams: FIFOs, files, a logging program, or
// nothing.
//
// A process gets descriptors of its own: no byte goes through the shim. Only a terminal's are moved by it, with splice(2), so
// that they are at any time in the terminal or in the FIFO and never in this process, which may be killed.
package stdio

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/sock-runtime/sock/libsock"
)

// Paths is what containerd asks for; an empty one is nothing.
type Paths struct {
	Stdin    string `json:"stdin,omitempty"`
	Stdout   string `json:"stdout,omitempty"`
	Stderr   string `json:"stderr,omitempty"`
	Terminal bool   `json:"terminal,omitempty"`
}

// Holder keeps descriptors across the death of this process: a link.Link.
type Holder interface {
	Hold(name string, fd int) error
	HoldFIFO(name, path string) (wait func() error)
	Drop(name string) error
	Sync() error
}

// Process says whose stdio it is.
type Process struct {
	Namespace string // containerd's, for logging programs
	ID        string // the container's
	Key       string // unique, in the names of held descriptors
	UID, GID  int    // owner of FIFOs and pipes
}

// IO is the stdio of one process.
type IO struct {
	paths   Paths
	process Process
	holder  Holder

	files  libsock.Stdio           // for a process without a terminal, until it has them
	logger *logger                 // nil: none
	relay  *relay                  // of a terminal, once it is attached
	held   map[string]func() error // waits until a FIFO is held

	end    sync.Mutex
	closed chan struct{} // closed by Close
}

// Names of what is held for a process.
const (
	heldStdin   = "stdin"  // stdin's FIFO, both ways: until CloseIO there is no end of file, and nobody writes in vain
	heldStdout  = "stdout" // stdout's, both ways: no SIGPIPE when nobody else reads, and no end for readers before its time
	heldStderr  = "stderr"
	heldInput   = "input" // a reader of stdin's FIFO, for a terminal
	heldConsole = "console"
)

var heldNames = []string{heldStdin, heldStdout, heldStderr, heldInput, heldConsole}

func (s *IO) name(what string) string { return s.process.Key + "/" + what }

func newIO(paths Paths, p Process, holder Holder) *IO {
	return &IO{
		paths: paths, process: p, holder: holder, files: libsock.Stdio{-1, -1, -1}, held: map[string]func() error{}, closed: make(chan struct{}),
	}
}

// Prepare has the FIFOs held that paths names; Open waits for that. They must be held before this process opens them: were it
// killed then, a reader would see the end of what has not begun.
func Prepare(paths Paths, p Process, holder Holder) *IO {
	s := newIO(paths, p, holder)
	for what, name := range map[string]string{heldStdin: paths.Stdin, heldStdout: paths.Stdout, heldStderr: paths.Stderr} {
		if path := fifoOf(name); path != "" && (what != heldStderr || !paths.Terminal) {
			s.held[what] = holder.HoldFIFO(s.name(what), path)
		}
	}
	return s
}

// fifoOf is the path of the FIFO of that name; "" if it is none.
func fifoOf(name string) string {
	if name == "" || loggerURI(name) != nil {
		return ""
	}
	path, err := localPath(name)
	if err != nil {
		return ""
	}
	if fifo, err := isFIFO(path); err != nil || !fifo {
		return ""
	}
	return path
}

// isHeld waits until a FIFO is held, and says whether that is one.
func (s *IO) isHeld(what string) (bool, error) {
	wait, ok := s.held[what]
	if !ok {
		return false, nil
	}
	return true, wait()
}

// Open opens what Prepare was told of, without ever waiting for the other side. Errors name the stream.
func (s *IO) Open() (err error) {
	paths, p := s.paths, s.process
	defer func() {
		if err != nil {
			s.Started()
			s.Close()
		}
	}()
	if paths.Terminal {
		return nil // Attach opens the rest
	}
	if s.files[0], err = s.openStdin(p); err != nil {
		return fmt.Errorf("open stdin: %w", err)
	}
	if u := loggerURI(paths.Stdout); u != nil {
		if s.logger, err = startLogger(u, p); err != nil {
			return fmt.Errorf("logging program: %w", err)
		}
		s.files[1], s.files[2] = s.logger.takePipes()
		return nil
	}
	stdout, stderr := paths.Stdout, paths.Stderr
	if strings.HasPrefix(stdout, "file://") { // one file for both
		stderr = stdout
	}
	if s.files[1], err = s.openOutput(stdout, heldStdout, p); err != nil {
		return fmt.Errorf("open stdout: %w", err)
	}
	if s.files[2], err = s.openOutput(stderr, heldStderr, p); err != nil {
		return fmt.Errorf("open stderr: %w", err)
	}
	return nil
}

// Stdio are the descriptors for the process; nil if it has a terminal.
func (s *IO) Stdio() *libsock.Stdio {
	if s.paths.Terminal {
		return nil
	}
	return &s.files
}

// Started closes what the process has by now.
func (s *IO) Started() {
	for i, fd := range s.files {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
		s.files[i] = -1
	}
}

func open(path string, flags int) (int, error) {
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC|unix.O_NOCTTY, 0o644)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return fd, nil
}

// isFIFO says whether there is a FIFO at path.
func isFIFO(path string) (bool, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return false, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	return st.Mode&unix.S_IFMT == unix.S_IFIFO, nil
}

// localPath is the path of a FIFO or file: plain, or as a URI.
func localPath(name string) (string, error) {
	if !strings.Contains(name, "://") {
		return name, nil
	}
	u, err := url.Parse(name)
	if err != nil {
		return "", err
	}
	if u.Scheme != "fifo" && u.Scheme != "file" {
		return "", fmt.Errorf("unknown scheme %q of %s", u.Scheme, name)
	}
	if u.Host != "" || !filepath.IsAbs(u.Path) {
		return "", fmt.Errorf("%s has no absolute path", name)
	}
	return u.Path, nil
}

// openStdin opens the end of stdin that the process reads, blocking as it expects.
func (s *IO) openStdin(p Process) (int, error) {
	if s.paths.Stdin == "" {
		return open("/dev/null", unix.O_RDONLY)
	}
	path, err := localPath(s.paths.Stdin)
	if err != nil {
		return -1, err
	}
	return s.openEnd(path, heldStdin, unix.O_RDONLY, p)
}

// openEnd opens the process's end of a FIFO that is held, blocking as it expects, and makes it its owner's. What is no FIFO is
// opened alike.
func (s *IO) openEnd(path, what string, flags int, p Process) (int, error) {
	fifo, err := s.isHeld(what)
	if err != nil {
		return -1, err
	}
	if !fifo && flags == unix.O_WRONLY {
		flags |= unix.O_APPEND
	}
	fd, err := open(path, flags|unix.O_NONBLOCK)
	if err != nil {
		return -1, err
	}
	err = unix.SetNonblock(fd, false)
	if err == nil && fifo && (p.UID != 0 || p.GID != 0) {
		if err = unix.Fchown(fd, p.UID, p.GID); err != nil {
			err = fmt.Errorf("change owner of %s: %w", path, err)
		}
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// openOutput opens what the process writes to: the end of a FIFO, or a file, for appending. One that is named by URI is made.
func (s *IO) openOutput(name, what string, p Process) (int, error) {
	if name == "" {
		return open("/dev/null", unix.O_WRONLY)
	}
	path, err := localPath(name)
	if err != nil {
		return -1, err
	}
	if strings.HasPrefix(name, "file://") {
		return openFile(path)
	}
	return s.openEnd(path, what, unix.O_WRONLY, p)
}

func openFile(path string) (int, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return -1, err
	}
	return open(path, unix.O_WRONLY|unix.O_APPEND|unix.O_CREAT)
}

// CloseStdin lets the process see the end of its input once containerd closes its side.
func (s *IO) CloseStdin() error {
	if s.paths.Stdin == "" {
		return nil
	}
	return s.holder.Drop(s.name(heldStdin))
}

// Ended is for when the process has ended: what it wrote to a terminal last is moved, and whoever reads sees the end.
func (s *IO) Ended() {
	switch {
	case s.relay != nil:
		s.relay.finish()
	case s.logger == nil && !s.paths.Terminal:
		go s.leave(s.paths.Stdout, heldStdout)
		go s.leave(s.paths.Stderr, heldStderr)
	}
}

// Close waits, for a while, until everything is moved, and gives up all that is held.
func (s *IO) Close() {
	if s.relay != nil {
		s.relay.close()
	}
	s.end.Lock()
	defer s.end.Unlock()
	select {
	case <-s.closed:
		return
	default:
		close(s.closed)
	}
	var held []string
	if s.paths.Stdin != "" {
		held = append(held, heldStdin)
	}
	switch {
	case s.paths.Terminal:
		held = append(held, heldInput, heldStdout, heldConsole)
	case s.logger == nil:
		if s.paths.Stdout != "" {
			held = append(held, heldStdout)
		}
		if s.paths.Stderr != "" {
			held = append(held, heldStderr)
		}
	}
	for _, name := range held {
		_ = s.holder.Drop(s.name(name))
	}
	if s.logger != nil {
		s.logger.end()
	}
}

// Resize gives the terminal another size, in characters.
func (s *IO) Resize(width, height uint16) error {
	if s.relay == nil {
		return nil
	}
	return s.relay.resize(width, height)
}

// Logger is the logging program's pid and start time, 0 if there is none.
func (s *IO) Logger() (pid int, startTime uint64) {
	if s.logger == nil {
		return 0, 0
	}
	return s.logger.pid, s.logger.start
}

// Reopen is the stdio of a process that an earlier worker started. held is what the keeper kept, by name; what is this
// process's is taken out. logger is what Logger returned then.
func Reopen(paths Paths, p Process, holder Holder, held map[string]*os.File, loggerPid int, loggerStart uint64) *IO {
	s := newIO(paths, p, holder)
	if loggerPid != 0 {
		s.logger = findLogger(loggerPid, loggerStart)
	}
	if console := held[s.name(heldConsole)]; paths.Terminal && console != nil {
		s.relay = s.startRelay(console, held[s.name(heldInput)], held[s.name(heldStdout)])
		for _, what := range []string{heldConsole, heldInput, heldStdout} {
			delete(held, s.name(what))
		}
	}
	Forget(p, held)
	return s
}

// Forget closes our copies of what an earlier worker left of a process and what another attempt replaces.
func Forget(p Process, held map[string]*os.File) {
	s := &IO{process: p}
	for _, what := range heldNames {
		if f := held[s.name(what)]; f != nil {
			f.Close()
			delete(held, s.name(what))
		}
	}
}
