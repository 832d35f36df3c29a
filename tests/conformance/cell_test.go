package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A cell is where one program runs: process, mount and cgroup namespaces, below cgroups of their own, with an empty /run.
// There the program and the runtime keep what they make (bundles, the state of containers), and it goes with the
// namespaces, whatever a failing program leaves. Programs therefore can't disturb the host or one another.
type cell struct {
	name    string // of its cgroups
	suite   string // the directory of the programs, of runtimetest and of the root file system
	program string
	runtime string // path of the binary
	timeout time.Duration
}

const (
	// programTimeout is for all of a program: several containers, each of which it gives some 10 seconds at most.
	programTimeout = 2 * time.Minute
	// cellVar has the name of the cell in the environment of its first process, which is this test binary.
	cellVar = "SOCK_CONFORMANCE_CELL"
)

func TestMain(m *testing.M) {
	if name := os.Getenv(cellVar); name != "" {
		os.Exit(firstProcess(name))
	}
	os.Exit(m.Run())
}

// run runs the program in the cell, and returns its verdict and all it said.
func (c cell) run() (verdict, string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), c.timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/proc/self/exe", filepath.Join(c.suite, c.program))
	cmd.Dir = c.suite // where programs look for runtimetest and rootfs-ARCH.tar.gz
	cmd.Env = append(os.Environ(), cellVar+"="+c.name, "RUNTIME="+c.runtime, "TMPDIR=/run")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS, Pdeathsig: unix.SIGKILL}
	err := cmd.Run()
	said := fmt.Sprintf("stdout:\n%s\nstderr:\n%s", stdout.String(), stderr.String())
	if err := c.removeCgroups(); err != nil {
		return verdict{}, said, err
	}
	if ctx.Err() != nil {
		return verdict{complaint: fmt.Sprintf("no end after %s", c.timeout)}, said, nil
	}
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		return verdict{}, said, err
	}
	status := cmd.ProcessState.ExitCode()
	if status == setupFailed {
		return verdict{}, said, fmt.Errorf("%s: the cell can't be made: %s", c.program, stderr.String())
	}
	return judge(stdout.String(), stderr.String(), status, notes[c.program].silent), said, nil
}

// setupFailed is the exit status of a cell that could not be made. No program uses it.
const setupFailed = 113

// firstProcess is process 1 of a cell: it sets it up, runs the program, reaps orphans meanwhile and ends with the program,
// and so does everything else in the cell.
func firstProcess(name string) int {
	runtime.LockOSThread() // unshare is about the thread, of which the program is a child
	if err := setUp(name); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return setupFailed
	}
	_ = os.Unsetenv(cellVar)
	cmd := exec.Command(os.Args[1])
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return setupFailed
	}
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case err != nil && err != unix.EINTR:
			fmt.Fprintln(os.Stderr, err)
			return setupFailed
		case pid == cmd.Process.Pid && status.Signaled():
			return 128 + int(status.Signal())
		case pid == cmd.Process.Pid:
			return status.ExitStatus()
		}
	}
}

func setUp(name string) error {
	hierarchies, err := cgroupMounts()
	if err != nil {
		return err
	}
	for _, h := range hierarchies {
		if err := h.join(name); err != nil {
			return err
		}
	}
	if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
		return fmt.Errorf("unshare the cgroup namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make / private: %w", err)
	}
	if err := mountAnew(hierarchies); err != nil {
		return err
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	if err := ownNull(); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", "/run", "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("mount /run: %w", err)
	}
	return nil
}

// cgroupRoot is where the hierarchies are mounted, one in each directory, where there is v1.
const cgroupRoot = "/sys/fs/cgroup"

// hierarchy is a mount of cgroups, seen from the process that read the mount table.
type hierarchy struct {
	point   string   // of the mount
	v2      bool     //
	options []string // v1: what names it, controllers or name=NAME
	own     string   // the directory of our own cgroup
}

// cgroupMounts returns the cgroup hierarchies that are mounted below cgroupRoot.
func cgroupMounts() ([]hierarchy, error) {
	mountinfo, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	membership, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	own := make(map[string]string) // by what names the hierarchy, "" for v2
	for line := range strings.Lines(string(membership)) {
		if f := strings.SplitN(strings.TrimSpace(line), ":", 3); len(f) == 3 {
			own[f[1]] = f[2]
		}
	}
	var found []hierarchy
	for line := range strings.Lines(string(mountinfo)) {
		before, after, _ := strings.Cut(line, " - ")
		f, g := strings.Fields(before), strings.Fields(after)
		if len(f) < 6 || len(g) < 3 || filepath.Dir(f[4]) != cgroupRoot || f[3] != "/" || g[0] != "cgroup" && g[0] != "cgroup2" {
			continue
		}
		h := hierarchy{point: f[4], v2: g[0] == "cgroup2"}
		for _, option := range strings.Split(g[2], ",") {
			switch option, _, _ := strings.Cut(option, "="); option {
			case "rw", "ro", "xattr", "noprefix", "clone_children", "release_agent":
				continue
			}
			if !h.v2 {
				h.options = append(h.options, option)
			}
		}
		if path, ok := own[strings.Join(h.options, ",")]; ok {
			h.own = filepath.Join(h.point, path)
			found = append(found, h)
		}
	}
	return found, nil
}

// join moves this process to a new cgroup. The hierarchy of v2 is left alone: the cell won't have it.
func (h hierarchy) join(name string) error {
	if h.v2 {
		return nil
	}
	dir := filepath.Join(h.own, name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} { // empty in a new cgroup, which then takes no process
		value, err := os.ReadFile(filepath.Join(h.own, file))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, file), value, 0); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte("0"), 0)
}

// mountAnew replaces what is at cgroupRoot by mounts that show only what is below our cgroups. That of v2 is gone then:
// Debian's crun refuses hosts that have both, and the suite knows only v1. So is the directory where it was, in which crun
// would make its cgroups as if nothing had happened.
func mountAnew(hierarchies []hierarchy) error {
	for _, h := range hierarchies {
		if err := unix.Unmount(h.point, unix.MNT_DETACH); err != nil {
			return fmt.Errorf("unmount %s: %w", h.point, err)
		}
	}
	links, err := filepath.Glob(cgroupRoot + "/*") // cpu -> cpu,cpuacct
	if err != nil {
		return err
	}
	targets := make(map[string]string)
	for _, link := range links {
		if target, err := os.Readlink(link); err == nil {
			targets[link] = target
		}
	}
	if err := unix.Mount("tmpfs", cgroupRoot, "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("mount %s: %w", cgroupRoot, err)
	}
	for link, target := range targets {
		if err := os.Symlink(target, link); err != nil {
			return err
		}
	}
	for _, h := range hierarchies {
		if h.v2 {
			continue
		}
		if err := os.Mkdir(h.point, 0o755); err != nil {
			return err
		}
		options := strings.Join(h.options, ",")
		if strings.HasPrefix(options, "name=") {
			options = "none," + options
		}
		if err := unix.Mount("cgroup", h.point, "cgroup", 0, options); err != nil {
			return fmt.Errorf("mount cgroups (%s) at %s: %w", options, h.point, err)
		}
	}
	return nil
}

// removeCgroups removes the cell's cgroups and all below them. They are empty now, but the kernel may need a moment.
func (c cell) removeCgroups() error {
	hierarchies, err := cgroupMounts()
	if err != nil {
		return err
	}
	for _, h := range hierarchies {
		for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			err := removeTree(filepath.Join(h.own, c.name))
			if err == nil {
				break
			}
			if time.Now().After(deadline) {
				return err
			}
		}
	}
	return nil
}

// removeTree removes a directory that has only directories that can be removed, and files that go with it.
func removeTree(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeTree(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	if err := unix.Rmdir(dir); err != nil && err != unix.ENOENT {
		return fmt.Errorf("remove cgroup %s: %w", dir, err)
	}
	return nil
}

// TestCell runs a program that leaves a process, a cgroup and files, once to its end and once not.
func TestCell(t *testing.T) {
	needCgroupV1(t)
	suite := t.TempDir()
	for _, c := range []struct{ name, ending, complaint string }{
		{"ends", "exit 0", ""},
		{"does not", "sleep 1000", "no end after 1s"},
	} {
		t.Run(c.name, func(t *testing.T) {
			program := fmt.Sprintf(`#!/bin/sh
				for dir in /sys/fs/cgroup/*; do
					mkdir -p $dir/left/behind
				done
				[ ! -e /sys/fs/cgroup/unified ] && mkdir /sys/fs/cgroup/left || exit 1
				[ "$RUNTIME" = /runtime ] && [ "$(ls /run)" = "" ] || exit 1
				touch /run/sock-conformance-left
				sleep 1000 &
				echo $! >/sys/fs/cgroup/pids/left/behind/cgroup.procs || exit 1
				echo 1..0
				%s
				`, c.ending)
			if err := os.WriteFile(filepath.Join(suite, "program"), []byte(program), 0o755); err != nil {
				t.Fatal(err)
			}
			cell := cell{fmt.Sprintf("sock-conformance-%d-cell", os.Getpid()), suite, "program", "/runtime", time.Second}
			v, said, err := cell.run()
			if err != nil || v.complaint != c.complaint {
				t.Errorf("got %q, %v, want %q\n%s", v.complaint, err, c.complaint, said)
			}
			left, err := filepath.Glob(cgroupRoot + "/*/" + cell.name)
			more, _ := filepath.Glob(cgroupRoot + "/left")
			left = append(left, more...)
			if _, statErr := os.Stat("/run/sock-conformance-left"); err != nil || len(left) > 0 || statErr == nil {
				t.Errorf("left: cgroups %q (%v), file in /run: %t", left, err, statErr == nil)
			}
		})
	}
}

func needCgroupV1(t *testing.T) {
	t.Helper()
	need(t, os.Geteuid() == 0, "needs root")
	hierarchies, err := cgroupMounts()
	if err != nil {
		t.Fatal(err)
	}
	need(t, slices.ContainsFunc(hierarchies, func(h hierarchy) bool { return !h.v2 }), "needs cgroup v1, all that the suite knows")
}

// ownNull puts a device of the cell's own over /dev/null: crun gives the one that is a container's stdin to its user.
func ownNull() error {
	const name = "/run/null"
	if err := unix.Mount("tmpfs", "/run", "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("mount tmpfs: %w", err)
	}
	if err := unix.Mknod(name, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))); err != nil {
		return fmt.Errorf("make %s: %w", name, err)
	}
	if err := unix.Chmod(name, 0o666); err != nil {
		return fmt.Errorf("make %s: %w", name, err)
	}
	if err := unix.Mount(name, "/dev/null", "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind %s: %w", name, err)
	}
	return nil
}
