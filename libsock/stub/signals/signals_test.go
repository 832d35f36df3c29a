package signals

import (
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// next reads one signal, or 0 after a second.
func next(t *testing.T, fd int) unix.Signal {
	t.Helper()
	poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for deadline := time.Now().Add(time.Second); time.Now().Before(deadline); {
		if n, _ := unix.Poll(poll, 100); n > 0 {
			b := make([]byte, 1)
			if n, err := unix.Read(fd, b); n == 1 && err == nil {
				return unix.Signal(b[0])
			}
		}
	}
	return 0
}

func TestCatch(t *testing.T) {
	list := []unix.Signal{unix.SIGUSR1, unix.SIGUSR2, unix.SIGWINCH, 64}
	fd, err := Catch(list)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range list {
		if err := unix.Kill(os.Getpid(), want); err != nil {
			t.Fatal(err)
		}
		if got := next(t, fd); got != want {
			t.Errorf("sent %d, got %d", want, got)
		}
	}
}

// TestUnderLoad sends signals while threads run Go code, collect garbage and wait in system calls.
func TestUnderLoad(t *testing.T) {
	fd, err := Catch([]unix.Signal{unix.SIGUSR1})
	if err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	for range 4 {
		go func() {
			for {
				select {
				case <-stop:
					return
				default:
					_ = make([]byte, 1<<15)
					runtime.Gosched()
				}
			}
		}()
	}
	const sent = 2000
	for range sent {
		if err := unix.Kill(os.Getpid(), unix.SIGUSR1); err != nil {
			t.Fatal(err)
		}
		if next(t, fd) != unix.SIGUSR1 {
			t.Fatal("a signal was lost")
		}
	}
	close(stop)
}

// TestIgnoredStaysIgnored runs itself as nohup would.
func TestIgnoredStaysIgnored(t *testing.T) {
	if os.Getenv("SIGNALS_CHILD") != "" {
		fd, err := Catch([]unix.Signal{unix.SIGHUP})
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.Kill(os.Getpid(), unix.SIGHUP); err != nil {
			t.Fatal(err)
		}
		if s := next(t, fd); s != 0 {
			t.Errorf("got signal %d, which is ignored", s)
		}
		return
	}
	cmd := exec.Command("sh", "-c", `trap "" HUP; exec "$0" -test.run=TestIgnoredStaysIgnored`, os.Args[0])
	cmd.Env = append(os.Environ(), "SIGNALS_CHILD=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}
