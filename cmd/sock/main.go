// Go would look for our own cgroup's CPU limit at every start, to size a scheduler that has next to nothing to do.
//
//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

// Command sock is an OCI container runtime with the command line of runc: the same verbs, flags, output and exit codes.
//
// Each verb is a file with its flags and what it does; what they share is here (global flags), in args.go (arguments)
// and in log.go (messages). Everything real happens in package libsock.
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/urfave/cli/v2"

	"github.com/sock-runtime/sock/libsock"
	"github.com/sock-runtime/sock/libsock/plan"
)

// Set by the build: -ldflags '-X main.version=... -X main.commit=...'.
var (
	version = "0.1.0-dev"
	commit  string
)

const description = `sock makes and runs containers from OCI bundles: directories with a config.json
and, usually, a root filesystem. It is used like runc, and by the same engines.

To write a config.json, and to run the bundle in the current directory:

    # sock spec
    # sock run my-container`

func main() {
	os.Exit(run(os.Args))
}

// run executes one command line and returns the exit status.
func run(args []string) int {
	app := newApp()
	for _, c := range app.Commands {
		c.Flags = rememberNames(c.Flags)
	}
	return finish(app.Run(permute(app, args)))
}

// finish reports an error and returns the exit status that goes with it. An error without a text is the status of a
// container's process.
func finish(err error) int {
	if err == nil {
		return 0
	}
	if message := err.Error(); message != "" {
		report(message)
	}
	var exit cli.ExitCoder
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	return 1
}

func newApp() *cli.App {
	root, private := defaultRoot()
	cli.VersionPrinter = printVersion
	app := &cli.App{
		Name:        "sock",
		Usage:       "Open Container Initiative runtime",
		Description: description,
		Version:     version,
		Flags:       rememberNames(globalFlags(root)),
		Commands: []*cli.Command{
			checkpointCommand,
			createCommand,
			deleteCommand,
			eventsCommand,
			execCommand,
			killCommand,
			listCommand,
			pauseCommand,
			psCommand,
			restoreCommand,
			resumeCommand,
			runCommand,
			specCommand,
			startCommand,
			stateCommand,
			updateCommand,
			featuresCommand,
			planCommand,
			doctorCommand,
			completionCommand,
			manCommand,
		},
		// runc doesn't split --env A=1,2 either.
		DisableSliceFlagSeparator: true,
		Before: func(ctx *cli.Context) error {
			if err := setupRoot(ctx, root, private); err != nil {
				return err
			}
			return setupLog(ctx)
		},
		// Errors come back from Run and go through finish.
		ExitErrHandler: func(*cli.Context, error) {},
	}
	for _, c := range app.Commands {
		c.HideHelpCommand = true // else a container could not be called "help"
	}
	return app
}

func globalFlags(root string) []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "debug", Usage: "enable debug logging", DisableDefaultText: true},
		&cli.StringFlag{Name: "log", Usage: "append log messages to `FILE` instead of stderr"},
		&cli.StringFlag{Name: "log-format", Value: "text", Usage: "`FORMAT` of log messages: text or json"},
		&cli.StringFlag{Name: "root", Value: root, Usage: "`DIR` for the state of containers; it should be on a tmpfs"},
		&cli.BoolFlag{
			Name:               "systemd-cgroup",
			Usage:              "make cgroups through systemd; cgroupsPath then has the form \"slice:prefix:name\"",
			DisableDefaultText: true,
		},
		&cli.StringFlag{
			Name:  "cgroup-manager",
			Value: "cgroupfs",
			Usage: "`NAME` as crun has it: cgroupfs, systemd (as with --systemd-cgroup), or disabled: containers get no cgroup",
		},
		&cli.StringFlag{
			Name:  "rootless",
			Value: "auto",
			Usage: "do without cgroups that may not be written: `BOOL` is true, false or auto",
		},
		&cli.StringFlag{
			Name:  "profile",
			Value: plan.Standard,
			Usage: "`NAME` of the set of fast paths: standard has those that can't be told apart from runc, " +
				"lean also those that trade isolation for speed",
		},
	}
}

// printVersion writes what `runc --version` does, which Docker parses.
func printVersion(ctx *cli.Context) {
	w := ctx.App.Writer
	fmt.Fprintln(w, "sock version", version)
	if revision := buildCommit(); revision != "" {
		fmt.Fprintln(w, "commit:", revision)
	}
	fmt.Fprintln(w, "spec:", specs.Version)
	fmt.Fprintln(w, "go:", runtime.Version())
}

// buildCommit is the commit given to the build, else the one that the go command found by itself.
func buildCommit() string {
	if commit != "" {
		return commit
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	return ""
}

// defaultRoot returns where states are kept unless --root says so, by runc's rules: private says that it is the user's
// own place, in $XDG_RUNTIME_DIR.
func defaultRoot() (root string, private bool) {
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" && !realRoot() {
		return filepath.Join(dir, "sock"), true
	}
	return "/run/sock", false
}

// realRoot tells whether we are the host's root, or inside of a user namespace a user who is called root.
func realRoot() bool {
	if os.Geteuid() != 0 {
		return false
	}
	return !libsock.InUserNamespace() || os.Getenv("USER") == "root"
}

// setupRoot checks --root and makes it absolute.
func setupRoot(ctx *cli.Context, standard string, private bool) error {
	if ctx.IsSet("root") {
		root, err := filepath.Abs(ctx.String("root"))
		if err != nil {
			return err
		}
		if root == "/" {
			return errors.New("option --root argument should not be set to /")
		}
		return ctx.Set("root", root)
	}
	if !private {
		return nil
	}
	if err := os.MkdirAll(standard, 0o700); err != nil {
		return fmt.Errorf("the path in $XDG_RUNTIME_DIR must be writable by the user: %w", err)
	}
	// The XDG base directory specification: what lacks the sticky bit may be removed after some hours.
	if err := os.Chmod(standard, 0o700|os.ModeSticky); err != nil {
		return fmt.Errorf("the path in $XDG_RUNTIME_DIR must belong to the user: %w", err)
	}
	return nil
}
