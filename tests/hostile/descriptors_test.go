package hostile

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	. "github.com/sock-runtime/sock/tests/sandbox"
)

// CVE-2024-21626: a working directory that is a descriptor of the runtime's is the host's.
func TestWorkingDirectoryOfDescriptor(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	cwd := func(dir string) Change { return func(c *specs.Spec) { c.Process.Cwd = dir } }
	links := []string{"/proc/self/fd/%d", "/proc/self/fd/%d/tmp", "/proc/thread-self/fd/%d", "/link%d", "/proc/1/fd/%d"}
	b, other := s.Bundle(), inCgroup(s.Mark+"-other")
	c := s.Running()
	for n := 3; n <= 64; n++ {
		for _, root := range []string{b.Rootfs, c.Rootfs} {
			Must(t, os.Symlink(fmt.Sprintf("/proc/self/fd/%d", n), filepath.Join(root, fmt.Sprint("link", n))))
		}
		link := links[0]
		if n > 3 {
			link = links[n%len(links)]
		}
		if testing.Short() && n > 16 && n%8 != 0 {
			continue
		}
		dir := fmt.Sprintf(link, n)
		s.Configure(b, cwd(dir), Args("ls"), other)
		s.Fails(Said("cwd"), "run", "--bundle", b.Dir, "descriptor")
		s.Fails(Said("cwd"), "exec", "--cwd", dir, c.ID, "ls")
	}
	// What is executed must not come from there either.
	for n := 3; n <= 16; n++ {
		program := fmt.Sprintf("/proc/self/fd/%d/bin/busybox", n)
		s.Configure(b, Args(program, "true"), other)
		s.Fails(nil, "run", "--bundle", b.Dir, "descriptor")
		s.Fails(nil, "exec", c.ID, program, "true")
	}

	// The control: whoever forgets a descriptor shows the host.
	Must(t, os.MkdirAll(filepath.Join(b.Rootfs, "proc/self"), 0o755))
	root := t.TempDir()
	Must(t, os.Mkdir(filepath.Join(root, "proc"), 0o755))
	script := "mount --rbind /proc " + root + "/proc && exec " + attacker + " naive-cwd " + root + " /proc/self/fd/7 " + s.Dir
	out, err := exec.Command("unshare", "--mount", "sh", "-c", script).CombinedOutput()
	if err != nil || !strings.Contains(string(out), filepath.Base(b.Dir)) {
		t.Errorf("the attack does not work, so the test shows nothing: %v %s", err, out)
	}
}

// What the processes of a container have open is what they were given.
func TestLeakedDescriptors(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	// As many of the caller's as it has, not marked to be closed.
	given, err := os.Open(s.HostDir())
	Must(t, err)
	defer given.Close()
	extra := []*os.File{given, given, given}
	withExtra := func(args ...string) Result {
		cmd := s.Command(args...)
		cmd.ExtraFiles = extra
		return s.Do(cmd)
	}
	open := func(pid int) []string {
		var names []string
		for name := range Descriptors(t, pid) {
			names = append(names, name)
		}
		slices.Sort(names)
		return names
	}
	for preserved, want := range []string{"[0 1 2]", "[0 1 2 3]", "[0 1 2 3 4]"} {
		c := &Container{Sandbox: s, Bundle: s.Bundle(inCgroup(fmt.Sprint(s.Mark, "-", preserved))), ID: s.NewID()}
		flag := fmt.Sprint("--preserve-fds=", preserved)
		if r := withExtra("create", flag, "--bundle", c.Dir(), c.ID); r.Code != 0 {
			t.Fatal(r)
		}
		s.OK("start", c.ID)
		Equal(t, "descriptors of init with "+flag, fmt.Sprint(open(c.Pid())), want)

		pidFile := filepath.Join(s.Dir, "pid")
		if r := withExtra("exec", flag, "--detach", "--pid-file", pidFile, c.ID, "sleep", "1000"); r.Code != 0 {
			t.Fatal(r)
		}
		Equal(t, "descriptors of exec's with "+flag, fmt.Sprint(open(Atoi(ReadFile(pidFile)))), want)
		// As they see it themselves; the shell has one of its own for the directory.
		Equal(t, "what the container sees", c.Inside("ls /proc/1/fd | tr '\n' ' '"), strings.Trim(want, "[]"))
	}
}
