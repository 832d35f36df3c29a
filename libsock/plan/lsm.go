package plan

import (
	"fmt"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/sock-runtime/sock/libsock/stub"
	"github.com/sock-runtime/sock/spec"
)

// checkLSM refuses what the host's kernel would not enforce.
func (b *builder) checkLSM() error {
	const noSELinux = "SELinux is not enabled on this host"
	p, l := b.spec.Process, b.spec.Linux
	switch {
	case p != nil && p.ApparmorProfile != "" && !b.facts.AppArmor:
		return spec.Field("process.apparmorProfile", "AppArmor is not enabled on this host")
	case p != nil && p.SelinuxLabel != "" && !b.facts.SELinux:
		return spec.Field("process.selinuxLabel", noSELinux)
	case l.MountLabel != "" && !b.facts.SELinux:
		return spec.Field("linux.mountLabel", noSELinux)
	}
	return nil
}

// confine names the profile and the label that the kernel gives to the process when it executes. Like runc's, it comes
// before no_new_privs and before capabilities are dropped.
func (b *builder) confine(p *specs.Process) {
	if name := p.ApparmorProfile; name != "" {
		from := "process.apparmorProfile"
		b.ownAttribute(Note{From: from, Does: "be confined by the AppArmor profile " + name + " from execve on", Hand: "aa-exec -p " + name},
			"apparmor/exec", "exec "+name, map[unix.Errno]string{
				unix.ENOENT: fmt.Sprintf("%s: AppArmor profile %q is not loaded", from, name),
			})
	}
	if label := p.SelinuxLabel; label != "" {
		b.ownAttribute(Note{From: "process.selinuxLabel", Does: "have the SELinux label " + label + " from execve on", Hand: "runcon " + label},
			"exec", label, unknownLabel("process.selinuxLabel", label))
	}
}

// labelKeyring has a new session keyring belong to the process, not to us.
func (b *builder) labelKeyring(p *specs.Process) {
	if label := p.SelinuxLabel; label != "" {
		b.ownAttribute(Note{From: "process.selinuxLabel", Does: "label new keyrings " + label},
			"keycreate", label, unknownLabel("process.selinuxLabel", label))
	}
}

func unknownLabel(from, label string) map[unix.Errno]string {
	return map[unix.Errno]string{unix.EINVAL: fmt.Sprintf("%s: the SELinux policy does not know the label %q", from, label)}
}

// ownAttribute writes one of the child's own /proc/PID/attr/*. It goes through the host's procfs, and through nothing that
// is mounted on it: the container's own /proc can be a fake that takes the write and does nothing (CVE-2019-19921,
// CVE-2025-52881).
func (b *builder) ownAttribute(n Note, name, value string, says map[unix.Errno]string) {
	const resolve = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_XDEV | unix.RESOLVE_NO_MAGICLINKS
	file := stub.Value(slotS)
	b.line(n,
		into(slotS, openat2(b.openProc(), "self/attr/"+name, unix.O_WRONLY, 0, resolve)),
		writeText(file, value), closeFD(file))
	b.plan.Child[len(b.plan.Child)-1].Says = says
}

// unlabelled are the file systems that get no linux.mountLabel, as in runc: SELinux has its own labels for them, and they
// are one file system for the whole host, or for a whole namespace, which can't have two contexts.
var unlabelled = []string{"proc", "sysfs", "mqueue", "cgroup", "cgroup2"}

// label adds linux.mountLabel to what is mounted, as a context for all its files; a context of its own goes first.
func (b *builder) label(m specs.Mount, o *spec.MountOptions) {
	if o.Bind || o.Remount || slices.Contains(unlabelled, m.Type) || hasOption(o.Data, "context") {
		return
	}
	o.Data = append(o.Data, b.context()...)
}

// context is linux.mountLabel as an option of a file system, in mount(2)'s form: quoted, as there may be commas in it.
func (b *builder) context() []string {
	if b.spec.Linux.MountLabel == "" {
		return nil
	}
	return []string{`context="` + b.spec.Linux.MountLabel + `"`}
}

// labelQueues gives the root of mqueue linux.mountLabel, as runc does: its superblock exists as long as the IPC namespace
// and takes no context. slotM is the mount.
func (b *builder) labelQueues() []stub.Instr {
	label := b.spec.Linux.MountLabel
	if label == "" {
		return nil
	}
	return []stub.Instr{
		sys(unix.SYS_FCHDIR, stub.Value(slotM)),
		sys(unix.SYS_SETXATTR, stub.Text("."), stub.Text("security.selinux"), stub.Text(label), stub.Int(len(label)), zero),
	}
}

// unquoted are a file system's options as fsconfig(2) takes them. In mount(2)'s form SELinux's are quoted.
func unquoted(options []string) []string {
	var list []string
	for _, option := range options {
		key, value, _ := strings.Cut(option, "=")
		if strings.HasSuffix(key, "context") && len(value) > 1 && value[0] == '"' && value[len(value)-1] == '"' {
			option = key + "=" + value[1:len(value)-1]
		}
		list = append(list, option)
	}
	return list
}
