package engines

import (
	"os"
	"testing"

	. "github.com/sock-runtime/sock/tests/sandbox"
)

func TestMain(m *testing.M) {
	code := Main(m)
	if code == 0 {
		code = checkTables()
	}
	os.Exit(code)
}
