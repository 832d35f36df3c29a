package integration

import (
	"fmt"
	"io/fs"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	. "github.com/sock-runtime/sock/tests/sandbox"
)

// engineRoom is a room for a real container engine that consists of these programs.
func engineRoom(t *testing.T, programs ...string) *Room {
	t.Helper()
	if testing.Short() {
		t.Skip("engines take their time")
	}
	for _, name := range append(programs, "nsenter", "unshare", "ip", "tar") {
		_, err := exec.LookPath(name)
		Installable(t, err == nil, name+" is missing: run tests/setup.sh test")
	}
	return NewSandbox(t).NewRoom()
}

// removeParents removes the cgroups that an engine makes above and beside those of containers, and leaves. Those of
// containers, whose names begin with the prefix, must be gone.
func removeParents(e Engine, prefix string) {
	e.Helper()
	Eventually(e.T, "the end of all processes", func() error {
		if left := e.Processes(); len(left) > 0 {
			return fmt.Errorf("left: %v", left)
		}
		return nil
	})
	for _, dir := range e.Cgroups() {
		_ = filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() && name != dir && strings.HasPrefix(d.Name(), prefix) {
				e.Errorf("cgroup is left: %s", name)
			}
			return nil
		})
		Must(e.T, RemoveCgroup(dir))
	}
}

// onTerminal is a script for a terminal that is 33 by 99 first, becomes 44 by 111, and is told "hello" and "quit".
const onTerminal = `stty size; trap 'stty size' WINCH; echo ready
	while [ "$line" != quit ]; do read line && echo "got $line"; done; exit 6`

// converse plays the user of onTerminal's terminal.
func converse(e Engine, args ...string) {
	e.Helper()
	con, wait := e.Terminal(33, 99, append(args, "sh", "-c", onTerminal)...)
	con.WaitFor("ready")
	// Engines tell the container of the size a moment after it has started.
	con.Resize(44, 111)
	con.WaitFor("44 111")
	con.Write("hello\n")
	con.WaitFor("got hello")
	con.Write("quit\n")
	Equal(e.T, "exit status", wait(), 6)
	if n := strings.Count(con.Output(), "hello"); n != 2 {
		e.Errorf("%d times hello, want an echo and an answer: %q", n, con.Output())
	}
}
