package control

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/sock-runtime/sock/libsock/cgroup"
	"github.com/sock-runtime/sock/shim/keeper"
	"github.com/sock-runtime/sock/shim/rendezvous"
)

// Shim is what the processes of one shim are started with.
type Shim struct {
	Dir       string
	Namespace string
	Events    string // containerd's ttrpc socket
	Grouped   bool   // it serves a group of containers, not the whole namespace
	OOMScore  int    // oom_score_adj of the worker
}

// Args are the arguments that ParseShim reads.
func (s Shim) Args() []string {
	return []string{s.Dir, s.Namespace, s.Events, strconv.FormatBool(s.Grouped), strconv.Itoa(s.OOMScore)}
}

// ParseShim reads Args, and returns what follows them.
func ParseShim(args []string) (s Shim, rest []string, err error) {
	if len(args) < 5 {
		return s, nil, errors.New("too few arguments")
	}
	s.Dir, s.Namespace, s.Events = args[0], args[1], args[2]
	if s.Grouped, err = strconv.ParseBool(args[3]); err != nil {
		return s, nil, err
	}
	s.OOMScore, err = strconv.Atoi(args[4])
	return s, args[5:], err
}

// Sockets are the names of a shim's sockets, in the order in which the keeper takes them.
var Sockets = [keeper.Listeners]string{rendezvous.TaskSocket, rendezvous.ControlSocket}

// launches is how often a shim is started that doesn't answer.
const launches = 3

// Bootstrap has a shim answer a call to start; it starts one if none runs.
func Bootstrap(call rendezvous.Call) (rendezvous.Answer, error) {
	where, err := ParseStart(call)
	if err != nil {
		return rendezvous.Answer{}, err
	}
	for i := 0; ; i++ {
		answer, err := Ask(where.Dir, call)
		if err == nil {
			return answer, nil
		}
		if i == launches {
			return rendezvous.Answer{}, fmt.Errorf("the shim doesn't answer: %w%s", err, lastWords(where.Dir))
		}
		if err := ensure(where); err != nil {
			return rendezvous.Answer{}, fmt.Errorf("start the shim: %w", err)
		}
	}
}

// lastWords are the end of a shim's log.
func lastWords(dir string) string {
	data, err := os.ReadFile(filepath.Join(dir, keeper.LogFile))
	if err != nil || len(data) == 0 {
		return ""
	}
	const longest = 500
	return "; its log ends with: " + strings.TrimSpace(string(data[max(0, len(data)-longest):]))
}

// ensure starts a shim unless somebody else has. One lock serves all: it is held for a few milliseconds, and stays when
// directories go.
func ensure(where *Start) error {
	if err := directory(rendezvous.Root); err != nil {
		return err
	}
	unlock, err := lock()
	if err != nil {
		return err
	}
	defer unlock()
	if listening(where.Dir) {
		return nil
	}
	return launch(where)
}

// lock keeps others from starting shims, and from removing what is left of them.
func lock() (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(rendezvous.Root, "lock"), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if err != unix.EINTR {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
		}
	}
}

// Clear removes the directory of a shim that was killed, unless another one runs there, or there are records in it of what is
// still to be deleted: records are the names of their directories.
func Clear(dir string, records ...string) error {
	if _, err := os.Lstat(dir); err != nil {
		return nil
	}
	unlock, err := lock()
	if err != nil {
		return err
	}
	defer unlock()
	if listening(dir) {
		return nil
	}
	for _, name := range records {
		if err := unix.Rmdir(filepath.Join(dir, name)); err != nil && err != unix.ENOENT {
			return nil
		}
	}
	return os.RemoveAll(dir)
}

// directory makes a directory that is ours alone.
func directory(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR || int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("%s is not a directory of this user's", dir)
	}
	if st.Mode&0o077 != 0 {
		return os.Chmod(dir, 0o700)
	}
	return nil
}

// listening says whether a shim runs in dir.
func listening(dir string) bool {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	return unix.Connect(fd, &unix.SockaddrUnix{Name: filepath.Join(dir, rendezvous.ControlSocket)}) == nil
}

// launch starts a keeper, which starts the worker. Nobody listens in the directory.
func launch(where *Start) error {
	unix.Umask(0o077)
	// What may be refused comes first: nothing is left then.
	if where.Options.ShimCgroup != "" {
		if err := join(where.Options.ShimCgroup); err != nil {
			return err
		}
	}
	if os.Getenv("SCHED_CORE") != "" {
		if err := shareCore(where); err != nil {
			return err
		}
	}
	if err := directory(where.Dir); err != nil {
		return err
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	log, err := os.OpenFile(filepath.Join(where.Dir, keeper.LogFile), os.O_WRONLY|os.O_CREATE|os.O_APPEND|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	files := []uintptr{null.Fd(), log.Fd(), log.Fd()}
	for _, name := range Sockets {
		fd, err := listen(filepath.Join(where.Dir, name))
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		files = append(files, uintptr(fd))
	}
	score, err := oomScore()
	if err != nil {
		return err
	}
	shim := Shim{
		Dir: where.Dir, Namespace: where.Namespace, Events: events(where.Address), Grouped: where.Group != "", OOMScore: min(score+1, 1000),
	}
	// Whoever executed us may have left descriptors open.
	if err := unix.CloseRange(3, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("close what was inherited: %w", err)
	}
	_, err = syscall.ForkExec("/proc/self/exe", append([]string{"sock-shimd", "keeper"}, shim.Args()...), &syscall.ProcAttr{
		Dir: "/", Env: environment(), Files: files, Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return fmt.Errorf("execute the keeper: %w", err)
	}
	return nil
}

// listen makes a socket. What has its name is left over from a shim that was killed.
func listen(path string) (int, error) {
	if err := unix.Unlink(path); err != nil && err != unix.ENOENT {
		return -1, fmt.Errorf("remove %s: %w", path, err)
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("socket: %w", err)
	}
	err = unix.Bind(fd, &unix.SockaddrUnix{Name: path})
	if err == nil {
		err = unix.Listen(fd, unix.SOMAXCONN)
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("listen at %s: %w", path, err)
	}
	return fd, nil
}

// events is where containerd takes events.
func events(address string) string {
	if e := os.Getenv("TTRPC_ADDRESS"); e != "" {
		return e
	}
	return address + ".ttrpc"
}

// environment is ours without what containerd has set for this program.
func environment() []string {
	var env []string
	for _, v := range os.Environ() {
		switch name, _, _ := strings.Cut(v, "="); name {
		case "GOMAXPROCS", "GOGC", "GOMEMLIMIT", "TTRPC_ADDRESS", "GRPC_ADDRESS", "NAMESPACE", "MAX_SHIM_VERSION", "NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID":
		default:
			env = append(env, v)
		}
	}
	return env
}

const oomFile = "/proc/self/oom_score_adj"

// oomScore is this process's oom_score_adj, which is containerd's.
func oomScore() (int, error) {
	data, err := os.ReadFile(oomFile)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(data)))
}

// SetOOMScore sets this process's oom_score_adj. Errors: os.ErrPermission where it would be lower than it may.
func SetOOMScore(score int) error {
	return os.WriteFile(oomFile, []byte(strconv.Itoa(score)), 0)
}

// shareCore has the kernel run the shim, and so its containers, on a core with nobody else at the same time: containerd asks for
// that by SCHED_CORE. Those of a whole namespace would share it with each other, and it would protect none from the other.
func shareCore(where *Start) error {
	if where.Group == "" {
		return errors.New("SCHED_CORE needs the grouping pod or container: one shim serves the whole namespace")
	}
	const processGroup = 2 // PIDTYPE_PGID, prctl(2)
	runtime.LockOSThread() // the keeper has what the thread that forks it has
	if err := unix.Prctl(unix.PR_SCHED_CORE, unix.PR_SCHED_CORE_CREATE, 0, processGroup, 0); err != nil {
		return fmt.Errorf("SCHED_CORE: core scheduling: %w", err)
	}
	return nil
}

// join moves this process, and so the shim that it starts, into the cgroup at a path of every hierarchy.
func join(path string) error {
	hierarchies, err := cgroup.Hierarchies()
	if err != nil {
		return err
	}
	joined := false
	for _, h := range hierarchies {
		err := os.WriteFile(filepath.Join(h.Mount, path, "cgroup.procs"), []byte("0"), 0)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("shim_cgroup: %w", err)
		}
		joined = joined || err == nil
	}
	if !joined {
		return fmt.Errorf("shim_cgroup %s doesn't exist", path)
	}
	return nil
}
