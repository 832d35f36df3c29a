package host

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/sock-runtime/sock/libsock/cgroup"
	"github.com/sock-runtime/sock/libsock/exe"
	"github.com/sock-runtime/sock/libsock/plan"
	"github.com/sock-runtime/sock/libsock/stub"
	"github.com/sock-runtime/sock/spec"
)

// Verdict is how a check ended.
type Verdict string

// The verdicts.
const (
	OK   Verdict = "ok"
	Warn Verdict = "warn" // some configs can't run, or not as fast
	Fail Verdict = "fail" // no container can run
)

// Check is one thing that containers need of the host.
type Check struct {
	Group   string  `json:"group"`
	Name    string  `json:"name"`
	Verdict Verdict `json:"verdict"`
	Detail  string  `json:"detail"`
}

// Probe tries what sock needs of the kernel and says what is there. What can be tried is tried for real, in children that
// end at once or on mounts that are attached nowhere; nothing of it stays.
func Probe() []Check {
	if os.Geteuid() != 0 {
		return append(probeKernel(), probeRootless()...)
	}
	return slices.Concat(probeKernel(), []Check{{"kernel", "root", OK, "running as root"}}, probeNamespaces(), probeCalls(), probeCgroups(), probeSecurity(), probeFastPaths(), probeBinary())
}

// The kernel floor: mount_setattr(2) came with 5.12, and 5.14 is the oldest kernel of a distribution that has it.
const floorMajor, floorMinor = 5, 14

func probeKernel() []Check {
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return []Check{{"kernel", "release", Fail, err.Error()}}
	}
	return []Check{checkRelease(unix.ByteSliceToString(uts.Release[:]))}
}

func checkRelease(release string) Check {
	c := Check{"kernel", "release", OK, fmt.Sprintf("%s, at least %d.%d is needed", release, floorMajor, floorMinor)}
	var major, minor int
	if n, err := fmt.Sscanf(release, "%d.%d", &major, &minor); n != 2 {
		c.Verdict, c.Detail = Warn, fmt.Sprintf("%q is no version that we understand: %v", release, err)
	} else if major < floorMajor || major == floorMajor && minor < floorMinor {
		c.Verdict = Fail
	}
	return c
}

// result is a check that a call was tried for; bad is the verdict where it failed.
func result(group, name string, err error, bad Verdict, good string) Check {
	switch {
	case err == nil:
		return Check{group, name, OK, good}
	case errors.Is(err, unix.ENOSYS):
		return Check{group, name, bad, "the kernel does not have it"}
	}
	return Check{group, name, bad, err.Error()}
}

// namespaceFiles names the files in /proc/PID/ns, namespaces(7).
var namespaceFiles = []struct {
	kind specs.LinuxNamespaceType
	file string
	bad  Verdict // engines always ask for the first five
}{
	{specs.MountNamespace, "mnt", Fail},
	{specs.PIDNamespace, "pid", Fail},
	{specs.NetworkNamespace, "net", Fail},
	{specs.IPCNamespace, "ipc", Fail},
	{specs.UTSNamespace, "uts", Fail},
	{specs.CgroupNamespace, "cgroup", Warn},
	{specs.UserNamespace, "user", Warn},
	{specs.TimeNamespace, "time", Warn},
}

func probeNamespaces() []Check {
	var checks []Check
	for _, n := range namespaceFiles {
		const group = "namespaces"
		if _, err := os.Stat("/proc/self/ns/" + n.file); err != nil {
			checks = append(checks, Check{group, string(n.kind), n.bad, err.Error()})
			continue
		}
		flag, _ := spec.NamespaceFlag(n.kind)
		err := inChild(stub.Clone{Flags: flag, PIDNamespace: -1, Cgroup: -1})
		checks = append(checks, result(group, string(n.kind), err, n.bad, "can be made"))
	}
	return checks
}

// inChild has a child that was cloned as how says make the calls. Errors: the clone's, or the one of the call that failed.
func inChild(how stub.Clone, calls ...stub.Instr) error {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return fmt.Errorf("pipe: %w", err)
	}
	defer unix.Close(pipe[0])
	defer unix.Close(pipe[1])
	program, err := stub.Compile([][]stub.Instr{calls}, nil, pipe[1])
	if err != nil {
		return err
	}
	_, pidfd, err := program.Start(how)
	if err != nil {
		return err
	}
	defer unix.Close(pidfd)
	for {
		if err = unix.Waitid(unix.P_PIDFD, pidfd, nil, unix.WEXITED, nil); err != unix.EINTR {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("wait for the child: %w", err)
	}
	buf := make([]byte, stub.RecordSize)
	n, err := unix.Read(pipe[0], buf)
	if err == unix.EAGAIN {
		return nil // the child had nothing to report
	}
	if err != nil {
		return fmt.Errorf("read from the child: %w", err)
	}
	record, err := stub.DecodeRecord(buf[:n])
	if err != nil {
		return err
	}
	return record.Errno
}

// plainClone makes a child in our own namespaces.
var plainClone = stub.Clone{PIDNamespace: -1, Cgroup: -1}

func probeCalls() []Check {
	const group = "system calls"
	return []Check{
		result(group, "clone3, pidfd", inChild(plainClone), Fail, "available"),
		result(group, "close_range", unix.CloseRange(1<<31-1, 1<<31-1, 0), Fail, "available"),
		result(group, "openat2", tryOpenat2(), Fail, "available"),
		result(group, "open_tree, mount_setattr", tryCloneTree(), Fail, "available"),
		result(group, "fsopen, fsmount", tryNewMount(), Fail, "available"),
		result(group, "move_mount", tryMoveMount(), Fail, "available"),
		result(group, "setns by pidfd", trySetns(), Fail, "available"),
		result(group, "idmapped mounts", tryIDMap(), Warn, "available for the filesystem of /"),
		result(group, "keyrings", tryKeyring(), Warn, "available"),
	}
}

func tryOpenat2() error {
	fd, err := unix.Openat2(unix.AT_FDCWD, "/", &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT})
	if err == nil {
		_ = unix.Close(fd)
	}
	return err
}

// cloneRoot is a detached copy of the mount at /.
func cloneRoot() (int, error) {
	return unix.OpenTree(unix.AT_FDCWD, "/", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
}

func tryCloneTree() error {
	fd, err := cloneRoot()
	if err != nil {
		return fmt.Errorf("open_tree: %w", err)
	}
	defer unix.Close(fd)
	return setAttrs(fd, []plan.Attr{{Propagation: unix.MS_PRIVATE}, {Set: unix.MOUNT_ATTR_RDONLY}})
}

// probeSource marks what is mounted for a moment.
const probeSource = "sock-probe"

func tryNewMount() error {
	var h Host
	defer h.Close()
	return h.newMount(plan.NewMount{Out: "probe", Type: "tmpfs", Source: probeSource})
}

// tryMoveMount attaches a detached tmpfs in a mount namespace that ends with the child.
func tryMoveMount() error {
	var h Host
	defer h.Close()
	if err := h.newMount(plan.NewMount{Out: "probe", Type: "tmpfs", Source: probeSource}); err != nil {
		return err
	}
	here, slash, empty := stub.Int(unix.AT_FDCWD), stub.Text("/"), stub.Text("")
	return inChild(stub.Clone{Flags: unix.CLONE_NEWNS, PIDNamespace: -1, Cgroup: -1},
		stub.Instr{Sys: unix.SYS_MOUNT, Args: []stub.Arg{empty, slash, empty, stub.Int(unix.MS_REC | unix.MS_PRIVATE)}},
		stub.Instr{Sys: unix.SYS_MOVE_MOUNT, Args: []stub.Arg{stub.Int(h.fds["probe"]), empty, here, slash, stub.Int(unix.MOVE_MOUNT_F_EMPTY_PATH)}})
}

// trySetns enters namespaces by a pidfd, as exec does: our own, which is nowhere new.
func trySetns() error {
	self, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		return fmt.Errorf("pidfd_open: %w", err)
	}
	defer unix.Close(self)
	flags := stub.Int(unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC)
	return inChild(plainClone, stub.Instr{Sys: unix.SYS_SETNS, Args: []stub.Arg{stub.Int(self), flags}})
}

func tryIDMap() error {
	fd, err := cloneRoot()
	if err != nil {
		return fmt.Errorf("open_tree: %w", err)
	}
	defer unix.Close(fd)
	mapping := []specs.LinuxIDMapping{{HostID: 100000, Size: 65536}}
	return IDMap(fd, &plan.IDMap{UIDs: mapping, GIDs: mapping})
}

func tryKeyring() error {
	_, err := unix.KeyctlGetKeyringID(unix.KEY_SPEC_USER_KEYRING, false)
	if errors.Is(err, unix.ENOSYS) {
		return err
	}
	return nil // there are keyrings, even if this one can't be had
}

// limits says what each controller is good for. Names are v2's; v1 has some under others.
var limits = []struct{ v1, v2, serves string }{
	{"cpu", "cpu", "linux.resources.cpu"},
	{"cpuset", "cpuset", "linux.resources.cpu.cpus and mems"},
	{"memory", "memory", "linux.resources.memory"},
	{"pids", "pids", "linux.resources.pids"},
	{"blkio", "io", "linux.resources.blockIO"},
	{"hugetlb", "hugetlb", "linux.resources.hugepageLimits"},
	{"devices", "", "linux.resources.devices"}, // v2: by an eBPF program
	{"freezer", "", "pause and resume"},        // v2: in every cgroup
	{"net_cls", "", "linux.resources.network.classID"},
	{"net_prio", "", "linux.resources.network.priorities"},
	{"rdma", "rdma", "linux.resources.rdma"},
}

func probeCgroups() []Check {
	const group = "cgroups"
	mode := cgroup.HostMode()
	hierarchies, err := cgroup.Hierarchies()
	if err != nil {
		return []Check{{group, "mode", Fail, err.Error()}}
	}
	checks := []Check{{group, "mode", OK, fmt.Sprintf("%s, %d hierarchies to join", mode, len(hierarchies))}}
	var present []string
	for _, h := range hierarchies {
		present = append(present, h.Controllers...)
	}
	if mode == cgroup.Unified {
		data, err := os.ReadFile(hierarchies[0].Mount + "/cgroup.controllers")
		if err != nil {
			return append(checks, Check{group, "controllers", Fail, err.Error()})
		}
		present = strings.Fields(string(data))
	}
	return append(append(checks, checkControllers(present, mode == cgroup.Unified)...), probeSystemd())
}

// probeSystemd says whether systemd can be asked to manage cgroups.
func probeSystemd() Check {
	const group, name = "cgroups", "systemd driver"
	version, err := cgroup.SystemdVersion(os.Geteuid() != 0)
	if err != nil {
		return Check{group, name, Warn, "no --systemd-cgroup: " + err.Error()}
	}
	return Check{group, name, OK, "systemd " + version + " answers"}
}

// checkControllers says which limits config.json can ask for.
func checkControllers(present []string, unified bool) []Check {
	var there []string
	var checks []Check
	for _, l := range limits {
		name := l.v1
		if unified {
			name = l.v2
		}
		switch {
		case unified && l.v2 == "" && strings.HasPrefix(l.v1, "net_"):
			checks = append(checks, Check{"cgroups", l.v1, Warn, "cgroup v2 does not have it: no " + l.serves})
		case unified && l.v2 == "":
		case slices.Contains(present, name):
			there = append(there, name)
		default:
			checks = append(checks, Check{"cgroups", name, Warn, "controller is not there: no " + l.serves})
		}
	}
	return append([]Check{{"cgroups", "controllers", OK, strings.Join(there, " ")}}, checks...)
}

func probeSecurity() []Check {
	const group = "security"
	return []Check{
		result(group, "seccomp", trySeccomp(), Warn, "filters are available"),
		probeAppArmor(),
		probeSELinux(),
		probeUnprivileged(),
	}
}

// trySeccomp asks for an action, seccomp(2) (Linux 4.14).
func trySeccomp() error {
	const getActionAvail = 2
	action := binary.NativeEndian.AppendUint32(nil, unix.SECCOMP_RET_KILL_PROCESS)
	return inChild(plainClone, stub.Instr{Sys: unix.SYS_SECCOMP, Args: []stub.Arg{stub.Int(getActionAvail), stub.Int(0), stub.Bytes(action)}})
}

func probeAppArmor() Check {
	c := Check{"security", "apparmor", Warn, "not enabled: no process.apparmorProfile"}
	if AppArmor() {
		c.Verdict, c.Detail = OK, "enabled"
	}
	return c
}

func probeSELinux() Check {
	if SELinux() {
		return Check{"security", "selinux", OK, "enabled"}
	}
	return Check{"security", "selinux", Warn, "not enabled: no process.selinuxLabel, no linux.mountLabel"}
}

// probeUnprivileged says whether users other than root may make user namespaces: rootless containers need it.
func probeUnprivileged() Check {
	c := Check{"security", "unprivileged user namespaces", OK, "allowed"}
	for _, knob := range []struct{ file, off string }{
		{"/proc/sys/user/max_user_namespaces", "0"},
		{"/proc/sys/kernel/unprivileged_userns_clone", "0"}, // Debian
		{"/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1"},
	} {
		if readWord(knob.file) == knob.off {
			c.Verdict, c.Detail = Warn, knob.file+" is "+knob.off
		}
	}
	return c
}

// readWord returns a file of one word, "" where there is none.
func readWord(file string) string {
	data, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

func probeFastPaths() []Check {
	const group = "fast paths"
	return []Check{
		probeIntoCgroup(),
		result(group, plan.FastDetached, errors.Join(tryCloneTree(), tryNewMount()), Fail, "active"),
	}
}

func probeIntoCgroup() Check {
	c := Check{"fast paths", plan.FastIntoCgroup, Warn, ""}
	hierarchies, err := cgroup.Hierarchies()
	if err != nil {
		c.Detail = err.Error()
		return c
	}
	var how []string
	for _, h := range hierarchies {
		dir := filepath.Join(h.Mount, h.Own)
		if h.Name == "unified" {
			if err := tryIntoCgroup(dir); err != nil {
				c.Detail = "CLONE_INTO_CGROUP: " + err.Error()
				return c
			}
			how = append(how, "CLONE_INTO_CGROUP")
			continue
		}
		fd, err := unix.Open(filepath.Join(dir, "tasks"), unix.O_WRONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			c.Detail = fmt.Sprintf("open %s/tasks: %s", dir, err)
			return c
		}
		_ = unix.Close(fd)
		how = append(how, "tasks of "+h.Name)
	}
	c.Verdict, c.Detail = OK, "active: "+strings.Join(how, ", ")
	return c
}

// tryIntoCgroup has a child be born in a cgroup of the v2 hierarchy, and end there at once.
func tryIntoCgroup(dir string) error {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	defer unix.Close(fd)
	return inChild(stub.Clone{PIDNamespace: -1, Cgroup: fd})
}

func probeBinary() []Check {
	file, err := os.Executable()
	if err != nil {
		return []Check{{"binary", "file", Warn, err.Error()}}
	}
	return []Check{checkBinary(file), checkProtection(exe.Active(), exe.Why(), filepath.Dir(file))}
}

// checkBinary says who could replace sock's own file: whoever can is root of the host at the next start.
func checkBinary(file string) Check {
	c := Check{"binary", "file", OK, ""}
	for path := file; ; path = filepath.Dir(path) {
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			c.Verdict, c.Detail = Warn, fmt.Sprintf("stat %s: %s", path, err)
			return c
		}
		switch sticky := st.Mode&unix.S_ISVTX != 0 && path != file; {
		case st.Uid != 0:
			c.Verdict, c.Detail = Warn, fmt.Sprintf("%s: %s belongs to uid %d, not to root", file, path, st.Uid)
			return c
		case st.Mode&0o022 != 0 && !sticky: // in a sticky directory others can't rename what is root's
			c.Verdict, c.Detail = Warn, fmt.Sprintf("%s: %s is writable by others, mode %04o", file, path, st.Mode&0o7777)
			return c
		}
		if path == filepath.Dir(path) {
			break
		}
	}
	c.Detail = file + ", writable by root alone"
	return c
}

// checkProtection says what keeps containers from writing to the file. That it is immutable (chattr +i) would not: a
// container may have CAP_LINUX_IMMUTABLE.
func checkProtection(active exe.Protection, why error, dir string) Check {
	c := Check{"binary", "protection", OK, ""}
	hint := fmt.Sprintf("; a read-only mount would save that: mount --bind %[1]s %[1]s && mount -o remount,bind,ro %[1]s", dir)
	switch active {
	case exe.ReadOnlyMount:
		c.Detail = "active: it is on a read-only mount, which costs nothing"
	case exe.Exchange:
		c.Detail = "active: processes on their way into a container exchange it for a sealed copy of their code, 0.1 ms" + hint
	case exe.Foreign:
		c.Detail = "active: it is root's, who nobody in a container of ours can be"
	default:
		c.Verdict = Warn
		c.Detail = fmt.Sprintf("active: create, run, exec and start execute themselves anew from a sealed copy, some ms (%s)", why) + hint
	}
	return c
}
