// Package spec reads and checks config.json, the description of a container in the OCI runtime specification.
//
// Load turns a bundle into a specs.Spec, Validate finds everything wrong with it that can be seen without executing
// anything. Both name the place of a mistake: by line and column where the JSON can't be read, by JSON path
// (mounts[3].options[1]) where its meaning is wrong.
package spec

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/sock-runtime/sock/spec/coldfile"
)

const (
	configName = "config.json"

	// maxConfigSize bounds what is read into memory. Engines write some 20 KiB.
	maxConfigSize = 64 << 20
)

// Load reads config.json of the bundle, a directory. The error wraps os.ErrNotExist where the file is missing.
// Nothing but the JSON and its types is checked: see Validate.
func Load(bundle string) (*specs.Spec, error) {
	name := filepath.Join(bundle, configName)
	data, err := coldfile.Read(unix.AT_FDCWD, name, 0, maxConfigSize, nil)
	if errors.Is(err, os.ErrNotExist) {
		return nil, missingFile(configName)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return Parse(data, configName)
}

// LoadProcess reads the JSON of one process from a file, as `exec --process` takes it. Nothing but the JSON and its types
// is checked: see ValidateProcess.
func LoadProcess(name string) (*specs.Process, error) {
	data, err := coldfile.Read(unix.AT_FDCWD, name, 0, maxConfigSize, nil)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return ParseProcess(data, name)
}

// missingFile is the error for a bundle without config.json, in runc's words, which scripts match.
type missingFile string

func (name missingFile) Error() string {
	return "JSON specification file " + string(name) + " not found"
}

func (missingFile) Is(target error) bool { return target == os.ErrNotExist }
