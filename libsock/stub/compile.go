package stub

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// maxErrnos is how many errnos an instruction can name; fixed, so that op is plain memory.
const maxErrnos = 8

// op is an instruction in the form that the child reads.
type op struct {
	sys     uintptr
	args    [6]uintptr
	slotted uint8 // bit i: args[i] is the number of a slot
	into    int16 // slot for the result, or -1
	exact   bool
	tries   uint8
	want    uintptr
	errnos  [maxErrnos]uint16
	onErrno [maxErrnos]int32 // where to go on for each of errnos
	then    int32
}

// Program is a compiled list of instructions with the bytes that their arguments point to. Where those will be in memory is
// known only at its start, so pointers are noted, to be filled in then.
type Program struct {
	ops    []op
	lineOf []int32
	bytes  []byte
	report int // descriptor
	// argPointers are (op, argument, offset), dataPointers (offset of the pointer, offset of what it points to).
	argPointers  [][3]int
	dataPointers [][2]int
}

// Line returns which of Compile's lines the record's instruction stands in.
func (p *Program) Line(r Record) int { return int(p.lineOf[r.Event]) }

// compiler fills a program.
type compiler struct {
	*Program
	fds     map[string]int
	cloned  int               // offset of the record that a clone fills in; the first of all bytes
	scratch int               // offset of the scratch memory, if somebody uses it
	vectors map[*[]string]int // offsets of those that are there: one for all directories of a PATH
}

// Compile makes a program of lines; jumps stay within a line. fds gives the parent's descriptors by name; report is the
// descriptor for records. Errors name the line.
func Compile(lines [][]Instr, fds map[string]int, report int) (*Program, error) {
	n := 0
	for _, line := range lines {
		n += len(line)
	}
	c := compiler{
		Program: &Program{
			ops: make([]op, 0, n), lineOf: make([]int32, 0, n), bytes: make([]byte, 0, 16<<10), report: report, argPointers: make([][3]int, 0, n),
		},
		fds:     fds,
		vectors: map[*[]string]int{},
	}
	c.cloned = c.data(Record{Event: Cloned}.Encode())
	for i, line := range lines {
		if err := c.line(i, line); err != nil {
			return nil, fmt.Errorf("line %d: %w", i, err)
		}
	}
	return c.Program, nil
}

func (c *compiler) line(number int, line []Instr) error {
	first := len(c.ops)
	for i, in := range line {
		o := op{sys: in.Sys, into: -1, exact: in.Exact, want: uintptr(in.Want), tries: in.Tries}
		if in.Keep {
			o.into = int16(in.Into)
		}
		if len(in.Args) > len(o.args) || len(in.On) > maxErrnos || in.Into >= Slots {
			return fmt.Errorf("instruction %d: too many arguments, errnos or slots", i)
		}
		var err error
		for j, branch := range in.On {
			o.errnos[j] = uint16(branch.Errno)
			if o.onErrno[j], err = target(line, first, i, branch.Label); err != nil {
				return err
			}
		}
		if o.then, err = target(line, first, i, in.Then); err != nil {
			return err
		}
		for j, a := range in.Args {
			if err := c.arg(&o, j, a); err != nil {
				return fmt.Errorf("instruction %d: %w", i, err)
			}
		}
		c.ops = append(c.ops, o)
		c.lineOf = append(c.lineOf, int32(number))
	}
	return nil
}

// target finds where label stands behind instruction i.
func target(line []Instr, first, i int, label string) (int32, error) {
	switch label {
	case "":
		return int32(first + i + 1), nil
	case End: // not searched for: lines may be long
		return int32(first + len(line)), nil
	}
	for j := i + 1; j < len(line); j++ {
		if line[j].Label == label {
			return int32(first + j), nil
		}
	}
	return 0, fmt.Errorf("instruction %d: no label %q behind it", i, label)
}

func (c *compiler) arg(o *op, i int, a Arg) error {
	switch a.kind {
	case argInt:
		o.args[i] = uintptr(a.num)
	case argSlot:
		o.args[i] = uintptr(a.num)
		o.slotted |= 1 << i
	case argFD:
		fd, err := c.fd(a.text)
		if err != nil {
			return err
		}
		o.args[i] = uintptr(fd)
	case argText:
		c.pointArg(i, c.text(a.text))
	case argBytes:
		c.pointArg(i, c.data([]byte(a.text)))
	case argClone:
		c.pointArg(i, c.cloneArgs(uint64(a.num)))
	case argCloned:
		c.pointArg(i, c.cloned)
	case argScratch:
		if c.scratch == 0 {
			c.scratch = c.data(make([]byte, ScratchSize))
		}
		c.pointArg(i, c.scratch)
	case argFilter:
		c.pointArg(i, c.filter(a.text))
	case argVector:
		if c.vectors[a.list] == 0 {
			c.vectors[a.list] = c.vector(*a.list)
		}
		c.pointArg(i, c.vectors[a.list])
	case argRights:
		fd, err := c.fd((*a.list)[0])
		if err != nil {
			return err
		}
		c.pointArg(i, c.rights(a.text, fd))
	}
	return nil
}

func (c *compiler) fd(name string) (int, error) {
	fd, ok := c.fds[name]
	if !ok {
		return -1, fmt.Errorf("no descriptor %q", name)
	}
	return fd, nil
}

func (c *compiler) pointArg(arg, offset int) {
	c.argPointers = append(c.argPointers, [3]int{len(c.ops), arg, offset})
}

// data appends b to the bytes, at an 8-byte boundary.
func (c *compiler) data(b []byte) int {
	for len(c.bytes)%8 != 0 {
		c.bytes = append(c.bytes, 0)
	}
	offset := len(c.bytes)
	c.bytes = append(c.bytes, b...)
	return offset
}

func (c *compiler) text(s string) int {
	offset := len(c.bytes)
	c.bytes = append(c.bytes, s...)
	c.bytes = append(c.bytes, 0)
	return offset
}

func (c *compiler) vector(list []string) int {
	offset := c.data(make([]byte, 8*(len(list)+1)))
	for i, s := range list {
		c.dataPointers = append(c.dataPointers, [2]int{offset + 8*i, c.text(s)})
	}
	return offset
}

// rights lays out the msghdr, iovec and cmsghdr of sendmsg(2) as a 64-bit kernel reads them.
func (c *compiler) rights(text string, fd int) int {
	control := c.data(unix.UnixRights(fd))
	payload := c.data([]byte(text))
	iovec := c.data(binary.NativeEndian.AppendUint64(make([]byte, 8), uint64(len(text))))
	header := make([]byte, 0, 56)
	for _, word := range []uint64{0, 0, 0, 1, 0, uint64(unix.CmsgSpace(4)), 0} { // name, namelen, iov, iovlen, control, controllen, flags
		header = binary.NativeEndian.AppendUint64(header, word)
	}
	offset := c.data(header)
	c.dataPointers = append(c.dataPointers, [2]int{iovec, payload}, [2]int{offset + 16, iovec}, [2]int{offset + 32, control})
	return offset
}

// cloneArgs lays out struct clone_args: flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid,
// set_tid_size, cgroup.
func (c *compiler) cloneArgs(flags uint64) int {
	const parentTID = 3 * 8
	args := binary.NativeEndian.AppendUint64(make([]byte, 0, CloneArgsSize), flags|unix.CLONE_PARENT|unix.CLONE_PARENT_SETTID)
	offset := c.data(args[:CloneArgsSize])
	c.dataPointers = append(c.dataPointers, [2]int{offset + parentTID, c.cloned + 4})
	return offset
}

// filter lays out struct sock_fprog.
func (c *compiler) filter(program string) int {
	const instruction = 8 // bytes of a struct sock_filter
	target := c.data([]byte(program))
	header := binary.NativeEndian.AppendUint16(make([]byte, 0, 16), uint16(len(program)/instruction))
	offset := c.data(header[:16])
	c.dataPointers = append(c.dataPointers, [2]int{offset + 8, target})
	return offset
}
