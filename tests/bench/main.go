// Command bench times container runtimes side by side: run, create+start+delete and exec of /bin/true, on the same bundle,
// in turns, so that what disturbs the machine disturbs all of them.
//
// It is a measurement, not a test: nothing depends on how fast anything is. It needs root, a static busybox and sock; runc
// and crun take part where they are installed.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run() error {
	sock := flag.String("sock", "bin/sock", "the sock to measure")
	rounds := flag.Int("rounds", 200, "rounds that are measured")
	warm := flag.Int("warmup", 5, "rounds before that")
	only := flag.String("only", "", "comma-separated workloads: run, life, exec (default all)")
	jsonFile := flag.String("json", "", "also write results and single times to this file")
	flag.Parse()
	if os.Geteuid() != 0 {
		return errors.New("needs root to run containers")
	}
	if *rounds < 1 {
		return errors.New("-rounds must be at least 1")
	}
	workloads, err := choose(*only)
	if err != nil {
		return err
	}

	// Interrupted, it finishes or removes the container that it is at, and goes.
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	defer stop()

	// All measured processes are forked by this thread, which has a mount namespace of its own and doesn't stop to
	// collect garbage.
	runtime.LockOSThread()
	debug.SetGCPercent(-1)
	host := describeHost() // before hybrid cgroups look like v1
	if err := ownMounts(); err != nil {
		return err
	}
	// A container whose runtime has ended becomes our child, so that we see its end at once.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become a subreaper: %w", err)
	}
	dir, err := os.MkdirTemp("", "sock-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	runtimes, err := findRuntimes(*sock, dir)
	if err != nil {
		return err
	}
	bundle, err := makeBundle(runtimes[0], dir)
	if err != nil {
		return err
	}

	report := Report{Host: host, Rounds: *rounds}
	for _, r := range runtimes {
		report.Runtimes = append(report.Runtimes, r.Version)
	}
	report.Print(os.Stdout)
	for _, w := range workloads {
		result, err := measure(ctx, w, runtimes, bundle, *warm, *rounds)
		if err != nil {
			return fmt.Errorf("%s: %w", w.name, err)
		}
		result.Print(os.Stdout)
		report.Results = append(report.Results, result)
	}
	if *jsonFile == "" {
		return nil
	}
	data, err := json.MarshalIndent(report, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(*jsonFile, append(data, '\n'), 0o644)
}

func choose(names string) ([]workload, error) {
	if names == "" {
		return workloads, nil
	}
	var chosen []workload
	for name := range strings.SplitSeq(names, ",") {
		i := slices.IndexFunc(workloads, func(w workload) bool { return w.name == name })
		if i < 0 {
			return nil, fmt.Errorf("unknown workload %q", name)
		}
		chosen = append(chosen, workloads[i])
	}
	return chosen, nil
}

// ownMounts gives this thread, and what it forks, a mount namespace. On hosts with hybrid cgroups it shows no cgroup v2,
// to all runtimes alike: crun refuses hybrid mode, and runc and sock use only the v1 hierarchies in it.
func ownMounts() error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("unshare mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if cgroupMode() != "hybrid" {
		return nil
	}
	// A tmpfs of our own over it, not the host's below it: crun makes directories there all the same.
	if err := unix.Mount("tmpfs", unifiedMount, "tmpfs", 0, "size=1m"); err != nil {
		return fmt.Errorf("hide %s: %w", unifiedMount, err)
	}
	return nil
}
