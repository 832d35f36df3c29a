package shim

import (
	"flag"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	v2 "github.com/containerd/containerd/api/runtime/task/v2"
	"golang.org/x/sys/unix"

	. "github.com/sock-runtime/sock/tests/sandbox"
)

var rounds = flag.Int("measure", 0, "measure so many task lives at each concurrency")

// TestMeasure says how long a task's life takes through ttrpc, without containerd: create, start, wait for the end, delete.
func TestMeasure(t *testing.T) {
	if *rounds == 0 {
		t.Skip("only with -measure")
	}
	f := newFixture(t)
	for _, concurrency := range []int{1, 4, 16} {
		var all sync.WaitGroup
		var mu sync.Mutex
		var whole []time.Duration
		parts := map[string][]time.Duration{}
		begin, cpu := time.Now(), f.cpuTime()
		for w := range concurrency {
			id := fmt.Sprint("box", w)
			r := f.request(id, Args("true"))
			all.Go(func() {
				for range *rounds / concurrency {
					start := time.Now()
					last := start
					step := func(name string, err error) {
						now := time.Now()
						if err != nil {
							t.Error(name, err)
						}
						mu.Lock()
						parts[name] = append(parts[name], now.Sub(last))
						mu.Unlock()
						last = now
					}
					_, err := f.task.Create(ctx(), r)
					step("create", err)
					_, err = f.task.Start(ctx(), &v2.StartRequest{ID: id})
					step("start", err)
					_, err = f.task.Wait(ctx(), &v2.WaitRequest{ID: id})
					step("wait", err)
					_, err = f.task.Delete(ctx(), &v2.DeleteRequest{ID: id})
					step("delete", err)
					mu.Lock()
					whole = append(whole, time.Since(start))
					mu.Unlock()
				}
			})
		}
		all.Wait()
		took, cpu := time.Since(begin), f.cpuTime()-cpu
		line := fmt.Sprintf("concurrency %2d: life %s, %.0f a second, %.2f of CPU each;",
			concurrency, quantiles(whole), float64(len(whole))/took.Seconds(), cpu.Seconds()*1000/float64(len(whole)))
		for _, name := range []string{"create", "start", "wait", "delete"} {
			line += fmt.Sprintf(" %s %s", name, quantiles(parts[name]))
		}
		t.Log(line)
	}
	f.memory("idle")
	const containers = 100
	for i := range containers {
		f.started(f.request(fmt.Sprint("many", i)))
	}
	f.memory(fmt.Sprintf("%d containers", containers))
	for i := range containers {
		_, err := f.task.Kill(ctx(), &v2.KillRequest{ID: fmt.Sprint("many", i), Signal: uint32(unix.SIGKILL)})
		Must(t, err)
		f.waited(fmt.Sprint("many", i), "")
		f.removed(fmt.Sprint("many", i))
	}
}

// cpuTime is what the worker and the processes that it has reaped have used.
func (f *fixture) cpuTime() (sum time.Duration) {
	_, text, _ := strings.Cut(ReadFile(fmt.Sprintf("/proc/%d/stat", f.worker.Process.Pid)), ") ")
	fields := strings.Fields(text)
	const utime14, cstime17, ticks = 11, 14, 100 // proc_pid_stat(5), counted from field 3
	for _, field := range fields[utime14 : cstime17+1] {
		sum += time.Duration(Atoi(field)) * time.Second / ticks
	}
	return sum
}

// quantiles are median and 95th percentile in milliseconds.
func quantiles(list []time.Duration) string {
	slices.Sort(list)
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	return fmt.Sprintf("%.2f (%.2f)", ms(list[len(list)/2]), ms(list[len(list)*95/100]))
}

func (f *fixture) memory(when string) {
	f.Helper()
	text := ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", f.worker.Process.Pid))
	for line := range strings.Lines(text) {
		if fields := strings.Fields(line); len(fields) == 3 && (fields[0] == "Rss:" || fields[0] == "Pss:" || fields[0] == "Private_Dirty:") {
			f.Logf("%s: %s %s KiB", when, fields[0], fields[1])
		}
	}
}
