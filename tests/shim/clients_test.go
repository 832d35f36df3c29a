package shim

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	v2 "github.com/containerd/containerd/api/runtime/task/v2"
	"github.com/containerd/ttrpc"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/sock-runtime/sock/shim/rendezvous"
	. "github.com/sock-runtime/sock/tests/sandbox"
)

// frame is one of ttrpc's.
func frame(stream uint32, kind byte, payload []byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(payload)))
	b = binary.BigEndian.AppendUint32(b, stream)
	return append(append(b, kind, 0), payload...)
}

// call is a request's frame.
func call(t *testing.T, stream uint32, method string, payload []byte) []byte {
	t.Helper()
	data, err := proto.Marshal(&ttrpc.Request{Service: "containerd.task.v2.Task", Method: method, Payload: payload})
	Must(t, err)
	return frame(stream, 1, data)
}

// TestGarbage sends both sockets what no client sends. Keeper and worker live on, and serve others.
func TestGarbage(t *testing.T) {
	f := newLongShim(t)
	f.started(f.request("box"))
	worker := f.workerPid()
	id, err := proto.Marshal(&v2.StateRequest{ID: "box"})
	Must(t, err)
	control := func(content string) []byte { return frame(1, 1, []byte(content)) }
	const count = "\x00\x00\x00\x01"
	for what, garbage := range map[string][]byte{
		"nothing":                   nil,
		"noise":                     []byte(strings.Repeat("\x00\x00\x00\x05garbage\xff", 1000)),
		"zeros":                     make([]byte, 1<<20),
		"HTTP":                      []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
		"half a header":             frame(1, 1, nil)[:7],
		"half a frame":              call(t, 1, "State", id)[:20],
		"a frame that is too long":  append([]byte("\x00\x40\x00\x01\x00\x00\x00\x01\x01\x00"), make([]byte, 100)...),
		"an endless frame":          append([]byte("\xff\xff\xff\xff\x00\x00\x00\x01\x01\x00"), make([]byte, 100)...),
		"a request of nothing":      frame(1, 1, nil),
		"no request":                frame(1, 1, []byte("\xff\xff\xff")),
		"an unknown method":         call(t, 1, "Dance", id),
		"a message that is none":    call(t, 1, "State", []byte("\xff\xff\xff")),
		"a message that is another": call(t, 1, "Create", []byte(strings.Repeat("\x12\x02ab", 1000))),
		"an even stream":            call(t, 2, "State", id),
		"one stream twice":          append(call(t, 3, "State", id), call(t, 3, "State", id)...),
		"streams that go backwards": append(call(t, 9, "State", id), call(t, 7, "State", id)...),
		"a response":                frame(1, 2, id),
		"data of no stream":         frame(5, 3, id),
		"an unknown type":           frame(1, 200, id),
		"a call of nothing":         control(""),
		"a call without a command":  control(count + "\x00\x00\x00\x01x" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00"),
		"a call of too many":        control("\xff\xff\xff\xff" + strings.Repeat("\x00\x00\x00\x00", 1000)),
		"a call that is cut off":    control(count + "\x00\x00\xff\xffsho"),
		"an upgrade to nothing":     control(count + "\x00\x00\x00\x07upgrade" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00"),
	} {
		for _, socket := range []string{rendezvous.TaskSocket, rendezvous.ControlSocket} {
			// One who leaves at once, one who listens for a moment, and one who says no more.
			for _, after := range []func(net.Conn){
				func(c net.Conn) { _ = c.Close() },
				func(c net.Conn) {
					_ = c.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
					_, _ = c.Read(make([]byte, 1<<16))
					_ = c.Close()
				},
				func(c net.Conn) {
					_ = c.(*net.UnixConn).CloseWrite()
					t.Cleanup(func() { _ = c.Close() })
				},
			} {
				c := f.dial(socket)
				_ = c.SetWriteDeadline(time.Now().Add(5 * time.Second))
				_, _ = c.Write(garbage) // the other side may have hung up
				after(c)
			}
		}
		if got := f.status("box", ""); got != "RUNNING" {
			t.Errorf("after %s: %s", what, got)
		}
	}
	if out, err := f.helper("other", "start").CombinedOutput(); err != nil {
		t.Errorf("start: %v: %s", err, out)
	}
	Equal(t, "the worker", f.workerPid(), worker)
	f.killed("box")
}

// TestThousandsOfClients connects thousands of times, with a request each, and leaves without having read the answer.
func TestThousandsOfClients(t *testing.T) {
	f := newLongShim(t)
	f.started(f.request("box"))
	id, err := proto.Marshal(&v2.StateRequest{ID: "box"})
	Must(t, err)
	wait, err := proto.Marshal(&v2.WaitRequest{ID: "box"})
	Must(t, err)
	const count = 2000
	crowd := func() {
		clients := make([]net.Conn, count)
		for i := range clients {
			clients[i] = f.dial(rendezvous.TaskSocket)
			_, err := clients[i].Write(append(call(t, 1, "State", id), call(t, 3, "Wait", wait)...))
			Must(t, err)
		}
		Equal(t, "status", f.status("box", ""), "RUNNING")
		for _, c := range clients {
			_ = c.Close()
		}
		Equal(t, "status", f.status("box", ""), "RUNNING")
	}
	crowd()
	worker := f.workerPid()
	before, memory := f.opened(), f.memoryOf(worker)
	for range 15 {
		crowd()
	}
	f.closed(before)
	Equal(t, "the worker", f.workerPid(), worker)
	// Go keeps what crowds that overlap have needed. That is up to 120 MiB; were clients never forgotten, it would be that for each
	// few crowds.
	if now := f.memoryOf(worker); now > 300<<10 {
		t.Errorf("the worker has %d KiB, after one crowd it had %d", now, memory)
	}
	f.killed("box")
}

// opened is how many descriptors keeper and worker have open.
func (f *fixture) opened() int {
	f.Helper()
	return len(Descriptors(f.T, f.keeper)) + len(Descriptors(f.T, f.workerPid()))
}

// closed waits until they have no more than that, and some that Go opens once.
func (f *fixture) closed(before int) {
	f.Helper()
	Eventually(f.T, "as many descriptors as before", func() error {
		if now := f.opened(); now > before+4 {
			return fmt.Errorf("%d, before %d: %v, %v", now, before, Descriptors(f.T, f.keeper), Descriptors(f.T, f.workerPid()))
		}
		return nil
	})
}

// memoryOf is a process's, in KiB.
func (f *fixture) memoryOf(pid int) int {
	kib, _, _ := strings.Cut(StatusField(ReadFile(fmt.Sprintf("/proc/%d/status", pid)), "VmRSS"), " ")
	return Atoi(kib)
}

// TestClientsVanish has clients that go while their request is carried out. It is carried out or not, but not by half.
func TestClientsVanish(t *testing.T) {
	f := newLongShim(t)
	f.started(f.request("box"))
	before := f.opened()
	ask := func(i int, method string, m proto.Message) {
		t.Helper()
		data, err := proto.Marshal(m)
		Must(t, err)
		c := f.dial(rendezvous.TaskSocket)
		_, err = c.Write(call(t, 1, method, data))
		Must(t, err)
		time.Sleep(time.Duration(i%10) * 500 * time.Microsecond)
		_ = c.Close()
	}
	for i := range 30 {
		r := f.request("gone")
		r.Stdout = f.fifo(fmt.Sprint("out", i))
		ask(i, "Create", r)
		// Another client finds a container, or makes it.
		Eventually(t, "a container", func() error {
			if _, err := f.task.Create(ctx(), r); status.Code(err) != codes.AlreadyExists {
				return err
			}
			_, err := f.task.State(ctx(), &v2.StateRequest{ID: "gone"}) // not while it is being created
			return err
		})
		ask(i, "Start", &v2.StartRequest{ID: "gone"})
		Eventually(t, "a running container", func() error {
			if _, err := f.task.Start(ctx(), &v2.StartRequest{ID: "gone"}); err != nil && status.Code(err) != codes.FailedPrecondition {
				return err
			}
			if got := f.status("gone", ""); got != "RUNNING" {
				return errors.New(got)
			}
			return nil
		})
		f.added("gone", "x", "exit 6")
		ask(i, "Start", &v2.StartRequest{ID: "gone", ExecID: "x"})
		if _, err := f.task.Start(ctx(), &v2.StartRequest{ID: "gone", ExecID: "x"}); err != nil && status.Code(err) != codes.FailedPrecondition {
			t.Fatal(err)
		}
		Equal(t, "exit status of exec", f.waited("gone", "x"), 6)
		ask(i, "Kill", &v2.KillRequest{ID: "gone", Signal: uint32(unix.SIGKILL)})
		if _, err := f.task.Kill(ctx(), &v2.KillRequest{ID: "gone", Signal: uint32(unix.SIGKILL)}); err != nil && status.Code(err) != codes.NotFound {
			t.Fatal(err)
		}
		Equal(t, "exit status", f.waited("gone", ""), 137)
		ask(i, "Delete", &v2.DeleteRequest{ID: "gone"})
		Eventually(t, "the end of the container", func() error {
			if _, err := f.task.Delete(ctx(), &v2.DeleteRequest{ID: "gone"}); err != nil && status.Code(err) != codes.NotFound {
				return err
			}
			return nil
		})
	}
	f.closed(before)
	Equal(t, "status", f.status("box", ""), "RUNNING")
	f.killed("box")
}

// TestOtherUser has somebody else try to reach the shim, who may execute the program.
func TestOtherUser(t *testing.T) {
	f := newLongShim(t)
	f.started(f.request("box"))
	as := func(c *exec.Cmd) (string, error) {
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 99999, Gid: 99999}}
		out, err := c.CombinedOutput()
		return string(out), err
	}
	for _, socket := range []string{rendezvous.TaskSocket, rendezvous.ControlSocket} {
		if out, err := as(exec.Command(Busybox, "stat", filepath.Join(f.dir, socket))); err == nil || !strings.Contains(out, "Permission denied") {
			t.Errorf("%s: %v: %s", socket, err, out)
		}
	}
	for _, action := range []string{"start", "delete"} {
		c := f.helper("box", action)
		c.Dir = "/"
		if out, err := as(c); err == nil || !strings.Contains(out, "permission denied") && !strings.Contains(out, "not a directory of this user's") {
			t.Errorf("%s: %v: %s", action, err, out)
		}
	}
	if out, err := as(exec.Command(filepath.Join(programs, "sock-shimd"), "upgrade", "/bin/true", f.dir)); !strings.Contains(out, "permission denied") {
		t.Errorf("upgrade: %v: %s", err, out)
	}
	Equal(t, "status", f.status("box", ""), "RUNNING")
	f.killed("box")
}

// TestFullDisks has no room where bundles are, and where the containers' states are.
func TestFullDisks(t *testing.T) {
	f := newLongShim(t)
	f.started(f.request("box"))
	before := f.opened()
	for _, dir := range []string{f.root, filepath.Join(f.Dir, "bundles")} {
		Must(t, os.MkdirAll(dir, 0o700))
	}
	small := filepath.Join(f.Dir, "small")
	Must(t, os.Mkdir(small, 0o700))
	Must(t, unix.Mount("small", small, "tmpfs", 0, "size=64k"))
	t.Cleanup(func() { _ = unix.Unmount(small, unix.MNT_DETACH) })
	r := f.request("late")
	late := proto.Clone(r).(*v2.CreateTaskRequest)
	late.Options = f.options(small)
	filler := filepath.Join(small, "filler")
	if err := os.WriteFile(filler, make([]byte, 1<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	_, err := f.task.Create(ctx(), late)
	refused(t, "create", err, codes.ResourceExhausted, "no space left on device")
	if left, _ := filepath.Glob(small + "/*/[!,]*"); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	// The bundle has no room for the address.
	c := f.helper("late", "start")
	c.Dir = small
	if out, err := c.CombinedOutput(); err == nil || !strings.Contains(string(out), "no space left on device") {
		t.Errorf("start: %v: %s", err, out)
	}
	f.closed(before)
	f.started(r)
	f.killed("late")
	Must(t, os.Remove(filler))
	f.started(late)
	f.killed("late")
	Equal(t, "status", f.status("box", ""), "RUNNING")
	f.killed("box")
}

// TestExecOfNothing asks for processes that can't be, beside ones that can.
func TestExecOfNothing(t *testing.T) {
	f := newLongShim(t)
	f.started(f.request("box"))
	before := f.opened()
	for i := range 5 {
		for what, p := range map[string]*specs.Process{
			"no arguments":  {Cwd: "/"},
			"no directory":  {Args: []string{"true"}},
			"a missing one": {Args: []string{"true"}, Cwd: "/nowhere/at/all", Env: []string{"PATH=/bin"}},
			"a directory":   {Args: []string{"/bin"}, Cwd: "/"},
			"rlimit":        {Args: []string{"/bin/true"}, Cwd: "/", Rlimits: []specs.POSIXRlimit{{Type: "RLIMIT_NOTHING"}}},
		} {
			id := fmt.Sprint("x", i)
			out := f.fifo("out")
			_, err := f.task.Exec(ctx(), &v2.ExecProcessRequest{ID: "box", ExecID: id, Stdout: out, Spec: packJSON(p)})
			Must(t, err)
			_, err = f.task.Start(ctx(), &v2.StartRequest{ID: "box", ExecID: id})
			if code := status.Code(err); code != codes.Unknown && code != codes.InvalidArgument || !strings.Contains(err.Error(), "OCI runtime exec failed") {
				t.Errorf("%s: %v", what, err)
			}
			limit, cancel := context.WithTimeout(ctx(), SettleTimeout)
			response, err := f.task.Wait(limit, &v2.WaitRequest{ID: "box", ExecID: id})
			cancel()
			if err != nil || response.ExitStatus != 255 {
				t.Errorf("wait for %s: %v, %v", what, response, err)
			}
			_, err = f.task.Delete(ctx(), &v2.DeleteRequest{ID: "box", ExecID: id})
			Must(t, err)
			Must(t, os.Remove(out))
		}
	}
	f.closed(before)
	f.noOrphans("box")
	f.killed("box")
}

// noOrphans checks that the keeper has no children but the worker and those containers.
func (f *fixture) noOrphans(ids ...string) {
	f.Helper()
	Eventually(f.T, "the end of other children", func() error {
		if children := f.children(); len(children) != 1+len(ids) {
			return fmt.Errorf("children %v", children)
		}
		return nil
	})
}
