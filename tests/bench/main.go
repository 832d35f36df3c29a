// Command bench times container runtimes side by side, in turns, so that what disturbs the machine disturbs all of them: run,
// create+start+delete and exec of /bin/true by the runtimes' commands on the same bundle; tasks and execs by shims under one
// containerd, and the memory of these; docker run.
//
// It is a measurement, not a test: nothing depends on how fast anything is. It needs root, a static busybox and sock; runc,
// crun and Docker take part where they are installed. Everything runs in a mount namespace with a /run of its own; nothing is
// left of it, also if it is interrupted.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

func main() {
	err := errors.New("usage: nothing SOCKET EVENTS")
	if len(os.Args) < 2 || os.Args[1] != "nothing" {
		err = run()
	} else if len(os.Args) == 4 {
		err = serveNothing(os.Args[2], os.Args[3])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// options are the command line.
type options struct {
	sock       string
	shims      string // directory of sock's shim
	nothing    string // directory of the shim that does nothing
	containerd string // directory of a containerd and runc's shim
	docker     string // directory of a recent Docker
	rounds     int
	warmup     int
	only       []string
	against    []string // whom to compare with
	at         []int    // concurrencies
	json       string
}

// parts are what can be chosen by -only.
var parts = []string{"run", "life", "exec", "task", "task-exec", "memory", "docker"}

func parseFlags() (o options, err error) {
	flag.StringVar(&o.sock, "sock", "bin/sock", "the sock to measure")
	flag.StringVar(&o.shims, "shims", "bin", "directory of sock's shim")
	flag.StringVar(&o.nothing, "nothing", "bin/bench", "directory of the shim that does nothing")
	flag.StringVar(&o.containerd, "containerd", ".cache/containerd", "directory of a containerd and runc's shim")
	flag.StringVar(&o.docker, "docker", ".cache/docker", "directory of a recent Docker, measured beside the installed one")
	flag.IntVar(&o.rounds, "rounds", 200, "rounds of commands that are measured; those of the engines take longer, and are fewer")
	flag.IntVar(&o.warmup, "warmup", 5, "rounds before that")
	only := flag.String("only", "", "comma-separated parts: "+strings.Join(parts, ", ")+" (default all)")
	against := flag.String("against", "crun,runc,nothing", "comma-separated contestants beside sock")
	at := flag.String("at", "1,4,16", "comma-separated numbers of containers at a time, under engines")
	flag.StringVar(&o.json, "json", "", "also write results and single times to this file")
	flag.Parse()
	if o.rounds < 1 {
		return o, errors.New("-rounds must be at least 1")
	}
	for _, dir := range []*string{&o.shims, &o.nothing, &o.containerd, &o.docker} {
		if *dir, err = filepath.Abs(*dir); err != nil {
			return o, err
		}
	}
	o.against = strings.Split(*against, ",")
	for field := range strings.SplitSeq(*at, ",") {
		n, err := strconv.Atoi(field)
		if err != nil || n < 1 {
			return o, fmt.Errorf("-at: %q is no number of containers", field)
		}
		o.at = append(o.at, n)
	}
	o.only = parts
	if *only != "" {
		o.only = strings.Split(*only, ",")
	}
	for _, name := range o.only {
		if !slices.Contains(parts, name) {
			return o, fmt.Errorf("unknown part %q", name)
		}
	}
	return o, nil
}

// wants says whether any of the parts was chosen.
func (o options) wants(names ...string) bool {
	return slices.ContainsFunc(names, func(name string) bool { return slices.Contains(o.only, name) })
}

// rounds is how many there are at a concurrency, where 200 of commands take half a minute.
func (o options) roundsAt(concurrency, most int) int {
	return max(1, most*o.rounds/200*2/(1+concurrency))
}

func run() (err error) {
	o, err := parseFlags()
	if err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return errors.New("needs root to run containers")
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
	defer func() {
		if err != nil && ctx.Err() != nil {
			err = errors.New("interrupted") // whatever it was at
		}
		err = errors.Join(err, clearUp(dir), os.RemoveAll(dir))
	}()
	runtimes, err := findRuntimes(o, dir)
	if err != nil {
		return err
	}
	bundle, err := makeBundle(runtimes[0], dir)
	if err != nil {
		return err
	}

	report := Report{Host: host, Rounds: o.rounds}
	for _, r := range runtimes {
		report.Runtimes = append(report.Runtimes, r.Version)
	}
	report.Print(os.Stdout)
	for _, w := range workloads {
		if o.wants(w.name) {
			if err := report.add(measure(ctx, w, runtimes, bundle, o.warmup, o.rounds)); err != nil {
				return err
			}
		}
	}
	if o.wants("task", "task-exec", "memory") {
		if err := benchShims(ctx, o, runtimes, bundle, dir, &report); err != nil {
			return fmt.Errorf("containerd: %w", err)
		}
	}
	if o.wants("docker") {
		if err := benchDocker(ctx, o, runtimes, bundle, dir, &report); err != nil {
			return err
		}
	}
	if o.json == "" {
		return nil
	}
	data, err := json.MarshalIndent(report, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(o.json, append(data, '\n'), 0o644)
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
	// Engines and shims keep much there.
	if err := unix.Mount("tmpfs", "/run", "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("mount a tmpfs at /run: %w", err)
	}
	if cgroupMode() != "hybrid" {
		return nil
	}
	// A tmpfs of our own over it, not the host's below it: crun makes directories there all the same, with a file for every
	// container.
	if err := unix.Mount("tmpfs", unifiedMount, "tmpfs", 0, "size=64m"); err != nil {
		return fmt.Errorf("hide %s: %w", unifiedMount, err)
	}
	return nil
}
