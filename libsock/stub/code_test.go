package stub

import (
	"os"
	"reflect"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

func TestCall(t *testing.T) {
	if pid, errno := call(unix.SYS_GETPID, 0, 0, 0, 0, 0, 0); int(pid) != os.Getpid() || errno != 0 {
		t.Errorf("getpid: %d, errno %d", pid, errno)
	}
	if result, errno := call(unix.SYS_CLOSE, ^uintptr(0), 0, 0, 0, 0, 0); result != ^uintptr(0) || unix.Errno(errno) != unix.EBADF {
		t.Errorf("close of -1: %d, errno %d", result, errno)
	}
	// All six arguments arrive: the fourth is where a call and a system call differ.
	fd, err := unix.MemfdCreate("call", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Ftruncate(fd, 3*int64(os.Getpagesize())); err != nil {
		t.Fatal(err)
	}
	page := uintptr(os.Getpagesize())
	address, errno := call(unix.SYS_MMAP, 0, page, unix.PROT_READ, unix.MAP_PRIVATE, uintptr(fd), 2*page)
	if errno != 0 {
		t.Fatalf("mmap: errno %d", errno)
	}
	if _, errno := call(unix.SYS_MUNMAP, address, page, 0, 0, 0, 0); errno != 0 {
		t.Errorf("munmap: errno %d", errno)
	}
}

// TestCode looks whether all of each function is among the pages, whatever the compiler made of it.
func TestCode(t *testing.T) {
	address, code := Code(os.Getpagesize())
	if address%uint64(os.Getpagesize()) != 0 || len(code)%os.Getpagesize() != 0 || len(code) > 1<<20 {
		t.Errorf("%d bytes at %#x", len(code), address)
	}
	for _, f := range []any{run, fail, call} {
		entry := reflect.ValueOf(f).Pointer()
		end := entry
		for runtime.FuncForPC(end) != nil && runtime.FuncForPC(end).Entry() == entry {
			end++
		}
		name := runtime.FuncForPC(entry).Name()
		if end-entry >= largest {
			t.Errorf("%s has %d bytes, which is more than %d", name, end-entry, largest)
		}
		if uint64(entry) < address || uint64(end) > address+uint64(len(code)) {
			t.Errorf("%s, from %#x to %#x, is not in the %d bytes from %#x", name, entry, end, len(code), address)
		}
	}
}
