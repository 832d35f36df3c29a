package host

import (
	"fmt"
	"os"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/sock-runtime/sock/libsock/plan"
	"github.com/sock-runtime/sock/libsock/stub"
)

// IDMap gives the detached mount fd the mapping m, mount_setattr(2). The kernel wants a mapping in the form of a user
// namespace, so one is made for a moment.
func IDMap(fd int, m *plan.IDMap) error {
	ns, err := userNamespace(m.UIDs, m.GIDs)
	if err != nil {
		return err
	}
	defer unix.Close(ns)
	flags := uint(unix.AT_EMPTY_PATH)
	if m.Recursive {
		flags |= unix.AT_RECURSIVE
	}
	return unix.MountSetattr(fd, "", flags, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(ns)})
}

// userNamespace returns a descriptor of a new user namespace with the given mappings and no process in it.
func userNamespace(uids, gids []specs.LinuxIDMapping) (int, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(pair[0])
	// The child lives until our end of the pair is closed.
	program, err := stub.Compile([][]stub.Instr{{
		{Sys: unix.SYS_CLOSE, Args: []stub.Arg{stub.Int(pair[0])}},
		{Sys: unix.SYS_READ, Args: []stub.Arg{stub.Int(pair[1]), stub.Bytes(make([]byte, 1)), stub.Int(1)}},
	}}, nil, pair[1])
	if err != nil {
		_ = unix.Close(pair[1])
		return -1, err
	}
	pid, pidfd, err := program.Start(stub.Clone{Flags: unix.CLONE_NEWUSER, PIDNamespace: -1, Cgroup: -1})
	_ = unix.Close(pair[1])
	if err != nil {
		return -1, err
	}
	defer func() {
		_ = unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0)
		_ = unix.Waitid(unix.P_PIDFD, pidfd, nil, unix.WEXITED, nil)
		_ = unix.Close(pidfd)
	}()
	if err := WriteMappings(pid, uids, gids); err != nil {
		return -1, err
	}
	return unix.Open(fmt.Sprintf("/proc/%d/ns/user", pid), unix.O_RDONLY|unix.O_CLOEXEC, 0)
}

// mapFiles are the files of /proc/PID that hold a user namespace's mappings, user_namespaces(7).
var mapFiles = []string{"uid_map", "gid_map"}

func mapError(file string, err error) error {
	return fmt.Errorf("linux.%sMappings: %w", strings.TrimSuffix(file, "_map"), err)
}

// WriteMappings gives the new user namespace of process pid its mappings; an empty list is left out.
func WriteMappings(pid int, uids, gids []specs.LinuxIDMapping) error {
	for i, list := range [][]specs.LinuxIDMapping{uids, gids} {
		if len(list) == 0 {
			continue
		}
		if err := os.WriteFile(fmt.Sprintf("/proc/%d/%s", pid, mapFiles[i]), []byte(mapText(list)), 0); err != nil {
			return mapError(mapFiles[i], err)
		}
	}
	return nil
}

// CheckMappings is WriteMappings where process pid joined a user namespace, which has its mappings: what config.json says
// of them must be true. Podman says it.
func CheckMappings(pid int, uids, gids []specs.LinuxIDMapping) error {
	for i, list := range [][]specs.LinuxIDMapping{uids, gids} {
		if len(list) == 0 {
			continue
		}
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, mapFiles[i]))
		if err != nil {
			return mapError(mapFiles[i], err)
		}
		if has := mapLines(string(text)); !slices.Equal(has, mapLines(mapText(list))) {
			return mapError(mapFiles[i], fmt.Errorf("the user namespace that is joined has others: %s", strings.Join(has, ", ")))
		}
	}
	return nil
}

// mapLines are the lines of a mapping, in an order that the kernel may have changed, with single blanks.
func mapLines(text string) []string {
	var list []string
	for line := range strings.Lines(text) {
		list = append(list, strings.Join(strings.Fields(line), " "))
	}
	slices.Sort(list)
	return list
}

// mapText is the format of uid_map, user_namespaces(7).
func mapText(mappings []specs.LinuxIDMapping) string {
	var text strings.Builder
	for _, m := range mappings {
		fmt.Fprintf(&text, "%d %d %d\n", m.ContainerID, m.HostID, m.Size)
	}
	return text.String()
}
