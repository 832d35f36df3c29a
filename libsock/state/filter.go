package state

import (
	"encoding/binary"
	"fmt"
	"io/fs"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Filter is the container's seccomp filter, which exec loads, too. It has a file of its own: other commands don't need it.
type Filter struct {
	Program []byte // BPF instructions of 8 bytes each
	Flags   uint
	Notify  bool
}

// filterHeader is the flags and whether there is a listener, 4 bytes each.
const filterHeader = 8

func (f *Filter) encode() []byte {
	notify := uint32(0)
	if f.Notify {
		notify = 1
	}
	b := make([]byte, 0, filterHeader+len(f.Program))
	b = binary.NativeEndian.AppendUint32(b, uint32(f.Flags))
	b = binary.NativeEndian.AppendUint32(b, notify)
	return append(b, f.Program...)
}

// ReadFilter loads the container's filter; nil if it has none. Errors: the file is there and not whole.
func ReadFilter(root, id string) (*Filter, error) {
	path := filepath.Join(root, id)
	dir, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(dir)
	data, err := readFile(dir, filterName)
	if err == unix.ENOENT {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read seccomp filter of container %s: %w", id, err)
	}
	if len(data) <= filterHeader || len(data)%8 != 0 {
		return nil, fmt.Errorf("read seccomp filter of container %s: %d bytes", id, len(data))
	}
	return &Filter{
		Flags: uint(binary.NativeEndian.Uint32(data)), Notify: binary.NativeEndian.Uint32(data[4:]) != 0, Program: data[filterHeader:],
	}, nil
}
