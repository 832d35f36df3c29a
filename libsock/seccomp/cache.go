package seccomp

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync/atomic"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// compilerVersion is part of every key. Raise it with each change to what Compile produces, tables.go included.
const compilerVersion = 1

// A cache file is a header, then the instructions as struct sock_filter in the byte order of the machine.
const (
	cacheMagic      = "sockBPF\x01"
	headerSize      = len(cacheMagic) + 2*sha256.Size + 8
	instructionSize = 8
	maxCacheFile    = headerSize + maxInstructions*instructionSize
)

// Cached is Compile with a cache in a directory, which is made if only its last element is missing. The cache is used
// if the directory and the file in it belong to our effective user, nobody else may write them, and the program in it
// is whole and well-formed; else the profile is compiled and the file replaced. Errors are those of Compile alone.
func Cached(dir string, p *specs.LinuxSeccomp) (*Program, error) {
	if isEmpty(p) {
		return nil, nil
	}
	dirfd, err := openCache(dir)
	if err != nil {
		return Compile(p)
	}
	defer unix.Close(dirfd)
	key := profileKey(p, nativeArch())
	name := hex.EncodeToString(key[:])
	if program, err := readCache(dirfd, name, key); err == nil {
		return program, nil
	}
	program, err := Compile(p)
	if err != nil {
		return nil, err
	}
	// Without the file the next container compiles again: no reason to fail this one.
	_ = writeCache(dirfd, name, key, program)
	return program, nil
}

// openCache opens the directory if it is trustworthy.
func openCache(dir string) (fd int, err error) {
	const flags = unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err = unix.Open(dir, flags, 0)
	if err == unix.ENOENT {
		if err := unix.Mkdir(dir, 0o700); err != nil && err != unix.EEXIST {
			return -1, err
		}
		fd, err = unix.Open(dir, flags, 0)
	}
	if err != nil {
		return -1, err
	}
	if _, err := ownedByUs(fd, unix.S_IFDIR); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// ownedByUs gives the size of an open file, if it is of that type (S_IF*) and in our hands alone.
func ownedByUs(fd int, fileType uint32) (size int64, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return 0, err
	}
	if st.Mode&unix.S_IFMT != fileType || st.Uid != uint32(os.Geteuid()) || st.Mode&0o022 != 0 {
		return 0, fmt.Errorf("owner %d, mode %#o", st.Uid, st.Mode)
	}
	return st.Size, nil
}

func readCache(dirfd int, name string, key [sha256.Size]byte) (*Program, error) {
	// O_NONBLOCK: a FIFO in the place of the file must not stop us.
	fd, err := unix.Openat(dirfd, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	size, err := ownedByUs(fd, unix.S_IFREG)
	if err != nil {
		return nil, err
	}
	if size > int64(maxCacheFile) {
		return nil, fmt.Errorf("%d bytes", size)
	}
	b := make([]byte, size)
	if n, err := unix.Read(fd, b); err != nil || n != len(b) {
		return nil, fmt.Errorf("read %d of %d bytes: %w", n, len(b), err)
	}
	return decode(b, key)
}

// encode gives the bytes of a cache file: magic, key, a checksum of what follows, flags, the number of instructions,
// the instructions.
func encode(key [sha256.Size]byte, p *Program) []byte {
	b := make([]byte, 0, headerSize+len(p.Filter)*instructionSize)
	b = append(b, cacheMagic...)
	b = append(b, key[:]...)
	b = append(b, make([]byte, sha256.Size)...)
	checked := len(b)
	b = binary.NativeEndian.AppendUint32(b, uint32(p.Flags))
	b = binary.NativeEndian.AppendUint32(b, uint32(len(p.Filter)))
	for _, i := range p.Filter {
		b = binary.NativeEndian.AppendUint16(b, i.Code)
		b = append(b, i.Jt, i.Jf)
		b = binary.NativeEndian.AppendUint32(b, i.K)
	}
	sum := sha256.Sum256(b[checked:])
	copy(b[checked-sha256.Size:], sum[:])
	return b
}

// decode is the inverse of encode. Errors: b is not a file that encode made for the key.
func decode(b []byte, key [sha256.Size]byte) (*Program, error) {
	if len(b) < headerSize {
		return nil, errors.New("too short")
	}
	b, ok := bytes.CutPrefix(b, []byte(cacheMagic))
	if !ok {
		return nil, errors.New("not a cache file")
	}
	if !bytes.Equal(b[:sha256.Size], key[:]) {
		return nil, errors.New("another profile's")
	}
	sum, b := b[sha256.Size:2*sha256.Size], b[2*sha256.Size:]
	if want := sha256.Sum256(b); !bytes.Equal(sum, want[:]) {
		return nil, errors.New("checksum")
	}
	p := &Program{Flags: uint(binary.NativeEndian.Uint32(b))}
	p.Notify = p.Flags&unix.SECCOMP_FILTER_FLAG_NEW_LISTENER != 0
	length := binary.NativeEndian.Uint32(b[4:])
	b = b[8:]
	if uint64(len(b)) != uint64(length)*instructionSize {
		return nil, errors.New("length")
	}
	p.Filter = make([]unix.SockFilter, length)
	for i := range p.Filter {
		at := b[i*instructionSize:]
		p.Filter[i] = unix.SockFilter{Code: binary.NativeEndian.Uint16(at), Jt: at[2], Jf: at[3], K: binary.NativeEndian.Uint32(at[4:])}
	}
	return p, verify(p.Filter)
}

// temporaries makes the names of files that are being written unique in this process.
var temporaries atomic.Uint32

// writeCache replaces the file in one step, so that a reader sees the old one or the new one.
func writeCache(dirfd int, name string, key [sha256.Size]byte, p *Program) error {
	temporary := ".new-" + strconv.Itoa(os.Getpid()) + "-" + strconv.FormatUint(uint64(temporaries.Add(1)), 10)
	fd, err := unix.Openat(dirfd, temporary, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err == unix.EEXIST {
		// Left behind by a process that was killed and had our number. Next time.
		return unix.Unlinkat(dirfd, temporary, 0)
	}
	if err != nil {
		return err
	}
	b := encode(key, p)
	n, err := unix.Write(fd, b)
	if closeErr := unix.Close(fd); err == nil {
		err = closeErr
	}
	if err == nil && n != len(b) {
		err = unix.ENOSPC
	}
	if err == nil {
		err = unix.Renameat(dirfd, temporary, dirfd, name)
	}
	if err != nil {
		_ = unix.Unlinkat(dirfd, temporary, 0)
	}
	return err
}

// profileKey is a hash of all that Compile depends on. The kernel is not part of it: every flag and action that
// compiles exists since 5.14 or is refused when the filter is loaded.
func profileKey(p *specs.LinuxSeccomp, native specs.Arch) [sha256.Size]byte {
	e := encoder(make([]byte, 0, 8<<10))
	e.number(compilerVersion)
	e.string(string(native))
	e.string(string(p.DefaultAction))
	e.optional(p.DefaultErrnoRet)
	e.number(uint64(len(p.Architectures)))
	for _, arch := range p.Architectures {
		e.string(string(arch))
	}
	e.bool(p.Flags != nil)
	e.number(uint64(len(p.Flags)))
	for _, flag := range p.Flags {
		e.string(string(flag))
	}
	e.bool(p.ListenerPath != "")
	e.bool(p.ListenerMetadata != "")
	e.number(uint64(len(p.Syscalls)))
	for i := range p.Syscalls {
		s := &p.Syscalls[i]
		e.number(uint64(len(s.Names)))
		for _, name := range s.Names {
			e.string(name)
		}
		e.string(string(s.Action))
		e.optional(s.ErrnoRet)
		e.number(uint64(len(s.Args)))
		for _, arg := range s.Args {
			e.number(uint64(arg.Index))
			e.number(arg.Value)
			e.number(arg.ValueTwo)
			e.string(string(arg.Op))
		}
	}
	return sha256.Sum256(e)
}

// encoder writes values so that different sequences of them never give the same bytes.
type encoder []byte

func (e *encoder) number(n uint64) { *e = binary.AppendUvarint(*e, n) }

func (e *encoder) string(s string) {
	e.number(uint64(len(s)))
	*e = append(*e, s...)
}

func (e *encoder) bool(b bool) {
	if b {
		e.number(1)
	} else {
		e.number(0)
	}
}

func (e *encoder) optional(n *uint) {
	e.bool(n != nil)
	if n != nil {
		e.number(uint64(*n))
	}
}
