package sandbox

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sock-runtime/sock/tests/fakesystemd"
)

const (
	// commandTimeout is far more than any command may take.
	commandTimeout = time.Minute
	// SettleTimeout is how long something that happens in the background may take.
	SettleTimeout = 30 * time.Second
)

// Sandbox is what one test has for itself: a --root, bundles, cgroups. When the test ends it removes the containers and
// checks that nothing of them is left.
type Sandbox struct {
	*testing.T
	Dir     string // short, for the sake of socket paths
	Root    string
	Mark    string // in the environment of every command, in the name of every cgroup; no other begins with it
	IDs     []string
	Runtime string // Binary, unless it is set
	User    *User  // who runs the commands; nil: root

	Systemd bool                // has systemd manage cgroups
	Fake    *fakesystemd.Server // stands in for systemd, where that doesn't run
	manager string              // the cgroup of the user's systemd
}

var sandboxes atomic.Int64

// NewSandbox makes a sandbox for the test and registers its end. With SOCK_TEST_SYSTEMD=1 in the environment its containers
// are units of systemd's.
func NewSandbox(t *testing.T) *Sandbox {
	t.Helper()
	Need(t, os.Geteuid() == 0, "needs root")
	Installable(t, Busybox != "", "/bin/busybox is missing: install busybox-static")
	dir, err := os.MkdirTemp("", "sock-it-")
	Must(t, err)
	s := &Sandbox{T: t, Dir: dir, Root: filepath.Join(dir, "state"), Mark: fmt.Sprintf("sock-it-%d-%04d", os.Getpid(), sandboxes.Add(1))}
	t.Cleanup(s.close)
	if os.Getenv("SOCK_TEST_SYSTEMD") != "" {
		s.useSystemd()
	}
	return s
}

// Need skips the test where the machine can't have what it needs.
func Need(t *testing.T, ok bool, why string) {
	t.Helper()
	if !ok {
		t.Skip(why)
	}
}

// Installable is Need for what could be installed: strict runs fail.
func Installable(t *testing.T, ok bool, why string) {
	t.Helper()
	if !ok && os.Getenv("SOCK_TEST_STRICT") == "1" {
		t.Fatal(why)
	}
	Need(t, ok, why)
}

func (s *Sandbox) close() {
	s.Helper()
	if s.Failed() {
		s.Rescue()
	}
	for _, id := range s.IDs {
		if r := s.Sock("delete", "--force", id); r.Code != 0 {
			s.Errorf("delete --force: %v", r)
		}
	}
	s.CheckNothingLeft()
	if s.Failed() {
		s.Rescue()
	}
	s.endSystemd()
	if err := os.RemoveAll(s.Dir); err != nil {
		s.Error(err)
	}
}

// Rescue ends what a failed test left, without help from the runtime under test: thawed, killed, removed.
func (s *Sandbox) Rescue() {
	for _, dir := range s.Cgroups() {
		_ = os.WriteFile(filepath.Join(dir, ByCgroup("freezer.state", "cgroup.freeze")), []byte(ByCgroup("THAWED", "0")), 0)
	}
	for _, process := range s.Processes() {
		_ = unix.Kill(Atoi(strings.Fields(process)[0]), unix.SIGKILL)
	}
	for deadline := time.Now().Add(time.Second); len(s.Processes()) > 0 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	for _, dir := range s.Cgroups() {
		_ = RemoveCgroup(dir)
	}
}

// CheckNothingLeft fails for a process, cgroup, mount or state that the sandbox's containers left behind.
func (s *Sandbox) CheckNothingLeft() {
	s.Helper()
	if entries, err := os.ReadDir(s.Root); err == nil {
		for _, e := range entries {
			if e.Name() != ",seccomp" { // compiled filters, for the containers to come
				s.Errorf("state is left: %s", e.Name())
				s.Sock("delete", "--force", e.Name())
			}
		}
	}
	Eventually(s.T, "the end of all processes", func() error {
		if pids := s.Processes(); len(pids) > 0 {
			return fmt.Errorf("left: %v", pids)
		}
		return nil
	})
	Eventually(s.T, "the end of all cgroups", func() error {
		if dirs := s.Cgroups(); len(dirs) > 0 {
			return fmt.Errorf("left: %v", dirs)
		}
		return nil
	})
	for _, point := range MountPoints() {
		if strings.HasPrefix(point, s.Dir) {
			s.Errorf("mount is left: %s", point)
			_ = unix.Unmount(point, unix.MNT_DETACH)
		}
	}
}

// Processes lists those that are in a cgroup of the sandbox or are a command of it, whole or stub.
func (s *Sandbox) Processes() []string {
	var left []string
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err != nil {
			continue
		}
		dir := filepath.Join("/proc", e.Name())
		if strings.Contains(ReadFile(dir+"/cgroup"), s.Mark+"/") || hasLineSuffix(ReadFile(dir+"/cgroup"), s.Mark) ||
			strings.Contains(ReadFile(dir+"/cgroup"), "/"+s.Slice()+"/") || s.User.runs(dir) ||
			strings.Contains(ReadFile(dir+"/environ"), "SOCK_TEST_MARK="+s.Mark+"\x00") {
			left = append(left, e.Name()+" "+strings.TrimSpace(ReadFile(dir+"/comm")))
		}
	}
	return left
}

func hasLineSuffix(text, suffix string) bool {
	for line := range strings.Lines(text) {
		if strings.HasSuffix(strings.TrimSpace(line), suffix) {
			return true
		}
	}
	return false
}

// NewID invents a container's name, which close deletes.
func (s *Sandbox) NewID() string {
	id := fmt.Sprintf("c%d", len(s.IDs)+1)
	s.IDs = append(s.IDs, id)
	return id
}

// HostTmpfs makes a host directory that is a mount of its own.
func (s *Sandbox) HostTmpfs(propagation uintptr) string {
	s.Helper()
	dir, err := os.MkdirTemp(s.Dir, "host")
	Must(s.T, err)
	Must(s.T, unix.Mount("host", dir, "tmpfs", 0, ""))
	s.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	Must(s.T, unix.Mount("", dir, "", propagation, ""))
	return dir
}

// HostDir makes a host directory with the file "file" in it.
func (s *Sandbox) HostDir() string {
	s.Helper()
	dir, err := os.MkdirTemp(s.Dir, "host")
	Must(s.T, err)
	Must(s.T, os.Chmod(dir, 0o755))
	WriteFile(s.T, filepath.Join(dir, "file"), "host\n", 0o644)
	return dir
}

// LogFile makes a file for a command's output.
func (s *Sandbox) LogFile(kind string) *os.File {
	s.Helper()
	f, err := os.CreateTemp(s.Dir, kind)
	Must(s.T, err)
	return f
}
