package events

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"

	"golang.org/x/sys/unix"
)

// journal is a file of records that were added and not yet taken off, for the next process after a kill. It begins with the
// offset of the first record that counts; a record is its length, its checksum and its bytes, numbers in the machine's order.
//
// What was written survives the death of the process, not that of the machine, which ends the containers, too.
type journal struct {
	file  *os.File
	path  string
	first int64   // offset of the first record that counts
	end   int64   // offset behind the last
	sizes []int64 // of the records that count
}

const (
	journalHeader = 8
	recordHeader  = 8
	// compactAt is how much may stand in front of the first record that counts, in bytes.
	compactAt = 1 << 20
)

// openJournal opens or makes the file and returns what counts in it.
func openJournal(path string) (*journal, [][]byte, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, nil, fmt.Errorf("open event journal: %w", err)
	}
	j := &journal{file: f, path: path}
	records, err := j.read()
	if err != nil {
		f.Close()
		return nil, nil, fmt.Errorf("read event journal: %w", err)
	}
	return j, records, nil
}

// read finds the records. The last may be torn: then nobody was told that it is there.
func (j *journal) read() ([][]byte, error) {
	data, err := os.ReadFile(j.path)
	if err != nil {
		return nil, err
	}
	if len(data) >= journalHeader {
		j.first = int64(binary.NativeEndian.Uint64(data))
	}
	if j.first < journalHeader || j.first > int64(len(data)) {
		return nil, j.reset() // new, or killed between reset's two steps
	}
	var records [][]byte
	for at := j.first; ; {
		rest := data[at:]
		if len(rest) < recordHeader {
			j.end = at
			break
		}
		length := int64(binary.NativeEndian.Uint32(rest))
		if int64(len(rest)) < recordHeader+length ||
			crc32.ChecksumIEEE(rest[recordHeader:recordHeader+length]) != binary.NativeEndian.Uint32(rest[4:]) {
			j.end = at
			break
		}
		records = append(records, rest[recordHeader:recordHeader+length])
		j.sizes = append(j.sizes, recordHeader+length)
		at += recordHeader + length
	}
	return records, j.file.Truncate(j.end)
}

// add writes a record.
func (j *journal) add(record []byte) error {
	b := binary.NativeEndian.AppendUint32(make([]byte, 0, recordHeader+len(record)), uint32(len(record)))
	b = binary.NativeEndian.AppendUint32(b, crc32.ChecksumIEEE(record))
	b = append(b, record...)
	if _, err := j.file.WriteAt(b, j.end); err != nil {
		return fmt.Errorf("write event journal: %w", err)
	}
	j.sizes = append(j.sizes, int64(len(b)))
	j.end += int64(len(b))
	return nil
}

// drop takes the first record off.
func (j *journal) drop() error {
	j.first += j.sizes[0]
	j.sizes = j.sizes[1:]
	switch {
	case len(j.sizes) == 0:
		return j.reset()
	case j.first > compactAt:
		return j.compact()
	default:
		return j.writeFirst(j.file)
	}
}

func (j *journal) writeFirst(f *os.File) error {
	var b [journalHeader]byte
	binary.NativeEndian.PutUint64(b[:], uint64(j.first))
	if _, err := f.WriteAt(b[:], 0); err != nil {
		return fmt.Errorf("write event journal: %w", err)
	}
	return nil
}

// reset empties the file. The size goes first: an offset beyond it tells the reader that there is nothing.
func (j *journal) reset() error {
	j.first, j.end, j.sizes = journalHeader, journalHeader, nil
	if err := j.file.Truncate(0); err != nil {
		return fmt.Errorf("empty event journal: %w", err)
	}
	return j.writeFirst(j.file)
}

// compact writes what counts into a new file.
func (j *journal) compact() error {
	data := make([]byte, j.end-j.first)
	if _, err := j.file.ReadAt(data, j.first); err != nil {
		return fmt.Errorf("compact event journal: %w", err)
	}
	f, err := os.OpenFile(j.path+".new", os.O_RDWR|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return fmt.Errorf("compact event journal: %w", err)
	}
	first := j.first
	j.first = journalHeader
	if err = j.writeFirst(f); err == nil {
		_, err = f.WriteAt(data, journalHeader)
	}
	if err == nil {
		err = os.Rename(j.path+".new", j.path)
	}
	if err != nil {
		j.first = first
		f.Close()
		return fmt.Errorf("compact event journal: %w", err)
	}
	j.file.Close()
	j.file, j.end = f, journalHeader+int64(len(data))
	return nil
}
