package cri

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/sock-runtime/sock/shim/pause"
	. "github.com/sock-runtime/sock/tests/sandbox"
)

// handler is a runtime handler of containerd's: what a RuntimeClass names.
type handler struct {
	name  string // in containerd's configuration
	title string // in the table
	pause bool   // there is a pause container
}

var handlers = []handler{
	{"runc", "runc", true},
	{"sock", "sock", true},
	{"bare", "sock without a pause container", false},
}

// cache is where tests/setup.sh builds a recent containerd and runc.
const cache = "../../.cache"

// node is a containerd with its CRI plugin in a room, and a client of it.
type node struct {
	*Sandbox
	room    *Room
	config  string
	server  *exec.Cmd
	socket  string
	conn    *grpc.ClientConn
	runtime cri.RuntimeServiceClient
	images  cri.ImageServiceClient
	podID   atomic.Int32
}

// The images, which are made here and imported: one of the program pause, one of busybox.
const (
	pauseImage = "localhost/pause:1"
	boxImage   = "localhost/box:1"
)

const containerdConfig = `version = 3
root = %[1]q
state = "/run/containerd"
[grpc]
address = "/run/containerd.sock"
[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = %[2]q
[plugins."io.containerd.cri.v1.runtime"]
restrict_oom_score_adj = true # whoever runs the tests may not be allowed to lower it
[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["/usr/lib/cni"]
conf_dir = %[3]q
[plugins."io.containerd.cri.v1.runtime".containerd]
default_runtime_name = "runc"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
BinaryName = %[4]q
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.sock]
runtime_type = "io.containerd.sock.v1"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.bare]
runtime_type = "io.containerd.sock.v1"
sandboxer = "shim"
disable_pause_image_pull = true
`

const cniConfig = `{"cniVersion": "1.0.0", "name": "pods", "plugins": [
{"type": "bridge", "bridge": "cri0", "isGateway": true, "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.88.0.0/16"}]], "dataDir": "/var/lib/cni/networks", "routes": [{"dst": "0.0.0.0/0"}]}},
{"type": "portmap", "capabilities": {"portMappings": true}}]}`

// newNode starts a containerd in a room of its own.
func newNode(t *testing.T) *node {
	t.Helper()
	for _, name := range []string{"containerd/containerd", "containerd/ctr", "containerd/containerd-shim-runc-v2", "runc/runc"} {
		_, err := os.Stat(filepath.Join(cache, name))
		Installable(t, err == nil, name+" is missing in .cache: run tests/setup.sh test")
	}
	for _, name := range []string{"/usr/lib/cni/bridge", "/usr/sbin/iptables"} {
		_, err := os.Stat(name)
		Installable(t, err == nil, name+" is missing: run tests/setup.sh test")
	}
	s := NewSandbox(t)
	room := s.NewRoom()
	n := &node{Sandbox: s, room: room, config: filepath.Join(s.Dir, "config.toml"), socket: fmt.Sprintf("/proc/%d/root/run/containerd.sock", room.Pid())}
	cni := filepath.Join(s.Dir, "cni")
	Must(t, os.Mkdir(cni, 0o755))
	WriteFile(t, filepath.Join(cni, "pods.conflist"), cniConfig, 0o644)
	WriteFile(t, n.config, fmt.Sprintf(containerdConfig, filepath.Join(s.Dir, "containerd"), pauseImage, cni, n.program("runc/runc")), 0o644)
	n.start()
	t.Cleanup(n.end)
	n.importImage(pauseImage, map[string]any{"Entrypoint": []string{"/pause"}}, n.pauseRoot())
	n.importImage(boxImage, map[string]any{"Env": []string{"PATH=/bin"}, "Cmd": []string{"sleep", "1000"}}, s.ImageTar())
	return n
}

func (n *node) program(name string) string {
	path, err := filepath.Abs(filepath.Join(cache, name))
	Must(n.T, err)
	return path
}

// start starts containerd and waits until its CRI plugin is ready.
func (n *node) start() {
	n.Helper()
	log := n.LogFile("containerd")
	n.server = n.room.Command(n.program("containerd/containerd"), "--config", n.config)
	n.server.Stdout, n.server.Stderr = log, log
	n.server.Env = append(n.server.Env, fmt.Sprintf("PATH=%s:%s:%s", shimDir, filepath.Dir(n.program("containerd/ctr")), os.Getenv("PATH")))
	Must(n.T, n.server.Start())
	conn, err := grpc.NewClient("passthrough:///"+n.socket, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(_ context.Context, path string) (net.Conn, error) { return net.Dial("unix", path) }))
	Must(n.T, err)
	n.conn, n.runtime, n.images = conn, cri.NewRuntimeServiceClient(conn), cri.NewImageServiceClient(conn)
	eventually(n.T, "a containerd that is ready", func() error {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		s, err := n.runtime.Status(ctx, &cri.StatusRequest{}, grpc.WaitForReady(true))
		if err != nil {
			return fmt.Errorf("%w\n%s", err, ReadFile(log.Name()))
		}
		for _, c := range s.Status.Conditions {
			if !c.Status && c.Type != "ContainerdHasNoDeprecationWarnings" {
				return errors.New(c.String())
			}
		}
		return nil
	})
}

// stop ends containerd alone.
func (n *node) stop(signal os.Signal) {
	_ = n.conn.Close()
	_ = n.server.Process.Signal(signal)
	_ = n.server.Wait()
}

// end removes whatever is there, and everything that ran.
func (n *node) end() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if list, err := n.runtime.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{}); err == nil {
		for _, p := range list.Items {
			_, err := n.runtime.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: p.Id})
			if err == nil {
				_, err = n.runtime.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: p.Id})
			}
			if err != nil {
				n.Errorf("remove pod %s: %v", p.Metadata.Name, err)
			}
		}
	}
	n.stop(os.Interrupt)
	if n.Failed() {
		n.Logf("containerd's log:\n%s", n.logTail())
	}
	for _, kind := range []string{"keeper", "worker"} {
		for _, pid := range n.shimProcesses(kind) {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
	eventually(n.T, "the end of all processes", func() error {
		if left := n.Processes(); len(left) > 0 {
			return fmt.Errorf("left: %v", left)
		}
		return nil
	})
	for _, dir := range n.Cgroups() {
		Must(n.T, RemoveCgroup(dir))
	}
}

// logTail is the end of what containerd said.
func (n *node) logTail() string {
	var text string
	logs, _ := filepath.Glob(filepath.Join(n.Dir, "containerd*"))
	for _, name := range logs {
		if info, err := os.Stat(name); err == nil && !info.IsDir() {
			text += ReadFile(name)
		}
	}
	lines := strings.Split(text, "\n")
	return strings.Join(lines[max(0, len(lines)-60):], "\n")
}

// shimProcesses lists the pids of our shim's keepers or workers. A process of a container that has not executed yet looks
// like a worker, but is only one thread.
func (n *node) shimProcesses(kind string) []int {
	var pids []int
	for _, process := range n.Processes() {
		pid := Atoi(strings.Fields(process)[0])
		args := strings.Split(ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)), "\x00")
		threads := Atoi(StatusField(ReadFile(fmt.Sprintf("/proc/%d/status", pid)), "Threads"))
		if len(args) > 1 && filepath.Base(args[0]) == "sock-shimd" && args[1] == kind && (kind == "keeper" || threads > 1) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// pauseRoot is the file system of the pause image.
func (n *node) pauseRoot() string {
	program := pause.Program()
	if program == nil {
		n.Skipf("no pause program for %s", runtime.GOARCH)
	}
	var b bytes.Buffer
	archive(n.T, &b, map[string][]byte{"pause": program})
	name := filepath.Join(n.Dir, "pause.tar")
	WriteFile(n.T, name, b.String(), 0o644)
	return name
}

// importImage makes an image of one layer, in the form of `docker save`, and has containerd import it.
func (n *node) importImage(name string, config map[string]any, layer string) {
	n.Helper()
	content, err := os.ReadFile(layer)
	Must(n.T, err)
	image, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH, "os": "linux", "config": config,
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{fmt.Sprintf("sha256:%x", sha256.Sum256(content))}},
	})
	Must(n.T, err)
	manifest, err := json.Marshal([]map[string]any{{"Config": "config.json", "RepoTags": []string{name}, "Layers": []string{"layer.tar"}}})
	Must(n.T, err)
	var b bytes.Buffer
	archive(n.T, &b, map[string][]byte{"config.json": image, "layer.tar": content, "manifest.json": manifest})
	file := filepath.Join(n.Dir, "import.tar")
	WriteFile(n.T, file, b.String(), 0o644)
	if r := n.Do(n.room.Command(n.program("containerd/ctr"), "--address", "/run/containerd.sock", "--namespace", "k8s.io", "images", "import", file)); r.Code != 0 {
		n.Fatal(r)
	}
	eventually(n.T, "image "+name, func() error {
		s, err := n.images.ImageStatus(n.Context(), &cri.ImageStatusRequest{Image: &cri.ImageSpec{Image: name}})
		if err == nil && s.Image == nil {
			err = errors.New("not there")
		}
		return err
	})
}

func archive(t *testing.T, b *bytes.Buffer, files map[string][]byte) {
	t.Helper()
	w := tar.NewWriter(b)
	for name, content := range files {
		Must(t, w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(content))}))
		_, err := w.Write(content)
		Must(t, err)
	}
	Must(t, w.Close())
}

// in calls f in the room's network namespace, on a thread that is given up after that. f must not start goroutines that
// open sockets.
func (n *node) in(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		fd, err := unix.Open(fmt.Sprintf("/proc/%d/ns/net", n.room.Pid()), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			err = unix.Setns(fd, unix.CLONE_NEWNET)
			_ = unix.Close(fd)
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}
