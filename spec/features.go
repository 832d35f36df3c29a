package spec

import (
	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/opencontainers/runtime-spec/specs-go/features"
)

const (
	ociVersionMin = "1.0.0"
	ociVersionMax = "1.3.0"
)

// Features describes what sock recognises in config.json, in the form of features.md. It is the same on every host.
func Features() *features.Features {
	yes := true
	return &features.Features{
		OCIVersionMin: ociVersionMin,
		OCIVersionMax: ociVersionMax,
		Hooks:         []string{"prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"},
		MountOptions:  KnownMountOptions(),
		Linux: &features.Linux{
			Namespaces:   supportedNamespaces(),
			Capabilities: Capabilities(),
			Cgroup: &features.Cgroup{
				V1:          &yes,
				V2:          &yes,
				Systemd:     &yes,
				SystemdUser: &yes,
				Rdma:        &yes,
			},
			Seccomp:         seccomp(),
			Apparmor:        &features.Apparmor{Enabled: &yes},
			Selinux:         &features.Selinux{Enabled: &yes},
			IntelRdt:        &features.IntelRdt{Enabled: &yes, Schemata: &yes, Monitoring: &yes},
			MemoryPolicy:    memoryPolicy(),
			MountExtensions: &features.MountExtensions{IDMap: &features.IDMap{Enabled: &yes}},
			NetDevices:      &features.NetDevices{Enabled: &yes},
		},
		// They can weaken isolation under the lean profile.
		PotentiallyUnsafeConfigAnnotations: []string{AnnotationNet, AnnotationProfile, AnnotationScratch},
	}
}

// supportedNamespaces are the types that Unsupported doesn't refuse, sorted.
func supportedNamespaces() []string {
	var names []string
	for _, t := range namespaceTypes {
		asked := specs.Spec{Linux: &specs.Linux{Namespaces: []specs.LinuxNamespace{{Type: t}}}}
		if len(Unsupported(&asked)) == 0 {
			names = append(names, string(t))
		}
	}
	return names
}

func memoryPolicy() *features.MemoryPolicy {
	f := &features.MemoryPolicy{}
	for _, mode := range memoryPolicyModes {
		f.Modes = append(f.Modes, string(mode))
	}
	for _, flag := range memoryPolicyFlags {
		f.Flags = append(f.Flags, string(flag))
	}
	return f
}

// seccomp lists what package libsock/seccomp compiles; a test there compares the two.
func seccomp() *features.Seccomp {
	yes := true
	flags := []string{
		string(specs.LinuxSeccompFlagLog), string(specs.LinuxSeccompFlagSpecAllow), "SECCOMP_FILTER_FLAG_TSYNC",
		string(specs.LinuxSeccompFlagWaitKillableRecv),
	}
	return &features.Seccomp{
		Enabled: &yes,
		Actions: []string{
			string(specs.ActAllow), string(specs.ActErrno), string(specs.ActKill), string(specs.ActKillProcess),
			string(specs.ActKillThread), string(specs.ActLog), string(specs.ActNotify), string(specs.ActTrace), string(specs.ActTrap),
		},
		Operators: []string{
			string(specs.OpEqualTo), string(specs.OpGreaterEqual), string(specs.OpGreaterThan), string(specs.OpLessEqual),
			string(specs.OpLessThan), string(specs.OpMaskedEqual), string(specs.OpNotEqual),
		},
		Archs: []string{
			string(specs.ArchAARCH64), string(specs.ArchARM), string(specs.ArchLOONGARCH64), string(specs.ArchMIPS),
			string(specs.ArchMIPS64), string(specs.ArchMIPS64N32), string(specs.ArchMIPSEL), string(specs.ArchMIPSEL64),
			string(specs.ArchMIPSEL64N32), string(specs.ArchPPC), string(specs.ArchPPC64), string(specs.ArchPPC64LE),
			string(specs.ArchRISCV64), string(specs.ArchS390), string(specs.ArchS390X), string(specs.ArchX32),
			string(specs.ArchX86), string(specs.ArchX86_64),
		},
		KnownFlags:     flags,
		SupportedFlags: flags,
	}
}
