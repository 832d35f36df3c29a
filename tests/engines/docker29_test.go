package engines

import (
	"os"
	"path/filepath"
	"testing"

	. "github.com/sock-runtime/sock/tests/sandbox"
)

// recent is where tests/setup.sh builds a program in a recent version.
func recent(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("../../.cache", name))
	Must(t, err)
	_, err = os.Stat(path)
	Installable(t, err == nil, path+" is missing: run tests/setup.sh test")
	return path
}

// TestDocker29 has a recent Docker on a recent containerd, with the runtime under test as a program that runc's shim executes,
// with sock's shim, and with a recent runc, which must do alike. (Debian's has no time namespaces, for which Docker asks.)
func TestDocker29(t *testing.T) {
	t.Parallel()
	for _, way := range []struct {
		name    string
		runtime map[string]string
		states  string
	}{
		{"path", map[string]string{"path": Binary}, "/run/docker/runtime-runc"},
		{"runtimeType", map[string]string{"runtimeType": "io.containerd.sock.v1"}, "/run/containerd/sock"},
		{"runc", map[string]string{"path": recent(t, "runc/runc")}, "/run/docker/runtime-runc"},
	} {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			programs := [2]string{recent(t, "docker/dockerd"), recent(t, "docker/docker")}
			box := newContainerd(t, flavour{dir: newest, shim: true})
			c, _ := newDocker(box.Room, programs, way.runtime, way.states, map[string]any{
				"containerd": "/run/containerd.sock", "userland-proxy-path": recent(t, "docker/docker-proxy"),
			})
			c.privileged = ownCapabilities()
			c.play(alike)
			if way.name == "runc" {
				return
			}
			c.play([]scenario{
				{"own network", dockerOwnNetwork},
				{"out of memory", dockerOutOfMemory},
				{"more flags", dockerFlags},
				{"health", dockerHealth},
				{"namespaces of another", dockerContainerNamespaces},
				{"build", dockerBuild},
			})
		})
	}
}
