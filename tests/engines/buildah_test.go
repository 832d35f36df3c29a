package engines

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	. "github.com/sock-runtime/sock/tests/sandbox"
)

// newBuildah is Debian's Buildah with the runtime under test, and a command that makes a working container with flags.
func newBuildah(room *Room, dir, runtime string, prefix ...string) (b Engine, from func(flags ...string) string) {
	args := append(prefix, "BUILDAH_RUNTIME="+runtime, "BUILDAH_ISOLATION=oci",
		"buildah", "--root", filepath.Join(dir, "root"), "--runroot", filepath.Join(dir, "run"), "--storage-driver", "vfs")
	b = Engine{Sandbox: room.Sandbox, Room: room, Args: args}
	image := room.ImageTar()
	Must(room.T, os.Chmod(image, 0o644))
	room.Cleanup(func() {
		b.Try("rm", "--all")
		removeParents(b, "buildah-")
	})
	return b, func(flags ...string) string {
		box := b.OK(append(append([]string{"from"}, flags...), "scratch")...)
		b.OK("add", box, image, "/")
		return box
	}
}

// TestBuildah has Buildah run commands in a working container, and build a Containerfile.
func TestBuildah(t *testing.T) {
	t.Parallel()
	room := engineRoom(t, "buildah")
	s := room.Sandbox
	b, from := newBuildah(room, s.Dir, Binary, "env")
	box := from("--cgroup-parent", "/"+s.Mark, "--memory", "64m")

	played(t, buildah, "run", func(t *testing.T) string {
		b := b.In(t)
		run := func(flags string, args ...string) Result {
			return b.Try(append(append([]string{"run", "--network", "none"}, strings.Fields(flags)...), append([]string{box}, args...)...)...)
		}
		script := func(flags, lines string) string {
			t.Helper()
			r := run(flags, "sh", "-c", lines)
			if r.Code != 0 {
				t.Fatal(r)
			}
			return strings.TrimSpace(r.Stdout)
		}
		if r := run("", "sh", "-c", "echo out; echo err >&2; exit 7"); r.Code != 7 || r.Stdout != "out\n" || !strings.Contains(r.Stderr, "err\n") {
			t.Errorf("want out, err, 7: %v", r)
		}
		for program, text := range map[string]string{
			"nosuch":      `exec: \"nosuch\": executable file not found in $PATH`,
			"/etc/passwd": `exec: \"/etc/passwd\": permission denied`,
		} {
			if r := run("", program); r.Code != 1 || !strings.Contains(r.Stderr, text) {
				t.Errorf("want %q: %v", text, r)
			}
		}
		Equal(t, "what is written stays", script("", "echo kept > /kept")+script("", "cat /kept"), "kept")
		Equal(t, "user", script("--user 1000:1000", "id -u; id -g"), "1000\n1000")
		Equal(t, "environment, directory, host name", script("--env A=b --workingdir /usr --hostname subzero", "echo $A; pwd; hostname"), "b\n/usr\nsubzero")
		Equal(t, "capabilities", StatusField(script("--cap-drop all", "cat /proc/self/status"), "CapEff"), "0000000000000000")
		Equal(t, "seccomp", StatusField(script("", "cat /proc/self/status"), "Seccomp"), "2")
		Equal(t, "memory limit", script("", "cat "+ByCgroup("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory.max")), "67108864")
		Equal(t, "volume", script("--volume "+s.HostDir()+":/v:ro", "cat /v/file; (echo x > /v/file) 2>/dev/null || echo refused"), "host\nrefused")
		Equal(t, "tmpfs", MountsOf(script("--mount type=tmpfs,dst=/t", "cat /proc/self/mountinfo"))["/t"].Kind, "tmpfs")
		Equal(t, "without pivot_root", script("--no-pivot", "wc -l < /etc/passwd; ls /root"), "2")
		for flag, kind := range map[string]string{"pid": "pid", "ipc": "ipc", "uts": "uts", "network": "net"} {
			r := b.Try("run", "--"+flag, "host", box, "readlink", "/proc/self/ns/"+kind)
			Equal(t, "--"+flag+" host", strings.TrimSpace(r.Stdout), NamespaceOf(t, room.Pid(), kind))
		}
		cmd := b.Command("run", "--network", "none", box, "cat")
		cmd.Stdin = strings.NewReader("typed\n")
		Equal(t, "what cat says", b.Do(cmd).Stdout, "typed\n")
		con, wait := b.Terminal(33, 99, "run", "--network", "none", "--terminal", box, "sh", "-c", "tty; read line; echo got $line; exit 5")
		con.WaitFor("/dev/pts/0")
		con.Write("hello\n")
		con.WaitFor("got hello")
		Equal(t, "exit status", wait(), 5)
		return works
	})

	played(t, buildah, "user namespace", func(t *testing.T) string {
		b := b.In(t)
		box := from("--cgroup-parent", "/"+s.Mark, "--userns-uid-map", "0:100000:5000", "--userns-gid-map", "0:100000:5000")
		out := b.OK("run", "--network", "none", box, "sh", "-c", "cat /proc/self/uid_map; id -u; stat -c %u /bin/sh; touch /x && echo made")
		Equal(t, "output", strings.Join(strings.Fields(out), " "), "0 100000 5000 0 0 made")
		return works
	})

	played(t, buildah, "build", func(t *testing.T) string {
		b := b.In(t)
		file := filepath.Join(s.Dir, "Containerfile")
		const lines = `FROM scratch
ADD image.tar /
RUN echo built > /built; id -u
RUN ["/bin/sh", "-c", "cat /built"]
USER 1000
WORKDIR /work
RUN id -u; pwd; ulimit -n
RUN --mount=type=cache,target=/cache,uid=1000 echo cached > /cache/x && cat /cache/x
`
		build := []string{"build", "--network", "none", "--cgroup-parent", "/" + s.Mark, "--ulimit", "nofile=99:99", "--tag", "built", "--file", file, s.Dir}
		WriteFile(t, file, lines+"RUN exit 3\n", 0o644)
		if r := b.Try(build...); r.Code != 3 {
			t.Errorf("a step that exits with 3: %v", r)
		}
		WriteFile(t, file, lines, 0o644)
		r := b.Try(build...)
		if r.Code != 0 {
			t.Fatal(r)
		}
		var printed []string
		for line := range strings.Lines(r.Stdout) {
			if !strings.HasPrefix(line, "STEP ") {
				printed = append(printed, strings.TrimSpace(line))
			}
		}
		if got := strings.Join(printed, " "); !strings.HasPrefix(got, "0 built 1000 /work 99 cached ") {
			t.Errorf("the steps print %q", got)
		}
		built := b.OK("from", "--cgroup-parent", "/"+s.Mark, "built")
		Equal(t, "file of the image", b.OK("run", "--network", "none", built, "cat", "/built"), "built")
		return works
	})
}

// TestBuildahRootless has that of an ordinary user.
func TestBuildahRootless(t *testing.T) {
	t.Parallel()
	for _, row := range []string{"run", "user namespace", "build"} {
		defer working(t, buildahRootless, row)
	}
	room := engineRoom(t, "buildah", "newuidmap")
	home, runtime, prefix := ordinaryUser(room)
	b, from := newBuildah(room, home, runtime, prefix...)
	box := from()
	r := b.Try("run", "--network", "none", box, "sh", "-c", "id -u; cat /proc/self/uid_map; echo kept > /kept; exit 4")
	want := fmt.Sprintf("0 0 %d 1 1 %d 65536", userID, userSubIDs)
	if got := strings.Join(strings.Fields(r.Stdout), " "); r.Code != 4 || got != want {
		t.Errorf("want %q, 4: %v", want, r)
	}
	b.Prints("kept 5", "run", "--network", "none", "--user", "5", box, "sh", "-c", "echo $(cat /kept) $(id -u)")
	context := filepath.Join(home, "context")
	WriteFile(t, filepath.Join(context, "Containerfile"), "FROM scratch\nADD image.tar /\nRUN echo built > /built\nUSER 5\nRUN id -u\n", 0o644)
	Must(t, os.Rename(filepath.Join(room.Dir, "image.tar"), filepath.Join(context, "image.tar")))
	if r := b.Try("build", "--network", "none", "--tag", "built", context); r.Code != 0 || !strings.Contains(r.Stdout, "\n5\n") {
		t.Errorf("build: %v", r)
	}
}
