package podconfig

import (
	"reflect"
	"testing"

	"google.golang.org/protobuf/proto"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// TestDecode compares with the types that Kubernetes encodes from.
func TestDecode(t *testing.T) {
	mapping := []*cri.IDMapping{{HostId: 100000, ContainerId: 0, Length: 65536}, {HostId: 5, ContainerId: 65536, Length: 1}}
	for _, c := range []struct {
		name   string
		config *cri.PodSandboxConfig
		want   Config
	}{
		{"nothing", &cri.PodSandboxConfig{}, Config{}},
		{
			"everything", &cri.PodSandboxConfig{
				Metadata: &cri.PodSandboxMetadata{Name: "pod", Uid: "u", Namespace: "n", Attempt: 3}, Hostname: "subzero", LogDirectory: "/var/log",
				DnsConfig:    &cri.DNSConfig{Servers: []string{"10.0.0.10", "::1"}, Searches: []string{"a", "b"}, Options: []string{"ndots:5"}},
				PortMappings: []*cri.PortMapping{{HostPort: 80}}, Labels: map[string]string{"a": "b"}, Annotations: map[string]string{"c": "d"},
				Linux: &cri.LinuxPodSandboxConfig{
					CgroupParent: "/kubepods/pod1", Sysctls: map[string]string{"kernel.shm_rmid_forced": "1", "empty": ""}, Overhead: &cri.LinuxContainerResources{CpuShares: 3},
					SecurityContext: &cri.LinuxSandboxSecurityContext{
						RunAsUser: &cri.Int64Value{Value: 5}, Privileged: true, NamespaceOptions: &cri.NamespaceOption{
							Network: cri.NamespaceMode_NODE, Pid: cri.NamespaceMode_CONTAINER, Ipc: cri.NamespaceMode_NODE,
							UsernsOptions: &cri.UserNamespace{Uids: mapping, Gids: mapping[:1]},
						},
					},
				},
			},
			Config{
				Hostname: "subzero", DNS: &DNS{[]string{"10.0.0.10", "::1"}, []string{"a", "b"}, []string{"ndots:5"}}, CgroupParent: "/kubepods/pod1",
				Sysctls: map[string]string{"kernel.shm_rmid_forced": "1", "empty": ""}, Network: Node, PID: Container, IPC: Node,
				Users: &Users{[]Mapping{{100000, 0, 65536}, {5, 65536, 1}}, []Mapping{{100000, 0, 65536}}},
			},
		},
		{"the host's users", &cri.PodSandboxConfig{DnsConfig: &cri.DNSConfig{}, Linux: &cri.LinuxPodSandboxConfig{SecurityContext: &cri.LinuxSandboxSecurityContext{
			NamespaceOptions: &cri.NamespaceOption{UsernsOptions: &cri.UserNamespace{Mode: cri.NamespaceMode_NODE}},
		}}}, Config{DNS: &DNS{}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			data, err := proto.Marshal(c.config)
			if err != nil {
				t.Fatal(err)
			}
			got, err := Decode(data)
			if err != nil || !reflect.DeepEqual(*got, c.want) {
				t.Errorf("got %+v, %v", got, err)
			}
			for n := range data { // none of its beginnings may hurt
				_, _ = Decode(data[:n])
			}
		})
	}
	if c, err := Decode([]byte{0xff}); err == nil {
		t.Errorf("got %+v of rubbish", c)
	}
}
