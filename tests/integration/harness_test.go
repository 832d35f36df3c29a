package integration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/sock-runtime/sock/spec"
)

const (
	// commandTimeout is far more than any command may take.
	commandTimeout = 15 * time.Second
	// settleTimeout is how long something that happens in the background may take.
	settleTimeout = 5 * time.Second
)

// applets are the commands of busybox in the root filesystem.
const applets = "sh cat chmod chown chrt cut date dd dmesg echo env false getopt grep head hostname id ionice ip ls mkdir mkfifo " +
	"mknod mount nice ps pwd readlink renice rm sed seq sleep sort stat stty sync tail test touch tr true tty umount uname wc"

// sandbox is what one test has for itself: a --root, bundles, cgroups. When the test ends it removes the containers and
// checks that nothing of them is left.
type sandbox struct {
	*testing.T
	dir  string // short, for the sake of socket paths
	root string
	mark string // in the environment of every command, in the name of every cgroup; no other begins with it
	ids  []string
}

var sandboxes atomic.Int64

func newSandbox(t *testing.T) *sandbox {
	t.Helper()
	need(t, os.Geteuid() == 0, "needs root")
	installable(t, busybox != "", "/bin/busybox is missing: install busybox-static")
	dir, err := os.MkdirTemp("", "sock-it-")
	must(t, err)
	s := &sandbox{T: t, dir: dir, root: filepath.Join(dir, "state"), mark: fmt.Sprintf("sock-it-%d-%04d", os.Getpid(), sandboxes.Add(1))}
	t.Cleanup(s.close)
	return s
}

// need skips the test where the machine can't have what it needs.
func need(t *testing.T, ok bool, why string) {
	t.Helper()
	if !ok {
		t.Skip(why)
	}
}

// installable is need for what could be installed: strict runs fail.
func installable(t *testing.T, ok bool, why string) {
	t.Helper()
	if !ok && os.Getenv("SOCK_TEST_STRICT") == "1" {
		t.Fatal(why)
	}
	need(t, ok, why)
}

func (s *sandbox) close() {
	s.Helper()
	if s.Failed() {
		s.rescue()
	}
	for _, id := range s.ids {
		if r := s.sock("delete", "--force", id); r.code != 0 {
			s.Errorf("delete --force: %v", r)
		}
	}
	s.checkNothingLeft()
	if s.Failed() {
		s.rescue()
	}
	if err := os.RemoveAll(s.dir); err != nil {
		s.Error(err)
	}
}

// rescue ends what a failed test left, without help from the runtime under test: thawed, killed, removed.
func (s *sandbox) rescue() {
	for _, dir := range s.cgroups() {
		_ = os.WriteFile(filepath.Join(dir, byCgroup("freezer.state", "cgroup.freeze")), []byte(byCgroup("THAWED", "0")), 0)
	}
	for _, process := range s.processes() {
		_ = unix.Kill(atoi(strings.Fields(process)[0]), unix.SIGKILL)
	}
	for deadline := time.Now().Add(time.Second); len(s.processes()) > 0 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	for _, dir := range s.cgroups() {
		_ = removeCgroup(dir)
	}
}

// checkNothingLeft fails for a process, cgroup, mount or state that the sandbox's containers left behind.
func (s *sandbox) checkNothingLeft() {
	s.Helper()
	if entries, err := os.ReadDir(s.root); err == nil {
		for _, e := range entries {
			if e.Name() != ",seccomp" { // compiled filters, for the containers to come
				s.Errorf("state is left: %s", e.Name())
				s.sock("delete", "--force", e.Name())
			}
		}
	}
	eventually(s.T, "the end of all processes", func() error {
		if pids := s.processes(); len(pids) > 0 {
			return fmt.Errorf("left: %v", pids)
		}
		return nil
	})
	eventually(s.T, "the end of all cgroups", func() error {
		if dirs := s.cgroups(); len(dirs) > 0 {
			return fmt.Errorf("left: %v", dirs)
		}
		return nil
	})
	for _, point := range mountPoints() {
		if strings.HasPrefix(point, s.dir) {
			s.Errorf("mount is left: %s", point)
			_ = unix.Unmount(point, unix.MNT_DETACH)
		}
	}
}

// processes lists those that are in a cgroup of the sandbox or are a command of it, whole or stub.
func (s *sandbox) processes() []string {
	var left []string
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err != nil {
			continue
		}
		dir := filepath.Join("/proc", e.Name())
		if strings.Contains(readFile(dir+"/cgroup"), s.mark+"/") || hasLineSuffix(readFile(dir+"/cgroup"), s.mark) ||
			strings.Contains(readFile(dir+"/environ"), "SOCK_TEST_MARK="+s.mark+"\x00") {
			left = append(left, e.Name()+" "+strings.TrimSpace(readFile(dir+"/comm")))
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

// bundle is a directory with config.json and rootfs.
type bundle struct {
	dir, rootfs string
}

// change modifies a config.
type change func(c *specs.Spec)

// bundle makes one of busybox and the default config without a terminal, with changes.
func (s *sandbox) bundle(changes ...change) bundle {
	s.Helper()
	dir, err := os.MkdirTemp(s.dir, "b")
	must(s.T, err)
	b := bundle{dir: dir, rootfs: filepath.Join(dir, "rootfs")}
	for _, name := range strings.Fields("bin dev etc proc sys tmp mnt root usr") {
		must(s.T, os.MkdirAll(filepath.Join(b.rootfs, name), 0o755))
	}
	must(s.T, os.Link(busybox, filepath.Join(b.rootfs, "bin/busybox")))
	for _, name := range strings.Fields(applets) {
		must(s.T, os.Symlink("busybox", filepath.Join(b.rootfs, "bin", name)))
	}
	must(s.T, os.WriteFile(filepath.Join(b.rootfs, "etc/passwd"), []byte("root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n"), 0o644))
	must(s.T, os.WriteFile(filepath.Join(b.rootfs, "etc/group"), []byte("root:x:0:\nuser:x:1000:\n"), 0o644))
	s.configure(b, changes...)
	return b
}

// configure writes the bundle's config.json.
func (s *sandbox) configure(b bundle, changes ...change) {
	s.Helper()
	c := spec.Default(false)
	c.Process.Terminal = false
	c.Process.Args = []string{"sleep", "1000"}
	c.Linux.CgroupsPath = "/" + s.mark
	for _, change := range changes {
		change(c)
	}
	data, err := json.MarshalIndent(c, "", "\t")
	must(s.T, err)
	must(s.T, os.WriteFile(filepath.Join(b.dir, "config.json"), data, 0o644))
}

func args(list ...string) change {
	return func(c *specs.Spec) { c.Process.Args = list }
}

func script(lines string) change { return args("sh", "-c", lines) }

func writable(c *specs.Spec) { c.Root.Readonly = false }

// privileged gives the process every capability that we have ourselves.
func privileged(c *specs.Spec) {
	bounding, _ := strconv.ParseUint(statusField(readFile("/proc/self/status"), "CapBnd"), 16, 64)
	var all []string
	for _, name := range strings.Fields("CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_ADMIN NET_RAW IPC_LOCK " +
		"SYS_CHROOT SYS_PTRACE SYS_ADMIN SYS_NICE SYS_TIME MKNOD SYSLOG SYS_RESOURCE") {
		if number, ok := spec.CapabilityNumber("CAP_" + name); ok && bounding&(1<<number) != 0 {
			all = append(all, "CAP_"+name)
		}
	}
	c.Process.Capabilities = &specs.LinuxCapabilities{Bounding: all, Effective: all, Permitted: all}
}

func mountAt(destination, kind, source string, options ...string) change {
	return func(c *specs.Spec) {
		c.Mounts = append(c.Mounts, specs.Mount{Destination: destination, Type: kind, Source: source, Options: options})
	}
}

func bindAt(destination, source string, options ...string) change {
	return mountAt(destination, "bind", source, append([]string{"bind"}, options...)...)
}

func withNamespace(kind specs.LinuxNamespaceType, path string) change {
	return func(c *specs.Spec) {
		withoutNamespace(kind)(c)
		c.Linux.Namespaces = append(c.Linux.Namespaces, specs.LinuxNamespace{Type: kind, Path: path})
	}
}

func withoutNamespace(kind specs.LinuxNamespaceType) change {
	return func(c *specs.Spec) {
		c.Linux.Namespaces = slices.DeleteFunc(c.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == kind })
	}
}

// result is what a command left: its output and exit status.
type result struct {
	args           []string
	stdout, stderr string
	code           int
}

func (r result) String() string {
	return fmt.Sprintf("%s: exit status %d\nstdout: %s\nstderr: %s", strings.Join(r.args, " "), r.code, r.stdout, r.stderr)
}

// command is the runtime with the sandbox's --root. Its output goes to files, which a container may keep open.
func (s *sandbox) command(args ...string) *exec.Cmd {
	cmd := exec.Command(binary, append([]string{"--root", s.root}, args...)...)
	cmd.Env = append(os.Environ(), "SOCK_TEST_MARK="+s.mark)
	cmd.Dir = s.dir
	return cmd
}

func (s *sandbox) logFile(kind string) *os.File {
	s.Helper()
	f, err := os.CreateTemp(s.dir, kind)
	must(s.T, err)
	return f
}

// start begins a command; finish ends it.
func (s *sandbox) start(cmd *exec.Cmd) {
	s.Helper()
	if cmd.Stdout == nil {
		cmd.Stdout = s.logFile("stdout")
	}
	if cmd.Stderr == nil {
		cmd.Stderr = s.logFile("stderr")
	}
	must(s.T, cmd.Start())
}

func (s *sandbox) finish(cmd *exec.Cmd) result {
	s.Helper()
	r := result{args: cmd.Args[1:]}
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	defer stop()
	err := cmd.Wait()
	if ctx.Err() != nil {
		s.Errorf("%s: no end after %s", strings.Join(r.args, " "), commandTimeout)
	}
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		s.Fatal(err)
	}
	r.code = cmd.ProcessState.ExitCode()
	if f, ok := cmd.Stdout.(*os.File); ok {
		r.stdout = readFile(f.Name())
		_ = f.Close()
	}
	if f, ok := cmd.Stderr.(*os.File); ok {
		r.stderr = readFile(f.Name())
		_ = f.Close()
	}
	return r
}

func (s *sandbox) do(cmd *exec.Cmd) result {
	s.Helper()
	s.start(cmd)
	return s.finish(cmd)
}

// sock runs the runtime to its end.
func (s *sandbox) sock(args ...string) result {
	s.Helper()
	return s.do(s.command(args...))
}

// ok is sock for a command that must succeed; it returns its output.
func (s *sandbox) ok(args ...string) string {
	s.Helper()
	r := s.sock(args...)
	if r.code != 0 {
		s.Fatal(r)
	}
	return r.stdout
}

// fails is sock for a command that must fail and say all of texts.
func (s *sandbox) fails(texts []string, args ...string) result {
	s.Helper()
	r := s.sock(args...)
	if r.code == 0 {
		s.Errorf("succeeded: %v", r)
	}
	for _, text := range texts {
		if !strings.Contains(strings.ReplaceAll(r.stderr, `\"`, `"`), text) { // the text log quotes
			s.Errorf("no %q in the error: %v", text, r)
		}
	}
	return r
}

func said(texts ...string) []string { return texts }

// id invents a container's name, which close deletes.
func (s *sandbox) id() string {
	id := fmt.Sprintf("c%d", len(s.ids)+1)
	s.ids = append(s.ids, id)
	return id
}

// output runs a shell script in a container of its own, in the foreground.
func (s *sandbox) output(lines string, changes ...change) string {
	s.Helper()
	r := s.run(append([]change{script(lines)}, changes...)...)
	if r.code != 0 {
		s.Fatal(r)
	}
	return r.stdout
}

func (s *sandbox) run(changes ...change) result {
	s.Helper()
	return s.sock("run", "--bundle", s.bundle(changes...).dir, s.id())
}

// container is one that was created.
type container struct {
	*sandbox
	bundle
	name   string
	stdout string
}

func (s *sandbox) create(changes ...change) *container {
	s.Helper()
	return s.createIn(s.bundle(changes...))
}

func (s *sandbox) createIn(b bundle, flags ...string) *container {
	s.Helper()
	c := &container{sandbox: s, bundle: b, name: s.id()}
	cmd := s.command(append(append([]string{"create", "--bundle", b.dir}, flags...), c.name)...)
	out := s.logFile("stdout")
	c.stdout = out.Name()
	cmd.Stdout = out
	if r := s.do(cmd); r.code != 0 {
		s.Fatal(r)
	}
	return c
}

// running creates and starts a container.
func (s *sandbox) running(changes ...change) *container {
	s.Helper()
	c := s.create(changes...)
	s.ok("start", c.name)
	return c
}

// state is the answer of the state command.
type state struct {
	OCIVersion  string            `json:"ociVersion"`
	ID          string            `json:"id"`
	Pid         int               `json:"pid"`
	Status      string            `json:"status"`
	Bundle      string            `json:"bundle"`
	Rootfs      string            `json:"rootfs"`
	Created     time.Time         `json:"created"`
	Annotations map[string]string `json:"annotations"`
	Owner       string            `json:"owner"`
}

func (c *container) state() state {
	c.Helper()
	return decode[state](c.T, c.ok("state", c.name))
}

func (c *container) pid() int {
	c.Helper()
	return c.state().Pid
}

func (c *container) wantStatus(want string) {
	c.Helper()
	eventually(c.T, "status "+want, func() error {
		if got := c.state().Status; got != want {
			return fmt.Errorf("is %s", got)
		}
		return nil
	})
}

// inside runs a shell script in the container by exec.
func (c *container) inside(lines string) string {
	c.Helper()
	return strings.TrimSpace(c.ok("exec", c.name, "sh", "-c", lines))
}

// proc reads a file of the init process in the host's /proc.
func (c *container) proc(name string) string {
	c.Helper()
	return readFile(fmt.Sprintf("/proc/%d/%s", c.pid(), name))
}

// namespace identifies one of the container's namespaces.
func (c *container) namespace(name string) string {
	c.Helper()
	return namespaceOf(c.T, c.pid(), name)
}

func namespaceOf(t *testing.T, pid int, name string) string {
	t.Helper()
	link, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, name))
	must(t, err)
	return link
}

// statusField reads a line of /proc/PID/status.
func statusField(status, name string) string {
	for line := range strings.Lines(status) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.Join(strings.Fields(value), " ")
		}
	}
	return ""
}

// mountLine is what mountinfo says of a mount point: its options, optional fields, type and superblock's options.
type mountLine struct {
	root, options, optional, kind, source, super string
}

// mountsOf parses mountinfo; of several mounts at one place the last counts.
func mountsOf(text string) map[string]mountLine {
	mounts := make(map[string]mountLine)
	for line := range strings.Lines(text) {
		before, after, ok := strings.Cut(line, " - ")
		f, g := strings.Fields(before), strings.Fields(after)
		if !ok || len(f) < 6 || len(g) < 2 {
			continue
		}
		m := mountLine{root: f[3], options: f[5], optional: strings.Join(f[6:], " "), kind: g[0], source: g[1]}
		if len(g) > 2 {
			m.super = g[2]
		}
		mounts[f[4]] = m
	}
	return mounts
}

func (m mountLine) has(option string) bool {
	return slices.Contains(strings.Split(m.options, ","), option)
}

func decode[T any](t *testing.T, text string) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v in %q", err, text)
	}
	return v
}

// eventually waits until check returns nil.
func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(settleTimeout); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		if err = check(); err == nil {
			return
		}
	}
	t.Errorf("%s does not come: %v", what, err)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func equal[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s is %v, want %v", what, got, want)
	}
}

// readFile returns what can be read of a file, "" if nothing.
func readFile(name string) string {
	data, _ := os.ReadFile(name)
	return string(data)
}

func writeFile(t *testing.T, name, text string, mode os.FileMode) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(name), 0o755))
	must(t, os.WriteFile(name, []byte(text), mode))
	must(t, os.Chmod(name, mode))
}

func atoi(s string) int {
	n, _ := strconv.Atoi(strings.TrimSpace(s))
	return n
}

func alive(pid int) bool {
	status := readFile(fmt.Sprintf("/proc/%d/status", pid))
	return status != "" && !strings.HasPrefix(statusField(status, "State"), "Z")
}

func ptr[T any](v T) *T { return &v }
