// Package state keeps what sock must remember of a container between two commands: one directory for each, named by its
// ID, with state.json in it and, while the container waits for start, the FIFO that it waits on.
//
// The file is written to a temporary name and renamed, so a reader sees an old or a new state and never half of one.
// What can be asked of the kernel (is the process alive, does it wait at the gate, is it frozen) is not in the file.
package state

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/sock-runtime/sock/libsock/cgroup"
	"github.com/sock-runtime/sock/libsock/plan"
	"github.com/sock-runtime/sock/libsock/resctrl"
	"github.com/sock-runtime/sock/spec/coldfile"
	"github.com/sock-runtime/sock/spec/coldjson"
)

// ErrNotExist is the error for an unknown ID; the text is what clients of runc match.
var ErrNotExist = errors.New("container does not exist")

// ErrExists is the error for an ID that is taken.
var ErrExists = errors.New("container with given ID already exists")

// State is what is known of a container. All but the Init is in state.json, which is written once.
type State struct {
	ID      string    `json:"id"`
	Version string    `json:"ociVersion"` // of config.json
	Bundle  string    `json:"bundle"`
	Rootfs  string    `json:"rootfs"`
	Created time.Time `json:"created"`
	UID     int       `json:"uid,omitempty"` // who created it

	Profile      string                   `json:"profile"`
	FastPaths    []plan.FastPath          `json:"fastPaths,omitempty"`
	Cgroup       *cgroup.Saved            `json:"cgroup,omitempty"`
	Resctrl      *resctrl.Group           `json:"resctrl,omitempty"`
	Namespaces   int                      `json:"namespaces,omitempty"` // CLONE_NEW* that exec joins
	OwnPIDs      bool                     `json:"ownPids,omitempty"`    // all its processes end with init: the PID namespace was made for it
	Chroot       bool                     `json:"chroot,omitempty"`     // its root is not that of its mount namespace
	Unmount      []Mount                  `json:"unmount,omitempty"`    // what delete takes away from the host's mounts
	NoKeyring    bool                     `json:"noKeyring,omitempty"`
	Process      *specs.Process           `json:"process,omitempty"` // config.json's, which may have changed on disk since
	Hooks        *specs.Hooks             `json:"hooks,omitempty"`
	Annotations  map[string]string        `json:"annotations,omitempty"`
	Listener     *Listener                `json:"listener,omitempty"` // where seccomp listeners go
	Personality  *specs.LinuxPersonality  `json:"personality,omitempty"`
	MemoryPolicy *specs.LinuxMemoryPolicy `json:"memoryPolicy,omitempty"`

	Init `json:"-"`

	inode uint64 // of its directory: a container's identity beyond its ID, which may be used again
}

// Mount is a mount point on the host, and the ID of the mount that is there without the container, statx(2).
type Mount struct {
	Path string `json:"path"`
	Over uint64 `json:"over"`
}

// Listener is linux.seccomp's listenerPath and listenerMetadata.
type Listener struct {
	Path     string `json:"path"`
	Metadata string `json:"metadata,omitempty"`
}

// Init is the init process, in a file of its own because it is known only when everything else is on disk.
type Init struct {
	Pid       int // 0 before the clone
	StartTime uint64
	Creating  bool // create is at work, or was killed
}

// Names of the files.
const (
	fileName   = "state.json"
	initName   = "init"
	filterName = "seccomp"
)

// Phases of a container whose init is known, in its file.
const (
	creating = "creating"
	created  = "created"
)

// maxID bounds an ID: it is a file name, and a NAME_MAX with room for a temporary one's suffix.
const maxID = 200

// CheckID refuses what can't be the name of a directory. The characters are runc's.
func CheckID(id string) error {
	if id == "" {
		return errors.New("container id cannot be empty")
	}
	if len(id) > maxID {
		return fmt.Errorf("invalid container ID format: %d bytes long, at most %d are allowed", len(id), maxID)
	}
	for _, c := range []byte(id) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.IndexByte("_+-.", c) >= 0:
		default:
			return fmt.Errorf("invalid container ID format: %q", id)
		}
	}
	if id == "." || id == ".." {
		return fmt.Errorf("invalid container ID format: %q", id)
	}
	return nil
}

// Dir is a container's directory with its lock held, so that two commands on one ID take turns.
type Dir struct {
	Path string
	fd   int
}

// Directories that are not containers, yet or any more: a comma is in no ID.
const (
	newPrefix = ",new-"
	oldPrefix = ",old-"
)

// temporaries tells the names apart that one process makes.
var temporaries atomic.Uint32

// temporary is the name of a directory that is about to be a container's, or was: it begins with our pid.
func temporary(prefix, id string) string {
	return fmt.Sprintf("%s%d-%d-%s", prefix, os.Getpid(), temporaries.Add(1), id)
}

// Create makes the directory of a new container, with s and the filter, if any, in it, and locks it. It appears with its
// state or not at all. Errors: ErrExists.
func Create(root string, s *State, filter *Filter) (*Dir, error) {
	if err := makeRoot(root); err != nil {
		return nil, err
	}
	final := filepath.Join(root, s.ID)
	if _, err := os.Lstat(final); err == nil {
		return nil, ErrExists
	}
	data, err := coldjson.Append(nil, s)
	if err != nil {
		return nil, fmt.Errorf("encode state: %w", err)
	}
	temp := filepath.Join(root, temporary(newPrefix, s.ID))
	if err := unix.Mkdir(temp, 0o700); err != nil {
		return nil, &fs.PathError{Op: "mkdir", Path: temp, Err: err}
	}
	d, err := lock(temp)
	if err != nil {
		return nil, err
	}
	if err = d.write(fileName, data); err == nil && filter != nil {
		err = d.write(filterName, filter.encode())
	}
	if err == nil {
		err = unix.Renameat2(unix.AT_FDCWD, temp, unix.AT_FDCWD, final, unix.RENAME_NOREPLACE)
		if err == unix.EEXIST {
			err = ErrExists
		}
	}
	if err != nil {
		_ = d.Remove()
		return nil, err
	}
	d.Path = final
	s.inode, err = d.inode()
	return d, err
}

func (d *Dir) inode() (uint64, error) {
	var st unix.Stat_t
	if err := unix.Fstat(d.fd, &st); err != nil {
		return 0, &fs.PathError{Op: "stat", Path: d.Path, Err: err}
	}
	return st.Ino, nil
}

// Refresh returns what s, which was read before the lock was held, is now. Only its init can have changed, unless the
// container was deleted and its ID used again.
func (d *Dir) Refresh(root string, s *State) (*State, error) {
	inode, err := d.inode()
	if err != nil {
		return nil, err
	}
	if inode != s.inode {
		return Read(root, s.ID)
	}
	fresh := *s
	if fresh.Init, err = readInit(d.fd); err != nil {
		return nil, fmt.Errorf("read init of container %s: %w", s.ID, err)
	}
	return &fresh, nil
}

// makeRoot makes the directory of all states.
func makeRoot(root string) error {
	if err := os.MkdirAll(root, 0o711); err != nil {
		return err
	}
	return checkRoot(root)
}

// checkRoot refuses a directory of states that isn't ours alone: whoever can write there could have sock kill and remove
// things, and execute hooks. That the directory above may belong to others (/tmp) doesn't matter then.
func checkRoot(root string) error {
	var st unix.Stat_t
	switch err := unix.Stat(root, &st); {
	case err == unix.ENOENT:
		return nil // nothing to believe
	case err != nil:
		return &fs.PathError{Op: "stat", Path: root, Err: err}
	case st.Mode&0o022 != 0:
		return fmt.Errorf("state directory %s is writable for others", root)
	case st.Uid != 0 && st.Uid != uint32(os.Geteuid()):
		return fmt.Errorf("state directory %s belongs to another user, uid %d", root, st.Uid)
	}
	return nil
}

// Open locks the directory of a container. It waits for a command that holds the lock. Errors: ErrNotExist.
func Open(root, id string) (*Dir, error) {
	if err := CheckID(id); err != nil {
		return nil, err
	}
	path := filepath.Join(root, id)
	for {
		d, err := lock(path)
		if err != nil {
			return nil, err
		}
		// The directory that was locked may have been deleted, and made anew, while we waited.
		var locked, current unix.Stat_t
		if err := unix.Fstat(d.fd, &locked); err != nil {
			d.Unlock()
			return nil, fmt.Errorf("stat %s: %w", path, err)
		}
		err = unix.Lstat(path, &current)
		if err == nil && locked.Dev == current.Dev && locked.Ino == current.Ino {
			return d, nil
		}
		d.Unlock()
		if err != nil && err != unix.ENOENT {
			return nil, fmt.Errorf("stat %s: %w", path, err)
		}
	}
}

func lock(path string) (*Dir, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT {
		return nil, ErrNotExist
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	for {
		err = unix.Flock(fd, unix.LOCK_EX)
		if err != unix.EINTR {
			break
		}
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, &fs.PathError{Op: "lock", Path: path, Err: err}
	}
	return &Dir{Path: path, fd: fd}, nil
}

// Unlock lets the next command have the container.
func (d *Dir) Unlock() {
	if d.fd >= 0 {
		// Closing alone would leave it to a child that was cloned meanwhile and has not come to close its copy, flock(2).
		_ = unix.Flock(d.fd, unix.LOCK_UN)
		_ = unix.Close(d.fd)
		d.fd = -1
	}
}

// WriteInit records the init process.
func (d *Dir) WriteInit(i Init) error {
	phase := created
	if i.Creating {
		phase = creating
	}
	return d.write(initName, fmt.Appendf(nil, "%d %d %s\n", i.Pid, i.StartTime, phase))
}

// write replaces a file of the directory.
func (d *Dir) write(name string, data []byte) error {
	temp := name + ".new"
	fd, err := unix.Openat(d.fd, temp, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return &fs.PathError{Op: "open", Path: filepath.Join(d.Path, temp), Err: err}
	}
	for len(data) > 0 && err == nil {
		var n int
		n, err = unix.Write(fd, data)
		data = data[max(n, 0):]
	}
	if closed := unix.Close(fd); err == nil {
		err = closed
	}
	if err == nil {
		err = unix.Renameat(d.fd, temp, d.fd, name)
	}
	if err != nil {
		return &fs.PathError{Op: "write", Path: filepath.Join(d.Path, name), Err: err}
	}
	return nil
}

// Remove deletes the directory and what is in it, and gives up the lock. It disappears as a whole: half a container would
// be neither there nor gone.
func (d *Dir) Remove() error {
	defer d.Unlock()
	old := filepath.Join(filepath.Dir(d.Path), temporary(oldPrefix, filepath.Base(d.Path)))
	if err := os.Rename(d.Path, old); err != nil {
		return err
	}
	return os.RemoveAll(old)
}

// Read loads the state of a container without its lock. Errors: ErrNotExist.
func Read(root, id string) (*State, error) {
	if err := CheckID(id); err != nil {
		return nil, err
	}
	if err := checkRoot(root); err != nil {
		return nil, err
	}
	dir, err := unix.Open(filepath.Join(root, id), unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT {
		_, _ = List(root) // removes what a killed command left of it
		return nil, ErrNotExist
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: filepath.Join(root, id), Err: err}
	}
	defer unix.Close(dir)
	data, err := readFile(dir, fileName)
	if err == unix.ENOENT {
		return nil, ErrNotExist // it is being deleted
	}
	if err != nil {
		return nil, fmt.Errorf("read state of container %s: %w", id, err)
	}
	s := &State{}
	if err := coldjson.Unmarshal(data, s); err != nil {
		return nil, fmt.Errorf("read state of container %s: %w", id, err)
	}
	if s.ID != id {
		return nil, fmt.Errorf("read state of container %s: it is that of %q", id, s.ID)
	}
	if s.Process == nil || len(s.Process.Args) == 0 {
		return nil, fmt.Errorf("read state of container %s: it has no process", id)
	}
	if s.Init, err = readInit(dir); err != nil {
		return nil, fmt.Errorf("read init of container %s: %w", id, err)
	}
	s.inode, err = (&Dir{Path: filepath.Join(root, id), fd: dir}).inode()
	return s, err
}

func readInit(dir int) (Init, error) {
	data, err := readFile(dir, initName)
	if err == unix.ENOENT {
		return Init{Creating: true}, nil
	}
	if err != nil {
		return Init{}, err
	}
	fields := strings.Fields(string(data))
	if len(fields) == 3 {
		pid, noPid := strconv.ParseUint(fields[0], 10, 31) // a pid_t: a larger number would be cut to another process's
		began, noTime := strconv.ParseUint(fields[1], 10, 64)
		if noPid == nil && noTime == nil && pid > 0 && (fields[2] == creating || fields[2] == created) {
			return Init{Pid: int(pid), StartTime: began, Creating: fields[2] == creating}, nil
		}
	}
	return Init{}, fmt.Errorf("unexpected content %.100q", data)
}

// maxFile bounds what is read: a config.json's process and hooks, with room.
const maxFile = 64 << 20

// readFile reads a regular file of the directory; a link in its place is not followed.
func readFile(dir int, name string) ([]byte, error) {
	return coldfile.Read(dir, name, unix.O_NOFOLLOW|unix.O_NONBLOCK, maxFile, func(st *unix.Stat_t) error {
		if st.Mode&unix.S_IFMT != unix.S_IFREG {
			return fmt.Errorf("%s is not a file of ours", name)
		}
		return nil
	})
}

// List returns the IDs of all containers, sorted. It removes what a create that was killed left before its container
// existed.
func List(root string) ([]string, error) {
	if err := checkRoot(root); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), newPrefix) || strings.HasPrefix(e.Name(), oldPrefix) {
			removeStale(root, e.Name())
		} else if e.IsDir() && CheckID(e.Name()) == nil {
			ids = append(ids, e.Name())
		}
	}
	sort.Strings(ids)
	return ids, nil
}

// removeStale removes a temporary directory whose maker is dead.
func removeStale(root, name string) {
	number, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(name, newPrefix), oldPrefix), "-")
	pid, err := strconv.Atoi(number)
	if err != nil {
		return
	}
	if p, err := stat(pid); err == nil && !p.ended() {
		return // or its number is somebody else's by now: then another time
	}
	_ = os.RemoveAll(filepath.Join(root, name))
}
