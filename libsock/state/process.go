package state

import (
	"bytes"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"
)

// Alive says whether the process pid that began at startTime still runs; a zombie does not. A pid alone may be
// somebody else's by now, proc_pid_stat(5).
func Alive(pid int, startTime uint64) bool {
	if pid <= 0 {
		return false
	}
	status, began, err := stat(pid)
	return err == nil && began == startTime && status != 'Z' && status != 'X'
}

// StartTime is when process pid began, in clock ticks since boot.
func StartTime(pid int) (uint64, error) {
	_, began, err := stat(pid)
	return began, err
}

// stat reads the state and the start time, fields 3 and 22 of /proc/PID/stat.
func stat(pid int) (status byte, startTime uint64, err error) {
	name := "/proc/" + strconv.Itoa(pid) + "/stat"
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, 0, fmt.Errorf("open %s: %w", name, err)
	}
	defer unix.Close(fd)
	var buf [1024]byte
	n, err := unix.Read(fd, buf[:])
	if err != nil {
		return 0, 0, fmt.Errorf("read %s: %w", name, err)
	}
	// Field 2 is the name in parentheses, which may hold anything.
	end := bytes.LastIndexByte(buf[:n], ')')
	fields := bytes.Fields(buf[end+1 : n])
	const status3, start22 = 0, 19
	if end < 0 || len(fields) <= start22 {
		return 0, 0, fmt.Errorf("read %s: unexpected format", name)
	}
	startTime, err = strconv.ParseUint(string(fields[start22]), 10, 64)
	if err != nil {
		return 0, 0, fmt.Errorf("read %s: %w", name, err)
	}
	return fields[status3][0], startTime, nil
}
