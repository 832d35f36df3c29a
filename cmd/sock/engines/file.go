package engines

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// maxFile bounds what is read of a configuration, in bytes.
const maxFile = 4 << 20

// read returns what a file says, nil if there is none. A file that exists is never nil.
func read(name string) ([]byte, error) {
	real, err := resolve(name)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(real, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", name)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if len(text) > maxFile {
		return nil, fmt.Errorf("%s has more than 4 MiB", name)
	}
	return append([]byte{}, text...), nil
}

// resolve follows a link at the end of a path. It must lead to a file that exists, belongs to whom the link belongs to, and
// that nobody else may write to: a link into somebody's home or a package's store is not ours to replace.
func resolve(name string) (string, error) {
	var link unix.Stat_t
	if err := unix.Lstat(name, &link); err != nil || link.Mode&unix.S_IFMT != unix.S_IFLNK {
		return name, nil // that it isn't there, or can't be looked at, shows when it is opened
	}
	refuse := func(why string) (string, error) {
		return "", fmt.Errorf("%s is a link %s: name the file that is to be changed by --config", name, why)
	}
	real, err := filepath.EvalSymlinks(name)
	if err != nil {
		return refuse("that leads nowhere")
	}
	for _, at := range []string{real, filepath.Dir(real)} {
		var st unix.Stat_t
		if err := unix.Stat(at, &st); err != nil {
			return "", fmt.Errorf("%s: %w", at, err)
		}
		if st.Uid != link.Uid || st.Mode&0o002 != 0 {
			return refuse(fmt.Sprintf("to %s, and %s belongs to another user or may be written by all", real, at))
		}
	}
	if unix.Access(filepath.Dir(real), unix.W_OK) != nil {
		return refuse("to " + real + ", which can't be written")
	}
	return real, nil
}

// Apply makes the changes, each file at once, and returns the names of the old files that it kept, by those of the new ones.
// Nothing is changed of a file for which there is an error.
func (e Edit) Apply(now time.Time) (backups map[string]string, err error) {
	backups = map[string]string{}
	for _, c := range e.Changes {
		backup, err := c.apply(now)
		if err != nil {
			return backups, fmt.Errorf("change %s: %w", c.File, err)
		}
		if backup != "" {
			backups[c.File] = backup
		}
	}
	return backups, nil
}

func (c Change) apply(now time.Time) (backup string, err error) {
	name, err := resolve(c.File)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return "", err
	}
	if now, err := read(name); err != nil || string(now) != string(c.Before) || (now == nil) != (c.Before == nil) {
		return "", cmp.Or(err, errors.New("somebody else has changed it meanwhile"))
	}
	st := unix.Stat_t{Mode: 0o644, Uid: uint32(os.Geteuid()), Gid: uint32(os.Getegid())}
	if c.Before != nil {
		if err := unix.Lstat(name, &st); err != nil {
			return "", err
		}
	}
	replacement, err := write(name+".*.new", c.After, st)
	if err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(replacement)
		}
	}()
	if c.Before == nil {
		// A link fails where a file has appeared meanwhile.
		if err := os.Link(replacement, name); err != nil {
			return "", err
		}
		if err := os.Remove(replacement); err != nil {
			return "", err
		}
		return "", syncDirectory(name)
	}
	backup = fmt.Sprintf("%s.%s.bak", name, now.Format("20060102-150405"))
	old, err := write(name+".*.old", c.Before, st)
	if err != nil {
		return "", err
	}
	err = os.Link(old, backup)
	for i := 2; errors.Is(err, os.ErrExist); i++ {
		backup = fmt.Sprintf("%s.%s-%d.bak", name, now.Format("20060102-150405"), i)
		err = os.Link(old, backup)
	}
	if err := errors.Join(err, os.Remove(old)); err != nil {
		return "", err
	}
	if err := os.Rename(replacement, name); err != nil {
		return "", errors.Join(err, os.Remove(backup))
	}
	return backup, syncDirectory(name)
}

// write makes a file beside others, with a mode and owner, and returns its name; the pattern is that of os.CreateTemp.
func write(pattern string, text []byte, like unix.Stat_t) (name string, err error) {
	f, err := os.CreateTemp(filepath.Dir(pattern), filepath.Base(pattern))
	if err != nil {
		return "", err
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	if _, err := f.Write(text); err != nil {
		return "", err
	}
	if err := f.Chown(int(like.Uid), int(like.Gid)); err != nil {
		return "", err
	}
	if err := f.Chmod(os.FileMode(like.Mode & 0o777)); err != nil {
		return "", err
	}
	return f.Name(), f.Sync()
}

func syncDirectory(name string) error {
	dir, err := os.Open(filepath.Dir(name))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// Diff shows the changes in diff's unified form.
func (e Edit) Diff() string {
	var text strings.Builder
	for _, c := range e.Changes {
		c.diff(&text)
	}
	return text.String()
}

// context is how many lines are shown around those that change.
const context = 3

// diff is one hunk, from the first line that differs to the last: what is added is in one place, or few.
func (c Change) diff(text *strings.Builder) {
	before, after := lines(c.Before), lines(c.After)
	same := 0
	for same < min(len(before), len(after)) && before[same] == after[same] {
		same++
	}
	end := 0
	for end < min(len(before), len(after))-same && before[len(before)-1-end] == after[len(after)-1-end] {
		end++
	}
	from, tail := max(0, same-context), min(end, context)
	old := c.File
	if c.Before == nil {
		old = os.DevNull
	}
	fmt.Fprintf(text, "--- %s\n+++ %s\n@@ -%s +%s @@\n", old, c.File, hunk(from, len(before)-end+tail), hunk(from, len(after)-end+tail))
	show := func(mark string, lines []string) {
		for _, line := range lines {
			text.WriteString(mark + strings.TrimSuffix(line, "\n") + "\n")
			if !strings.HasSuffix(line, "\n") {
				text.WriteString("\\ No newline at end of file\n")
			}
		}
	}
	show(" ", before[from:same])
	show("-", before[same:len(before)-end])
	show("+", after[same:len(after)-end])
	show(" ", before[len(before)-end:len(before)-end+tail])
}

// hunk is how diff writes the lines from one, counted from 0, up to another.
func hunk(from, to int) string {
	if to == from {
		return fmt.Sprintf("%d,0", from)
	}
	return fmt.Sprintf("%d,%d", from+1, to-from)
}

func lines(text []byte) []string {
	var list []string
	for line := range strings.Lines(string(text)) {
		list = append(list, line)
	}
	return list
}
