package main

import (
	"fmt"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/sock-runtime/sock/libsock/cgroup"
)

var doctorCommand = &cli.Command{
	Name:        "doctor",
	Usage:       "check the host",
	Description: `Prints the version of the kernel and how the host arranges its cgroups.`,
	Action: func(ctx *cli.Context) error {
		if err := requireArgs(ctx, 0, 0); err != nil {
			return err
		}
		var uts unix.Utsname
		if err := unix.Uname(&uts); err != nil {
			return fmt.Errorf("uname: %w", err)
		}
		_, err := fmt.Fprintf(ctx.App.Writer, "kernel: %s\ncgroups: %s\n", unix.ByteSliceToString(uts.Release[:]), cgroup.HostMode())
		return err
	},
}
