package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	bootstrap "github.com/containerd/containerd/api/runtime/bootstrap/v1"
	task "github.com/containerd/containerd/api/runtime/task/v2"
	"github.com/containerd/containerd/api/types"
	runc "github.com/containerd/containerd/api/types/runc/options"
	"github.com/opencontainers/runtime-spec/specs-go/features"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/sock-runtime/sock/shim/options"
	"github.com/sock-runtime/sock/shim/rendezvous"
)

// programs is the directory of both programs, as they are installed.
var programs string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		var err error
		if programs, err = os.MkdirTemp("", "shimd"); err != nil {
			panic(err)
		}
		defer os.RemoveAll(programs)
		for _, name := range []string{"sock-shimd", "containerd-shim-sock-v1"} {
			build := exec.Command("go", "build", "-tags", "netgo,osusergo", "-o", programs, "github.com/sock-runtime/sock/cmd/"+name)
			build.Env = append(os.Environ(), "CGO_ENABLED=0")
			if out, err := build.CombinedOutput(); err != nil {
				fmt.Fprintf(os.Stderr, "build %s: %v\n%s", name, err, out)
				return 1
			}
		}
		return m.Run()
	}())
}

// host plays containerd, with an address that nobody else has.
type host struct {
	*testing.T
	address string
}

func newHost(t *testing.T) *host {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("shims run as root")
	}
	t.Parallel()
	h := &host{T: t, address: filepath.Join(t.TempDir(), "containerd.sock")}
	t.Cleanup(func() {
		h.end()
		dirs, _ := filepath.Glob(rendezvous.Root + "/" + h.namespace() + "-*")
		for _, dir := range dirs {
			_ = os.RemoveAll(dir)
		}
	})
	return h
}

// end ends the shims.
func (h *host) end() {
	h.Helper()
	for _, pid := range h.processes("keeper") {
		_ = unix.Kill(pid, unix.SIGKILL)
	}
	h.wait("the shims' end", func() bool { return len(h.processes("")) == 0 })
}

// namespace is one that no other test has.
func (h *host) namespace() string {
	name := strings.NewReplacer("/", "-", "_", "-").Replace(h.Name())
	return strings.ToLower(name[:min(len(name), 20)]) + strconv.Itoa(os.Getpid())
}

// processes are the pids of the shims' keepers or workers, or both.
func (h *host) processes(role string) []int {
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	var pids []int
	for _, name := range all {
		data, _ := os.ReadFile(name)
		args := strings.Split(string(data), "\x00")
		if len(args) > 5 && args[0] == "sock-shimd" && (role == "" || args[1] == role) && args[3] == h.namespace() {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(name)))
			pids = append(pids, pid)
		}
	}
	return pids
}

func (h *host) wait(what string, done func() bool) {
	h.Helper()
	for deadline := time.Now().Add(20 * time.Second); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			h.Fatalf("%s doesn't come", what)
		}
	}
}

// command is an execution as containerd's. The bundle is a new one if there is none.
func (h *host) command(bundle, id, action string, stdin proto.Message) *exec.Cmd {
	h.Helper()
	c := exec.Command(filepath.Join(programs, "containerd-shim-sock-v1"),
		"-namespace", h.namespace(), "-address", h.address, "-publish-binary", "/usr/bin/containerd", "-id", id, action)
	if c.Dir = bundle; bundle == "" {
		c.Dir = h.TempDir()
	}
	c.Env = append(os.Environ(), "TTRPC_ADDRESS="+h.address+".ttrpc", "GOMAXPROCS=2")
	if stdin != nil {
		data, err := proto.Marshal(stdin)
		if err != nil {
			h.Fatal(err)
		}
		c.Stdin = bytes.NewReader(data)
	}
	return c
}

func (h *host) start(bundle, id string, stdin proto.Message) string {
	h.Helper()
	out, err := h.command(bundle, id, "start", stdin).CombinedOutput()
	if err != nil {
		h.Fatalf("start: %v: %s", err, out)
	}
	return string(out)
}

func (h *host) delete(bundle, id string) *task.DeleteResponse {
	h.Helper()
	out, err := h.command(bundle, id, "delete", nil).CombinedOutput()
	if err != nil {
		h.Fatalf("delete: %v: %s", err, out)
	}
	var r task.DeleteResponse
	if err := proto.Unmarshal(out, &r); err != nil {
		h.Fatalf("delete: %v: %q", err, out)
	}
	return &r
}

// options wraps options as containerds before 2.3 do.
func (h *host) options(m proto.Message) *anypb.Any {
	h.Helper()
	a, err := anypb.New(m)
	if err != nil {
		h.Fatal(err)
	}
	return a
}

func dirOf(t *testing.T, address string) string {
	t.Helper()
	dir := rendezvous.DirOf(address)
	if dir == "" {
		t.Fatalf("no address: %q", address)
	}
	return dir
}

func TestVersion(t *testing.T) {
	for _, flag := range []string{"-v", "--version"} {
		out, err := exec.Command(filepath.Join(programs, "containerd-shim-sock-v1"), flag).CombinedOutput()
		if err != nil || !strings.HasPrefix(string(out), "containerd-shim-sock-v1:\n  Version:  "+version) {
			t.Errorf("%s: %v: %s", flag, err, out)
		}
	}
}

// TestInfo asks as containerd does for each container with idmapped mounts.
func TestInfo(t *testing.T) {
	given, err := anypb.New(&runc.Options{BinaryName: "x"})
	if err != nil {
		t.Fatal(err)
	}
	encoded, _ := proto.Marshal(given)
	for name, stdin := range map[string][]byte{"no options": nil, "options": encoded, "nonsense": []byte("\xff\xff\xff")} {
		c := exec.Command(filepath.Join(programs, "containerd-shim-sock-v1"), "-info")
		c.Stdin = bytes.NewReader(stdin)
		out, err := c.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v: %s", name, err, out)
		}
		var i types.RuntimeInfo
		if err := proto.Unmarshal(out, &i); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if i.Name != "io.containerd.sock.v1" || i.Version.GetVersion() != version || i.Features.GetTypeUrl() != featuresType {
			t.Errorf("%s: %v", name, &i)
		}
		if got := i.Options.GetTypeUrl(); (name == "options") != (got == given.TypeUrl) {
			t.Errorf("%s: options %q", name, got)
		}
		var f features.Features
		if err := json.Unmarshal(i.Features.GetValue(), &f); err != nil || f.OCIVersionMax == "" || !*f.Linux.MountExtensions.IDMap.Enabled {
			t.Errorf("%s: features %s, %v", name, i.Features.GetValue(), err)
		}
	}
}

func TestStart(t *testing.T) {
	h := newHost(t)
	bundle := t.TempDir()
	address := h.start(bundle, "a", nil)
	dir := dirOf(t, address)
	if dir != rendezvous.Dir(h.address, h.namespace(), "") {
		t.Errorf("the address is %s", address)
	}
	if written, err := os.ReadFile(filepath.Join(bundle, "address")); err != nil || string(written) != address {
		t.Errorf("bundle/address: %q, %v", written, err)
	}
	for _, name := range []string{rendezvous.Root, dir} {
		if st, err := os.Stat(name); err != nil || st.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v, %v", name, st.Mode(), err)
		}
	}
	for _, name := range []string{rendezvous.TaskSocket, rendezvous.ControlSocket} {
		if st, err := os.Stat(filepath.Join(dir, name)); err != nil || st.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v, %v", name, st.Mode(), err)
		}
	}
	params := &bootstrap.BootstrapParams{InstanceID: "b", Namespace: h.namespace(), ContainerdVersion: "2.4.2"}
	if err := params.AddExtension(&runc.Options{}); err != nil {
		t.Fatal(err)
	}
	for id, stdin := range map[string]proto.Message{"a": nil, "b": params, "c": h.options(&runc.Options{SystemdCgroup: true})} {
		again := h.start("", id, stdin)
		if stdin == params { // who knows these knows version 3 of the API
			var answer bootstrap.BootstrapResult
			if err := json.Unmarshal([]byte(again), &answer); err != nil || answer.Version != 3 || answer.Protocol != "ttrpc" {
				t.Errorf("answer %s, %v", again, err)
			}
			again = answer.Address
		}
		if again != address {
			t.Errorf("another start: %s, before %s", again, address)
		}
	}
	if n := len(h.processes("keeper")); n != 1 {
		t.Errorf("%d keepers", n)
	}
	// Containers can't write to their file.
	for _, pid := range h.processes("") {
		var st unix.Statfs_t
		if err := unix.Statfs(fmt.Sprintf("/proc/%d/exe", pid), &st); err != nil || st.Flags&unix.ST_RDONLY == 0 {
			t.Errorf("process %d doesn't run from a read-only mount (%v)", pid, err)
		}
	}
	// Nothing that this test inherited is left open in them, and nothing keeps the bundle busy.
	for _, pid := range h.processes("") {
		fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
		for _, fd := range fds {
			to, _ := os.Readlink(fd)
			if n, _ := strconv.Atoi(filepath.Base(fd)); n > 2 && !strings.HasPrefix(to, "socket:") && !strings.HasPrefix(to, "anon_inode:") && !strings.HasPrefix(to, dir) {
				t.Errorf("process %d has %s", pid, to)
			}
		}
		if cwd, _ := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid)); cwd != "/" {
			t.Errorf("process %d works in %s", pid, cwd)
		}
	}
}

// TestManyStarts starts fifty containers at once where no shim runs: there is one in the end, and all get its address.
func TestManyStarts(t *testing.T) {
	h := newHost(t)
	const count = 50
	addresses := make([]string, count)
	bundle := t.TempDir()
	var all sync.WaitGroup
	for i := range count {
		c := h.command(bundle, "id"+strconv.Itoa(i), "start", nil)
		all.Go(func() {
			out, err := c.CombinedOutput()
			if err != nil {
				t.Errorf("start: %v: %s", err, out)
			}
			addresses[i] = string(out)
		})
	}
	all.Wait()
	for _, a := range addresses {
		if a != addresses[0] || rendezvous.DirOf(a) == "" {
			t.Fatalf("addresses %q and %q", a, addresses[0])
		}
	}
	if k, w := h.processes("keeper"), h.processes("worker"); len(k) != 1 || len(w) != 1 {
		t.Errorf("keepers %v, workers %v", k, w)
	}
}

// TestStartAfterKill has a keeper killed: its sockets are left, and its worker goes by itself.
func TestStartAfterKill(t *testing.T) {
	h := newHost(t)
	address := h.start("", "a", nil)
	before := h.processes("keeper")
	_ = unix.Kill(before[0], unix.SIGKILL)
	h.wait("the worker's end", func() bool { return len(h.processes("worker")) == 0 })
	if again := h.start("", "b", nil); again != address {
		t.Errorf("%s, before %s", again, address)
	}
	if now := h.processes("keeper"); len(now) != 1 || now[0] == before[0] {
		t.Errorf("keepers %v, before %v", now, before)
	}
}

// TestStartBesideQuit asks a shim that ends without an answer, so that standard input has been read when another has to be
// started.
func TestStartBesideQuit(t *testing.T) {
	h := newHost(t)
	h.start("", "a", nil) // makes the directories
	for _, pid := range h.processes("keeper") {
		_ = unix.Kill(pid, unix.SIGKILL)
	}
	h.wait("the shim's end", func() bool { return len(h.processes("")) == 0 })
	dir := rendezvous.Dir(h.address, h.namespace(), "")
	_ = os.Remove(filepath.Join(dir, rendezvous.ControlSocket))
	l, err := net.Listen("unix", filepath.Join(dir, rendezvous.ControlSocket))
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = c.Read(make([]byte, 100_000))
		_ = l.Close()
		_ = c.Close()
	}()
	address := h.start("", "b", h.options(container()))
	if got, want := dirOf(t, address), rendezvous.Dir(h.address, h.namespace(), "b"); got != want {
		t.Errorf("the options were lost: served in %s, want %s", got, want)
	}
}

func TestGroups(t *testing.T) {
	h := newHost(t)
	h.start("", "plain", nil)
	bundles := map[string]string{}
	seen := map[string]string{}
	for _, id := range []string{"a", "b"} {
		bundles[id] = t.TempDir()
		address := h.start(bundles[id], id, h.options(container()))
		if other := seen[address]; other != "" {
			t.Errorf("%s and %s share %s", id, other, address)
		}
		seen[address] = id
		if again := h.start(bundles[id], id, h.options(container())); again != address {
			t.Errorf("%s: %s, before %s", id, again, address)
		}
	}
	pod := func(id, annotations string) string {
		bundle := t.TempDir()
		if err := os.WriteFile(filepath.Join(bundle, "config.json"), []byte(`{"annotations":{`+annotations+`}}`), 0o600); err != nil {
			t.Fatal(err)
		}
		return h.start(bundle, id, h.options(podOptions()))
	}
	first := pod("c", `"io.kubernetes.cri.sandbox-id":"p"`)
	if second := pod("d", `"io.kubernetes.cri.sandbox-id":"p"`); second != first || seen[first] != "" {
		t.Errorf("one pod: %s and %s", first, second)
	}
	if other := pod("e", `"x":"y"`); other == first || seen[other] != "" {
		t.Errorf("no pod: %s", other)
	}
	if n := len(h.processes("keeper")); n != 5 {
		t.Errorf("%d keepers", n)
	}
	// A group's shim ends with its last container; its directory goes, too.
	dir := rendezvous.Dir(h.address, h.namespace(), "a")
	h.delete(bundles["a"], "a")
	h.wait("the end of the group's shim", func() bool {
		_, err := os.Stat(dir)
		return len(h.processes("keeper")) == 4 && os.IsNotExist(err)
	})
	if _, err := net.Dial("unix", strings.TrimPrefix(h.start("", "plain2", nil), rendezvous.Scheme)); err != nil {
		t.Errorf("the namespace's shim: %v", err)
	}
}

// TestStartWhileEnding starts a container just when the shim ends for want of one: whoever gets an address finds somebody there,
// and for long enough.
func TestStartWhileEnding(t *testing.T) {
	h := newHost(t)
	bundle := t.TempDir()
	for i := range 8 {
		h.start(bundle, "a", h.options(container()))
		h.delete(bundle, "a")
		time.Sleep(groupGrace - 20*time.Millisecond + time.Duration(i)*5*time.Millisecond)
		address := h.start(bundle, "a", h.options(container()))
		time.Sleep(groupGrace + 200*time.Millisecond)
		c, err := net.Dial("unix", strings.TrimPrefix(address, rendezvous.Scheme))
		if err != nil {
			t.Fatalf("round %d: %v", i, err)
		}
		_ = c.Close()
	}
}

func TestDeleteWithoutShim(t *testing.T) {
	h := newHost(t)
	r := h.delete(t.TempDir(), "gone")
	if r.ExitStatus != 137 || r.ExitedAt.AsTime().Before(time.Now().Add(-time.Minute)) {
		t.Errorf("got %v", r)
	}
	if n := len(h.processes("")); n != 0 {
		t.Errorf("%d processes of a shim", n)
	}
}

func TestBadCommandLines(t *testing.T) {
	h := newHost(t)
	h.start("", "a", nil)
	unknown := h.options(wrapperspb.String("x"))
	for name, c := range map[string]*exec.Cmd{
		"unknown options": h.command("", "b", "start", unknown),
		"unknown action":  h.command("", "b", "dance", nil),
		"unknown flag":    exec.Command(filepath.Join(programs, "containerd-shim-sock-v1"), "-dance"),
		"nothing":         exec.Command(filepath.Join(programs, "containerd-shim-sock-v1")),
	} {
		out, err := c.CombinedOutput()
		if err == nil || bytes.Count(out, []byte("\n")) != 1 || !bytes.Contains(out, []byte("sock")) {
			t.Errorf("%s: %v: %q", name, err, out)
		}
	}
}

// TestUpgrade replaces keeper and worker by another executable.
func TestUpgrade(t *testing.T) {
	h := newHost(t)
	address := h.start("", "a", nil)
	other := filepath.Join(t.TempDir(), "sock-shimd")
	data, err := os.ReadFile(filepath.Join(programs, "sock-shimd"))
	if err == nil {
		err = os.WriteFile(other, data, 0o700)
	}
	if err != nil {
		t.Fatal(err)
	}
	keeper := h.processes("keeper")[0]
	if out, err := exec.Command(filepath.Join(programs, "sock-shimd"), "upgrade", other, dirOf(t, address)).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	h.wait("the new worker", func() bool {
		workers := h.processes("worker")
		if len(workers) != 1 {
			return false
		}
		return sameFile(fmt.Sprintf("/proc/%d/exe", workers[0]), other)
	})
	if !sameFile(fmt.Sprintf("/proc/%d/exe", keeper), other) {
		t.Error("the keeper is what it was")
	}
	if again := h.start("", "b", nil); again != address {
		t.Errorf("%s, before %s", again, address)
	}
}

func sameFile(a, b string) bool {
	x, err := os.Stat(a)
	y, other := os.Stat(b)
	return err == nil && other == nil && os.SameFile(x, y)
}

func container() proto.Message  { return &options.Options{Grouping: options.Container} }
func podOptions() proto.Message { return &options.Options{Grouping: options.Pod} }

// TestShimCgroup has a group's shim in a cgroup, and refuses one that doesn't exist, or for all.
func TestShimCgroup(t *testing.T) {
	h := newHost(t)
	name := "/" + h.namespace()
	roots, _ := filepath.Glob("/sys/fs/cgroup/*/tasks") // v1's hierarchies
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.procs"); err == nil {
		roots = []string{"/sys/fs/cgroup/cgroup.procs"}
	}
	t.Cleanup(func() {
		h.end()
		for _, file := range roots {
			if err := os.Remove(filepath.Dir(file) + name); err != nil {
				t.Error(err)
			}
		}
	})
	for what, options := range map[string]proto.Message{
		"is gone":         &options.Options{Grouping: options.Container, ShimCgroup: name},
		"is for all":      &options.Options{ShimCgroup: name},
		"is runc's field": &runc.Options{ShimCgroup: name},
	} {
		out, err := h.command("", "bad", "start", h.options(options)).CombinedOutput()
		if err == nil || !bytes.Contains(out, []byte("shim_cgroup")) || bytes.Count(out, []byte("\n")) != 1 {
			t.Errorf("a cgroup that %s: %v: %s", what, err, out)
		}
		if left, _ := filepath.Glob(rendezvous.Root + "/" + h.namespace() + "-*"); len(left) > 0 || len(h.processes("")) > 0 {
			t.Errorf("a cgroup that %s: left: %v, %v", what, left, h.processes(""))
		}
	}
	for _, file := range roots {
		if err := os.Mkdir(filepath.Dir(file)+name, 0o755); err != nil {
			t.Fatal(err)
		}
		cpuset(filepath.Dir(file) + name)
	}
	h.start("", "a", h.options(&options.Options{Grouping: options.Container, ShimCgroup: name}))
	h.wait("the worker", func() bool { return len(h.processes("worker")) == 1 })
	for _, pid := range h.processes("") {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
		if err != nil || strings.Count(string(data), ":"+name+"\n") != len(roots) {
			t.Errorf("process %d is in %s, want %s %d times (%v)", pid, data, name, len(roots), err)
		}
	}
}

// cpuset lets processes into a cgroup of v1's cpuset, which begins without CPUs.
func cpuset(dir string) {
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		if data, err := os.ReadFile(filepath.Join(filepath.Dir(dir), file)); err == nil {
			_ = os.WriteFile(filepath.Join(dir, file), data, 0)
		}
	}
}

// TestSchedCore asks for core scheduling, as containerd does by the environment: a namespace's shim can't have it, a group's has
// it where the kernel does.
func TestSchedCore(t *testing.T) {
	h := newHost(t)
	start := func(stdin proto.Message) (string, error) {
		c := h.command("", "a", "start", stdin)
		c.Env = append(c.Env, "SCHED_CORE=1")
		out, err := c.CombinedOutput()
		return string(out), err
	}
	if out, err := start(nil); err == nil || !strings.Contains(out, "SCHED_CORE needs the grouping pod or container") {
		t.Errorf("namespace: %v: %s", err, out)
	}
	out, err := start(h.options(container()))
	if err != nil {
		if !strings.Contains(out, "SCHED_CORE: core scheduling: ") || len(h.processes("")) > 0 { // no CONFIG_SCHED_CORE, or no SMT
			t.Errorf("container: %v: %s", err, out)
		}
		return
	}
	h.wait("the worker", func() bool { return len(h.processes("worker")) == 1 })
	for _, pid := range h.processes("") {
		var cookie uint64
		if err := unix.Prctl(unix.PR_SCHED_CORE, unix.PR_SCHED_CORE_GET, uintptr(pid), 0, uintptr(unsafe.Pointer(&cookie))); err != nil || cookie == 0 {
			t.Errorf("process %d has no cookie (%v)", pid, err)
		}
	}
}

// TestClearedAfterKill has a group's keeper killed: what deletes its container removes its directory, but not that of a shim that
// has taken its place.
func TestClearedAfterKill(t *testing.T) {
	h := newHost(t)
	kill := func() {
		for _, pid := range h.processes("keeper") {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
		h.wait("the shim's end", func() bool { return len(h.processes("")) == 0 })
	}
	bundle := t.TempDir()
	dir := dirOf(t, h.start(bundle, "a", h.options(container())))
	kill()
	h.delete(bundle, "a")
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the directory is left: %v", err)
	}
	h.start(bundle, "a", nil)
	other := t.TempDir()
	h.start(other, "b", h.options(container()))
	kill()
	address := h.start(bundle, "c", h.options(&options.Options{}))
	h.delete(other, "b")
	h.delete(bundle, "a")
	if _, err := net.Dial("unix", strings.TrimPrefix(address, rendezvous.Scheme)); err != nil {
		t.Error(err)
	}
}
