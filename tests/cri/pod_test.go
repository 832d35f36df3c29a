package cri

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	. "github.com/sock-runtime/sock/tests/sandbox"
)

// client is the node for one scenario, with one handler.
type client struct {
	*testing.T
	node    *node
	handler handler
}

// pod is a sandbox that runs.
type pod struct {
	client
	id     string
	config *cri.PodSandboxConfig
}

// container is one in a pod.
type container struct {
	*pod
	id     string
	config *cri.ContainerConfig
}

type (
	podChange       = func(*cri.PodSandboxConfig)
	containerChange = func(*cri.ContainerConfig)
)

// podConfig is what the kubelet sends for a plain pod: PID namespaces are the containers' own.
func (c client) podConfig(changes ...podChange) *cri.PodSandboxConfig {
	c.Helper()
	name := fmt.Sprintf("pod%d", c.node.podID.Add(1))
	logs := filepath.Join(c.node.Dir, "logs", name)
	Must(c.T, os.MkdirAll(logs, 0o755))
	config := &cri.PodSandboxConfig{
		Metadata:     &cri.PodSandboxMetadata{Name: name, Uid: name + "-uid", Namespace: "default"},
		Hostname:     name,
		LogDirectory: logs,
		DnsConfig:    &cri.DNSConfig{Servers: []string{"10.96.0.10"}, Searches: []string{"svc.cluster.local"}, Options: []string{"ndots:5"}},
		Labels:       map[string]string{"io.kubernetes.pod.name": name},
		Linux: &cri.LinuxPodSandboxConfig{
			CgroupParent:    "/" + c.node.Mark + "/" + name,
			SecurityContext: &cri.LinuxSandboxSecurityContext{NamespaceOptions: &cri.NamespaceOption{Pid: cri.NamespaceMode_CONTAINER}},
		},
	}
	for _, change := range changes {
		change(config)
	}
	return config
}

// pod runs a pod, and removes it after the scenario.
func (c client) pod(changes ...podChange) *pod {
	c.Helper()
	p, err := c.tryPod(c.podConfig(changes...))
	Must(c.T, err)
	c.Cleanup(p.remove)
	return p
}

func (c client) tryPod(config *cri.PodSandboxConfig) (*pod, error) {
	r, err := c.node.runtime.RunPodSandbox(c.Context(), &cri.RunPodSandboxRequest{Config: config, RuntimeHandler: c.handler.name})
	if err != nil {
		return nil, err
	}
	return &pod{client: c, id: r.PodSandboxId, config: config}, nil
}

// remove stops and removes the pod with all that is in it.
func (p *pod) remove() {
	ctx, cancel := p.timeout()
	defer cancel()
	if _, err := p.node.runtime.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: p.id}); err != nil {
		p.Errorf("stop the pod: %v", err)
	}
	if _, err := p.node.runtime.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: p.id}); err != nil {
		p.Errorf("remove the pod: %v", err)
	}
}

func (p *pod) status() *cri.PodSandboxStatus {
	p.Helper()
	r, err := p.node.runtime.PodSandboxStatus(p.Context(), &cri.PodSandboxStatusRequest{PodSandboxId: p.id})
	Must(p.T, err)
	return r.Status
}

// containerConfig is what the kubelet sends for a container that runs a shell script.
func (p *pod) containerConfig(name, script string, changes ...containerChange) *cri.ContainerConfig {
	namespaces := proto.Clone(p.config.Linux.SecurityContext.NamespaceOptions).(*cri.NamespaceOption)
	config := &cri.ContainerConfig{
		Metadata: &cri.ContainerMetadata{Name: name},
		Image:    &cri.ImageSpec{Image: boxImage},
		Command:  []string{"sh", "-c", script},
		LogPath:  name + ".log",
		Linux: &cri.LinuxContainerConfig{
			Resources:       &cri.LinuxContainerResources{},
			SecurityContext: &cri.LinuxContainerSecurityContext{NamespaceOptions: namespaces},
		},
	}
	for _, change := range changes {
		change(config)
	}
	return config
}

// create makes a container that isn't started.
func (p *pod) create(name, script string, changes ...containerChange) *container {
	p.Helper()
	c, err := p.tryCreate(p.containerConfig(name, script, changes...))
	Must(p.T, err)
	return c
}

func (p *pod) tryCreate(config *cri.ContainerConfig) (*container, error) {
	r, err := p.node.runtime.CreateContainer(p.Context(), &cri.CreateContainerRequest{PodSandboxId: p.id, Config: config, SandboxConfig: p.config})
	if err != nil {
		return nil, err
	}
	return &container{pod: p, id: r.ContainerId, config: config}, nil
}

// run starts a container.
func (p *pod) run(name, script string, changes ...containerChange) *container {
	p.Helper()
	c := p.create(name, script, changes...)
	Must(p.T, c.start())
	return c
}

// sleeper runs a container that lives until it is stopped.
func (p *pod) sleeper(name string, changes ...containerChange) *container {
	p.Helper()
	return p.run(name, "exec sleep 1000", changes...)
}

// output runs a script in a new container to its end and returns its output.
func (p *pod) output(name, script string, changes ...containerChange) string {
	p.Helper()
	c := p.run(name, script, changes...)
	if s := c.ended(); s.ExitCode != 0 {
		p.Fatalf("container %s: exit status %d, %s: %s", name, s.ExitCode, s.Reason, c.log())
	}
	return c.stdout()
}

func (c *container) start() error {
	_, err := c.node.runtime.StartContainer(c.Context(), &cri.StartContainerRequest{ContainerId: c.id})
	return err
}

func (c *container) stop(timeout time.Duration) {
	c.Helper()
	_, err := c.node.runtime.StopContainer(c.Context(), &cri.StopContainerRequest{ContainerId: c.id, Timeout: int64(timeout / time.Second)})
	Must(c.T, err)
}

func (c *container) status() *cri.ContainerStatus {
	c.Helper()
	r, err := c.node.runtime.ContainerStatus(c.Context(), &cri.ContainerStatusRequest{ContainerId: c.id})
	Must(c.T, err)
	return r.Status
}

// ended waits for the end.
func (c *container) ended() *cri.ContainerStatus {
	c.Helper()
	var s *cri.ContainerStatus
	eventually(c.T, "the end of container "+c.config.Metadata.Name, func() error {
		if s = c.status(); s.State != cri.ContainerState_CONTAINER_EXITED {
			return fmt.Errorf("it is %s, log: %s", s.State, c.log())
		}
		return nil
	})
	return s
}

// log is the container's log, as the kubelet finds it.
func (c *container) log() string {
	return ReadFile(filepath.Join(c.pod.config.LogDirectory, c.config.LogPath))
}

// stdout is what the log has of the standard output.
func (c *container) stdout() string {
	var b strings.Builder
	for line := range strings.Lines(c.log()) {
		// time, stream, F for a whole line or P for a part, text
		if f := strings.SplitN(line, " ", 4); len(f) == 4 && f[1] == "stdout" {
			b.WriteString(f[3])
		}
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// says waits for standard output.
func (c *container) says(want string) {
	c.Helper()
	eventually(c.T, fmt.Sprintf("%q of container %s", want, c.config.Metadata.Name), func() error {
		if log := c.stdout(); !strings.Contains(log, want) {
			return fmt.Errorf("%q, it is %s", log, c.status().State)
		}
		return nil
	})
}

// exec runs a command in the container, as a probe does.
func (c *container) exec(args ...string) (stdout, stderr string, code int32) {
	c.Helper()
	r, err := c.node.runtime.ExecSync(c.Context(), &cri.ExecSyncRequest{ContainerId: c.id, Cmd: args, Timeout: 60})
	Must(c.T, err)
	return string(r.Stdout), string(r.Stderr), r.ExitCode
}

// shell runs a script in the container, which must succeed.
func (c *container) shell(script string) string {
	c.Helper()
	out, err, code := c.exec("sh", "-c", script)
	if code != 0 {
		c.Fatalf("%s: exit status %d: %s%s", script, code, out, err)
	}
	return strings.TrimSuffix(out, "\n")
}

// timeout is for what is done after a test, whose own context has ended then.
func (c client) timeout() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), 2*time.Minute)
}

// eventually waits until check returns nil: longer than others do, since much goes on beside.
func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	err := check()
	for deadline := time.Now().Add(time.Minute); err != nil; err = check() {
		if time.Now().After(deadline) {
			t.Fatalf("%s does not come: %v", what, err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}
