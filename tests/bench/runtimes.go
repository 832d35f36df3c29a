package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// Runtime is one contestant.
type Runtime struct {
	Name    string
	Version Version
	path    string
	root    string // its --root
	null    int    // /dev/null, the stdin and stdout of all processes
	errors  *os.File
}

// Version is how a runtime describes itself.
type Version struct {
	Name    string `json:"name"`
	Path    string `json:"path"`
	Version string `json:"version"`
}

// findRuntimes returns sock first, then those others that are installed.
func findRuntimes(o options, dir string) ([]*Runtime, error) {
	sock, err := filepath.Abs(o.sock)
	if err != nil {
		return nil, err
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	messages, err := os.Create(filepath.Join(dir, "stderr"))
	if err != nil {
		return nil, err
	}
	var found []*Runtime
	for _, name := range []string{"sock", "crun", "runc"} {
		if name != "sock" && !slices.Contains(o.against, name) {
			continue
		}
		path := sock
		if name != "sock" {
			if path, err = lookPath(name); err != nil {
				fmt.Fprintf(os.Stderr, "bench: %s is not installed, so it does not take part\n", name)
				continue
			}
		}
		out, err := exec.Command(path, "--version").Output()
		if err != nil {
			return nil, fmt.Errorf("%s --version: %w", path, err)
		}
		first, _, _ := strings.Cut(string(out), "\n")
		found = append(found, &Runtime{
			Name: name, Version: Version{name, path, strings.TrimSpace(strings.TrimPrefix(first, name+" version "))},
			path: path, root: filepath.Join(dir, "state-"+name),
			null: int(null.Fd()), errors: messages,
		})
	}
	return found, nil
}

// lookPath also looks where Debian puts runc, which a user's PATH lacks.
func lookPath(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	return exec.LookPath("/usr/sbin/" + name)
}

// call executes the runtime and waits for it. It forks as directly as Go can (vfork, no pipes, no goroutines), so that
// what it adds to each time is small and the same for all.
func (r *Runtime) call(args ...string) error { return r.callIn("/", args...) }

// callIn does so in a directory.
func (r *Runtime) callIn(dir string, args ...string) error {
	argv := append([]string{r.path, "--root", r.root}, args...)
	pid, err := syscall.ForkExec(r.path, argv, &syscall.ProcAttr{
		Env:   []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
		Dir:   dir,
		Files: []uintptr{uintptr(r.null), uintptr(r.null), r.errors.Fd()},
	})
	if err != nil {
		return fmt.Errorf("%s: %w", r.path, err)
	}
	status, err := wait(pid)
	if err != nil {
		return err
	}
	if status != 0 {
		return fmt.Errorf("%s: exit status %d: %s", strings.Join(argv, " "), status, r.said())
	}
	return nil
}

// wait reaps a child and returns its status as a shell gives it.
func wait(pid int) (int, error) {
	var status syscall.WaitStatus
	for {
		_, err := syscall.Wait4(pid, &status, 0, nil)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("wait for %d: %w", pid, err)
		}
		if status.Signaled() {
			return 128 + int(status.Signal()), nil
		}
		return status.ExitStatus(), nil
	}
}

// said is the end of what has come on standard error.
func (r *Runtime) said() string {
	const most = 2000
	size, err := r.errors.Seek(0, io.SeekEnd)
	if err != nil {
		return err.Error()
	}
	text := make([]byte, most)
	n, _ := r.errors.ReadAt(text, max(size-most, 0))
	return strings.TrimSpace(string(text[:n]))
}
