package libsock

import (
	"fmt"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/sock-runtime/sock/libsock/host"
)

// Stdio are the descriptors that a process gets as its 0, 1 and 2 in place of the caller's own. They stay the caller's to
// close.
type Stdio [3]int

// keep gives h copies of them under the names that plans use. Without any (nil) the process inherits ours.
func (s *Stdio) keep(h *host.Host) error {
	if s == nil {
		return nil
	}
	for i, name := range []string{"stdin", "stdout", "stderr"} {
		fd, err := unix.FcntlInt(uintptr(s[i]), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			return fmt.Errorf("duplicate descriptor %d for %s: %w", s[i], name, err)
		}
		h.Keep(name, fd)
	}
	return nil
}

// nobody is the host's uid of a user whom a user namespace is not known to map.
const nobody = -1

// sort finds which of 0, 1 and 2 will not belong to uid, as the host has it, and must be given to it, so that the container's
// user can open them through /proc/self/fd: files, pipes and terminals; and which will be /dev/null, which is the host's for
// everyone. As in runc; but a file that we were given for it, a log, stays its owner's.
func (s *Stdio) sort(uid int64) (foreign, null []int) {
	for fd := range 3 {
		source := fd
		if s != nil {
			source = s[fd]
		}
		var st unix.Stat_t
		switch {
		case unix.Fstat(source, &st) != nil:
		case isNull(&st):
			null = append(null, fd)
		case s != nil && st.Mode&unix.S_IFMT == unix.S_IFREG:
		case int64(st.Uid) != uid:
			foreign = append(foreign, fd)
		}
	}
	return foreign, null
}

// isNull tells whether a file is the null device, 1:3 (admin-guide/devices.txt).
func isNull(st *unix.Stat_t) bool {
	return st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == unix.Mkdev(1, 3)
}

// hostUID is who a user of the container is on the host.
func hostUID(config *specs.Spec, uid uint32) int64 {
	if joinFlags(config)&unix.CLONE_NEWUSER == 0 {
		return int64(uid)
	}
	return outside(config.Linux.UIDMappings, uid)
}

// hostUID is who a user of the container is on the host, as the kernel has it: config.json may not say.
func (c *Container) hostUID(uid uint32) int64 {
	if c.state.Namespaces&unix.CLONE_NEWUSER == 0 {
		return int64(uid)
	}
	return outside(host.ReadMap(c.state.Pid, "uid_map"), uid)
}

// outside is the id to which a user namespace maps one of its own; nobody if it is not known to.
func outside(mapping []specs.LinuxIDMapping, id uint32) int64 {
	for _, m := range mapping {
		if id >= m.ContainerID && id-m.ContainerID < m.Size {
			return int64(m.HostID) + int64(id-m.ContainerID)
		}
	}
	return nobody
}
