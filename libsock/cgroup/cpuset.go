package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// inheritCpuset gives a v1 cpuset, and the empty ones above it, the CPUs and
// memory nodes of its nearest ancestor that has some. A new cpuset is empty and
// takes no process in (cpusets(7)).
func inheritCpuset(mount, path string) error {
	for _, name := range []string{"/cpuset.cpus", "/cpuset.mems"} {
		_, err := inheritFile(mount, path, name)
		// Next to an exclusive sibling the whole set is refused: then it is
		// for the config to name one that is free.
		if err != nil && !errors.Is(err, unix.EINVAL) {
			return err
		}
	}
	return nil
}

// inheritFile returns the value of a file, after copying it from the parent if
// it was empty.
func inheritFile(mount, path, name string) (string, error) {
	file := path + name
	fd, err := open(file, unix.O_RDWR)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	buf := make([]byte, 4096)
	n, err := unix.Read(fd, buf)
	if err != nil {
		return "", &fs.PathError{Op: "read", Path: file, Err: err}
	}
	value := strings.TrimSpace(string(buf[:n]))
	if value != "" {
		return value, nil
	}
	if path == mount {
		return "", fmt.Errorf("%s is empty", file)
	}
	value, err = inheritFile(mount, filepath.Dir(path), name)
	if err != nil {
		return "", err
	}
	return value, writeTo(fd, file, value)
}
