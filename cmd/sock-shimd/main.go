// Go would look for our own cgroup's CPU limit at every start.
//
//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

// Command sock-shimd is the shim of containerd's runtime io.containerd.sock.v1: the keeper and the worker that a namespace's
// containers share. containerd executes containerd-shim-sock-v1, which becomes this program where there is no shim that could
// answer it.
//
//	sock-shimd [containerd's flags] start|delete|-info|-v
//	sock-shimd upgrade [EXECUTABLE [DIR...]]
//	sock-shimd keeper|worker ...        by itself
package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"google.golang.org/protobuf/proto"

	"github.com/sock-runtime/sock/shim/control"
	"github.com/sock-runtime/sock/shim/rendezvous"
)

// Set by the build: -ldflags '-X main.version=... -X main.commit=...'.
var (
	version = "0.1.0-dev"
	commit  string
)

func main() {
	answer := run(os.Args)
	_, _ = os.Stdout.Write(answer.Stdout)
	_, _ = os.Stderr.Write(answer.Stderr)
	os.Exit(int(answer.Code))
}

func run(args []string) rendezvous.Answer {
	var out []byte
	var err error
	switch {
	case len(args) > 1 && args[1] == "keeper":
		err = runKeeper(args[2:])
	case len(args) > 1 && args[1] == "worker":
		err = runWorker(args[2:])
	case len(args) > 1 && args[1] == "upgrade":
		out, err = upgrade(args[2:])
	default:
		return execute(args)
	}
	if err != nil {
		return control.Failure(err)
	}
	return rendezvous.Answer{Stdout: out}
}

// execute is what containerd asks for where no shim could be asked.
func execute(args []string) rendezvous.Answer {
	command, ok := rendezvous.Parse(args[1:])
	var out []byte
	var err error
	switch {
	case !ok:
		err = fmt.Errorf("not a command line of containerd's: %q", args[1:])
	case command.Version:
		out = versionText(args[0])
	case command.Info:
		out, err = info(os.Stdin)
	case command.Action == "start":
		return start(args)
	case command.Action == "delete":
		out, err = remove(command)
	default:
		err = fmt.Errorf("unknown action %q; containerd executes this program, see its documentation of runtime v2", command.Action)
	}
	if err != nil {
		return control.Failure(err)
	}
	return rendezvous.Answer{Stdout: out}
}

func start(args []string) rendezvous.Answer {
	stdin, err := io.ReadAll(io.LimitReader(os.Stdin, rendezvous.MaxFrame))
	if err != nil {
		return control.Failure(fmt.Errorf("start: standard input: %w", err))
	}
	bundle, err := os.Getwd()
	if err != nil {
		return control.Failure(fmt.Errorf("start: %w", err))
	}
	answer, err := control.Bootstrap(rendezvous.Call{Args: args, Dir: bundle, Stdin: stdin})
	if err != nil {
		return control.Failure(fmt.Errorf("start: %w", err))
	}
	return answer
}

// upgrade has shims become an executable, or this one: those in the given directories, or all of this machine.
func upgrade(args []string) ([]byte, error) {
	executable, err := os.Executable()
	if len(args) > 0 {
		executable, err = filepath.Abs(args[0])
	}
	if err != nil {
		return nil, err
	}
	var dirs []string
	if len(args) > 1 {
		dirs = args[1:]
	} else if dirs, err = filepath.Glob(rendezvous.Root + "/*-*"); err != nil {
		return nil, err
	}
	var out []byte
	for _, dir := range dirs {
		answer, err := control.Ask(dir, rendezvous.Call{Args: []string{"sock-shimd", "upgrade", executable}})
		switch {
		case err != nil:
			out = fmt.Appendf(out, "%s: no shim runs: %v\n", dir, err)
		case answer.Code != 0:
			return out, fmt.Errorf("%s: %s", dir, answer.Stderr)
		default:
			out = fmt.Appendf(out, "%s: asked to become %s\n", dir, executable)
		}
	}
	return out, nil
}

// marshal encodes what is printed.
func marshal(m proto.Message) ([]byte, error) {
	out, err := proto.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode %T: %w", m, err)
	}
	return out, nil
}
