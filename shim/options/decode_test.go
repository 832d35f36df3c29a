package options

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	runc "github.com/containerd/containerd/api/types/runc/options"
	generic "github.com/containerd/containerd/api/types/runtimeoptions/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/sock-runtime/sock/spec/settings"
)

func pack(t *testing.T, m proto.Message) *anypb.Any {
	t.Helper()
	data, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return &anypb.Any{TypeUrl: string(m.ProtoReflect().Descriptor().FullName()), Value: data} // as containerd's typeurl does
}

func TestDecode(t *testing.T) {
	config := filepath.Join(t.TempDir(), "sock.toml")
	if err := os.WriteFile(config, []byte("Grouping = 'pod'\nSystemdCgroup = true\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	defaults := &Options{Grouping: Namespace, Root: DefaultRoot}
	with, err := anypb.New(&Options{Grouping: Container})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		any  *anypb.Any
		want *Options
		err  string
	}{
		{"none", nil, defaults, ""},
		{"empty", &anypb.Any{}, defaults, ""},
		{"ours", pack(t, &Options{Profile: "lean", Root: "/x"}), &Options{Profile: "lean", Grouping: Namespace, Root: "/x"}, ""},
		{"type.googleapis.com", with, &Options{Grouping: Container, Root: DefaultRoot}, ""},
		{
			"runc's", pack(t, &runc.Options{BinaryName: "crun", SystemdCgroup: true, NoPivotRoot: true, NoNewKeyring: true, IoUid: 7, IoGid: 8, Root: "/y"}),
			&Options{Grouping: Namespace, Root: "/y", SystemdCgroup: true, NoPivotRoot: true, NoNewKeyring: true, IoUid: 7, IoGid: 8}, "",
		},
		{
			"CRI's", pack(t, &generic.Options{TypeUrl: "dev.sock.v1.Options", ConfigBody: []byte("Profile = 'standard'\nBinaryName = 'runc'\nIoUid = 5\n")}),
			&Options{Profile: "standard", Grouping: Namespace, Root: DefaultRoot, IoUid: 5}, "",
		},
		{"Docker's", pack(t, &generic.Options{ConfigPath: config}), &Options{Grouping: Pod, Root: DefaultRoot, SystemdCgroup: true}, ""},
		{"no body", pack(t, &generic.Options{TypeUrl: "x"}), defaults, ""},
		{"shim cgroup", pack(t, &Options{Grouping: Pod, ShimCgroup: "/s"}), &Options{Grouping: Pod, ShimCgroup: "/s", Root: DefaultRoot}, ""},

		{"unknown type", &anypb.Any{TypeUrl: "example.Options", Value: []byte{8, 1}}, nil, `unknown type "example.Options"`},
		{"unknown field", &anypb.Any{TypeUrl: "dev.sock.v1.Options", Value: []byte{0xf8, 0x01, 1}}, nil, "not known"},
		{"garbage", &anypb.Any{TypeUrl: "dev.sock.v1.Options", Value: []byte{0xff}}, nil, "decode"},
		{"unknown key", pack(t, &generic.Options{ConfigBody: []byte("Profil = 'lean'")}), nil, `unknown key "Profil"`},
		{"no TOML", pack(t, &generic.Options{ConfigBody: []byte("{}")}), nil, "config_body"},
		{"no file", pack(t, &generic.Options{ConfigPath: "/nonexistent"}), nil, "config_path: open /nonexistent"},
		{"grouping", pack(t, &Options{Grouping: "galaxy"}), nil, `unknown grouping "galaxy"`},
		{"profile", pack(t, &Options{Profile: "fat"}), nil, `unknown profile "fat"`},
		{"root", pack(t, &Options{Root: "x"}), nil, `root "x" is not absolute`},
		{"shim cgroup for all", pack(t, &runc.Options{ShimCgroup: "/s"}), nil, "shim_cgroup"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Decode(c.any, settings.Settings{})
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("error is %v, want one with %q", err, c.err)
				}
				return
			}
			if err != nil || !proto.Equal(got, c.want) {
				t.Errorf("got %v, %v, want %v", got, err, c.want)
			}
		})
	}
}

// TestHost has settings of the host's for what options leave open.
func TestHost(t *testing.T) {
	host := settings.Settings{Grouping: Pod, SystemdCgroup: true}
	for _, c := range []struct {
		name string
		any  *anypb.Any
		want *Options
	}{
		{"none", nil, &Options{Grouping: Pod, Root: DefaultRoot, SystemdCgroup: true}},
		{"ours", pack(t, &Options{Grouping: Container}), &Options{Grouping: Container, Root: DefaultRoot, SystemdCgroup: true}},
		{"runc's", pack(t, &runc.Options{ShimCgroup: "/s"}), &Options{Grouping: Pod, Root: DefaultRoot, SystemdCgroup: true, ShimCgroup: "/s"}},
	} {
		if got, err := Decode(c.any, host); err != nil || !proto.Equal(got, c.want) {
			t.Errorf("%s: got %v, %v, want %v", c.name, got, err, c.want)
		}
	}
}
