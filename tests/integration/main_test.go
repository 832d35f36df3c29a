package integration

import (
	"os"
	"path/filepath"
	"testing"

	. "github.com/sock-runtime/sock/tests/sandbox"
)

func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == sdNotify {
		os.Exit(notify(os.Args[1:]))
	}
	status := Main(m)
	unloadProfiles()
	os.Exit(status)
}
