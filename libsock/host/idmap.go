package host

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/sock-runtime/sock/libsock/plan"
	"github.com/sock-runtime/sock/libsock/stub"
)

// IDMap gives the detached mount fd the mapping m, mount_setattr(2). The kernel wants a mapping in the form of a user
// namespace, so one is made for a moment.
func IDMap(fd int, m *plan.IDMap) error {
	ns, err := userNamespace(m)
	if err != nil {
		return err
	}
	defer unix.Close(ns)
	return setIDMap(fd, ns, m.Recursive)
}

// idMap is IDMap where the mapping may be that of a namespace that is there already.
func (h *Host) idMap(fd int, m *plan.IDMap) error {
	if m.Namespace != "" {
		return setIDMap(fd, h.fds[m.Namespace], m.Recursive)
	}
	return IDMap(fd, m)
}

func setIDMap(fd, ns int, recursive bool) error {
	flags := uint(unix.AT_EMPTY_PATH)
	if recursive {
		flags |= unix.AT_RECURSIVE
	}
	return unix.MountSetattr(fd, "", flags, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(ns)})
}

// userNamespace returns a descriptor of a new user namespace with the mapping m and no process in it.
func userNamespace(m *plan.IDMap) (int, error) {
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
	if err := SetMaps(pid, &plan.Maps{UIDs: m.UIDs, GIDs: m.GIDs}); err != nil {
		return -1, err
	}
	return unix.Open(fmt.Sprintf("/proc/%d/ns/user", pid), unix.O_RDONLY|unix.O_CLOEXEC, 0)
}
