package engines

import (
	"os"
	"testing"

	. "github.com/sock-runtime/sock/tests/sandbox"
)

func TestMain(m *testing.M) { os.Exit(Main(m)) }
