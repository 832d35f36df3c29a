package keeper

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sock-runtime/sock/shim/link"
	"github.com/sock-runtime/sock/shim/wire"
)

// The test binary is keeper and worker, too: `toy keeper DIR [TABLES [check]]`, `toy worker DIR`.
func TestMain(m *testing.M) {
	if len(os.Args) < 3 || os.Args[0] != "toy" {
		os.Exit(m.Run())
	}
	dir := os.Args[2]
	var err error
	switch os.Args[1] {
	case "keeper":
		err = toyKeeper(dir, os.Args[3:])
	case "worker":
		err = toyWorker(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, os.Args[1]+":", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func toyKeeper(dir string, tables []string) error {
	c := Config{
		Dir: dir, Sockets: [Listeners]string{"task.sock", "control.sock"},
		Worker: []string{"toy", "worker", dir}, Keeper: []string{"toy", "keeper", dir}, Env: os.Environ(),
	}
	if len(tables) > 0 {
		fd, err := strconv.Atoi(tables[0])
		if err != nil {
			return err
		}
		if len(tables) > 1 {
			return Check(c, fd)
		}
		return Resume(c, fd)
	}
	return Run(c, [Listeners]int{3, 4})
}

// toy is a worker whose requests are words:
//
//	echo TEXT           answers TEXT
//	nap MS TEXT         does so later
//	spawn KEY COMMAND   has a child of the keeper run COMMAND, once for a KEY, and answers with pid and start time
//	wait PID START      answers with the wait status of that process, when it has ended
//	hold NAME TEXT      has the keeper hold a file with TEXT
//	drop NAME
//	read NAME           answers with what is in the file that was held
//	kind                answers which listener the connection came from
//	quit, upgrade FILE  ask the keeper
//	hang                never answers
type toy struct {
	link link.Link
	dir  string

	mu    sync.Mutex
	ended *sync.Cond
	spawn sync.Mutex
}

func toyWorker(dir string) error {
	if _, err := os.Stat(filepath.Join(dir, "broken")); err == nil {
		return errors.New("broken")
	}
	l, err := link.Dial(3)
	if err != nil {
		return err
	}
	w := &toy{link: l, dir: dir}
	w.ended = sync.NewCond(&w.mu)
	if err := os.WriteFile(filepath.Join(dir, "pid.new"), []byte(strconv.Itoa(os.Getpid())), 0o600); err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(dir, "pid.new"), filepath.Join(dir, "pid")); err != nil {
		return err
	}
	go w.exits()
	for _, kind := range []link.Kind{link.Task, link.Control} {
		go func() {
			for {
				c, err := l.Listener(kind).Accept()
				if err != nil {
					return
				}
				go w.serve(c, kind)
			}
		}()
	}
	<-l.Done()
	return nil
}

// exits writes every exit to disk before it lets the keeper forget it.
func (w *toy) exits() {
	for e := range w.link.Exits() {
		w.mu.Lock()
		name := fmt.Sprintf("%s/exit-%d-%d", w.dir, e.Pid, e.Start)
		if err := os.WriteFile(name+".new", []byte(strconv.Itoa(int(e.Status))), 0o600); err != nil {
			panic(err)
		}
		if err := os.Rename(name+".new", name); err != nil {
			panic(err)
		}
		w.ended.Broadcast()
		w.mu.Unlock()
		_ = w.link.Ack(e)
	}
}

func (w *toy) serve(c net.Conn, kind link.Kind) {
	defer c.Close()
	for {
		stream, payload, err := readFrame(c)
		if err != nil {
			return
		}
		go func() {
			answer := w.do(string(payload), kind)
			_, _ = c.Write(wire.AppendFrame(nil, stream, wire.Response, []byte(answer)))
		}()
	}
}

func (w *toy) do(request string, kind link.Kind) string {
	verb, arg, _ := strings.Cut(request, " ")
	first, rest, _ := strings.Cut(arg, " ")
	answer, err := arg, error(nil)
	switch verb {
	case "echo":
	case "nap":
		ms, _ := strconv.Atoi(first)
		time.Sleep(time.Duration(ms) * time.Millisecond)
		answer = rest
	case "spawn":
		answer, err = w.child(first, rest)
	case "wait":
		w.mu.Lock()
		defer w.mu.Unlock()
		for {
			b, err := os.ReadFile(fmt.Sprintf("%s/exit-%s-%s", w.dir, first, rest))
			if err == nil {
				return string(b)
			}
			w.ended.Wait()
		}
	case "hold":
		var f *os.File
		if f, err = os.CreateTemp(w.dir, "held"); err == nil {
			_, _ = f.WriteString(rest)
			err = errors.Join(w.link.Hold(first, int(f.Fd())), w.link.Sync())
			_, _ = os.Remove(f.Name()), f.Close()
		}
	case "drop":
		err = w.link.Drop(first)
	case "read":
		f := w.link.Held()[first]
		if f == nil {
			return "nothing is held"
		}
		b := make([]byte, 1000)
		n, _ := f.ReadAt(b, 0)
		answer = string(b[:n])
	case "kind":
		answer = strconv.Itoa(int(kind))
	case "quit":
		err = w.link.Quit()
	case "upgrade":
		err = w.link.Upgrade(arg)
	case "hang":
		select {}
	}
	if err != nil {
		return "error: " + err.Error()
	}
	return answer
}

func (w *toy) child(key, command string) (string, error) {
	w.spawn.Lock()
	defer w.spawn.Unlock()
	name := filepath.Join(w.dir, "key-"+key)
	if b, err := os.ReadFile(name); err == nil {
		return string(b), nil
	}
	// It waits until its start time is known, and ends if that doesn't happen.
	gate, open, err := os.Pipe()
	if err != nil {
		return "", err
	}
	defer open.Close()
	pid, err := syscall.ForkExec("/bin/sh", []string{"sh", "-c", "read _ || exit; " + command}, &syscall.ProcAttr{
		Files: []uintptr{gate.Fd()}, Sys: &syscall.SysProcAttr{Cloneflags: unix.CLONE_PARENT},
	})
	_ = gate.Close()
	if err != nil {
		return "", err
	}
	start, err := startTime(pid)
	if err != nil {
		return "", err
	}
	if _, err := open.WriteString("\n"); err != nil {
		return "", err
	}
	b := fmt.Sprintf("%d %d", pid, start)
	if err := os.WriteFile(name+".new", []byte(b), 0o600); err != nil {
		return "", err
	}
	return b, os.Rename(name+".new", name)
}

// state is a process's, a letter.
func state(pid int) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	return strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))[0]
}

func startTime(pid int) (uint64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))[19], 10, 64)
}

func readFrame(r io.Reader) (stream uint32, payload []byte, err error) {
	header := make([]byte, wire.FrameHeader)
	if _, err := io.ReadFull(r, header); err != nil {
		return 0, nil, err
	}
	payload = make([]byte, int(header[0])<<24|int(header[1])<<16|int(header[2])<<8|int(header[3]))
	_, err = io.ReadFull(r, payload)
	return wire.Stream(header), payload, err
}

// running is a keeper under test.
type running struct {
	*testing.T
	dir string
	pid int
}

// start starts a keeper with a toy worker.
func start(t *testing.T) *running {
	t.Helper()
	dir, err := os.MkdirTemp("", "keeper") // t.TempDir may be too long for a socket's name
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	files := []*os.File{nil, nil}
	for i, name := range []string{"task.sock", "control.sock"} {
		l, err := net.Listen("unix", filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		l.(*net.UnixListener).SetUnlinkOnClose(false)
		if files[i], err = l.(*net.UnixListener).File(); err != nil {
			t.Fatal(err)
		}
		_ = l.Close()
		defer files[i].Close()
	}
	log, err := os.Create(filepath.Join(dir, LogFile))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	p, err := os.StartProcess(self, []string{"toy", "keeper", dir}, &os.ProcAttr{
		Env: append(os.Environ(), "GOMAXPROCS=1"), Files: []*os.File{nil, log, log, files[0], files[1]},
		Sys: &syscall.SysProcAttr{Setpgid: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	k := &running{T: t, dir: dir, pid: p.Pid}
	t.Cleanup(func() {
		if t.Failed() {
			b, _ := os.ReadFile(filepath.Join(dir, LogFile))
			t.Logf("the keeper's log:\n%s", b[max(0, len(b)-1000):])
		}
		worker := k.worker()
		_ = p.Kill()
		_, _ = p.Wait()
		for worker > 0 && state(worker) != "" && state(worker) != "Z" { // ends by itself
			time.Sleep(time.Millisecond)
		}
	})
	return k
}

// worker is the pid of the newest worker that came up, 0 if there was none.
func (k *running) worker() int {
	b, _ := os.ReadFile(filepath.Join(k.dir, "pid"))
	pid, _ := strconv.Atoi(string(b))
	return pid
}

// kill kills the worker. It says whether there was one.
func (k *running) kill() bool {
	pid := k.worker()
	return pid > 0 && unix.Kill(pid, unix.SIGKILL) == nil
}

// client is a connection to a keeper.
type client struct {
	*testing.T
	c    net.Conn
	last uint32
}

func (k *running) dial(name string) *client {
	k.Helper()
	c, err := net.Dial("unix", filepath.Join(k.dir, name))
	if err != nil {
		k.Fatal(err)
	}
	k.Cleanup(func() { _ = c.Close() })
	return &client{T: k.T, c: c, last: ^uint32(0)}
}

func (c *client) send(request string) uint32 {
	c.last += 2
	if _, err := c.c.Write(wire.AppendFrame(nil, c.last, wire.Request, []byte(request))); err != nil {
		c.Errorf("send %.40q: %v", request, err)
	}
	return c.last
}

// call sends a request and waits for its answer, the next one on the connection.
func (c *client) call(request string) string {
	c.Helper()
	stream := c.send(request)
	_ = c.c.SetReadDeadline(time.Now().Add(time.Minute))
	got, payload, err := readFrame(c.c)
	if err != nil || got != stream {
		c.Fatalf("answer to %.40q: stream %d, want %d: %v", request, got, stream, err)
	}
	return string(payload)
}

func (c *client) want(request, answer string) {
	c.Helper()
	if got := c.call(request); got != answer {
		c.Fatalf("%.40q: got %.80q, want %.80q", request, got, answer)
	}
}
