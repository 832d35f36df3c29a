package coldfile

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestRead(t *testing.T) {
	name := filepath.Join(t.TempDir(), "file")
	for _, size := range []int{0, 1, bytes.MinRead, 100_000} {
		want := bytes.Repeat([]byte("x"), size)
		if err := os.WriteFile(name, want, 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := Read(unix.AT_FDCWD, name, 0, int64(size), nil)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes: %d, %v", size, len(got), err)
		}
	}
	if got, err := Read(unix.AT_FDCWD, name, 0, 99_999, nil); err == nil {
		t.Errorf("read %d bytes, want an error beyond 99999", len(got))
	}
	refused := errors.New("refused")
	if _, err := Read(unix.AT_FDCWD, name, 0, 1<<20, func(st *unix.Stat_t) error {
		if st.Size != 100_000 {
			t.Errorf("size is %d", st.Size)
		}
		return refused
	}); err != refused {
		t.Errorf("refused by check: %v", err)
	}
	if err := os.Symlink(name, name+"link"); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(unix.AT_FDCWD, name+"link", unix.O_NOFOLLOW, 1<<20, nil); err != unix.ELOOP {
		t.Errorf("a link that isn't followed: %v", err)
	}
}

// A file such as those of /proc says that it is empty: the bound must hold by what is read.
func TestReadBoundedByContent(t *testing.T) {
	if data, err := Read(unix.AT_FDCWD, "/proc/self/status", 0, 16, nil); err == nil {
		t.Errorf("read %d bytes of /proc/self/status, want an error beyond 16", len(data))
	}
}
