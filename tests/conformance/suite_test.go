package conformance

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
)

const (
	suiteModule = "github.com/opencontainers/runtime-tools"
	// cacheDir keeps the built suite.
	cacheDir = "../../.cache/conformance"
)

var programLine = regexp.MustCompile(`(?m)^\s+` + regexp.QuoteMeta(suiteModule) + `/validation/(\w+)$`)

// programNames reads the names of the suite's programs from suite/go.mod: they are its tools.
func programNames(t *testing.T) []string {
	t.Helper()
	data, err := os.ReadFile("suite/go.mod")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, match := range programLine.FindAllStringSubmatch(string(data), -1) {
		names = append(names, match[1])
	}
	slices.Sort(names)
	return names
}

// buildSuite builds the programs and runtimetest, static since it runs in containers, in the version that suite/go.mod
// pins. It puts the suite's root file system beside them, and returns their directory.
func buildSuite(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs(cacheDir)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	_, err = goCommand("build", "-trimpath", "-ldflags", "-s -w", "-o", dir+"/", "tool")
	installable(t, err == nil, fmt.Sprintf("the suite can't be built: %v", err))
	module, err := goCommand("list", "-m", "-f", "{{.Dir}}", suiteModule)
	if err != nil {
		t.Fatal(err)
	}
	rootfs := "rootfs-" + runtime.GOARCH + ".tar.gz"
	data, err := os.ReadFile(filepath.Join(module, rootfs))
	if errors.Is(err, os.ErrNotExist) {
		t.Skipf("the suite has no %s", rootfs)
	} else if err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(dir, rootfs)
	if have, err := os.ReadFile(copied); err != nil || !bytes.Equal(have, data) { // another run may be reading it
		if err := os.WriteFile(copied, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// goCommand runs go in the module of the suite.
func goCommand(args ...string) (string, error) {
	cmd := exec.Command("go", args...)
	cmd.Dir = "suite"
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("go %s: %w\n%s", args[0], err, stderr.String())
	}
	return strings.TrimSpace(string(out)), nil
}

// contestant is a runtime that takes part.
type contestant struct {
	name    string // "sock", "runc", "crun"
	path    string
	version string
}

// contestants returns sock, and those of its peers that are installed.
func contestants(t *testing.T) []contestant {
	t.Helper()
	sock := os.Getenv("SOCK_BINARY")
	if sock == "" {
		sock = filepath.Join(t.TempDir(), "sock")
		build := exec.Command("go", "build", "-trimpath", "-tags", "urfave_cli_no_docs,urfave_cli_no_suggest,netgo,osusergo",
			"-ldflags", "-s -w", "-o", sock, "../../cmd/sock")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("build sock: %v\n%s", err, out)
		}
	}
	found := []contestant{{name: "sock", path: sock}}
	for _, peer := range []string{"runc", "crun"} {
		path, err := exec.LookPath(peer)
		if err != nil {
			path, err = exec.LookPath("/usr/sbin/" + peer) // where Debian has runc, and a user no PATH to
		}
		if err != nil {
			if os.Getenv("SOCK_TEST_STRICT") == "1" || *update {
				t.Fatalf("%s is not installed", peer)
			}
			t.Logf("%s is not installed, so it does not take part", peer)
			continue
		}
		found = append(found, contestant{name: peer, path: path})
	}
	for i := range found {
		out, err := exec.Command(found[i].path, "--version").Output()
		if err != nil {
			t.Fatalf("%s --version: %v", found[i].path, err)
		}
		first, _, _ := strings.Cut(string(out), "\n")
		found[i].version = strings.TrimSpace(strings.TrimPrefix(first, found[i].name+" version "))
	}
	return found
}

// need skips the test where the machine can't have what it needs.
func need(t *testing.T, ok bool, why string) {
	t.Helper()
	if !ok {
		t.Skip(why)
	}
}

// installable is need for what could be installed: strict runs fail.
func installable(t *testing.T, ok bool, why string) {
	t.Helper()
	if !ok && os.Getenv("SOCK_TEST_STRICT") == "1" {
		t.Fatal(why)
	}
	need(t, ok, why)
}
