package cgroup

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	godbus "github.com/godbus/dbus/v5"
	"github.com/opencontainers/cgroups"
	_ "github.com/opencontainers/cgroups/devices" // the library's device rules
	devices "github.com/opencontainers/cgroups/devices/config"
	"github.com/opencontainers/cgroups/systemd"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/sock-runtime/sock/libsock/cgroup/dbus"
	"github.com/sock-runtime/sock/tests/fakesystemd"
)

func startFake(t *testing.T) *fakesystemd.Server {
	t.Helper()
	if _, err := exec.LookPath("dbus-daemon"); err != nil {
		if _, err := os.Stat("/run/systemd/private"); err != nil && os.Getenv("SOCK_TEST_STRICT") == "1" && HostMode() != Unified {
			t.Fatal("dbus-daemon is missing: install dbus-daemon")
		}
		t.Skip("dbus-daemon is missing: install dbus-daemon") // as in the virtual machines
	}
	s, err := fakesystemd.Start(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", s.Address)
	return s
}

func TestIsUnit(t *testing.T) {
	for path, want := range map[string]bool{
		"system.slice:docker:0123": true, "kubepods-burstable-pod1.slice:cri-containerd:0123": true,
		"": false, "/docker/0123": false, "a:b:c": false, "a.slice": false, "a.slice:b": false, "a.slice:b:c:d": false, "/a.slice:b:c": false, "x/a.slice:b:c": false, "a.slice:b/c:d": false,
	} {
		if got := IsUnit(path); got != want {
			t.Errorf("%q: %t", path, got)
		}
	}
}

func TestParseUnit(t *testing.T) {
	for path, want := range map[string]string{
		"":                         "system.slice sock-ID.scope",
		"system.slice:docker:1234": "system.slice docker-1234.scope",
		"a-b.slice:cri:x":          "a-b.slice cri-x.scope",
		":p:n":                     "system.slice p-n.scope",
		"m.slice::n":               "m.slice -n.scope",
		`m.slice:a\x2db:n@1`:       `m.slice a\x2db-n@1.scope`,
	} {
		u, err := parseUnit(Config{Path: path, ID: "ID"})
		if err != nil {
			t.Errorf("%q: %v", path, err)
		} else if got := u.slice + " " + u.name; got != want {
			t.Errorf("%q: %s, want %s", path, got, want)
		}
	}
	if u, err := parseUnit(Config{ID: "ID", Rootless: true}); err != nil || u.slice != "user.slice" {
		t.Errorf("rootless: %v, %v", u, err)
	}
	for _, path := range []string{
		"/a", "a", "a.slice:b", "a.slice:b:c:d", "a.slice:b:", "a:b:c", "a-.slice:b:c", "-a.slice:b:c", "a--b.slice:b:c", ".slice:b:c",
		"a.slice:b:c/d", "a.slice:b/../c:d", "a.slice:b:c\n", "a.slice:b:c d", "a.slice:b:" + strings.Repeat("c", 300), "a.slice:b:c.slice",
	} {
		if u, err := parseUnit(Config{Path: path, ID: "ID"}); err == nil || !strings.HasPrefix(err.Error(), "linux.cgroupsPath: ") {
			t.Errorf("%q: %v, %v", path, u, err)
		}
	}
}

func TestExpandSlice(t *testing.T) {
	for slice, want := range map[string]string{
		"-.slice": "/", "a.slice": "/a.slice", "a-b.slice": "/a.slice/a-b.slice", "a-b-c.slice": "/a.slice/a-b.slice/a-b-c.slice",
	} {
		got, err := expandSlice(slice)
		theirs, _ := systemd.ExpandSlice(slice)
		if err != nil || got != want || got != theirs {
			t.Errorf("%s: %s, %v, want %s; the library says %s", slice, got, err, want, theirs)
		}
	}
}

func TestCPUMask(t *testing.T) {
	for _, list := range []string{"0", "0-3", "1,3-5", "7,8", "63", " 2 , 4-6 ,", "100-130"} {
		got, err := cpuMask(list)
		want, _ := systemd.RangeToBits(list)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %v, %v, want %v", list, got, err, want)
		}
	}
	for _, list := range []string{"", ",", "x", "3-1", "-1", "0-99999999", "0x1"} {
		if got, err := cpuMask(list); err == nil {
			t.Errorf("%q: %v", list, got)
		}
	}
}

// TestUnitPropertiesLikeRunc has runc's library and us tell a stand-in for systemd the same limits and compares what it got.
func TestUnitPropertiesLikeRunc(t *testing.T) {
	server := startFake(t)
	// Our own: systemd would set back what it isn't told of.
	extra := map[string][]string{
		"unified no swap":   {"MemorySwapMax"},
		"unified io weight": {"IOWeight"},
		"unified quota":     {"CPUQuotaPeriodUSec"},
	}
	for _, mode := range []Mode{Legacy, Unified} {
		all := maps.Clone(limits)
		if mode == Legacy {
			maps.Copy(all, limitsV1)
			delete(all, "leaf")
		} else {
			maps.Copy(all, limitsUnified)
		}
		maps.Copy(all, deviceLimits)
		for name, tc := range all {
			name = mode.String() + " " + name
			t.Run(name, func(t *testing.T) {
				lib := tc.lib
				for i := range lib.Devices {
					lib.Devices[i] = ptrTo(*lib.Devices[i])
				}
				for _, e := range defaultDevices { // the library's user adds them
					lib.Devices = append(lib.Devices, &devices.Rule{
						Type: devices.Type(e.kind), Major: e.major, Minor: e.minor, Permissions: devices.Permissions(e.access.String()), Allow: true,
					})
				}
				theirs := server.Adopt("runc-theirs.scope")
				cg := &cgroups.Cgroup{Name: "theirs", ScopePrefix: "runc", Resources: &cgroups.Resources{}}
				var err error
				if mode == Legacy {
					var m *systemd.LegacyManager
					if m, err = systemd.NewLegacyManager(cg, map[string]string{}); err == nil {
						err = m.Set(&lib)
					}
				} else {
					var m *systemd.UnifiedManager
					if m, err = systemd.NewUnifiedManager(cg, t.TempDir()); err == nil {
						_ = m.Set(&lib) // fails to write files, after it has set properties
					}
				}
				if err != nil {
					t.Fatal(err)
				}

				ours := server.Adopt("sock-ours.scope")
				g, _ := fakeGroup(t, mode)
				g.unit = &unit{name: "sock-ours.scope"}
				defer g.Release()
				properties, err := g.unitProperties(&tc.spec)
				if err == nil {
					err = g.unit.set(properties)
				}
				if err != nil {
					t.Fatal(err)
				}
				got, want := maps.Clone(server.Unit(ours.Name).Properties), maps.Clone(server.Unit(theirs.Name).Properties)
				delete(got, "IOAccounting") // the library gives them with Apply
				delete(got, "BlockIOAccounting")
				for _, name := range extra[name] {
					if _, ok := got[name]; !ok {
						t.Errorf("%s is missing", name)
					}
					delete(got, name)
				}
				text := func(properties map[string]godbus.Variant, property string) string {
					list, ok := properties[property].Value().([][]any)
					list = slices.Clone(list)
					slices.SortFunc(list, func(a, b []any) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
					if ok {
						return fmt.Sprint(list)
					}
					return properties[property].String()
				}
				for property := range want {
					if ours, theirs := text(got, property), text(want, property); ours != theirs {
						t.Errorf("%s: %s, runc says %s", property, ours, theirs)
					}
				}
				for property, value := range got {
					if _, ok := want[property]; !ok {
						t.Errorf("%s: %s, runc doesn't set it", property, value)
					}
				}
			})
		}
	}
}

func ptrTo[T any](v T) *T { return &v }

// limitsUnified can only be set on v2.
var limitsUnified = map[string]struct {
	spec specs.LinuxResources
	lib  cgroups.Resources
}{}

// deviceLimits are device rules. Those that systemd can't express it is told of differently on v2, on purpose.
var deviceLimits = map[string]struct {
	spec specs.LinuxResources
	lib  cgroups.Resources
}{
	"devices": {
		specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{
			{Access: "rwm"},
			{Allow: true, Type: "c", Major: p(int64(10)), Minor: p(int64(229)), Access: "rw"},
			{Allow: true, Type: "b", Major: p(int64(8)), Access: "r"},
		}},
		cgroups.Resources{Devices: []*devices.Rule{
			{Type: 'a', Major: -1, Minor: -1, Permissions: "rwm"},
			{Type: 'c', Major: 10, Minor: 229, Permissions: "rw", Allow: true},
			{Type: 'b', Major: 8, Minor: -1, Permissions: "r", Allow: true},
		}},
	},
	"all devices": {
		specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}},
		cgroups.Resources{Devices: []*devices.Rule{{Type: 'a', Major: -1, Minor: -1, Permissions: "rwm", Allow: true}}},
	},
}

func init() {
	for name, value := range map[string]string{
		"cpu.max": "50000 200000", "cpu.weight": "77", "cpu.idle": "1", "cpuset.cpus": "0-1", "cpuset.mems": "0", "memory.high": "1048576",
		"memory.low": "max", "memory.min": "4096", "memory.max": "max", "memory.swap.max": "0", "pids.max": "max", "hugetlb.2MB.max": "0",
	} {
		unified := map[string]string{name: value}
		limitsUnified["unified "+name] = struct {
			spec specs.LinuxResources
			lib  cgroups.Resources
		}{specs.LinuxResources{Unified: unified}, cgroups.Resources{Unified: unified}}
	}
}

func TestUnitPropertiesOfInexpressibleDevices(t *testing.T) {
	for name, rules := range map[string][]specs.LinuxDeviceCgroup{
		"all but one":          {{Allow: true, Access: "rwm"}, {Type: "c", Major: p(int64(7)), Minor: p(int64(7)), Access: "rw"}},
		"one minor everywhere": {{Access: "rwm"}, {Allow: true, Type: "b", Minor: p(int64(7)), Access: "r"}},
	} {
		policy, err := newDevicePolicy(rules)
		if err != nil {
			t.Fatal(err)
		}
		for mode, want := range map[Mode]string{Legacy: "strict", Unified: "auto"} {
			if got := policy.properties(mode)[0].value.Value; got != want {
				t.Errorf("%s on %s: %s", name, mode, got)
			}
		}
	}
}

func TestOOMPolicy(t *testing.T) {
	startFake(t)
	g, _ := fakeGroup(t, Unified)
	for version, want := range map[int]bool{252: false, 253: true} {
		g.unit = &unit{version: version}
		list, err := g.unitProperties(&specs.LinuxResources{Unified: map[string]string{"memory.oom.group": "1"}})
		has := slices.ContainsFunc(list, func(p property) bool { return p.name == "OOMPolicy" && p.value.Value == "kill" })
		if err != nil || has != want {
			t.Errorf("version %d: %v, %v", version, list, err)
		}
	}
}

func TestPropertyNumber(t *testing.T) {
	for value, want := range map[string]uint64{"7\n": 7, "max": 1<<64 - 1, "-1": 1<<64 - 1, "48M": 48 << 20, "1k": 1 << 10, "3E": 3 << 60, "0": 0} {
		if got, err := propertyNumber(value); got != want || err != nil {
			t.Errorf("%q: %d, %v", value, got, err)
		}
	}
	for _, value := range []string{"", "K", "1KK", "16E", "99999999999999999999", "-2", "1.5", "x"} {
		if got, err := propertyNumber(value); err == nil {
			t.Errorf("%q: %d", value, got)
		}
	}
}

func TestRoundQuota(t *testing.T) {
	for _, tc := range []struct {
		quota     int64
		period    uint64
		want      int64
		perSecond uint64
	}{
		{50000, 100000, 50000, 500000},
		{12345, 100000, 13000, 130000},
		{5001, 50000, 5500, 110000},
		{200000, 0, 200000, 2000000},
		{-1, 100000, -1, 1<<64 - 1},
		{1, 1000000, 10000, 10000},
		{1<<63 - 1, 1, 1<<63 - 1, 1<<64 - 1},
	} {
		if got, per := roundQuota(tc.quota, tc.period), quotaPerSecond(tc.quota, tc.period); got != tc.want || per != tc.perSecond {
			t.Errorf("%d in %d: %d, %d", tc.quota, tc.period, got, per)
		}
	}
}

func TestAnnotatedProperties(t *testing.T) {
	got, err := annotatedProperties(map[string]string{
		"other": "x", "org.systemd.property.TimeoutStopSec": "1.5", "org.systemd.property.TimeoutUSec": "uint64 7",
		"org.systemd.property.CollectMode": "'inactive-or-failed'", "org.systemd.property.After": "['a.service', 'b.service']",
	})
	want := "[{After {as [a.service b.service]}} {CollectMode {s inactive-or-failed}} {TimeoutStopUSec {t 1500000}} {TimeoutUSec {t 7}}]"
	if fmt.Sprint(got) != want || err != nil {
		t.Errorf("%v, %v", got, err)
	}
	for key, value := range map[string]string{"": "1", "ab": "1", "Timeout1": "1", "Über": "1", "TimeoutSec": "true", "Abc": "", "Abcd": "[]", "Abcde": "uint64"} {
		if got, err := annotatedProperties(map[string]string{annotationPrefix + key: value}); err == nil || !strings.Contains(err.Error(), "annotations[") {
			t.Errorf("%s=%s: %v, %v", key, value, got, err)
		}
	}
}

// A systemd that doesn't answer is given up.
func TestUnitPatience(t *testing.T) {
	server := startFake(t)
	patience := unitPatience
	unitPatience = 100 * time.Millisecond
	defer func() { unitPatience = patience }()
	server.Adopt("sock-x.scope")
	for method, b := range map[string]fakesystemd.Behaviour{"answer": {Delay: 300 * time.Millisecond}, "signal": {NoSignal: true}} {
		server.Behave("StopUnit", b)
		err := (&unit{name: "sock-x.scope"}).stop()
		if !errors.Is(err, dbus.ErrTimeout) {
			t.Errorf("no %s: %v", method, err)
		}
	}
}
