package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/sock-runtime/sock/libsock"
)

var killCommand = &cli.Command{
	Name:      "kill",
	Usage:     "send a signal (default: SIGTERM) to the container's init process",
	ArgsUsage: "<container-id> [signal]",
	Description: `The signal is a number, or a name with or without SIG:

    # sock kill my-container KILL`,
	Flags: []cli.Flag{
		&cli.BoolFlag{
			Name:               "all",
			Aliases:            []string{"a"},
			Usage:              "send the signal to all processes of the container",
			DisableDefaultText: true,
		},
	},
	Action: kill,
}

func kill(ctx *cli.Context) error {
	if err := requireArgs(ctx, 1, -1); err != nil {
		return err
	}
	if err := requireArgs(ctx, 0, 2); err != nil {
		return err
	}
	c, err := loadContainer(ctx)
	if err != nil {
		return err
	}
	signal := unix.SIGTERM
	if name := ctx.Args().Get(1); name != "" {
		if signal, err = parseSignal(name); err != nil {
			return err
		}
	}
	all := ctx.Bool("all")
	err = c.Kill(signal, all)
	if all && errors.Is(err, libsock.ErrNotRunning) {
		return nil
	}
	return err
}

// parseSignal reads a number, or a name in either case and with or without SIG.
func parseSignal(s string) (unix.Signal, error) {
	if n, err := strconv.Atoi(s); err == nil {
		return unix.Signal(n), nil
	}
	name := strings.ToUpper(s)
	if !strings.HasPrefix(name, "SIG") {
		name = "SIG" + name
	}
	if signal := unix.SignalNum(name); signal != 0 {
		return signal, nil
	}
	return 0, fmt.Errorf("unknown signal %q", s)
}
