package hostile

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	. "github.com/sock-runtime/sock/tests/sandbox"
)

// onState are the commands that believe what a container's state says.
var onState = []string{"state", "start", "kill", "exec", "ps", "pause", "events", "delete"}

func commandOn(verb, id string) []string {
	return map[string][]string{
		"kill": {"kill", id, "0"}, "exec": {"exec", id, "true"}, "events": {"events", "--stats", id}, "delete": {"delete", "--force", id},
	}[verb]
}

// A state directory that somebody else can write to says what that one wants: which process to kill, which hooks to run.
func TestForeignStateDirectory(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(dir string) error{
		"everybody's":              func(dir string) error { return os.Chmod(dir, 0o777) },
		"everybody's, sticky":      func(dir string) error { return os.Chmod(dir, 0o777|os.ModeSticky) },
		"a group's":                func(dir string) error { return os.Chmod(dir, 0o775) },
		"somebody else's":          func(dir string) error { return os.Chown(dir, 1000, 0) },
		"somebody else's, exactly": func(dir string) error { return unix.Chown(dir, 1000, 1000) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := NewSandbox(t)
			// A hook would be executed by delete.
			hooked := filepath.Join(s.Dir, "hooked")
			c := s.Create(WithHook("poststop", "touch "+hooked))
			s.OK("start", c.ID)
			pid := c.Pid()
			Must(t, spoil(s.Root))
			for _, verb := range onState {
				args := commandOn(verb, c.ID)
				if args == nil {
					args = []string{verb, c.ID}
				}
				r := s.Fails(Said("state directory"), args...)
				OneLine(t, r)
			}
			s.Fails(Said("state directory"), "list")
			s.Fails(Said("state directory"), "create", "--bundle", c.Bundle.Dir, "another")
			s.Fails(Said("state directory"), "run", "--bundle", c.Bundle.Dir, "another")
			if exists(hooked) || !Alive(pid) {
				t.Error("the container was touched")
			}
			Must(t, os.Chown(s.Root, 0, 0))
			Must(t, os.Chmod(s.Root, 0o711))
			s.OK("state", c.ID)
		})
	}
}

// What stands where a file of the state should: links aren't followed, nothing else is waited for or believed.
func TestSpoiledState(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	precious := filepath.Join(s.Dir, "precious")
	WriteFile(t, precious, "precious\n", 0o644)
	healthy := s.Running()
	for _, file := range []string{"state.json", "init", "start", "."} {
		for name, spoil := range map[string]func(t *testing.T, path string){
			"a link":           func(t *testing.T, path string) { Must(t, os.Symlink(precious, path)) },
			"a link to itself": func(t *testing.T, path string) { Must(t, os.Symlink(path, path)) },
			"a link to another's": func(t *testing.T, path string) {
				Must(t, os.Symlink(filepath.Join(s.Root, healthy.ID, filepath.Base(path)), path))
			},
			"a fifo":          func(t *testing.T, path string) { Must(t, unix.Mkfifo(path, 0o600)) },
			"a directory":     func(t *testing.T, path string) { Must(t, os.Mkdir(path, 0o700)) },
			"a device":        func(t *testing.T, path string) { Must(t, unix.Mknod(path, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 5)))) },
			"nothing":         func(*testing.T, string) {},
			"an empty file":   func(t *testing.T, path string) { WriteFile(t, path, "", 0o600) },
			"half a file":     func(t *testing.T, path string) { WriteFile(t, path, `{"id":"c`, 0o600) },
			"something else":  func(t *testing.T, path string) { WriteFile(t, path, "[1]", 0o600) },
			"a gigantic file": func(t *testing.T, path string) { WriteFile(t, path, "", 0o600); Must(t, os.Truncate(path, 1<<40)) },
		} {
			if file == "." && strings.Contains(name, "file") || file == "start" && name == "a fifo" {
				continue
			}
			what := name + " for " + file
			id := s.NewID()
			s.OK("create", "--bundle", s.Bundle(inCgroup(s.Mark+"-"+id)).Dir, id)
			dir := filepath.Join(s.Root, id)
			path, saved := filepath.Join(dir, file), filepath.Join(s.Dir, "saved")
			if file == "." {
				path = dir
			}
			Must(t, os.Rename(path, saved))
			spoil(t, path)
			for _, verb := range []string{"state", "exec", "ps", "start"} {
				args := commandOn(verb, id)
				if args == nil {
					args = []string{verb, id}
				}
				r := s.Sock(args...)
				worksOrOneError(t, r)
				if r.Code == 0 && verb == "start" && file == "start" {
					t.Errorf("%s: started", what)
				}
			}
			Equal(t, "the file behind the link after "+what, ReadFile(precious), "precious\n")
			if out := s.OK("list", "-q"); !strings.Contains(out, healthy.ID+"\n") {
				t.Errorf("%s: list does not have the healthy one: %s", what, out)
			}
			Must(t, os.RemoveAll(path))
			Must(t, os.Rename(saved, path))
			s.OK("delete", "--force", id)
			healthy.WantStatus("running")
		}
	}
}

// Two runtimes on one ID take turns: one of them makes the container, one starts it, and all may delete it.
func TestOneIDManyRuntimes(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	b := s.Bundle()
	const many = 8
	at := func(works func() bool) int {
		var succeeded atomic.Int32
		var group sync.WaitGroup
		for range many {
			group.Go(func() {
				if works() {
					succeeded.Add(1)
				}
			})
		}
		group.Wait()
		return int(succeeded.Load())
	}
	for round := range max(rounds(5), 1) {
		id := fmt.Sprint("one-", round)
		Equal(t, "how many made it", at(func() bool {
			r := s.Sock("create", "--bundle", b.Dir, id)
			if r.Code != 0 && !strings.Contains(r.Stderr, "already exists") && !strings.Contains(r.Stderr, "cgroup") {
				t.Error(r)
			}
			return r.Code == 0
		}), 1)
		Equal(t, "how many started it", at(func() bool {
			r := s.Sock("start", id)
			if r.Code != 0 && !strings.Contains(r.Stderr, "already running") {
				t.Error(r)
			}
			return r.Code == 0
		}), 1)
		Equal(t, "status", Decode[State](t, s.OK("state", id)).Status, "running")
		Equal(t, "how many deleted it", at(func() bool {
			r := s.Sock("delete", "--force", id)
			if r.Code != 0 {
				t.Error(r)
			}
			return r.Code == 0
		}), many)
		s.CheckNothingLeft()
	}
}
