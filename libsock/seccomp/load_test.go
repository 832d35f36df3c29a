package seccomp

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// loadHelper tells the test binary to be the child of TestLoad.
const loadHelper = "SECCOMP_TEST_LOAD"

// loadProfile is what the child loads: its own calls must go on.
func loadProfile() *specs.LinuxSeccomp {
	seven := uint(7)
	return &specs.LinuxSeccomp{
		DefaultAction: specs.ActAllow,
		Architectures: []specs.Arch{specs.ArchX86, specs.ArchX32},
		ListenerPath:  "/run/agent",
		Flags:         []specs.LinuxSeccompFlag{specs.LinuxSeccompFlagLog, specs.LinuxSeccompFlagSpecAllow},
		Syscalls: []specs.LinuxSyscall{
			rules(specs.ActErrno, "sethostname"),
			{Names: []string{"getpriority"}, Action: specs.ActErrno, ErrnoRet: &seven},
			conditions(specs.ActErrno, "umask", specs.LinuxSeccompArg{Index: 0, Op: specs.OpGreaterThan, Value: 0o777}),
			rules(specs.ActNotify, "swapoff"),
		},
	}
}

func TestLoad(t *testing.T) {
	if os.Getenv(loadHelper) != "" {
		loadAndReport()
		return
	}
	if findABI(nativeArch()).arch != specs.ArchX86_64 {
		t.Skip("the profile names architectures of x86")
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "-test.run=^TestLoad$")
	cmd.Env = append(os.Environ(), loadHelper+"=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	want := fmt.Sprintf("sethostname %d\ngetpriority 7\numask(01000) %d\numask(022) 0\nlistener true\n", unix.EPERM, unix.EPERM)
	if got, _, _ := strings.Cut(string(out), "PASS"); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

// loadAndReport loads the filter into its own thread, which ends with the process.
func loadAndReport() {
	runtime.LockOSThread()
	program, err := Compile(loadProfile())
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		fmt.Println("no_new_privs:", err)
		return
	}
	fprog := unix.SockFprog{Len: uint16(len(program.Filter)), Filter: &program.Filter[0]}
	listener, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, uintptr(program.Flags), uintptr(unsafe.Pointer(&fprog)))
	if errno != 0 {
		fmt.Println("seccomp:", errno)
		return
	}
	report := func(name string, nr, arg uintptr) {
		_, _, errno := unix.RawSyscall(nr, arg, 0, 0)
		fmt.Println(name, int(errno))
	}
	report("sethostname", unix.SYS_SETHOSTNAME, 0)
	report("getpriority", unix.SYS_GETPRIORITY, 0)
	report("umask(01000)", unix.SYS_UMASK, 0o1000)
	report("umask(022)", unix.SYS_UMASK, 0o022)
	link, err := os.Readlink(fmt.Sprintf("/proc/thread-self/fd/%d", listener))
	fmt.Println("listener", err == nil && strings.Contains(link, "seccomp notify"))
}
