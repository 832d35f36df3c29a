package shim

import (
	"fmt"
	"strings"
	"testing"

	v2 "github.com/containerd/containerd/api/runtime/task/v2"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	. "github.com/sock-runtime/sock/tests/sandbox"
)

// TestSystemdCgroup has systemd make the container's cgroup. The worker is also the one to update, freeze, watch and end it.
func TestSystemdCgroup(t *testing.T) {
	f := newFixtureOf(NewSystemdSandbox(t), func(string) {})
	pid := f.started(f.request("box", Script("sleep 1000 & wait")))
	second := f.run("box", "second", "exec sleep 1000")
	unit := "/" + f.Slice() + "/it-" + f.Mark + "-box.scope"
	for _, pid := range []int{pid, second} {
		for line := range strings.Lines(ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))) {
			if !strings.HasSuffix(strings.TrimSpace(line), ":"+unit) {
				t.Errorf("process %d is not in its unit: %q", pid, line)
			}
		}
	}
	_, err := f.task.Pause(ctx(), &v2.PauseRequest{ID: "box"})
	Must(t, err)
	Equal(t, "status", f.status("box", ""), "PAUSED")
	_, err = f.task.Resume(ctx(), &v2.ResumeRequest{ID: "box"})
	Must(t, err)
	const limit = 64 << 20
	_, err = f.task.Update(ctx(), &v2.UpdateTaskRequest{ID: "box", Resources: packJSON(&specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: Ptr(int64(limit))}})})
	Must(t, err)
	limits := CgroupRoot + ByCgroup("/memory", "") + unit + ByCgroup("/memory.limit_in_bytes", "/memory.max")
	Equal(t, "memory limit", strings.TrimSpace(ReadFile(limits)), fmt.Sprint(limit))
	_, err = f.task.Stats(ctx(), &v2.StatsRequest{ID: "box"})
	Must(t, err)
	_, err = f.task.Kill(ctx(), &v2.KillRequest{ID: "box", Signal: uint32(unix.SIGKILL), All: true})
	Must(t, err)
	Equal(t, "exit status of exec", f.waited("box", "second"), 137)
	Equal(t, "exit status", f.waited("box", ""), 137)
	f.removed("box")
	if f.Fake != nil && f.Fake.Unit("it-"+f.Mark+"-box.scope") != nil {
		t.Error("the unit is left")
	}
}
