package vm

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
)

// archive is an initramfs under construction: a cpio archive in the new ASCII format, cpio(5), as the kernel takes it
// (Documentation/driver-api/early-userspace/buffer-format.rst). Everything in it is root's.
type archive struct {
	bytes.Buffer
	made map[string]bool
}

func (a *archive) entry(name string, mode fs.FileMode, unixType int, data []byte) {
	if dir := path.Dir(name); dir != "." {
		a.dir(dir)
	}
	if a.made == nil {
		a.made = map[string]bool{}
	}
	a.made[name] = true
	a.raw(name, unixType|int(mode.Perm()), data)
}

func (a *archive) raw(name string, mode int, data []byte) {
	fmt.Fprintf(a, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
		len(a.made), mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name)+1, 0, name)
	a.pad()
	a.Write(data)
	a.pad()
}

func (a *archive) pad() {
	for a.Len()%4 != 0 {
		a.WriteByte(0)
	}
}

// dir makes a directory and those above it.
func (a *archive) dir(name string) {
	if !a.made[name] {
		a.entry(name, 0o755, 0o040000, nil)
	}
}

func (a *archive) file(name string, mode fs.FileMode, data []byte) {
	a.entry(name, mode, 0o100000, data)
}

func (a *archive) link(name, to string) {
	a.entry(name, 0o777, 0o120000, []byte(to))
}

// copy puts a file or a directory of the host under a name.
func (a *archive) copy(name, from string) error {
	return filepath.WalkDir(from, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		below, err := filepath.Rel(from, file)
		if err != nil {
			return err
		}
		to := path.Join(name, filepath.ToSlash(below))
		if d.Type()&fs.ModeSymlink != 0 && below != "." {
			target, err := os.Readlink(file)
			a.link(to, target)
			return err
		}
		if d.IsDir() {
			if to != "." {
				a.dir(to)
			}
			return nil
		}
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		a.file(to, info.Mode(), data)
		return nil
	})
}

func (a *archive) writeTo(w io.Writer) error {
	a.raw("TRAILER!!!", 0, nil)
	_, err := a.WriteTo(w)
	return err
}
