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
	"io"
	"os"
	"path/filepath"

	"github.com/opencontainers/runtime-spec/specs-go"
)

const (
	configName = "config.json"

	// maxConfigSize bounds what is read into memory. Engines write some 20 KiB.
	maxConfigSize = 64 << 20
)

// Load reads config.json of the bundle, a directory. The error wraps os.ErrNotExist where the file is missing.
// Nothing but the JSON and its types is checked: see Validate.
func Load(bundle string) (*specs.Spec, error) {
	f, err := os.Open(filepath.Join(bundle, configName))
	if errors.Is(err, os.ErrNotExist) {
		// Scripts match runc's words.
		return nil, fmt.Errorf("JSON specification file %s not found: %w", configName, err)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()

	data, err := readBounded(f, maxConfigSize)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", f.Name(), err)
	}
	return Parse(data, configName)
}

// readBounded reads f to its end and fails beyond limit bytes.
func readBounded(f *os.File, limit int64) ([]byte, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	var buf bytes.Buffer
	if size := info.Size(); size <= limit {
		buf.Grow(int(size) + bytes.MinRead)
		if _, err := buf.ReadFrom(io.LimitReader(f, limit+1)); err != nil {
			return nil, err
		}
		if int64(buf.Len()) <= limit {
			return buf.Bytes(), nil
		}
	}
	return nil, fmt.Errorf("larger than %d MiB", limit>>20)
}
