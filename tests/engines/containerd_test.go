package engines

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	. "github.com/sock-runtime/sock/tests/sandbox"
)

// containerd is a containerd in a room, with ctr, and a root file system of busybox.
type containerd struct {
	Engine
	flags  string // of run: which runtime
	rootfs string
	config string
	env    []string
	server *exec.Cmd
	kills  *atomic.Int64 // of workers, by killWorkers
}

// flavour is a containerd and the way in which it runs containers.
type flavour struct {
	name   string
	column string // of the table in docs/engines.md
	dir    string // where containerd and ctr are; "" is PATH
	shim   bool   // with our shim, otherwise runc's executes the runtime under test
	// configure, if not nil, writes the configuration; the program is containerd.
	configure func(c *containerd, program string)
}

// newest is where tests/setup.sh builds a recent containerd.
const newest = "../../.cache/containerd"

// flavours are Debian's containerd, 1.6 in Debian 12, and a recent one.
var flavours = []flavour{
	{name: "Debian's, runc's shim", column: oldContainerd},
	{name: "Debian's", column: oldContainerdShim, shim: true},
	{name: "newest, runc's shim", column: containerdRunc, dir: newest},
	{name: "newest", column: containerdShim, dir: newest, shim: true},
}

// shims builds the programs of the shim, once.
var shims = sync.OnceValues(func() (string, error) {
	dir := filepath.Dir(Binary)
	if os.Getenv("SOCK_BINARY") != "" {
		if _, err := os.Stat(filepath.Join(dir, "containerd-shim-sock-v1")); err == nil {
			return dir, nil
		}
	}
	dir, err := os.MkdirTemp(filepath.Dir(Busybox), "shim")
	if err != nil {
		return "", err
	}
	build := exec.Command("go", "build", "-tags", "netgo,osusergo", "-o", dir, "../../cmd/containerd-shim-sock-v1", "../../cmd/sock-shimd")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the shim: %w\n%s", err, out)
	}
	return dir, nil
})

// onShims runs a test for each containerd that has our shim.
func onShims(t *testing.T, test func(t *testing.T, f flavour)) {
	t.Parallel()
	for _, f := range flavours {
		if f.shim {
			t.Run(f.name, func(t *testing.T) {
				t.Parallel()
				test(t, f)
			})
		}
	}
}

// newContainerd starts a containerd in a room of its own.
func newContainerd(t *testing.T, f flavour) *containerd {
	t.Helper()
	programs := []string{"containerd", "ctr"}
	if f.dir != "" {
		for i, name := range programs {
			path, err := filepath.Abs(filepath.Join(f.dir, name))
			Must(t, err)
			programs[i] = path
		}
	} else if !f.shim {
		programs = append(programs, "containerd-shim-runc-v2")
	}
	room := engineRoom(t, programs...)
	s := room.Sandbox
	c := &containerd{
		Engine: Engine{Sandbox: s, Room: room, Args: []string{programs[1], "--address", "/run/containerd.sock"}},
		flags:  "--runc-binary " + Binary, rootfs: s.Bundle().Rootfs, config: filepath.Join(s.Dir, "config.toml"),
	}
	path := os.Getenv("PATH")
	if f.dir != "" {
		path = filepath.Dir(programs[0]) + ":" + path // for its own version of runc's shim
	}
	if f.shim {
		dir, err := shims()
		Must(t, err)
		c.flags, path = "--runtime io.containerd.sock.v1", dir+":"+path
	}
	c.env = []string{"PATH=" + path}
	if f.configure != nil {
		f.configure(c, programs[0])
	} else {
		WriteFile(t, c.config, fmt.Sprintf("version = 2\nroot = %q\nstate = \"/run/containerd\"\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = \"/run/containerd.sock\"\n",
			filepath.Join(s.Dir, "containerd")), 0o644)
	}
	c.start(programs[0])
	t.Cleanup(func() {
		for _, id := range strings.Fields(c.OK("container", "ls", "--quiet")) {
			c.Try("task", "delete", "--force", id)
			c.Try("container", "rm", id)
		}
		_ = c.server.Process.Signal(os.Interrupt)
		_ = c.server.Wait()
		c.endShims()
		removeParents(c.Engine, "")
	})
	return c
}

// start starts containerd and waits until it answers.
func (c *containerd) start(program string) {
	c.Helper()
	log := c.LogFile("containerd")
	c.server = c.Room.Command(program, "--config", c.config)
	c.server.Stdout, c.server.Stderr, c.server.Env = log, log, append(c.server.Env, c.env...)
	Must(c.T, c.server.Start())
	for deadline := time.Now().Add(time.Minute); c.Try("version").Code != 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			c.Fatalf("containerd does not start:\n%s", ReadFile(log.Name()))
		}
	}
}

// shimProcesses lists the pids of our shim's keepers or workers.
func (c *containerd) shimProcesses(kind string) []int {
	var pids []int
	for _, process := range c.Processes() {
		if pid := Atoi(strings.Fields(process)[0]); isShim(pid, kind) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// isShim says whether a process is a keeper or a worker. A process of a container that has not executed yet looks like a worker,
// but is only one thread.
func isShim(pid int, kind string) bool {
	args := strings.Split(ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)), "\x00")
	threads := Atoi(StatusField(ReadFile(fmt.Sprintf("/proc/%d/status", pid)), "Threads"))
	return len(args) > 1 && filepath.Base(args[0]) == "sock-shimd" && args[1] == kind && (kind == "keeper" || threads > 1)
}

// workerOf is the worker among a keeper's children, 0 if there is none.
func workerOf(keeper int) int {
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", keeper)) // each thread has its own
	for _, list := range lists {
		for _, child := range strings.Fields(ReadFile(list)) {
			if isShim(Atoi(child), "worker") {
				return Atoi(child)
			}
		}
	}
	return 0
}

// endShims ends shims without tasks, which live on for a while.
func (c *containerd) endShims() {
	for _, kind := range []string{"keeper", "worker"} {
		for _, pid := range c.shimProcesses(kind) {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
}

// line is a command that makes a container of the rootfs; --rootfs is no flag with a value, it says what the argument is.
func (c *containerd) line(id, flags string, args ...string) []string {
	list := append([]string{"run", "--rootfs", "--env", "PATH=/bin", "--cgroup", "/" + c.Mark + "/" + id}, strings.Fields(c.flags)...)
	return append(append(append(list, strings.Fields(flags)...), c.rootfs, id), args...)
}

// status waits for a status among the tasks.
func (c *containerd) status(want string) {
	c.Helper()
	Eventually(c.T, want, func() error {
		if out := c.OK("task", "ls"); !strings.Contains(out, want) {
			return fmt.Errorf("%s", out)
		}
		return nil
	})
}

// TestContainerd does with ctr what a user of containerd does.
func TestContainerd(t *testing.T) {
	t.Parallel()
	for _, f := range flavours {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			c := newContainerd(t, f)
			for _, s := range []struct {
				name string
				test func(c *containerd)
			}{{"run", (*containerd).testRun}, {"tasks", (*containerd).testTasks}} {
				played(t, f.column, s.name, func(t *testing.T) string {
					c := *c
					c.Engine = c.In(t)
					s.test(&c)
					return works
				})
			}
		})
	}
}

func (c *containerd) testRun() {
	r := c.Try(c.line("one", "--rm", "sh", "-c", "echo out; echo err >&2; exit 7")...)
	if r.Code != 7 || r.Stdout != "out\n" || !strings.Contains(r.Stderr, "err\n") {
		c.Errorf("want out, err, 7: %v", r)
	}
	c.Fails(1, `exec: "nosuch": executable file not found in $PATH`, c.line("none", "--rm", "nosuch")...)
	c.Prints("b /usr 2", c.line("flags", "--rm --env A=b --cwd /usr --seccomp", "sh", "-c", "echo $A $(pwd) $(grep Seccomp: /proc/self/status | cut -f 2)")...)
	con, wait := c.Terminal(33, 99, c.line("tty", "--rm --tty", "sh", "-c", "read line; stty size; echo got $line; exit 5")...)
	con.Write("hello\n")
	con.WaitFor("got hello")
	Equal(c.T, "exit status", wait(), 5)
}

func (c *containerd) testTasks() {
	c.OK(c.line("box", "--detach --memory-limit 67108864", "sh", "-c", untilTerm)...)
	limit := filepath.Join(CgroupRoot, ByCgroup("memory", ""), c.Mark, "box", ByCgroup("memory.limit_in_bytes", "memory.max"))
	Equal(c.T, "memory limit", strings.TrimSpace(ReadFile(limit)), "67108864")
	c.status("RUNNING")
	r := c.Try("task", "exec", "--exec-id", "e", "box", "sh", "-c", "echo exec; exit 9")
	if r.Code != 9 || r.Stdout != "exec\n" {
		c.Errorf("want exec, 9: %v", r)
	}
	con, wait := c.Terminal(33, 99, "task", "exec", "--tty", "--exec-id", "t", "box", "sh", "-c", "read line; tty; echo got $line")
	con.Write("hello\n")
	con.WaitFor("got hello")
	Equal(c.T, "exit status", wait(), 0)
	c.OK("task", "pause", "box")
	c.status("PAUSED")
	c.OK("task", "resume", "box")
	c.status("RUNNING")
	if out := c.OK("task", "ps", "box"); len(strings.Split(out, "\n")) < 2 {
		c.Errorf("ps: %s", out)
	}
	if out := c.OK("task", "metrics", "box"); !strings.Contains(out, "memory") {
		c.Errorf("metrics: %s", out)
	}
	c.OK("task", "kill", "box")
	c.status("STOPPED")
	if r := c.Try("task", "delete", "box"); !strings.Contains(r.Stderr, "exit code 3") {
		c.Errorf("want an exit status of 3: %v", r)
	}
	c.OK("container", "rm", "box")
}

// startBox starts a container that ends with status 10 + i when it is asked to.
func (c *containerd) startBox(i int) (id string) {
	c.Helper()
	id = fmt.Sprint("box", i)
	c.OK(c.line(id, "--detach", "sh", "-c", fmt.Sprintf("trap 'exit %d' TERM; while :; do sleep 0.1; done", 10+i))...)
	return id
}

func (c *containerd) wantRunning(boxes int) {
	c.Helper()
	if out := c.OK("task", "ls"); strings.Count(out, "RUNNING") != boxes {
		c.Errorf("%d tasks should run:\n%s", boxes, out)
	}
}

// endBoxes ends and removes them, and checks their status.
func (c *containerd) endBoxes(boxes int) {
	c.Helper()
	for i := range boxes {
		id := fmt.Sprint("box", i)
		c.OK("task", "kill", id)
		Eventually(c.T, "the end of "+id, func() error {
			if r := c.Try("task", "delete", id); !strings.Contains(r.Stderr, fmt.Sprint("exit code ", 10+i)) {
				return fmt.Errorf("%v", r)
			}
			return nil
		})
		c.OK("container", "rm", id)
	}
}
