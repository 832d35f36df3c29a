package shim

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v2 "github.com/containerd/containerd/api/runtime/task/v2"
	"github.com/containerd/ttrpc"
	"golang.org/x/sys/unix"

	"github.com/sock-runtime/sock/shim/rendezvous"
	. "github.com/sock-runtime/sock/tests/sandbox"
)

// programs is the directory of the shim's two programs.
var programs string

func buildPrograms(dir string) error {
	for _, name := range []string{"sock-shimd", "containerd-shim-sock-v1"} {
		path, err := Program(dir, name, "../../cmd/"+name)
		if err != nil {
			return err
		}
		programs = filepath.Dir(path)
	}
	return nil
}

// newShim is a fixture with the programs as they are installed: a keeper stands between the client and the worker.
func newShim(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{Sandbox: NewSandbox(t)}
	f.namespace, f.root = f.Mark, filepath.Join(f.Dir, "root")
	f.dir = rendezvous.Dir(f.address(), f.namespace, "")
	f.serveEvents(f.address() + ".ttrpc")
	t.Cleanup(f.end)
	f.startShim()
	return f
}

// newLongShim is newShim for a test that takes its time; in the virtual machines it would be minutes.
func newLongShim(t *testing.T) *fixture {
	t.Helper()
	if testing.Short() {
		t.Skip("takes its time")
	}
	return newShim(t)
}

func (f *fixture) address() string { return filepath.Join(f.Dir, "containerd.sock") }

// startShim has the helper start a shim, or find the one that runs, and connects to it.
func (f *fixture) startShim() {
	f.Helper()
	out, err := f.helper("first", "start").CombinedOutput()
	if err != nil || string(out) != rendezvous.Scheme+filepath.Join(f.dir, rendezvous.TaskSocket) {
		f.Fatalf("start: %v: %s", err, out)
	}
	f.connect()
	f.keeper = f.findKeeper()
}

// helper is an execution of the program that containerd executes.
func (f *fixture) helper(id, action string) *exec.Cmd {
	c := exec.Command(filepath.Join(programs, "containerd-shim-sock-v1"), "-namespace", f.namespace, "-address", f.address(), "-id", id, action)
	c.Dir = f.Dir
	c.Env = append(os.Environ(), "TTRPC_ADDRESS="+f.address()+".ttrpc", "SOCK_TEST_MARK="+f.Mark)
	if address := f.BusAddress(); address != "" {
		c.Env = append(c.Env, address)
	}
	return c
}

func (f *fixture) connect() {
	f.Helper()
	conn := f.dial(rendezvous.TaskSocket)
	f.client = ttrpc.NewClient(conn)
	f.task = v2.NewTTRPCTaskClient(f.client)
}

func (f *fixture) dial(socket string) net.Conn {
	f.Helper()
	conn, err := net.Dial("unix", filepath.Join(f.dir, socket))
	Must(f.T, err)
	return conn
}

func (f *fixture) findKeeper() int {
	f.Helper()
	for _, process := range f.Processes() {
		pid := Atoi(strings.Fields(process)[0])
		if args := commandLine(pid); len(args) > 2 && args[0] == "sock-shimd" && args[1] == "keeper" && args[2] == f.dir {
			return pid
		}
	}
	f.Fatal("no keeper")
	return 0
}

func commandLine(pid int) []string {
	return strings.Split(ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)), "\x00")
}

// children are the keeper's: each of its threads has its own.
func (f *fixture) children() []int {
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", f.keeper))
	var pids []int
	for _, list := range lists {
		for _, child := range strings.Fields(ReadFile(list)) {
			pids = append(pids, Atoi(child))
		}
	}
	return pids
}

// workerPid is the worker among the keeper's children, 0 if there is none. A process of a container that has not executed yet
// looks alike, but is only one thread.
func (f *fixture) workerPid() int {
	if f.keeper == 0 {
		return f.worker.Process.Pid
	}
	for _, pid := range f.children() {
		if args := commandLine(pid); len(args) > 2 && args[0] == "sock-shimd" && args[1] == "worker" && args[2] == f.dir &&
			Atoi(StatusField(ReadFile(fmt.Sprintf("/proc/%d/status", pid)), "Threads")) > 1 {
			return pid
		}
	}
	return 0
}

// killWorker kills the worker, if there is one.
func (f *fixture) killWorker() bool {
	pid := f.workerPid()
	return pid != 0 && unix.Kill(pid, unix.SIGKILL) == nil
}

// end removes the tasks, and ends the shim.
func (f *fixture) end() {
	if f.keeper == 0 {
		return
	}
	f.removeTasks()
	_ = unix.Kill(f.keeper, unix.SIGKILL)
	f.checkStates()
	if f.Failed() {
		f.Logf("log of the shim:\n%s", ReadFile(filepath.Join(f.dir, "log")))
	}
	Must(f.T, os.RemoveAll(f.dir))
}

// TestToldAgain kills the worker after it has put on record what it has done, and before it tells containerd of that: the next
// one tells. It has the events wait in the journal, and loses the journal.
func TestToldAgain(t *testing.T) {
	f := newShim(t)
	r := f.request("box", Script("sleep 1000"))
	for _, step := range []struct {
		event string
		do    func() error
		again bool // the request comes again, since it wasn't answered
	}{
		{"create box", func() (err error) { _, err = f.task.Create(ctx(), r); return err }, true},
		{"start box", func() (err error) { _, err = f.task.Start(ctx(), &v2.StartRequest{ID: "box"}); return err }, false},
		{"added x", func() error { f.added("box", "x", "exit 3"); return nil }, true},
		{"paused", func() (err error) { _, err = f.task.Pause(ctx(), &v2.PauseRequest{ID: "box"}); return err }, true},
		{"resumed", func() (err error) { _, err = f.task.Resume(ctx(), &v2.ResumeRequest{ID: "box"}); return err }, true},
	} {
		f.forgetEvents()
		f.refuseEvents(true)
		Must(t, step.do())
		f.replaceWorker(func() { Must(t, os.Truncate(filepath.Join(f.dir, "events"), 0)) })
		f.refuseEvents(false)
		if step.again {
			Must(t, step.do())
		}
		Eventually(t, step.event, func() error {
			f.mu.Lock()
			defer f.mu.Unlock()
			if !slices.Contains(f.events, step.event) { // that of the start may come once more
				return fmt.Errorf("only %q", f.events)
			}
			return nil
		})
	}
}

func (f *fixture) refuseEvents(refuse bool) {
	f.mu.Lock()
	f.refuse = refuse
	f.mu.Unlock()
}

// replaceWorker kills the worker and does something before there is another one.
func (f *fixture) replaceWorker(meanwhile func()) {
	f.Helper()
	worker := f.workerPid()
	Must(f.T, unix.Kill(f.keeper, unix.SIGSTOP))
	Must(f.T, unix.Kill(worker, unix.SIGKILL))
	Eventually(f.T, "the worker's end", func() error {
		if Alive(worker) {
			return errors.New("it lives")
		}
		return nil
	})
	meanwhile()
	Must(f.T, unix.Kill(f.keeper, unix.SIGCONT))
	Eventually(f.T, "another worker", func() error {
		if pid := f.workerPid(); pid == 0 || pid == worker {
			return errors.New("there is none")
		}
		return nil
	})
}

// TestCgroupsAreForAll checks that others may look into the containers' cgroups, as the root of a user namespace has to.
func TestCgroupsAreForAll(t *testing.T) {
	f := newShim(t)
	f.started(f.request("box", Script("sleep 1000")))
	dirs := f.Cgroups()
	if len(dirs) == 0 {
		t.Error("there are no cgroups")
	}
	for _, dir := range dirs {
		info, err := os.Stat(dir)
		Must(t, err)
		Equal(t, dir, info.Mode().Perm(), 0o755)
	}
}
