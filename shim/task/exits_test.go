package task

import (
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sock-runtime/sock/shim/link"
	"github.com/sock-runtime/sock/shim/reap"
)

// fakeLink remembers what was acknowledged.
type fakeLink struct {
	mu    sync.Mutex
	acked []int
}

func (l *fakeLink) Ack(e link.Exit) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.acked = append(l.acked, e.Pid)
	return nil
}

func (l *fakeLink) Listener(link.Kind) net.Listener   { return nil }
func (l *fakeLink) Exits() <-chan link.Exit           { return nil }
func (l *fakeLink) Hold(string, int) error            { return nil }
func (l *fakeLink) Drop(string) error                 { return nil }
func (l *fakeLink) HoldFIFO(_, _ string) func() error { return func() error { return nil } }
func (*fakeLink) Sync() error                         { return nil }
func (l *fakeLink) Held() map[string]*os.File         { return nil }
func (l *fakeLink) CloneParent() bool                 { return true }
func (l *fakeLink) Quit() error                       { return nil }
func (l *fakeLink) Upgrade(string) error              { return nil }
func (l *fakeLink) Done() <-chan struct{}             { return nil }

func ended(pid int, start uint64, status int) link.Exit {
	return link.Exit{Pid: pid, Start: start, Status: unix.WaitStatus(status << 8), At: reap.Now()}
}

func TestUnknownIsAcknowledged(t *testing.T) {
	l := &fakeLink{}
	x := newExits(l)
	x.handle(ended(5, 1, 0))
	if len(l.acked) != 1 || l.acked[0] != 5 {
		t.Errorf("acknowledged are %v", l.acked)
	}
}

// TestEarly has a process end before whoever cloned it knows its pid.
func TestEarly(t *testing.T) {
	l := &fakeLink{}
	x := newExits(l)
	var status unix.WaitStatus
	err := x.Launch(func() error {
		x.handle(ended(5, 1, 3)) // ours
		x.handle(ended(6, 1, 4)) // an orphan
		if len(l.acked) != 0 {
			t.Errorf("acknowledged are %v", l.acked)
		}
		x.Expect(5, 0)
		return nil
	})
	if err != nil || len(l.acked) != 1 || l.acked[0] != 6 {
		t.Errorf("%v, acknowledged are %v", err, l.acked)
	}
	if status, err = x.Wait(5); err != nil || status.ExitStatus() != 3 {
		t.Errorf("ended with %v, %v", status, err)
	}
	if len(l.acked) != 2 {
		t.Errorf("acknowledged are %v", l.acked)
	}
	if _, err := x.Wait(5); err != unix.ECHILD {
		t.Errorf("waited twice: %v", err)
	}
}

// TestPidUsedAgain has the end of an earlier process with the same pid arrive late.
func TestPidUsedAgain(t *testing.T) {
	l := &fakeLink{}
	x := newExits(l)
	old := ended(5, 100, 1)
	time.Sleep(time.Millisecond)
	got := make(chan link.Exit, 2)
	if err := x.Launch(func() error { x.Expect(5, 200); return nil }); err != nil {
		t.Fatal(err)
	}
	x.watch(5, 200, func(e link.Exit) { got <- e })
	x.handle(old)
	if len(got) != 0 || len(l.acked) != 1 {
		t.Errorf("taken for another's, acknowledged are %v", l.acked)
	}
	x.handle(ended(5, 200, 2))
	if e := <-got; e.Status.ExitStatus() != 2 {
		t.Errorf("ended with %v", e.Status)
	}
	if len(x.expected) != 0 {
		t.Errorf("left: %v", x.expected)
	}

	// The start time can't be known of one that is gone at once; then the time of the clone decides.
	old = ended(7, 100, 1)
	time.Sleep(time.Millisecond)
	if err := x.Launch(func() error { x.Expect(7, 0); x.handle(old); x.handle(ended(7, 300, 2)); return nil }); err != nil {
		t.Fatal(err)
	}
	if status, err := x.Wait(7); err != nil || status.ExitStatus() != 2 {
		t.Errorf("ended with %v, %v", status, err)
	}
}

// TestTwoWithOnePid expects a process whose pid an earlier one had, whose end has not arrived yet.
func TestTwoWithOnePid(t *testing.T) {
	x := newExits(&fakeLink{})
	first, second := make(chan link.Exit, 1), make(chan link.Exit, 1)
	_ = x.Launch(func() error { x.Expect(5, 100); return nil })
	x.watch(5, 100, func(e link.Exit) { first <- e })
	_ = x.Launch(func() error { x.Expect(5, 200); return nil })
	x.handle(ended(5, 100, 1))
	x.handle(ended(5, 200, 2))
	x.watch(5, 200, func(e link.Exit) { second <- e }) // late, but not too late
	if e := <-first; e.Status.ExitStatus() != 1 {
		t.Errorf("the first ended with %v", e.Status)
	}
	if e := <-second; e.Status.ExitStatus() != 2 {
		t.Errorf("the second ended with %v", e.Status)
	}
}
