package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/urfave/cli/v2"

	"github.com/sock-runtime/sock/libsock"
	"github.com/sock-runtime/sock/libsock/exe"
	"github.com/sock-runtime/sock/spec"
)

var execCommand = &cli.Command{
	Name:      "exec",
	Usage:     "execute a new process inside a container",
	ArgsUsage: "<container-id> <command> [arguments] || -p process.json <container-id>",
	Description: `Executes the command in the namespaces, the cgroup and the root filesystem of a
container. The process is that of config.json, changed by the flags, or wholly
the one that --process describes.

Unless --detach is given, the command waits for the process and exits with its
status. It exits with 255 if the process can't be executed.`,
	Flags: []cli.Flag{
		consoleSocketFlag,
		pidfdSocketFlag,
		&cli.StringFlag{Name: "cwd", Usage: "`DIR` in the container in which the process begins"},
		&cli.StringSliceFlag{Name: "env", Aliases: []string{"e"}, Usage: "add `NAME=VALUE` to the environment"},
		&cli.BoolFlag{Name: "tty", Aliases: []string{"t"}, Usage: "give the process a terminal", DisableDefaultText: true},
		&cli.StringFlag{Name: "user", Aliases: []string{"u"}, Usage: "execute as `UID[:GID]`"},
		&cli.Int64SliceFlag{Name: "additional-gids", Aliases: []string{"g"}, Usage: "add `GID` to the additional groups"},
		&cli.StringFlag{Name: "process", Aliases: []string{"p"}, Usage: "read the process from `FILE`, which is JSON"},
		detachFlag,
		pidFileFlag,
		&cli.StringFlag{Name: "process-label", Usage: "SELinux `LABEL` of the process"},
		&cli.StringFlag{Name: "apparmor", Usage: "AppArmor `PROFILE` of the process"},
		&cli.BoolFlag{
			Name:               "no-new-privs",
			Usage:              "keep the process from gaining privileges",
			DisableDefaultText: true,
		},
		&cli.StringSliceFlag{
			Name:    "cap",
			Aliases: []string{"c"},
			Usage:   "add the capability `NAME` to the bounding, effective and permitted set",
		},
		preserveFDsFlag,
		&cli.StringSliceFlag{Name: "cgroup", Usage: "put the process into the existing cgroup `[CONTROLLERS:]PATH` below the container's"},
		&cli.BoolFlag{Name: "ignore-paused", Usage: "execute also in a paused container", DisableDefaultText: true},
	},
	Action: execVerb,
}

// execFailed is the status that tells a failure of ours from one of the process, as far as that goes.
const execFailed = 255

func execVerb(ctx *cli.Context) error {
	if err := requireArgs(ctx, 1, -1); err != nil {
		return err
	}
	status, err := execProcess(ctx)
	if err != nil {
		return cli.Exit(fmt.Errorf("exec failed: %w", err), execFailed)
	}
	return exitWith(status)
}

func execProcess(ctx *cli.Context) (int, error) {
	c, err := loadContainer(ctx)
	if err != nil {
		return 0, err
	}
	if err := exe.Anew(c.Protected()); err != nil { // before --process is read: it may be a pipe
		return 0, err
	}
	process, err := readProcess(ctx, c)
	if err != nil {
		return 0, err
	}
	cgroups, err := subCgroups(ctx.StringSlice("cgroup"))
	if err != nil {
		return 0, err
	}
	pidFile, err := absolute(ctx.String("pid-file"))
	if err != nil {
		return 0, err
	}
	preserve := ctx.Int("preserve-fds")
	if err := checkPreserved(preserve, 0); err != nil {
		return 0, err
	}
	return c.Exec(libsock.ExecOptions{
		Process:       process,
		Detach:        ctx.Bool("detach"),
		ConsoleSocket: ctx.String("console-socket"),
		PidfdSocket:   ctx.String("pidfd-socket"),
		PidFile:       pidFile,
		PreserveFDs:   preserve,
		IgnorePaused:  ctx.Bool("ignore-paused"),
		Cgroups:       cgroups,
	})
}

// readProcess returns the process to execute: the one in --process, or the container's changed by the flags.
func readProcess(ctx *cli.Context, c *libsock.Container) (*specs.Process, error) {
	if name := ctx.String("process"); name != "" {
		return spec.LoadProcess(name)
	}
	p := c.Process()
	if p == nil {
		return nil, errors.New("process property must not be empty")
	}
	return p, applyExecFlags(ctx, p)
}

// applyExecFlags changes p by the flags and arguments, by the rules of runc.
func applyExecFlags(ctx *cli.Context, p *specs.Process) error {
	p.Args = ctx.Args().Tail()
	if len(p.Args) == 0 {
		return errors.New("exec args cannot be empty")
	}
	if cwd := ctx.String("cwd"); cwd != "" {
		p.Cwd = cwd
	}
	p.Env = slices.Concat(p.Env, ctx.StringSlice("env"))
	p.Terminal = ctx.Bool("tty") // never inherited
	if ctx.IsSet("no-new-privs") {
		p.NoNewPrivileges = ctx.Bool("no-new-privs")
	}
	if profile := ctx.String("apparmor"); profile != "" {
		p.ApparmorProfile = profile
	}
	if label := ctx.String("process-label"); label != "" {
		p.SelinuxLabel = label
	}
	addCapabilities(p, ctx.StringSlice("cap"))
	return setUser(&p.User, ctx.String("user"), ctx.Int64Slice("additional-gids"))
}

// addCapabilities adds to the sets that runc adds to. Ambient is only what is inheritable too, see capabilities(7).
func addCapabilities(p *specs.Process, names []string) {
	if len(names) == 0 {
		return
	}
	caps := specs.LinuxCapabilities{}
	if p.Capabilities != nil {
		caps = *p.Capabilities
	}
	caps.Bounding = slices.Concat(caps.Bounding, names)
	caps.Effective = slices.Concat(caps.Effective, names)
	caps.Permitted = slices.Concat(caps.Permitted, names)
	for _, name := range names {
		if slices.Contains(caps.Inheritable, name) {
			caps.Ambient = append(slices.Clip(caps.Ambient), name)
		}
	}
	p.Capabilities = &caps
}

// setUser changes u by --user uid[:gid] and --additional-gids.
func setUser(u *specs.User, user string, gids []int64) error {
	if user != "" {
		uid, gid, both := strings.Cut(user, ":")
		n, err := strconv.ParseUint(uid, 10, 32)
		if err != nil {
			return fmt.Errorf("bad uid: %w", err)
		}
		u.UID = uint32(n)
		if both {
			if n, err = strconv.ParseUint(gid, 10, 32); err != nil {
				return fmt.Errorf("bad gid: %w", err)
			}
			u.GID = uint32(n)
		}
	}
	for _, gid := range gids {
		if gid != int64(uint32(gid)) {
			return fmt.Errorf("additional-gids must be a number from 0 to 4294967295: %d", gid)
		}
		u.AdditionalGids = append(slices.Clip(u.AdditionalGids), uint32(gid))
	}
	return nil
}

// subCgroups reads --cgroup as runc does: PATH for all hierarchies, or CONTROLLER[,CONTROLLER]:PATH for some of v1.
func subCgroups(args []string) (map[string]string, error) {
	paths := map[string]string{}
	for _, arg := range args {
		controllers, path, ok := strings.Cut(arg, ":")
		if !ok {
			controllers, path = "", arg
		}
		for controller := range strings.SplitSeq(controllers, ",") {
			if _, twice := paths[controller]; twice || ok && controller == "" {
				return nil, fmt.Errorf("invalid --cgroup argument: %s", arg)
			}
			paths[controller] = path
		}
	}
	return paths, nil
}
