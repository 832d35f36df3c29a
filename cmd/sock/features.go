package main

import (
	"encoding/json"

	"github.com/urfave/cli/v2"

	"github.com/sock-runtime/sock/spec"
)

var featuresCommand = &cli.Command{
	Name:  "features",
	Usage: "show what sock recognises in config.json",
	Description: `Prints the JSON object that features.md of the runtime specification defines. It
doesn't depend on the host.`,
	Action: func(ctx *cli.Context) error {
		if err := requireArgs(ctx, 0, 0); err != nil {
			return err
		}
		out := json.NewEncoder(ctx.App.Writer)
		out.SetIndent("", "    ")
		return out.Encode(spec.Features())
	},
}
