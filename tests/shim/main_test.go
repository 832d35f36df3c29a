// Package shim tests the shim's worker over ttrpc, as containerd would use it, with real containers. The worker is this test
// binary, run again, without a keeper; what a keeper is for is tested with the programs that are installed.
package shim

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"testing"

	"github.com/containerd/ttrpc"

	"github.com/sock-runtime/sock/shim/link"
	"github.com/sock-runtime/sock/shim/task"
	. "github.com/sock-runtime/sock/tests/sandbox"
)

// workerVar makes the test binary a worker: its directory, which has events.sock, too.
const workerVar = "SOCK_TEST_WORKER"

const namespace = "test"

func TestMain(m *testing.M) {
	if dir := os.Getenv(workerVar); dir != "" {
		fmt.Fprintln(os.Stderr, work(dir))
		os.Exit(1)
	}
	os.Exit(Main(m, buildPrograms))
}

func work(dir string) error {
	l, err := link.Local(dir+"/task.sock", dir+"/control.sock", nil)
	if err != nil {
		return err
	}
	service, err := task.New(task.Config{
		Link: l, Dir: dir, Namespace: namespace, Address: dir + "/events.sock", Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		return err
	}
	server, err := ttrpc.NewServer()
	if err != nil {
		return err
	}
	service.Register(server)
	return server.Serve(context.Background(), l.Listener(link.Task))
}
