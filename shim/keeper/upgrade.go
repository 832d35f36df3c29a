package keeper

import (
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sock-runtime/sock/shim/wire"
)

// An upgrade executes another keeper in this process: it stays the parent of all children, and descriptors stay open. What it
// has to know of them is in tables, a memfd, as a list of records.

// record is one entry. What a and b are depends on the tag.
type record struct {
	tag  byte
	a, b uint64
	data []byte
}

const (
	tagVersion  = iota + 1 // a
	tagListener            // a: index, b: descriptor
	tagLast                // a: the last connection's id
	tagHeld                // a: descriptor, data: name
	tagExit                // data: wire.Exit
	tagConn                // a: id, b: descriptor, data: listener, and 1 if finished; what follows belongs to it:
	tagIn                  // data: part of a frame
	tagRequest             // data: a frame
	tagOut                 // data: bytes for the client
	tagEnd
)

// tablesVersion changes when an older keeper's tables can't be read any more.
const tablesVersion = 1

const recordHeader = 1 + 8 + 8 + 8

func appendRecord(b []byte, r record) []byte {
	b = append(b, r.tag)
	for _, n := range []uint64{r.a, r.b, uint64(len(r.data))} {
		b = append(b, byte(n>>56), byte(n>>48), byte(n>>40), byte(n>>32), byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	}
	return append(b, r.data...)
}

func nextRecord(b []byte) (r record, rest []byte, err error) {
	if len(b) < recordHeader {
		return record{}, nil, failure("tables", unix.EBADMSG)
	}
	number := func(at int) (n uint64) {
		for _, c := range b[at : at+8] {
			n = n<<8 | uint64(c)
		}
		return n
	}
	r = record{tag: b[0], a: number(1), b: number(9)}
	length, b := number(17), b[recordHeader:]
	if length > uint64(len(b)) {
		return record{}, nil, failure("tables", unix.EBADMSG)
	}
	r.data = b[:length:length]
	return r, b[length:], nil
}

// tables writes down all that the next keeper has to know.
func (k *keeper) tables() []byte {
	var b []byte
	add := func(tag byte, x, y uint64, data []byte) { b = appendRecord(b, record{tag, x, y, data}) }
	add(tagVersion, tablesVersion, 0, nil)
	for i, fd := range k.listening {
		add(tagListener, uint64(i), uint64(fd), nil)
	}
	add(tagLast, k.lastID, 0, nil)
	for name, fd := range k.held {
		add(tagHeld, uint64(fd), 0, []byte(name))
	}
	for _, e := range k.exits {
		add(tagExit, 0, 0, wire.AppendExit(nil, e))
	}
	for _, c := range k.sorted() {
		finished := byte(0)
		if c.finished {
			finished = 1
		}
		add(tagConn, c.id, uint64(c.fd), []byte{c.listener, finished})
		add(tagIn, 0, 0, c.in)
		for _, r := range c.requests {
			add(tagRequest, 0, 0, r)
		}
		add(tagOut, 0, 0, c.out)
	}
	add(tagEnd, 0, 0, nil)
	return b
}

// restore fills the keeper from tables. It touches no descriptor.
func (k *keeper) restore(b []byte) error {
	bad := failure("tables", unix.EBADMSG)
	var c *conn
	for {
		r, rest, err := nextRecord(b)
		if err != nil {
			return err
		}
		b = rest
		if c == nil && r.tag > tagConn && r.tag < tagEnd {
			return bad
		}
		switch r.tag {
		case tagVersion:
			if r.a != tablesVersion {
				return failure("tables of version "+strconv.FormatUint(r.a, 10), unix.ENOTSUP)
			}
		case tagListener:
			if r.a >= Listeners {
				return bad
			}
			k.listening[r.a] = int(r.b)
		case tagLast:
			k.lastID = r.a
		case tagHeld:
			k.held[string(r.data)] = int(r.a)
		case tagExit:
			e, err := wire.DecodeExit(r.data)
			if err != nil {
				return err
			}
			k.exits = append(k.exits, e)
		case tagConn:
			if len(r.data) != 2 {
				return bad
			}
			c = &conn{id: r.a, fd: int(r.b), listener: r.data[0], finished: r.data[1] == 1}
			k.conns[c.id], k.byFD[c.fd] = c, c
		case tagIn:
			c.in = append([]byte(nil), r.data...)
		case tagRequest:
			c.requests = append(c.requests, append([]byte(nil), r.data...))
			k.load += len(r.data)
		case tagOut:
			c.out = append([]byte(nil), r.data...)
		case tagEnd:
			return nil
		default:
			return bad
		}
	}
}

// become executes another keeper with all that this one has. There must be no worker. It returns only if it failed; then
// nothing has changed.
func (k *keeper) become(executable string) error {
	fd, err := unix.MemfdCreate("keeper", unix.MFD_CLOEXEC)
	if err != nil {
		return failure("memfd", err)
	}
	defer unix.Close(fd)
	for b := k.tables(); len(b) > 0; {
		n, err := unix.Write(fd, b)
		if err != nil {
			return failure("write tables", err)
		}
		b = b[n:]
	}
	if err := k.try(executable, fd); err != nil {
		return err
	}
	keep := []int{fd, k.listening[0], k.listening[1]}
	for _, h := range k.held {
		keep = append(keep, h)
	}
	for c := range k.byFD {
		keep = append(keep, c)
	}
	for _, fd := range keep {
		_, _ = unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0) // fails only for what isn't open
	}
	// A child that ends meanwhile is a zombie until the next keeper reaps it: watchChildren, whom this kills, only looks.
	err = syscall.Exec(executable, append(k.Keeper[:len(k.Keeper):len(k.Keeper)], strconv.Itoa(fd)), k.Env)
	for _, fd := range keep {
		unix.CloseOnExec(fd)
	}
	return failure("execute", err)
}

// try has the other keeper read the tables, as a child: what can't be executed, or doesn't understand them, isn't taken.
func (k *keeper) try(executable string, tables int) error {
	const fd = 3
	args := append(k.Keeper[:len(k.Keeper):len(k.Keeper)], strconv.Itoa(fd), "check")
	pid, err := syscall.ForkExec(executable, args, &syscall.ProcAttr{Env: k.Env, Files: []uintptr{0, 1, 2, uintptr(tables)}})
	if err != nil {
		return failure("execute", err)
	}
	for waited := time.Duration(0); ; waited += tryInterval {
		var status unix.WaitStatus
		ended, err := unix.Wait4(pid, &status, unix.WNOHANG, nil)
		if ended == pid {
			if !status.Exited() || status.ExitStatus() != 0 {
				return failure("try it: "+describe(status), unix.ENOTSUP)
			}
			return nil
		}
		if err != nil && err != unix.EINTR {
			return failure("try it", err)
		}
		if waited > tryTimeout {
			_ = unix.Kill(pid, unix.SIGKILL) // reaped with the others, as an orphan
			return failure("try it", unix.ETIMEDOUT)
		}
		time.Sleep(tryInterval)
	}
}

const (
	tryInterval = time.Millisecond
	tryTimeout  = 3 * time.Second
)

// Check reads tables and does nothing. Errors: those that Resume would fail with.
func Check(c Config, tables int) error {
	k := &keeper{Config: c, conns: map[uint64]*conn{}, byFD: map[int]*conn{}, held: map[string]int{}}
	b, err := readAll(tables)
	if err != nil {
		return err
	}
	return k.restore(b)
}

// Resume goes on where the keeper was that executed this one. tables is closed. Errors: as of Run, and tables that can't be
// read.
func Resume(c Config, tables int) error {
	k, err := setUp(c)
	if err != nil {
		return err
	}
	b, err := readAll(tables)
	if err != nil {
		return err
	}
	_ = unix.Close(tables)
	if err := k.restore(b); err != nil {
		return err
	}
	for _, fd := range k.held {
		unix.CloseOnExec(fd)
	}
	for _, c := range k.conns {
		unix.CloseOnExec(c.fd)
		if err := k.add(c); err != nil {
			return failure("connection", err)
		}
	}
	k.log("upgraded")
	return k.run()
}

func readAll(fd int) ([]byte, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, failure("tables", err)
	}
	b := make([]byte, st.Size)
	for at := 0; at < len(b); {
		n, err := unix.Pread(fd, b[at:], int64(at))
		if err != nil || n <= 0 {
			return nil, failure("read tables", err)
		}
		at += n
	}
	return b, nil
}
