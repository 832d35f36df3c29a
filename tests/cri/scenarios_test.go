package cri

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	. "github.com/sock-runtime/sock/tests/sandbox"
)

// scenario is something that the kubelet or its users ask for. What it says is a line of the table in docs/kubernetes.md.
type scenario struct {
	name string
	says string
	test func(client)
}

// scenarios pass with every handler.
var scenarios = []scenario{
	{"life", "pods and containers are created, started, stopped, listed and removed; exit codes and reasons", client.testLife},
	{"errors", "errors of a start: no such program, no such directory; a container can be tried again", client.testErrors},
	{"log", "logs in the kubelet's format, reopened after rotation", client.testLog},
	{"exec", "exec as probes do it: output, exit code, time-out, not in a container that has ended", client.testExec},
	{"stream", "exec with streams and with a terminal that is resized", client.testStream},
	{"attach", "attach with standard input, twice", client.testAttach},
	{"portforward", "port-forward to a pod that listens on its loopback", client.testPortForward},
	{"network", "the pod's address, host ports, the containers' common network namespace", client.testNetwork},
	{"stats", "statistics of containers and pods", client.testStats},
	{"resources", "limits, their update, cgroups below the pod's", client.testResources},
	{"oom", "OOMKilled", client.testOOM},
	{"process", "runAsUser, runAsGroup, supplemental groups, environment, working directory", client.testProcess},
	{"rights", "capabilities, no_new_privs, read-only root, masked and read-only paths, privileged", client.testRights},
	{"seccomp", "seccomp: RuntimeDefault, Unconfined, Localhost", client.testSeccomp},
	{"namespaces", "namespaces of the pod and of the containers; host network, PID and IPC", client.testNamespaces},
	{"sharedpid", "shareProcessNamespace: common processes, zombies are reaped", client.testSharedPID},
	{"target", "ephemeral containers that target another's processes", client.testTarget},
	{"files", "hostname, hosts, resolv.conf, /dev/shm of the pod", client.testFiles},
	{"sysctls", "sysctls; ports below 1024 for everybody", client.testSysctls},
	{"volumes", "volumes: read-only, recursively read-only, propagation both ways", client.testVolumes},
	{"users", "pods with a user namespace, with volumes", client.testUsers},
	{"probes", "many probes at once", client.testProbes},
}

func (c client) testLife() {
	p := c.pod()
	Equal(c.T, "the pod's state", p.status().State, cri.PodSandboxState_SANDBOX_READY)
	Equal(c.T, "its handler", p.status().RuntimeHandler, c.handler.name)
	box := p.create("box", "trap 'echo term; exit 3' TERM; echo ready; while :; do sleep 0.05; done")
	Equal(c.T, "state", box.status().State, cri.ContainerState_CONTAINER_CREATED)
	Must(c.T, box.start())
	Equal(c.T, "state", box.status().State, cri.ContainerState_CONTAINER_RUNNING)
	if err := box.start(); err == nil {
		c.Error("a container can be started twice")
	}
	box.says("ready")
	box.stop(30 * time.Second)
	s := box.ended()
	Equal(c.T, "exit status after a signal that is heard", s.ExitCode, 3)
	Equal(c.T, "reason", s.Reason, "Error")
	if s.StartedAt == 0 || s.FinishedAt < s.StartedAt {
		c.Errorf("started %d, finished %d", s.StartedAt, s.FinishedAt)
	}
	done := p.run("done", "exit 0").ended()
	Equal(c.T, "reason", done.Reason, "Completed")
	Equal(c.T, "exit status", p.run("seven", "exit 7").ended().ExitCode, 7)
	deaf := p.run("deaf", "trap '' TERM; echo ready; while :; do sleep 0.05; done")
	deaf.says("ready")
	deaf.stop(time.Second)
	Equal(c.T, "exit status after one that isn't", deaf.ended().ExitCode, 137)

	list, err := c.node.runtime.ListContainers(c.Context(), &cri.ListContainersRequest{Filter: &cri.ContainerFilter{PodSandboxId: p.id}})
	Must(c.T, err)
	Equal(c.T, "containers", len(list.Containers), 4)
	_, err = c.node.runtime.RemoveContainer(c.Context(), &cri.RemoveContainerRequest{ContainerId: box.id})
	Must(c.T, err)
	sleeper := p.sleeper("sleeper")
	_, err = c.node.runtime.StopPodSandbox(c.Context(), &cri.StopPodSandboxRequest{PodSandboxId: p.id})
	Must(c.T, err)
	Equal(c.T, "exit status with the pod's end", sleeper.ended().ExitCode, 137)
	eventually(c.T, "the pod's state", func() error {
		if s := p.status().State; s != cri.PodSandboxState_SANDBOX_NOTREADY {
			return errors.New(s.String())
		}
		return nil
	})
	if _, err := p.tryCreate(p.containerConfig("late", "true")); err == nil {
		c.Error("a container was created in a pod that is stopped")
	}
}

func (c client) testErrors() {
	p := c.pod()
	said := func(box *container, text string) {
		c.Helper()
		if err := box.start(); err == nil || !strings.Contains(err.Error(), text) {
			c.Errorf("want %q, got %v", text, err)
		}
		s := box.ended()
		Equal(c.T, "exit status", s.ExitCode, 128)
		Equal(c.T, "reason", s.Reason, "StartError")
	}
	said(p.create("program", "", func(c *cri.ContainerConfig) { c.Command = []string{"nosuch"} }), `exec: "nosuch": executable file not found in $PATH`)
	said(p.create("directory", "", func(c *cri.ContainerConfig) { c.Command = []string{"/tmp"} }), `exec: "/tmp": is a directory`)
	if _, err := p.tryCreate(p.containerConfig("image", "", func(c *cri.ContainerConfig) { c.Image.Image = "localhost/nosuch:1" })); err == nil {
		c.Error("there is a container of no image")
	}
	Equal(c.T, "a second try", p.output("again", "echo works"), "works")
}

func (c client) testLog() {
	p := c.pod()
	box := p.run("box", "echo out; echo err >&2; printf part; read line < /tmp/go 2>/dev/null; while [ ! -e /tmp/go ]; do sleep 0.02; done; echo second; exec sleep 1000")
	eventually(c.T, "both streams", func() error {
		if log := box.log(); !strings.Contains(log, " stdout F out\n") || !strings.Contains(log, " stderr F err\n") {
			return errors.New(log)
		}
		return nil
	})
	file := filepath.Join(p.config.LogDirectory, box.config.LogPath)
	Must(c.T, os.Rename(file, file+".1"))
	_, err := c.node.runtime.ReopenContainerLog(c.Context(), &cri.ReopenContainerLogRequest{ContainerId: box.id})
	Must(c.T, err)
	box.shell("touch /tmp/go")
	box.says("second")
	if strings.Contains(box.log(), " out\n") {
		c.Error("the new log has the old one's lines")
	}
	const lines = 20000
	long := p.output("long", fmt.Sprintf("seq %d", lines))
	if n := strings.Count(long, "\n") + 1; n != lines || !strings.HasSuffix(long, fmt.Sprintf("\n%d", lines)) {
		c.Errorf("%d lines of %d", n, lines)
	}
}

func (c client) testExec() {
	p := c.pod()
	box := p.sleeper("box")
	out, err, code := box.exec("sh", "-c", "echo out; echo err >&2; exit 9")
	if out != "out\n" || err != "err\n" || code != 9 {
		c.Errorf("want out, err, 9: %q, %q, %d", out, err, code)
	}
	if r, err := c.node.runtime.ExecSync(c.Context(), &cri.ExecSyncRequest{ContainerId: box.id, Cmd: []string{"nosuch"}, Timeout: 30}); err == nil ||
		!strings.Contains(err.Error(), `exec: "nosuch": executable file not found in $PATH`) {
		c.Errorf("%v, %v", r, err)
	}
	_, e := c.node.runtime.ExecSync(c.Context(), &cri.ExecSyncRequest{ContainerId: box.id, Cmd: []string{"sleep", "777"}, Timeout: 1})
	if status.Code(e) != codes.DeadlineExceeded {
		c.Errorf("want a time-out: %v", e)
	}
	eventually(c.T, "the end of what took too long", func() error {
		if out := box.shell("ps"); strings.Contains(out, "sleep 777") {
			return errors.New(out)
		}
		return nil
	})
	box.stop(0)
	box.ended()
	if _, err := c.node.runtime.ExecSync(c.Context(), &cri.ExecSyncRequest{ContainerId: box.id, Cmd: []string{"true"}}); err == nil {
		c.Error("exec in a container that has ended")
	}
}

func (c client) testStream() {
	box := c.pod().sleeper("box")
	start := func(r *cri.ExecRequest) *stream {
		c.Helper()
		r.ContainerId = box.id
		answer, err := c.node.runtime.Exec(c.Context(), r)
		Must(c.T, err)
		return c.stream(answer.Url)
	}
	s := start(&cri.ExecRequest{Cmd: []string{"sh", "-c", "read line; echo got $line; echo err >&2; exit 6"}, Stdin: true, Stdout: true, Stderr: true})
	s.send(stdin, "hello\n")
	Equal(c.T, "exit status", s.status(), "6")
	s.says(stdout, "got hello\n")
	s.says(stderr, "err\n")

	s = start(&cri.ExecRequest{Cmd: []string{"sh", "-c", "tty; echo ready; while read line; do stty size; echo got $line; [ $line != quit ] || exit 5; done"}, Tty: true, Stdin: true, Stdout: true})
	s.says(stdout, "/dev/pts/0\r\nready\r\n")
	s.resize(44, 111)
	eventually(c.T, "the size", func() error { // a resize is carried out beside the streams
		s.send(stdin, "hello\n")
		time.Sleep(50 * time.Millisecond)
		if out := s.output(stdout); !strings.Contains(out, "\n44 111\r\ngot hello\r\n") {
			return errors.New(out)
		}
		return nil
	})
	s.send(stdin, "quit\n")
	s.says(stdout, "got quit\r\n")
	Equal(c.T, "exit status", s.status(), "5")

	const size = 1 << 20
	s = start(&cri.ExecRequest{Cmd: []string{"sh", "-c", fmt.Sprintf("head -c %d /dev/zero | tr '\\0' x", size)}, Stdout: true})
	Equal(c.T, "exit status", s.status(), "0")
	eventually(c.T, "all output", func() error {
		if n := len(s.output(stdout)); n != size {
			return fmt.Errorf("%d bytes", n)
		}
		return nil
	})
}

func (c client) testAttach() {
	box := c.pod().run("box", "while read line; do echo got $line; done; exit 4", func(c *cri.ContainerConfig) { c.Stdin = true })
	for _, word := range []string{"one", "two"} {
		r, err := c.node.runtime.Attach(c.Context(), &cri.AttachRequest{ContainerId: box.id, Stdin: true, Stdout: true, Stderr: true})
		Must(c.T, err)
		s := c.stream(r.Url)
		// The first output may come before this stream is among those that get it.
		eventually(c.T, "an answer", func() error {
			s.send(stdin, word+"\n")
			time.Sleep(50 * time.Millisecond)
			if out := s.output(stdout); !strings.Contains(out, "got "+word) {
				return errors.New(out)
			}
			return nil
		})
		s.conn.Close()
	}
	Equal(c.T, "state", box.status().State, cri.ContainerState_CONTAINER_RUNNING)
	box.says("got two")

	box = c.pod().run("tty", "while read line; do echo got $line; done", func(c *cri.ContainerConfig) { c.Stdin, c.Tty = true, true })
	r, err := c.node.runtime.Attach(c.Context(), &cri.AttachRequest{ContainerId: box.id, Stdin: true, Stdout: true, Tty: true})
	Must(c.T, err)
	s := c.stream(r.Url)
	eventually(c.T, "an answer on the terminal", func() error {
		s.send(stdin, "three\n")
		time.Sleep(50 * time.Millisecond)
		if out := s.output(stdout); !strings.Contains(out, "got three\r\n") {
			return errors.New(out)
		}
		return nil
	})
}

func (c client) testPortForward() {
	p := c.pod()
	p.run("server", "while :; do echo hello | busybox nc -l -p 80; done")
	eventually(c.T, "an answer of port 80", func() error {
		r, err := c.node.runtime.PortForward(c.Context(), &cri.PortForwardRequest{PodSandboxId: p.id, Port: []int32{80}})
		Must(c.T, err)
		s := c.stream(r.Url + "?port=80")
		defer s.conn.Close()
		for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
			if strings.HasSuffix(s.output(stdin), "hello\n") { // the two bytes before it are the port
				return nil
			}
			if s.output(1) != "" && len(s.output(1)) > 2 { // nobody listens yet
				break
			}
		}
		return fmt.Errorf("%q, %q", s.output(stdin), s.output(1))
	})
}

func (c client) testNetwork() {
	// Host ports are the node's, so each handler has one of its own.
	port := 18080
	for i, h := range handlers {
		if h.name == c.handler.name {
			port += i
		}
	}
	p := c.pod(func(p *cri.PodSandboxConfig) {
		p.PortMappings = []*cri.PortMapping{{Protocol: cri.Protocol_TCP, ContainerPort: 80, HostPort: int32(port)}}
	})
	address := p.status().Network.Ip
	if !strings.HasPrefix(address, "10.88.") {
		c.Errorf("the pod's address is %q", address)
	}
	Equal(c.T, "address in the pod", p.output("address", "ip -o -4 addr show eth0 | grep -o 'inet [0-9.]*'; cat /sys/class/net/lo/flags"), "inet "+address+"\n0x9")
	p.run("server", "while :; do echo hello | busybox nc -l -p 80; done")
	for _, to := range []string{address + " 80", fmt.Sprint(address[:len("10.88.")], "0.1 ", port)} {
		eventually(c.T, "an answer from "+to, func() error {
			if r := c.node.Do(c.node.room.Command(append([]string{Busybox, "nc", "-w", "5"}, strings.Fields(to)...)...)); r.Stdout != "hello\n" {
				return fmt.Errorf("%v", r)
			}
			return nil
		})
	}
	eventually(c.T, "an answer within the pod", func() error {
		other := p.output(fmt.Sprint("other", time.Now().UnixNano()), "busybox nc -w 5 127.0.0.1 80 || true")
		if other != "hello" {
			return errors.New(other)
		}
		return nil
	})
}

func (c client) testStats() {
	p := c.pod()
	box := p.run("box", "x=$(head -c 3000000 /dev/zero | tr '\\0' x); i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; echo done; sleep 1000; true")
	box.says("done")
	// containerd gathers them beside.
	eventually(c.T, "the container's statistics", func() error {
		r, err := c.node.runtime.ContainerStats(c.Context(), &cri.ContainerStatsRequest{ContainerId: box.id})
		if err == nil && (r.Stats.Cpu.GetUsageCoreNanoSeconds().GetValue() < 1e6 || r.Stats.Memory.GetWorkingSetBytes().GetValue() < 1e6 || r.Stats.Attributes.Metadata.Name != "box") {
			err = errors.New(r.String())
		}
		return err
	})
	list, err := c.node.runtime.ListContainerStats(c.Context(), &cri.ListContainerStatsRequest{Filter: &cri.ContainerStatsFilter{PodSandboxId: p.id}})
	Must(c.T, err)
	Equal(c.T, "containers with statistics", len(list.Stats), 1)
	eventually(c.T, "the pod's statistics", func() error {
		r, err := c.node.runtime.PodSandboxStats(c.Context(), &cri.PodSandboxStatsRequest{PodSandboxId: p.id})
		if err != nil {
			return err
		}
		if s := r.Stats.Linux; s.Cpu.GetUsageCoreNanoSeconds().GetValue() < 1e6 || s.Memory.GetWorkingSetBytes().GetValue() < 1e6 ||
			s.Network.GetDefaultInterface().GetName() != "eth0" || len(s.Containers) != 1 || s.Process.GetProcessCount().GetValue() < 1 {
			return errors.New(s.String())
		}
		return nil
	})
}

// cgroup is the directory of the pod's cgroup.
func (p *pod) cgroup(controller string) string {
	return filepath.Join(CgroupRoot, ByCgroup(controller, ""), p.config.Linux.CgroupParent)
}

// limit reads a file of a container's cgroup. It is below that of the pod.
func (c *container) limit(v1, v2 string) string {
	controller, _, _ := strings.Cut(v1, ".")
	return strings.TrimSpace(ReadFile(filepath.Join(c.cgroup(controller), c.id, ByCgroup(v1, v2))))
}

func (c client) testResources() {
	box := c.pod().sleeper("box", func(c *cri.ContainerConfig) {
		c.Linux.Resources = &cri.LinuxContainerResources{CpuPeriod: 100000, CpuQuota: 50000, CpuShares: 512, MemoryLimitInBytes: 64 << 20, OomScoreAdj: 500}
	})
	for _, dir := range []string{box.cgroup("memory"), filepath.Join(box.cgroup("memory"), box.id)} {
		info, err := os.Stat(dir)
		Must(c.T, err)
		Equal(c.T, "mode of "+dir, info.Mode().Perm(), 0o755)
	}
	Equal(c.T, "memory", box.limit("memory.limit_in_bytes", "memory.max"), "67108864")
	Equal(c.T, "CPU", box.limit("cpu.cfs_quota_us", "cpu.max"), ByCgroup("50000", "50000 100000"))
	Equal(c.T, "OOM score", box.shell("cat /proc/1/oom_score_adj"), "500")
	_, err := c.node.runtime.UpdateContainerResources(c.Context(), &cri.UpdateContainerResourcesRequest{ContainerId: box.id, Linux: &cri.LinuxContainerResources{
		CpuPeriod: 100000, CpuQuota: 70000, CpuShares: 1024, MemoryLimitInBytes: 96 << 20,
	}})
	Must(c.T, err)
	Equal(c.T, "updated memory", box.limit("memory.limit_in_bytes", "memory.max"), "100663296")
	Equal(c.T, "updated CPU", box.limit("cpu.cfs_quota_us", "cpu.max"), ByCgroup("70000", "70000 100000"))
	Equal(c.T, "updated shares", ByCgroup(box.limit("cpu.shares", ""), "1024"), "1024")
	Equal(c.T, "limits in the status", box.status().Resources.GetLinux().GetMemoryLimitInBytes(), 96<<20)
	_, err = c.node.runtime.UpdatePodSandboxResources(c.Context(), &cri.UpdatePodSandboxResourcesRequest{PodSandboxId: box.pod.id, Resources: &cri.LinuxContainerResources{MemoryLimitInBytes: 128 << 20}})
	Must(c.T, err)
}

func (c client) testOOM() {
	box := c.pod().run("box", "a=xxxxxxxxxxxxxxxx; while :; do a=$a$a; done", func(c *cri.ContainerConfig) {
		c.Linux.Resources = &cri.LinuxContainerResources{MemoryLimitInBytes: 16 << 20, MemorySwapLimitInBytes: 16 << 20}
	})
	s := box.ended()
	Equal(c.T, "exit status", s.ExitCode, 137)
	eventually(c.T, "the reason", func() error {
		if s := box.status(); s.Reason != "OOMKilled" {
			return errors.New(s.Reason)
		}
		return nil
	})
}

func security(change func(*cri.LinuxContainerSecurityContext)) containerChange {
	return func(c *cri.ContainerConfig) { change(c.Linux.SecurityContext) }
}

func (c client) testProcess() {
	p := c.pod()
	Equal(c.T, "ids", p.output("ids", "id -u; id -g; id -G", security(func(s *cri.LinuxContainerSecurityContext) {
		s.RunAsUser, s.RunAsGroup, s.SupplementalGroups = &cri.Int64Value{Value: 1234}, &cri.Int64Value{Value: 2345}, []int64{55, 66}
	})), "1234\n2345\n2345 55 66")
	Equal(c.T, "named user", p.output("user", "id -u; echo $HOME", security(func(s *cri.LinuxContainerSecurityContext) { s.RunAsUsername = "user" })), "1000\n/home/user")
	Equal(c.T, "environment and directory", p.output("env", "pwd; echo $A $HOSTNAME", func(c *cri.ContainerConfig) {
		c.WorkingDir, c.Envs = "/usr", []*cri.KeyValue{{Key: "A", Value: []byte("b")}}
	}), "/usr\nb "+p.config.Hostname)
	Equal(c.T, "the image's command", p.create("image", "", func(c *cri.ContainerConfig) { c.Command = nil }).started().shell("cat /proc/1/cmdline | tr '\\0' ' '"), "sleep 1000 ")
}

func (c *container) started() *container {
	c.Helper()
	Must(c.T, c.start())
	return c
}

func (c client) testRights() {
	p := c.pod(func(p *cri.PodSandboxConfig) { p.Linux.SecurityContext.Privileged = true })
	n := 0
	proc := func(field string, change func(*cri.LinuxContainerSecurityContext)) string {
		c.Helper()
		n++
		return StatusField(p.output(fmt.Sprint("c", n), "cat /proc/self/status", security(change)), field)
	}
	Equal(c.T, "no capabilities", proc("CapEff", func(s *cri.LinuxContainerSecurityContext) {
		s.Capabilities = &cri.Capability{DropCapabilities: []string{"ALL"}}
	}), "0000000000000000")
	Equal(c.T, "one", proc("CapEff", func(s *cri.LinuxContainerSecurityContext) {
		s.Capabilities = &cri.Capability{DropCapabilities: []string{"ALL"}, AddCapabilities: []string{"CHOWN"}}
	}), "0000000000000001")
	Equal(c.T, "a user's", proc("CapEff", func(s *cri.LinuxContainerSecurityContext) { s.RunAsUser = &cri.Int64Value{Value: 1000} }), "0000000000000000")
	Equal(c.T, "no_new_privs", proc("NoNewPrivs", func(s *cri.LinuxContainerSecurityContext) { s.NoNewPrivs = true }), "1")
	Equal(c.T, "privileged", proc("CapEff", func(s *cri.LinuxContainerSecurityContext) { s.Privileged = true }), StatusField(ReadFile("/proc/self/status"), "CapEff"))
	Equal(c.T, "read-only root", p.output("readonly", "(echo x > /x) 2>/dev/null || echo refused", security(func(s *cri.LinuxContainerSecurityContext) { s.ReadonlyRootfs = true })), "refused")
	paths := p.output("paths", "head -c 1 /proc/keys | wc -c; (echo 1 > /proc/sysrq-trigger) 2>/dev/null || echo refused", security(func(s *cri.LinuxContainerSecurityContext) {
		s.MaskedPaths, s.ReadonlyPaths = []string{"/proc/keys", "/proc/acpi"}, []string{"/proc/sysrq-trigger", "/proc/sys"}
	}))
	Equal(c.T, "masked and read-only paths", paths, "0\nrefused")
	devices := p.output("devices", "ls /dev/kmsg; mount | grep -c ' /sys .*rw,'", security(func(s *cri.LinuxContainerSecurityContext) { s.Privileged = true }))
	Equal(c.T, "devices and /sys of a privileged one", devices, "/dev/kmsg\n1")
}

func (c client) testSeccomp() {
	p := c.pod()
	profile := filepath.Join(c.node.Dir, "seccomp.json")
	WriteFile(c.T, profile, `{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 6}]}`, 0o644)
	with := func(kind cri.SecurityProfile_ProfileType, file string) containerChange {
		return security(func(s *cri.LinuxContainerSecurityContext) {
			s.Seccomp = &cri.SecurityProfile{ProfileType: kind, LocalhostRef: file}
		})
	}
	const script = "grep Seccomp: /proc/self/status | cut -f 2; mkdir /x 2>&1 | grep -c 'No such device'; unshare -m true 2>/dev/null || echo no mounts"
	Equal(c.T, "default", p.output("default", script, with(cri.SecurityProfile_RuntimeDefault, "")), "2\n0\nno mounts")
	Equal(c.T, "none", p.output("none", script, with(cri.SecurityProfile_Unconfined, "")), "0\n0\nno mounts")
	Equal(c.T, "one of the node's", p.output("localhost", script, with(cri.SecurityProfile_Localhost, profile)), "2\n1\nno mounts")
}

const showNamespaces = `for kind in user pid net ipc uts mnt; do readlink /proc/self/ns/$kind; done`

func namespaces(change func(*cri.NamespaceOption)) podChange {
	return func(p *cri.PodSandboxConfig) { change(p.Linux.SecurityContext.NamespaceOptions) }
}

func (c client) testNamespaces() {
	kinds := []string{"user", "pid", "net", "ipc", "uts", "mnt"}
	compare := func(what string, a, b []string, same ...string) {
		c.Helper()
		for i, kind := range kinds {
			want := false
			for _, s := range same {
				want = want || s == kind
			}
			if got := a[i] == b[i]; got != want {
				c.Errorf("%s: %s namespaces: same is %v, want %v", what, kind, got, want)
			}
		}
	}
	of := func(p *pod, name string) []string {
		c.Helper()
		return strings.Split(p.sleeper(name).shell(showNamespaces), "\n") // it lives on: numbers of namespaces are used again
	}
	var host []string
	for _, kind := range kinds {
		host = append(host, NamespaceOf(c.T, c.node.server.Process.Pid, kind))
	}
	p := c.pod()
	one, two := of(p, "one"), of(p, "two")
	compare("two containers of a pod", one, two, "user", "net", "ipc", "uts")
	compare("a container and the host", one, host, "user")
	compare("containers of two pods", one, of(c.pod(), "one"), "user")

	p = c.pod(namespaces(func(o *cri.NamespaceOption) { o.Network = cri.NamespaceMode_NODE }), func(p *cri.PodSandboxConfig) { p.Hostname = "" })
	compare("host network", of(p, "one"), host, "user", "net", "uts")
	Equal(c.T, "address of a pod on the host", p.status().Network.Ip, "")
	p = c.pod(namespaces(func(o *cri.NamespaceOption) { o.Pid = cri.NamespaceMode_NODE }))
	compare("host PID", of(p, "one"), host, "user", "pid")
	p = c.pod(namespaces(func(o *cri.NamespaceOption) { o.Ipc = cri.NamespaceMode_NODE }))
	compare("host IPC", of(p, "one"), host, "user", "ipc")
	p = c.pod(namespaces(func(o *cri.NamespaceOption) {
		o.Network, o.Pid, o.Ipc = cri.NamespaceMode_NODE, cri.NamespaceMode_NODE, cri.NamespaceMode_NODE
	}), func(p *cri.PodSandboxConfig) { p.Hostname = "" })
	compare("all of the host's", of(p, "one"), host, "user", "pid", "net", "ipc", "uts")
}

func (c client) testSharedPID() {
	p := c.pod(namespaces(func(o *cri.NamespaceOption) { o.Pid = cri.NamespaceMode_POD }))
	one := p.sleeper("one")
	two := p.run("two", "exec sleep 2000")
	out := two.shell("ps")
	if !strings.Contains(out, "sleep 1000") || !strings.Contains(out, "sleep 2000") {
		c.Errorf("processes: %s", out)
	}
	if ns := one.shell("readlink /proc/self/ns/pid"); ns == NamespaceOf(c.T, c.node.server.Process.Pid, "pid") {
		c.Error("the PID namespace is the host's")
	}
	Equal(c.T, "is the container process 1", two.shell("tr '\\0' ' ' < /proc/1/cmdline | grep -c sleep || true"), "0")
	// An orphan that process 1 has to reap. Its parent has gone before it ends.
	two.shell("(sleep 0.2 & echo $! > /tmp/orphan) &")
	eventually(c.T, "the end of an orphan", func() error {
		if left := two.shell("cat /proc/$(cat /tmp/orphan)/stat 2>/dev/null || true"); left != "" {
			return errors.New(left)
		}
		return nil
	})
	// Neither may the one see the host's files through process 1, nor the pod end with a container.
	if out, _, code := two.exec("sh", "-c", "ls /proc/1/root/etc/passwd 2>&1"); code == 0 {
		c.Errorf("process 1 shows a root: %s", out)
	}
	one.stop(0)
	Equal(c.T, "exit status", one.ended().ExitCode, 137)
	Equal(c.T, "the other container", two.shell("echo lives"), "lives")
	Equal(c.T, "the pod", p.status().State, cri.PodSandboxState_SANDBOX_READY)
}

func (c client) testTarget() {
	p := c.pod()
	box := p.sleeper("box")
	debug := p.sleeper("debug", security(func(s *cri.LinuxContainerSecurityContext) {
		s.NamespaceOptions = &cri.NamespaceOption{Pid: cri.NamespaceMode_TARGET, TargetId: box.id}
	}))
	Equal(c.T, "PID namespace", debug.shell("readlink /proc/self/ns/pid"), box.shell("readlink /proc/self/ns/pid"))
	Equal(c.T, "process 1", debug.shell("tr '\\0' ' ' < /proc/1/cmdline"), "sleep 1000 ")
	debug.stop(0)
	Equal(c.T, "exit status", debug.ended().ExitCode, 137)
	Equal(c.T, "the target", box.shell("echo lives"), "lives")
}

func (c client) testFiles() {
	p := c.pod()
	one := p.sleeper("one")
	Equal(c.T, "host name", one.shell("hostname; cat /etc/hostname"), p.config.Hostname+"\n"+p.config.Hostname)
	Equal(c.T, "resolv.conf", one.shell("cat /etc/resolv.conf"), "search svc.cluster.local\nnameserver 10.96.0.10\noptions ndots:5")
	Equal(c.T, "hosts", one.shell("cat /etc/hosts")+"\n", ReadFile("/etc/hosts"))
	m := MountsOf(one.shell("cat /proc/self/mountinfo"))["/dev/shm"]
	if m.Kind != "tmpfs" || !strings.Contains(m.Super, "size=65536k") {
		c.Errorf("/dev/shm: %+v", m)
	}
	one.shell("echo shared > /dev/shm/x; echo more >> /etc/hosts")
	two := p.sleeper("two")
	Equal(c.T, "shared memory", two.shell("cat /dev/shm/x; tail -n 1 /etc/hosts"), "shared\nmore")
	Equal(c.T, "another pod's", c.pod().output("one", "ls /dev/shm"), "")

	readonly := p.sleeper("readonly", security(func(s *cri.LinuxContainerSecurityContext) { s.ReadonlyRootfs = true }))
	Equal(c.T, "with a read-only root", readonly.shell("for f in hostname hosts resolv.conf; do (echo x >> /etc/$f) 2>/dev/null || echo refused; done"), "refused\nrefused\nrefused")
	hosts := filepath.Join(c.node.Dir, "hosts."+c.handler.name)
	WriteFile(c.T, hosts, "the kubelet's\n", 0o644)
	Equal(c.T, "hosts of the kubelet's", p.output("kubelet", "cat /etc/hosts", func(c *cri.ContainerConfig) {
		c.Mounts = []*cri.Mount{{ContainerPath: "/etc/hosts", HostPath: hosts}}
	}), "the kubelet's")
	if m := MountsOf(c.pod(namespaces(func(o *cri.NamespaceOption) { o.Ipc = cri.NamespaceMode_NODE })).output("ipc", "cat /proc/self/mountinfo"))["/dev/shm"]; m.Source != "room" {
		c.Errorf("/dev/shm with the host's IPC: %+v", m)
	}
}

func (c client) testSysctls() {
	const show = "cat /proc/sys/kernel/shm_rmid_forced /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/ip_unprivileged_port_start; tr '\\t' ' ' < /proc/sys/net/ipv4/ping_group_range"
	p := c.pod(func(p *cri.PodSandboxConfig) {
		p.Linux.Sysctls = map[string]string{"kernel.shm_rmid_forced": "1", "net.ipv4.ip_forward": "1"}
	})
	Equal(c.T, "sysctls", p.output("box", show), "1\n1\n0\n0 2147483647")
	p = c.pod(func(p *cri.PodSandboxConfig) {
		p.Linux.Sysctls = map[string]string{"net.ipv4.ip_unprivileged_port_start": "100"}
	})
	if out := p.output("box", show); !strings.Contains(out, "\n100\n") {
		c.Errorf("sysctls: %s", out)
	}
	if p, err := c.tryPod(c.podConfig(func(p *cri.PodSandboxConfig) { p.Linux.Sysctls = map[string]string{"vm.swappiness": "1"} })); err == nil {
		c.Error("a sysctl of the host's was accepted")
		p.remove()
	}
}

func (c client) testVolumes() {
	dir := filepath.Join(c.node.Dir, "volume."+c.handler.name)
	Must(c.T, os.MkdirAll(filepath.Join(dir, "below"), 0o755))
	WriteFile(c.T, filepath.Join(dir, "file"), "host\n", 0o644)
	inRoom := func(args ...string) {
		c.Helper()
		if r := c.node.Do(c.node.room.Command(args...)); r.Code != 0 {
			c.Fatal(r)
		}
	}
	inRoom("mount", "-t", "tmpfs", "volume", filepath.Join(dir, "below"))
	volume := func(m *cri.Mount) containerChange {
		m.HostPath, m.ContainerPath = dir, "/v"
		return func(c *cri.ContainerConfig) { c.Mounts = append(c.Mounts, m) }
	}
	p := c.pod(func(p *cri.PodSandboxConfig) { p.Linux.SecurityContext.Privileged = true })
	const write = "cat /v/file; for f in /v/x /v/below/x; do (echo x > $f) 2>/dev/null && echo written || echo refused; done"
	Equal(c.T, "writable", p.output("rw", write, volume(&cri.Mount{})), "host\nwritten\nwritten")
	Equal(c.T, "read-only", p.output("ro", write, volume(&cri.Mount{Readonly: true})), "host\nrefused\nwritten")
	Equal(c.T, "recursively", p.output("rro", write, volume(&cri.Mount{Readonly: true, RecursiveReadOnly: true})), "host\nrefused\nrefused")

	private := p.sleeper("private", volume(&cri.Mount{}))
	slave := p.sleeper("slave", volume(&cri.Mount{Propagation: cri.MountPropagation_PROPAGATION_HOST_TO_CONTAINER}))
	shared := p.sleeper("shared", volume(&cri.Mount{Propagation: cri.MountPropagation_PROPAGATION_BIDIRECTIONAL}),
		security(func(s *cri.LinuxContainerSecurityContext) { s.Privileged = true }))
	late := filepath.Join(dir, "late")
	Must(c.T, os.Mkdir(late, 0o755))
	inRoom("mount", "-t", "tmpfs", "late", late)
	const mounted = "grep -c ' /v/late ' /proc/self/mountinfo || true"
	for box, want := range map[*container]string{private: "0", slave: "1", shared: "1"} {
		Equal(c.T, "the host's mount in "+box.config.Metadata.Name, box.shell(mounted), want)
	}
	shared.shell("mkdir /v/mine && mount -t tmpfs mine /v/mine")
	inRoom("mountpoint", "-q", filepath.Join(dir, "mine"))
	Equal(c.T, "the container's mount in another", slave.shell("grep -c ' /v/mine ' /proc/self/mountinfo"), "1")
	shared.shell("umount /v/mine")
}

// Ids of the pods with a user namespace.
const userBase, userSize = 200000, 65536

func inUserNamespace(p *cri.PodSandboxConfig) {
	mapping := []*cri.IDMapping{{HostId: userBase, ContainerId: 0, Length: userSize}}
	p.Linux.SecurityContext.NamespaceOptions.UsernsOptions = &cri.UserNamespace{Mode: cri.NamespaceMode_POD, Uids: mapping, Gids: mapping}
}

func (c client) testUsers() {
	dir := filepath.Join(c.node.Dir, "users."+c.handler.name)
	Must(c.T, os.Mkdir(dir, 0o777))
	Must(c.T, os.Chmod(dir, 0o777))
	// Each directory on the way has to let the namespace's users pass, as the kubelet's do.
	for d := c.node.Dir; d != "/" && d != os.TempDir(); d = filepath.Dir(d) {
		Must(c.T, os.Chmod(d, 0o711))
	}
	p := c.pod(inUserNamespace)
	one := p.sleeper("one", func(c *cri.ContainerConfig) {
		mapping := p.config.Linux.SecurityContext.NamespaceOptions.UsernsOptions
		c.Mounts = []*cri.Mount{{ContainerPath: "/v", HostPath: dir, UidMappings: mapping.Uids, GidMappings: mapping.Gids}}
	})
	two := p.sleeper("two")
	Equal(c.T, "user namespace", one.shell("readlink /proc/self/ns/user"), two.shell("readlink /proc/self/ns/user"))
	Equal(c.T, "mapping", strings.Join(strings.Fields(one.shell("cat /proc/self/uid_map")), " "), fmt.Sprint("0 ", userBase, " ", userSize))
	Equal(c.T, "root", one.shell("id -u; stat -c %u /bin/busybox /etc/hosts /etc/resolv.conf"), "0\n0\n0\n0")
	one.shell("echo x > /v/x; chown 5:6 /v/x")
	var st unix.Stat_t
	Must(c.T, unix.Stat(filepath.Join(dir, "x"), &st))
	if st.Uid != 5 || st.Gid != 6 {
		c.Errorf("the file in the volume belongs to %d:%d on the host", st.Uid, st.Gid)
	}
	Equal(c.T, "host name", one.shell("hostname"), p.config.Hostname)
	two.shell("echo shared > /dev/shm/x")
	Equal(c.T, "shared memory", one.shell("cat /dev/shm/x"), "shared")
	Equal(c.T, "network", one.shell("ip -o -4 addr show eth0 | grep -o 'inet [0-9.]*'"), "inet "+p.status().Network.Ip)
	for _, kind := range []string{"ipc", "uts", "net"} {
		Equal(c.T, kind+" namespace", one.shell("readlink /proc/self/ns/"+kind), two.shell("readlink /proc/self/ns/"+kind))
	}
	host := c.pod(inUserNamespace, namespaces(func(o *cri.NamespaceOption) { o.Network = cri.NamespaceMode_NODE }), func(p *cri.PodSandboxConfig) { p.Hostname = "" })
	Equal(c.T, "with the host's network", host.output("box", "readlink /proc/self/ns/net; id -u"), NamespaceOf(c.T, c.node.server.Process.Pid, "net")+"\n0")
	both := c.pod(inUserNamespace, namespaces(func(o *cri.NamespaceOption) { o.Pid = cri.NamespaceMode_POD }))
	both.sleeper("one")
	if out := both.sleeper("two").shell("ps"); strings.Count(out, "sleep 1000") != 2 {
		c.Errorf("processes with shared PIDs: %s", out)
	}
}

func (c client) testProbes() {
	p := c.pod()
	boxes := []*container{p.sleeper("one"), p.sleeper("two"), p.sleeper("three")}
	var all sync.WaitGroup
	for i, box := range boxes {
		for j := range 10 {
			all.Go(func() {
				ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
				defer cancel()
				code := int32(1 + i*10 + j)
				r, err := c.node.runtime.ExecSync(ctx, &cri.ExecSyncRequest{ContainerId: box.id, Cmd: []string{"sh", "-c", fmt.Sprintf("echo %d; exit %d", code, code)}, Timeout: 60})
				if err != nil || r.ExitCode != code || string(r.Stdout) != fmt.Sprintln(code) {
					c.Errorf("want %d: %v, %v", code, r, err)
				}
			})
		}
	}
	all.Wait()
}

// TestScenarios plays all of them with each handler, in one containerd.
func TestScenarios(t *testing.T) {
	n := newNode(t)
	var mu sync.Mutex
	results := map[[2]string]bool{}
	t.Run("with", func(t *testing.T) {
		for _, h := range handlers {
			t.Run(h.name, func(t *testing.T) {
				t.Parallel()
				for _, s := range scenarios {
					ok := t.Run(s.name, func(t *testing.T) { s.test(client{T: t, node: n, handler: h}) })
					mu.Lock()
					results[[2]string{h.name, s.name}] = ok
					mu.Unlock()
				}
			})
		}
	})
	if *update {
		write(t, table(func(handler, scenario string) bool { return results[[2]string{handler, scenario}] }))
	}
}
