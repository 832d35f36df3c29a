// Package control is the way into a shim beside containerd's: the program that containerd executes to start and to delete a
// container asks the shim that runs, and starts one where none does.
package control

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"

	bootstrap "github.com/containerd/containerd/api/runtime/bootstrap/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/sock-runtime/sock/shim/options"
	"github.com/sock-runtime/sock/shim/rendezvous"
	"github.com/sock-runtime/sock/spec/settings"
)

// Start is what a call to start asks for.
type Start struct {
	rendezvous.Command
	Group   string // "" is the whole namespace
	Dir     string // of the shim that is to serve the task
	Options *options.Options
	Version int // of the shim API that the caller knows
}

// The versions of the shim API. With the third one, containerd doesn't execute start for the containers of a pod that is a
// sandbox: it takes the address that it has.
const (
	plainVersion   = 2
	sandboxVersion = 3
)

// ParseStart finds out which shim a call to start is for. Errors are for containerd's user to read.
func ParseStart(call rendezvous.Call) (*Start, error) {
	command, ok := rendezvous.Parse(call.Args[1:])
	if !ok || command.Action != "start" || command.Namespace == "" || command.Address == "" || command.ID == "" {
		return nil, fmt.Errorf("start: not a command line of containerd's: %q", call.Args[1:])
	}
	s := &Start{Command: command}
	given, version, err := optionsOf(call.Stdin, command)
	if err != nil {
		return nil, err
	}
	host, err := settings.Read()
	if err != nil {
		return nil, err
	}
	if s.Options, err = options.Decode(given, host); err != nil {
		return nil, err
	}
	s.Version = version
	switch s.Options.Grouping {
	case options.Container:
		s.Group = command.ID
	case options.Pod:
		if s.Group, err = podOf(call.Dir, command.ID); err != nil {
			return nil, err
		}
	}
	s.Dir = rendezvous.Dir(command.Address, command.Namespace, s.Group)
	return s, nil
}

// optionsOf finds the task's options on start's standard input: containerd 2.3 and newer write BootstrapParams that have them
// as an extension, older ones write the options as they are. So what is there also tells which version of the API is known.
func optionsOf(stdin []byte, c rendezvous.Command) (given *anypb.Any, version int, err error) {
	if len(stdin) == 0 {
		return nil, plainVersion, nil
	}
	var params bootstrap.BootstrapParams
	if err := proto.Unmarshal(stdin, &params); err == nil && params.InstanceID == c.ID && params.Namespace == c.Namespace {
		for _, e := range params.Extensions {
			if options.Known(e.GetValue()) {
				return e.GetValue(), sandboxVersion, nil
			}
		}
		return nil, sandboxVersion, nil
	}
	given = &anypb.Any{}
	if err := proto.Unmarshal(stdin, given); err != nil {
		return nil, 0, fmt.Errorf("options: standard input is neither options nor bootstrap parameters: %w", err)
	}
	return given, plainVersion, nil
}

// podLabels are annotations whose values are a pod's, those that runc's shim groups by.
var podLabels = []string{"io.containerd.runc.v2.group", "io.kubernetes.cri.sandbox-id"}

// podOf is the pod that a bundle belongs to; its own id if it has none, or is that of a sandbox, which has no config.
func podOf(bundle, id string) (string, error) {
	data, err := os.ReadFile(filepath.Join(bundle, "config.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return id, nil
	}
	if err != nil {
		return "", fmt.Errorf("find the container's pod: %w", err)
	}
	var config struct{ Annotations map[string]string }
	if err := json.Unmarshal(data, &config); err != nil {
		return "", fmt.Errorf("find the container's pod: config.json: %w", err)
	}
	for _, label := range podLabels {
		if pod := config.Annotations[label]; pod != "" {
			return pod, nil
		}
	}
	return id, nil
}

// Ask passes a call on to the shim in dir. Errors: those of connect(2) if none runs there, io.EOF and others if it ended
// before it answered.
func Ask(dir string, call rendezvous.Call) (rendezvous.Answer, error) {
	frame, ok := rendezvous.EncodeCall(call)
	if !ok {
		return rendezvous.Answer{}, errors.New("call of more than 4 MiB")
	}
	c, err := net.Dial("unix", filepath.Join(dir, rendezvous.ControlSocket))
	if err != nil {
		return rendezvous.Answer{}, err
	}
	defer c.Close()
	if _, err := c.Write(frame); err != nil {
		return rendezvous.Answer{}, err
	}
	content, err := readFrame(c)
	if err != nil {
		return rendezvous.Answer{}, err
	}
	answer, ok := rendezvous.DecodeAnswer(content)
	if !ok {
		return rendezvous.Answer{}, errors.New("not an answer")
	}
	return answer, nil
}

func readFrame(r io.Reader) ([]byte, error) {
	header := make([]byte, rendezvous.HeaderSize)
	if _, err := io.ReadFull(r, header); err != nil {
		return nil, err
	}
	size := rendezvous.ContentSize(header)
	if size > rendezvous.MaxFrame {
		return nil, fmt.Errorf("frame of %d bytes", size)
	}
	content := make([]byte, size)
	_, err := io.ReadFull(r, content)
	return content, err
}

// Failure is the answer that reports an error.
func Failure(err error) rendezvous.Answer {
	return rendezvous.Answer{Code: 1, Stderr: []byte("io.containerd.sock.v1: " + err.Error() + "\n")}
}
