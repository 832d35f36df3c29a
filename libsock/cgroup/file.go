package cgroup

import (
	"fmt"
	"io/fs"
	"math"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// open opens a file close-on-exec. It returns a bare descriptor because os.File
// would register each one with the poller.
func open(path string, flags int) (int, error) {
	for {
		fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0)
		if err == nil {
			return fd, nil
		}
		if err != unix.EINTR {
			return -1, &fs.PathError{Op: "open", Path: path, Err: err}
		}
	}
}

// writeFile writes data to a cgroup file in one write, as the kernel wants it.
func writeFile(path, data string) error {
	fd, err := open(path, unix.O_WRONLY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return writeTo(fd, path, data)
}

func writeTo(fd int, path, data string) error {
	for {
		_, err := unix.Write(fd, []byte(data))
		if err == nil {
			return nil
		}
		// A signal interrupts the reclaim that lowering a memory limit starts,
		// and Go's scheduler sends itself signals.
		if err != unix.EINTR {
			return fmt.Errorf("write %q to %s: %w", data, path, err)
		}
	}
}

// readFile reads a small file of cgroupfs or procfs.
func readFile(path string) (string, error) {
	fd, err := open(path, unix.O_RDONLY)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	buf := make([]byte, 0, 4096)
	for {
		if len(buf) == cap(buf) {
			buf = append(buf, make([]byte, cap(buf))...)[:len(buf)]
		}
		n, err := unix.Read(fd, buf[len(buf):cap(buf)])
		switch {
		case err == unix.EINTR:
		case err != nil:
			return "", &fs.PathError{Op: "read", Path: path, Err: err}
		case n == 0:
			return string(buf), nil
		default:
			buf = buf[:len(buf)+n]
		}
	}
}

// readTrimmed reads a file of a cgroup without the space around its value.
func readTrimmed(dir, name string) (string, error) {
	s, err := readFile(dir + "/" + name)
	return strings.TrimSpace(s), err
}

// readUint reads a number; max, which stands for no limit, is math.MaxUint64.
func readUint(dir, name string) (uint64, error) {
	s, err := readTrimmed(dir, name)
	if err != nil {
		return 0, err
	}
	if s == "max" {
		return math.MaxUint64, nil
	}
	n, err := parseCounter(s)
	if err != nil {
		return 0, fmt.Errorf("parse %s/%s: %w", dir, name, err)
	}
	return n, nil
}

// parseCounter parses a counter. Some of the kernel's can be negative for a
// moment, because they are summed up from several CPUs: that counts as 0.
func parseCounter(s string) (uint64, error) {
	if strings.HasPrefix(s, "-") {
		if _, err := strconv.ParseInt(s, 10, 64); err == nil {
			return 0, nil
		}
	}
	return strconv.ParseUint(s, 10, 64)
}

// readTable reads a file of "key value" lines (cgroup-v2.rst, "flat keyed").
func readTable(dir, name string) (map[string]uint64, error) {
	s, err := readFile(dir + "/" + name)
	if err != nil {
		return nil, err
	}
	table := make(map[string]uint64)
	for line := range strings.Lines(s) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		n, err := parseCounter(value)
		if err != nil {
			return nil, fmt.Errorf("parse %s/%s: %q: %w", dir, name, line, err)
		}
		table[key] = n
	}
	return table, nil
}

// subdirs returns the names of the directories in a directory.
func subdirs(path string) ([]string, error) {
	entries, err := os.ReadDir(path)
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names, err
}
