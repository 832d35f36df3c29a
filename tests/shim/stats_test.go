package shim

import (
	"testing"

	v1 "github.com/containerd/cgroups/v3/cgroup1/stats"
	v2stats "github.com/containerd/cgroups/v3/cgroup2/stats"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	. "github.com/sock-runtime/sock/tests/sandbox"
)

// checkMetrics checks what containerd's clients find in metrics, with the type that belongs to the host's cgroups.
func checkMetrics(t *testing.T, any *anypb.Any, limit uint64) {
	t.Helper()
	if Unified() {
		m := &v2stats.Metrics{}
		Equal(t, "type", any.TypeUrl, "io.containerd.cgroups.v2.Metrics")
		Must(t, proto.Unmarshal(any.Value, m))
		if m.Memory.UsageLimit != limit || m.Memory.Usage == 0 || m.Pids.Current != 2 || m.CPU.UsageUsec == 0 {
			t.Errorf("metrics are %v", m)
		}
		return
	}
	m := &v1.Metrics{}
	Equal(t, "type", any.TypeUrl, "io.containerd.cgroups.v1.Metrics")
	Must(t, proto.Unmarshal(any.Value, m))
	if m.Memory.Usage.Limit != limit || m.Memory.Usage.Usage == 0 || m.Pids.Current != 2 || m.CPU.Usage.Total == 0 || len(m.CPU.Usage.PerCPU) == 0 {
		t.Errorf("metrics are %v", m)
	}
}
