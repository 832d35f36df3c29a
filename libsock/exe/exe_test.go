package exe

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sock-runtime/sock/libsock/stub"
	"github.com/sock-runtime/sock/libsock/stub/nofile"
)

// askVar makes the test binary say what it is protected by, in processes of other rights and from other mounts.
const askVar = "EXE_TEST_ASK"

func TestMain(m *testing.M) {
	if os.Getenv(askVar) == "" {
		os.Exit(m.Run())
	}
	before := Active()
	watched := os.Args[1] == "watched"
	err := Anew(Check(watched)) // where it executes anew, all this happens twice
	comm, _ := os.ReadFile("/proc/self/comm")
	fmt.Println(before, Active(), err, strings.TrimSpace(string(comm)), strings.Join(os.Args[1:], "+"), nofile.Original.Soft)
	os.Exit(0)
}

// ask runs a copy of the test binary by a shell script in which $0 is its path.
func ask(t *testing.T, script string, attr *syscall.SysProcAttr, prepare func(file string)) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	dir, err := os.MkdirTemp("", "sock-exe-") // t.TempDir is closed to others
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	must(t, os.Chmod(dir, 0o755))
	file := filepath.Join(dir, "program")
	data, err := os.ReadFile(self)
	must(t, err)
	must(t, os.WriteFile(file, data, 0o755))
	if prepare != nil {
		prepare(file)
	}
	cmd := exec.Command("/bin/sh", "-c", script, file)
	cmd.Env = append(os.Environ(), askVar+"=1")
	cmd.SysProcAttr = attr
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	must(t, err)
	return strings.TrimSpace(string(out))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func equal(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s is %q, want %q", what, got, want)
	}
}

const setLimit = "ulimit -S -n 77; "

func TestReadOnlyMount(t *testing.T) {
	script := setLimit + `d=${0%/*}; mount --bind $d $d && mount -o remount,bind,ro $d && exec "$0" a b`
	got := ask(t, script, &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}, nil)
	equal(t, "answer", got, "read-only mount read-only mount <nil> program a+b 77")
}

func TestWritable(t *testing.T) {
	equal(t, "answer", ask(t, setLimit+`exec "$0" a b`, nil, nil), "exchange exchange <nil> program a+b 77")
}

func TestWatched(t *testing.T) {
	equal(t, "answer", ask(t, setLimit+`exec "$0" watched`, nil, nil), "read-only mount read-only mount <nil> program watched 77")
}

var nobody = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 1000, Gid: 1000}}

func TestForeign(t *testing.T) {
	equal(t, "answer", ask(t, setLimit+`exec "$0" a b`, nobody, nil), "foreign foreign <nil> program a+b 77")
	for _, mode := range []os.FileMode{0o757, 0o775} {
		got := ask(t, setLimit+`exec "$0" a b`, nobody, func(file string) { must(t, os.Chmod(file, mode)) })
		equal(t, fmt.Sprintf("answer for mode %o", mode), got, "sealed copy sealed copy <nil> program a+b 77")
	}
}

// The one whose answer is seen was executed from a copy; its name, its arguments and its limit are those of the first.
func TestSealedCopy(t *testing.T) {
	own := func(file string) { must(t, os.Chown(file, 1000, 1000)) }
	equal(t, "answer", ask(t, setLimit+`exec "$0" a b`, nobody, own), "sealed copy sealed copy <nil> program a+b 77")
}

// child clones a process that begins with some instructions, says that it is ready and waits; then it executes.
func child(t *testing.T, instructions []stub.Instr, file string) (pid int, goOn func() stub.Record) {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	t.Cleanup(func() { unix.Close(pair[0]); unix.Close(pair[1]) })
	ready := stub.Record{Event: stub.Ready}.Encode()
	lines := [][]stub.Instr{instructions, {
		{Sys: unix.SYS_WRITE, Args: []stub.Arg{stub.FD("sync"), stub.Bytes(ready), stub.Int(len(ready))}},
		{Sys: unix.SYS_READ, Args: []stub.Arg{stub.FD("sync"), stub.Bytes(make([]byte, 1)), stub.Int(1)}},
		{Sys: unix.SYS_CLOSE, Args: []stub.Arg{stub.Int(1)}},
		{Sys: unix.SYS_EXECVE, Args: []stub.Arg{stub.Text(file), stub.Vector([]string{file}), stub.Vector([]string{askVar + "=1"})}},
	}}
	program, err := stub.Compile(lines, map[string]int{"sync": pair[1]}, pair[1])
	must(t, err)
	pid, pidfd, err := program.Start(stub.Clone{PIDNamespace: -1, Cgroup: -1})
	must(t, err)
	var status unix.WaitStatus
	ended := false
	end := func() {
		if !ended {
			_, err := unix.Wait4(pid, &status, 0, nil)
			must(t, err)
			ended = true
		}
	}
	t.Cleanup(func() {
		_ = unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0)
		end()
		unix.Close(pidfd)
	})
	read := func() stub.Record {
		buf := make([]byte, stub.RecordSize)
		n, err := unix.Read(pair[0], buf)
		must(t, err)
		record, err := stub.DecodeRecord(buf[:n])
		must(t, err)
		return record
	}
	if r := read(); r.Event != stub.Ready {
		t.Fatalf("the child failed: %+v", r)
	}
	return pid, func() stub.Record {
		_, err := unix.Write(pair[0], []byte{0})
		must(t, err)
		end()
		if status.ExitStatus() != stub.ExitFailed {
			return stub.Record{}
		}
		return read()
	}
}

// shows lists what of a process leads to our file.
func shows(t *testing.T, pid int) []string {
	t.Helper()
	own, err := os.Readlink(self)
	must(t, err)
	var list []string
	if exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); exe == own {
		list = append(list, "exe")
	}
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	must(t, err)
	if strings.Contains(string(maps), own) {
		list = append(list, "maps")
	}
	return list
}

func TestExchange(t *testing.T) {
	if Active() != Exchange {
		t.Skipf("needs root and a writable mount; the protection is %s", Active())
	}
	plain, goOn := child(t, nil, self)
	if got := shows(t, plain); !slices.Equal(got, []string{"exe", "maps"}) {
		t.Errorf("without an exchange, our file is in %v", got)
	}
	if r := goOn(); r.Failed() && r.Errno != 0 {
		t.Errorf("without an exchange, it executes /proc/self/exe: %v", r.Errno)
	}

	instructions, err := Child(false)
	must(t, err)
	pid, goOn := child(t, instructions, self)
	if got := shows(t, pid); len(got) > 0 {
		t.Errorf("our file is in %v", got)
	}
	name := fmt.Sprintf("/proc/%d/", pid)
	ours, err := os.ReadFile("/proc/self/cmdline")
	must(t, err)
	its, err := os.ReadFile(name + "cmdline")
	must(t, err)
	equal(t, "command line", string(its), string(ours))
	copied, err := os.Open(name + "exe")
	must(t, err)
	defer copied.Close()
	if r := goOn(); r.Errno != unix.ENOEXEC {
		t.Errorf("executing /proc/self/exe: %v, want %v", r.Errno, unix.ENOEXEC)
	}
	// Nobody executes it any more.
	fd, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", copied.Fd()), unix.O_RDWR|unix.O_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(fd)
	if _, err := unix.Write(fd, []byte("x")); err != unix.EPERM {
		t.Errorf("writing to the copy: %v, want %v", err, unix.EPERM)
	}
}

func TestMappings(t *testing.T) {
	own, err := os.Readlink(self)
	must(t, err)
	list, err := mappings(own)
	must(t, err)
	code, _ := stub.Code(os.Getpagesize())
	if !slices.ContainsFunc(list, func(m mapping) bool { return m.start <= code && code < m.end }) {
		t.Errorf("the interpreter at %#x is in none of %x", code, list)
	}
	if _, err := mappings("/nowhere"); err == nil {
		t.Error("found what isn't there")
	}
}
