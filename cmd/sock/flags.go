package main

import "github.com/urfave/cli/v2"

// Flags that several verbs have.
var (
	bundleFlag = &cli.StringFlag{
		Name: "bundle", Aliases: []string{"b"},
		Usage: "`DIR` of the bundle, by default the current directory",
	}
	consoleSocketFlag = &cli.StringFlag{
		Name:  "console-socket",
		Usage: "`PATH` of an AF_UNIX socket that receives the master of the terminal",
	}
	detachFlag = &cli.BoolFlag{
		Name: "detach", Aliases: []string{"d"}, DisableDefaultText: true,
		Usage: "don't wait for the process to end",
	}
	formatFlag = &cli.StringFlag{
		Name: "format", Aliases: []string{"f"}, Value: "table",
		Usage: "output `FORMAT`: table or json",
	}
	noNewKeyringFlag = &cli.BoolFlag{
		Name: "no-new-keyring", DisableDefaultText: true,
		Usage: "inherit the session keyring instead of making one",
	}
	noPivotFlag = &cli.BoolFlag{
		Name: "no-pivot", DisableDefaultText: true,
		Usage: "enter the root filesystem without pivot_root, as is necessary on a ramdisk",
	}
	pidFileFlag = &cli.StringFlag{
		Name:  "pid-file",
		Usage: "write the process ID to `FILE`",
	}
	pidfdSocketFlag = &cli.StringFlag{
		Name:  "pidfd-socket",
		Usage: "`PATH` of an AF_UNIX socket that receives a pidfd of the process",
	}
	preserveFDsFlag = &cli.IntFlag{
		Name:  "preserve-fds",
		Usage: "pass `N` additional file descriptors to the process, from 3 on",
	}
)

// A flag of cli's works its names out anew whenever it is asked for them, by a regular expression, and it is asked some
// hundred times while one command line is read: 0.2 ms of an exec. These remember them.
type (
	stringFlag struct {
		*cli.StringFlag
		names []string
	}
	boolFlag struct {
		*cli.BoolFlag
		names []string
	}
)

func (f stringFlag) Names() []string { return f.names }
func (f boolFlag) Names() []string   { return f.names }

// rememberNames puts such flags in the place of cli's.
func rememberNames(flags []cli.Flag) []cli.Flag {
	list := make([]cli.Flag, len(flags))
	for i, f := range flags {
		switch f := f.(type) {
		case *cli.StringFlag:
			list[i] = stringFlag{f, append([]string{f.Name}, f.Aliases...)}
		case *cli.BoolFlag:
			list[i] = boolFlag{f, append([]string{f.Name}, f.Aliases...)}
		default:
			list[i] = f
		}
	}
	return list
}
