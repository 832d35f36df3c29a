// Package wire is what a shim's keeper and worker say to each other over a stream socket, and the little of ttrpc's protocol
// that the keeper has to know: where a frame ends and what it answers.
//
// A message is a header of 16 bytes, all numbers big-endian, and a payload. Held and Hold carry a descriptor (SCM_RIGHTS).
package wire

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Kind says what a message is.
type Kind uint8

// From keeper to worker.
const (
	Held   Kind = iota + 1 // a descriptor that an earlier worker left; the payload is its name
	Ready                  // all that was held has been sent
	Open                   // a connection came; the payload is one byte, the listener
	Exited                 // a child ended; the payload is an Exit

	// From worker to keeper.

	Ack     // the exit with this payload may be forgotten
	Hold    // keep the descriptor under the payload's name
	Drop    // close the descriptor of this name
	Quit    // end, if no connection is open
	Upgrade // execute the keeper that the payload names

	// Both ways.

	Frame // a whole frame of a connection
	Close // a connection ended
	Sync  // the keeper sends it back; Conn tells which it is

	// From worker to keeper.

	HoldFIFO // open the FIFO of HoldFIFOPayload and keep it; Sync comes back with the same Conn and, if that failed, an errno

	lastKind = HoldFIFO
)

// HeaderSize is the length of a message's header: 4 bytes the payload's length, 1 its kind, 3 of zero, 8 the connection.
const HeaderSize = 16

// MaxPayload is the longest payload: the longest frame.
const MaxPayload = FrameHeader + MaxFrame

// Message is one message. FD is -1 where none belongs to it.
type Message struct {
	Kind    Kind
	Conn    uint64
	Payload []byte
	FD      int
}

// carriesFD says which kinds come with a descriptor.
func (k Kind) carriesFD() bool { return k == Held || k == Hold }

// Append appends the encoded message to b. The descriptor has to be sent with the first byte.
func Append(b []byte, m Message) []byte {
	b = append32(b, uint32(len(m.Payload)))
	b = append(b, byte(m.Kind), 0, 0, 0)
	b = append64(b, m.Conn)
	return append(b, m.Payload...)
}

// Decoder makes messages of a stream's bytes and descriptors, however they were split.
type Decoder struct {
	buf []byte
	fds []int
}

// Feed takes bytes, and the descriptors that came with them.
func (d *Decoder) Feed(data []byte, fds []int) {
	d.buf = append(d.buf, data...)
	d.fds = append(d.fds, fds...)
}

// Next returns the next message whose bytes are complete; ok says whether there was one. Its payload is valid until Feed. An
// error is for good: where the next message begins isn't known.
func (d *Decoder) Next() (m Message, ok bool, err error) {
	if len(d.buf) < HeaderSize {
		d.compact()
		return Message{}, false, nil
	}
	length := uint32At(d.buf)
	m = Message{Kind: Kind(d.buf[4]), Conn: uint64At(d.buf[8:]), FD: -1}
	if length > MaxPayload {
		return Message{}, false, fmt.Errorf("message of %d bytes", length)
	}
	if m.Kind == 0 || m.Kind > lastKind {
		return Message{}, false, fmt.Errorf("message of unknown kind %d", m.Kind)
	}
	end := HeaderSize + int(length)
	if len(d.buf) < end {
		d.compact()
		return Message{}, false, nil
	}
	if m.Kind.carriesFD() {
		if len(d.fds) == 0 {
			return Message{}, false, errors.New("message without its descriptor")
		}
		m.FD, d.fds = d.fds[0], d.fds[1:]
	}
	m.Payload, d.buf = d.buf[HeaderSize:end:end], d.buf[end:]
	return m, true, nil
}

// compact lets go of memory that a large message needed.
func (d *Decoder) compact() {
	if len(d.buf) == 0 {
		d.buf = nil
	}
}

// Close closes descriptors whose message never came in full.
func (d *Decoder) Close() {
	for _, fd := range d.fds {
		_ = unix.Close(fd)
	}
	d.fds, d.buf = nil, nil
}

// AppendHoldFIFO encodes what a HoldFIFO asks for.
func AppendHoldFIFO(b []byte, name, path string) []byte {
	return append(append(append(b, name...), 0), path...)
}

// DecodeHoldFIFO decodes what a HoldFIFO asks for.
func DecodeHoldFIFO(b []byte) (name, path string, err error) {
	for i, c := range b {
		if c == 0 {
			return string(b[:i]), string(b[i+1:]), nil
		}
	}
	return "", "", errors.New("FIFO without a path")
}

// Exit is the end of a child.
type Exit struct {
	Pid int
	// Start is when the process began, in clock ticks since boot: field 22 of /proc/PID/stat. Pids are used again, a
	// pair of pid and start time is not. 0 if it could not be read.
	Start  uint64
	Status unix.WaitStatus
	At     time.Duration // when it was reaped, by CLOCK_BOOTTIME; taken before the pid was free again
	// Comm is the name that it had last, proc_pid_comm(5): a child that has not come to its execve has its worker's.
	Comm string
}

const exitSize = 32 // without the name

// AppendExit encodes an exit.
func AppendExit(b []byte, e Exit) []byte {
	b = append64(b, uint64(e.Pid))
	b = append64(b, e.Start)
	b = append64(b, uint64(e.Status))
	return append(append64(b, uint64(e.At)), e.Comm...)
}

// DecodeExit decodes an exit.
func DecodeExit(b []byte) (Exit, error) {
	if len(b) < exitSize {
		return Exit{}, fmt.Errorf("exit of %d bytes", len(b))
	}
	return Exit{
		Pid: int(uint64At(b)), Start: uint64At(b[8:]), Status: unix.WaitStatus(uint64At(b[16:])),
		At: time.Duration(uint64At(b[24:])), Comm: string(b[exitSize:]),
	}, nil
}

func append32(b []byte, n uint32) []byte {
	return append(b, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
}

func append64(b []byte, n uint64) []byte { return append32(append32(b, uint32(n>>32)), uint32(n)) }

func uint32At(b []byte) uint32 {
	return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
}

func uint64At(b []byte) uint64 { return uint64(uint32At(b))<<32 | uint64(uint32At(b[4:])) }
