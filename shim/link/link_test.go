package link

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sock-runtime/sock/shim/wire"
)

// peer plays the keeper.
type peer struct {
	t      *testing.T
	socket int
	d      wire.Decoder
}

func (p *peer) send(m wire.Message) {
	p.t.Helper()
	b := wire.Append(nil, m)
	for len(b) > 0 {
		n, err := wire.Send(p.socket, b[:min(len(b), 100_000)], m.FD)
		if err != nil {
			p.t.Fatal(err)
		}
		b, m.FD = b[n:], -1
	}
}

func (p *peer) next() wire.Message {
	p.t.Helper()
	buf := make([]byte, 65536)
	for {
		m, ok, err := p.d.Next()
		if err != nil {
			p.t.Fatal(err)
		}
		if ok {
			return m
		}
		n, fds, err := wire.Receive(p.socket, buf)
		if err != nil || n == 0 {
			p.t.Fatalf("receive: %d, %v", n, err)
		}
		p.d.Feed(buf[:n], fds)
	}
}

func dial(t *testing.T, before ...wire.Message) (*peer, Link) {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	p := &peer{t: t, socket: pair[0]}
	t.Cleanup(func() {
		if p.socket >= 0 {
			_ = unix.Close(p.socket)
		}
	})
	for _, m := range before {
		p.send(m)
	}
	p.send(wire.Message{Kind: wire.Ready, FD: -1})
	l, err := Dial(pair[1])
	if err != nil {
		t.Fatal(err)
	}
	return p, l
}

func TestHeld(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	p, l := dial(t, wire.Message{Kind: wire.Held, Payload: []byte("stdin of a"), FD: int(w.Fd())})
	_ = w.Close()
	held := l.Held()["stdin of a"]
	if held == nil || len(l.Held()) != 1 {
		t.Fatalf("held: %v", l.Held())
	}
	_, _ = held.WriteString("x")
	if err := l.Hold("again", int(held.Fd())); err != nil {
		t.Fatal(err)
	}
	m := p.next()
	if m.Kind != wire.Hold || string(m.Payload) != "again" {
		t.Fatalf("got %+v", m)
	}
	if n, err := unix.Write(m.FD, []byte("y")); n != 1 || err != nil {
		t.Fatal(err)
	}
	_, _ = unix.Close(m.FD), held.Close()
	if all, err := io.ReadAll(r); string(all) != "xy" || err != nil {
		t.Fatalf("read %q, %v", all, err)
	}
	synced := make(chan error)
	go func() { synced <- l.Sync() }()
	echo := p.next()
	if echo.Kind != wire.Sync {
		t.Fatalf("got %+v", echo)
	}
	select {
	case err := <-synced:
		t.Fatalf("synchronous without an answer: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	p.send(echo)
	if err := <-synced; err != nil {
		t.Fatal(err)
	}
	if err := l.Drop("again"); err != nil {
		t.Fatal(err)
	}
	if m := p.next(); m.Kind != wire.Drop || string(m.Payload) != "again" {
		t.Fatalf("got %+v", m)
	}
}

// TestConnection answers frames that are written in pieces, and ends.
func TestConnection(t *testing.T) {
	p, l := dial(t)
	p.send(wire.Message{Kind: wire.Open, Conn: 7, Payload: []byte{byte(Control)}, FD: -1})
	p.send(wire.Message{Kind: wire.Open, Conn: 8, Payload: []byte{byte(Task)}, FD: -1})
	request := wire.AppendFrame(nil, 1, wire.Request, bytes.Repeat([]byte("q"), wire.MaxFrame))
	p.send(wire.Message{Kind: wire.Frame, Conn: 8, Payload: request, FD: -1})
	p.send(wire.Message{Kind: wire.Frame, Conn: 999, Payload: request[:20], FD: -1}) // of one that was closed

	task, err := l.Listener(Task).Accept()
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(request))
	if _, err := io.ReadFull(task, got); err != nil || !bytes.Equal(got, request) {
		t.Fatal("the request is another", err)
	}
	answer := wire.AppendFrame(nil, 1, wire.Response, []byte("abcdef"))
	both := wire.AppendFrame(answer, 3, wire.Response, nil)
	for i, b := range both {
		if i == len(answer)+5 {
			break
		}
		if n, err := task.Write([]byte{b}); n != 1 || err != nil {
			t.Fatal(err)
		}
	}
	if m := p.next(); m.Kind != wire.Frame || m.Conn != 8 || !bytes.Equal(m.Payload, answer) {
		t.Fatalf("got %+v", m)
	}
	if _, err := task.Write(both[len(answer)+5:]); err != nil {
		t.Fatal(err)
	}
	if m := p.next(); m.Conn != 8 || wire.Stream(m.Payload) != 3 {
		t.Fatalf("got %+v", m)
	}

	p.send(wire.Message{Kind: wire.Close, Conn: 8, FD: -1})
	if n, err := task.Read(got); n != 0 || err != io.EOF {
		t.Fatalf("after the end: %d, %v", n, err)
	}
	control, err := l.Listener(Control).Accept()
	if err != nil {
		t.Fatal(err)
	}
	_, _ = task.Close(), control.Close() // only the second is the keeper's concern
	if m := p.next(); m.Kind != wire.Close || m.Conn != 7 {
		t.Fatalf("got %+v", m)
	}
}

// TestWritersDontMix has many goroutines send large messages through a socket that is read slowly.
func TestWritersDontMix(t *testing.T) {
	p, l := dial(t)
	const writers, each = 8, 20
	var all sync.WaitGroup
	for w := range writers {
		p.send(wire.Message{Kind: wire.Open, Conn: uint64(w), Payload: []byte{byte(Task)}, FD: -1})
	}
	for range writers {
		c, err := l.Listener(Task).Accept()
		if err != nil {
			t.Fatal(err)
		}
		all.Go(func() {
			for i := range each {
				if _, err := c.Write(wire.AppendFrame(nil, uint32(i), wire.Response, bytes.Repeat([]byte{byte(i)}, 300_000))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	seen := map[uint64]uint32{}
	for range writers * each {
		m := p.next()
		stream := wire.Stream(m.Payload)
		if stream != seen[m.Conn] || bytes.Count(m.Payload[wire.FrameHeader:], []byte{byte(stream)}) != 300_000 {
			t.Fatalf("connection %d: frame %d, want %d", m.Conn, stream, seen[m.Conn])
		}
		seen[m.Conn]++
	}
	all.Wait()
}

// TestExitsDontBlock leaves exits unread while a request passes.
func TestExitsDontBlock(t *testing.T) {
	p, l := dial(t)
	for pid := range 10_000 {
		p.send(wire.Message{Kind: wire.Exited, Payload: wire.AppendExit(nil, Exit{Pid: pid}), FD: -1})
	}
	p.send(wire.Message{Kind: wire.Open, Conn: 1, Payload: []byte{byte(Task)}, FD: -1})
	if _, err := l.Listener(Task).Accept(); err != nil {
		t.Fatal(err)
	}
	for pid := range 10_000 {
		e := <-l.Exits()
		if e.Pid != pid {
			t.Fatalf("exit of %d, want %d", e.Pid, pid)
		}
	}
	want := Exit{Pid: 3, Start: 4, Status: 5, At: 6, Comm: "(a) b"}
	if err := l.Ack(want); err != nil {
		t.Fatal(err)
	}
	if got, err := wire.DecodeExit(p.next().Payload); got != want || err != nil {
		t.Fatalf("%+v, %v", got, err)
	}
}

// TestKeeperEnds wakes whoever waits.
func TestKeeperEnds(t *testing.T) {
	p, l := dial(t)
	p.send(wire.Message{Kind: wire.Open, Conn: 1, Payload: []byte{byte(Task)}, FD: -1})
	c, err := l.Listener(Task).Accept()
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 2)
	go func() {
		_, err := c.Read(make([]byte, 1))
		ended <- err
	}()
	go func() {
		_, err := l.Listener(Control).Accept()
		ended <- err
	}()
	_ = unix.Close(p.socket)
	p.socket = -1
	<-l.Done()
	for range 2 {
		if err := <-ended; err != io.EOF && !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	}
	if _, ok := <-l.Exits(); ok {
		t.Error("an exit came")
	}
	if err := l.Hold("x", 0); err == nil {
		t.Error("a dead keeper holds")
	}
}

// TestDialFails on what is no keeper.
func TestDialFails(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	_ = unix.Close(pair[0])
	if _, err := Dial(pair[1]); !errors.Is(err, io.EOF) {
		t.Errorf("an end at once: %v", err)
	}
	if pair, err = unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[0])
	_, _ = unix.Write(pair[0], bytes.Repeat([]byte{0xff}, 16))
	if _, err := Dial(pair[1]); err == nil {
		t.Error("nonsense was understood")
	}
}

// TestMain runs TestLocal's second process: Local reaps all children, also those of other tests.
func TestMain(m *testing.M) {
	if dir := os.Getenv("LINK_TEST_LOCAL"); dir != "" {
		os.Exit(localProcess(dir))
	}
	os.Exit(m.Run())
}

func localProcess(dir string) int {
	l, err := Local(dir+"/task.sock", dir+"/control.sock", nil)
	if err != nil {
		return 2
	}
	pid, err := syscall.ForkExec("/bin/sh", []string{"sh", "-c", "sleep 0.05 & exit 7"}, nil)
	if err != nil {
		return 3
	}
	started := time.Now()
	child, orphan := <-l.Exits(), <-l.Exits()
	if child.Pid != pid || child.Status.ExitStatus() != 7 || child.Start == 0 || orphan.Pid == pid || orphan.Status.ExitStatus() != 0 {
		return 4
	}
	if at := WallTime(child.At); at.Before(started.Add(-time.Second)) || at.After(time.Now().Add(time.Second)) {
		return 5
	}
	go func() {
		c, err := net.Dial("unix", dir+"/control.sock")
		if err == nil {
			_, _ = c.Write([]byte("hi"))
			_ = c.Close()
		}
	}()
	c, err := l.Listener(Control).Accept()
	if err != nil {
		return 6
	}
	if got, err := io.ReadAll(c); string(got) != "hi" || err != nil {
		return 7
	}
	first := l.Hold("x", 0)
	if again := l.Hold("x", 0); first != nil || again != nil || l.Drop("x") != nil || l.CloneParent() {
		return 8
	}
	if l.Quit() != nil {
		return 9
	}
	<-l.Done()
	return 0
}

func TestLocal(t *testing.T) {
	p, err := os.StartProcess("/proc/self/exe", []string{"local"}, &os.ProcAttr{
		Env: append(os.Environ(), "LINK_TEST_LOCAL="+t.TempDir()),
	})
	if err != nil {
		t.Fatal(err)
	}
	if s, err := p.Wait(); err != nil || s.ExitCode() != 0 {
		t.Fatalf("exit status %d, %v", s.ExitCode(), err)
	}
}
