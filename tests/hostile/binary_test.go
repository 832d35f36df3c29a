package hostile

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	. "github.com/sock-runtime/sock/tests/sandbox"
)

// fingerprint is all of a file that could be changed.
func fingerprint(t *testing.T, file string) string {
	t.Helper()
	info, err := os.Stat(file)
	Must(t, err)
	st := info.Sys().(*syscall.Stat_t)
	size, err := unix.Listxattr(file, nil)
	Must(t, err)
	return fmt.Sprintf("%x %s %d:%d %s links=%d xattrs=%d", sha256.Sum256([]byte(ReadFile(file))), info.Mode(), st.Uid, st.Gid, info.ModTime(), st.Nlink, size)
}

// identity is how the attacker prints a file.
func identity(t *testing.T, file string) string {
	t.Helper()
	var st unix.Stat_t
	Must(t, unix.Stat(file, &st))
	return fmt.Sprintf("saw %d:%d\n", st.Dev, st.Ino)
}

// install copies a runtime into a directory of the sandbox's.
func install(s *Sandbox, runtime, dir string) string {
	s.Helper()
	file := filepath.Join(dir, "sock")
	syscall.ForkLock.RLock() // a child made now would have it open for writing, and then it can't be executed
	defer syscall.ForkLock.RUnlock()
	WriteFile(s.T, file, ReadFile(runtime), 0o755)
	return file
}

// readOnlyMount installs a runtime on a mount of its own, which is read-only then.
func readOnlyMount(s *Sandbox, runtime string) string {
	s.Helper()
	dir := s.HostTmpfs(unix.MS_PRIVATE)
	file := install(s, runtime, dir)
	Must(s.T, unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""))
	return file
}

// playOverwrite runs a container that opens what it can see others execute, while the runtime executes what leads back to
// itself in it, and in a container that shares its PID namespace. It returns what the attacker printed.
func playOverwrite(s *Sandbox, runtime string, changes ...Change) string {
	s.Helper()
	s.Runtime = runtime
	b := bundleOf(s, append([]Change{Writable, attack("overwrite", "/go")}, changes...)...)
	WriteFile(s.T, filepath.Join(b.Rootfs, "entry"), "#!/proc/self/exe\n", 0o755)
	c := s.CreateIn(b)
	s.OK("start", c.ID)
	waitFor(c, "ready\n")
	shared := bundleOf(s, append([]Change{Args("/entry"), WithNamespace(specs.PIDNamespace, fmt.Sprintf("/proc/%d/ns/pid", c.Pid()))}, changes...)...)
	WriteFile(s.T, filepath.Join(shared.Rootfs, "entry"), "#!/proc/self/exe\n", 0o755)
	for end := time.Now().Add(time.Second); time.Now().Before(end); {
		s.Sock("exec", c.ID, "/entry")
		s.Sock("exec", c.ID, "/proc/self/exe", "features")
		s.Sock("run", "--bundle", shared.Dir, s.NewID())
	}
	s.Runtime = "" // the attacker's from now on
	WriteFile(s.T, filepath.Join(b.Rootfs, "go"), "", 0o644)
	c.WantStatus("stopped")
	return ReadFile(c.Stdout)
}

// CVE-2019-5736: a container writes to the runtime that executes in it.
func TestRuntimeOverwritten(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]Change{"default": func(*specs.Spec) {}, "all": allCapabilities} {
		t.Run("writable, capabilities "+name, func(t *testing.T) {
			t.Parallel()
			s := NewSandbox(t)
			runtime := install(s, Binary, s.Dir)
			before := fingerprint(t, runtime)
			out := playOverwrite(s, runtime, change)
			if name == "default" && strings.Contains(out, identity(t, runtime)) { // else it is seen, on a read-only mount
				t.Errorf("the attacker opened the runtime:\n%s", out)
			}
			Equal(t, "the runtime", fingerprint(t, runtime), before)
		})
		t.Run("read-only mount, capabilities "+name, func(t *testing.T) {
			t.Parallel()
			s := NewSandbox(t)
			runtime := readOnlyMount(s, Binary)
			before := fingerprint(t, runtime)
			out := playOverwrite(s, runtime, change)
			if !strings.Contains(out, identity(t, runtime)) {
				t.Errorf("the attacker did not see the runtime, so it had nothing to attack:\n%s", out)
			}
			Equal(t, "the runtime", fingerprint(t, runtime), before)
		})
		t.Run("control, capabilities "+name, func(t *testing.T) {
			t.Parallel()
			s := NewSandbox(t)
			runtime := install(s, unprotected, s.Dir)
			before := fingerprint(t, runtime)
			out := playOverwrite(s, runtime, change)
			if fingerprint(t, runtime) == before || steps(out)["0 write"] != "done" {
				t.Errorf("the attack does not work, so the test shows nothing:\n%s", out)
			}
		})
	}
	// The immutable flag is no protection, for it can be cleared by whoever has CAP_LINUX_IMMUTABLE.
	t.Run("immutable", func(t *testing.T) {
		t.Parallel()
		s := NewSandbox(t)
		runtime := install(s, Binary, s.Dir)
		setImmutable(t, runtime, true)
		defer setImmutable(t, runtime, false)
		before := fingerprint(t, runtime)
		playOverwrite(s, runtime, allCapabilities)
		Equal(t, "the runtime", fingerprint(t, runtime), before)
	})
}

// setImmutable is chattr(1).
func setImmutable(t *testing.T, file string, immutable bool) {
	t.Helper()
	f, err := os.Open(file)
	Must(t, err)
	defer f.Close()
	flags, err := unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if flags &^= unix.STATX_ATTR_IMMUTABLE; immutable {
		flags |= unix.STATX_ATTR_IMMUTABLE
	}
	if err == nil {
		err = unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, flags)
	}
	Need(t, err != unix.ENOTTY && err != unix.EOPNOTSUPP, "needs a file system with an immutable flag for temporary files")
	Must(t, err)
}

func TestDoctorTellsProtection(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	doctor := func(runtime string) string {
		s.Runtime = runtime
		defer func() { s.Runtime = "" }()
		out := s.OK("doctor")
		if !strings.Contains(out, runtime+",") {
			t.Errorf("doctor does not name %s: %s", runtime, out)
		}
		_, protection, _ := strings.Cut(out, "protection")
		return strings.TrimSpace(strings.SplitN(protection, "\n", 2)[0])
	}
	if got := doctor(install(s, Binary, s.Dir)); !strings.HasPrefix(got, "active") || !strings.Contains(got, "mount -o remount,bind,ro "+s.Dir) {
		t.Errorf("protection of a file that can be written: %s", got)
	}
	if got := doctor(readOnlyMount(s, Binary)); !strings.HasPrefix(got, "active: it is on a read-only mount") {
		t.Errorf("protection on a read-only mount: %s", got)
	}
}

// Where others could trace what is executed into a container, the runtime executes itself anew. It must not show.
func TestExecuteAnew(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	c := s.Running(func(c *specs.Spec) {
		c.Process.Capabilities.Bounding = append(c.Process.Capabilities.Bounding, "CAP_SYS_PTRACE")
	})
	read, write, err := os.Pipe()
	Must(t, err)
	process := specs.Process{Cwd: "/", Env: []string{"PATH=/bin"}, Args: []string{"sh", "-c", "cat <&3; ulimit -Sn; read line; echo $line; exit 7"}}
	Must(t, json.NewEncoder(write).Encode(process))
	Must(t, write.Close())
	file := filepath.Join(s.Dir, "preserved")
	WriteFile(t, file, "preserved\n", 0o644)
	preserved, err := os.Open(file)
	Must(t, err)
	defer preserved.Close()
	pidFile := filepath.Join(s.Dir, "pid")
	cmd := s.Command("exec", "--preserve-fds", "1", "--pid-file", pidFile, "--process", "/dev/fd/4", c.ID)
	cmd.ExtraFiles = []*os.File{preserved, read}
	stdin, err := cmd.StdinPipe()
	Must(t, err)
	s.Start(cmd)
	Eventually(t, "the pid file", func() error {
		_, err := os.Stat(pidFile)
		return err
	})
	var st unix.Statfs_t
	Must(t, unix.Statfs(fmt.Sprintf("/proc/%d/exe", cmd.Process.Pid), &st))
	Equal(t, "whether it executes from a read-only mount", st.Flags&unix.ST_RDONLY, unix.ST_RDONLY)
	Equal(t, "its name", ReadFile(fmt.Sprintf("/proc/%d/comm", cmd.Process.Pid)), filepath.Base(Binary)+"\n")
	fmt.Fprintln(stdin, "typed")
	r := s.Finish(cmd)
	Equal(t, "exit status", r.Code, 7)
	Equal(t, "output", r.Stdout, "preserved\n1024\ntyped\n")
}
