package main

import (
	"encoding/json"

	"github.com/urfave/cli/v2"
)

var stateCommand = &cli.Command{
	Name:      "state",
	Usage:     "output the state of a container",
	ArgsUsage: "<container-id>",
	Description: `Prints a JSON object with the state as the runtime specification defines it, and
with the fast paths that were taken or refused.`,
	Action: func(ctx *cli.Context) error {
		if err := requireArgs(ctx, 1, 1); err != nil {
			return err
		}
		c, err := loadContainer(ctx)
		if err != nil {
			return err
		}
		status, err := c.Status()
		if err != nil {
			return err
		}
		status.Owner = "" // runc has the owner in the list only
		data, err := json.MarshalIndent(status, "", "  ")
		if err != nil {
			return err
		}
		_, err = ctx.App.Writer.Write(data)
		return err
	},
}
