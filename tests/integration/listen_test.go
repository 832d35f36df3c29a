package integration

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	. "github.com/sock-runtime/sock/tests/sandbox"
)

// activated is a command that systemd would have started with sockets, and with more files behind them: by a shell, since
// LISTEN_PID must be the command's.
func activated(s *Sandbox, sockets string, files []*os.File, args ...string) *exec.Cmd {
	cmd := s.Command(args...)
	cmd.Args = append([]string{"sh", "-c", `LISTEN_PID=$$ LISTEN_FDS=` + sockets + ` exec "$0" "$@"`, Binary}, cmd.Args[1:]...)
	cmd.Path = "/bin/sh"
	cmd.ExtraFiles = files
	return cmd
}

// listeners are two sockets that listen, and two other files.
func listeners(s *Sandbox) (files []*os.File, inodes []string) {
	s.Helper()
	for i := range 2 {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(s.Dir, fmt.Sprint("listen-", i)), Net: "unix"})
		Must(s.T, err)
		f, err := l.File()
		Must(s.T, err)
		files = append(files, f)
		s.Cleanup(func() { l.Close() })
	}
	for range 2 {
		f, err := os.Open("/etc/passwd")
		Must(s.T, err)
		files = append(files, f)
	}
	for _, f := range files {
		link, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
		Must(s.T, err)
		inodes = append(inodes, link)
		s.Cleanup(func() { f.Close() })
	}
	return files, inodes
}

func TestListenFDs(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		flags   []string
		sockets string
		keep    int // of the files, how many the process has
		env     string
	}{
		{"two", nil, "2", 2, "LISTEN_FDS=2\x00LISTEN_PID=1\x00"},
		{"one", nil, "1", 1, "LISTEN_FDS=1\x00LISTEN_PID=1\x00"},
		{"two, and one preserved", []string{"--preserve-fds", "1"}, "2", 3, "LISTEN_FDS=2\x00LISTEN_PID=1\x00"},
		{"none", nil, "0", 0, ""},
		{"nonsense", nil, "x", 0, ""},
		{"for another process", nil, "2 LISTEN_PID=1", 0, ""},
		{"for another process, and one preserved", []string{"--preserve-fds", "1"}, "2 LISTEN_PID=1", 1, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := NewSandbox(t)
			files, inodes := listeners(s)
			for i, verb := range [][]string{{"create"}, {"run", "--detach"}} {
				c := &Container{Sandbox: s, ID: s.NewID(), Bundle: s.Bundle()}
				args := append(append(verb, test.flags...), "--bundle", c.Dir(), c.ID)
				if r := s.Do(activated(s, test.sockets, files, args...)); r.Code != 0 {
					t.Fatal(r)
				}
				if i == 0 {
					s.OK("start", c.ID)
				}
				open := Descriptors(t, c.Pid())
				Equal(t, "number of descriptors", len(open), 3+test.keep)
				for j := range test.keep {
					Equal(t, fmt.Sprint("descriptor ", 3+j), open[fmt.Sprint(3+j)], inodes[j])
				}
				if environ := c.Proc("environ"); !strings.Contains(environ, test.env) || test.env == "" && strings.Contains(environ, "LISTEN_") {
					t.Errorf("environment: %q", environ)
				}
				s.OK("delete", "--force", c.ID)
			}
		})
	}
}

// The variables of systemd's replace those of config.json, and exec passes no sockets on: as with runc.
func TestListenFDsElsewhere(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	files, _ := listeners(s)
	b := s.Bundle(Script("env | grep LISTEN | sort"))
	s.Set(b, []string{"PATH=/bin", "LISTEN_FDS=7", "LISTEN_PID=9"}, "process", "env")
	Equal(t, "variables", s.Do(activated(s, "2", files, "run", "--bundle", b.Dir, s.NewID())).Stdout, "LISTEN_FDS=2\nLISTEN_PID=1\n")

	c := s.Running()
	cmd := activated(s, "2", files, "exec", "--detach", "--pid-file", "exec.pid", "--preserve-fds", "1", c.ID, "sleep", "1000")
	if r := s.Do(cmd); r.Code != 0 {
		t.Fatal(r)
	}
	pid := Atoi(ReadFile(filepath.Join(s.Dir, "exec.pid")))
	Equal(t, "number of descriptors of exec", len(Descriptors(t, pid)), 4)
	if environ := ReadFile(fmt.Sprintf("/proc/%d/environ", pid)); strings.Contains(environ, "LISTEN") {
		t.Errorf("environment of exec: %q", environ)
	}

	s.OK("delete", "--force", c.ID)
	for _, sockets := range []string{"5", "1000000000"} {
		r := s.Do(activated(s, sockets, files, "create", "--bundle", s.Bundle().Dir, "none"))
		if r.Code == 0 || !strings.Contains(r.Stderr, "LISTEN_FDS is "+sockets+", but descriptor 7 was not passed") {
			t.Error(r)
		}
		s.CheckNothingLeft()
	}
}
