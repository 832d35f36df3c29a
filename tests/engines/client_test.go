package engines

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	api "github.com/containerd/containerd/api/events"
	"github.com/containerd/containerd/api/services/containers/v1"
	"github.com/containerd/containerd/api/services/events/v1"
	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/sock-runtime/sock/spec"
	. "github.com/sock-runtime/sock/tests/sandbox"
)

// apiClient is one of containerd's, for where ctr would be a process a request.
type apiClient struct {
	*containerd
	ctx        context.Context
	tasks      tasks.TasksClient
	containers containers.ContainersClient
	conn       *grpc.ClientConn
	seen       *recorder
}

const clientNamespace = "default"

// api connects to the containerd, also to one that takes its place, and listens to its events.
func (c *containerd) api() *apiClient {
	c.Helper()
	conn, err := grpc.NewClient(fmt.Sprintf("unix:///proc/%d/root/run/containerd.sock", c.Room.Pid()), grpc.WithTransportCredentials(insecure.NewCredentials()))
	Must(c.T, err)
	ctx, cancel := context.WithCancel(metadata.AppendToOutgoingContext(context.Background(), "containerd-namespace", clientNamespace))
	c.Cleanup(func() {
		cancel()
		_ = conn.Close()
	})
	k := &apiClient{containerd: c, ctx: ctx, conn: conn, tasks: tasks.NewTasksClient(conn), containers: containers.NewContainersClient(conn)}
	k.listen()
	return k
}

// recorder is what containerd has told of tasks: for each process its events, in their order.
type recorder struct {
	mu     sync.Mutex
	events map[string][]string
	ready  chan struct{}
	once   sync.Once
}

// listen records events from now on.
func (k *apiClient) listen() {
	k.Helper()
	seen := &recorder{events: map[string][]string{}, ready: make(chan struct{})}
	k.seen = seen
	stream, err := events.NewEventsClient(k.conn).Subscribe(k.ctx, &events.SubscribeRequest{}, grpc.WaitForReady(true))
	Must(k.T, err)
	go func() {
		for {
			e, err := stream.Recv()
			if err != nil {
				return
			}
			seen.add(e)
		}
	}()
	// Nothing says when it listens. Containers' events are containerd's own.
	Eventually(k.T, "an event", func() error {
		if _, err := k.containers.Create(k.ctx, &containers.CreateContainerRequest{Container: &containers.Container{
			ID: "listening", Runtime: &containers.Container_Runtime{Name: "none"}, Spec: &anypb.Any{},
		}}); err == nil {
			_, err = k.containers.Delete(k.ctx, &containers.DeleteContainerRequest{ID: "listening"})
			Must(k.T, err)
		}
		select {
		case <-seen.ready:
			return nil
		case <-time.After(10 * time.Millisecond):
			return fmt.Errorf("none yet: %v", err)
		}
	})
}

func (r *recorder) add(e *types.Envelope) {
	var key, what string
	name := strings.TrimPrefix(e.Topic, "/tasks/")
	into := func(m proto.Message) bool { return proto.Unmarshal(e.Event.Value, m) == nil }
	switch name {
	case "create":
		if m := (&api.TaskCreate{}); into(m) {
			key, what = m.ContainerID, "create"
		}
	case "start":
		if m := (&api.TaskStart{}); into(m) {
			key, what = m.ContainerID, "start"
		}
	case "exec-added":
		if m := (&api.TaskExecAdded{}); into(m) {
			key, what = m.ContainerID+"/"+m.ExecID, "added"
		}
	case "exec-started":
		if m := (&api.TaskExecStarted{}); into(m) {
			key, what = m.ContainerID+"/"+m.ExecID, "started"
		}
	case "exit":
		if m := (&api.TaskExit{}); into(m) {
			if key = m.ContainerID; m.ID != m.ContainerID {
				key += "/" + m.ID
			}
			what = fmt.Sprint("exit ", m.ExitStatus)
		}
	case "delete":
		if m := (&api.TaskDelete{}); into(m) {
			if key = m.ContainerID; m.ID != "" && m.ID != m.ContainerID {
				key += "/" + m.ID
			}
			what = fmt.Sprint("delete ", m.ExitStatus)
		}
	default:
		if strings.HasPrefix(e.Topic, "/containers/") {
			r.once.Do(func() { close(r.ready) })
		}
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events[key] = append(r.events[key], what)
}

// of are the events of a process, each when it came first. What a worker sent last before it was killed, containerd may handle
// after what the next one sent, which began with the same.
func (r *recorder) of(key string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var first []string
	for _, event := range r.events[key] {
		if !slices.Contains(first, event) {
			first = append(first, event)
		}
	}
	return first
}

// happened waits for the events of a process.
func (k *apiClient) happened(key string, want ...string) {
	k.Helper()
	Eventually(k.T, "events of "+key, func() error {
		if got := k.seen.of(key); !slices.Equal(got, want) {
			return fmt.Errorf("%q, want %q", got, want)
		}
		return nil
	})
}

// lived is happened for the life of a container.
func (k *apiClient) lived(id string, status uint32) {
	k.Helper()
	k.happened(id, "create", "start", fmt.Sprint("exit ", status), fmt.Sprint("delete ", status))
}

// stdio are the FIFOs of a process, of which it has those that are not "".
type stdio struct {
	in, out  string
	terminal bool
}

// fifos makes stdio.
func (k *apiClient) fifos(name string, terminal bool) stdio {
	k.Helper()
	s := stdio{in: filepath.Join(k.Dir, name+"-in"), out: filepath.Join(k.Dir, name+"-out"), terminal: terminal}
	Must(k.T, unix.Mkfifo(s.in, 0o600))
	Must(k.T, unix.Mkfifo(s.out, 0o600))
	return s
}

// container makes a container that runs a shell script, with its root file system mounted by the shim.
func (k *apiClient) container(id, script string, s stdio, changes ...Change) error {
	config := spec.Default(false)
	config.Process.Terminal = s.terminal
	config.Process.Args = []string{"sh", "-c", script}
	config.Linux.CgroupsPath = "/" + k.Mark + "/" + id
	for _, change := range changes {
		change(config)
	}
	data, err := json.Marshal(config)
	if err != nil {
		return err
	}
	if _, err := k.containers.Create(k.ctx, &containers.CreateContainerRequest{Container: &containers.Container{
		ID: id, Runtime: &containers.Container_Runtime{Name: "io.containerd.sock.v1"},
		Spec: &anypb.Any{TypeUrl: "types.containerd.io/opencontainers/runtime-spec/1/Spec", Value: data},
	}}); err != nil {
		return fmt.Errorf("container %s: %w", id, err)
	}
	return nil
}

// create makes a container and its task.
func (k *apiClient) create(id, script string, s stdio, changes ...Change) error {
	if err := k.container(id, script, s, changes...); err != nil {
		return err
	}
	if _, err := k.tasks.Create(k.ctx, k.taskRequest(id, s)); err != nil {
		return fmt.Errorf("create %s: %w", id, err)
	}
	return nil
}

func (k *apiClient) taskRequest(id string, s stdio) *tasks.CreateTaskRequest {
	return &tasks.CreateTaskRequest{
		ContainerID: id, Stdin: s.in, Stdout: s.out, Terminal: s.terminal,
		Rootfs: []*types.Mount{{Type: "bind", Source: k.rootfs, Options: []string{"rbind", "ro"}}},
	}
}

// run makes a container and starts it.
func (k *apiClient) run(id, script string, s stdio, changes ...Change) error {
	if err := k.create(id, script, s, changes...); err != nil {
		return err
	}
	return k.start(id, "")
}

func (k *apiClient) start(id, exec string) error {
	if _, err := k.tasks.Start(k.ctx, &tasks.StartRequest{ContainerID: id, ExecID: exec}); err != nil {
		return fmt.Errorf("start %s %s: %w", id, exec, err)
	}
	return nil
}

// exec starts a shell script beside a container's init.
func (k *apiClient) exec(id, exec, script string, s stdio) error {
	data, err := json.Marshal(&specs.Process{Args: []string{"sh", "-c", script}, Cwd: "/", Env: []string{"PATH=/bin"}, Terminal: s.terminal})
	if err != nil {
		return err
	}
	if _, err := k.tasks.Exec(k.ctx, &tasks.ExecProcessRequest{
		ContainerID: id, ExecID: exec, Stdin: s.in, Stdout: s.out, Terminal: s.terminal,
		Spec: &anypb.Any{TypeUrl: "types.containerd.io/opencontainers/runtime-spec/1/Process", Value: data},
	}); err != nil {
		return fmt.Errorf("exec %s %s: %w", id, exec, err)
	}
	return k.start(id, exec)
}

// wait waits for the end of a process, for as long as any test takes.
func (k *apiClient) wait(id, exec string) (uint32, error) {
	limit, cancel := context.WithTimeout(k.ctx, 3*time.Minute)
	defer cancel()
	r, err := k.tasks.Wait(limit, &tasks.WaitRequest{ContainerID: id, ExecID: exec})
	if err != nil {
		return 0, fmt.Errorf("wait %s %s: %w", id, exec, err)
	}
	return r.ExitStatus, nil
}

// delete removes a process that has ended; with init goes the container.
func (k *apiClient) delete(id, exec string) (uint32, error) {
	var r *tasks.DeleteResponse
	var err error
	if exec != "" {
		r, err = k.tasks.DeleteProcess(k.ctx, &tasks.DeleteProcessRequest{ContainerID: id, ExecID: exec})
	} else if r, err = k.tasks.Delete(k.ctx, &tasks.DeleteTaskRequest{ContainerID: id}); err == nil {
		_, err = k.containers.Delete(k.ctx, &containers.DeleteContainerRequest{ID: id})
	}
	if err != nil {
		return 0, fmt.Errorf("delete %s %s: %w", id, exec, err)
	}
	return r.ExitStatus, nil
}

// ended waits for the end of a process, deletes it, and checks its status.
func (k *apiClient) ended(id, exec string, want uint32) error {
	if got, err := k.wait(id, exec); err != nil || got != want {
		return fmt.Errorf("%s %s ended with %d, want %d (%w)", id, exec, got, want, err)
	}
	if got, err := k.delete(id, exec); err != nil || got != want {
		return fmt.Errorf("delete of %s %s: %d, want %d (%w)", id, exec, got, want, err)
	}
	return nil
}

// statuses are those of all tasks.
func (k *apiClient) statuses() map[string]string {
	k.Helper()
	r, err := k.tasks.List(k.ctx, &tasks.ListTasksRequest{})
	Must(k.T, err)
	all := map[string]string{}
	for _, p := range r.Tasks {
		all[p.ID] = p.Status.String()
	}
	return all
}

// talk is a conversation with a process that answers each line.
type talk struct {
	in     *os.File
	out    *bufio.Reader
	opened chan error
	lines  int
}

// parrot is a script that answers each line with itself and some more, and ends with the status that it is told.
const parrot = `test -t 0 && stty -echo; echo ready; while read n; do case $n in end*) exit ${n#end};; esac; seq $n $((n + 99)); done`

// talk opens the other ends of stdio. The process may open its own before or after that.
func (s stdio) talk() *talk {
	t := &talk{opened: make(chan error, 1)}
	go func() {
		out, err := os.Open(s.out)
		if err == nil {
			t.out = bufio.NewReader(out)
			t.in, err = os.OpenFile(s.in, os.O_WRONLY, 0)
		}
		t.opened <- err
	}()
	return t
}

// open waits for the process's greeting.
func (t *talk) open() error {
	select {
	case err := <-t.opened:
		if err != nil {
			return err
		}
	case <-time.After(SettleTimeout):
		return fmt.Errorf("the FIFOs are not opened")
	}
	return t.expect("ready")
}

func (t *talk) expect(want string) error {
	line, err := t.out.ReadString('\n')
	if strings.TrimRight(line, "\r\n") != want {
		return fmt.Errorf("line %d is %q, want %q (%v)", t.lines, line, want, err)
	}
	t.lines++
	return nil
}

// on has a parrot say a hundred lines.
func (t *talk) on() error {
	first := t.lines
	if _, err := fmt.Fprintln(t.in, first); err != nil {
		return err
	}
	for i := range 100 {
		if err := t.expect(fmt.Sprint(first + i)); err != nil {
			return err
		}
	}
	return nil
}

// end has a parrot exit, and checks that it says no more.
func (t *talk) end(status uint32) error {
	if _, err := fmt.Fprintf(t.in, "end%d\n", status); err != nil {
		return err
	}
	_ = t.in.Close()
	rest, err := io.ReadAll(t.out)
	if len(rest) > 0 {
		return fmt.Errorf("it also said %q (%v)", rest, err)
	}
	return nil
}

// text reads a FIFO to its end.
func text(path string) <-chan string {
	said := make(chan string, 1)
	go func() {
		data, err := os.ReadFile(path)
		if err != nil {
			data = []byte(err.Error())
		}
		said <- string(data)
	}()
	return said
}

// check reports an error of a goroutine.
func check(t *testing.T, err error) bool {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
	return err == nil
}
