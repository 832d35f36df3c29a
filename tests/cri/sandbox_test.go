package cri

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	. "github.com/sock-runtime/sock/tests/sandbox"
)

// bare is the handler without pause containers.
func bare(t *testing.T, n *node) client {
	return client{T: t, node: n, handler: handlers[len(handlers)-1]}
}

// TestNoPause looks for what a pod without a pause container has, and leaves.
func TestNoPause(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	c := bare(t, n)
	first := c.pod() // with it the shim comes
	first.sleeper("box")
	before := len(n.Processes())
	p, err := c.tryPod(c.podConfig())
	Must(t, err)
	shared, err := c.tryPod(c.podConfig(namespaces(func(o *cri.NamespaceOption) { o.Pid = cri.NamespaceMode_POD })))
	Must(t, err)
	t.Run("processes", func(t *testing.T) {
		now := n.Processes()
		Equal(t, "processes that are new", len(now)-before, 1)
		var inits int
		for _, process := range now {
			pid := Atoi(strings.Fields(process)[0])
			if !strings.HasPrefix(ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)), "/pause\x00") {
				continue
			}
			inits++
			status := ReadFile(fmt.Sprintf("/proc/%d/status", pid))
			for field, want := range map[string]string{"CapBnd": "0000000000000000", "CapEff": "0000000000000000", "NoNewPrivs": "1", "Uid": "65535 65535 65535 65535"} {
				Equal(t, field, StatusField(status, field), want)
			}
			if rss := StatusField(status, "VmRSS"); Atoi(strings.Fields(rss)[0]) > 64 {
				t.Errorf("it takes %s", rss)
			}
		}
		Equal(t, "processes of pods", inits, 1)
	})
	list := n.Do(n.room.Command(n.program("containerd/ctr"), "--address", "/run/containerd.sock", "--namespace", "k8s.io", "containers", "ls", "--quiet"))
	Equal(t, "containers", len(strings.Fields(list.Stdout)), 1)

	// Whoever asks for the PID namespace of a pod that has none must not get the host's.
	config := p.containerConfig("box", "true")
	config.Linux.SecurityContext.NamespaceOptions.Pid = cri.NamespaceMode_POD
	box, err := p.tryCreate(config)
	if err == nil {
		err = box.start()
	}
	if err == nil || !strings.Contains(err.Error(), "has no pid namespace that containers could share") {
		t.Errorf("a container with the PID namespace of a pod that has none: %v", err)
	}
	r, err := n.runtime.PodSandboxStatus(t.Context(), &cri.PodSandboxStatusRequest{PodSandboxId: p.id, Verbose: true})
	Must(t, err)
	var info struct{ Pid int }
	Must(t, json.Unmarshal([]byte(r.Info["info"]), &info))
	if _, err := os.Stat(fmt.Sprintf("/proc/%d", info.Pid)); info.Pid <= 1<<22 || err == nil {
		t.Errorf("the pod's pid is %d, %v", info.Pid, err)
	}
	var paths map[string]string
	Must(t, json.Unmarshal([]byte(r.Info["namespaces"]), &paths))
	inside := p.sleeper("sleeper")
	for _, kind := range []string{"ipc", "uts"} {
		to, err := os.Readlink(paths[kind])
		Must(t, err)
		Equal(t, kind+" namespace", to, inside.shell("readlink /proc/self/ns/"+kind))
	}
	for _, pod := range []*pod{p, shared, first} {
		pod.remove()
	}
	root := fmt.Sprintf("/proc/%d/root", n.room.Pid())
	for _, dir := range []string{"/run/sock-shim/*/sandboxes/*", "/run/containerd/sock/k8s.io/*", "/run/containerd/io.containerd.sandbox.controller.v1.shim/k8s.io/*"} {
		left, err := filepath.Glob(root + dir)
		Must(t, err)
		for _, name := range left {
			if filepath.Base(name) != ",seccomp" {
				t.Errorf("left: %s", name)
			}
		}
	}
	if mounts := ReadFile(fmt.Sprintf("/proc/%d/mountinfo", n.room.Pid())); strings.Contains(mounts, "sock-shim") {
		t.Errorf("mounts are left: %s", mounts)
	}
}

// TestInitKilled kills the process of a pod that has one: the pod has ended then, with all that is in it.
func TestInitKilled(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	c := bare(t, n)
	p := c.pod(namespaces(func(o *cri.NamespaceOption) { o.Pid = cri.NamespaceMode_POD }))
	box := p.sleeper("box")
	r, err := n.runtime.PodSandboxStatus(t.Context(), &cri.PodSandboxStatusRequest{PodSandboxId: p.id, Verbose: true})
	Must(t, err)
	var info struct{ Pid int }
	Must(t, json.Unmarshal([]byte(r.Info["info"]), &info))
	Must(t, unix.Kill(info.Pid, unix.SIGKILL))
	eventually(t, "the pod's end", func() error {
		if s := p.status().State; s != cri.PodSandboxState_SANDBOX_NOTREADY {
			return errors.New(s.String())
		}
		return nil
	})
	Equal(t, "exit status of its container", box.ended().ExitCode, 137)
	if _, err := p.tryCreate(p.containerConfig("late", "true")); err == nil {
		t.Error("a container was created in a pod that has ended")
	}
}

// TestUpgrade has the shim become another one under a pod.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	p := bare(t, n).pod()
	box := p.sleeper("box")
	want := box.shell("readlink /proc/self/ns/ipc; hostname")
	workers := n.shimProcesses("worker")
	if r := n.Do(n.room.Command(filepath.Join(shimDir, "sock-shimd"), "upgrade")); r.Code != 0 {
		t.Fatal(r)
	}
	eventually(t, "another worker", func() error {
		if now := n.shimProcesses("worker"); len(now) != 1 || now[0] == workers[0] {
			return fmt.Errorf("%v", now)
		}
		return nil
	})
	Equal(t, "another container", p.sleeper("other").shell("readlink /proc/self/ns/ipc; hostname"), want)
}

// TestKeeperKilled kills the keeper: what containerd then executes removes everything that is left of pods.
func TestKeeperKilled(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	c := bare(t, n)
	p := c.pod()
	box := p.sleeper("box")
	shared := c.pod(namespaces(func(o *cri.NamespaceOption) { o.Pid = cri.NamespaceMode_POD }))
	other := shared.sleeper("box")
	keepers := n.shimProcesses("keeper")
	Equal(t, "keepers", len(keepers), 1)
	Must(t, unix.Kill(keepers[0], unix.SIGKILL))
	box.ended()
	other.ended()
	eventually(t, "the end of all", func() error {
		for _, process := range n.Processes() {
			args := ReadFile("/proc/" + strings.Fields(process)[0] + "/cmdline")
			if strings.HasPrefix(args, "/pause\x00") || strings.HasPrefix(args, "sleep\x00") {
				return errors.New(process)
			}
		}
		if mounts := ReadFile(fmt.Sprintf("/proc/%d/mountinfo", n.room.Pid())); strings.Contains(mounts, "sock-shim") {
			return errors.New(mounts)
		}
		return nil
	})
	for _, p := range []*pod{p, shared} {
		Equal(t, "state of a pod", p.status().State, cri.PodSandboxState_SANDBOX_NOTREADY)
	}
	Equal(t, "a container of a new pod", c.pod().output("box", "echo works"), "works")
}
