package jsonfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

type thing struct{ Name string }

func TestWrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x")
	var got thing
	if err := Read(path, &got); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("before it was written: %v", err)
	}
	for _, name := range []string{strings.Repeat("long", 1000), "short"} {
		if err := Write(path, thing{name}); err != nil {
			t.Fatal(err)
		}
		if err := Read(path, &got); err != nil || got.Name != name {
			t.Errorf("read %q, %v", got.Name, err)
		}
	}
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Read(path, &got); err == nil {
		t.Errorf("half a record: %v", err)
	}
}

// TestFullDisk checks that what was there stays, and nothing else.
func TestFullDisk(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to mount a small tmpfs")
	}
	dir := t.TempDir()
	if err := unix.Mount("small", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("mount tmpfs: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	path := filepath.Join(dir, "x")
	if err := Write(path, thing{"old"}); err != nil {
		t.Fatal(err)
	}
	if err := Write(path, thing{strings.Repeat("new", 100_000)}); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("want ENOSPC: %v", err)
	}
	var got thing
	if err := Read(path, &got); err != nil || got.Name != "old" {
		t.Errorf("read %q, %v", got.Name, err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("left: %v", left)
	}
}
