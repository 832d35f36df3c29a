// Package link is the worker's end of what connects it with the keeper: connections, children and descriptors that outlive
// it.
package link

import (
	"net"
	"os"
	"time"

	"github.com/sock-runtime/sock/shim/reap"
	"github.com/sock-runtime/sock/shim/wire"
)

// Kind is a listener.
type Kind uint8

const (
	Task    Kind = 1 // containerd's address
	Control Kind = 2 // for the helper that containerd executes
)

// Exit is the end of a child of the keeper's: a container's process, or an orphan of one.
//
// Which process it was: the one with this Pid and Start, as libsock's state has them. A pid alone may have been another's.
type Exit = wire.Exit

// Link is what a worker has from its keeper. All methods may be called by several goroutines at once.
type Link interface {
	// Listener returns one of the two listeners. Its connections outlive workers: a new one accepts them again, and reads
	// the requests that weren't answered.
	Listener(Kind) net.Listener
	// Exits delivers the ends of all children, again to each new worker, until they are acknowledged.
	Exits() <-chan Exit
	// Ack has the keeper forget an exit. What follows from it must be on disk.
	Ack(Exit) error
	// Hold has the keeper keep a duplicate of the descriptor for the workers to come, in place of what it has under that
	// name. When it returns nil, the descriptor survives this worker.
	Hold(name string, fd int) error
	// HoldFIFO has the keeper open a FIFO itself, both ways, and keep it like Hold. Unlike a descriptor of this worker's, it is
	// there before the FIFO was ever opened here. wait returns when it is held, or why it isn't.
	HoldFIFO(name, path string) (wait func() error)
	// Drop has the keeper close what it keeps under the name, if anything.
	Drop(name string) error
	// Sync waits until the keeper has done what it was asked before.
	Sync() error
	// Held returns what earlier workers left, duplicates that are the caller's. Ones that were held later are not among
	// them.
	Held() map[string]*os.File
	// CloneParent says that children have to be cloned with CLONE_PARENT, for the keeper to be their parent. Otherwise
	// they are children of this process, and Exits reaps them.
	CloneParent() bool
	// Quit asks the keeper to end, and this worker with it. While a connection is open it is ignored.
	Quit() error
	// Upgrade asks the keeper to become the given executable, which then starts its own worker in place of this one.
	Upgrade(executable string) error
	// Done is closed when the keeper has gone or wants this worker to go: then it has to end at once.
	Done() <-chan struct{}
}

// WallTime turns a time since boot, as in Exit.At, into one of day.
func WallTime(at time.Duration) time.Time { return time.Now().Add(at - reap.Now()) }
