package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"
)

var psCommand = &cli.Command{
	Name:      "ps",
	Usage:     "list the processes of a container",
	ArgsUsage: "<container-id> [ps options]",
	Description: `Prints those lines of the output of ps(1), by default "ps -ef", that are about
processes of the container, or their IDs as a JSON array.`,
	Flags:  []cli.Flag{formatFlag},
	Action: ps,
}

func ps(ctx *cli.Context) error {
	if err := requireArgs(ctx, 1, -1); err != nil {
		return err
	}
	c, err := loadContainer(ctx)
	if err != nil {
		return err
	}
	pids, err := c.Pids()
	if err != nil {
		return hintCgroup("ps", err)
	}
	switch ctx.String("format") {
	case "table":
	case "json":
		return json.NewEncoder(ctx.App.Writer).Encode(pids)
	default:
		return errors.New("invalid format option")
	}
	args := ctx.Args().Tail()
	if len(args) == 0 {
		args = []string{"-ef"}
	}
	output, err := exec.Command("ps", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, output)
	}
	return filterProcesses(ctx.App.Writer, string(output), pids)
}

// filterProcesses writes the title of a table that ps(1) printed, and the lines of the processes in pids.
func filterProcesses(w io.Writer, table string, pids []int) error {
	title, table, _ := strings.Cut(table, "\n")
	column := slices.Index(strings.Fields(title), "PID")
	if column < 0 {
		return errors.New("couldn't find PID field in ps output")
	}
	kept := title + "\n"
	for line := range strings.Lines(table) {
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		if len(fields) <= column {
			return fmt.Errorf("unable to parse pid: no such field in %q", line)
		}
		pid, err := strconv.Atoi(fields[column])
		if err != nil {
			return fmt.Errorf("unable to parse pid: %w", err)
		}
		if slices.Contains(pids, pid) {
			kept += line
		}
	}
	_, err := io.WriteString(w, kept)
	return err
}
