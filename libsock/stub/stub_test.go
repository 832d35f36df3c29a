package stub

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// pipe returns both ends of a pipe that the test closes.
func pipe(t testing.TB) (r, w int) {
	t.Helper()
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(p[0]); unix.Close(p[1]) })
	return p[0], p[1]
}

// play runs instrs as one line and returns what the child wrote to the report descriptor and its exit status.
func play(t testing.TB, c Clone, instrs ...Instr) (string, int) {
	t.Helper()
	r, w := pipe(t)
	prog, err := Compile([][]Instr{instrs}, map[string]int{"out": w}, w)
	if err != nil {
		t.Fatal(err)
	}
	pid, pidfd, err := prog.Start(c)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pidfd)
	var status unix.WaitStatus
	for {
		if _, err = unix.Wait4(pid, &status, 0, nil); err != unix.EINTR {
			break
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 64<<10)
	if err := unix.SetNonblock(r, true); err != nil {
		t.Fatal(err)
	}
	n, err := unix.Read(r, buf)
	if err == unix.EAGAIN {
		n = 0
	} else if err != nil {
		t.Fatal(err)
	}
	return string(buf[:n]), status.ExitStatus()
}

var plain = Clone{PIDNamespace: -1, Cgroup: -1}

func write(s string) Instr {
	return Instr{Sys: unix.SYS_WRITE, Args: []Arg{FD("out"), Text(s), Int(len(s))}, Exact: true, Want: len(s)}
}

func TestRunsInOrderAndExecutes(t *testing.T) {
	out, status := play(t, plain,
		write("a"),
		Instr{Sys: unix.SYS_DUP3, Args: []Arg{FD("out"), Int(1), Int(0)}},
		Instr{Sys: unix.SYS_EXECVE, Args: []Arg{
			Text("/bin/sh"), Vector([]string{"sh", "-c", `echo "b$X"; exit 7`}), Vector([]string{"X=1"}),
		}},
	)
	if out != "ab1\n" || status != 7 {
		t.Errorf("got %q and status %d, want %q and 7", out, status, "ab1\n")
	}
}

func TestFailureNamesTheInstruction(t *testing.T) {
	out, status := play(t, plain,
		write("x"),
		Instr{Sys: unix.SYS_CHDIR, Args: []Arg{Text("/does/not/exist")}},
	)
	r, err := DecodeRecord([]byte(strings.TrimPrefix(out, "x")))
	if err != nil {
		t.Fatal(err)
	}
	if r != (Record{1, unix.ENOENT}) || !r.Failed() || status != ExitFailed {
		t.Errorf("got %+v and status %d", r, status)
	}
}

func TestSlotsAndJumps(t *testing.T) {
	out, _ := play(t, plain,
		Instr{Sys: unix.SYS_DUP, Args: []Arg{FD("out")}, Keep: true, Into: 3},
		Instr{Sys: unix.SYS_WRITE, Args: []Arg{Value(3), Text("slot "), Int(5)}, Then: "over"},
		write("not reached "),
		Instr{Label: "over", Sys: unix.SYS_CHDIR, Args: []Arg{Text("/nowhere")}, On: []Branch{{unix.EACCES, ""}, {unix.ENOENT, "else"}}},
		write("nor this "),
		Instr{Label: "else", Sys: unix.SYS_CLOSE, Args: []Arg{Value(7)}, On: []Branch{{Errno: unix.EBADF}}}, // an empty slot
		write("end"),
	)
	if out != "slot end" {
		t.Errorf("got %q", out)
	}
}

func TestShortReadIsAFailure(t *testing.T) {
	r, w := pipe(t)
	unix.Close(w)
	out, _ := play(t, plain, Instr{Sys: unix.SYS_READ, Args: []Arg{Int(r), Bytes(make([]byte, 1)), Int(1)}, Exact: true, Want: 1})
	if rec, err := DecodeRecord([]byte(out)); err != nil || rec.Errno != unix.EPIPE {
		t.Errorf("got %+v, %v", rec, err)
	}
}

func TestRightsPassADescriptor(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[0])
	defer unix.Close(pair[1])
	r, w := pipe(t)
	_, _ = play(t, plain,
		Instr{Sys: unix.SYS_DUP3, Args: []Arg{Int(w), FD("out"), Int(unix.O_CLOEXEC)}},
		Instr{Sys: unix.SYS_SENDMSG, Args: []Arg{Int(pair[1]), Rights("name", "out"), Int(0)}, Exact: true, Want: 4},
	)
	text, oob := make([]byte, 16), make([]byte, 64)
	n, oobn, _, _, err := unix.Recvmsg(pair[0], text, oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil || string(text[:n]) != "name" {
		t.Fatalf("got %q, %v", text[:n], err)
	}
	msgs, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		t.Fatal(err)
	}
	fds, err := unix.ParseUnixRights(&msgs[0])
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[0])
	if _, err := unix.Write(fds[0], []byte("z")); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 2)
	if n, _ := unix.Read(r, b); string(b[:n]) != "z" {
		t.Errorf("the descriptor that came is not the pipe: %q", b[:n])
	}
}

func TestCompileRefuses(t *testing.T) {
	for name, line := range map[string][]Instr{
		"unknown descriptor": {{Sys: unix.SYS_CLOSE, Args: []Arg{FD("nobody")}}},
		"unknown label":      {{Sys: unix.SYS_GETPID, Then: "nowhere"}},
		"backward label":     {{Label: "back", Sys: unix.SYS_GETPID}, {Sys: unix.SYS_GETPID, Then: "back"}},
		"slot out of range":  {{Sys: unix.SYS_GETPID, Keep: true, Into: Slots}},
		"seven arguments":    {{Sys: unix.SYS_GETPID, Args: make([]Arg, 7)}},
	} {
		if _, err := Compile([][]Instr{line}, nil, 2); err == nil {
			t.Errorf("%s: compiled", name)
		}
	}
}

func TestIgnoredSignalsAreReset(t *testing.T) {
	out, _ := play(t, plain,
		Instr{Sys: unix.SYS_DUP3, Args: []Arg{FD("out"), Int(1), Int(0)}},
		Instr{Sys: unix.SYS_EXECVE, Args: []Arg{Text("/bin/grep"), Vector([]string{"grep", "-E", "^Sig(Ign|Blk)", "/proc/self/status"}), Vector(nil)}},
	)
	if strings.Count(out, "\t0000000000000000\n") != 2 {
		t.Errorf("signals are ignored or blocked:\n%s", out)
	}
}

func TestNewNamespaces(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to make namespaces")
	}
	out, _ := play(t, Clone{Flags: unix.CLONE_NEWPID | unix.CLONE_NEWUTS, PIDNamespace: -1, Cgroup: -1},
		Instr{Sys: unix.SYS_SETHOSTNAME, Args: []Arg{Text("inside"), Int(6)}},
		Instr{Sys: unix.SYS_DUP3, Args: []Arg{FD("out"), Int(1), Int(0)}},
		Instr{Sys: unix.SYS_EXECVE, Args: []Arg{Text("/bin/sh"), Vector([]string{"sh", "-c", "uname -n; echo $$"}), Vector([]string{"PATH=/bin:/usr/bin"})}},
	)
	if out != "inside\n1\n" {
		t.Errorf("got %q", out)
	}
}

// TestManyClones clones under garbage collection and from many goroutines, where a child that ran Go code would hang.
func TestManyClones(t *testing.T) {
	stop := make(chan struct{})
	var churn sync.WaitGroup
	churn.Add(1)
	go func() {
		defer churn.Done()
		for {
			select {
			case <-stop:
				return
			default:
				_ = make([]byte, 1<<16)
				runtime.GC()
			}
		}
	}()
	n := 400
	if testing.Short() {
		n = 100
	}
	var workers sync.WaitGroup
	for range 4 {
		workers.Add(1)
		go func() {
			defer workers.Done()
			for range n / 4 {
				if out, status := play(t, plain, write("ok"), Instr{Sys: unix.SYS_EXIT_GROUP, Args: []Arg{Int(3)}}); out != "ok" || status != 3 {
					t.Errorf("got %q, %d", out, status)
				}
			}
		}()
	}
	workers.Wait()
	close(stop)
	churn.Wait()
}

// TestBornInAPIDNamespace has many goroutines clone into another PID namespace and into their own in turn.
func TestBornInAPIDNamespace(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to make namespaces")
	}
	r, w := pipe(t)
	prog, err := Compile([][]Instr{{{Sys: unix.SYS_READ, Args: []Arg{Int(r), Bytes(make([]byte, 1)), Int(1)}}}}, nil, 2)
	if err != nil {
		t.Fatal(err)
	}
	pid, pidfd, err := prog.Start(Clone{Flags: unix.CLONE_NEWPID, PIDNamespace: -1, Cgroup: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pidfd)
	defer func() {
		_, _ = unix.Write(w, []byte{0})
		_, _ = unix.Wait4(pid, nil, 0, nil)
	}()
	ns, err := unix.Open(fmt.Sprintf("/proc/%d/ns/pid", pid), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(ns)
	show := func(namespace int) string {
		out, _ := play(t, Clone{PIDNamespace: namespace, Cgroup: -1},
			Instr{Sys: unix.SYS_DUP3, Args: []Arg{FD("out"), Int(1), Int(0)}},
			Instr{Sys: unix.SYS_EXECVE, Args: []Arg{Text("/bin/readlink"), Vector([]string{"readlink", "/proc/self/ns/pid"}), Vector(nil)}})
		return strings.TrimSpace(out)
	}
	own, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		t.Fatal(err)
	}
	other, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid))
	if err != nil {
		t.Fatal(err)
	}
	var workers sync.WaitGroup
	for range 4 {
		workers.Add(1)
		go func() {
			defer workers.Done()
			for range 20 {
				if got := show(ns); got != other {
					t.Errorf("born in %q, want the other namespace %q", got, other)
				}
				if got := show(-1); got != own {
					t.Errorf("born in %q, want our own namespace %q", got, own)
				}
			}
		}()
	}
	workers.Wait()
}

// TestPidfdFromASmallStack starts children on goroutines whose stacks have to grow on the way: the kernel must not write the
// pidfd to where the stack was before.
func TestPidfdFromASmallStack(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	own, err := unix.Open("/proc/self/ns/pid", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(own)
	for depth := range 200 {
		p, err := Compile([][]Instr{{{Sys: unix.SYS_EXIT_GROUP, Args: []Arg{Int(0)}}}}, nil, 2)
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			deeper(depth, func() {
				pid, pidfd, err := p.Start(Clone{PIDNamespace: own, Cgroup: -1})
				if err != nil {
					t.Error(err)
					return
				}
				if err := unix.Waitid(unix.P_PIDFD, pidfd, nil, unix.WEXITED, nil); err != nil {
					t.Errorf("depth %d: wait for process %d by descriptor %d: %v", depth, pid, pidfd, err)
					_, _ = unix.Wait4(pid, nil, 0, nil)
				}
				_ = unix.Close(pidfd)
			})
		}()
		<-done
	}
}

// deeper calls f with some more of the stack in use.
func deeper(depth int, f func()) {
	if depth > 0 {
		deeper(depth-1, f)
		return
	}
	f()
}
