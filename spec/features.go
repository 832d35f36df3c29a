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
	yes, no := true, false
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
				Systemd:     &no,
				SystemdUser: &no,
				Rdma:        &yes,
			},
			Seccomp:         &features.Seccomp{Enabled: &no},
			Apparmor:        &features.Apparmor{Enabled: &no},
			Selinux:         &features.Selinux{Enabled: &no},
			IntelRdt:        &features.IntelRdt{Enabled: &no, Schemata: &no, Monitoring: &no},
			MemoryPolicy:    &features.MemoryPolicy{Modes: []string{}, Flags: []string{}},
			MountExtensions: &features.MountExtensions{IDMap: &features.IDMap{Enabled: &yes}},
			NetDevices:      &features.NetDevices{Enabled: &no},
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
