package sandbox

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/sock-runtime/sock/spec"
)

// User is an ordinary user that nobody else is: a number that no account has.
type User struct {
	UID int
	Sub int // the first of SubIDs further ids; 0: it was granted none
	dir string
}

// SubIDs is how many ids a user is granted.
const SubIDs = 65536

// The ids of users, and those that they are granted, are beyond what useradd and systemd give away.
const firstUID, firstSub = 1 << 30, 1<<30 + 1<<29

var users atomic.Int64

// NewRootless makes a sandbox whose commands are run by an ordinary user, whom it belongs to.
func NewRootless(t *testing.T) *Sandbox {
	t.Helper()
	s := NewSandbox(t)
	s.Systemd = false // that would be the user's own
	number := os.Getpid()%(1<<12)<<10 + int(users.Add(1))
	s.User = &User{UID: firstUID + number, dir: s.Dir}
	for _, dir := range []string{s.Root, s.User.RunDir()} {
		Must(t, os.Mkdir(dir, 0o700))
		Must(t, os.Chown(dir, s.User.UID, s.User.UID))
	}
	Must(t, os.Chown(s.Dir, s.User.UID, s.User.UID))
	Must(t, os.Chmod(s.Dir, 0o755))
	return s
}

// GrantSubIDs gives the user further ids, as /etc/subuid and /etc/subgid do. Its commands see these files, and one of accounts
// with its name, in a mount namespace of their own: those of the machine are left alone.
func (s *Sandbox) GrantSubIDs() {
	s.Helper()
	for _, tool := range []string{"newuidmap", "newgidmap", "unshare", "setpriv"} {
		_, err := exec.LookPath(tool)
		// There is no installing in the machine that has busybox alone.
		_, noDebian := os.Stat("/etc/debian_version")
		Need(s.T, err == nil || noDebian == nil, tool+" is missing")
		Installable(s.T, err == nil, tool+" is missing: install uidmap and util-linux")
	}
	u := s.User
	u.Sub = firstSub + (u.UID-firstUID)%(1<<12)*SubIDs
	Must(s.T, os.Mkdir(u.etc(), 0o755))
	WriteFile(s.T, filepath.Join(u.etc(), "passwd"), ReadFile("/etc/passwd")+fmt.Sprintf("sock-it:x:%[1]d:%[1]d::%[2]s:/bin/sh\n", u.UID, s.Dir), 0o644)
	for _, name := range []string{"subuid", "subgid"} {
		WriteFile(s.T, filepath.Join(u.etc(), name), fmt.Sprintf("%d:%d:%d\n", u.UID, u.Sub, SubIDs), 0o644)
	}
}

func (u *User) etc() string { return filepath.Join(u.dir, "etc") }

// RunDir is the user's $XDG_RUNTIME_DIR.
func (u *User) RunDir() string { return filepath.Join(u.dir, "run") }

// become has the user run a command.
func (u *User) become(cmd *exec.Cmd) {
	if cmd.Path == Binary {
		cmd.Path = userBinary
	}
	cmd.Env = append(cmd.Env, "XDG_RUNTIME_DIR="+u.RunDir(), "HOME="+u.dir)
	if u.Sub == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(u.UID), Gid: uint32(u.UID)}}
		return
	}
	// unshare has made the mounts private.
	const script = `etc=$1 id=$2; shift 2
for name in passwd subuid subgid; do
	[ -e /etc/$name ] || exit 200
	mount --bind "$etc/$name" /etc/$name || exit 201
done
exec setpriv --reuid "$id" --regid "$id" --clear-groups -- "$@"`
	wrapped := exec.Command("unshare", append([]string{"--mount", "sh", "-c", script, "sh", u.etc(), fmt.Sprint(u.UID), cmd.Path}, cmd.Args[1:]...)...)
	cmd.Path, cmd.Args = wrapped.Path, wrapped.Args
}

// Shell runs a shell script as the user, with the runtime as $sock.
func (s *Sandbox) Shell(script string, args ...string) Result {
	s.Helper()
	return s.Do(s.ShellCommand(script, args...))
}

// ShellCommand is what Shell runs.
func (s *Sandbox) ShellCommand(script string, args ...string) *exec.Cmd {
	cmd := exec.Command("/bin/sh", append([]string{"-c", script, "sh"}, args...)...)
	cmd.Env = append(os.Environ(), "SOCK_TEST_MARK="+s.Mark, "sock="+userBinary+" --root "+s.Root)
	cmd.Dir = s.Dir
	s.User.become(cmd)
	return cmd
}

// runs tells whether a process is the user's, or one of those that it was granted.
func (u *User) runs(proc string) bool {
	if u == nil {
		return false
	}
	info, err := os.Stat(proc)
	if err != nil {
		return false
	}
	uid := int(info.Sys().(*syscall.Stat_t).Uid)
	return uid == u.UID || u.Sub > 0 && uid >= u.Sub && uid < u.Sub+SubIDs
}

// Map is the mapping of the container's root to the user and, if the user has further ids, of those behind it to them.
func (u *User) Map() []specs.LinuxIDMapping {
	mapping := []specs.LinuxIDMapping{{HostID: uint32(u.UID), Size: 1}}
	if u.Sub > 0 {
		mapping = append(mapping, specs.LinuxIDMapping{ContainerID: 1, HostID: uint32(u.Sub), Size: SubIDs})
	}
	return mapping
}

// OwnBundle is a bundle of the user's with the config that `spec --rootless` writes for it, without a terminal.
func (s *Sandbox) OwnBundle(changes ...Change) Bundle {
	s.Helper()
	b := s.Bundle(append([]Change{s.rootless}, changes...)...)
	s.Own(b.Dir, s.User.UID)
	return b
}

func (s *Sandbox) rootless(c *specs.Spec) {
	args := c.Process.Args
	*c = *spec.Default(true)
	c.Process.Terminal, c.Process.Args = false, args
	c.Linux.UIDMappings, c.Linux.GIDMappings = s.User.Map(), s.User.Map()
}

// Own gives all of a directory to a user.
func (s *Sandbox) Own(dir string, uid int) {
	s.Helper()
	Must(s.T, filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.Name() != "busybox" { // a link to the host's
			err = os.Lchown(name, uid, uid)
		}
		return err
	}))
	Must(s.T, os.Chmod(dir, 0o755))
}

// OwnOutput is OutputOf in a container of the user's.
func (s *Sandbox) OwnOutput(lines string, changes ...Change) string {
	s.Helper()
	b := s.OwnBundle(append([]Change{Script(lines)}, changes...)...)
	return s.OK("run", "--bundle", b.Dir, s.NewID())
}

// Words joins what is between blanks and newlines by single blanks.
func Words(text string) string { return strings.Join(strings.Fields(text), " ") }

// UserCgroup makes a cgroup for the user to run commands in, and returns the one above it; "" where there is no cgroup v2.
// delegated gives the user that one, too, as systemd does for a session.
func (s *Sandbox) UserCgroup(delegated bool) string {
	s.Helper()
	if !Unified() {
		return ""
	}
	above := filepath.Join(CgroupRoot, s.Mark+".user")
	leaf := filepath.Join(above, "shell")
	Must(s.T, os.MkdirAll(leaf, 0o755))
	s.Cleanup(func() { _ = RemoveCgroup(above) })
	for _, dir := range []string{CgroupRoot, above} { // systemd takes away what it doesn't need
		Must(s.T, os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+memory +pids +cpu"), 0))
	}
	dirs := []string{leaf}
	if delegated {
		dirs = append(dirs, above)
	}
	for _, dir := range dirs {
		for _, name := range append(strings.Fields(ReadFile("/sys/kernel/cgroup/delegate")), ".") {
			if err := os.Chown(filepath.Join(dir, name), s.User.UID, s.User.UID); err != nil && !os.IsNotExist(err) {
				s.Fatal(err)
			}
		}
	}
	return above
}

// InCgroup has a command start in a user's cgroup.
func (s *Sandbox) InCgroup(cmd *exec.Cmd, above string) {
	s.Helper()
	if above == "" {
		return
	}
	dir, err := os.Open(filepath.Join(above, "shell"))
	Must(s.T, err)
	s.Cleanup(func() { dir.Close() })
	cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(dir.Fd())
}
