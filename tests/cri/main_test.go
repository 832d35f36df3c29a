package cri

import (
	"os"
	"testing"

	. "github.com/sock-runtime/sock/tests/sandbox"
)

func TestMain(m *testing.M) { os.Exit(Main(m, buildShim)) }

// shimDir has the programs of our shim.
var shimDir string

func buildShim(dir string) error {
	shimDir = dir
	for _, name := range []string{"containerd-shim-sock-v1", "sock-shimd"} {
		if _, err := Program(dir, name, "../../cmd/"+name); err != nil {
			return err
		}
	}
	return nil
}
