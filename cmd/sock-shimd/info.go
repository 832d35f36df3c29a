package main

import (
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"runtime"
	"runtime/debug"

	"github.com/containerd/containerd/api/types"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/sock-runtime/sock/spec"
)

const name = "io.containerd.sock.v1"

// featuresType is the name under which containerd knows the features of the runtime specification, which are JSON.
const featuresType = "types.containerd.io/opencontainers/runtime-spec/1/features/Features"

// info answers -info: what the runtime is and recognises, a RuntimeInfo. It doesn't depend on the options, which are only
// given back. It doesn't fail for their sake either: containerd would repeat it for every container.
func info(options io.Reader) ([]byte, error) {
	features, err := json.Marshal(spec.Features())
	if err != nil {
		return nil, err
	}
	i := &types.RuntimeInfo{
		Name:     name,
		Version:  &types.RuntimeVersion{Version: version, Revision: revision()},
		Features: &anypb.Any{TypeUrl: featuresType, Value: features},
	}
	if data, err := io.ReadAll(io.LimitReader(options, 4<<20)); err == nil && len(data) > 0 {
		var given anypb.Any
		if proto.Unmarshal(data, &given) == nil {
			i.Options = &given
		}
	}
	return marshal(i)
}

// versionText answers -v, in containerd's form.
func versionText(program string) []byte {
	return fmt.Appendf(nil, "%s:\n  Version:  %s\n  Revision: %s\n  Go version: %s\n\n", filepath.Base(program), version, revision(), runtime.Version())
}

// revision is the commit given to the build, else the one that the go command found by itself.
func revision() string {
	if commit != "" {
		return commit
	}
	if build, ok := debug.ReadBuildInfo(); ok {
		for _, s := range build.Settings {
			if s.Key == "vcs.revision" {
				return s.Value
			}
		}
	}
	return ""
}
