package shim

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/containerd/api/types"
	"golang.org/x/sys/unix"

	. "github.com/sock-runtime/sock/tests/sandbox"
)

// snapshot is what a snapshotter gives for a directory.
func (f *fixture) snapshot(kind, bundle, lower string) []*types.Mount {
	f.Helper()
	dirs := filepath.Join(bundle, "snapshots")
	// An overlay can't have an overlay as its upper layer, which /tmp may be on.
	Must(f.T, os.Mkdir(dirs, 0o755))
	Must(f.T, unix.Mount("snapshots", dirs, "tmpfs", 0, ""))
	f.Cleanup(func() { _ = unix.Unmount(dirs, unix.MNT_DETACH) })
	sub := func(name string) string {
		dir := filepath.Join(dirs, name)
		Must(f.T, os.MkdirAll(dir, 0o755))
		return dir
	}
	overlay := func(layers []string, more ...string) []*types.Mount {
		return []*types.Mount{{Type: "overlay", Source: "overlay", Options: append([]string{
			"workdir=" + sub("work"), "upperdir=" + sub("upper"), "lowerdir=" + strings.Join(layers, ":"), "index=off",
		}, more...)}}
	}
	layers := func(n int) []string {
		list := []string{lower}
		for i := range n {
			list = append(list, sub(fmt.Sprintf("%d/fs", i)))
		}
		return list
	}
	switch kind {
	case "bind":
		return []*types.Mount{{Type: "bind", Source: lower, Options: []string{"rbind", "ro"}}}
	case "many layers": // more than a page of paths
		return overlay(layers(100))
	case "very many layers": // also when they are shortened
		return overlay(layers(400))
	case "idmapped":
		Must(f.T, os.Chown(sub("upper"), HostRoot, HostRoot))
		return overlay([]string{lower}, fmt.Sprintf("uidmap=0:%d:65536", HostRoot), fmt.Sprintf("gidmap=0:%d:65536", HostRoot))
	default:
		return overlay([]string{lower})
	}
}
