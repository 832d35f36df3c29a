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
	p, err := stat(pid)
	return err == nil && p.began == startTime && !p.ended()
}

// StartTime is when process pid began, in clock ticks since boot.
func StartTime(pid int) (uint64, error) {
	p, err := stat(pid)
	return p.began, err
}

// Parent is the process ID of process pid's parent.
func Parent(pid int) (int, error) {
	p, err := stat(pid)
	return p.parent, err
}

// procStat is what /proc/PID/stat says.
type procStat struct {
	status byte
	parent int
	began  uint64 // clock ticks since boot
}

// ended tells a process that only waits for its parent to notice.
func (p procStat) ended() bool { return p.status == 'Z' || p.status == 'X' }

// stat reads fields 3, 4 and 22 of /proc/PID/stat.
func stat(pid int) (procStat, error) {
	name := "/proc/" + strconv.Itoa(pid) + "/stat"
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return procStat{}, fmt.Errorf("open %s: %w", name, err)
	}
	defer unix.Close(fd)
	var buf [1024]byte
	n, err := unix.Read(fd, buf[:])
	if err != nil {
		return procStat{}, fmt.Errorf("read %s: %w", name, err)
	}
	// Field 2 is the name in parentheses, which may hold anything.
	end := bytes.LastIndexByte(buf[:n], ')')
	fields := bytes.Fields(buf[end+1 : n])
	const status3, parent4, start22 = 0, 1, 19
	if end < 0 || len(fields) <= start22 {
		return procStat{}, fmt.Errorf("read %s: unexpected format", name)
	}
	p := procStat{status: fields[status3][0]}
	if p.parent, err = strconv.Atoi(string(fields[parent4])); err == nil {
		p.began, err = strconv.ParseUint(string(fields[start22]), 10, 64)
	}
	if err != nil {
		return procStat{}, fmt.Errorf("read %s: %w", name, err)
	}
	return p, nil
}
