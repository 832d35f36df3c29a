// Package inprocess uses the library as the shim does: many containers at once, in one process that lives on.
package inprocess

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/sock-runtime/sock/libsock"
	. "github.com/sock-runtime/sock/tests/sandbox"
)

func TestMain(m *testing.M) { os.Exit(Main(m)) }

func runtimeOf(s *Sandbox) *libsock.Runtime {
	return &libsock.Runtime{Root: s.Root, Log: slog.New(slog.NewTextHandler(os.Stderr, nil))}
}

// pipes are a process's stdio.
type pipes struct {
	out, err *os.File // our ends
	stdio    *libsock.Stdio
	ends     []*os.File // the process's
}

func newPipes(t *testing.T) *pipes {
	t.Helper()
	null, err := os.Open("/dev/null")
	Must(t, err)
	p := &pipes{ends: []*os.File{null}}
	for _, mine := range []**os.File{&p.out, &p.err} {
		r, w, err := os.Pipe()
		Must(t, err)
		*mine = r
		p.ends = append(p.ends, w)
		t.Cleanup(func() { r.Close() })
	}
	p.stdio = &libsock.Stdio{int(p.ends[0].Fd()), int(p.ends[1].Fd()), int(p.ends[2].Fd())}
	return p
}

// started closes what the process has by now.
func (p *pipes) started() {
	for _, f := range p.ends {
		f.Close()
	}
}

// says reads what must come, and no more.
func (*pipes) says(f *os.File, text string) error {
	got := make([]byte, len(text))
	if n, err := io.ReadFull(f, got); err != nil || string(got) != text {
		return fmt.Errorf("got %q (%v), want %q", got[:n], err, text)
	}
	return nil
}

// expect reads to the end.
func (p *pipes) expect(stdout, stderr string) error {
	out, _ := io.ReadAll(p.out)
	text, _ := io.ReadAll(p.err)
	if string(out) != stdout || string(text) != stderr {
		return fmt.Errorf("got %q and %q, want %q and %q", out, text, stdout, stderr)
	}
	return nil
}

func wait(pid int) (unix.WaitStatus, error) {
	var status unix.WaitStatus
	for {
		if _, err := unix.Wait4(pid, &status, 0, nil); err != unix.EINTR {
			return status, err
		}
	}
}

// life is one container from create to delete, with an exec.
func life(r *libsock.Runtime, bundle, id string, init, exec *pipes) error {
	c, err := r.Create(libsock.CreateOptions{ID: id, Bundle: bundle, Stdio: init.stdio})
	init.started()
	if err != nil {
		return err
	}
	if err := c.Start(); err != nil {
		return err
	}
	pid, start := c.Pid()
	if pid == 0 || start == 0 {
		return fmt.Errorf("init is %d of %d", pid, start)
	}
	process := c.Process()
	process.Args = []string{"sh", "-c", "echo " + id + " executes; echo " + id + " complains >&2; exit 7"}
	p, err := c.Copy().StartProcess(libsock.ExecOptions{Process: process, Stdio: exec.stdio}, func(*libsock.Process) error { return nil })
	exec.started()
	if err != nil {
		return err
	}
	defer unix.Close(p.PidFD)
	if err := exec.expect(id+" executes\n", id+" complains\n"); err != nil {
		return err
	}
	if status, err := wait(p.Pid); err != nil || status.ExitStatus() != 7 {
		return fmt.Errorf("exec ended with %v, %v", status, err)
	}
	if err := init.says(init.out, id+"\n"); err != nil {
		return err
	}
	if err := init.says(init.err, id+"!\n"); err != nil {
		return err
	}
	if err := c.Kill(unix.SIGKILL, false); err != nil {
		return err
	}
	if status, err := wait(pid); err != nil || status.Signal() != unix.SIGKILL {
		return fmt.Errorf("init ended with %v, %v", status, err)
	}
	if err := init.expect("", ""); err != nil {
		return err
	}
	return c.Delete(false)
}

func TestManyAtOnce(t *testing.T) {
	s := NewSandbox(t)
	r := runtimeOf(s)
	const workers, lives = 8, 5
	before := len(Descriptors(t, os.Getpid()))
	var all sync.WaitGroup
	for w := range workers {
		id := fmt.Sprintf("box%d", w)
		b := s.Bundle(Script("hostname; hostname | sed 's/$/!/' >&2; exec sleep 1000"), func(c *specs.Spec) {
			c.Hostname = id
			c.Linux.CgroupsPath = "/" + s.Mark + "/" + id
		})
		stdio := make([]*pipes, 2*lives)
		for i := range stdio {
			stdio[i] = newPipes(t)
		}
		all.Go(func() {
			for i := range lives {
				if err := life(r, b.Dir, id, stdio[2*i], stdio[2*i+1]); err != nil {
					t.Errorf("%s, life %d: %v", id, i, err)
					return
				}
			}
		})
	}
	all.Wait()
	for _, dir := range s.Cgroups() { // the common parent
		_ = RemoveCgroup(dir)
	}
	if open := len(Descriptors(t, os.Getpid())); open > before+2*2*workers*lives+8 {
		t.Errorf("%d descriptors are open, %d were before", open, before)
	}
}

// TestSameID has many create one container: one succeeds.
func TestSameID(t *testing.T) {
	s := NewSandbox(t)
	r, b := runtimeOf(s), s.Bundle()
	var all sync.WaitGroup
	made := make(chan *libsock.Container, 8)
	for range cap(made) {
		all.Go(func() {
			c, err := r.Create(libsock.CreateOptions{ID: "box", Bundle: b.Dir})
			if err == nil {
				made <- c
			} else if !errors.Is(err, libsock.ErrExists) {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if len(made) != 1 {
		t.Fatalf("%d were made", len(made))
	}
	c := <-made
	pid, _ := c.Pid()
	Must(t, c.Delete(true))
	_, _ = wait(pid)
}

// TestCopies uses one container from many goroutines.
func TestCopies(t *testing.T) {
	s := NewSandbox(t)
	c, err := runtimeOf(s).Create(libsock.CreateOptions{ID: "box", Bundle: s.Bundle().Dir})
	Must(t, err)
	pid, _ := c.Pid()
	Must(t, c.Copy().Start())
	var all sync.WaitGroup
	for _, do := range []func(*libsock.Container) error{
		func(c *libsock.Container) error { _, err := c.Status(); return err },
		func(c *libsock.Container) error { _, err := c.Stats(); return err },
		func(c *libsock.Container) error { _, err := c.Pids(); return err },
		func(c *libsock.Container) error { return c.Kill(unix.SIGCONT, false) },
		func(c *libsock.Container) error { return c.Update(&specs.LinuxResources{}) },
		func(c *libsock.Container) error { return errors.Join(c.Pause(), c.Resume()) },
	} {
		copied := c.Copy()
		all.Go(func() {
			for range 10 {
				if err := do(copied); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	Must(t, c.Delete(true))
	_, _ = wait(pid)
}

func TestConsoleStays(t *testing.T) {
	s := NewSandbox(t)
	b := s.Bundle(WithTerminal, Script("read line; echo got $line; exec sleep 1000"))
	c, err := runtimeOf(s).Create(libsock.CreateOptions{ID: "box", Bundle: b.Dir, KeepConsole: true})
	Must(t, err)
	pid, _ := c.Pid()
	console := os.NewFile(uintptr(c.TakeConsole()), "console")
	defer console.Close()
	Equal(t, "the second console", c.TakeConsole(), -1)
	Must(t, c.Start())
	talk(t, console)

	process := c.Process()
	process.Args = []string{"sh", "-c", "read line; echo got $line"}
	recorded := false
	p, err := c.StartProcess(libsock.ExecOptions{Process: process}, func(p *libsock.Process) error {
		recorded = true
		if comm := ReadFile(fmt.Sprintf("/proc/%d/comm", p.Pid)); strings.HasPrefix(comm, "sh") || p.Console < 0 {
			t.Errorf("recorded with console %d when it is %s already", p.Console, comm)
		}
		return nil
	})
	Must(t, err)
	Equal(t, "recorded", recorded, true)
	defer unix.Close(p.PidFD)
	second := os.NewFile(uintptr(p.Console), "console")
	defer second.Close()
	talk(t, second)
	_, err = wait(p.Pid)
	Must(t, err)
	Must(t, c.Delete(true))
	_, _ = wait(pid)
}

// talk says a line to a console and reads its echo and the answer.
func talk(t *testing.T, console *os.File) {
	t.Helper()
	_, err := console.WriteString("hello\n")
	Must(t, err)
	Must(t, console.SetReadDeadline(time.Now().Add(SettleTimeout)))
	var text bytes.Buffer
	for buf := make([]byte, 100); !strings.Contains(text.String(), "got hello\r\n"); {
		n, err := console.Read(buf)
		if err != nil {
			t.Fatalf("%v after %q", err, text.String())
		}
		text.Write(buf[:n])
	}
}

// TestFailedRecord checks that a process whose pid could not be recorded never executes.
func TestFailedRecord(t *testing.T) {
	s := NewSandbox(t)
	c, err := runtimeOf(s).Create(libsock.CreateOptions{ID: "box", Bundle: s.Bundle(Writable).Dir})
	Must(t, err)
	pid, _ := c.Pid()
	Must(t, c.Start())
	process := c.Process()
	process.Args = []string{"touch", "/tmp/executed"}
	full := errors.New("disk full")
	var left int
	_, err = c.StartProcess(libsock.ExecOptions{Process: process}, func(p *libsock.Process) error {
		left = p.Pid
		return full
	})
	if err == nil || !strings.Contains(err.Error(), full.Error()) {
		t.Errorf("error is %v", err)
	}
	if Alive(left) {
		t.Errorf("process %d is left", left)
	}
	status, err := c.Status()
	Must(t, err)
	if _, err := os.Stat(filepath.Join(status.Rootfs, "tmp/executed")); err == nil {
		t.Error("it has executed")
	}
	Must(t, c.Delete(true))
	_, _ = wait(pid)
}

// reaper checks how it is used; the ends themselves it gets from wait.
type reaper struct {
	*testing.T
	wait      func(pid int) (unix.WaitStatus, error)
	mutex     sync.Mutex
	launching int
	expected  map[int]bool
}

func (r *reaper) Launch(clone func() error) error {
	r.mutex.Lock()
	r.launching++
	r.mutex.Unlock()
	err := clone()
	r.mutex.Lock()
	r.launching--
	r.mutex.Unlock()
	return err
}

func (r *reaper) Expect(pid int, startTime uint64) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if r.launching == 0 {
		r.Errorf("process %d is expected when nothing is launched", pid)
	}
	if startTime == 0 && Alive(pid) { // a hook may have ended and been reaped already, if our parent does that
		r.Errorf("nobody knows when process %d began", pid)
	}
	r.expected[pid] = true
}

func (r *reaper) Wait(pid int) (unix.WaitStatus, error) {
	r.mutex.Lock()
	if !r.expected[pid] {
		r.Errorf("process %d is waited for and was never expected", pid)
	}
	delete(r.expected, pid)
	r.mutex.Unlock()
	return r.wait(pid)
}

// vanished stands in for the wait of another process: our parent, which reaps (see the sandbox) and tells nobody.
func vanished(pid int) (unix.WaitStatus, error) {
	for unix.Kill(pid, 0) == nil {
		time.Sleep(time.Millisecond)
	}
	return 0, nil
}

func TestReaper(t *testing.T) {
	for _, parent := range []bool{false, true} {
		t.Run(fmt.Sprint("parent ", parent), func(t *testing.T) {
			s := NewSandbox(t)
			r, waiter := runtimeOf(s), &reaper{T: t, wait: wait, expected: map[int]bool{}}
			r.Reaper = waiter
			owner := os.Getpid()
			if parent {
				r.CloneParent, owner, waiter.wait = true, os.Getppid(), vanished
			}
			for name, b := range map[string]Bundle{
				"plain": s.Bundle(WithHook("createContainer", "true")),
				"user":  s.UserBundle(),
			} {
				c, err := r.Create(libsock.CreateOptions{ID: name, Bundle: b.Dir})
				Must(t, err)
				pid, _ := c.Pid()
				Must(t, c.Start())
				Equal(t, "init's parent", Atoi(StatusField(ReadFile(fmt.Sprintf("/proc/%d/status", pid)), "PPid")), owner)
				p, err := c.StartProcess(libsock.ExecOptions{Process: c.Process()}, func(*libsock.Process) error { return nil })
				Must(t, err)
				Equal(t, "exec's parent", Atoi(StatusField(ReadFile(fmt.Sprintf("/proc/%d/status", p.Pid)), "PPid")), owner)
				Must(t, unix.Close(p.PidFD))
				if len(waiter.expected) != 2 || !waiter.expected[pid] || !waiter.expected[p.Pid] {
					t.Errorf("expected are %v, not only %d and %d", waiter.expected, pid, p.Pid)
				}
				Must(t, c.Kill(unix.SIGKILL, false))
				for _, pid := range []int{p.Pid, pid} { // init can't end before the other is reaped, pid_namespaces(7)
					_, err := waiter.Wait(pid)
					Must(t, err)
				}
				Must(t, c.Delete(false))
			}
			b := s.Bundle(Args("missing"))
			if _, err := r.Create(libsock.CreateOptions{ID: "bad", Bundle: b.Dir}); err == nil {
				t.Error("there is no such executable")
			}
			if len(waiter.expected) != 0 {
				t.Errorf("after a failure %v are not waited for", waiter.expected)
			}
		})
	}
}
