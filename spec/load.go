// Package spec reads and checks config.json, the description of a container in the OCI runtime specification.
//
// Load turns a bundle into a specs.Spec, Validate finds everything wrong with it that can be seen without executing
// anything. Both name the place of a mistake: by line and column where the JSON can't be read, by JSON path
// (mounts[3].options[1]) where its meaning is wrong.
package spec

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
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
	data, err := readBounded(name, maxConfigSize)
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
	data, err := readBounded(name, maxConfigSize)
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

// readBounded reads a file to its end and fails beyond limit bytes. It is package os without the poller, which takes a
// dozen system calls to set up.
func readBounded(name string, limit int64) ([]byte, error) {
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	data := make([]byte, 0, min(max(st.Size, 0), limit)+bytes.MinRead)
	for {
		if int64(len(data)) > limit {
			return nil, fmt.Errorf("larger than %d MiB", limit>>20)
		}
		data = slices.Grow(data, bytes.MinRead)
		n, err := unix.Read(fd, data[len(data):cap(data)])
		switch {
		case err == unix.EINTR:
		case err != nil:
			return nil, err
		case n == 0:
			return data, nil
		default:
			data = data[:len(data)+n]
		}
	}
}
