package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/sock-runtime/sock/libsock/exe"
)

var createCommand = &cli.Command{
	Name:      "create",
	Usage:     "create a container",
	ArgsUsage: "<container-id>",
	Description: `Makes the container that config.json of the bundle describes. Its process is there
when the command returns, but waits: "sock start" has it execute the program in
process.args. That the program exists and may be executed is checked already.

Sockets that systemd passes (LISTEN_FDS, LISTEN_PID) go on to the process, from
file descriptor 3 on; those of --preserve-fds follow. If NOTIFY_SOCKET is set, the
process has a socket of its own at /run/notify/notify.sock, and what it says there
of its state goes on to the service manager with "sock start", which waits for
READY=1.

The ID must not be in use. It is made of letters, digits and the characters _+-.`,
	Flags: []cli.Flag{
		bundleFlag,
		consoleSocketFlag,
		pidfdSocketFlag,
		pidFileFlag,
		noPivotFlag,
		noNewKeyringFlag,
		preserveFDsFlag,
	},
	Action: create,
}

func create(ctx *cli.Context) error {
	if err := requireArgs(ctx, 1, 1); err != nil {
		return err
	}
	if err := createContainer(ctx); err != nil {
		return fmt.Errorf("sock create failed: %w", err)
	}
	return nil
}

func createContainer(ctx *cli.Context) error {
	o, err := createOptions(ctx)
	if err != nil {
		return err
	}
	r, err := newCreator(ctx)
	if err != nil {
		return err
	}
	_, err = r.Create(o)
	return exe.Anew(err)
}
