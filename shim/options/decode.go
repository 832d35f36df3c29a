// Package options decodes what a client of containerd's asks for beside config.json: our own Options, runc's, or a
// runtimeoptions.v1.Options with TOML in it, which CRI and Docker send.
package options

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	runc "github.com/containerd/containerd/api/types/runc/options"
	generic "github.com/containerd/containerd/api/types/runtimeoptions/v1"
	"github.com/pelletier/go-toml/v2"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/sock-runtime/sock/spec/settings"
)

//go:generate protoc -I ../.. --go_out=../.. --go_opt=paths=source_relative shim/options/options.proto

// The groupings: who shares a shim.
const (
	Namespace = "namespace"
	Pod       = "pod"
	Container = "container"
)

// DefaultRoot is the directory of the containers' states, below it one for each of containerd's namespaces.
const DefaultRoot = "/run/containerd/sock"

// Decode reads options of any of the known types; what they leave open is the host's to say. What it returns is valid and has
// Grouping and Root set. Errors name the field.
func Decode(any *anypb.Any, host settings.Settings) (*Options, error) {
	o, err := decode(any)
	if err != nil {
		return nil, err
	}
	o.SystemdCgroup = o.SystemdCgroup || host.SystemdCgroup
	switch o.Grouping {
	case "":
		o.Grouping = cmp.Or(host.Grouping, Namespace)
	case Namespace, Pod, Container:
	default:
		return nil, fmt.Errorf("options: unknown grouping %q", o.Grouping)
	}
	if o.ShimCgroup != "" && o.Grouping == Namespace {
		return nil, errors.New("options: a shim_cgroup needs the grouping pod or container: one shim serves the whole namespace")
	}
	switch o.Profile {
	case "", "standard", "lean":
	default:
		return nil, fmt.Errorf("options: unknown profile %q", o.Profile)
	}
	if o.Root == "" {
		o.Root = DefaultRoot
	}
	if !filepath.IsAbs(o.Root) {
		return nil, fmt.Errorf("options: root %q is not absolute", o.Root)
	}
	return o, nil
}

// Known says whether something is of a type that Decode knows.
func Known(any *anypb.Any) bool {
	for _, m := range []proto.Message{&Options{}, &runc.Options{}, &generic.Options{}} {
		if any.MessageIs(m) {
			return true
		}
	}
	return any.MessageName() == criOptions
}

// criOptions is what the type of generic options was called by older containerds.
const criOptions = "cri.runtimeoptions.v1.Options"

func decode(any *anypb.Any) (*Options, error) {
	if any.GetTypeUrl() == "" && len(any.GetValue()) == 0 {
		return &Options{}, nil
	}
	var own Options
	var other runc.Options
	var wrapped generic.Options
	switch name := any.MessageName(); name {
	case own.ProtoReflect().Descriptor().FullName():
		return &own, unmarshal(any, &own)
	case other.ProtoReflect().Descriptor().FullName():
		if err := unmarshal(any, &other, criuPath); err != nil {
			return nil, err
		}
		return &Options{
			Root: other.Root, SystemdCgroup: other.SystemdCgroup, NoPivotRoot: other.NoPivotRoot, NoNewKeyring: other.NoNewKeyring,
			ShimCgroup: other.ShimCgroup, IoUid: other.IoUid, IoGid: other.IoGid,
		}, nil
	case wrapped.ProtoReflect().Descriptor().FullName(), criOptions:
		if err := unmarshal(any, &wrapped); err != nil {
			return nil, err
		}
		return unwrap(&wrapped)
	default:
		return nil, fmt.Errorf("options: unknown type %q", any.GetTypeUrl())
	}
}

// criuPath is a field of runc's options that containerd 1 still has. Like the other paths of CRIU's it has no meaning here.
const criuPath = 8

// unmarshal refuses fields that the message doesn't have, but for harmless ones: they would ask for something that doesn't
// happen.
func unmarshal(any *anypb.Any, m proto.Message, harmless ...protowire.Number) error {
	if err := proto.Unmarshal(any.GetValue(), m); err != nil {
		return fmt.Errorf("options: decode %s: %w", any.GetTypeUrl(), err)
	}
	for unknown := m.ProtoReflect().GetUnknown(); len(unknown) > 0; {
		number, _, n := protowire.ConsumeField(unknown)
		if n < 0 || !slices.Contains(harmless, number) {
			return fmt.Errorf("options: %s has fields that are not known", any.GetTypeUrl())
		}
		unknown = unknown[n:]
	}
	return nil
}

// file is the TOML form: our own keys and runc's, so that a handler's options may stay when its runtime_type changes. Those
// of the last group have no meaning here: there is no other binary, and no checkpoints.
type file struct {
	Profile       string
	Grouping      string
	Root          string
	SystemdCgroup bool

	NoPivotRoot  bool
	NoNewKeyring bool
	ShimCgroup   string
	IoUid        uint32
	IoGid        uint32

	BinaryName    string
	CriuPath      string
	CriuImagePath string
	CriuWorkPath  string
	TypeUrl       string
	ConfigPath    string

	// containerd asks itself by these to use another shim.
	TaskApiAddress string
	TaskApiVersion uint32
}

// unwrap takes the TOML out of generic options. A TypeUrl says who the options are for; it is ours by definition.
func unwrap(w *generic.Options) (*Options, error) {
	body, source := w.ConfigBody, "config_body"
	if len(body) == 0 && w.ConfigPath != "" {
		var err error
		source = w.ConfigPath
		if body, err = os.ReadFile(w.ConfigPath); err != nil {
			return nil, fmt.Errorf("options: config_path: %w", err)
		}
	}
	var f file
	decoder := toml.NewDecoder(bytes.NewReader(body)).DisallowUnknownFields()
	if err := decoder.Decode(&f); err != nil {
		var strict *toml.StrictMissingError
		if errors.As(err, &strict) && len(strict.Errors) > 0 {
			return nil, fmt.Errorf("options: %s: unknown key %q", source, strings.Join(strict.Errors[0].Key(), "."))
		}
		return nil, fmt.Errorf("options: %s: %w", source, err)
	}
	return &Options{
		Profile: f.Profile, Grouping: f.Grouping, Root: f.Root, SystemdCgroup: f.SystemdCgroup, NoPivotRoot: f.NoPivotRoot,
		NoNewKeyring: f.NoNewKeyring, ShimCgroup: f.ShimCgroup, IoUid: f.IoUid, IoGid: f.IoGid,
	}, nil
}
