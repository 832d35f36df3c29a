package shim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	api "github.com/containerd/containerd/api/events"
	v2 "github.com/containerd/containerd/api/runtime/task/v2"
	eventservice "github.com/containerd/containerd/api/services/ttrpc/events/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/ttrpc"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/sock-runtime/sock/shim/options"
	. "github.com/sock-runtime/sock/tests/sandbox"
)

// fixture is a worker with a client and a stand-in for containerd that collects events.
type fixture struct {
	*Sandbox
	task      v2.TTRPCTaskService
	namespace string
	dir       string
	root      string
	client    *ttrpc.Client
	worker    *exec.Cmd
	keeper    int // its pid; 0 if there is none

	mu     sync.Mutex
	events []string
	from   []int // which connection each of events came by
	refuse bool
}

func ctx() context.Context { return context.Background() }

func newFixture(t *testing.T) *fixture {
	t.Helper()
	return newFixtureIn(t, func(string) {})
}

// newFixtureIn prepares the worker's directory before it starts.
func newFixtureIn(t *testing.T, prepare func(dir string)) *fixture {
	t.Helper()
	return newFixtureOf(NewSandbox(t), prepare)
}

func newFixtureOf(s *Sandbox, prepare func(dir string)) *fixture {
	t := s.T
	t.Helper()
	f := &fixture{Sandbox: s, namespace: namespace}
	f.dir, f.root = filepath.Join(f.Dir, "shim"), filepath.Join(f.Dir, "root")
	Must(t, os.Mkdir(f.dir, 0o700))
	prepare(f.dir)
	t.Cleanup(f.close)
	f.serveEvents(f.dir + "/events.sock")
	f.startWorker()
	return f
}

// serveEvents plays containerd for events.
func (f *fixture) serveEvents(path string) {
	f.Helper()
	listener, err := net.Listen("unix", path)
	Must(f.T, err)
	f.Cleanup(func() { _ = listener.Close() })
	go func() {
		for sender := 0; ; sender++ {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := ttrpc.NewServer()
			if err != nil {
				f.Error(err)
				return
			}
			eventservice.RegisterTTRPCEventsService(server, &forwarded{f, sender})
			go func() { _ = server.Serve(ctx(), &single{conn: conn}) }()
		}
	}()
}

// forwarded is containerd's service for events on one connection.
type forwarded struct {
	*fixture
	sender int
}

// single is a listener with one connection.
type single struct {
	net.Listener
	conn net.Conn
}

func (l *single) Accept() (net.Conn, error) {
	if l.conn == nil {
		return nil, net.ErrClosed
	}
	conn := l.conn
	l.conn = nil
	return conn, nil
}

func (*single) Close() error { return nil }

func (*single) Addr() net.Addr { return &net.UnixAddr{Net: "unix"} }

func (f *fixture) startWorker() {
	f.Helper()
	f.worker = exec.Command("/proc/self/exe")
	f.worker.Env = append(os.Environ(), workerVar+"="+f.dir, "SOCK_TEST_MARK="+f.Mark)
	if address := f.BusAddress(); address != "" {
		f.worker.Env = append(f.worker.Env, address)
	}
	f.worker.Stderr = os.Stderr
	Must(f.T, f.worker.Start())
	var conn net.Conn
	Eventually(f.T, "the worker", func() (err error) {
		conn, err = net.Dial("unix", f.dir+"/task.sock")
		return err
	})
	f.client = ttrpc.NewClient(conn)
	f.task = v2.NewTTRPCTaskClient(f.client)
}

func (f *fixture) close() {
	f.removeTasks()
	Must(f.T, f.worker.Process.Signal(unix.SIGTERM))
	_ = f.worker.Wait()
	f.checkStates()
}

// removeTasks removes what a test has left.
func (f *fixture) removeTasks() {
	for _, id := range f.ids() {
		_, _ = f.task.Kill(ctx(), &v2.KillRequest{ID: id, Signal: uint32(unix.SIGKILL)})
		wait, cancel := context.WithTimeout(ctx(), SettleTimeout)
		_, _ = f.task.Wait(wait, &v2.WaitRequest{ID: id})
		cancel()
		if _, err := f.task.Delete(ctx(), &v2.DeleteRequest{ID: id}); err != nil && status.Code(err) != codes.NotFound {
			f.Errorf("delete %s: %v", id, err)
		}
	}
	if f.client != nil {
		_ = f.client.Close()
	}
}

// checkStates checks that no container is left.
func (f *fixture) checkStates() {
	if left, _ := filepath.Glob(f.root + "/*/[!,]*"); len(left) > 0 {
		f.Errorf("states are left: %v", left)
	}
	for _, dir := range f.Cgroups() { // the containers' common parent
		_ = RemoveCgroup(dir)
	}
}

// ids lists the tasks that there are, by their records.
func (f *fixture) ids() []string {
	entries, _ := os.ReadDir(f.dir + "/tasks")
	var ids []string
	for _, e := range entries {
		ids = append(ids, e.Name())
	}
	return ids
}

// Forward implements containerd's service for events.
func (f *forwarded) Forward(_ context.Context, r *eventservice.ForwardRequest) (*emptypb.Empty, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.refuse {
		return nil, errors.New("not now")
	}
	line, err := f.eventLine(r.Envelope)
	if err != nil {
		f.Error(err)
	}
	// What a worker sent that is gone by now comes before what the next one sends.
	at, _ := slices.BinarySearch(f.from, f.sender+1)
	f.events, f.from = slices.Insert(f.events, at, line), slices.Insert(f.from, at, f.sender)
	return &emptypb.Empty{}, nil
}

// eventLine is an event in brief: topic, ID, and what else tells it from others.
func (f *fixture) eventLine(e *types.Envelope) (string, error) {
	if e.Namespace != f.namespace || e.Timestamp == nil {
		return "", fmt.Errorf("envelope %v", e)
	}
	into := func(m proto.Message) error {
		if e.Event.TypeUrl != string(m.ProtoReflect().Descriptor().FullName()) {
			return fmt.Errorf("type of %s is %s", e.Topic, e.Event.TypeUrl)
		}
		return proto.Unmarshal(e.Event.Value, m)
	}
	var err error
	switch e.Topic {
	case "/tasks/create":
		m := &api.TaskCreate{}
		err = into(m)
		return fmt.Sprint("create ", m.ContainerID), err
	case "/tasks/start":
		m := &api.TaskStart{}
		err = into(m)
		return fmt.Sprint("start ", m.ContainerID), err
	case "/tasks/exec-added":
		m := &api.TaskExecAdded{}
		err = into(m)
		return fmt.Sprint("added ", m.ExecID), err
	case "/tasks/exec-started":
		m := &api.TaskExecStarted{}
		err = into(m)
		return fmt.Sprint("started ", m.ExecID), err
	case "/tasks/exit":
		m := &api.TaskExit{}
		err = into(m)
		return fmt.Sprint("exit ", m.ID, " ", m.ExitStatus), err
	case "/tasks/delete":
		m := &api.TaskDelete{}
		err = into(m)
		return fmt.Sprint("delete ", m.ContainerID, " ", m.ExitStatus), err
	case "/tasks/oom":
		m := &api.TaskOOM{}
		err = into(m)
		return fmt.Sprint("oom ", m.ContainerID), err
	default:
		return strings.TrimPrefix(e.Topic, "/tasks/"), nil
	}
}

// happened waits for the last event and checks all of them.
func (f *fixture) happened(want ...string) {
	f.Helper()
	var got []string
	Eventually(f.T, want[len(want)-1], func() error {
		f.mu.Lock()
		defer f.mu.Unlock()
		got = append([]string(nil), f.events...)
		if len(got) < len(want) {
			return fmt.Errorf("only %q", got)
		}
		return nil
	})
	if strings.Join(got, "|") != strings.Join(want, "|") {
		f.Errorf("events are %q, want %q", got, want)
	}
}

func (f *fixture) forgetEvents() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.events, f.from = nil, nil
}

// pack makes an Any as containerd does.
func pack(m proto.Message) *anypb.Any {
	data, err := proto.Marshal(m)
	if err != nil {
		panic(err)
	}
	return &anypb.Any{TypeUrl: string(m.ProtoReflect().Descriptor().FullName()), Value: data}
}

func packJSON(v any) *anypb.Any {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return &anypb.Any{TypeUrl: "types.containerd.io/opencontainers/runtime-spec/1/Process", Value: data}
}

// request is a Create for a bundle of its own.
func (f *fixture) request(id string, changes ...Change) *v2.CreateTaskRequest {
	f.Helper()
	path := "/" + f.Mark + "/" + id
	if f.Systemd {
		path = f.Slice() + ":it:" + f.Mark + "-" + id
	}
	b := f.Bundle(append([]Change{func(c *specs.Spec) { c.Linux.CgroupsPath = path }}, changes...)...)
	return &v2.CreateTaskRequest{ID: id, Bundle: b.Dir, Options: f.options(f.root)}
}

// options have the states of containers in root.
func (f *fixture) options(root string) *anypb.Any {
	return pack(&options.Options{Root: root, SystemdCgroup: f.Systemd})
}

// created creates a container and checks the answer.
func (f *fixture) created(r *v2.CreateTaskRequest) int {
	f.Helper()
	response, err := f.task.Create(ctx(), r)
	Must(f.T, err)
	if response.Pid == 0 {
		f.Error("no pid")
	}
	return int(response.Pid)
}

func (f *fixture) started(r *v2.CreateTaskRequest) int {
	f.Helper()
	pid := f.created(r)
	_, err := f.task.Start(ctx(), &v2.StartRequest{ID: r.ID})
	Must(f.T, err)
	return pid
}

func (f *fixture) waited(id, exec string) uint32 {
	f.Helper()
	limit, cancel := context.WithTimeout(ctx(), 2*SettleTimeout)
	defer cancel()
	response, err := f.task.Wait(limit, &v2.WaitRequest{ID: id, ExecID: exec})
	if err != nil {
		f.Fatalf("wait for %s %s: %v", id, exec, err)
	}
	if response.ExitedAt == nil || time.Since(response.ExitedAt.AsTime()).Abs() > time.Minute {
		f.Errorf("exited at %v", response.ExitedAt.AsTime())
	}
	return response.ExitStatus
}

func (f *fixture) killed(id string) {
	f.Helper()
	_, err := f.task.Kill(ctx(), &v2.KillRequest{ID: id, Signal: uint32(unix.SIGKILL)})
	Must(f.T, err)
	Equal(f.T, "exit status", f.waited(id, ""), 137)
	f.removed(id)
}

func (f *fixture) removed(id string) {
	f.Helper()
	_, err := f.task.Delete(ctx(), &v2.DeleteRequest{ID: id})
	Must(f.T, err)
}

// added adds an exec that is a shell script.
func (f *fixture) added(id, exec, script string, changes ...func(*v2.ExecProcessRequest)) {
	f.Helper()
	r := &v2.ExecProcessRequest{ID: id, ExecID: exec, Spec: packJSON(&specs.Process{
		Args: []string{"sh", "-c", script}, Cwd: "/", Env: []string{"PATH=/bin"},
	})}
	for _, change := range changes {
		change(r)
	}
	_, err := f.task.Exec(ctx(), r)
	Must(f.T, err)
}

// run adds and starts an exec.
func (f *fixture) run(id, exec, script string, changes ...func(*v2.ExecProcessRequest)) int {
	f.Helper()
	f.added(id, exec, script, changes...)
	response, err := f.task.Start(ctx(), &v2.StartRequest{ID: id, ExecID: exec})
	Must(f.T, err)
	return int(response.Pid)
}

// refused checks a code and a text.
func refused(t *testing.T, what string, err error, code codes.Code, text string) {
	t.Helper()
	if status.Code(err) != code || err == nil || !strings.Contains(err.Error(), text) {
		t.Errorf("%s: %v, want %v with %q", what, err, code, text)
	}
}

func (f *fixture) status(id, exec string) string {
	f.Helper()
	response, err := f.task.State(ctx(), &v2.StateRequest{ID: id, ExecID: exec})
	Must(f.T, err)
	return response.Status.String()
}

// fifo makes a FIFO.
func (f *fixture) fifo(name string) string {
	f.Helper()
	path := filepath.Join(f.Dir, name)
	Must(f.T, unix.Mkfifo(path, 0o700))
	return path
}

// reader reads a FIFO to its end, in the background, as containerd does.
func (f *fixture) reader(path string) <-chan string {
	text := make(chan string, 1)
	go func() {
		file, err := os.Open(path)
		if err != nil {
			text <- err.Error()
			return
		}
		defer file.Close()
		data, err := io.ReadAll(file)
		if err != nil {
			data = append(data, err.Error()...)
		}
		text <- string(data)
	}()
	return text
}

func (f *fixture) said(what string, text <-chan string, want string) {
	f.Helper()
	select {
	case got := <-text:
		if got != want {
			f.Errorf("%s is %q, want %q", what, clip(got), clip(want))
		}
	case <-time.After(2 * SettleTimeout):
		f.Errorf("%s does not end", what)
	}
}

func clip(s string) string {
	if len(s) > 200 {
		return fmt.Sprintf("%s… (%d bytes)", s[:200], len(s))
	}
	return s
}
