// Package sandbox is what the tests that run the sock command have in common: a place for each test that must be clean in
// the end, bundles, containers, and a look at the host. Its names are meant to be imported as they are, with a dot.
//
// SOCK_BINARY names another runtime with runc's command line to run the tests against. SOCK_TEST_STRICT=1 fails where
// something is missing that could be installed, where otherwise the test is skipped.
package sandbox

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// The tests run in a child of the test binary. Its parent is the subreaper of all containers: it reaps them as soon as
// they end (process 1 may take its time), and it knows what is left when the tests are over.
const innerVar = "SOCK_TEST_INNER"

// Binary is the runtime under test, Busybox the static one that all root filesystems share.
var Binary, Busybox string

// userBinary is the runtime where an ordinary user can execute it.
var userBinary string

// Main is TestMain of a package of such tests; it returns the exit status. Before the tests it calls each of prepare with
// a directory that is removed after them.
func Main(m *testing.M, prepare ...func(dir string) error) int {
	if os.Getenv(innerVar) == "" {
		return reap()
	}
	return inner(m, prepare)
}

// programsVar names a directory of programs that are built already, for a machine without Go.
const programsVar = "SOCK_TEST_PROGRAMS"

// Program builds a program of ours in dir, static, with further build tags, and returns its path.
func Program(dir, name, source string, tags ...string) (string, error) {
	if built := os.Getenv(programsVar); built != "" {
		return filepath.Join(built, name), nil
	}
	file := filepath.Join(dir, name)
	tags = append(tags, "urfave_cli_no_docs", "urfave_cli_no_suggest", "netgo", "osusergo")
	build := exec.Command("go", "build", "-tags", strings.Join(tags, ","), "-o", file, source)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", name, err, out)
	}
	return file, nil
}

// reap runs the test binary again, collects all orphans and returns its exit status.
func reap() int {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return complain("become a subreaper: %v", err)
	}
	runtime.LockOSThread() // Pdeathsig is about the thread
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), innerVar+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	if err := cmd.Start(); err != nil {
		return complain("%v", err)
	}
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return complain("wait: %v", err)
		case pid == cmd.Process.Pid:
			return reapRest(status)
		}
	}
}

// reapRest ends what the tests left running: there must be nothing.
func reapRest(status unix.WaitStatus) int {
	code := status.ExitStatus()
	if status.Signaled() {
		code = 128 + int(status.Signal())
	}
	for {
		pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
		if err == unix.ECHILD {
			return code
		}
		if pid > 0 || err == unix.EINTR {
			continue
		}
		for _, pid := range strings.Fields(ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", os.Getpid(), os.Getpid()))) {
			cmdline := bytes.ReplaceAll([]byte(ReadFile("/proc/"+pid+"/cmdline")), []byte{0}, []byte{' '})
			code = complain("process %s is left: %s", pid, cmdline)
			_ = unix.Kill(Atoi(pid), unix.SIGKILL)
		}
		if _, err := unix.Wait4(-1, nil, 0, nil); err == unix.ECHILD {
			return code
		}
	}
}

// inner builds what the tests run, and runs the tests.
func inner(m *testing.M, prepare []func(dir string) error) int {
	dir, err := os.MkdirTemp("", "sock-bin-")
	if err != nil {
		return complain("%v", err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil { // for ordinary users
		return complain("%v", err)
	}
	// Engines, and what they call, are where a user's PATH may not look.
	if err := os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin"); err != nil {
		return complain("%v", err)
	}
	if Binary = os.Getenv("SOCK_BINARY"); Binary == "" {
		if Binary, err = Program(dir, "sock", "../../cmd/sock"); err != nil {
			return complain("%v", err)
		}
	}
	for _, f := range prepare {
		if err := f(dir); err != nil {
			return complain("%v", err)
		}
	}
	if userBinary = Binary; filepath.Dir(Binary) != dir {
		userBinary = filepath.Join(dir, filepath.Base(Binary))
		if err := copyFile(Binary, userBinary); err != nil {
			return complain("%v", err)
		}
	}
	Busybox = filepath.Join(dir, "busybox")
	if err := copyFile("/bin/busybox", Busybox); err != nil {
		Busybox = ""
	}
	return m.Run()
}

func complain(format string, args ...any) int {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
	return 1
}

func copyFile(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o755)
}
