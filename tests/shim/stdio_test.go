package shim

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v2 "github.com/containerd/containerd/api/runtime/task/v2"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	. "github.com/sock-runtime/sock/tests/sandbox"
)

// TestFIFOs passes some megabytes through, with the end of input told by CloseIO, though containerd's end stays open.
func TestFIFOs(t *testing.T) {
	f := newFixture(t)
	in, out, err := f.fifo("in"), f.fifo("out"), f.fifo("err")
	stdout, stderr := f.reader(out), f.reader(err)
	r := f.request("box", Script("cat; echo done >&2"))
	r.Stdin, r.Stdout, r.Stderr = in, out, err
	f.started(r)
	writer, openErr := os.OpenFile(in, os.O_WRONLY, 0)
	Must(t, openErr)
	text := strings.Repeat("0123456789abcde\n", 256<<10) // 4 MiB
	_, openErr = writer.WriteString(text)
	Must(t, openErr)
	Equal(t, "status", f.status("box", ""), "RUNNING")
	// Neither end alone is enough.
	Must(t, writer.Close())
	time.Sleep(50 * time.Millisecond)
	Equal(t, "status", f.status("box", ""), "RUNNING")
	_, openErr = f.task.CloseIO(ctx(), &v2.CloseIORequest{ID: "box", Stdin: true})
	Must(t, openErr)
	Equal(t, "exit status", f.waited("box", ""), 0)
	f.removed("box")
	f.said("stdout", stdout, text)
	f.said("stderr", stderr, "done\n")
}

// TestExecFIFOs does the same with an exec, of a user who is not root and reopens its streams.
func TestExecFIFOs(t *testing.T) {
	f := newFixture(t)
	f.started(f.request("box"))
	in, out := f.fifo("in"), f.fifo("out")
	stdout := f.reader(out)
	user := func(r *v2.ExecProcessRequest) {
		r.Stdin, r.Stdout = in, out
		r.Spec = packJSON(&specs.Process{
			Args: []string{"sh", "-c", "cat > /dev/stdout; exit 4"}, Cwd: "/", Env: []string{"PATH=/bin"}, User: specs.User{UID: 1000, GID: 1000},
		})
	}
	f.run("box", "x", "", user)
	writer, err := os.OpenFile(in, os.O_WRONLY, 0)
	Must(t, err)
	_, err = writer.WriteString("hello\n")
	Must(t, err)
	Must(t, writer.Close())
	_, err = f.task.CloseIO(ctx(), &v2.CloseIORequest{ID: "box", ExecID: "x", Stdin: true})
	Must(t, err)
	Equal(t, "exit status", f.waited("box", "x"), 4)
	_, err = f.task.Delete(ctx(), &v2.DeleteRequest{ID: "box", ExecID: "x"})
	Must(t, err)
	f.said("stdout", stdout, "hello\n")
	f.killed("box")
}

// TestNoReader checks that Create waits for nobody, and that the process waits, rather than dies, until somebody reads.
func TestNoReader(t *testing.T) {
	f := newFixture(t)
	r := f.request("box", Script("echo early; exec dd if=/dev/zero bs=1k count=256 status=none"))
	r.Stdin, r.Stdout = f.fifo("in"), f.fifo("out")
	f.started(r)
	time.Sleep(100 * time.Millisecond)
	Equal(t, "status", f.status("box", ""), "RUNNING")
	stdout := f.reader(r.Stdout)
	Equal(t, "exit status", f.waited("box", ""), 0)
	f.removed("box")
	f.said("stdout", stdout, "early\n"+strings.Repeat("\x00", 256<<10))
}

// TestLateReader checks that whoever opens the output of a process that has ended finds it, and its end: neither must they wait
// for a writer that won't come, nor may what was written be gone.
func TestLateReader(t *testing.T) {
	f := newFixture(t)
	r := f.request("box", Script("echo out; echo err >&2"))
	r.Stdout, r.Stderr = f.fifo("out"), f.fifo("err")
	f.started(r)
	f.waited("box", "")
	time.Sleep(100 * time.Millisecond)
	f.said("stderr", f.reader(r.Stderr), "err\n")
	f.said("stdout", f.reader(r.Stdout), "out\n")
	f.removed("box")

	r = f.request("tty", Script("echo out"), WithTerminal)
	r.Terminal, r.Stdout = true, f.fifo("tty")
	f.started(r)
	f.waited("tty", "")
	time.Sleep(100 * time.Millisecond)
	f.said("terminal", f.reader(r.Stdout), "out\r\n")
	f.removed("tty")
}

// TestReaderGoes checks that a reader that goes, as a containerd that is killed, ends nobody, and that nothing is lost.
func TestReaderGoes(t *testing.T) {
	f := newFixture(t)
	r := f.request("box", Script("echo one; read line; echo two; read line"))
	r.Stdin, r.Stdout = f.fifo("in"), f.fifo("out")
	f.started(r)
	first, err := os.Open(r.Stdout)
	Must(t, err)
	buf := make([]byte, 4)
	_, err = io.ReadFull(first, buf)
	Must(t, err)
	Must(t, first.Close())
	writer, err := os.OpenFile(r.Stdin, os.O_WRONLY, 0)
	Must(t, err)
	_, err = writer.WriteString("go\n")
	Must(t, err)
	time.Sleep(50 * time.Millisecond)
	stdout := f.reader(r.Stdout)
	Must(t, writer.Close())
	_, err = f.task.CloseIO(ctx(), &v2.CloseIORequest{ID: "box", Stdin: true})
	Must(t, err)
	f.waited("box", "")
	f.removed("box")
	f.said("stdout", stdout, "two\n")
}

func TestFile(t *testing.T) {
	f := newFixture(t)
	log := filepath.Join(f.Dir, "logs/box.log")
	for range 2 {
		r := f.request("box", Script("echo out; echo err >&2"), func(c *specs.Spec) { c.Process.User = specs.User{UID: 1000, GID: 1000} })
		r.Stdout = "file://" + log
		f.started(r)
		f.waited("box", "")
		f.removed("box")
	}
	Equal(t, "the file", ReadFile(log), "out\nerr\nout\nerr\n")
	var st unix.Stat_t
	Must(t, unix.Stat(log, &st))
	Equal(t, "its owner", st.Uid, 0)
}

// loggingProgram is a shell script that copies what it gets into files.
func (f *fixture) loggingProgram(before string) string {
	f.Helper()
	path := filepath.Join(f.Dir, "logger")
	WriteFile(f.T, path, fmt.Sprintf(`#!/bin/sh
PATH=/usr/bin:/bin
%s
echo "$CONTAINER_ID $CONTAINER_NAMESPACE $*" > %[2]s/args
exec 5>&-
cat <&4 > %[2]s/stderr &
cat <&3 > %[2]s/stdout
wait
echo ended >> %[2]s/args
`, before, f.Dir), 0o755)
	return path
}

func TestBinary(t *testing.T) {
	f := newFixture(t)
	r := f.request("box", Script("echo out; echo err >&2"))
	r.Stdout = "binary://" + f.loggingProgram("") + "?level=high"
	f.started(r)
	f.waited("box", "")
	f.removed("box")
	Equal(t, "stdout", ReadFile(f.Dir+"/stdout"), "out\n")
	Equal(t, "stderr", ReadFile(f.Dir+"/stderr"), "err\n")
	Equal(t, "arguments", ReadFile(f.Dir+"/args"), "box test level high\nended\n")

	r = f.request("bad")
	r.Stdout = "binary:///nonexistent"
	_, err := f.task.Create(ctx(), r)
	refused(t, "no program", err, 2, "logging program")
	r = f.request("bad")
	r.Stdout = "binary-v2://" + f.loggingProgram("exit 1")
	_, err = f.task.Create(ctx(), r)
	refused(t, "a program that ends", err, 2, "ended before it was ready")
}

// screen reads a terminal's output in the background.
type screen struct {
	*fixture
	text chan []byte
	seen bytes.Buffer
}

func (f *fixture) screen(path string) *screen {
	s := &screen{fixture: f, text: make(chan []byte, 10000)}
	go func() {
		defer close(s.text)
		file, err := os.Open(path)
		if err != nil {
			return
		}
		defer file.Close()
		for {
			buf := make([]byte, 64<<10)
			n, err := file.Read(buf)
			if err != nil {
				return
			}
			s.text <- buf[:n]
		}
	}()
	return s
}

// shows waits for a text.
func (s *screen) shows(text string) {
	s.Helper()
	late := time.After(2 * SettleTimeout)
	for !strings.Contains(s.seen.String(), text) {
		select {
		case more, ok := <-s.text:
			if !ok {
				s.Fatalf("the screen ends with %q, there is no %q", clip(s.seen.String()), text)
			}
			s.seen.Write(more)
		case <-late:
			s.Fatalf("the screen shows %q and no %q", clip(s.seen.String()), text)
		}
	}
	s.seen.Reset()
}

// ends waits for the end of the file, and returns what came.
func (s *screen) ends() string {
	s.Helper()
	late := time.After(2 * SettleTimeout)
	for {
		select {
		case more, ok := <-s.text:
			if !ok {
				return s.seen.String()
			}
			s.seen.Write(more)
		case <-late:
			s.Fatal("the screen doesn't end")
		}
	}
}

func TestTerminal(t *testing.T) {
	f := newFixture(t)
	r := f.request("box", WithTerminal, Script("test -t 0 && test -t 2 && echo ready; read line; stty size; echo got $line; exec sh"))
	r.Terminal, r.Stdin, r.Stdout = true, f.fifo("in"), f.fifo("out")
	s := f.screen(r.Stdout)
	f.created(r)
	_, err := f.task.ResizePty(ctx(), &v2.ResizePtyRequest{ID: "box", Width: 91, Height: 17})
	Must(t, err)
	_, err = f.task.Start(ctx(), &v2.StartRequest{ID: "box"})
	Must(t, err)
	s.shows("ready\r\n")
	keyboard, err := os.OpenFile(r.Stdin, os.O_WRONLY, 0)
	Must(t, err)
	_, err = keyboard.WriteString("hello\n")
	Must(t, err)
	s.shows("17 91\r\ngot hello\r\n")

	// A second terminal beside it.
	in, out := f.fifo("in2"), f.fifo("out2")
	second := f.screen(out)
	f.run("box", "x", "read line; echo second $line; tty", func(r *v2.ExecProcessRequest) { r.Terminal, r.Stdin, r.Stdout = true, in, out })
	more, err := os.OpenFile(in, os.O_WRONLY, 0)
	Must(t, err)
	_, err = more.WriteString("one\n")
	Must(t, err)
	second.shows("second one\r\n/dev/pts/1\r\n")
	Equal(t, "exit status", f.waited("box", "x"), 0)
	second.ends()
	_, err = f.task.Delete(ctx(), &v2.DeleteRequest{ID: "box", ExecID: "x"})
	Must(t, err)

	_, err = keyboard.WriteString("exit 5\n")
	Must(t, err)
	Equal(t, "exit status", f.waited("box", ""), 5)
	s.ends()
	_, err = f.task.ResizePty(ctx(), &v2.ResizePtyRequest{ID: "box", Width: 91, Height: 17})
	refused(t, "resize", err, 9, "stopped")
	f.removed("box")
}

// TestTerminalBytes checks that megabytes come through a terminal as they are, up to the last, to a reader that is slow.
func TestTerminalBytes(t *testing.T) {
	f := newFixture(t)
	r := f.request("box", WithTerminal, Script("stty raw; seq 1 60000; echo the end"))
	r.Terminal, r.Stdout = true, f.fifo("out")
	var want bytes.Buffer
	for i := 1; i <= 60000; i++ {
		fmt.Fprintln(&want, i)
	}
	want.WriteString("the end\n")
	f.started(r)
	time.Sleep(100 * time.Millisecond)
	s := f.screen(r.Stdout)
	f.waited("box", "")
	got := s.ends()
	if sha256.Sum256([]byte(got)) != sha256.Sum256(want.Bytes()) {
		t.Errorf("got %d bytes, want %d", len(got), want.Len())
	}
	f.removed("box")
}

// TestTerminalToFile takes a terminal's output to where splice(2) can't.
func TestTerminalToFile(t *testing.T) {
	f := newFixture(t)
	r := f.request("box", WithTerminal, Script("echo hello"))
	r.Terminal, r.Stdout = true, "file://"+f.Dir+"/log"
	f.started(r)
	f.waited("box", "")
	f.removed("box")
	Equal(t, "the file", ReadFile(f.Dir+"/log"), "hello\r\n")
}

// TestBackground has a process leave another one behind that keeps its terminal open: its end is told, and it can be deleted.
func TestBackground(t *testing.T) {
	f := newFixture(t)
	f.started(f.request("box"))
	out := f.fifo("out")
	s := f.screen(out)
	f.run("box", "x", "trap '' HUP; sleep 1000 & echo started", func(r *v2.ExecProcessRequest) { r.Terminal, r.Stdout = true, out })
	Equal(t, "exit status", f.waited("box", "x"), 0)
	Equal(t, "the screen", s.ends(), "started\r\n")
	begin := time.Now()
	_, err := f.task.Delete(ctx(), &v2.DeleteRequest{ID: "box", ExecID: "x"})
	Must(t, err)
	if took := time.Since(begin); took > time.Second {
		t.Errorf("delete took %s", took)
	}
	f.killed("box")
}

// TestNoLeak checks that the worker has as many descriptors in the end as in the beginning.
func TestNoLeak(t *testing.T) {
	f := newFixture(t)
	life := func(terminal bool) {
		changes := []Change{Script("echo hello")}
		if terminal {
			changes = append(changes, WithTerminal)
		}
		r := f.request("box", changes...)
		r.Terminal = terminal
		r.Stdin, r.Stdout = f.fifo("in"), f.fifo("out")
		defer os.Remove(r.Stdin)
		defer os.Remove(r.Stdout)
		text := f.reader(r.Stdout)
		f.started(r)
		f.waited("box", "")
		f.removed("box")
		<-text
	}
	life(false)
	life(true)
	before := Descriptors(t, f.worker.Process.Pid)
	for range 5 {
		life(false)
		life(true)
		r := f.request("box", Args("missing"))
		r.Stdin, r.Stdout = f.fifo("in"), f.fifo("out")
		if _, err := f.task.Create(ctx(), r); err == nil {
			t.Error("created")
		}
		Must(t, os.Remove(r.Stdin))
		Must(t, os.Remove(r.Stdout))
	}
	Eventually(t, "as many descriptors as before", func() error {
		if after := Descriptors(t, f.worker.Process.Pid); len(after) > len(before) {
			return fmt.Errorf("before %v, after %v", before, after)
		}
		return nil
	})
}
