package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	. "github.com/sock-runtime/sock/tests/sandbox"
)

// ownerOf is the owner and the mode of an open file.
func ownerOf(t *testing.T, f *os.File) string {
	t.Helper()
	var st unix.Stat_t
	Must(t, unix.Fstat(int(f.Fd()), &st))
	return fmt.Sprintf("%d:%d %o", st.Uid, st.Gid, st.Mode&0o7777)
}

// stdioKinds are files that a caller has as its stdio, by name. Each is opened anew, with the owner.
var stdioKinds = map[string]func(s *Sandbox, owner int) *os.File{
	"/dev/null": func(s *Sandbox, _ int) *os.File {
		f, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
		Must(s.T, err)
		return f
	},
	"a terminal": func(s *Sandbox, owner int) *os.File {
		_, slave := s.Pty(24, 80)
		Must(s.T, slave.Chown(owner, owner))
		return slave
	},
	"a file": func(s *Sandbox, owner int) *os.File {
		f := s.LogFile("file")
		Must(s.T, f.Chown(owner, owner))
		return f
	},
	"a pipe": func(s *Sandbox, owner int) *os.File {
		read, write, err := os.Pipe()
		Must(s.T, err)
		s.Cleanup(func() { read.Close() })
		Must(s.T, write.Chown(owner, owner))
		return write
	},
}

// stdioCase is a container's user, and who owns what the container gets as stdio: before and, as given, after.
type stdioCase struct {
	name         string
	userns       bool
	uid          int
	owner, given int
}

// check runs a command with each kind of file and tells whom it belongs to then: pipes, and what is a file of the caller's.
func (c stdioCase) check(s *Sandbox, who string, pipes, files int, command, after func() *exec.Cmd) {
	s.Helper()
	for kind, open := range stdioKinds {
		given := files
		switch kind {
		case "/dev/null":
			given = 0
		case "a pipe":
			given = pipes
		}
		f := open(s, c.owner)
		mode := strings.Fields(ownerOf(s.T, f))[1]
		cmd := command()
		cmd.Stdin, cmd.Stdout, cmd.Stderr = f, f, f
		if err := cmd.Run(); err != nil {
			s.Errorf("%s, %s, %s: %v", c.name, kind, who, err)
		}
		owner, _, _ := strings.Cut(ownerOf(s.T, f), ":")
		Equal(s.T, fmt.Sprintf("%s, %s: owner after %s", c.name, kind, who), owner, fmt.Sprint(given))
		Equal(s.T, fmt.Sprintf("%s, %s: mode after %s", c.name, kind, who), strings.Fields(ownerOf(s.T, f))[1], mode)
		Must(s.T, f.Close())
		if after != nil {
			if out, err := after().CombinedOutput(); err != nil {
				s.Fatalf("%v: %s", err, out)
			}
		}
	}
}

// TestStdioOwners has a detached container give its stdio to its user, as under runc, and nothing else: neither /dev/null, nor
// what belongs to somebody whom its user namespace doesn't know, nor in the foreground what is the caller's.
func TestStdioOwners(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	Must(t, os.Chmod(s.Dir, 0o755)) // runc's root of a user namespace has to get there
	peer, _ := exec.LookPath("runc")
	if peer == "" {
		_, noDebian := os.Stat("/etc/debian_version")
		Installable(t, noDebian != nil, "runc is missing: install runc")
	}
	sock := func(args ...string) func() *exec.Cmd { return func() *exec.Cmd { return s.Command(args...) } }
	runc := func(args ...string) func() *exec.Cmd {
		return func() *exec.Cmd {
			cmd := exec.Command(peer, append([]string{"--root", filepath.Join(s.Dir, "peer")}, args...)...)
			cmd.Env = append(os.Environ(), "SOCK_TEST_MARK="+s.Mark)
			return cmd
		}
	}
	before := DeviceOwners(t)
	for _, c := range []stdioCase{
		{"root", false, 0, 0, 0},
		{"user", false, 1000, 0, 1000},
		{"user, other owner", false, 1000, 33, 1000},
		{"root of a user namespace", true, 0, 0, 0},
		{"user of a user namespace", true, 1000, 0, 0},
		{"user of a user namespace, own owner", true, 1000, HostRoot + 5, HostRoot + 1000},
		{"user of a user namespace, same number outside", true, 1000, 1000, 1000},
	} {
		bundle := s.Bundle
		if c.userns {
			bundle = s.UserBundle
		}
		b := bundle(Script("true"), func(config *specs.Spec) { config.Process.User.UID = uint32(c.uid) })
		Must(t, os.Chmod(b.Dir, 0o755))
		box := s.CreateIn(bundle(func(config *specs.Spec) { config.Linux.CgroupsPath += "-exec" }))
		s.OK("start", box.ID)
		uid := fmt.Sprint(c.uid)
		c.check(s, "create", c.given, c.given, sock("create", "--bundle", b.Dir, "again"), sock("delete", "--force", "again"))
		c.check(s, "run", c.given, c.owner, sock("run", "--bundle", b.Dir, "once"), nil)
		c.check(s, "exec --detach", c.given, c.given, sock("exec", "--detach", "--user", uid, box.ID, "true"), nil)
		c.check(s, "exec", c.given, c.owner, sock("exec", "--user", uid, box.ID, "true"), nil)
		if peer != "" && !s.Systemd {
			c.check(s, "runc's create", c.given, c.given, runc("create", "--bundle", b.Dir, s.Mark), runc("delete", "--force", s.Mark))
			c.check(s, "runc's run", c.owner, c.owner, runc("run", "--bundle", b.Dir, s.Mark), nil)
		}
		s.OK("delete", "--force", box.ID)
	}
	Equal(t, "the host's devices", DeviceOwners(t), before)
}

// TestStdioPipes has a user in the foreground open anew what is a file of the caller's, and all of its output arrive.
func TestStdioPipes(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	user := func(c *specs.Spec) { c.Process.User.UID = 1000 }
	const lines = 20000
	script := fmt.Sprintf("cat > /dev/stdout; i=0; seq 1 %d; echo end > /dev/stderr; sleep 0.2 & exit 5", lines)
	input, err := os.CreateTemp(s.Dir, "input")
	Must(t, err)
	defer input.Close()
	_, err = input.WriteString("input\n")
	Must(t, err)
	c := s.Running(func(c *specs.Spec) { c.Linux.CgroupsPath += "-exec" })
	for _, args := range [][]string{
		{"run", "--bundle", s.Bundle(user, Script(script)).Dir, s.NewID()},
		{"exec", "--user", "1000", c.ID, "sh", "-c", script},
	} {
		_, err = input.Seek(0, 0)
		Must(t, err)
		cmd := s.Command(args...)
		cmd.Stdin = input
		r := s.Do(cmd)
		if r.Code != 5 || !strings.HasPrefix(r.Stdout, "input\n1\n") || !strings.HasSuffix(r.Stdout, fmt.Sprintf("\n%d\n", lines)) || r.Stderr != "end\n" {
			t.Errorf("%s: exit status %d, stderr %q, %d bytes of output, ends with %q", args[0], r.Code, r.Stderr, len(r.Stdout), r.Stdout[max(0, len(r.Stdout)-20):])
		}
	}
}

// TestRootlessStdioOwners is the same for an ordinary user's containers: what the user may not give away stays.
func TestRootlessStdioOwners(t *testing.T) {
	t.Parallel()
	s := NewRootless(t)
	s.GrantSubIDs()
	before := DeviceOwners(t)
	b := s.OwnBundle(Script("true"), func(c *specs.Spec) { c.Process.User.UID = 1000 })
	create := func() *exec.Cmd { return s.Command("create", "--bundle", b.Dir, "again") }
	run := func() *exec.Cmd { return s.Command("run", "--bundle", b.Dir, "once") }
	remove := func() *exec.Cmd { return s.Command("delete", "--force", "again") }
	for owner, given := range map[int]int{0: 0, s.User.UID: s.User.Sub + 999, s.User.Sub + 4: s.User.Sub + 999} {
		c := stdioCase{name: fmt.Sprint("a file of ", owner), owner: owner}
		c.check(s, "create", given, given, create, remove)
		c.check(s, "run", given, owner, run, nil)
	}
	Equal(t, "the host's devices", DeviceOwners(t), before)
}
