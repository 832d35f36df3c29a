// Package engines makes container engines know sock: it finds out what their configuration lacks, and writes it.
//
// Docker and Containerd look and return an Edit, which changes nothing until it is applied. Files are changed as text, by as
// little as is needed, so that comments, order and form of what is there stay; the result is read again and must say what
// the old text said and what was added, nothing else.
package engines

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// Name is what engines call the runtime.
const Name = "sock"

// Shim is the program that containerd executes for the runtime type ShimType; Daemon is beside it.
const (
	Shim     = "containerd-shim-sock-v1"
	Daemon   = "sock-shimd"
	ShimType = "io.containerd.sock.v1"
)

// Edit is what an engine's configuration lacks.
type Edit struct {
	Changes []Change // in the order in which they have to be made; none if the engine knows sock
	Known   string   // the file in which it does, if there are no changes
	Notes   []string // what the user should know
}

// Change is what happens to one file.
type Change struct {
	File   string
	Before []byte // nil if it doesn't exist
	After  []byte
}

// ErrNotInstalled says that there is no engine whose configuration could be looked at.
var ErrNotInstalled = errors.New("not installed")

// Program finds an engine's program in PATH, or where a user's PATH may not lead. Errors: ErrNotInstalled.
func Program(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin"} {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s: %w", name, ErrNotInstalled)
}

// VersionOf asks an engine's program for its version. Both dockerd and containerd have it as the third word of a line:
// "Docker version 20.10.24+dfsg1, build 5d6db84", "containerd github.com/containerd/containerd/v2 v2.4.2 ...".
func VersionOf(program string) (string, error) {
	out, err := exec.Command(program, "--version").Output()
	if err != nil {
		return "", fmt.Errorf("%s --version: %w", program, err)
	}
	fields := strings.Fields(string(out))
	if len(fields) < 3 {
		return "", fmt.Errorf("%s --version prints %q", program, out)
	}
	return strings.Trim(fields[2], "v,"), nil
}

// major is the first number of a version, 0 if it has none, as in builds for development.
func major(version string) int {
	first, _, _ := strings.Cut(version, ".")
	n, err := strconv.Atoi(first)
	if err != nil {
		return 0
	}
	return n
}

// servicePath is the PATH that systemd gives to services.
const servicePath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// FindShim finds the shim as the containerd with this configuration does: in its PATH if it runs, else in a service's.
func FindShim(config string) (string, error) {
	path := servicePath
	for _, p := range running("containerd") {
		file := ContainerdConfig
		for _, name := range []string{"--config", "-c"} {
			if value, ok := p.flag(name); ok {
				file = value
			}
		}
		if value, ok := p.variable("PATH"); ok && sameFile(file, config) {
			path = value
		}
	}
	return findShim(path)
}

func findShim(path string) (string, error) {
	for _, dir := range filepath.SplitList(path) {
		shim := filepath.Join(dir, Shim)
		if !executable(shim) {
			continue
		}
		// It becomes the daemon beside itself, and a link's place is not its own.
		real, err := filepath.EvalSymlinks(shim)
		if err != nil {
			return "", err
		}
		if daemon := filepath.Join(filepath.Dir(real), Daemon); !executable(daemon) {
			return "", fmt.Errorf("%s is there, but not %s", shim, daemon)
		}
		return shim, nil
	}
	return "", fmt.Errorf("%s is not in containerd's PATH, %s", Shim, path)
}

func executable(file string) bool {
	info, err := os.Stat(file)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// process is one that runs.
type process struct {
	pid  int
	args []string
}

// running are the processes with this name that we may look at.
func running(name string) []process {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var found []process
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		data, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		args := strings.Split(strings.TrimSuffix(string(data), "\x00"), "\x00")
		if filepath.Base(args[0]) == name {
			found = append(found, process{pid, args[1:]})
		}
	}
	return found
}

// variable is one of the environment that the process was started with.
func (p process) variable(name string) (string, bool) {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", p.pid))
	for v := range strings.SplitSeq(string(data), "\x00") {
		if n, value, _ := strings.Cut(v, "="); n == name {
			return value, true
		}
	}
	return "", false
}

// flag is the value of a flag; of one that is given more than once, the last.
func (p process) flag(name string) (value string, given bool) {
	for i, arg := range p.args {
		switch rest, ok := strings.CutPrefix(arg, name); {
		case !ok:
		case rest == "" && i+1 < len(p.args):
			value, given = p.args[i+1], true
		case strings.HasPrefix(rest, "="):
			value, given = rest[1:], true
		}
	}
	return value, given
}
