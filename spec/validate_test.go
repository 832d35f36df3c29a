package spec

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// everythingIsADirectory stands in for os.Stat where the host's files don't matter.
func everythingIsADirectory(string) (fs.FileInfo, error) { return os.Stat("/") }

// valid returns a configuration without a mistake, for tests to make one.
func valid() *specs.Spec {
	s := rootful(false)
	s.Process.Terminal = false
	s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.TimeNamespace})
	return s
}

func ptr[T any](v T) *T { return &v }

// without removes the namespace of one type.
func without(s *specs.Spec, t specs.LinuxNamespaceType) {
	s.Linux.Namespaces = slices.DeleteFunc(s.Linux.Namespaces, func(ns specs.LinuxNamespace) bool { return ns.Type == t })
}

// join makes the container join the namespace of one type at path.
func join(s *specs.Spec, t specs.LinuxNamespaceType, path string) {
	without(s, t)
	s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: t, Path: path})
}

func TestValidateFields(t *testing.T) {
	sysctl := func(key, value string) func(*specs.Spec) {
		return func(s *specs.Spec) { s.Linux.Sysctl = map[string]string{key: value} }
	}
	mount := func(m specs.Mount) func(*specs.Spec) {
		return func(s *specs.Spec) { s.Mounts = append(s.Mounts[:1:1], m) }
	}
	device := func(d specs.LinuxDevice) func(*specs.Spec) {
		return func(s *specs.Spec) { s.Linux.Devices = []specs.LinuxDevice{d} }
	}
	rule := func(d specs.LinuxDeviceCgroup) func(*specs.Spec) {
		return func(s *specs.Spec) { s.Linux.Resources.Devices = append(s.Linux.Resources.Devices, d) }
	}
	scheduler := func(v specs.Scheduler) func(*specs.Spec) {
		return func(s *specs.Spec) { s.Process.Scheduler = &v }
	}
	rdt := func(r specs.LinuxIntelRdt) func(*specs.Spec) {
		return func(s *specs.Spec) { s.Linux.IntelRdt = &r }
	}
	devices := func(names ...string) func(*specs.Spec) {
		return func(s *specs.Spec) {
			s.Linux.NetDevices = map[string]specs.LinuxNetDevice{}
			for i := 0; i < len(names); i += 2 {
				s.Linux.NetDevices[names[i]] = specs.LinuxNetDevice{Name: names[i+1]}
			}
		}
	}
	policy := func(m specs.LinuxMemoryPolicy) func(*specs.Spec) {
		return func(s *specs.Spec) { s.Linux.MemoryPolicy = &m }
	}
	hook := func(h specs.Hook) func(*specs.Spec) {
		return func(s *specs.Spec) { s.Hooks = &specs.Hooks{Poststop: []specs.Hook{{Path: "/bin/true"}, h}} }
	}
	null := specs.LinuxDevice{Path: "/dev/null", Type: "c", Major: 1, Minor: 3}
	mapping := []specs.LinuxIDMapping{{HostID: 1000, Size: 1}}

	tests := []struct {
		name   string
		change func(*specs.Spec)
		want   string // "" if there is nothing wrong
	}{
		{"valid", func(*specs.Spec) {}, ""},
		{"no linux section", func(s *specs.Spec) { s.Linux, s.Hostname = nil, "" }, ""},

		{"no version", func(s *specs.Spec) { s.Version = "" }, "ociVersion: must be set"},
		{"two numbers", func(s *specs.Spec) { s.Version = "1.3" }, `ociVersion: "1.3" is not a semantic version`},
		{"leading zero", func(s *specs.Spec) { s.Version = "1.03.0" }, `ociVersion: "1.03.0" is not a semantic version`},
		{"sign", func(s *specs.Spec) { s.Version = "1.+3.0" }, `ociVersion: "1.+3.0" is not a semantic version`},
		{"empty pre-release", func(s *specs.Spec) { s.Version = "1.0.0-" }, `ociVersion: "1.0.0-" is not a semantic version`},
		{"bad build", func(s *specs.Spec) { s.Version = "1.0.0+a_b" }, `ociVersion: "1.0.0+a_b" is not a semantic version`},
		{"major 2", func(s *specs.Spec) { s.Version = "2.0.0" }, `ociVersion: "2.0.0" is not supported, want 1.x`},
		{"pre-release", func(s *specs.Spec) { s.Version = "1.0.2-dev" }, ""},
		{"release candidate", func(s *specs.Spec) { s.Version = "1.0.0-rc.5" }, ""},
		{"build", func(s *specs.Spec) { s.Version = "1.3.0+dev" }, ""},

		{"no root", func(s *specs.Spec) { s.Root = nil }, "root: must be set"},
		{"empty root", func(s *specs.Spec) { s.Root.Path = "" }, "root.path: must not be empty"},
		{"NUL in root", func(s *specs.Spec) { s.Root.Path = "a\x00" }, "root.path: must not contain NUL"},

		{"no process", func(s *specs.Spec) { s.Process = nil }, "process: must be set"},
		{"no cwd", func(s *specs.Spec) { s.Process.Cwd = "" }, "process.cwd: cwd property must not be empty"},
		{"relative cwd", func(s *specs.Spec) { s.Process.Cwd = "tmp" }, "process.cwd: cwd must be an absolute path"},
		{"NUL in cwd", func(s *specs.Spec) { s.Process.Cwd = "/\x00" }, "process.cwd: must not contain NUL"},
		{"no args", func(s *specs.Spec) { s.Process.Args = nil }, "process.args: args must not be empty"},
		{"NUL in args", func(s *specs.Spec) { s.Process.Args = []string{"a", "b\x00"} }, "process.args[1]: must not contain NUL"},
		{"env without =", func(s *specs.Spec) { s.Process.Env = []string{"A=1", "B"} }, "process.env[1]: invalid environment variable: missing '='"},
		{"env without name", func(s *specs.Spec) { s.Process.Env = []string{"=1"} }, "process.env[0]: invalid environment variable: name cannot be empty"},
		{"NUL in env", func(s *specs.Spec) { s.Process.Env = []string{"A=\x00"} }, `process.env[0]: invalid environment variable "A": must not contain NUL`},
		{"huge console", func(s *specs.Spec) {
			s.Process.Terminal, s.Process.ConsoleSize = true, &specs.Box{Height: 1, Width: 65536}
		}, "process.consoleSize: 1 by 65536 is larger than 65535"},
		{"huge console without terminal", func(s *specs.Spec) { s.Process.ConsoleSize = &specs.Box{Height: 65536} }, ""},
		{"uid -1", func(s *specs.Spec) { s.Process.User.UID = 1<<32 - 1 }, "process.user.uid: 4294967295 is not a user"},
		{"gid -1", func(s *specs.Spec) { s.Process.User.GID = 1<<32 - 1 }, "process.user.gid: 4294967295 is not a group"},
		{"additional gid -1", func(s *specs.Spec) { s.Process.User.AdditionalGids = []uint32{1, 1<<32 - 1} }, "process.user.additionalGids[1]: 4294967295 is not a group"},
		{"umask", func(s *specs.Spec) { s.Process.User.Umask = ptr(uint32(0o1000)) }, "process.user.umask: 01000 is larger than 0777"},
		{"widest umask", func(s *specs.Spec) { s.Process.User.Umask = ptr(uint32(0o777)) }, ""},
		{"unknown rlimit", func(s *specs.Spec) { s.Process.Rlimits[0].Type = "RLIMIT_X" }, `process.rlimits[0].type: unknown rlimit "RLIMIT_X"`},
		{"duplicate rlimit", func(s *specs.Spec) { s.Process.Rlimits = append(s.Process.Rlimits, s.Process.Rlimits[0]) }, `process.rlimits[1].type: duplicate rlimit "RLIMIT_NOFILE"`},
		{"soft above hard", func(s *specs.Spec) { s.Process.Rlimits[0].Soft = 2000 }, "process.rlimits[0].soft: 2000 is above the hard limit 1024"},
		{"long profile", func(s *specs.Spec) { s.Process.ApparmorProfile = strings.Repeat("x", 4091) }, "process.apparmorProfile: longer than 4090 bytes"},
		{"label of lines", func(s *specs.Spec) { s.Process.SelinuxLabel = "a\nb" }, "process.selinuxLabel: must not contain NUL or a newline"},
		{"long mount label", func(s *specs.Spec) { s.Linux.MountLabel = strings.Repeat("x", 256) }, "linux.mountLabel: longer than 255 bytes"},
		{"quoted mount label", func(s *specs.Spec) { s.Linux.MountLabel = `a"b` }, "linux.mountLabel: must not contain a quote"},
		{"memory policy without mode", policy(specs.LinuxMemoryPolicy{Nodes: "0"}), "linux.memoryPolicy.mode: must be set"},
		{"unknown memory policy", policy(specs.LinuxMemoryPolicy{Mode: "MPOL_BEST"}), `linux.memoryPolicy.mode: unknown mode "MPOL_BEST"`},
		{"memory policy of nowhere", policy(specs.LinuxMemoryPolicy{Mode: specs.MpolBind}), "linux.memoryPolicy.nodes: must be set for MPOL_BIND"},
		{"memory policy with too much", policy(specs.LinuxMemoryPolicy{Mode: specs.MpolLocal, Nodes: "0"}), "linux.memoryPolicy.nodes: MPOL_LOCAL takes no nodes"},
		{"memory policy of words", policy(specs.LinuxMemoryPolicy{Mode: specs.MpolBind, Nodes: "0-x"}), `linux.memoryPolicy.nodes: "0-x" in "0-x" is no node and no range of nodes`},
		{"unknown flag of a memory policy", policy(specs.LinuxMemoryPolicy{Mode: specs.MpolLocal, Flags: []specs.MemoryPolicyFlagType{specs.MpolFStaticNodes, "MPOL_F_FUN"}}), `linux.memoryPolicy.flags[1]: unknown flag "MPOL_F_FUN"`},
		{"contradicting flags of a memory policy", policy(specs.LinuxMemoryPolicy{Mode: specs.MpolBind, Nodes: "0", Flags: []specs.MemoryPolicyFlagType{specs.MpolFStaticNodes, specs.MpolFRelativeNodes}}), "linux.memoryPolicy.flags: MPOL_F_STATIC_NODES and MPOL_F_RELATIVE_NODES exclude each other"},
		{"CLOS elsewhere", rdt(specs.LinuxIntelRdt{ClosID: "../x"}), `linux.intelRdt.closID: "../x" is no name of a directory`},
		{"CLOS above", rdt(specs.LinuxIntelRdt{ClosID: ".."}), `linux.intelRdt.closID: ".." is no name of a directory`},
		{"bandwidth of what", rdt(specs.LinuxIntelRdt{MemBwSchema: "0=20"}), `linux.intelRdt.memBwSchema: "0=20" does not start with MB:`},
		{"bandwidth and more", rdt(specs.LinuxIntelRdt{MemBwSchema: "MB:0=20\nL3:0=1"}), "linux.intelRdt.memBwSchema: must not contain NUL or a newline"},
		{"schema of two lines", rdt(specs.LinuxIntelRdt{Schemata: []string{"L2:0=f", "L3:0=1\n"}}), "linux.intelRdt.schemata[1]: must not contain NUL or a newline"},
		{"oomScoreAdj", func(s *specs.Spec) { s.Process.OOMScoreAdj = ptr(-1001) }, "process.oomScoreAdj: -1001 is not between -1000 and 1000"},
		{"unknown capability", func(s *specs.Spec) { s.Process.Capabilities.Bounding = []string{"CAP_X"} }, ""},

		{"no policy", scheduler(specs.Scheduler{}), "process.scheduler.policy: must be set"},
		{"unknown policy", scheduler(specs.Scheduler{Policy: "SCHED_X"}), `process.scheduler.policy: unknown policy "SCHED_X"`},
		{"unknown flag", scheduler(specs.Scheduler{Policy: specs.SchedRR, Flags: []specs.LinuxSchedulerFlag{specs.SchedFlagReclaim, "X"}}), `process.scheduler.flags[1]: unknown flag "X"`},
		{"nice", scheduler(specs.Scheduler{Policy: specs.SchedBatch, Nice: 20}), "process.scheduler.nice: 20 is not between -20 and 19"},
		{"priority", scheduler(specs.Scheduler{Policy: specs.SchedOther, Priority: 1}), "process.scheduler.priority: only for SCHED_FIFO and SCHED_RR"},
		{"runtime", scheduler(specs.Scheduler{Policy: specs.SchedFIFO, Priority: 1, Runtime: 1}), "process.scheduler.runtime: only for SCHED_DEADLINE"},
		{"deadline", scheduler(specs.Scheduler{Policy: specs.SchedFIFO, Deadline: 1}), "process.scheduler.deadline: only for SCHED_DEADLINE"},
		{"period", scheduler(specs.Scheduler{Policy: specs.SchedFIFO, Period: 1}), "process.scheduler.period: only for SCHED_DEADLINE"},
		{"deadline without runtime", scheduler(specs.Scheduler{Policy: specs.SchedDeadline, Deadline: 1}), "process.scheduler.runtime: must be set for SCHED_DEADLINE"},
		{"deadline without deadline", scheduler(specs.Scheduler{Policy: specs.SchedDeadline, Runtime: 1}), "process.scheduler.deadline: must be set for SCHED_DEADLINE"},
		{"good deadline", scheduler(specs.Scheduler{Policy: specs.SchedDeadline, Runtime: 1, Deadline: 1}), ""},
		{"ioPriority class", func(s *specs.Spec) { s.Process.IOPriority = &specs.LinuxIOPriority{Class: "X"} }, `process.ioPriority.class: unknown class "X"`},
		{"ioPriority", func(s *specs.Spec) {
			s.Process.IOPriority = &specs.LinuxIOPriority{Class: specs.IOPRIO_CLASS_BE, Priority: 8}
		}, "process.ioPriority.priority: 8 is not between 0 and 7"},
		{"initial affinity", func(s *specs.Spec) { s.Process.ExecCPUAffinity = &specs.CPUAffinity{Initial: "a"} }, `process.execCPUAffinity.initial: "a" in "a" is no CPU and no range of CPUs`},
		{"final affinity", func(s *specs.Spec) { s.Process.ExecCPUAffinity = &specs.CPUAffinity{Initial: "0-3,7", Final: "1024"} }, `process.execCPUAffinity.final: CPU 1024 in "1024" is too high`},

		{"hostname of the host", func(s *specs.Spec) { without(s, specs.UTSNamespace) }, "hostname: unable to set hostname without a private UTS namespace"},
		{"domainname of the host", func(s *specs.Spec) { without(s, specs.UTSNamespace); s.Hostname, s.Domainname = "", "d" }, "domainname: unable to set domainname without a private UTS namespace"},
		{"hostname without linux", func(s *specs.Spec) { s.Linux = nil }, "hostname: unable to set hostname without a private UTS namespace"},
		{"hostname in a joined namespace", func(s *specs.Spec) { join(s, specs.UTSNamespace, "/proc/1/ns/uts") }, ""},
		{"long hostname", func(s *specs.Spec) { s.Hostname = strings.Repeat("a", 65) }, "hostname: longer than 64 bytes"},
		{"NUL in domainname", func(s *specs.Spec) { s.Domainname = "\x00" }, "domainname: must not contain NUL"},

		{"no destination", mount(specs.Mount{Type: "proc"}), "mounts[1].destination: must not be empty"},
		{"NUL in destination", mount(specs.Mount{Destination: "/a\x00", Type: "proc"}), "mounts[1].destination: must not contain NUL"},
		{"relative destination", mount(specs.Mount{Destination: "a", Type: "proc"}), ""},
		{"no type", mount(specs.Mount{Destination: "/a"}), "mounts[1].type: must be set unless it is a bind mount"},
		{"NUL in type", mount(specs.Mount{Destination: "/a", Type: "a\x00"}), "mounts[1].type: must not contain NUL"},
		{"NUL in source", mount(specs.Mount{Destination: "/a", Type: "proc", Source: "\x00"}), "mounts[1].source: must not contain NUL"},
		{"bind of nothing", mount(specs.Mount{Destination: "/a", Options: []string{"rbind"}}), "mounts[1].source: must be set for a bind mount"},
		{"remount", mount(specs.Mount{Destination: "/a", Options: []string{"bind", "remount", "ro"}}), ""},
		{"bind with data", mount(specs.Mount{Destination: "/a", Source: "/b", Options: []string{"ro", "bind", "nosuch"}}), `mounts[1].options[2]: unknown mount option "nosuch"`},
		{"NUL in option", mount(specs.Mount{Destination: "/a", Type: "tmpfs", Options: []string{"ro", "size=\x00"}}), `mounts[1].options[1]: unknown mount option "size=\x00"`},
		{"tmpcopyup of proc", mount(specs.Mount{Destination: "/a", Type: "proc", Options: []string{"ro", "tmpcopyup"}}), "mounts[1].options[1]: tmpcopyup is only for tmpfs"},
		{"tmpcopyup", mount(specs.Mount{Destination: "/a", Type: "tmpfs", Options: []string{"tmpcopyup"}}), ""},
		{"only uid mappings", mount(specs.Mount{Destination: "/a", Source: "/b", Options: []string{"bind"}, UIDMappings: mapping}), "mounts[1].gidMappings: must be set along with uidMappings"},
		{"only gid mappings", mount(specs.Mount{Destination: "/a", Source: "/b", Options: []string{"bind"}, GIDMappings: mapping}), "mounts[1].uidMappings: must be set along with gidMappings"},
		{"mapped tmpfs", mount(specs.Mount{Destination: "/a", Type: "tmpfs", UIDMappings: mapping, GIDMappings: mapping}), "mounts[1].uidMappings: only bind mounts can be id-mapped"},
		{"idmap of tmpfs", mount(specs.Mount{Destination: "/a", Type: "tmpfs", Options: []string{"idmap"}}), "mounts[1].options[0]: only bind mounts can be id-mapped"},
		{"idmap of nothing", mount(specs.Mount{Destination: "/a", Source: "/b", Options: []string{"bind", "ridmap"}}), "mounts[1].options[1]: ridmap needs uidMappings and gidMappings, or a user namespace"},
		{"idmap", mount(specs.Mount{Destination: "/a", Source: "/b", Options: []string{"bind", "idmap"}, UIDMappings: mapping, GIDMappings: mapping}), ""},

		{"no hook path", hook(specs.Hook{}), "hooks.poststop[1].path: must not be empty"},
		{"relative hook path", hook(specs.Hook{Path: "a"}), `hooks.poststop[1].path: "a" is not an absolute path`},
		{"NUL in hook path", hook(specs.Hook{Path: "/\x00"}), "hooks.poststop[1].path: must not contain NUL"},
		{"NUL in hook args", hook(specs.Hook{Path: "/a", Args: []string{"\x00"}}), "hooks.poststop[1].args[0]: must not contain NUL"},
		{"NUL in hook env", hook(specs.Hook{Path: "/a", Env: []string{"A", "B=\x00"}}), "hooks.poststop[1].env[1]: must not contain NUL"},
		{"hook timeout", hook(specs.Hook{Path: "/a", Timeout: ptr(0)}), "hooks.poststop[1].timeout: must be greater than zero"},
		{"prestart hook", func(s *specs.Spec) {
			//lint:ignore SA1019 It is still checked.
			s.Hooks = &specs.Hooks{Prestart: []specs.Hook{{Path: "a"}}}
		}, `hooks.prestart[0].path: "a" is not an absolute path`},

		{"empty annotation", func(s *specs.Spec) { s.Annotations = map[string]string{"": "x"} }, "annotations: keys must not be empty"},

		{"unknown namespace", func(s *specs.Spec) { s.Linux.Namespaces[1].Type = "net" }, `linux.namespaces[1].type: unknown namespace "net"`},
		{"duplicate namespace", func(s *specs.Spec) { s.Linux.Namespaces[2].Type = specs.PIDNamespace }, `linux.namespaces[2].type: duplicate namespace "pid"`},
		{"relative namespace", func(s *specs.Spec) { s.Linux.Namespaces[0].Path = "ns" }, `linux.namespaces[0].path: "ns" is not an absolute path`},
		{"uid mappings without user namespace", func(s *specs.Spec) { s.Linux.UIDMappings = mapping }, "linux.uidMappings: need a user namespace"},
		{"gid mappings without user namespace", func(s *specs.Spec) { s.Linux.GIDMappings = mapping }, "linux.gidMappings: need a user namespace"},
		{"user namespace without mappings", func(s *specs.Spec) { join(s, specs.UserNamespace, "") }, "linux.uidMappings: must be set for a new user namespace"},
		{"netDevices of the host", func(s *specs.Spec) {
			without(s, specs.NetworkNamespace)
			s.Linux.NetDevices = map[string]specs.LinuxNetDevice{"eth0": {}}
		}, "linux.netDevices: need a network namespace"},
		{"netDevice without a name", devices("", ""), `linux.netDevices[""]: "" is no name of a network device`},
		{"netDevice with a long name", devices("sixteen-letters-", ""), `linux.netDevices["sixteen-letters-"]: "sixteen-letters-" is no name of a network device`},
		{"netDevice with a pattern", devices("eth%d", ""), `linux.netDevices["eth%d"]: "eth%d" is no name of a network device`},
		{"netDevice with a path", devices("../x", ""), `linux.netDevices["../x"]: "../x" is no name of a network device`},
		{"netDevice to a path", devices("eth0", "a/b"), `linux.netDevices["eth0"].name: "a/b" is no name of a network device`},
		{"netDevice to two patterns", devices("eth0", "a%db%d"), `linux.netDevices["eth0"].name: "a%db%d" is no name of a network device`},
		{"netDevice to another pattern", devices("eth0", "a%s"), `linux.netDevices["eth0"].name: "a%s" is no name of a network device`},
		{"netDevices with one name", devices("eth0", "eth1", "eth1", ""), `linux.netDevices["eth1"]: "eth1" is the name of the device eth0, too`},
		{"timeOffsets of the host", func(s *specs.Spec) {
			without(s, specs.TimeNamespace)
			s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {}}
		}, "linux.timeOffsets: need a time namespace"},
		{"timeOffsets of another", func(s *specs.Spec) {
			join(s, specs.TimeNamespace, "/proc/1/ns/time")
			s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {}}
		}, "linux.timeOffsets: can't be set for a time namespace that is joined by path"},
		{"unknown clock", func(s *specs.Spec) { s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"realtime": {}} }, `linux.timeOffsets["realtime"]: unknown clock, want monotonic or boottime`},
		{"nanosecs", func(s *specs.Spec) {
			s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {Nanosecs: 1e9}}
		}, `linux.timeOffsets["boottime"].nanosecs: 1000000000 is a second or more`},
		{"masked paths of the host", func(s *specs.Spec) { without(s, specs.MountNamespace) }, "linux.maskedPaths: unable to restrict sys entries without a private MNT namespace"},
		{"read-only paths of the host", func(s *specs.Spec) { without(s, specs.MountNamespace); s.Linux.MaskedPaths = nil }, "linux.readonlyPaths: unable to restrict sys entries without a private MNT namespace"},
		{"relative masked path", func(s *specs.Spec) { s.Linux.MaskedPaths[2] = "proc" }, `linux.maskedPaths[2]: "proc" is not an absolute path`},
		{"NUL in read-only path", func(s *specs.Spec) { s.Linux.ReadonlyPaths[1] = "/\x00" }, "linux.readonlyPaths[1]: must not contain NUL"},
		{"rootfsPropagation", func(s *specs.Spec) { s.Linux.RootfsPropagation = "rr" }, `linux.rootfsPropagation: unknown propagation "rr"`},
		{"good rootfsPropagation", func(s *specs.Spec) { s.Linux.RootfsPropagation = "runbindable" }, ""},
		{"personality domain", func(s *specs.Spec) { s.Linux.Personality = &specs.LinuxPersonality{Domain: "BSD"} }, `linux.personality.domain: unknown domain "BSD"`},
		{"personality flags", func(s *specs.Spec) {
			s.Linux.Personality = &specs.LinuxPersonality{Domain: specs.PerLinux32, Flags: []specs.LinuxPersonalityFlag{"X"}}
		}, `linux.personality.flags: no flags are defined, got "X"`},
		{"NUL in cgroupsPath", func(s *specs.Spec) { s.Linux.CgroupsPath = "/a\x00" }, "linux.cgroupsPath: must not contain NUL or a newline"},
		{"newline in cgroupsPath", func(s *specs.Spec) { s.Linux.CgroupsPath = "/a\nb" }, "linux.cgroupsPath: must not contain NUL or a newline"},
		{"cgroupsPath outside", func(s *specs.Spec) { s.Linux.CgroupsPath = "/a/../../b" }, `linux.cgroupsPath: "/a/../../b" leaves the cgroup hierarchy`},
		{"relative cgroupsPath outside", func(s *specs.Spec) { s.Linux.CgroupsPath = "../b" }, `linux.cgroupsPath: "../b" leaves the cgroup hierarchy`},
		{"cgroupsPath inside", func(s *specs.Spec) { s.Linux.CgroupsPath = "/a/..b/../c" }, ""},
		{"systemd cgroupsPath", func(s *specs.Spec) { s.Linux.CgroupsPath = "system.slice:sock:x" }, ""},
		{"long cgroupsPath", func(s *specs.Spec) { s.Linux.CgroupsPath = strings.Repeat("a", 5000) }, "linux.cgroupsPath: longer than 4095 bytes"},

		{"device path", device(specs.LinuxDevice{Path: "null", Type: "p"}), `linux.devices[0].path: "null" is not an absolute path`},
		{"unclean device path", device(specs.LinuxDevice{Path: "/dev/../x", Type: "p"}), `linux.devices[0].path: "/dev/../x" is not a clean path of a file`},
		{"duplicate device", func(s *specs.Spec) { s.Linux.Devices = []specs.LinuxDevice{null, null} }, `linux.devices[1].path: duplicate device "/dev/null"`},
		{"device type", device(specs.LinuxDevice{Path: "/a", Type: "s"}), `linux.devices[0].type: unknown device type "s", want b, c, u or p`},
		{"device without numbers", device(specs.LinuxDevice{Path: "/a", Type: "u"}), `linux.devices[0].major: must be set for a device of type "u"`},
		{"negative major", device(specs.LinuxDevice{Path: "/a", Type: "c", Major: -1}), "linux.devices[0].major: -1 is not between 0 and 4095"},
		{"large minor", device(specs.LinuxDevice{Path: "/a", Type: "b", Minor: 1 << 20}), "linux.devices[0].minor: 1048576 is not between 0 and 1048575"},
		{"fileMode", device(specs.LinuxDevice{Path: "/a", Type: "p", FileMode: ptr(fs.FileMode(1 << 20))}), "linux.devices[0].fileMode: 1048576 is not a file mode"},
		{"fileMode with type", device(specs.LinuxDevice{Path: "/a", Type: "p", FileMode: ptr(fs.FileMode(0o10666))}), ""},
		{"fifo", device(specs.LinuxDevice{Path: "/a", Type: "p"}), ""},

		{"rule type", rule(specs.LinuxDeviceCgroup{Type: "p", Access: "r"}), `linux.resources.devices[1].type: unknown device type "p", want a, b or c`},
		{"rule without access", rule(specs.LinuxDeviceCgroup{Type: "a"}), "linux.resources.devices[1].access: device access cannot be empty"},
		{"rule access", rule(specs.LinuxDeviceCgroup{Access: "rwx"}), `linux.resources.devices[1].access: "rwx" is not made of r, w and m`},
		{"rule major", rule(specs.LinuxDeviceCgroup{Access: "r", Major: ptr(int64(-2))}), "linux.resources.devices[1].major: -2 is negative"},
		{"rule minor", rule(specs.LinuxDeviceCgroup{Access: "r", Major: ptr(int64(-1)), Minor: ptr(int64(-2))}), "linux.resources.devices[1].minor: -2 is negative"},
		{"page size", func(s *specs.Spec) {
			s.Linux.Resources.HugepageLimits = []specs.LinuxHugepageLimit{{Pagesize: "2MB"}, {Pagesize: "../2MB"}}
		}, `linux.resources.hugepageLimits[1].pageSize: "../2MB" is not a page size such as 64KB, 2MB or 1GB`},
		{"page size without number", func(s *specs.Spec) {
			s.Linux.Resources.HugepageLimits = []specs.LinuxHugepageLimit{{Pagesize: "MB"}}
		}, `linux.resources.hugepageLimits[0].pageSize: "MB" is not a page size such as 64KB, 2MB or 1GB`},
		{"memory limit", func(s *specs.Spec) { s.Linux.Resources.Memory = &specs.LinuxMemory{Limit: ptr(int64(-2))} }, "linux.resources.memory.limit: -2 is negative"},
		{"no memory limit", func(s *specs.Spec) { s.Linux.Resources.Memory = &specs.LinuxMemory{Limit: ptr(int64(-1))} }, ""},
		{"cpu quota", func(s *specs.Spec) { s.Linux.Resources.CPU = &specs.LinuxCPU{Quota: ptr(int64(-2))} }, "linux.resources.cpu.quota: -2 is negative"},
		{"pids limit", func(s *specs.Spec) { s.Linux.Resources.Pids = &specs.LinuxPids{Limit: ptr(int64(-2))} }, "linux.resources.pids.limit: -2 is negative"},
		{"interface", func(s *specs.Spec) {
			s.Linux.Resources.Network = &specs.LinuxNetwork{Priorities: []specs.LinuxInterfacePriority{{Name: "a b"}}}
		}, `linux.resources.network.priorities[0].name: "a b" is not an interface`},
		{"rdma device", func(s *specs.Spec) { s.Linux.Resources.Rdma = map[string]specs.LinuxRdma{"a\nb": {}} }, `linux.resources.rdma["a\nb"]: not a device`},
		{"unified path", func(s *specs.Spec) { s.Linux.Resources.Unified = map[string]string{"../memory.max": "1"} }, `linux.resources.unified["../memory.max"]: not the name of a cgroup file`},
		{"unified", func(s *specs.Spec) { s.Linux.Resources.Unified = map[string]string{"memory.max": "1"} }, ""},

		{"ipc sysctl", sysctl("kernel.shmmax", "1"), ""},
		{"mqueue sysctl with slashes", sysctl("fs/mqueue/msg_max", "1"), ""},
		{"ipc sysctl of the host", func(s *specs.Spec) {
			sysctl("kernel/shmmax", "1")(s)
			without(s, specs.IPCNamespace)
		}, `linux.sysctl["kernel/shmmax"]: not allowed in the host's ipc namespace`},
		{"mqueue sysctl of the host", func(s *specs.Spec) {
			sysctl("fs.mqueue.msg_max", "1")(s)
			without(s, specs.IPCNamespace)
		}, `linux.sysctl["fs.mqueue.msg_max"]: not allowed in the host's ipc namespace`},
		{"net sysctl", sysctl("net.ipv4.ip_forward", "1"), ""},
		{"net sysctl of the host", func(s *specs.Spec) {
			sysctl("net.ipv4.ip_forward", "1")(s)
			without(s, specs.NetworkNamespace)
		}, `linux.sysctl["net.ipv4.ip_forward"]: not allowed in the host's network namespace`},
		{"domainname sysctl", sysctl("kernel.domainname", "d"), ""},
		{"domainname sysctl of the host", func(s *specs.Spec) {
			sysctl("kernel.domainname", "d")(s)
			without(s, specs.UTSNamespace)
		}, `linux.sysctl["kernel.domainname"]: not allowed in the host's uts namespace`},
		{"hostname sysctl", sysctl("kernel.hostname", "h"), `linux.sysctl["kernel.hostname"]: not allowed as it conflicts with the field "hostname"`},
		{"sysctl of all", sysctl("vm.swappiness", "1"), `linux.sysctl["vm.swappiness"]: not in a separate kernel namespace`},
		{"sysctl path", sysctl("net/../kernel/core_pattern", "x"), `linux.sysctl["net/../kernel/core_pattern"]: not the name of a sysctl`},
		{"sysctl path in dots", sysctl("net.//.kernel.core_pattern", "x"), `linux.sysctl["net.//.kernel.core_pattern"]: not the name of a sysctl`},
		{"empty sysctl", sysctl("", "x"), `linux.sysctl[""]: not the name of a sysctl`},
		{"NUL in sysctl", sysctl("net.a", "\x00"), `linux.sysctl["net.a"]: value must not contain NUL`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := valid()
			tt.change(s)
			c := checker{spec: s, bundle: "/bundle", stat: everythingIsADirectory}
			// everythingIsADirectory says that all files are the same one, so only new namespaces are not the host's.
			got := ""
			if err := c.check(); err != nil {
				got = err.Error()
				var field *FieldError
				if !errors.As(err, &field) {
					t.Errorf("%v is no *FieldError", err)
				}
			}
			if got != tt.want {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
		})
	}
}

func TestValidateRoot(t *testing.T) {
	bundle := t.TempDir()
	s := valid()
	if err := Validate(s, bundle); !errors.Is(err, os.ErrNotExist) || !strings.HasPrefix(err.Error(), "root.path: ") {
		t.Errorf("missing: got %v", err)
	}
	rootfs := filepath.Join(bundle, "rootfs")
	if err := os.WriteFile(rootfs, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err, want := Validate(s, bundle), "root.path: "+rootfs+" is not a directory"; err == nil || err.Error() != want {
		t.Errorf("file: got %v, want %s", err, want)
	}
	if err := os.Remove(rootfs); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(rootfs, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Validate(s, bundle); err != nil {
		t.Errorf("relative: %v", err)
	}
	s.Root.Path = rootfs
	if err := Validate(s, "/nonexistent"); err != nil {
		t.Errorf("absolute: %v", err)
	}
	s.VM = &specs.VM{}
	if err, want := Validate(s, bundle), "vm: not supported: sock makes no virtual machines"; err == nil || err.Error() != want {
		t.Errorf("unsupported: got %v, want %s", err, want)
	}
}

func TestSysctlOfOwnNetwork(t *testing.T) {
	for path, want := range map[string]string{
		"/proc/self/ns/net":     `linux.sysctl["net.a"]: not allowed in the host's network namespace`,
		"/proc/self/ns/mnt":     "", // Another file; that it is no network namespace comes out when it is joined.
		"/nonexistent/netns":    `linux.sysctl["net.a"]: network namespace: stat /nonexistent/netns: no such file or directory`,
		"/proc/thread-self/net": "",
	} {
		s := valid()
		s.Root.Path = "/"
		s.Linux.Sysctl = map[string]string{"net.a": "1"}
		join(s, specs.NetworkNamespace, path)
		got := ""
		if err := Validate(s, ""); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", path, got, want)
		}
	}
}

func TestSysctlPath(t *testing.T) {
	for key, want := range map[string]string{
		"net.ipv4.conf.eth0/1.mtu": "net/ipv4/conf/eth0.1/mtu",
		"net/ipv4/conf/eth0.1/mtu": "net/ipv4/conf/eth0.1/mtu",
		"kernel":                   "kernel",
	} {
		if got := SysctlPath(key); got != want {
			t.Errorf("SysctlPath(%q) = %q, want %q", key, got, want)
		}
	}
}

func TestValidateParts(t *testing.T) {
	p := valid().Process
	if err := ValidateProcess(p); err != nil {
		t.Error(err)
	}
	p.ApparmorProfile = "x\n"
	if err, want := ValidateProcess(p), "process.apparmorProfile: must not contain NUL or a newline"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	p.Args = nil
	if err, want := ValidateProcess(p), "process.args: args must not be empty"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	r := &specs.LinuxResources{Pids: &specs.LinuxPids{Limit: ptr(int64(-2))}}
	if err, want := ValidateResources(r), "linux.resources.pids.limit: -2 is negative"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestUnsupported(t *testing.T) {
	mapping := []specs.LinuxIDMapping{{Size: 1}}
	s := valid()
	s.Windows, s.Solaris, s.ZOS, s.FreeBSD, s.VM = &specs.Windows{}, &specs.Solaris{}, &specs.ZOS{}, &specs.FreeBSD{}, &specs.VM{}
	s.Linux.UIDMappings, s.Linux.GIDMappings = mapping, mapping
	s.Linux.Namespaces = []specs.LinuxNamespace{{Type: specs.MountNamespace}, {Type: specs.UserNamespace}}
	s.Annotations = map[string]string{AnnotationScratch: "/tmp", AnnotationNet: "", "dev.sock.other": ""}
	s.Mounts = []specs.Mount{{}, {UIDMappings: mapping, GIDMappings: mapping}}
	want := []string{
		"windows: not supported on Linux",
		"solaris: not supported on Linux",
		"zos: not supported on Linux",
		"freebsd: not supported on Linux",
		"vm: not supported: sock makes no virtual machines",
		`annotations["dev.sock.net"]: not supported yet`,
		`annotations["dev.sock.scratch"]: not supported yet`,
	}
	var got []string
	for _, err := range Unsupported(s) {
		got = append(got, err.Error())
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if got := Unsupported(valid()); len(got) > 0 {
		t.Errorf("valid configuration: %v", got)
	}
}

func TestWarnings(t *testing.T) {
	s := valid()
	if got := Warnings(s); len(got) > 0 {
		t.Errorf("valid configuration: %q", got)
	}
	s.Process.Capabilities.Ambient = []string{"cap_kill", "CAP_X", "CAP_CHOWN"}
	s.Mounts[1].Destination = "dev"
	s.Process.CommandLine, s.Process.User.Username = "cmd", "somebody"
	//lint:ignore SA1019 This is about its being deprecated.
	s.Linux.Resources.Memory = &specs.LinuxMemory{Kernel: ptr(int64(1)), KernelTCP: ptr(int64(-1)), UseHierarchy: ptr(false)}
	want := []string{
		"mounts[1].destination: relative paths are deprecated, using /dev",
		"linux.resources.memory.kernel: ignored: kernel memory has no limit of its own since Linux 5.16",
		"linux.resources.memory.kernelTCP: ignored: as in runc",
		"linux.resources.memory.useHierarchy: ignored: memory is always accounted for by hierarchy since Linux 5.11",
		"process.commandLine: has no meaning on Linux",
		"process.user.username: has no meaning on Linux",
		`process.capabilities.ambient[1]: ignoring unknown capability "CAP_X"`,
		"process.capabilities.ambient: can't raise ambient capability cap_kill, CAP_CHOWN: not both permitted and inheritable",
	}
	if got := Warnings(s); !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestEngineConfigs(t *testing.T) {
	for name, data := range engineConfigs(t) {
		t.Run(name, func(t *testing.T) {
			s, err := Parse(data, name)
			if err != nil {
				t.Fatal(err)
			}
			c := checker{spec: s, bundle: "/bundle", stat: everythingIsADirectory}
			if err := c.check(); err != nil {
				t.Error(err)
			}
			if got := Warnings(s); len(got) > 0 {
				t.Errorf("warnings: %q", got)
			}
		})
	}
}

// Both of them as runc 1.5.2 writes them, but for its --version.
func TestDefault(t *testing.T) {
	rootless := rootful(false)
	makeRootless(rootless, 0, 0)
	for file, s := range map[string]*specs.Spec{"default.json": rootful(false), "rootless.json": rootless} {
		want, err := os.ReadFile(filepath.Join("testdata", file))
		if err != nil {
			t.Fatal(err)
		}
		got, err := json.MarshalIndent(s, "", "\t")
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != string(want) {
			t.Errorf("%s: got\n%s", file, got)
		}
	}
	unified := rootful(true).Linux.Namespaces
	if last := unified[len(unified)-1]; last.Type != specs.CgroupNamespace {
		t.Errorf("with cgroup v2: got %v as the last namespace, want cgroup", last)
	}
	s := Default(false)
	s.Root.Path = "/"
	if err := Validate(s, ""); err != nil {
		t.Errorf("not valid: %v", err)
	}
	if got, want := Default(true).Linux.UIDMappings[0].HostID, uint32(os.Geteuid()); got != want {
		t.Errorf("rootless: maps host user %d, want the caller, %d", got, want)
	}
}

func TestOlder(t *testing.T) {
	for version, want := range map[string]bool{
		"1.0.0": true, "1.0.2-dev": true, "1.2.1+dev": true, "1.3.0": false, "1.3.0-rc.1": false, "1.10.0": false,
	} {
		if got := Older(version, 3); got != want {
			t.Errorf("Older(%q, 3) = %t", version, got)
		}
	}
}
