package libsock

import (
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sock-runtime/sock/libsock/plan"
)

// rights adds what our own rights are short of.
func (r *Runtime) rights(f *plan.Facts) {
	f.Rootless, f.UserNS = os.Geteuid() != 0, r.UserNS
	f.NoMounts = f.Rootless || f.UserNS && !mayMount()
}

// mayMount says whether we may make mounts in our mount namespace, which can be an other user namespace's than ours: as in
// `unshare --map-root-user` without --mount.
func mayMount() bool {
	fd, err := unix.OpenTree(unix.AT_FDCWD, "/", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return err != unix.EPERM // whatever else it is, the mount in question will say so
	}
	_ = unix.Close(fd)
	return true
}

// InUserNamespace says whether uid 0 here is somebody else on the host, user_namespaces(7).
func InUserNamespace() bool {
	fd, err := unix.Open("/proc/self/uid_map", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	var buf [128]byte
	n, err := unix.Read(fd, buf[:])
	return err == nil && strings.Join(strings.Fields(string(buf[:n])), " ") != "0 0 4294967295"
}
