package main

import (
	"errors"

	"github.com/urfave/cli/v2"

	"github.com/sock-runtime/sock/libsock"
)

var deleteCommand = &cli.Command{
	Name:      "delete",
	Usage:     "delete what is left of a container",
	ArgsUsage: "<container-id>",
	Description: `Removes the cgroup, the mounts and the state of a container that has stopped, or
was never started. With --force a running one is killed first, and it is no error
if there is none.`,
	Flags: []cli.Flag{
		&cli.BoolFlag{
			Name:               "force",
			Aliases:            []string{"f"},
			Usage:              "kill the container if it is still running (with SIGKILL)",
			DisableDefaultText: true,
		},
	},
	Action: func(ctx *cli.Context) error {
		if err := requireArgs(ctx, 1, 1); err != nil {
			return err
		}
		force := ctx.Bool("force")
		r, err := newRuntime(ctx)
		if err != nil {
			return err
		}
		c, err := r.Load(ctx.Args().First())
		if err == nil {
			err = c.Delete(force)
		}
		// Engines delete --force what they have deleted already.
		if force && errors.Is(err, libsock.ErrNotExist) {
			return r.Purge(ctx.Args().First())
		}
		return err
	},
}
