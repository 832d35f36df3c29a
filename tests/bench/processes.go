package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ours lists the processes in this thread's mount namespace: servers and shims, but not containers.
func ours() ([]int, error) {
	mine, err := os.Readlink("/proc/thread-self/ns/mnt")
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		if theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/mnt", pid)); err == nil && theirs == mine {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// pss adds up the proportional set sizes, in KiB, of ours that run one of the programs.
func pss(programs []string) (kib, processes int, err error) {
	pids, err := ours()
	if err != nil {
		return 0, 0, err
	}
	for _, pid := range pids {
		exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
		if err != nil || !slices.Contains(programs, filepath.Base(strings.TrimSuffix(exe, " (deleted)"))) {
			continue
		}
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			return 0, 0, err
		}
		_, rest, found := bytes.Cut(data, []byte("\nPss:"))
		fields := bytes.Fields(rest)
		if !found || len(fields) == 0 {
			return 0, 0, fmt.Errorf("no Pss in smaps_rollup of %d", pid)
		}
		n, err := strconv.Atoi(string(fields[0]))
		if err != nil {
			return 0, 0, err
		}
		kib, processes = kib+n, processes+1
	}
	if processes == 0 {
		return 0, 0, fmt.Errorf("no process runs %v", programs)
	}
	return kib, processes, nil
}

// cgroupParent is below which all containers' cgroups are that engines make.
func cgroupParent() string { return numbered("/sock-bench", os.Getpid()) }

// clearUp ends what is left of an engine that was interrupted, and removes cgroups and mounts. As a rule only empty cgroups
// are left.
func clearUp(dir string) error {
	deadline := time.Now().Add(engineTimeout / 2)
	for {
		pids, err := ours()
		if err != nil {
			return err
		}
		var cgroups []string
		for _, at := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/*"} { // v2, v1
			found, err := filepath.Glob(at + cgroupParent())
			if err != nil {
				return err
			}
			for _, dir := range found {
				if isCgroup(dir) {
					cgroups = append(cgroups, dir)
				}
			}
		}
		for _, root := range cgroups {
			pids = append(pids, removeCgroup(root)...)
		}
		for _, pid := range pids {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
		reapOrphans()
		if len(pids) == 0 && len(cgroups) == 0 {
			break
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("processes %v and cgroups %v are left", pids, cgroups)
		}
		time.Sleep(10 * time.Millisecond)
	}
	return unmountBelow(dir)
}

// isCgroup tells cgroups from directories that crun makes where the hierarchy is hidden, with files in them that name
// processes which may be others' by now.
func isCgroup(dir string) bool {
	var st unix.Statfs_t
	return unix.Statfs(dir, &st) == nil && (st.Type == unix.CGROUP_SUPER_MAGIC || st.Type == unix.CGROUP2_SUPER_MAGIC)
}

// removeCgroup removes a cgroup and those below it; it returns the processes in them.
func removeCgroup(dir string) (pids []int) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if e.IsDir() {
			pids = append(pids, removeCgroup(filepath.Join(dir, e.Name()))...)
		}
	}
	data, _ := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	for field := range strings.FieldsSeq(string(data)) {
		if pid, err := strconv.Atoi(field); err == nil && pid != 0 {
			pids = append(pids, pid)
		}
	}
	_ = os.Remove(dir)
	return pids
}

// unmountBelow detaches the mounts below a directory.
func unmountBelow(dir string) error {
	data, err := os.ReadFile("/proc/thread-self/mountinfo")
	if err != nil {
		return err
	}
	var failures []error
	for line := range strings.Lines(string(data)) {
		const mountPoint = 4
		if at := strings.Fields(line)[mountPoint]; strings.HasPrefix(at, dir+"/") {
			if err := unix.Unmount(at, unix.MNT_DETACH); err != nil && err != unix.EINVAL && err != unix.ENOENT {
				failures = append(failures, fmt.Errorf("unmount %s: %w", at, err))
			}
		}
	}
	return errors.Join(failures...)
}
