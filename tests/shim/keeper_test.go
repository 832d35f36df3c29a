package shim

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
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
