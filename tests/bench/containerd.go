package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	containers "github.com/containerd/containerd/api/services/containers/v1"
	namespaces "github.com/containerd/containerd/api/services/namespaces/v1"
	snapshots "github.com/containerd/containerd/api/services/snapshots/v1"
	tasks "github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/api/services/version/v1"
	"github.com/containerd/containerd/api/types"
	runc "github.com/containerd/containerd/api/types/runc/options"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"
)

// engineTimeout is how long a server may take to start, and one request to it.
const engineTimeout = time.Minute

// containerd is a server of our own, which runs in our mount namespace, and a connection to it.
type containerd struct {
	dir     string
	server  *exec.Cmd
	version string
	context context.Context
	tasks   tasks.TasksClient

	containers containers.ContainersClient
	snapshots  snapshots.SnapshotsClient
	spec       map[string]any
}

const (
	namespace   = "sock-bench"
	snapshotter = "overlayfs"
	image       = "image" // the snapshot of which all root file systems are made
)

// startContainerd starts the server of a directory of programs, which finds shims in further ones, and fills it with a root
// file system.
func startContainerd(ctx context.Context, programs string, shims []string, env []string, b Bundle, dir string) (_ *containerd, err error) {
	c := &containerd{dir: filepath.Join(dir, "containerd")}
	if err := os.MkdirAll(c.dir, 0o711); err != nil {
		return nil, err
	}
	socket, config := filepath.Join(c.dir, "containerd.sock"), filepath.Join(c.dir, "config.toml")
	text := fmt.Sprintf("version = 2\nroot = %q\nstate = \"/run/containerd\"\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = %q\n",
		filepath.Join(c.dir, "root"), socket)
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		return nil, err
	}
	path := strings.Join(append(append([]string{programs}, shims...), os.Getenv("PATH"), "/usr/sbin:/sbin"), ":")
	c.server = exec.Command(filepath.Join(programs, "containerd"), "--config", config)
	c.server.Env = append(append(os.Environ(), "PATH="+path), env...)
	if err := startServer(c.server, filepath.Join(c.dir, "log")); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			c.stop()
		}
	}()
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	c.context = metadata.AppendToOutgoingContext(ctx, "containerd-namespace", namespace)
	c.tasks, c.containers, c.snapshots = tasks.NewTasksClient(conn), containers.NewContainersClient(conn), snapshots.NewSnapshotsClient(conn)
	started, cancel := context.WithTimeout(ctx, engineTimeout)
	defer cancel()
	v, err := version.NewVersionClient(conn).Version(started, &emptypb.Empty{}, grpc.WaitForReady(true))
	if err != nil {
		return nil, fmt.Errorf("containerd does not start: %w\n%s", err, lastWords(filepath.Join(c.dir, "log")))
	}
	c.version = v.Version
	if _, err := namespaces.NewNamespacesClient(conn).Create(ctx, &namespaces.CreateNamespaceRequest{Namespace: &namespaces.Namespace{Name: namespace}}); err != nil {
		return nil, err
	}
	return c, c.fill(b)
}

// startServer starts a program that Ctrl-C is not to reach: it is ended by us.
func startServer(cmd *exec.Cmd, log string) error {
	out, err := os.Create(log)
	if err != nil {
		return err
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &unix.SysProcAttr{}
	}
	cmd.SysProcAttr.Setsid = true
	return cmd.Start()
}

// stopServer ends a server, in an orderly way if it can.
func stopServer(cmd *exec.Cmd) {
	_ = cmd.Process.Signal(unix.SIGTERM)
	kill := time.AfterFunc(engineTimeout/2, func() { _ = cmd.Process.Kill() })
	defer kill.Stop()
	_ = cmd.Wait()
}

// events is where shims send theirs.
func (c *containerd) events() string { return filepath.Join(c.dir, "containerd.sock.ttrpc") }

func (c *containerd) stop() { stopServer(c.server) }

func lastWords(log string) string {
	const most = 2000
	data, _ := os.ReadFile(log)
	return string(data[max(0, len(data)-most):])
}

// fill makes the snapshot of the bundle's root file system, and reads its config.
func (c *containerd) fill(b Bundle) error {
	prepared, err := c.snapshots.Prepare(c.context, &snapshots.PrepareSnapshotRequest{Snapshotter: snapshotter, Key: "filling", Labels: keep})
	if err != nil {
		return fmt.Errorf("make a snapshot: %w", err)
	}
	if len(prepared.Mounts) != 1 || prepared.Mounts[0].Type != "bind" {
		return fmt.Errorf("a first snapshot is mounted by %v", prepared.Mounts)
	}
	if err := os.CopyFS(prepared.Mounts[0].Source, os.DirFS(b.rootfs)); err != nil {
		return fmt.Errorf("fill the snapshot: %w", err)
	}
	if _, err := c.snapshots.Commit(c.context, &snapshots.CommitSnapshotRequest{Snapshotter: snapshotter, Name: image, Key: "filling", Labels: keep}); err != nil {
		return fmt.Errorf("commit the snapshot: %w", err)
	}
	return json.Unmarshal([]byte(defaultConfig), &c.spec)
}

// keep is a label that keeps containerd's collector away.
var keep = map[string]string{"containerd.io/gc.root": "bench"}

// Shim is a contestant under containerd: what is known of a container that it runs.
type Shim struct {
	Name    string
	runtime string // of containerd
	options proto.Message
	// mounts says whether it has to mount the root file system.
	mounts bool
	// processes are the names of the programs that serve its containers.
	processes []string
}

// box is a container of a shim's, with its root file system: its tasks come and go.
type box struct {
	*containerd
	shim   *Shim
	id     string
	rootfs []*types.Mount
}

// box makes a container whose process is the command. Containers and snapshots are entries in containerd's database.
func (c *containerd) box(shim *Shim, id string, args ...string) (*box, error) {
	b := &box{containerd: c, shim: shim, id: id}
	config := map[string]any{}
	for name, value := range c.spec {
		config[name] = value
	}
	process := map[string]any{}
	for name, value := range c.spec["process"].(map[string]any) {
		process[name] = value
	}
	linux := map[string]any{"cgroupsPath": cgroupParent() + "/" + id}
	for name, value := range c.spec["linux"].(map[string]any) {
		linux[name] = value
	}
	process["args"] = args
	config["process"], config["linux"] = process, linux
	spec, err := json.Marshal(config)
	if err != nil {
		return nil, err
	}
	r := &containers.Container{
		ID: id, Runtime: &containers.Container_Runtime{Name: shim.runtime}, Snapshotter: snapshotter, SnapshotKey: id,
		Spec: &anypb.Any{TypeUrl: "types.containerd.io/opencontainers/runtime-spec/1/Spec", Value: spec},
	}
	if shim.options != nil {
		if r.Runtime.Options, err = anypb.New(shim.options); err != nil {
			return nil, err
		}
		r.Runtime.Options.TypeUrl = string(shim.options.ProtoReflect().Descriptor().FullName()) // as containerd's types have it
	}
	prepared, err := c.snapshots.Prepare(c.context, &snapshots.PrepareSnapshotRequest{Snapshotter: snapshotter, Key: id, Parent: image, Labels: keep})
	if err != nil {
		return nil, fmt.Errorf("make the root file system of %s: %w", id, err)
	}
	if b.rootfs = prepared.Mounts; !shim.mounts {
		b.rootfs = nil
	}
	if _, err := c.containers.Create(c.context, &containers.CreateContainerRequest{Container: r}); err != nil {
		return nil, fmt.Errorf("make container %s: %w", id, err)
	}
	return b, nil
}

// create makes the task, whose output nobody wants.
func (b *box) create() error {
	r := &tasks.CreateTaskRequest{ContainerID: b.id, Rootfs: b.rootfs}
	if b.shim.options != nil {
		data, err := proto.Marshal(b.shim.options)
		if err != nil {
			return err
		}
		r.Options = &anypb.Any{TypeUrl: string(b.shim.options.ProtoReflect().Descriptor().FullName()), Value: data}
	}
	_, err := b.tasks.Create(b.context, r)
	return b.failure("create", err)
}

// start lets a process go; exec is "" for init.
func (b *box) start(exec string) error {
	_, err := b.tasks.Start(b.context, &tasks.StartRequest{ContainerID: b.id, ExecID: exec})
	return b.failure("start", err)
}

// waiter begins to wait for the end of a process, as clients do before they start it; what it returns waits for that.
func (b *box) waiter(exec string) func() error {
	done := make(chan error, 1)
	go func() {
		r, err := b.tasks.Wait(b.context, &tasks.WaitRequest{ContainerID: b.id, ExecID: exec})
		if err == nil && r.ExitStatus != 0 {
			err = fmt.Errorf("it ended with status %d", r.ExitStatus)
		}
		done <- b.failure("wait", err)
	}()
	return func() error { return <-done }
}

// life is a task from create to delete.
func (b *box) life() error {
	if err := b.create(); err != nil {
		return err
	}
	wait := b.waiter("")
	err := b.start("")
	if err == nil {
		err = wait()
	}
	_, deleted := b.tasks.Delete(b.context, &tasks.DeleteTaskRequest{ContainerID: b.id})
	return errors.Join(err, b.failure("delete", deleted))
}

// exec is a process in the container from its begin to its delete.
func (b *box) exec(id string) error {
	spec := map[string]any{}
	for name, value := range b.spec["process"].(map[string]any) {
		spec[name] = value
	}
	spec["args"] = []string{"/bin/true"}
	data, err := json.Marshal(spec)
	if err != nil {
		return err
	}
	r := &tasks.ExecProcessRequest{
		ContainerID: b.id, ExecID: id, Spec: &anypb.Any{TypeUrl: "types.containerd.io/opencontainers/runtime-spec/1/Process", Value: data},
	}
	if _, err := b.tasks.Exec(b.context, r); err != nil {
		return b.failure("exec", err)
	}
	wait := b.waiter(id)
	if err = b.start(id); err == nil {
		err = wait()
	}
	_, deleted := b.tasks.DeleteProcess(b.context, &tasks.DeleteProcessRequest{ContainerID: b.id, ExecID: id})
	return errors.Join(err, b.failure("delete", deleted))
}

// run starts the task, which goes on.
func (b *box) run() error {
	if err := b.create(); err != nil {
		return err
	}
	return b.start("")
}

// end kills the task, and deletes it.
func (b *box) end() error {
	wait := b.waiter("")
	if _, err := b.tasks.Kill(b.context, &tasks.KillRequest{ContainerID: b.id, Signal: uint32(unix.SIGKILL)}); err != nil {
		return b.failure("kill", err)
	}
	_ = wait() // the status is that of the signal
	_, err := b.tasks.Delete(b.context, &tasks.DeleteTaskRequest{ContainerID: b.id})
	return b.failure("delete", err)
}

func (b *box) failure(does string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s of %s: %w", does, b.id, b.shim.Name, err)
}

// runcOptions are runc's shim's, for a runtime.
func runcOptions(r *Runtime) *runc.Options { return &runc.Options{BinaryName: r.path, Root: r.root} }
