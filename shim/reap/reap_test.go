package reap

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sock-runtime/sock/shim/wire"
)

// TestMain runs as process 1 of a PID namespace, too: there pids can be chosen, and all children are ours.
func TestMain(m *testing.M) {
	if len(os.Args) == 1 && os.Args[0] == "inside" {
		if err := inside(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestInPIDNamespace(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("makes namespaces")
	}
	p, err := os.StartProcess("/proc/self/exe", []string{"inside"}, &os.ProcAttr{
		Env: os.Environ(), Files: []*os.File{nil, os.Stdout, os.Stderr},
		Sys: &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS},
	})
	if err != nil {
		t.Fatal(err)
	}
	if s, err := p.Wait(); err != nil || !s.Success() {
		t.Fatalf("%v, %v", s, err)
	}
}

func inside() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return err
	}
	if err := Wait(); err != unix.ECHILD {
		return fmt.Errorf("wait without children: %v", err)
	}
	if e, ok := Next(); ok {
		return fmt.Errorf("reaped %+v", e)
	}
	first, err := child(7)
	if err != nil {
		return err
	}
	if first.Status.ExitStatus() != 7 || first.Start == 0 {
		return fmt.Errorf("got %+v", first)
	}
	// Another process with the same pid is told apart.
	time.Sleep(30 * time.Millisecond) // more than a clock tick
	if err := os.WriteFile("/proc/sys/kernel/ns_last_pid", []byte(strconv.Itoa(first.Pid-1)), 0); err != nil {
		return err
	}
	second, err := child(8)
	if err != nil {
		return err
	}
	if second.Pid != first.Pid || second.Status.ExitStatus() != 8 || second.Start <= first.Start || second.At <= first.At {
		return fmt.Errorf("got %+v, before %+v", second, first)
	}
	return storm()
}

// child runs a shell that ends with a status.
func child(status int) (wire.Exit, error) {
	before := Now()
	pid, err := syscall.ForkExec("/bin/sh", []string{"(sh) 1 2 )", "-c", "exit " + strconv.Itoa(status)}, nil)
	if err != nil {
		return wire.Exit{}, err
	}
	if err := Wait(); err != nil {
		return wire.Exit{}, err
	}
	_, start := stat(pid) // of a zombie
	e, ok := Next()
	if !ok || e.Pid != pid || e.Start != start || e.Comm != "sh" || e.At < before || e.At > Now() {
		return e, fmt.Errorf("process %d that began at %d: %+v, %v", pid, start, e, ok)
	}
	if _, again := Next(); again {
		return e, errors.New("reaped twice")
	}
	return e, nil
}

// storm has hundreds of processes end at once, most of them orphans.
func storm() error {
	const count = 100
	_, err := syscall.ForkExec("/bin/sh", []string{"sh", "-c", "i=0; while [ $i -lt " + strconv.Itoa(count) + " ]; do (sleep 0.3; exit 5) & i=$((i+1)); done; exit 6"}, nil)
	if err != nil {
		return err
	}
	seen := map[int]int{}
	for {
		if err := Wait(); err == unix.ECHILD {
			break
		}
		for {
			e, ok := Next()
			if !ok {
				break
			}
			if e.Start == 0 {
				return fmt.Errorf("no start time: %+v", e)
			}
			seen[e.Status.ExitStatus()]++
		}
	}
	if seen[6] != 1 || seen[5] == 0 || len(seen) != 2 {
		return fmt.Errorf("exit statuses and how often: %v", seen)
	}
	return nil
}
