package main

import (
	"bytes"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// Host is what the figures depend on beside the runtimes.
type Host struct {
	Kernel string `json:"kernel"`
	CPU    string `json:"cpu"`
	CPUs   int    `json:"cpus"`
	Cgroup string `json:"cgroup"` // unified, legacy or hybrid (which is measured as legacy)
	Mounts int    `json:"mounts"` // of the host; creating a mount namespace copies them all
}

func describeHost() Host {
	h := Host{CPUs: runtime.NumCPU(), Cgroup: cgroupMode()}
	if release, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		h.Kernel = strings.TrimSpace(string(release))
	}
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(info)) {
			if name, value, _ := strings.Cut(line, ":"); strings.TrimSpace(name) == "model name" {
				h.CPU = strings.TrimSpace(value)
				break
			}
		}
	}
	if mounts, err := os.ReadFile("/proc/self/mountinfo"); err == nil {
		h.Mounts = bytes.Count(mounts, []byte("\n"))
	}
	return h
}

const unifiedMount = "/sys/fs/cgroup/unified"

// cgroupMode is systemd's word for how the host's cgroups are arranged.
func cgroupMode() string {
	var st unix.Statfs_t
	if unix.Statfs("/sys/fs/cgroup", &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC {
		return "unified"
	}
	if unix.Statfs(unifiedMount, &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC {
		return "hybrid"
	}
	return "legacy"
}
