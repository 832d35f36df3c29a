package main

import "github.com/urfave/cli/v2"

var pauseCommand = &cli.Command{
	Name:        "pause",
	Usage:       "suspend all processes of a container",
	ArgsUsage:   "<container-id>",
	Description: `Freezes the container's cgroup. "sock resume" lets the processes go on.`,
	Action: func(ctx *cli.Context) error {
		if err := requireArgs(ctx, 1, 1); err != nil {
			return err
		}
		c, err := loadContainer(ctx)
		if err != nil {
			return err
		}
		return hintCgroup("pause", c.Pause())
	},
}
