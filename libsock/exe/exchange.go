package exe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/sock-runtime/sock/libsock/stub"
)

// exchange is what a process prepares once, for its children to exchange its file for a sealed copy of the little that they
// need of it: the interpreter's code.
type exchange struct {
	file   int    // the copy
	code   uint64 // its address
	size   int    // its length
	mapped []mapping
	layout []byte // of our memory, for prctl(2)
}

// mapping is a part of this process's memory that shows the file.
type mapping struct {
	start, end uint64
	protection int
}

// mayExchange tells whether children can do it: the kernel has PR_SET_MM_MAP, and we one of the two capabilities that it
// takes in our user namespace, capabilities(7).
func mayExchange() error {
	// It would write the size of its argument to an address; with CONFIG_CHECKPOINT_RESTORE, 0 is a bad one.
	if err := unix.Prctl(unix.PR_SET_MM, unix.PR_SET_MM_MAP_SIZE, 0, 0, 0); err != unix.EFAULT {
		return fmt.Errorf("prctl PR_SET_MM_MAP: %w", err)
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return fmt.Errorf("capget: %w", err)
	}
	if data[0].Effective&(1<<unix.CAP_SYS_ADMIN) == 0 && data[1].Effective&(1<<(unix.CAP_CHECKPOINT_RESTORE-32)) == 0 {
		return errors.New("neither CAP_SYS_ADMIN nor CAP_CHECKPOINT_RESTORE")
	}
	return nil
}

var prepared = sync.OnceValues(func() (*exchange, error) {
	path, err := os.Readlink(self)
	if err != nil {
		return nil, err
	}
	e := &exchange{}
	if e.mapped, err = mappings(path); err != nil {
		return nil, err
	}
	if e.layout, err = layout(); err != nil {
		return nil, err
	}
	var code []byte
	e.code, code = stub.Code(os.Getpagesize())
	for _, m := range e.mapped {
		if m.start <= e.code && e.code < m.end {
			e.size = min(len(code), int(m.end-e.code))
		}
	}
	e.file, err = sealedFile(func(fd int) error {
		_, err := unix.Write(fd, code[:e.size])
		return err
	})
	return e, err
})

// mappings finds where the file is in our memory, proc_pid_maps(5): its code, its constants, its data.
func mappings(path string) ([]mapping, error) {
	const file = "/proc/self/maps"
	text, err := readAll(file)
	if err != nil {
		return nil, err
	}
	var list []mapping
	path = strings.ReplaceAll(path, "\n", `\012`)
	for line := range strings.Lines(text) {
		// 00400000-0078f000 r-xp 00001000 fe:00 1234      /usr/local/sbin/sock
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), " ", 6)
		if len(f) < 6 || strings.TrimLeft(f[5], " ") != path {
			continue
		}
		from, to, _ := strings.Cut(f[0], "-")
		start, err1 := strconv.ParseUint(from, 16, 64)
		end, err2 := strconv.ParseUint(to, 16, 64)
		if err := errors.Join(err1, err2); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		m := mapping{start: start, end: end}
		for i, bit := range []int{unix.PROT_READ, unix.PROT_WRITE} {
			if f[1][i] != '-' {
				m.protection |= bit
			}
		}
		list = append(list, m)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%s: %s is not there", file, path)
	}
	return list, nil
}

// readAll reads a file without the poller of package os, which would be set up for it.
func readAll(name string) (string, error) {
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", &os.PathError{Op: "open", Path: name, Err: err}
	}
	defer unix.Close(fd)
	buf, n := make([]byte, 4<<10), 0
	for {
		got, err := unix.Read(fd, buf[n:])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return "", &os.PathError{Op: "read", Path: name, Err: err}
		}
		if got == 0 {
			return string(buf[:n]), nil
		}
		if n += got; n == len(buf) {
			buf = append(buf, make([]byte, n)...)
		}
	}
}

// layout is struct prctl_mm_map of linux/prctl.h with our memory as it is, but for the descriptor at its end.
func layout() ([]byte, error) {
	const file = "/proc/self/stat"
	text, err := readAll(file)
	if err != nil {
		return nil, err
	}
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	// The numbers of proc_pid_stat(5): code, data, the break twice for it doesn't tell its end, stack, arguments, environment.
	var list []byte
	for _, number := range []int{26, 27, 45, 46, 47, 47, 28, 48, 49, 50, 51} {
		const first = 3 // of those behind the command's name
		if number-first >= len(fields) {
			return nil, fmt.Errorf("%s: no field %d", file, number)
		}
		word, err := strconv.ParseUint(fields[number-first], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%s: field %d: %w", file, number, err)
		}
		list = binary.NativeEndian.AppendUint64(list, word)
	}
	return append(list, make([]byte, 8+4)...), nil // no auxiliary vector
}

// instructions exchange the file in a child. It covers all that its memory shows of the file, the code that is running
// with the same code from the copy, the rest with nothing; then it may call the copy its executable, PR_SET_MM_MAP(2const).
func (e *exchange) instructions() []stub.Instr {
	list := make([]stub.Instr, 0, len(e.mapped)+3)
	cover := func(start, end uint64, protection, flags, file int) {
		if start < end {
			list = append(list, stub.Instr{Sys: unix.SYS_MMAP, Args: []stub.Arg{
				stub.Int(start), stub.Int(end - start), stub.Int(protection), stub.Int(unix.MAP_PRIVATE | unix.MAP_FIXED | flags), stub.Int(file), stub.Int(0),
			}})
		}
	}
	for _, m := range e.mapped {
		from, to := min(max(e.code, m.start), m.end), max(min(e.code+uint64(e.size), m.end), m.start)
		if from >= to {
			cover(m.start, m.end, m.protection, unix.MAP_ANONYMOUS, -1)
			continue
		}
		cover(m.start, from, m.protection, unix.MAP_ANONYMOUS, -1)
		cover(from, to, unix.PROT_READ|unix.PROT_EXEC, 0, e.file)
		cover(to, m.end, m.protection, unix.MAP_ANONYMOUS, -1)
	}
	layout := binary.NativeEndian.AppendUint32(e.layout[:len(e.layout):len(e.layout)], uint32(e.file))
	return append(list, stub.Instr{Sys: unix.SYS_PRCTL, Args: []stub.Arg{
		stub.Int(unix.PR_SET_MM), stub.Int(unix.PR_SET_MM_MAP), stub.Bytes(layout), stub.Int(len(layout)), stub.Int(0),
	}})
}
