package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/sock-runtime/sock/spec"
)

var specCommand = &cli.Command{
	Name:  "spec",
	Usage: "create a new specification file",
	Description: `Writes a config.json to begin with: a container that runs sh with a terminal in
the directory rootfs beside it.`,
	Flags: []cli.Flag{
		bundleFlag,
		&cli.BoolFlag{Name: "rootless", Usage: "write one for a container of the calling user", DisableDefaultText: true},
	},
	Action: func(ctx *cli.Context) error {
		if err := requireArgs(ctx, 0, 0); err != nil {
			return err
		}
		if _, err := enterBundle(ctx.String("bundle")); err != nil {
			return err
		}
		return writeSpec("config.json", ctx.Bool("rootless"))
	},
}

// writeSpec writes the configuration to a file that must not be there yet.
func writeSpec(name string, rootless bool) error {
	data, err := json.MarshalIndent(spec.Default(rootless), "", "\t")
	if err != nil {
		return err
	}
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if errors.Is(err, fs.ErrExist) {
		//lint:ignore ST1005 it is runc's text
		return fmt.Errorf("File %s exists. Remove it first", name)
	}
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	return errors.Join(err, file.Close())
}
