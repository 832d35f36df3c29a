package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/sock-runtime/sock/libsock"
	"github.com/sock-runtime/sock/spec"
	"github.com/sock-runtime/sock/spec/settings"
)

// permute moves the flags of a verb before its arguments, since flags are not looked for after the first argument and
// `delete ID --force` works with runc. Left alone are the verbs whose arguments are another program's command line.
func permute(app *cli.App, args []string) []string {
	at := verbIndex(app.Flags, args)
	if at < 0 {
		return args
	}
	verb := app.Command(args[at])
	if verb == nil || verb.SkipFlagParsing || verb == execCommand || verb == psCommand {
		return args
	}
	var flags, operands []string
	rest := args[at+1:]
	for i := 0; i < len(rest); i++ {
		arg := rest[i]
		if arg == "--" {
			// The delimiter goes first, so that nothing behind it becomes a flag.
			operands = slices.Concat([]string{"--"}, operands, rest[i+1:])
			break
		}
		known, separate := lookup(verb.Flags, arg)
		if !known {
			operands = append(operands, arg)
			continue
		}
		flags = append(flags, arg)
		if separate && i+1 < len(rest) {
			i++
			flags = append(flags, rest[i])
		}
	}
	return slices.Concat(args[:at+1], flags, operands)
}

// verbIndex finds the verb behind the global flags; -1 if there is none to be found.
func verbIndex(flags []cli.Flag, args []string) int {
	for i := 1; i < len(args); i++ {
		if args[i] == "--" {
			i++
		} else if len(args[i]) > 1 && args[i][0] == '-' {
			known, separate := lookup(flags, args[i])
			if !known {
				return -1
			}
			if separate {
				i++
			}
			continue
		}
		if i < len(args) {
			return i
		}
	}
	return -1
}

// lookup tells whether arg is one of the flags, and whether its value is the argument that follows.
func lookup(flags []cli.Flag, arg string) (known, separate bool) {
	name, isFlag := strings.CutPrefix(arg, "-")
	if !isFlag {
		return false, false
	}
	name = strings.TrimPrefix(name, "-")
	name, _, attached := strings.Cut(name, "=")
	for _, f := range flags {
		if slices.Contains(f.Names(), name) {
			takes := f.(cli.DocGenerationFlag).TakesValue()
			return true, takes && !attached
		}
	}
	return false, false
}

// requireArgs checks the number of arguments; a negative maximum is none. A wrong number is answered with the verb's
// help on stdout and runc's message.
func requireArgs(ctx *cli.Context, least, most int) error {
	n, name := ctx.NArg(), ctx.Command.Name
	var err error
	switch {
	case least == most && n != least:
		err = fmt.Errorf("%s: %q requires exactly %d argument(s)", os.Args[0], name, least)
	case n < least:
		err = fmt.Errorf("%s: %q requires a minimum of %d argument(s)", os.Args[0], name, least)
	case most >= 0 && n > most:
		err = fmt.Errorf("%s: %q requires a maximum of %d argument(s)", os.Args[0], name, most)
	default:
		return nil
	}
	fmt.Fprint(ctx.App.Writer, "Incorrect Usage.\n\n")
	_ = cli.ShowCommandHelp(ctx, name)
	return err
}

// newRuntime makes the Runtime that the global flags describe.
func newRuntime(ctx *cli.Context) (*libsock.Runtime, error) {
	userNS := libsock.InUserNamespace()
	rootless, err := isRootless(ctx.String("rootless"), userNS)
	if err != nil {
		return nil, err
	}
	manager := ctx.String("cgroup-manager")
	switch manager {
	case "cgroupfs", "systemd", "disabled":
	default:
		return nil, fmt.Errorf("unknown cgroup manager %q", manager)
	}
	return &libsock.Runtime{
		Root:          ctx.String("root"),
		SystemdCgroup: ctx.Bool("systemd-cgroup") || manager == "systemd",
		NoCgroup:      manager == "disabled",
		Rootless:      rootless,
		UserNS:        userNS,
		Profile:       ctx.String("profile"),
		ProfileFrom:   "--profile",
		Log:           slog.New(logs),
	}, nil
}

// newCreator is newRuntime for a command that makes containers: it heeds the host's settings. Grouping and cgroup driver are
// the shim's, engines tell us theirs.
func newCreator(ctx *cli.Context) (*libsock.Runtime, error) {
	r, err := newRuntime(ctx)
	if err != nil {
		return nil, err
	}
	host, err := settings.Read()
	if err != nil {
		return nil, err
	}
	r.AnnotationProfiles = host.AnnotationProfiles
	if !ctx.IsSet("profile") && host.Profile != "" {
		r.Profile, r.ProfileFrom = host.Profile, spec.SettingsFile
	}
	return r, nil
}

// isRootless reads --rootless: auto means that we are not the host's root.
func isRootless(value string, userNS bool) (bool, error) {
	if value == "" || strings.EqualFold(value, "auto") {
		return os.Geteuid() != 0 || userNS, nil
	}
	rootless, err := strconv.ParseBool(value)
	if err != nil {
		return false, fmt.Errorf("invalid value for rootless: %w", err)
	}
	return rootless, nil
}

// loadContainer finds the container that the first argument names.
func loadContainer(ctx *cli.Context) (*libsock.Container, error) {
	r, err := newRuntime(ctx)
	if err != nil {
		return nil, err
	}
	return r.Load(ctx.Args().First())
}

// createOptions reads the flags that create and run share. It changes into the bundle's directory, as runc does, so that
// what is relative is relative to that; the PID file is the caller's.
func createOptions(ctx *cli.Context) (libsock.CreateOptions, error) {
	var none libsock.CreateOptions
	pidFile, err := absolute(ctx.String("pid-file"))
	if err != nil {
		return none, err
	}
	bundle, err := enterBundle(ctx.String("bundle"))
	if err != nil {
		return none, err
	}
	preserve, listen := ctx.Int("preserve-fds"), listenFDs()
	if err := checkPreserved(preserve, listen); err != nil {
		return none, err
	}
	return libsock.CreateOptions{
		ID:            ctx.Args().First(),
		Bundle:        bundle,
		ConsoleSocket: ctx.String("console-socket"),
		PidfdSocket:   ctx.String("pidfd-socket"),
		PidFile:       pidFile,
		NoPivot:       ctx.Bool("no-pivot"),
		NoNewKeyring:  ctx.Bool("no-new-keyring"),
		PreserveFDs:   listen + preserve,
		ListenFDs:     listen,
		NotifySocket:  os.Getenv("NOTIFY_SOCKET"),
	}, nil
}

// absolute is filepath.Abs, but nothing stays nothing.
func absolute(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	return filepath.Abs(path)
}

// enterBundle changes into the bundle, by default the current directory, and returns its absolute path.
func enterBundle(dir string) (string, error) {
	if dir != "" {
		if err := os.Chdir(dir); err != nil {
			return "", err
		}
	}
	return os.Getwd()
}

// listenFDs is how many sockets systemd passed to us, from descriptor 3 on, sd_listen_fds(3).
func listenFDs() int {
	if pid, err := strconv.Atoi(os.Getenv("LISTEN_PID")); err != nil || pid != os.Getpid() {
		return 0 // for our parent, say
	}
	n, err := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	if err != nil {
		return 0
	}
	return max(n, 0)
}

// checkPreserved checks that the caller really passed the descriptors: from 3 on listen for LISTEN_FDS, then n for
// --preserve-fds. Those that are close-on-exec are not the caller's but ours.
func checkPreserved(n, listen int) error {
	if n < 0 {
		return fmt.Errorf("invalid number of preserved-fds: %d", n)
	}
	passed := func(fd int) error {
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		if err == nil && flags&unix.FD_CLOEXEC != 0 {
			err = unix.EBADF
		}
		return err
	}
	for i := range listen {
		if err := passed(3 + i); err != nil {
			return fmt.Errorf("LISTEN_FDS is %d, but descriptor %d was not passed: %w", listen, 3+i, err)
		}
	}
	for i := range n {
		if err := passed(3 + listen + i); err != nil {
			return fmt.Errorf("unable to stat preserved-fd %d (of %d): %w", i, n, err)
		}
	}
	return nil
}

// exitWith makes a process's status the exit status of ours.
func exitWith(status int) error {
	if status == 0 {
		return nil
	}
	return cli.Exit("", status)
}

// hintCgroup logs what may be behind a denied permission, and returns the error.
func hintCgroup(verb string, err error) error {
	if errors.Is(err, fs.ErrPermission) {
		slog.New(logs).Warn("sock " + verb + " failure might be caused by lack of full access to cgroups")
	}
	return err
}
