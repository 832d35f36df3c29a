// Package exe keeps containers from writing to the file that this program runs from (CVE-2019-5736).
//
// The child of a launch is this program until it executes another one, and if that is a script of "#!/proc/self/exe", or
// /proc/self/exe itself, it is this program once more, now in the hands of the container. Processes of the container open
// the file as /proc/PID/exe, wait until nobody executes it any more, and write to what they have opened.
//
// So no process that a container can see may lead to the file, unless it is on a read-only mount anyway. Other runtimes
// execute themselves anew for that, from a copy or a read-only mount. Here it is the first act of each child to let go of
// the program: of all its memory it needs but the interpreter's code, six pages, for which it takes a sealed copy; that
// copy becomes its /proc/self/exe, too. It takes 0.1 ms, and nothing where the mount is read-only.
//
// What remains is the moment between a child's birth and its first act. Nobody can see it then but processes of a PID
// namespace into which it is born, and they can't look into it (PR_SET_DUMPABLE) unless they have CAP_SYS_PTRACE on the
// host. Where that may be, and where we have no right to protect our children so, we do execute ourselves anew.
package exe

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/sock-runtime/sock/libsock/stub"
)

// Protection is what keeps containers from writing to this program's file.
type Protection string

// The protections, in the order in which they are looked for.
const (
	ReadOnlyMount Protection = "read-only mount" // the file is on one
	SealedCopy    Protection = "sealed copy"     // this process was executed from one
	Exchange      Protection = "exchange"        // each child exchanges the file for a sealed copy of its own code
	Foreign       Protection = "foreign"         // it is the host's root's, who nobody in our containers can be
	Unprotected   Protection = "none"            // Anew changes that
)

const self = "/proc/self/exe"

// Active says what protects this process's children.
var Active = sync.OnceValue(func() Protection {
	var st unix.Statfs_t
	err := unix.Statfs(self, &st)
	switch {
	case weakened, err == nil && st.Flags&unix.ST_RDONLY != 0:
		return ReadOnlyMount // containers can't change it: it belongs to another mount namespace than theirs
	case err == nil && st.Type == unix.TMPFS_MAGIC && sealed(): // where files in memory are
		return SealedCopy
	case mayExchange() == nil:
		return Exchange
	case foreign():
		return Foreign
	}
	return Unprotected
})

// overflow is who files belong to whose owner has no number in a user namespace, user_namespaces(7).
const overflow = 65534

// foreign tells whether the file belongs to the host's root while we are somebody else.
func foreign() bool {
	var st unix.Stat_t
	if err := unix.Stat(self, &st); err != nil {
		return false
	}
	return st.Uid != uint32(os.Geteuid()) && (st.Uid == 0 || st.Uid == overflow) && st.Mode&0o022 == 0
}

// ErrUnprotected says that something isn't done because a container could overwrite this program's file then.
var ErrUnprotected = errors.New("a container could overwrite this program's file, which is on a writable mount")

// Check says whether children can be launched. watched is for those who are seen from their birth by processes that may
// have CAP_SYS_PTRACE on the host. Errors: ErrUnprotected; Anew helps.
func Check(watched bool) error {
	switch Active() {
	case Unprotected:
		return fmt.Errorf("%w: %w", ErrUnprotected, Why())
	case Exchange:
		if watched {
			return fmt.Errorf("%w: it may have CAP_SYS_PTRACE", ErrUnprotected)
		}
	case SealedCopy:
		nameCopy()
	}
	return nil
}

// Anew executes this program anew, protected, if err is ErrUnprotected: nothing may have been done yet. It returns err, or
// that this failed.
func Anew(err error) error {
	if !errors.Is(err, ErrUnprotected) {
		return err
	}
	return fmt.Errorf("%w (%w)", err, executeAnew())
}

// Why says why this process's children can't exchange the file, nil if they can.
func Why() error { return mayExchange() }

// Child returns what a child that a container can see has to begin with. watched is as for Check. Errors:
// ErrUnprotected, and why the file can't be exchanged.
func Child(watched bool) ([]stub.Instr, error) {
	if err := Check(watched); err != nil || Active() != Exchange {
		return nil, err
	}
	e, err := prepared()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnprotected, err)
	}
	return e.instructions(), nil
}
