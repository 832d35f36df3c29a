package main

import (
	"errors"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/sock-runtime/sock/libsock"
)

var planCommand = &cli.Command{
	Name:      "plan",
	Usage:     "show what creating a container would do",
	ArgsUsage: "[bundle]",
	Description: `Prints the steps that lead from config.json of the bundle to the process, without
doing any of them: those on the host, the clone, the system calls of the child,
and what takes them back. With --explain each has beside it the field of
config.json that it comes from and the commands that it replaces.`,
	Flags: []cli.Flag{
		bundleFlag,
		&cli.StringFlag{Name: "id", Value: "ID", Usage: "`ID` of the container, which is in some of the paths"},
		&cli.BoolFlag{Name: "explain", Usage: "say where each step comes from", DisableDefaultText: true},
		&cli.BoolFlag{Name: "json", Usage: "print the plan as JSON", DisableDefaultText: true},
	},
	Action: printPlan,
}

func printPlan(ctx *cli.Context) error {
	if err := requireArgs(ctx, 0, 1); err != nil {
		return err
	}
	if ctx.Bool("explain") && ctx.Bool("json") {
		return errors.New("--explain and --json exclude each other")
	}
	dir := ctx.String("bundle")
	if ctx.NArg() > 0 {
		if dir != "" {
			return errors.New("the bundle is given twice: by --bundle and as an argument")
		}
		dir = ctx.Args().First()
	}
	bundle, err := enterBundle(dir)
	if err != nil {
		return err
	}
	r, err := newCreator(ctx)
	if err != nil {
		return err
	}
	p, err := r.Plan(libsock.CreateOptions{ID: ctx.String("id"), Bundle: bundle, NotifySocket: os.Getenv("NOTIFY_SOCKET")})
	if err != nil {
		return err
	}
	switch {
	case ctx.Bool("explain"):
		return p.Explain(ctx.App.Writer)
	case ctx.Bool("json"):
		return p.JSON(ctx.App.Writer)
	default:
		return p.Print(ctx.App.Writer)
	}
}
