package host

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// copyUp copies the directory name of the rootfs into the directory to: what tmpcopyup promises. Contents, modes, owners,
// links and device nodes are kept; a directory that does not exist is empty.
func (h *Host) copyUp(name string, to int) error {
	from, err := h.openInRoot(name)
	if err == unix.ENOENT {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open %s: %w", name, err)
	}
	return copyTree(from, to, name)
}

// copyTree copies the contents of from, which it closes, into to.
func copyTree(from, to int, name string) error {
	dir := os.NewFile(uintptr(from), name)
	defer dir.Close()
	entries, err := dir.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if err := copyEntry(from, to, entry); err != nil {
			return fmt.Errorf("%s/%s: %w", name, entry, err)
		}
	}
	return nil
}

func copyEntry(from, to int, name string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(from, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if err := copyNode(from, to, name, &st); err != nil {
		return err
	}
	if err := unix.Fchownat(to, name, int(st.Uid), int(st.Gid), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFLNK {
		return nil // a link has no mode
	}
	return unix.Fchmodat(to, name, st.Mode&0o7777, 0)
}

func copyNode(from, to int, name string, st *unix.Stat_t) error {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		if err := unix.Mkdirat(to, name, 0o700); err != nil {
			return err
		}
		const flags = unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
		source, err := unix.Openat(from, name, unix.O_RDONLY|flags, 0)
		if err != nil {
			return err
		}
		target, err := unix.Openat(to, name, unix.O_RDONLY|flags, 0)
		if err != nil {
			_ = unix.Close(source)
			return err
		}
		defer unix.Close(target)
		return copyTree(source, target, name)
	case unix.S_IFREG:
		return copyFile(from, to, name)
	case unix.S_IFLNK:
		buf := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(from, name, buf)
		if err != nil {
			return err
		}
		return unix.Symlinkat(string(buf[:n]), to, name)
	default:
		return unix.Mknodat(to, name, st.Mode, int(st.Rdev))
	}
}

func copyFile(from, to int, name string) error {
	const flags = unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := unix.Openat(from, name, unix.O_RDONLY|flags, 0)
	if err != nil {
		return err
	}
	source := os.NewFile(uintptr(fd), name)
	defer source.Close()
	fd, err = unix.Openat(to, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|flags, 0o600)
	if err != nil {
		return err
	}
	target := os.NewFile(uintptr(fd), name)
	_, err = io.Copy(target, source)
	if closed := target.Close(); err == nil {
		err = closed
	}
	return err
}
