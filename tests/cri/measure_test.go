package cri

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	. "github.com/sock-runtime/sock/tests/sandbox"
)

var rounds = flag.Int("measure", 0, "measure so many starts of pods with each handler, and seconds of probes")

// accountedNode starts a node whose containerd, with all that it starts, is in a cgroup: n.cpu tells what it takes. Containers are
// in others.
func accountedNode(t *testing.T) *node {
	if *rounds == 0 {
		t.Skip("only with -measure")
	}
	n := newNode(t)
	n.stop(os.Interrupt)
	dir := n.account()
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	own := filepath.Join(filepath.Dir(dir), "cgroup.procs")
	Must(t, os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte("0"), 0))
	n.start()
	Must(t, os.WriteFile(own, []byte("0"), 0))
	return n
}

func (n *node) account() string {
	return filepath.Join(CgroupRoot, ByCgroup("cpuacct", ""), n.Mark+"-node")
}

// cpu is the CPU time of containerd, shims and runtimes, and that of containers.
func (n *node) cpu() (engine, containers time.Duration) {
	n.Helper()
	read := func(dir string) time.Duration {
		if Unified() {
			for line := range strings.Lines(ReadFile(filepath.Join(dir, "cpu.stat"))) {
				if f := strings.Fields(line); f[0] == "usage_usec" {
					return time.Duration(Atoi(f[1])) * time.Microsecond
				}
			}
			return 0
		}
		return time.Duration(Atoi(strings.TrimSpace(ReadFile(filepath.Join(dir, "cpuacct.usage")))))
	}
	return read(n.account()), read(filepath.Join(filepath.Dir(n.account()), n.Mark))
}

// pss is the memory of processes of the node in KiB, with shared pages divided among those who share them: of those whose
// command line begins with one of the names.
func (n *node) pss(names ...string) int {
	sum := 0
	for _, process := range n.Processes() {
		pid := strings.Fields(process)[0]
		program, _, _ := strings.Cut(ReadFile("/proc/"+pid+"/cmdline"), "\x00")
		if !slices.Contains(names, filepath.Base(program)) {
			continue
		}
		for line := range strings.Lines(ReadFile("/proc/" + pid + "/smaps_rollup")) {
			if f := strings.Fields(line); len(f) > 1 && f[0] == "Pss:" {
				sum += Atoi(f[1])
			}
		}
	}
	return sum
}

// spent is the CPU time of containerd, of the keeper and of the worker by themselves: what else the engine takes is what they
// execute, and runc's shims.
func (n *node) spent() [3]time.Duration {
	n.Helper()
	var all [3]time.Duration
	for i, pids := range [][]int{{n.server.Process.Pid}, n.shimProcesses("keeper"), n.shimProcesses("worker")} {
		for _, pid := range pids {
			if f := strings.Fields(ReadFile(fmt.Sprintf("/proc/%d/stat", pid))); len(f) > 14 {
				all[i] += time.Duration(Atoi(f[13])+Atoi(f[14])) * 10 * time.Millisecond // USER_HZ
			}
		}
	}
	return all
}

func median(list []time.Duration) string {
	slices.Sort(list)
	return fmt.Sprintf("%6.1f (%6.1f) ms", float64(list[len(list)/2])/1e6, float64(list[len(list)*95/100])/1e6)
}

// TestMeasurePods says how long it takes until a pod with one container runs, and what it takes of CPU time and memory.
func TestMeasurePods(t *testing.T) {
	n := accountedNode(t)
	clients := make([]client, len(handlers))
	for i, h := range handlers {
		clients[i] = client{T: t, node: n, handler: h}
		clients[i].pod().sleeper("first") // with it the shim comes
	}
	for _, network := range []bool{true, false} {
		times := make([][]time.Duration, len(handlers))
		cpus := make([]time.Duration, len(handlers))
		for range *rounds {
			for i, c := range clients {
				config := c.podConfig()
				if !network {
					config.Hostname, config.Linux.SecurityContext.NamespaceOptions.Network = "", cri.NamespaceMode_NODE
				}
				before, _ := n.cpu()
				begin := time.Now()
				p, err := c.tryPod(config)
				Must(t, err)
				p.sleeper("box")
				times[i] = append(times[i], time.Since(begin))
				p.remove()
				after, _ := n.cpu()
				cpus[i] += after - before
			}
		}
		for i, h := range handlers {
			t.Logf("%-30s network %-5v until it runs %s, CPU from start to removal %6.1f ms", h.title, network, median(times[i]), float64(cpus[i])/1e6/float64(*rounds))
		}
	}
	const pods = 20
	names := []string{"containerd-shim-runc-v2", "sock-shimd", "pause"}
	for _, c := range clients {
		before := n.pss(names...)
		var all []*pod
		for range pods {
			p, err := c.tryPod(c.podConfig())
			Must(t, err)
			p.sleeper("box")
			all = append(all, p)
		}
		t.Logf("%-30s shims and pause processes, per pod: %6d KiB", c.handler.title, (n.pss(names...)-before)/pods)
		for _, p := range all {
			p.remove()
		}
	}
}

// TestMeasureProbes has 100 containers probed each second: what does it cost the node?
func TestMeasureProbes(t *testing.T) {
	n := accountedNode(t)
	const pods, perPod = 20, 5
	costs := map[string]time.Duration{}
	for _, h := range handlers {
		c := client{T: t, node: n, handler: h}
		var boxes []*container
		var all []*pod
		for range pods {
			p, err := c.tryPod(c.podConfig())
			Must(t, err)
			for i := range perPod {
				boxes = append(boxes, p.sleeper(fmt.Sprint("box", i)))
			}
			all = append(all, p)
		}
		engine, containers := n.cpu()
		spent := n.spent()
		begin := time.Now()
		var probing sync.WaitGroup
		for i, box := range boxes {
			probing.Go(func() {
				for round := range *rounds {
					at := begin.Add(time.Duration(round)*time.Second + time.Duration(i)*time.Second/time.Duration(len(boxes)))
					time.Sleep(time.Until(at))
					ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
					r, err := n.runtime.ExecSync(ctx, &cri.ExecSyncRequest{ContainerId: box.id, Cmd: []string{"true"}, Timeout: 60})
					cancel()
					if err != nil || r.ExitCode != 0 {
						t.Errorf("%s: %v, %v", h.name, r, err)
					}
				}
			})
		}
		probing.Wait()
		took := time.Since(begin)
		engineNow, containersNow := n.cpu()
		probes := time.Duration(len(boxes) * *rounds)
		costs[h.name] = (engineNow - engine + containersNow - containers) / probes
		t.Logf("%-30s %d probes in %.1f s: CPU per probe %6.2f ms in containerd, shims and runtimes, %5.2f ms in containers",
			h.title, int(probes), took.Seconds(), float64((engineNow-engine)/probes)/1e6, float64((containersNow-containers)/probes)/1e6)
		for i, now := range n.spent() {
			t.Logf("%-30s of that in %s %6.2f ms", h.title, []string{"containerd", "the keeper", "the worker"}[i], float64((now-spent[i])/probes)/1e6)
		}
		for _, p := range all {
			p.remove()
		}
	}
	for _, h := range handlers[1:] {
		t.Logf("%s : runc = %.2f", h.title, float64(costs[h.name])/float64(costs["runc"]))
	}
}
