package sandbox

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Room is a place for a container engine: a mount and a network namespace with empty directories where engines keep what
// is not told elsewhere. All that is left there disappears with it, and the host's own engines are out of reach.
type Room struct {
	*Sandbox
	holder *exec.Cmd
}

// furnish is what the first process of a room does. v1's hierarchies are mounted in directories of a tmpfs, in which Podman
// makes directories for those that are missing; so it gets another one.
const furnish = `set -e
for dir in /run /dev/shm /var/lib/cni; do
	[ ! -d $dir ] || mount -t tmpfs room $dir
done
if [ ! -e /sys/fs/cgroup/cgroup.controllers ]; then
	mkdir /run/cgroup
	mount -t tmpfs room /run/cgroup
	for dir in /sys/fs/cgroup/*; do
		new=/run/cgroup/${dir##*/}
		if [ -L $dir ]; then
			cp -P $dir $new
		elif mountpoint -q $dir; then
			mkdir $new
			mount --move $dir $new
		fi
	done
	umount /sys/fs/cgroup
	mount --move /run/cgroup /sys/fs/cgroup
fi
mount --make-rshared / # as under systemd
ip link set lo up
echo ready
exec sleep infinity`

// NewRoom makes a room, and has the sandbox close it.
func (s *Sandbox) NewRoom() *Room {
	s.Helper()
	r := &Room{Sandbox: s, holder: exec.Command("unshare", "--mount", "--net", "sh", "-c", furnish)}
	r.holder.Stderr = os.Stderr
	out, err := r.holder.StdoutPipe()
	Must(s.T, err)
	Must(s.T, r.holder.Start())
	s.Cleanup(func() {
		_ = r.holder.Process.Kill()
		_ = r.holder.Wait()
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		s.Fatalf("make a room: %v", err)
	}
	return r
}

// Pid is that of a process in the room.
func (r *Room) Pid() int { return r.holder.Process.Pid }

// Command runs a command in the room, below the sandbox's cgroup.
func (r *Room) Command(args ...string) *exec.Cmd {
	cmd := exec.Command("nsenter", append([]string{"--target", fmt.Sprint(r.Pid()), "--mount", "--net", "--"}, args...)...)
	cmd.Env = append(os.Environ(), "SOCK_TEST_MARK="+r.Mark, "HOME="+r.Dir)
	cmd.Dir = r.Dir
	return cmd
}

// WriteSettings writes /etc/sock/config.toml of the room.
func (r *Room) WriteSettings(text string) {
	r.Helper()
	const write = `[ -d /run/etc ] || { cp -a /etc /run/etc && mkdir -p /run/etc/sock && mount --bind /run/etc /etc; } && cat > /etc/sock/config.toml`
	cmd := r.Command("sh", "-c", write)
	cmd.Stdin = strings.NewReader(text)
	if result := r.Do(cmd); result.Code != 0 {
		r.Fatal(result)
	}
}

// AddUser makes a user and a group with this id, to whom the 65,536 ids from subIDs on are given. They exist in the room.
func (r *Room) AddUser(name string, id, subIDs int) {
	r.Helper()
	for file, line := range map[string]string{
		"passwd": fmt.Sprintf("%s:x:%d:%d::%s:/bin/sh", name, id, id, r.Dir), "group": fmt.Sprintf("%s:x:%d:", name, id),
		"subuid": fmt.Sprintf("%s:%d:65536", name, subIDs), "subgid": fmt.Sprintf("%s:%d:65536", name, subIDs),
	} {
		changed := filepath.Join(r.Dir, file)
		WriteFile(r.T, changed, ReadFile("/etc/"+file)+line+"\n", 0o644)
		if result := r.Do(r.Command("mount", "--bind", changed, "/etc/"+file)); result.Code != 0 {
			r.Fatal(result)
		}
	}
}

// Engine is the command line of a container engine.
type Engine struct {
	*Sandbox
	Room *Room
	Args []string // the program and its global flags
	Env  []string
}

// In is the engine for a subtest.
func (e Engine) In(t *testing.T) Engine {
	s := *e.Sandbox
	s.T = t
	e.Sandbox = &s
	return e
}

// Command is one of the engine's.
func (e Engine) Command(args ...string) *exec.Cmd {
	cmd := e.Room.Command(append(e.Args[:len(e.Args):len(e.Args)], args...)...)
	cmd.Env = append(cmd.Env, e.Env...)
	return cmd
}

// Try runs a command of the engine to its end.
func (e Engine) Try(args ...string) Result {
	e.Helper()
	r := e.Do(e.Command(args...))
	r.Args = append(e.Args[:1:1], args...)
	return r
}

// OK is Try for a command that must succeed; it returns its output without blanks around it.
func (e Engine) OK(args ...string) string {
	e.Helper()
	r := e.Try(args...)
	if r.Code != 0 {
		e.Fatal(r)
	}
	return strings.TrimSpace(r.Stdout)
}

// Fails is Try for a command that must exit with the code and say the text.
func (e Engine) Fails(code int, text string, args ...string) {
	e.Helper()
	if r := e.Try(args...); r.Code != code || !strings.Contains(r.Stderr, text) {
		e.Errorf("want exit status %d and %q: %v", code, text, r)
	}
}

// Prints runs a command that must succeed with this output, without blanks around it.
func (e Engine) Prints(want string, args ...string) {
	e.Helper()
	if r := e.Try(args...); r.Code != 0 || strings.TrimSpace(r.Stdout) != want {
		e.Errorf("want %q: %v", want, r)
	}
}

// Terminal starts a command of the engine on a terminal. The function waits for its end and returns its exit status.
func (e Engine) Terminal(rows, columns uint16, args ...string) (*Console, func() int) {
	e.Helper()
	con, slave := e.Pty(rows, columns)
	cmd := e.Command(args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	Must(e.T, cmd.Start())
	return con, func() int {
		stop := time.AfterFunc(commandTimeout, func() { _ = cmd.Process.Kill() })
		defer stop.Stop()
		_ = cmd.Wait()
		return cmd.ProcessState.ExitCode()
	}
}

// Resize gives the terminal another size.
func (c *Console) Resize(rows, columns uint16) {
	c.Helper()
	Must(c.T, unix.IoctlSetWinsize(int(c.Master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: columns}))
}

// ImageTar is a tar archive of a bundle's root file system.
func (s *Sandbox) ImageTar() string {
	s.Helper()
	name, b := filepath.Join(s.Dir, "image.tar"), s.Bundle()
	// A file of its own: tar fails if a file changes, and another test's link to it counts as a change.
	busybox := filepath.Join(b.Rootfs, "bin/busybox")
	Must(s.T, os.Remove(busybox))
	Must(s.T, os.WriteFile(busybox, []byte(ReadFile(Busybox)), 0o755))
	if out, err := exec.Command("tar", "-C", b.Rootfs, "-cf", name, ".").CombinedOutput(); err != nil {
		s.Fatalf("tar: %v\n%s", err, out)
	}
	return name
}
