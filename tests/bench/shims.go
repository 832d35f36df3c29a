package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

const containersInMemory = 100

// benchShims compares shims under one containerd: sock's, runc's with runc and with crun, and one that does nothing.
func benchShims(ctx context.Context, o options, runtimes []*Runtime, b Bundle, dir string, report *Report) error {
	nothingAt := filepath.Join(dir, "nothing.sock")
	shims := []*Shim{{
		Name: "sock", runtime: "io.containerd.sock.v1", mounts: true, processes: []string{"sock-shimd"},
	}}
	for _, r := range runtimes {
		if r.Name != "sock" {
			shims = append(shims, &Shim{
				Name: r.Name, runtime: "io.containerd.runc.v2", options: runcOptions(r), mounts: true, processes: []string{"containerd-shim-runc-v2"},
			})
		}
	}
	if slices.Contains(o.against, "nothing") {
		shims = append(shims, &Shim{Name: "nothing", runtime: "io.containerd.nothing.v1"})
	}

	c, err := startContainerd(ctx, o.containerd, []string{o.shims, o.nothing}, []string{nothingEnv + "=unix://" + nothingAt}, b, dir)
	if err != nil {
		return err
	}
	defer c.stop()
	nothing := exec.Command("/proc/self/exe", "nothing", nothingAt, c.events())
	if err := startServer(nothing, filepath.Join(dir, "nothing.log")); err != nil {
		return err
	}
	defer stopServer(nothing)
	fmt.Printf("\ncontainerd %s, with sock's shim, runc's with runc and with crun, and one that does nothing\n", c.version)

	boxes := map[*Shim][]*box{}
	for _, shim := range shims {
		for i := range slices.Max(o.at) {
			box, err := c.box(shim, numbered(shim.Name, i), "/bin/true")
			if err != nil {
				return err
			}
			boxes[shim] = append(boxes[shim], box)
		}
	}
	if o.wants("task") {
		for _, at := range o.at {
			t := contest{
				name: "task", what: "create, start, end, delete of a task with /bin/true",
				concurrency: at, share: 2, rounds: o.roundsAt(at, 60),
			}
			for _, shim := range shims {
				t.contestants = append(t.contestants, contestant{shim.Name, func(worker, _ int) error { return boxes[shim][worker].life() }})
			}
			if err := report.add(t.run(ctx)); err != nil {
				return err
			}
		}
	}
	if o.wants("task-exec") {
		if err := benchExec(ctx, o, c, shims, report); err != nil {
			return err
		}
	}
	if o.wants("memory") {
		return benchMemory(ctx, c, shims, report)
	}
	return nil
}

// running is part of the ids of containers that are to run until they are killed.
const running = "running"

func isWaiting(id string) bool { return strings.Contains(id, running) }

// wait starts a number of containers that run until they are killed.
func (c *containerd) wait(shim *Shim, n int) ([]*box, error) {
	boxes := make([]*box, n)
	return boxes, atOnce(n, func(i int) (err error) {
		if boxes[i], err = c.box(shim, numbered(shim.Name+"-"+running+fmt.Sprint(n), i), "/bin/sleep", "1000000"); err != nil {
			return err
		}
		return boxes[i].run()
	})
}

func endAll(boxes []*box) error {
	return atOnce(len(boxes), func(i int) error { return boxes[i].end() })
}

func benchExec(ctx context.Context, o options, c *containerd, shims []*Shim, report *Report) error {
	for _, at := range o.at {
		t := contest{
			name: "task-exec", what: "exec of /bin/true in a running container, to its delete",
			concurrency: at, share: 4, rounds: o.roundsAt(at, 60),
		}
		var all []*box
		for _, shim := range shims {
			boxes, err := c.wait(shim, at)
			if err != nil {
				return err
			}
			all = append(all, boxes...)
			t.contestants = append(t.contestants, contestant{shim.Name, func(worker, n int) error { return boxes[worker].exec(numbered("exec", n)) }})
		}
		if err := report.add(t.run(ctx)); err != nil {
			return err
		}
		if err := endAll(all); err != nil {
			return err
		}
	}
	return nil
}

// benchMemory adds up the memory of the processes that serve running containers.
func benchMemory(ctx context.Context, c *containerd, shims []*Shim, report *Report) error {
	m := Memory{Containers: containersInMemory}
	for _, shim := range shims {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if len(shim.processes) == 0 {
			continue
		}
		boxes, err := c.wait(shim, containersInMemory)
		if err != nil {
			return err
		}
		kib, processes, err := pss(shim.processes)
		if err != nil {
			return err
		}
		m.Shims = append(m.Shims, ShimMemory{Runtime: shim.Name, MiB: float64(kib) / 1024 / containersInMemory, Processes: processes})
		if err := endAll(boxes); err != nil {
			return err
		}
	}
	m.Print(os.Stdout)
	report.Memory = &m
	return nil
}
