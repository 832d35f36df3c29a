package pause

import (
	"bytes"
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestProgram runs it: it has to stay, and children of its must not become zombies.
func TestProgram(t *testing.T) {
	program := Program()
	f, err := elf.NewFile(bytes.NewReader(program))
	if err != nil || len(f.Progs) != 1 || f.Entry != base+headerSize {
		t.Fatalf("not the file it should be: %v, %+v", err, f)
	}
	path := filepath.Join(t.TempDir(), "pause")
	if err := os.WriteFile(path, program, 0o755); err != nil {
		t.Fatal(err)
	}
	// A child that the shell has when it becomes the program is the program's. It ends when we close its input.
	cmd := exec.Command("sh", "-c", `cat <&3 >/dev/null & exec 3<&-; exec "$0"`, path)
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	cmd.ExtraFiles = []*os.File{in}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	proc := "/proc/" + strconv.Itoa(cmd.Process.Pid)
	// What we ignore, since whoever has started us does, is ignored by it, too.
	want := ignored(t, "/proc/self") | 1<<(sigchld-1)
	eventually(t, "it ignores SIGCHLD", func() bool {
		exe, _ := os.Readlink(proc + "/exe")
		return exe == path && ignored(t, proc) == want
	})
	out.Close()
	eventually(t, "its child is gone", func() bool {
		children, err := os.ReadFile(proc + "/task/" + filepath.Base(proc) + "/children")
		return err == nil && len(children) == 0
	})
	if err := unix.Kill(cmd.Process.Pid, unix.SIGCHLD); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		t.Fatalf("it ended: %v", err)
	default:
	}
	_ = cmd.Process.Kill()
	<-ended
}

// ignored are the signals that a process ignores, a bit for each.
func ignored(t *testing.T, proc string) uint64 {
	t.Helper()
	status, err := os.ReadFile(proc + "/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "SigIgn:\t")
	line, _, _ := strings.Cut(rest, "\n")
	mask, err := strconv.ParseUint(line, 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	return mask
}

func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !so(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it doesn't come true that %s", what)
		}
	}
}

// TestCode compares the distances in the code that the other architecture's processor would check.
func TestCode(t *testing.T) {
	for machine, assemble := range map[elf.Machine]func(uint32) []byte{elf.EM_X86_64: amd64, elf.EM_AARCH64: arm64} {
		f, err := elf.NewFile(bytes.NewReader(link(uint16(machine), assemble)))
		if err != nil || f.Machine != machine || f.Progs[0].Filesz != uint64(headerSize+len(assemble(0))+actionSize) {
			t.Errorf("%s: %v, %+v", machine, err, f)
		}
	}
	code := arm64(base + headerSize + 14*4)
	if len(code) != 14*4 || !bytes.Equal(code[8:12], []byte{0x81, 0x01, 0x00, 0x10}) { // adr x1, 48 bytes on
		t.Errorf("%x", code)
	}
}
