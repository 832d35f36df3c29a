package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// workload is one thing to time.
type workload struct {
	name, what string
	// before and after surround all rounds of one runtime; they are not timed.
	before, after func(r *Runtime, b Bundle) error
	// once is timed.
	once func(r *Runtime, b Bundle, id string) error
}

var workloads = []workload{
	{name: "run", what: "run /bin/true in a new container and remove it", once: runOnce},
	{name: "life", what: "create, start, wait for the end, delete", once: live},
	{name: "exec", what: "exec /bin/true in a running container", before: startWaiting, once: execOnce, after: removeWaiting},
}

func runOnce(r *Runtime, b Bundle, id string) error {
	return r.call("run", "--bundle", b.Short, id)
}

func live(r *Runtime, b Bundle, id string) error {
	pidFile := filepath.Join(filepath.Dir(b.Short), "pid")
	if err := r.call("create", "--bundle", b.Short, "--pid-file", pidFile, id); err != nil {
		return err
	}
	if err := r.call("start", id); err != nil {
		return err
	}
	// Its parent has ended, so the container is our child now, subreapers that we are.
	data, err := os.ReadFile(pidFile)
	if err != nil {
		return err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		return fmt.Errorf("read pid file: %w", err)
	}
	if status, err := wait(pid); err != nil || status != 0 {
		return fmt.Errorf("the container ended with status %d (%v)", status, err)
	}
	return r.call("delete", id)
}

// waitingID names the container that exec joins.
const waitingID = "sock-bench-waiting"

func startWaiting(r *Runtime, b Bundle) error {
	return r.call("run", "--detach", "--bundle", b.Waiting, waitingID)
}

func execOnce(r *Runtime, _ Bundle, _ string) error {
	return r.call("exec", waitingID, "/bin/true")
}

func removeWaiting(r *Runtime, _ Bundle) error {
	return r.call("delete", "--force", waitingID)
}

// measure does rounds in which each runtime has its turn. Who begins changes from round to round, so that none always
// runs behind the same other.
func measure(ctx context.Context, w workload, runtimes []*Runtime, b Bundle, warmup, rounds int) (result Result, err error) {
	result = newResult(w, runtimes)
	if w.before != nil {
		for _, r := range runtimes {
			if err := w.before(r, b); err != nil {
				return result, err
			}
			defer func() { err = errors.Join(err, w.after(r, b)) }()
		}
	}
	for round := range warmup + rounds {
		for turn := range runtimes {
			if ctx.Err() != nil {
				return result, errors.New("interrupted")
			}
			i := (round + turn) % len(runtimes)
			id := fmt.Sprintf("sock-bench-%d-%d", os.Getpid(), round)
			began := time.Now()
			err := w.once(runtimes[i], b, id)
			took := time.Since(began)
			if err != nil {
				// What is left of it would stay on the machine; the error is what counts.
				_ = runtimes[i].call("delete", "--force", id)
				return result, err
			}
			if round >= warmup {
				result.Times[i].Milliseconds = append(result.Times[i].Milliseconds, float64(took.Microseconds())/1000)
			}
			reapOrphans()
		}
	}
	result.summarise()
	return result, nil
}

// reapOrphans collects what runtimes left to us.
func reapOrphans() {
	for {
		pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
		if err != syscall.EINTR && pid <= 0 {
			return
		}
	}
}
