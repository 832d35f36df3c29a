package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/sock-runtime/sock/libsock"
	"github.com/sock-runtime/sock/libsock/exe"
)

var runCommand = &cli.Command{
	Name:      "run",
	Usage:     "create and run a container",
	ArgsUsage: "<container-id>",
	Description: `Makes the container that config.json of the bundle describes and starts it at
once. Unless --detach is given, the command waits for the process, passes signals
on to it, deletes the container in the end, and exits with the status of the
process, or with 128 and the signal's number.

Sockets that systemd passes (LISTEN_FDS, LISTEN_PID) go on to the process, from
file descriptor 3 on; those of --preserve-fds follow. If NOTIFY_SOCKET is set, the
process has a socket of its own at /run/notify/notify.sock, and what it says there
of its state goes on to the service manager. With
--detach, the command waits for READY=1.`,
	Flags: []cli.Flag{
		bundleFlag,
		consoleSocketFlag,
		pidfdSocketFlag,
		detachFlag,
		&cli.BoolFlag{Name: "keep", Usage: "don't delete the container when it has ended", DisableDefaultText: true},
		pidFileFlag,
		&cli.BoolFlag{
			Name:               "no-subreaper",
			Usage:              "don't become the parent of the container's orphans",
			DisableDefaultText: true,
		},
		noPivotFlag,
		noNewKeyringFlag,
		preserveFDsFlag,
	},
	Action: runVerb,
}

func runVerb(ctx *cli.Context) error {
	if err := requireArgs(ctx, 1, 1); err != nil {
		return err
	}
	status, err := runContainer(ctx)
	if err != nil {
		return fmt.Errorf("sock run failed: %w", err)
	}
	return exitWith(status)
}

func runContainer(ctx *cli.Context) (int, error) {
	o, err := createOptions(ctx)
	if err != nil {
		return 0, err
	}
	r, err := newCreator(ctx)
	if err != nil {
		return 0, err
	}
	status, err := r.Run(libsock.RunOptions{
		CreateOptions: o,
		Detach:        ctx.Bool("detach"),
		Keep:          ctx.Bool("keep"),
		NoSubreaper:   ctx.Bool("no-subreaper"),
	})
	return status, exe.Anew(err)
}
