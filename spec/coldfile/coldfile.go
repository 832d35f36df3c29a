// Package coldfile reads files without package os, whose poller takes a dozen system calls to be set up for the first one.
package coldfile

import (
	"bytes"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// Read reads a file in a directory (unix.AT_FDCWD for the current one) to its end. flags are further ones of open(2), and
// check, if it isn't nil, may refuse what was opened. Errors: errnos as they are, check's, and that of a file with more than
// limit bytes.
func Read(dir int, name string, flags int, limit int64, check func(*unix.Stat_t) error) ([]byte, error) {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_CLOEXEC|flags, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	if check != nil {
		if err := check(&st); err != nil {
			return nil, err
		}
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
