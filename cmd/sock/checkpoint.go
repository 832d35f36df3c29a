package main

import (
	"fmt"

	"github.com/urfave/cli/v2"
)

var checkpointCommand = &cli.Command{
	Name:            "checkpoint",
	Usage:           "checkpoint a running container (not supported yet)",
	ArgsUsage:       "<container-id>",
	Description:     "This command always fails.",
	SkipFlagParsing: true,
	HideHelp:        true,
	Action:          refuse,
}

var restoreCommand = &cli.Command{
	Name:            "restore",
	Usage:           "restore a container from a checkpoint (not supported yet)",
	ArgsUsage:       "<container-id>",
	Description:     "This command always fails.",
	SkipFlagParsing: true,
	HideHelp:        true,
	Action:          refuse,
}

// refuse answers a verb of runc that sock doesn't have, whatever its flags.
func refuse(ctx *cli.Context) error {
	return fmt.Errorf("sock %s is not supported yet", ctx.Command.Name)
}
