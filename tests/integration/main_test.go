package integration

import (
	"os"
	"testing"

	. "github.com/sock-runtime/sock/tests/sandbox"
)

func TestMain(m *testing.M) {
	status := Main(m)
	unloadProfiles()
	os.Exit(status)
}
