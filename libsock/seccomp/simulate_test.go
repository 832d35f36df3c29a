package seccomp

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Data is struct seccomp_data without the instruction pointer.
type Data struct {
	Nr   uint32
	Arch uint32
	Args [6]uint64
}

// Simulate runs a filter as the kernel does, for a machine of either byte order. It panics where the kernel would refuse
// the filter.
func Simulate(filter []unix.SockFilter, data *Data, bigEndian bool) uint32 {
	var acc uint32
	for pc := 0; ; pc++ {
		i := &filter[pc]
		taken := false
		switch i.Code {
		case opLoad:
			acc = data.word(i.K, bigEndian)
			continue
		case opAnd:
			acc &= i.K
			continue
		case opReturn:
			return i.K
		case opJump:
			pc += int(i.K)
			continue
		case opEqual:
			taken = acc == i.K
		case opGreater:
			taken = acc > i.K
		case opGreaterEqual:
			taken = acc >= i.K
		default:
			panic(fmt.Sprintf("instruction %d: %+v", pc, *i))
		}
		if taken {
			pc += int(i.Jt)
		} else {
			pc += int(i.Jf)
		}
	}
}

// word gives four bytes of the structure.
func (d *Data) word(offset uint32, bigEndian bool) uint32 {
	switch {
	case offset == offsetNr:
		return d.Nr
	case offset == offsetArch:
		return d.Arch
	case offset < offsetArgs || offset >= sizeOfData || offset%4 != 0:
		panic(fmt.Sprintf("load of offset %d", offset))
	}
	arg := d.Args[(offset-offsetArgs)/8]
	if (offset%8 == 0) == bigEndian {
		return uint32(arg >> 32)
	}
	return uint32(arg)
}
