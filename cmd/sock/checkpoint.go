package main

import (
	"fmt"
	"slices"

	"github.com/urfave/cli/v2"
)

var checkpointCommand = &cli.Command{
	Name:            "checkpoint",
	Usage:           "checkpoint a running container (not supported yet)",
	ArgsUsage:       "<container-id>",
	Description:     "This command always fails.",
	SkipFlagParsing: true,
	Action:          refuse,
}

var restoreCommand = &cli.Command{
	Name:            "restore",
	Usage:           "restore a container from a checkpoint (not supported yet)",
	ArgsUsage:       "<container-id>",
	Description:     "This command always fails.",
	SkipFlagParsing: true,
	Action:          refuse,
}

// refuse answers a verb of runc that sock doesn't have, whatever its flags but --help.
func refuse(ctx *cli.Context) error {
	if slices.ContainsFunc(ctx.Args().Slice(), func(arg string) bool { return arg == "-h" || arg == "--help" }) {
		return cli.ShowSubcommandHelp(ctx)
	}
	return fmt.Errorf("sock %s is not supported yet", ctx.Command.Name)
}
