package options

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	runc "github.com/containerd/containerd/api/types/runc/options"
	generic "github.com/containerd/containerd/api/types/runtimeoptions/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
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
		{"CRIU's path, of containerd 1.6", &anypb.Any{TypeUrl: "containerd.runc.v1.Options", Value: []byte("\x42\x01x\x28\x07")}, &Options{Grouping: Namespace, Root: DefaultRoot, IoGid: 7}, ""},
		{"runc's unknown field", &anypb.Any{TypeUrl: "containerd.runc.v1.Options", Value: []byte("\x42\x01x\xf8\x01\x01")}, nil, "not known"},
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

// TestEachField sets each field of runc's options, one by one, in both forms: it is honoured, refused, or has no meaning.
func TestEachField(t *testing.T) {
	// There is no other binary, there are no checkpoints, and by the last two containerd asks itself to use another shim.
	harmless := map[string]bool{"binary_name": true, "criu_image_path": true, "criu_work_path": true, "task_api_address": true, "task_api_version": true}
	refused := map[string]string{"shim_cgroup": "shim_cgroup needs the grouping"}
	fields := (&runc.Options{}).ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		name := string(field.Name())
		var key string // as runc's options are called in containerd's configuration
		for _, word := range strings.Split(name, "_") {
			key += strings.ToUpper(word[:1]) + word[1:]
		}
		given := &runc.Options{}
		text := key + " = true\n"
		switch field.Kind() {
		case protoreflect.BoolKind:
			given.ProtoReflect().Set(field, protoreflect.ValueOfBool(true))
		case protoreflect.Uint32Kind:
			given.ProtoReflect().Set(field, protoreflect.ValueOfUint32(7))
			text = key + " = 7\n"
		case protoreflect.StringKind:
			given.ProtoReflect().Set(field, protoreflect.ValueOfString("/x"))
			text = key + " = '/x'\n"
		default:
			t.Fatalf("%s is a %s", name, field.Kind())
		}
		for form, any := range map[string]*anypb.Any{
			"protobuf": pack(t, given),
			"TOML":     pack(t, &generic.Options{TypeUrl: "containerd.runc.v1.Options", ConfigBody: []byte(text)}),
		} {
			got, err := Decode(any, settings.Settings{})
			if why := refused[name]; why != "" {
				if err == nil || !strings.Contains(err.Error(), why) {
					t.Errorf("%s of %s: %v, want %s", name, form, err, why)
				}
				continue
			}
			want := &Options{Grouping: Namespace, Root: DefaultRoot}
			if !harmless[name] {
				ours := want.ProtoReflect().Descriptor().Fields().ByName(field.Name())
				if ours == nil {
					t.Fatalf("nobody says what %s means", name)
				}
				want.ProtoReflect().Set(ours, given.ProtoReflect().Get(field))
			}
			if err != nil || !proto.Equal(got, want) {
				t.Errorf("%s of %s: %v, %v, want %v", name, form, got, err, want)
			}
		}
	}
}
