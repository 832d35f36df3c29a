package libsock

import (
	"os"

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
