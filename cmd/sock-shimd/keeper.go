package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"

	"github.com/sock-runtime/sock/libsock/exe"
	"github.com/sock-runtime/sock/shim/control"
	"github.com/sock-runtime/sock/shim/keeper"
)

// keeperScore is the keeper's oom_score_adj: nobody holds what it does. -1000 would make it immune, and its memory never
// reclaimable by any means.
const keeperScore = -999

// runKeeper is the keeper: its arguments are those of control.Shim, and those that it gives itself in an upgrade. It has the
// listening sockets at descriptors 3 and 4.
func runKeeper(args []string) error {
	runtime.GOMAXPROCS(1)
	shim, rest, err := control.ParseShim(args)
	if err != nil {
		return fmt.Errorf("keeper: %w", err)
	}
	c := keeper.Config{
		Dir: shim.Dir, Sockets: control.Sockets,
		Worker: append([]string{"sock-shimd", "worker"}, shim.Args()...),
		Keeper: append([]string{"sock-shimd", "keeper"}, shim.Args()...),
		Env:    os.Environ(),
	}
	if len(rest) > 0 {
		tables, err := strconv.Atoi(rest[0])
		if err != nil {
			return fmt.Errorf("keeper: %w", err)
		}
		if len(rest) > 1 {
			return keeper.Check(c, tables)
		}
		protect()
		return keeper.Resume(c, tables)
	}
	protect()
	// Where it may not be lower, it stays what it is.
	if err := control.SetOOMScore(keeperScore); err != nil && !errors.Is(err, os.ErrPermission) {
		return fmt.Errorf("keeper: %w", err)
	}
	return keeper.Run(c, [keeper.Listeners]int{3, 4})
}

// protect has keeper and worker run from where no container can write to their file. Otherwise each clone has to see to it,
// and some containers would be refused, see package exe.
func protect() {
	switch exe.Active() {
	case exe.Exchange, exe.Unprotected:
		fmt.Fprintln(os.Stderr, exe.Anew(exe.ErrUnprotected)) // returns only if it failed
	}
}
