// Package jsonfile keeps what a new worker has to know, as files of JSON.
package jsonfile

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Unfinished is the prefix of files that are being written. No ID begins with it.
const Unfinished = ","

// Write replaces the file at path by v: whoever reads it, also after a kill, finds what was there or all of v. Nothing is
// synced: where shims keep their directories, nothing outlives the host's restart. Errors: those of JSON and of files, for
// the caller to say whose it is; no unfinished file is left then.
func Write(path string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	temp := filepath.Join(filepath.Dir(path), Unfinished+filepath.Base(path))
	if err := writeFile(temp, data); err != nil {
		_ = os.Remove(temp)
		return err
	}
	return os.Rename(temp, path)
}

// Read reads what Write wrote. Errors: fs.ErrNotExist, others of files and JSON.
func Read(path string, v any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return json.Unmarshal(data, v)
}

func writeFile(path string, data []byte) error {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	for len(data) > 0 && err == nil {
		var n int
		n, err = unix.Write(fd, data)
		data = data[max(n, 0):]
	}
	return errors.Join(err, unix.Close(fd))
}
