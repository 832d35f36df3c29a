package libsock

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/sock-runtime/sock/libsock/exe"
	"github.com/sock-runtime/sock/libsock/host"
	"github.com/sock-runtime/sock/libsock/plan"
	"github.com/sock-runtime/sock/libsock/state"
	"github.com/sock-runtime/sock/libsock/stub"
)

// child is a process that a plan made, before it executes.
type child struct {
	pid, pidfd int
	start      uint64 // clock ticks since boot; 0: unknown, as it has ended
	sync       int    // our end of the socket to it
	plan       *plan.Plan
	program    *stub.Program
	reaper     Reaper // nil: we wait for it ourselves
	reaped     bool
}

// launch carries out the plan's host steps and clones the child, which starts on its lines at once, and the steps that the
// child waits for. The descriptors of h are closed when it returns. preserve is the number of the caller's descriptors
// from 3 on that the child keeps; seen says who can see it.
func (r *Runtime) launch(p *plan.Plan, h *host.Host, preserve int, seen visibility) (*child, error) {
	defer h.Close()
	if err := h.Do(p.Host); err != nil {
		return nil, err
	}
	if !p.Clone.Dumpable {
		// The child inherits this: from its first moment on nobody in the container's namespaces can look into it, proc(5).
		if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
			return nil, fmt.Errorf("make this process undumpable: %w", err)
		}
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socket to the child: %w", err)
	}
	h.Keep("sync", pair[1])
	c := &child{sync: pair[0], plan: p, reaper: r.Reaper}
	err = r.launching(func() error {
		if err := c.clone(h, preserve, seen, r.CloneParent); err != nil {
			_ = unix.Close(pair[0])
			return err
		}
		err := c.furnish(h)
		if err != nil {
			c.kill()
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return c, nil
}

// furnish does what the child waits for at once: the plan's steps; it is found where another one cloned it; its id maps.
func (c *child) furnish(h *host.Host) error {
	if len(c.plan.After) > 0 {
		h.Child = c.pid
		if err := h.Do(c.plan.After); err != nil {
			return err
		}
		if err := c.send(1); err != nil {
			return err
		}
	}
	if c.plan.Clone.Again {
		if err := c.adopt(); err != nil {
			return err
		}
		if err := h.Do(c.plan.Late); err != nil {
			return err
		}
	}
	if c.plan.Maps != nil {
		if err := host.SetMaps(c.pid, c.plan.Maps); err != nil {
			return c.elseWhy(err)
		}
	}
	if c.plan.Waits() {
		return c.send(1)
	}
	return nil
}

// ownLines are the child's lines that no plan asks for: it lets go of our file, and closes what is ours.
const ownLines = 2

func (c *child) clone(h *host.Host, preserve int, seen visibility, parent bool) error {
	lines := make([][]stub.Instr, ownLines, ownLines+len(c.plan.Child))
	for _, l := range c.plan.Child {
		lines = append(lines, l.Ops)
	}
	used := stub.Descriptors(lines)
	if used["spare"] {
		fd, err := unix.FcntlInt(uintptr(c.sync), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			return fmt.Errorf("spare descriptor: %w", err)
		}
		h.Keep("spare", fd)
	}
	fds := h.Descriptors()
	if seen != hidden {
		var err error
		if lines[0], err = exe.Child(seen == watched); err != nil {
			return err
		}
	}
	lines[1] = closeOthers(used, fds, preserve)
	program, err := stub.Compile(lines, fds, fds["sync"])
	if err != nil {
		return err
	}
	how := stub.Clone{Flags: c.plan.Clone.Flags, PIDNamespace: -1, Cgroup: -1, Parent: parent}
	if name := c.plan.Clone.PID; name != "" {
		how.PIDNamespace = fds[name]
	}
	if name := c.plan.Clone.IntoCgroup; name != "" {
		how.Cgroup = fds[name]
	}
	c.program = program
	c.pid, c.pidfd, err = program.Start(how)
	if err == nil {
		c.born()
	}
	return err
}

// born notes when the process began, and has the reaper expect its end.
func (c *child) born() {
	c.start, _ = state.StartTime(c.pid)
	if c.reaper != nil {
		c.reaper.Expect(c.pid, c.start)
	}
}

// closeOthers closes all of the parent's descriptors that no line uses: they are gone, not only marked, while the child
// waits (CVE-2024-21626).
func closeOthers(used map[string]bool, fds map[string]int, preserve int) []stub.Instr {
	var keep []int
	for name := range used {
		if fd, ok := fds[name]; ok {
			keep = append(keep, fd)
		}
	}
	slices.Sort(keep)
	var gaps []stub.Instr
	gap := func(from, to uint) {
		if from <= to {
			gaps = append(gaps, stub.Instr{Sys: unix.SYS_CLOSE_RANGE, Args: []stub.Arg{stub.Int(from), stub.Int(to), stub.Int(0)}})
		}
	}
	next := uint(3 + preserve)
	for _, fd := range keep {
		if uint(fd) >= next {
			if uint(fd) > next {
				gap(next, uint(fd)-1)
			}
			next = uint(fd) + 1
		}
	}
	gap(next, uint(^uint32(0)))
	return gaps
}

// errGone is what await returns when the child closed its socket: it has executed, or it died without a word.
var errGone = errors.New("the process is gone")

// await reads the child's next record. Errors: errGone, or what the plan says of the instruction that failed.
func (c *child) await() (stub.Record, error) {
	record, err := readRecord(c.sync)
	if err != nil {
		return record, err
	}
	if record.Failed() {
		return record, c.explain(record)
	}
	return record, nil
}

// explain turns a failure record into the error of its plan line.
func (c *child) explain(r stub.Record) error {
	line := c.program.Line(r) - ownLines
	if line < 0 {
		return fmt.Errorf("let go of the program's file: %w", r.Errno)
	}
	return errors.New(c.plan.Child[line].Explains(r.Errno))
}

// elseWhy is the child's own error if it has failed, which is why we did, or else err.
func (c *child) elseWhy(err error) error {
	if late, _ := waitReadable(c.sync, 0); late {
		return err
	}
	if _, failed := c.await(); failed != nil && failed != errGone {
		return failed
	}
	return err
}

// adopt takes the place of the child that was cloned by the one that was cloned for it: it becomes the child that we wait for.
func (c *child) adopt() error {
	record, err := c.await()
	if err != nil {
		return err
	}
	if record.Event != stub.Cloned {
		return fmt.Errorf("unexpected record %#x from the child", record.Event)
	}
	if _, err := c.wait(); err != nil {
		return fmt.Errorf("wait for the child that made another: %w", err)
	}
	_ = unix.Close(c.pidfd)
	c.pid, c.reaped = int(record.Errno), false
	c.born()
	if c.pidfd, err = unix.PidfdOpen(c.pid, 0); err != nil { // it is our child, so its number is its own until we reap it (a reaper may be quicker, but numbers take long to come round)
		return fmt.Errorf("open the child's child: %w", err)
	}
	return nil
}

func readRecord(fd int) (stub.Record, error) {
	buf := make([]byte, stub.RecordSize)
	for got := 0; got < len(buf); {
		n, err := unix.Read(fd, buf[got:])
		switch {
		case err == unix.EINTR:
		case err == unix.ECONNRESET, err == nil && n == 0 && got == 0:
			return stub.Record{}, errGone
		case err != nil:
			return stub.Record{}, fmt.Errorf("read from the child: %w", err)
		case n == 0:
			return stub.Record{}, fmt.Errorf("read from the child: %w", io.ErrUnexpectedEOF)
		default:
			got += n
		}
	}
	return stub.DecodeRecord(buf)
}

// send lets the child go on, once for each byte that it waits for.
func (c *child) send(bytes int) error {
	_, err := unix.SendmsgN(c.sync, make([]byte, bytes), nil, nil, unix.MSG_NOSIGNAL)
	if err == unix.EPIPE {
		return nil // it failed; its record says why
	}
	if err != nil {
		return fmt.Errorf("write to the child: %w", err)
	}
	return nil
}

// kill ends the child and reaps it.
func (c *child) kill() {
	_ = unix.PidfdSendSignal(c.pidfd, unix.SIGKILL, nil, 0)
	_, _ = c.wait()
	c.close()
}

// wait reaps the child.
func (c *child) wait() (unix.WaitStatus, error) {
	if c.reaped {
		return 0, unix.ECHILD
	}
	c.reaped = true
	if c.reaper != nil {
		return c.reaper.Wait(c.pid)
	}
	var status unix.WaitStatus
	for {
		_, err := unix.Wait4(c.pid, &status, 0, nil)
		if err != unix.EINTR {
			return status, err
		}
	}
}

func (c *child) close() {
	_ = unix.Close(c.pidfd)
	_ = unix.Close(c.sync)
}

// exitStatus is a process's status as a shell gives it: 128 and the signal's number for one that a signal ended.
func exitStatus(s unix.WaitStatus) int {
	if s.Signaled() {
		return 128 + int(s.Signal())
	}
	return s.ExitStatus()
}
