package state

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func TestCheckID(t *testing.T) {
	for _, good := range []string{"a", "a_b+c-d.e", "0", strings.Repeat("x", maxID)} {
		if err := CheckID(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{"", ".", "..", "a/b", "../x", "a\x00", "a\n", "a b", "ä", ",new-1", strings.Repeat("x", maxID+1)} {
		if err := CheckID(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

// process is one that a state can have.
var process = &specs.Process{Args: []string{"true"}, Cwd: "/"}

func create(t *testing.T, root, id string) *Dir {
	t.Helper()
	d, err := Create(root, &State{ID: id, Bundle: "/b", Created: time.Unix(1, 0).UTC(), Process: process}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Unlock)
	return d
}

func TestLife(t *testing.T) {
	root := filepath.Join(t.TempDir(), "root")
	d := create(t, root, "c")
	s, err := Read(root, "c")
	if err != nil || !s.Creating || s.Pid != 0 || s.Bundle != "/b" {
		t.Fatalf("before the clone: %+v, %v", s, err)
	}
	want := Init{Pid: 12, StartTime: 34}
	if err := d.WriteInit(want); err != nil {
		t.Fatal(err)
	}
	if s, err = d.Refresh(root, s); err != nil || s.Init != want {
		t.Fatalf("after the clone: %+v, %v", s, err)
	}
	if _, err := Create(root, &State{ID: "c", Process: process}, nil); err != ErrExists {
		t.Errorf("second create: %v", err)
	}
	if ids, err := List(root); err != nil || len(ids) != 1 || ids[0] != "c" {
		t.Errorf("list: %q, %v", ids, err)
	}
	if err := d.Remove(); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(root, "c"); err != ErrNotExist {
		t.Errorf("read after remove: %v", err)
	}
	if _, err := Open(root, "c"); err != ErrNotExist {
		t.Errorf("open after remove: %v", err)
	}
	if left, _ := os.ReadDir(root); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestRefreshNoticesAnotherContainer reuses an ID between reading and locking.
func TestRefreshNoticesAnotherContainer(t *testing.T) {
	root := t.TempDir()
	if err := os.Chmod(root, 0o700); err != nil {
		t.Fatal(err)
	}
	d := create(t, root, "c")
	old, err := Read(root, "c")
	if err != nil {
		t.Fatal(err)
	}
	hold, err := os.Open(d.Path) // so that the inode number is not used again at once
	if err != nil {
		t.Fatal(err)
	}
	defer hold.Close()
	if err := d.Remove(); err != nil {
		t.Fatal(err)
	}
	d, err = Create(root, &State{ID: "c", Bundle: "/other", Process: process}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Unlock()
	if s, err := d.Refresh(root, old); err != nil || s.Bundle != "/other" {
		t.Errorf("got %+v, %v; want the new container's state", s, err)
	}
}

func TestLockSerialises(t *testing.T) {
	root := t.TempDir()
	create(t, root, "c").Unlock()
	var inside, most int
	var mu sync.Mutex
	var wait sync.WaitGroup
	for range 8 {
		wait.Add(1)
		go func() {
			defer wait.Done()
			d, err := Open(root, "c")
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			inside++
			most = max(most, inside)
			mu.Unlock()
			time.Sleep(time.Millisecond)
			mu.Lock()
			inside--
			mu.Unlock()
			d.Unlock()
		}()
	}
	wait.Wait()
	if most != 1 {
		t.Errorf("%d held the lock at once", most)
	}
}

// TestWaitingForADeletedContainer has Open wait for a lock whose directory goes away meanwhile.
func TestWaitingForADeletedContainer(t *testing.T) {
	root := t.TempDir()
	d := create(t, root, "c")
	got := make(chan error, 1)
	go func() {
		_, err := Open(root, "c")
		got <- err
	}()
	time.Sleep(10 * time.Millisecond)
	if err := d.Remove(); err != nil {
		t.Fatal(err)
	}
	if err := <-got; err != ErrNotExist {
		t.Errorf("got %v", err)
	}
}

func TestHostileDirectories(t *testing.T) {
	t.Run("state is a link", func(t *testing.T) {
		root := t.TempDir()
		create(t, root, "c").Unlock()
		name := filepath.Join(root, "c", fileName)
		if err := os.Rename(name, name+".real"); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(name+".real", name); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(root, "c"); err == nil {
			t.Error("followed")
		}
	})
	t.Run("container is a link", func(t *testing.T) {
		root := t.TempDir()
		create(t, root, "c").Unlock()
		if err := os.Symlink("c", filepath.Join(root, "d")); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(root, "d"); err == nil {
			t.Error("read followed")
		}
		if _, err := Open(root, "d"); err == nil {
			t.Error("open followed")
		}
	})
	t.Run("half a state", func(t *testing.T) {
		root := t.TempDir()
		create(t, root, "c").Unlock()
		if err := os.WriteFile(filepath.Join(root, "c", fileName), []byte(`{"id":"c"`), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(root, "c"); err == nil {
			t.Error("accepted")
		}
	})
	t.Run("another's state", func(t *testing.T) {
		root := t.TempDir()
		create(t, root, "c").Unlock()
		if err := os.Rename(filepath.Join(root, "c"), filepath.Join(root, "d")); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(root, "d"); err == nil {
			t.Error("accepted")
		}
	})
	t.Run("root for everyone to write", func(t *testing.T) {
		root := filepath.Join(t.TempDir(), "open")
		if err := os.Mkdir(root, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(root, 0o777); err != nil {
			t.Fatal(err)
		}
		if _, err := Create(root, &State{ID: "c", Process: process}, nil); err == nil {
			t.Error("accepted")
		}
	})
}

func TestStaleTemporariesAreRemoved(t *testing.T) {
	root := t.TempDir()
	dead := exec.Command("true")
	if err := dead.Run(); err != nil {
		t.Fatal(err)
	}
	for _, prefix := range []string{newPrefix, oldPrefix} {
		stale := filepath.Join(root, fmt.Sprintf("%s%d-c", prefix, dead.Process.Pid))
		ours := filepath.Join(root, fmt.Sprintf("%s%d-c", prefix, os.Getpid()))
		for _, dir := range []string{stale, ours} {
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := Read(root, "c"); err != ErrNotExist {
			t.Errorf("read: %v", err)
		}
		if _, err := os.Stat(stale); !os.IsNotExist(err) {
			t.Errorf("%s is still there", stale)
		}
		if _, err := os.Stat(ours); err != nil {
			t.Errorf("one that may still become a container was removed: %v", err)
		}
	}
}

func TestAlive(t *testing.T) {
	pid := os.Getpid()
	began, err := StartTime(pid)
	if err != nil {
		t.Fatal(err)
	}
	if !Alive(pid, began) || Alive(pid, began+1) || Alive(0, 0) {
		t.Error("wrong about ourselves")
	}
}

func TestFilter(t *testing.T) {
	root := t.TempDir()
	want := Filter{Program: []byte("12345678"), Flags: 5, Notify: true}
	d, err := Create(root, &State{ID: "c", Process: process}, &want)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Unlock()
	got, err := ReadFilter(root, "c")
	if err != nil || string(got.Program) != string(want.Program) || got.Flags != want.Flags || !got.Notify {
		t.Errorf("got %+v, %v", got, err)
	}
	create(t, root, "none")
	if got, err := ReadFilter(root, "none"); got != nil || err != nil {
		t.Errorf("without a filter: %+v, %v", got, err)
	}
	if err := os.Truncate(filepath.Join(root, "c", filterName), 11); err != nil {
		t.Fatal(err)
	}
	if got, err := ReadFilter(root, "c"); err == nil {
		t.Errorf("half a filter was accepted: %+v", got)
	}
}
