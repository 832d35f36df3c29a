package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	. "github.com/sock-runtime/sock/tests/sandbox"
)

// TestContainerd has Debian's containerd, 1.6 in Debian 12, and ctr: its shim for runc executes the runtime under test.
func TestContainerd(t *testing.T) {
	t.Parallel()
	room := engineRoom(t, "containerd", "ctr", "containerd-shim-runc-v2")
	s := room.Sandbox
	config := filepath.Join(s.Dir, "config.toml")
	WriteFile(t, config, fmt.Sprintf("version = 2\nroot = %q\nstate = \"/run/containerd\"\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = \"/run/containerd.sock\"\n",
		filepath.Join(s.Dir, "containerd")), 0o644)
	log := s.LogFile("containerd")
	server := room.Command("containerd", "--config", config)
	server.Stdout, server.Stderr = log, log
	Must(t, server.Start())
	ctr := Engine{Sandbox: s, Room: room, Args: []string{"ctr", "--address", "/run/containerd.sock"}}
	t.Cleanup(func() {
		for _, id := range strings.Fields(ctr.OK("container", "ls", "--quiet")) {
			ctr.Try("task", "delete", "--force", id)
			ctr.Try("container", "rm", id)
		}
		_ = server.Process.Signal(os.Interrupt)
		_ = server.Wait()
		removeParents(ctr, "")
	})
	for deadline := time.Now().Add(time.Minute); ctr.Try("version").Code != 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("containerd does not start:\n%s", ReadFile(log.Name()))
		}
	}

	rootfs := s.Bundle().Rootfs
	// line is a command that makes a container of the rootfs; --rootfs is no flag with a value, it says what the argument is.
	line := func(id, flags string, args ...string) []string {
		list := []string{"run", "--rootfs", "--runc-binary", Binary, "--env", "PATH=/bin", "--cgroup", "/" + s.Mark + "/" + id}
		return append(append(append(list, strings.Fields(flags)...), rootfs, id), args...)
	}
	r := ctr.Try(line("one", "--rm", "sh", "-c", "echo out; echo err >&2; exit 7")...)
	if r.Code != 7 || r.Stdout != "out\n" || !strings.Contains(r.Stderr, "err\n") {
		t.Errorf("want out, err, 7: %v", r)
	}
	ctr.Fails(1, `exec: "nosuch": executable file not found in $PATH`, line("none", "--rm", "nosuch")...)
	ctr.Prints("b /usr 2", line("flags", "--rm --env A=b --cwd /usr --seccomp", "sh", "-c", "echo $A $(pwd) $(grep Seccomp: /proc/self/status | cut -f 2)")...)
	con, wait := ctr.Terminal(33, 99, line("tty", "--rm --tty", "sh", "-c", "read line; stty size; echo got $line; exit 5")...)
	con.Write("hello\n")
	con.WaitFor("got hello")
	Equal(t, "exit status", wait(), 5)

	ctr.OK(line("box", "--detach --memory-limit 67108864", "sh", "-c", untilTerm)...)
	limit := filepath.Join(CgroupRoot, ByCgroup("memory", ""), s.Mark, "box", ByCgroup("memory.limit_in_bytes", "memory.max"))
	Equal(t, "memory limit", strings.TrimSpace(ReadFile(limit)), "67108864")
	status := func(want string) {
		t.Helper()
		Eventually(t, want, func() error {
			if out := ctr.OK("task", "ls"); !strings.Contains(out, want) {
				return fmt.Errorf("%s", out)
			}
			return nil
		})
	}
	status("RUNNING")
	r = ctr.Try("task", "exec", "--exec-id", "e", "box", "sh", "-c", "echo exec; exit 9")
	if r.Code != 9 || r.Stdout != "exec\n" {
		t.Errorf("want exec, 9: %v", r)
	}
	con, wait = ctr.Terminal(33, 99, "task", "exec", "--tty", "--exec-id", "t", "box", "sh", "-c", "read line; tty; echo got $line")
	con.Write("hello\n")
	con.WaitFor("got hello")
	Equal(t, "exit status", wait(), 0)
	ctr.OK("task", "pause", "box")
	status("PAUSED")
	ctr.OK("task", "resume", "box")
	status("RUNNING")
	if out := ctr.OK("task", "ps", "box"); len(strings.Split(out, "\n")) < 2 {
		t.Errorf("ps: %s", out)
	}
	if out := ctr.OK("task", "metrics", "box"); !strings.Contains(out, "memory") {
		t.Errorf("metrics: %s", out)
	}
	ctr.OK("task", "kill", "box")
	status("STOPPED")
	if r := ctr.Try("task", "delete", "box"); !strings.Contains(r.Stderr, "exit code 3") {
		t.Errorf("want an exit status of 3: %v", r)
	}
	ctr.OK("container", "rm", "box")
}
