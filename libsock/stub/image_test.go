package stub

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mapped says whether a process has memory at an address.
func mapped(t *testing.T, pid int, address uintptr) bool {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		var start, end uintptr
		if _, err := fmt.Sscanf(line, "%x-%x", &start, &end); err != nil {
			t.Fatal(err)
		}
		if start <= address && address < end {
			return true
		}
	}
	return false
}

// TestChildHasNoHeap looks at a child that waits: it has nothing of the heap, and this process has all of it afterwards, also for
// children that are forked as usual.
func TestChildHasNoHeap(t *testing.T) {
	r, w := pipe(t)
	prog, err := Compile([][]Instr{{{Sys: unix.SYS_READ, Args: []Arg{FD("in"), Scratch(), Int(1)}}}}, map[string]int{"in": r}, w)
	if err != nil {
		t.Fatal(err)
	}
	pid, pidfd, err := prog.Start(plain)
	if err != nil {
		t.Fatal(err)
	}
	heap := uintptr(unsafe.Pointer(prog))
	if mapped(t, pid, heap) {
		t.Error("the child has a copy of the heap")
	}
	if !mapped(t, os.Getpid(), heap) {
		t.Error("what is looked at isn't there here either")
	}
	if line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); err != nil || len(line) == 0 {
		t.Errorf("ps would not find its command line (%v)", err)
	}
	if err := unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Wait4(pid, nil, 0, nil); err != nil {
		t.Fatal(err)
	}
	unix.Close(pidfd)
	data, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if flags, ok := strings.CutPrefix(line, "VmFlags:"); ok && strings.Contains(flags, " dc") && !iscgo { // "do not copy"; the race detector has such
			t.Errorf("memory of this process would not be copied by fork: %s", line)
		}
	}
}
