package main

import (
	"os"

	"github.com/urfave/cli/v2"

	"github.com/sock-runtime/sock/libsock/exe"
)

var startCommand = &cli.Command{
	Name:      "start",
	Usage:     "execute the user's program in a created container",
	ArgsUsage: "<container-id>",
	Description: `Lets the process that "sock create" made execute the program in process.args. If
NOTIFY_SOCKET is set, as it was for create, the command waits for READY=1 and
passes it on to the service manager.`,
	Action: func(ctx *cli.Context) error {
		if err := requireArgs(ctx, 1, 1); err != nil {
			return err
		}
		c, err := loadContainer(ctx)
		if err != nil {
			return err
		}
		return exe.Anew(c.StartNotifying(os.Getenv("NOTIFY_SOCKET")))
	},
}
