package main

import "github.com/urfave/cli/v2"

var resumeCommand = &cli.Command{
	Name:        "resume",
	Usage:       "let the processes of a paused container go on",
	ArgsUsage:   "<container-id>",
	Description: `Thaws the container's cgroup, which "sock pause" froze.`,
	Action: func(ctx *cli.Context) error {
		if err := requireArgs(ctx, 1, 1); err != nil {
			return err
		}
		c, err := loadContainer(ctx)
		if err != nil {
			return err
		}
		return hintCgroup("resume", c.Resume())
	},
}
