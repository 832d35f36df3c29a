package plan_test

import (
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/sock-runtime/sock/libsock/plan"
)

const (
	procLabel = "system_u:system_r:container_t:s0:c1,c2"
	fileLabel = "system_u:object_r:container_file_t:s0:c1,c2"
)

func confined(in *input) {
	in.facts.AppArmor, in.facts.SELinux = true, true
	in.spec.Process.ApparmorProfile, in.spec.Process.SelinuxLabel = "docker-default", procLabel
	in.spec.Process.NoNewPrivileges = true
	in.facts.Filter = &plan.Filter{Program: make([]byte, 8)}
}

func TestConfines(t *testing.T) {
	p := built(t, confined)
	action[plan.OpenProc](t, p)
	has(t, doing(t, p, "be confined by the AppArmor profile docker-default"),
		`openat2(<proc>, "self/attr/apparmor/exec"`, `write($12, "exec docker-default", 0x13) == 19`, "close($12)")
	has(t, doing(t, p, "have the SELinux label "+procLabel), `openat2(<proc>, "self/attr/exec"`, `write($12, "`+procLabel)
	has(t, doing(t, p, "label new keyrings"), `openat2(<proc>, "self/attr/keycreate"`, `write($12, "`+procLabel)
	inOrder(t, p, "label new keyrings", "join a new session keyring", "be confined", "have the SELinux label", "set no_new_privs",
		"close what", "bound capabilities", "set capabilities", "load the seccomp filter", "exec")

	for does, errno := range map[string]unix.Errno{"be confined": unix.ENOENT, "have the SELinux label": unix.EINVAL} {
		line := p.Child[position(t, p, does)]
		if got := line.Explains(errno); !strings.HasPrefix(got, line.From+": ") || strings.Contains(got, errno.Error()) {
			t.Errorf("%s: %s", does, got)
		}
	}

	shared := built(t, func(in *input) { confined(in); in.opt.NoKeyring = true })
	if n := len(linesDoing(shared, "label new keyrings")); n != 0 {
		t.Error("keyrings are labelled though none is made")
	}
	plain := built(t, func(in *input) { in.facts.AppArmor, in.facts.SELinux = true, true })
	for _, does := range []string{"be confined", "have the SELinux label", "label new keyrings"} {
		if n := len(linesDoing(plain, does)); n != 0 {
			t.Errorf("%s: nobody asked for it", does)
		}
	}
}

func TestConfinesExecAndHooks(t *testing.T) {
	in := smallInput()
	confined(in)
	exec, err := plan.BuildExec(in.spec.Process, plan.Join{Flags: unix.CLONE_NEWNS}, in.opt, in.facts)
	if err != nil {
		t.Fatal(err)
	}
	inOrder(t, exec, "join the container", "label new keyrings", "be confined", "have the SELinux label", "set no_new_privs", "exec")
	hook, err := plan.BuildHook(specs.Hook{Path: "/hook"}, plan.Join{Flags: unix.CLONE_NEWNS}, in.spec.Process, in.facts)
	if err != nil {
		t.Fatal(err)
	}
	inOrder(t, hook, "join the container", "be confined", "have the SELinux label", "set no_new_privs", "close what", "exec /hook")
}

func TestRefusesLabelsWithoutLSM(t *testing.T) {
	for want, ask := range map[string]func(*specs.Spec){
		"process.apparmorProfile: AppArmor is not enabled on this host": func(s *specs.Spec) { s.Process.ApparmorProfile = "p" },
		"process.selinuxLabel: SELinux is not enabled on this host":     func(s *specs.Spec) { s.Process.SelinuxLabel = "l" },
		"linux.mountLabel: SELinux is not enabled on this host":         func(s *specs.Spec) { s.Linux.MountLabel = "l" },
	} {
		in := smallInput()
		ask(in.spec)
		if _, err := plan.Build(in.spec, in.opt, in.facts); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
		if in.spec.Linux.MountLabel != "" {
			continue
		}
		if _, err := plan.BuildExec(in.spec.Process, plan.Join{}, in.opt, in.facts); err == nil || err.Error() != want {
			t.Errorf("exec: got %v, want %s", err, want)
		}
		if _, err := plan.BuildHook(specs.Hook{Path: "/hook"}, plan.Join{}, in.spec.Process, in.facts); err == nil || err.Error() != want {
			t.Errorf("hook: got %v, want %s", err, want)
		}
	}
}

func TestMountLabel(t *testing.T) {
	mounts := []specs.Mount{
		{Destination: "/proc", Type: "proc"},
		{Destination: "/dev", Type: "tmpfs", Options: []string{"mode=755"}},
		{Destination: "/dev/pts", Type: "devpts", Options: []string{"newinstance"}},
		{Destination: "/dev/mqueue", Type: "mqueue"},
		{Destination: "/sys", Type: "sysfs"},
		{Destination: "/own", Type: "tmpfs", Options: []string{`context="a:b:c:s0:c3,c4"`}},
		{Destination: "/bind", Type: "bind", Source: "/srv"},
		{Destination: "/layers", Type: "overlay", Options: []string{"lowerdir=" + strings.Repeat("/layer:", 50) + "/last"}},
		{Destination: "/sys/fs/cgroup", Type: "cgroup"},
	}
	p := built(t, func(in *input) {
		in.facts.SELinux, in.facts.Cgroup = true, legacy().Cgroup
		in.spec.Linux.MountLabel, in.spec.Mounts = fileLabel, mounts
		in.spec.Linux.MaskedPaths = []string{"/sys/firmware"}
	})
	options := map[string]string{}
	for _, s := range p.Host {
		if m, ok := s.Do.(plan.NewMount); ok {
			options[s.From] = strings.Join(m.Options, " ")
		}
	}
	const labelled = "context=" + fileLabel
	for from, want := range map[string]string{
		"mounts[1]": "mode=755 " + labelled, "mounts[5]": "context=a:b:c:s0:c3,c4", "mounts[8]": "mode=755 " + labelled,
	} {
		if options[from] != want {
			t.Errorf("options of %s: %q, want %q", from, options[from], want)
		}
	}
	has(t, doing(t, p, "mount /dev/pts"), `"newinstance"`, `"context", "`+fileLabel+`"`, "fsmount")
	has(t, doing(t, p, "mask /sys/firmware"), `"context", "`+fileLabel+`"`, "fsmount")
	has(t, doing(t, p, "mount /layers"), `context=\"`+fileLabel+`\"`)
	has(t, doing(t, p, "mount /dev/mqueue"), "fsmount", "fchdir($11)", `setxattr(".", "security.selinux", "`+fileLabel+`", 0x2b, 0x0)`, "move_mount")
	hasNot(t, doing(t, p, "mount /dev/mqueue"), "context")
	for _, does := range []string{"mount /proc", "mount /bind", "mount /sys/fs/cgroup/memory"} {
		hasNot(t, doing(t, p, does), "container_file_t")
	}
}
