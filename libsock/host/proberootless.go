package host

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/sock-runtime/sock/libsock/cgroup"
	"github.com/sock-runtime/sock/libsock/stub"
	"github.com/sock-runtime/sock/spec"
)

// probeRootless is for an ordinary user: what it may do comes with a user namespace.
func probeRootless() []Check {
	return slices.Concat([]Check{{"kernel", "root", Warn, "not root: containers need a user namespace"}}, probeOwnNamespaces(), probeOwnMounts(),
		[]Check{probeMap("uid", "newuidmap"), probeMap("gid", "newgidmap"), probeOwnCgroup()}, probeSecurity(), probeBinary())
}

// inUserNamespace has a child in namespaces of a new user namespace make the calls.
func inUserNamespace(flags uint64, calls ...stub.Instr) error {
	return inChild(stub.Clone{Flags: unix.CLONE_NEWUSER | flags, PIDNamespace: -1, Cgroup: -1}, calls...)
}

func probeOwnNamespaces() []Check {
	var checks []Check
	for _, n := range namespaceFiles {
		flag, _ := spec.NamespaceFlag(n.kind)
		bad := n.bad
		if n.kind == specs.UserNamespace {
			bad = Fail
		}
		checks = append(checks, result("namespaces", string(n.kind), inUserNamespace(flag), bad, "can be made"))
	}
	return checks
}

func probeOwnMounts() []Check {
	const group = "system calls"
	here, slash, empty, tree := stub.Int(unix.AT_FDCWD), stub.Text("/"), stub.Text(""), stub.Value(1)
	clone := stub.Instr{
		Sys: unix.SYS_OPEN_TREE, Keep: true, Into: 1,
		Args: []stub.Arg{here, slash, stub.Int(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC | unix.AT_RECURSIVE)},
	}
	attach := stub.Instr{Sys: unix.SYS_MOVE_MOUNT, Args: []stub.Arg{tree, empty, here, slash, stub.Int(unix.MOVE_MOUNT_F_EMPTY_PATH)}}
	open := stub.Instr{Sys: unix.SYS_FSOPEN, Args: []stub.Arg{stub.Text("tmpfs"), stub.Int(unix.FSOPEN_CLOEXEC)}}
	return []Check{
		result(group, "open_tree, move_mount", inUserNamespace(unix.CLONE_NEWNS, clone, attach), Fail, "available in a user namespace"),
		result(group, "fsopen", inUserNamespace(unix.CLONE_NEWNS, open), Fail, "available in a user namespace"),
	}
}

// probeMap says whether the user can have further ids in its containers.
func probeMap(kind, tool string) Check {
	const group = "further ids"
	if _, err := exec.LookPath(tool); err != nil {
		return Check{group, kind, Warn, tool + " is not in PATH (Debian has it in the package uidmap): only one's own " + kind}
	}
	file := "/etc/sub" + kind
	text, err := os.ReadFile(file)
	if err != nil {
		return Check{group, kind, Warn, err.Error()}
	}
	names := []string{fmt.Sprint(os.Geteuid())}
	if passwd, err := os.ReadFile("/etc/passwd"); err == nil {
		for line := range strings.Lines(string(passwd)) {
			if f := strings.Split(line, ":"); len(f) > 2 && f[2] == names[0] {
				names = append(names, f[0])
			}
		}
	}
	for line := range strings.Lines(string(text)) {
		if name, ids, ok := strings.Cut(strings.TrimSpace(line), ":"); ok && slices.Contains(names, name) {
			return Check{group, kind, OK, ids + " in " + file}
		}
	}
	return Check{group, kind, Warn, "none are granted in " + file + ": only one's own " + kind}
}

func probeOwnCgroup() Check {
	const group, name = "cgroups", "own"
	g, err := cgroup.New(cgroup.Config{ID: probeSource, Rootless: true})
	switch {
	case err != nil:
		return Check{group, name, Warn, err.Error()}
	case g.None():
		return Check{group, name, Warn, "may not be made: no limits, no pause"}
	}
	return Check{group, name, OK, "may be made"}
}
