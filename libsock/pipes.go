package libsock

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// pipes stand between a process in the foreground and those of our stdio that would have to be given to its user, while they
// are files or terminals of our caller's: those stay as they are. runc has pipes always.
type pipes struct {
	stdio   Stdio
	inner   []int       // the process's ends
	outer   [3]*os.File // ours
	copying sync.WaitGroup
}

// openPipes makes them for a process whose user is uid on the host; nil if none are needed.
func openPipes(p *specs.Process, uid int64) (*pipes, error) {
	if p.Terminal {
		return nil, nil
	}
	foreign, _ := (*Stdio)(nil).sort(uid)
	foreign = slices.DeleteFunc(foreign, isPipe)
	if len(foreign) == 0 {
		return nil, nil
	}
	s := &pipes{stdio: Stdio{0, 1, 2}}
	for _, fd := range foreign {
		var pair [2]int
		if err := unix.Pipe2(pair[:], unix.O_CLOEXEC); err != nil {
			s.close()
			return nil, fmt.Errorf("pipe: %w", err)
		}
		ours, theirs := pair[0], pair[1]
		if fd == 0 {
			ours, theirs = theirs, ours
		}
		if uid != nobody {
			_ = unix.Fchown(theirs, int(uid), -1) // the child can't in a user namespace that doesn't know us
		}
		_ = unix.SetNonblock(ours, true) // for the poller
		s.inner, s.outer[fd], s.stdio[fd] = append(s.inner, theirs), os.NewFile(uintptr(ours), "pipe"), theirs
	}
	return s, nil
}

// isPipe tells an unnamed pipe, which is no file of anybody's.
func isPipe(fd int) bool {
	var fs unix.Statfs_t
	return unix.Fstatfs(fd, &fs) == nil && fs.Type == unix.PIPEFS_MAGIC
}

// files are what the process gets in place of our stdio.
func (s *pipes) files() *Stdio {
	if s == nil {
		return nil
	}
	return &s.stdio
}

// copy begins to copy, once the process has its ends.
func (s *pipes) copy() {
	if s == nil {
		return
	}
	s.closeInner()
	if in := s.outer[0]; in != nil {
		go func() {
			_, _ = io.Copy(in, os.Stdin)
			_ = in.Close()
		}()
	}
	for fd, own := range map[int]*os.File{1: os.Stdout, 2: os.Stderr} {
		if out := s.outer[fd]; out != nil {
			s.copying.Go(func() { copyAll(own, out) })
		}
	}
}

// copyAll copies until the last writer has closed the pipe or, after its deadline, nothing more is in it.
func copyAll(to, from *os.File) {
	defer from.Close() // else a writer would wait for ever, if we can't write
	if _, err := io.Copy(to, from); !errors.Is(err, os.ErrDeadlineExceeded) {
		return
	}
	raw, err := from.SyscallConn()
	if err != nil {
		return
	}
	_ = from.SetReadDeadline(time.Time{})
	for buf := make([]byte, 64<<10); ; {
		n := 0
		err = raw.Read(func(fd uintptr) bool {
			n, _ = unix.Read(int(fd), buf)
			return true // it doesn't block
		})
		if err != nil || n <= 0 {
			return
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

// finish copies what the process, which has ended, wrote last. It doesn't wait for others that have the pipes.
func (s *pipes) finish() {
	if s == nil {
		return
	}
	for _, out := range s.outer[1:] {
		if out != nil {
			_ = out.SetReadDeadline(time.Now())
		}
	}
	s.copying.Wait()
	s.close()
}

func (s *pipes) closeInner() {
	for _, fd := range s.inner {
		_ = unix.Close(fd)
	}
	s.inner = nil
}

// close closes what is open.
func (s *pipes) close() {
	if s == nil {
		return
	}
	s.closeInner()
	for _, f := range s.outer {
		if f != nil {
			_ = f.Close()
		}
	}
}
