package stub

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// RecordSize is the length of a record in bytes.
const RecordSize = 8

// Record is what the child tells its parent. Event is the number of an instruction that failed with Errno, or one of
// the events below (Errno is 0 then).
type Record struct {
	Event uint32
	Errno unix.Errno
}

// Events that are not failures.
const (
	Ready     uint32 = 0xffffffff // everything is set up; the child waits for the start byte or executes
	Paused    uint32 = 0xfffffffe // the parent has something to do, run hooks for one; the child waits for a byte
	Cloned    uint32 = 0xfffffffd // the child has made another one, whose process ID is in the place of the errno, and ends
	Listening uint32 = 0xfffffffc // a seccomp filter with a listener is loaded; the child goes on, as far as the agent lets it
)

// Failed says whether r reports an instruction that failed.
func (r Record) Failed() bool { return r.Event < Listening }

// Encode gives r's bytes on the wire.
func (r Record) Encode() []byte {
	b := make([]byte, 0, RecordSize)
	b = binary.NativeEndian.AppendUint32(b, r.Event)
	return binary.NativeEndian.AppendUint32(b, uint32(r.Errno))
}

// DecodeRecord is the inverse of Encode. Errors: b has not RecordSize bytes.
func DecodeRecord(b []byte) (Record, error) {
	if len(b) != RecordSize {
		return Record{}, fmt.Errorf("record of %d bytes, want %d", len(b), RecordSize)
	}
	return Record{binary.NativeEndian.Uint32(b), unix.Errno(binary.NativeEndian.Uint32(b[4:]))}, nil
}
