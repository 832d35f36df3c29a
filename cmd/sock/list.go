package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/sock-runtime/sock/libsock"
)

var listCommand = &cli.Command{
	Name:        "list",
	Usage:       "list the containers of a root",
	Description: `Lists the containers whose state is in the directory that the global flag --root names.`,
	Flags: []cli.Flag{
		formatFlag,
		&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "print only IDs", DisableDefaultText: true},
	},
	Action: list,
}

func list(ctx *cli.Context) error {
	if err := requireArgs(ctx, 0, 0); err != nil {
		return err
	}
	r, err := newRuntime(ctx)
	if err != nil {
		return err
	}
	containers, err := r.List()
	if err != nil {
		return err
	}
	w := ctx.App.Writer
	if ctx.Bool("quiet") {
		for _, c := range containers {
			if _, err := fmt.Fprintln(w, c.ID); err != nil {
				return err
			}
		}
		return nil
	}
	switch ctx.String("format") {
	case "table":
		return writeTable(w, containers)
	case "json":
		return json.NewEncoder(w).Encode(containers)
	default:
		return errors.New("invalid format option")
	}
}

// writeTable aligns the columns as runc does.
func writeTable(w io.Writer, containers []libsock.Status) error {
	t := tabwriter.NewWriter(w, 12, 1, 3, ' ', 0)
	fmt.Fprint(t, "ID\tPID\tSTATUS\tBUNDLE\tCREATED\tOWNER\n")
	for _, c := range containers {
		fmt.Fprintf(t, "%s\t%d\t%s\t%s\t%s\t%s\n", c.ID, c.Pid, c.Status, c.Bundle, c.Created.Format(time.RFC3339Nano), c.Owner)
	}
	return t.Flush()
}
