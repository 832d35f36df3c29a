// Package nofile_test is external on purpose: a test inside the package would give it imports, and these their inits first.
package nofile_test

import (
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/sock-runtime/sock/libsock/stub/nofile"
)

// TestOriginal starts itself with a soft limit that Go raises, and expects to know the lower one.
func TestOriginal(t *testing.T) {
	if os.Getenv("NOFILE_CHILD") != "" {
		fmt.Println(nofile.Known, nofile.Original.Soft)
		return
	}
	cmd := exec.Command("sh", "-c", `ulimit -S -n 77 && exec "$0" -test.run=TestOriginal`, os.Args[0])
	cmd.Env = append(os.Environ(), "NOFILE_CHILD=1")
	out, err := cmd.CombinedOutput()
	if err != nil || len(out) < 7 || string(out[:8]) != "true 77\n" {
		t.Errorf("got %q, %v; want the soft limit of 77 that the process was started with", out, err)
	}
}
