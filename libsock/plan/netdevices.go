package plan

import (
	"fmt"
	"maps"
	"slices"

	"github.com/sock-runtime/sock/libsock/stub"
)

// networkDevices has the parent move network devices into the child's network namespace, while it stands in it and before
// sysctls are set for them.
func (b *builder) networkDevices() {
	devices := b.spec.Linux.NetDevices
	if len(devices) == 0 {
		return
	}
	var steps []Step
	for _, name := range slices.Sorted(maps.Keys(devices)) {
		as := devices[name].Name
		n := Note{
			From: fmt.Sprintf("linux.netDevices[%q]", name), Does: "move the network device " + name + " into the container",
			Hand: "ip link set " + name + " netns PID",
		}
		if as != "" {
			n.Does, n.Hand = n.Does+" as "+as, n.Hand+" name "+as
		}
		steps = append(steps, Step{n, MoveDevice{Name: name, As: as}})
	}
	report := stub.Value(slotReport)
	b.line(Note{From: "linux.netDevices", Does: "wait for the network devices"}, writeRecord(report, stub.Paused), readByte(report))
	b.plan.Child[len(b.plan.Child)-1].Meanwhile = steps
}
