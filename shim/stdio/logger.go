package stdio

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"sort"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sock-runtime/sock/libsock"
)

// logger is a program that takes a process's output, containerd's binary:// scheme: it reads stdout and stderr as descriptors
// 3 and 4, says on 5 that it is ready, and knows the container from its environment.
type logger struct {
	pid            int
	start          uint64 // when it began, in clock ticks since boot
	pidfd          int
	stdout, stderr int // the ends to write to
}

const (
	// readyTimeout is how long the program may take to be ready.
	readyTimeout = 10 * time.Second
	// endTimeout is how long it may take to write what it has read, once it is told to end.
	endTimeout = 10 * time.Second
)

// loggerURI is name as a URI if it names a logging program, else nil.
func loggerURI(name string) *url.URL {
	if !strings.HasPrefix(name, "binary://") && !strings.HasPrefix(name, "binary-v2://") {
		return nil
	}
	u, err := url.Parse(name)
	if err != nil {
		return &url.URL{Scheme: "binary"} // without a path, which is an error
	}
	return u
}

// startLogger executes the program of a URI, with its query as arguments, and waits until it is ready.
func startLogger(u *url.URL, p Process) (_ *logger, err error) {
	if u.Path == "" {
		return nil, fmt.Errorf("%s names no program", u)
	}
	var args []string
	query := u.Query()
	keys := make([]string, 0, len(query))
	for k := range query {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	for _, k := range keys {
		args = append(args, k, query.Get(k))
	}
	var files []*os.File
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	for range 3 {
		r, w, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		files = append(files, r, w)
	}
	cmd := exec.Command(u.Path, args...)
	cmd.Env = []string{"CONTAINER_ID=" + p.ID, "CONTAINER_NAMESPACE=" + p.Namespace}
	cmd.ExtraFiles = []*os.File{files[0], files[2], files[5]}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go func() { _ = cmd.Wait() }()
	l := &logger{pid: cmd.Process.Pid, pidfd: -1, stdout: -1, stderr: -1}
	defer func() {
		if err != nil {
			_ = cmd.Process.Kill()
			l.close()
		}
	}()
	if l.pidfd, l.start, err = libsock.OpenProcess(l.pid, 0); err != nil {
		return nil, fmt.Errorf("%s has ended before it was ready (%v)", u.Path, err)
	}
	files[5].Close()
	_ = files[4].SetReadDeadline(time.Now().Add(readyTimeout))
	switch n, err := files[4].Read(make([]byte, 1)); {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, fmt.Errorf("%s is not ready after %s", u.Path, readyTimeout)
	case err != nil && err != io.EOF:
		return nil, err
	case n == 0 && u.Scheme == "binary-v2": // there the end of file means that it died
		return nil, fmt.Errorf("%s has ended before it was ready", u.Path)
	}
	for i, fd := range []*int{&l.stdout, &l.stderr} {
		if *fd, err = unix.FcntlInt(files[2*i+1].Fd(), unix.F_DUPFD_CLOEXEC, 3); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// findLogger is a program that an earlier worker started, nil if it has ended.
func findLogger(pid int, start uint64) *logger {
	pidfd, start, err := libsock.OpenProcess(pid, start)
	if err != nil {
		return nil
	}
	return &logger{pid: pid, start: start, pidfd: pidfd, stdout: -1, stderr: -1}
}

// takePipes gives the ends to write to to the caller.
func (l *logger) takePipes() (stdout, stderr int) {
	stdout, stderr = l.stdout, l.stderr
	l.stdout, l.stderr = -1, -1
	return stdout, stderr
}

// end tells the program to end and waits for it. It has seen the end of its input already, unless a process of the
// container's still has the other end.
func (l *logger) end() {
	if l.pidfd < 0 {
		return
	}
	defer l.close()
	for _, how := range []struct {
		signal unix.Signal
		wait   time.Duration
	}{{0, 100 * time.Millisecond}, {unix.SIGTERM, endTimeout}, {unix.SIGKILL, time.Second}} {
		_ = unix.PidfdSendSignal(l.pidfd, how.signal, nil, 0)
		for deadline := time.Now().Add(how.wait); ; {
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(l.pidfd), Events: unix.POLLIN}}, max(int(time.Until(deadline).Milliseconds()), 0))
			if n > 0 {
				return
			}
			if err != unix.EINTR {
				break
			}
		}
	}
}

func (l *logger) close() {
	for _, fd := range []*int{&l.pidfd, &l.stdout, &l.stderr} {
		if *fd >= 0 {
			_ = unix.Close(*fd)
		}
		*fd = -1
	}
}
