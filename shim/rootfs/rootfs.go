// Package rootfs mounts what containerd gives as a container's root file system, as containerd's own mount package does it:
// snapshots as lists of mounts with fstab's options, the first at the bottom.
package rootfs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/containerd/api/types"
	securejoin "github.com/cyphar/filepath-securejoin"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/sock-runtime/sock/libsock/host"
	"github.com/sock-runtime/sock/libsock/plan"
)

// Mount mounts the list at dir. After an error nothing is left of it.
func Mount(mounts []*types.Mount, dir string) error {
	for i, m := range mounts {
		if err := mountOne(m, dir); err != nil {
			err = fmt.Errorf("rootfs[%d]: mount %s of %s: %w", i, m.Type, m.Source, err)
			if i > 0 {
				err = errors.Join(err, Unmount(dir))
			}
			return err
		}
	}
	return nil
}

// options are fstab's options of one mount.
type options struct {
	flags       uintptr // MS_*
	propagation uintptr
	data        []string
	uids, gids  []specs.LinuxIDMapping
}

var flags = map[string]struct {
	set, clear uintptr
}{
	"async": {0, unix.MS_SYNCHRONOUS}, "sync": {unix.MS_SYNCHRONOUS, 0},
	"atime": {0, unix.MS_NOATIME}, "noatime": {unix.MS_NOATIME, 0},
	"bind": {unix.MS_BIND, 0}, "rbind": {unix.MS_BIND | unix.MS_REC, 0},
	"defaults": {},
	"dev":      {0, unix.MS_NODEV}, "nodev": {unix.MS_NODEV, 0},
	"diratime": {0, unix.MS_NODIRATIME}, "nodiratime": {unix.MS_NODIRATIME, 0},
	"dirsync": {unix.MS_DIRSYNC, 0},
	"exec":    {0, unix.MS_NOEXEC}, "noexec": {unix.MS_NOEXEC, 0},
	"mand": {unix.MS_MANDLOCK, 0}, "nomand": {0, unix.MS_MANDLOCK},
	"relatime": {unix.MS_RELATIME, 0}, "norelatime": {0, unix.MS_RELATIME},
	"strictatime": {unix.MS_STRICTATIME, 0}, "nostrictatime": {0, unix.MS_STRICTATIME},
	"suid": {0, unix.MS_NOSUID}, "nosuid": {unix.MS_NOSUID, 0},
	"ro": {unix.MS_RDONLY, 0}, "rw": {0, unix.MS_RDONLY},
}

var propagations = map[string]uintptr{
	"shared": unix.MS_SHARED, "rshared": unix.MS_SHARED | unix.MS_REC,
	"slave": unix.MS_SLAVE, "rslave": unix.MS_SLAVE | unix.MS_REC,
	"private": unix.MS_PRIVATE, "rprivate": unix.MS_PRIVATE | unix.MS_REC,
	"unbindable": unix.MS_UNBINDABLE, "runbindable": unix.MS_UNBINDABLE | unix.MS_REC,
}

func parse(list []string) (o options, err error) {
	for _, option := range list {
		if f, ok := flags[option]; ok {
			o.flags = o.flags&^f.clear | f.set
			continue
		}
		if p, ok := propagations[option]; ok {
			o.propagation = p
			continue
		}
		key, value, _ := strings.Cut(option, "=")
		switch {
		case key == "uidmap":
			o.uids, err = parseMap(value)
		case key == "gidmap":
			o.gids, err = parseMap(value)
		case option == "loop":
			err = errors.New("not supported")
		case strings.HasPrefix(option, "X-containerd."):
			err = errors.New("it is for containerd's mount manager, which should have taken it")
		default:
			o.data = append(o.data, option)
		}
		if err != nil {
			return o, fmt.Errorf("option %s: %w", option, err)
		}
	}
	if (len(o.uids) == 0) != (len(o.gids) == 0) {
		return o, errors.New("options uidmap and gidmap: one without the other")
	}
	return o, nil
}

// parseMap reads a mapping as containerd writes it: container:host:size, several with commas between them.
func parseMap(text string) ([]specs.LinuxIDMapping, error) {
	var list []specs.LinuxIDMapping
	for _, part := range strings.Split(text, ",") {
		var n [3]uint32
		fields := strings.Split(part, ":")
		if len(fields) != len(n) {
			return nil, fmt.Errorf("%q is not container:host:size", part)
		}
		for i, field := range fields {
			v, err := strconv.ParseUint(field, 10, 32)
			if err != nil {
				return nil, err
			}
			n[i] = uint32(v)
		}
		list = append(list, specs.LinuxIDMapping{ContainerID: n[0], HostID: n[1], Size: n[2]})
	}
	return list, nil
}

func mountOne(m *types.Mount, dir string) error {
	o, err := parse(m.Options)
	if err != nil {
		return err
	}
	target := dir
	if m.Target != "" {
		if target, err = securejoin.SecureJoin(dir, m.Target); err != nil {
			return fmt.Errorf("target %s: %w", m.Target, err)
		}
	}
	data := strings.Join(o.data, ",")
	switch {
	case strings.HasPrefix(m.Type, "fuse"):
		return errors.New("FUSE file systems are not supported")
	case m.Type == "overlay" && (len(o.uids) > 0 || len(data) >= longestData):
		err = mountLayers(m, target, o)
	default:
		if err = unix.Mount(m.Source, target, m.Type, o.flags, data); err == nil && o.flags&unix.MS_BIND != 0 {
			if o.flags&unix.MS_RDONLY != 0 {
				err = unix.Mount("", target, "", o.flags|unix.MS_REMOUNT, "")
			}
			if err == nil && len(o.uids) > 0 {
				err = idmapAt(target, o)
			}
			if err != nil {
				_ = unix.Unmount(target, unix.MNT_DETACH)
			}
		}
	}
	if err == nil && o.propagation != 0 {
		err = unix.Mount("", target, "", o.propagation, "")
	}
	return err
}

// longestData is what mount(2) takes of options: a page, with its NUL.
const longestData = 4096

func mapping(o options) *plan.IDMap { return &plan.IDMap{UIDs: o.uids, GIDs: o.gids, Recursive: true} }

// idmapAt puts an idmapped clone of the mount at target over it.
func idmapAt(target string, o options) error {
	fd, err := idmapped(target, o)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.MoveMount(fd, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH)
}

// idmapped makes a detached clone of the mount tree at path with o's mapping.
func idmapped(path string, o options) (int, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return -1, fmt.Errorf("clone %s: %w", path, err)
	}
	if err := host.IDMap(fd, mapping(o)); err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("idmap %s: %w", path, err)
	}
	return fd, nil
}

// mountLayers mounts an overlay whose layers are idmapped, or whose options are more than mount(2) takes: then their paths
// are shortened by going through a descriptor of the directory that they have in common.
func mountLayers(m *types.Mount, target string, o options) error {
	i := slices.IndexFunc(o.data, func(s string) bool { return strings.HasPrefix(s, "lowerdir=") })
	if i < 0 {
		return errors.New("overlay has no lowerdir")
	}
	layers := strings.Split(strings.TrimPrefix(o.data[i], "lowerdir="), ":")
	common := commonDir(layers)
	base := common
	if len(o.uids) > 0 {
		place, err := placeLayers(common, filepath.Dir(target), o)
		if err != nil {
			return err
		}
		defer func() { // the overlay has clones of its own by then
			_ = unix.Unmount(place, unix.MNT_DETACH)
			_ = os.Remove(place)
		}()
		base = place
	}
	fd, err := unix.Open(base, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", base, err)
	}
	defer unix.Close(fd)
	for j, layer := range layers {
		layers[j] = fmt.Sprintf("/proc/self/fd/%d%s", fd, strings.TrimPrefix(layer, strings.TrimSuffix(common, "/")))
	}
	data := slices.Clone(o.data)
	data[i] = "lowerdir=" + strings.Join(layers, ":")
	text := strings.Join(data, ",")
	if len(text) >= longestData {
		return mountOneByOne(m, target, o, slices.Delete(data, i, i+1), layers)
	}
	return unix.Mount(m.Source, target, "overlay", o.flags, text)
}

// mountOneByOne gives the kernel one option after the other, which takes Linux 6.8 for layers.
func mountOneByOne(m *types.Mount, target string, o options, data, layers []string) error {
	fs, err := unix.Fsopen(m.Type, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return err
	}
	defer unix.Close(fs)
	set := func(key, value string) error {
		if err := unix.FsconfigSetString(fs, key, value); err != nil {
			return fmt.Errorf("option %s=%s: %w", key, value, err)
		}
		return nil
	}
	if err := set("source", m.Source); err != nil {
		return err
	}
	for _, layer := range layers {
		if err := set("lowerdir+", layer); err != nil {
			return err
		}
	}
	for _, option := range data {
		key, value, ok := strings.Cut(option, "=")
		if !ok {
			err = unix.FsconfigSetFlag(fs, key)
		} else {
			err = set(key, value)
		}
		if err != nil {
			return err
		}
	}
	attrs := 0
	for _, a := range []struct {
		flag uintptr
		attr int
	}{
		{unix.MS_RDONLY, unix.MOUNT_ATTR_RDONLY},
		{unix.MS_NOSUID, unix.MOUNT_ATTR_NOSUID},
		{unix.MS_NODEV, unix.MOUNT_ATTR_NODEV},
		{unix.MS_NOEXEC, unix.MOUNT_ATTR_NOEXEC},
		{unix.MS_NODIRATIME, unix.MOUNT_ATTR_NODIRATIME},
		{unix.MS_NOATIME, unix.MOUNT_ATTR_NOATIME},
	} {
		if o.flags&a.flag != 0 {
			attrs |= a.attr
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return err
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, attrs)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.MoveMount(fd, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH)
}

// commonDir is the deepest directory that all paths are below.
func commonDir(paths []string) string {
	dir := filepath.Dir(paths[0])
	for _, p := range paths[1:] {
		for dir != "/" && !strings.HasPrefix(p, dir+"/") {
			dir = filepath.Dir(dir)
		}
	}
	return dir
}

// placeLayers mounts an idmapped clone of a directory at a new one in parent: overlay takes layers only where they are
// attached.
func placeLayers(dir, parent string, o options) (string, error) {
	fd, err := idmapped(dir, o)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	place, err := os.MkdirTemp(parent, ".layers-")
	if err != nil {
		return "", err
	}
	if err := unix.MoveMount(fd, "", unix.AT_FDCWD, place, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		_ = os.Remove(place)
		return "", fmt.Errorf("attach layers: %w", err)
	}
	return place, nil
}

// Mounted says whether dir is the root of a mount.
func Mounted(dir string) bool {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, dir, unix.AT_SYMLINK_NOFOLLOW, 0, &st)
	return err == nil && st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0
}

// patience is how long Unmount waits for a mount that is in use: a process that was killed may still be going.
const patience = 200 * time.Millisecond

// Unmount takes away all mounts at dir and below it. One that stays in use is detached, and goes when its last user does.
func Unmount(dir string) error {
	deadline := time.Now().Add(patience)
	for Mounted(dir) {
		err := unix.Unmount(dir, unix.UMOUNT_NOFOLLOW)
		if err == unix.EBUSY {
			if time.Now().Before(deadline) {
				time.Sleep(5 * time.Millisecond)
				continue
			}
			err = unix.Unmount(dir, unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH)
		}
		if err != nil && err != unix.EINVAL && err != unix.ENOENT {
			return fmt.Errorf("unmount %s: %w", dir, err)
		}
	}
	return nil
}
