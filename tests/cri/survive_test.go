package cri

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	. "github.com/sock-runtime/sock/tests/sandbox"
)

// TestRestart kills containerd under pods, twice, and starts it again: what has ended meanwhile is told, the rest goes on.
func TestRestart(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	type set struct {
		client
		plain, shared *pod
		box, ends     *container
		namespaces    string
	}
	var sets []*set
	for _, h := range handlers {
		c := client{T: t, node: n, handler: h}
		s := &set{client: c, plain: c.pod(), shared: c.pod(namespaces(func(o *cri.NamespaceOption) { o.Pid = cri.NamespaceMode_POD }))}
		s.box = s.plain.run("box", "echo ready; while [ ! -e /tmp/go ]; do sleep 0.05; done; echo more; exec sleep 1000")
		s.ends = s.plain.run("ends", "while [ ! -e /dev/shm/go ]; do sleep 0.05; done; exit 5")
		s.shared.sleeper("one")
		s.namespaces = s.box.shell(showNamespaces)
		sets = append(sets, s)
	}
	for _, signal := range []os.Signal{unix.SIGKILL, unix.SIGTERM} {
		n.stop(signal)
		if signal == unix.SIGKILL {
			for _, s := range sets {
				pid := s.ends.init()
				WriteFile(t, fmt.Sprintf("/proc/%d/root/dev/shm/go", pid), "", 0o644)
				eventually(t, "the end of a process", func() error {
					if Alive(pid) {
						return errors.New("it runs")
					}
					return nil
				})
			}
		}
		n.start()
		for _, s := range sets {
			name := s.handler.name
			for _, p := range []*pod{s.plain, s.shared} {
				Equal(t, "state of a pod of "+name, p.status().State, cri.PodSandboxState_SANDBOX_READY)
			}
			Equal(t, "state of a container of "+name, s.box.status().State, cri.ContainerState_CONTAINER_RUNNING)
			if code := s.ends.ended().ExitCode; code != 5 && name != "runc" { // of whose shim containerd learns 255
				t.Errorf("%s: exit status of what has ended is %d", name, code)
			}
			Equal(t, "namespaces, of "+name, s.box.shell(showNamespaces), s.namespaces)
			again := strings.Split(s.plain.sleeper("after"+fmt.Sprint(signal)).shell(showNamespaces), "\n")
			for i, old := range strings.Split(s.namespaces, "\n") {
				if kind, _, _ := strings.Cut(old, ":"); kind == "net" || kind == "ipc" || kind == "uts" {
					Equal(t, name+": "+kind+" namespace of another container", again[i], old)
				}
			}
			Equal(t, "processes of a pod that shares them, of "+name, strings.Count(s.shared.sleeper("after"+fmt.Sprint(signal)).shell("ps"), "sleep 1000") > 1, true)
		}
	}
	for _, s := range sets {
		s.box.shell("touch /tmp/go")
		s.box.says("more")
		s.box.stop(0)
		Equal(t, "exit status, of "+s.handler.name, s.box.ended().ExitCode, 137)
	}
}

// init is the pid of the container's process.
func (c *container) init() int {
	c.Helper()
	for _, pid := range strings.Fields(ReadFile(c.pod.cgroup("memory") + "/" + c.id + "/cgroup.procs")) {
		if inside := strings.Fields(StatusField(ReadFile("/proc/"+pid+"/status"), "NSpid")); len(inside) > 0 && inside[len(inside)-1] == "1" {
			return Atoi(pid)
		}
	}
	c.Fatalf("container %s has no process", c.config.Metadata.Name)
	return 0
}

// TestWorkerKilled kills the shim's worker again and again while pods and containers come and go. Nobody notices; a pod's
// namespaces stay.
func TestWorkerKilled(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	for _, h := range handlers {
		if h.name == "runc" {
			continue
		}
		c := client{T: t, node: n, handler: h}
		old := c.pod()
		box := old.sleeper("box")
		want := box.shell("readlink /proc/self/ns/ipc; hostname; echo kept > /dev/shm/x")
		done, kills := make(chan struct{}), 0
		var killing sync.WaitGroup
		killing.Go(func() {
			for {
				select {
				case <-done:
					return
				case <-time.After(time.Duration(60+37*(kills%7)) * time.Millisecond):
				}
				for _, pid := range n.shimProcesses("worker") {
					if unix.Kill(pid, unix.SIGKILL) == nil {
						kills++
					}
				}
			}
		})
		var all sync.WaitGroup
		var mu sync.Mutex
		var failed []error
		for w := range 2 {
			all.Go(func() {
				for i := range 6 {
					if err := c.comeAndGo(fmt.Sprint(w, i), i%3 == 2); err != nil {
						mu.Lock()
						failed = append(failed, fmt.Errorf("%d, %d: %w", w, i, err))
						mu.Unlock()
					}
				}
			})
		}
		all.Wait()
		close(done)
		killing.Wait()
		for _, err := range failed {
			t.Errorf("%s: %v", h.name, err)
		}
		t.Logf("%s: %d kills", h.name, kills)
		if kills < 3 {
			t.Errorf("only %d kills", kills)
		}
		Equal(t, "the old pod", old.status().State, cri.PodSandboxState_SANDBOX_READY)
		Equal(t, "its new container", old.sleeper("new").shell("readlink /proc/self/ns/ipc; hostname; cat /dev/shm/x"), want+"\nkept")
	}
}

// comeAndGo runs a pod with a container to its end.
func (c client) comeAndGo(name string, sharedPID bool) error {
	ctx, cancel := c.timeout()
	defer cancel()
	p, err := c.tryPod(c.podConfig(namespaces(func(o *cri.NamespaceOption) {
		if sharedPID {
			o.Pid = cri.NamespaceMode_POD
		}
	})))
	if err != nil {
		return fmt.Errorf("pod: %w", err)
	}
	box, err := p.tryCreate(p.containerConfig("box", "hostname; exit 7"))
	if err == nil {
		err = box.start()
	}
	if err != nil {
		return fmt.Errorf("container: %w", err)
	}
	if err := box.endsWith(ctx, 7, p.config.Hostname); err != nil {
		return err
	}
	if _, err := c.node.runtime.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: p.id}); err != nil {
		return fmt.Errorf("stop the pod: %w", err)
	}
	if _, err := c.node.runtime.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: p.id}); err != nil {
		return fmt.Errorf("remove the pod: %w", err)
	}
	return nil
}

func (c *container) endsWith(ctx context.Context, code int32, output string) error {
	for {
		r, err := c.node.runtime.ContainerStatus(ctx, &cri.ContainerStatusRequest{ContainerId: c.id})
		if err != nil {
			return err
		}
		if r.Status.State == cri.ContainerState_CONTAINER_EXITED {
			if r.Status.ExitCode != code || c.stdout() != output {
				return fmt.Errorf("exit status %d, %s, output %q", r.Status.ExitCode, r.Status.Message, c.log())
			}
			return nil
		}
		time.Sleep(5 * time.Millisecond)
	}
}
