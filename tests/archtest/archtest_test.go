// Package archtest holds the rules on which package may import which: data flows from spec over plan and launch to state,
// what is unsafe stands in few places, and sock's start is not paid for libraries that it doesn't need.
package archtest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/sock-runtime/sock/"

// layers lists for each package, or each tree of packages that ends in "/", which of ours it may import. The longest entry
// that fits counts; a package without one is a violation.
var layers = map[string][]string{
	"cmd/":          {"cmd/sock/", "libsock", "libsock/cgroup", "libsock/exe", "libsock/host", "libsock/plan", "spec", "spec/coldjson", "spec/settings"}, // host for its probes
	"shim/":         {"libsock", "libsock/cgroup", "libsock/exe", "libsock/plan", "shim/", "spec", "spec/settings"},
	"spec":          {"spec/"},
	"spec/":         {},
	"spec/settings": {"spec", "spec/coldfile"},
	"libsock":       {"libsock/cgroup", "libsock/exe", "libsock/host", "libsock/plan", "libsock/resctrl", "libsock/seccomp", "libsock/state", "libsock/stub", "libsock/stub/nofile", "libsock/stub/signals", "spec", "spec/coldjson"},
	"tests/":        {"libsock", "libsock/cgroup", "libsock/plan", "libsock/state", "shim/pause", "spec", "tests/"},
	"contrib/":      {},

	"shim/jsonfile":   {},
	"shim/pause":      {},
	"shim/podconfig":  {},
	"shim/wire":       {},
	"shim/reap":       {"shim/wire"},
	"shim/link":       {"shim/reap", "shim/wire"},
	"shim/keeper":     {"shim/reap", "shim/wire"},
	"shim/rendezvous": {},
	"shim/rootfs":     {"libsock/host", "libsock/plan"},
	"shim/control":    {"libsock/cgroup", "shim/keeper", "shim/link", "shim/options", "shim/rendezvous", "spec/settings"},

	"cmd/sock/engines":            {},
	"cmd/containerd-shim-sock-v1": {"shim/rendezvous"},
	"cmd/sock-shimd":              {"libsock/exe", "shim/control", "shim/keeper", "shim/link", "shim/pod", "shim/rendezvous", "shim/task", "spec"},

	"libsock/cgroup":       {"libsock/cgroup/dbus", "libsock/resctrl", "libsock/stub/bpf"},
	"libsock/cgroup/dbus":  {},
	"libsock/exe":          {"libsock/stub", "libsock/stub/nofile"},
	"libsock/host":         {"libsock/cgroup", "libsock/exe", "libsock/host/", "libsock/plan", "libsock/resctrl", "libsock/stub", "spec"},
	"libsock/host/":        {},
	"libsock/plan":         {"libsock/stub", "spec"}, // stub for the types of instructions
	"libsock/resctrl":      {},
	"libsock/seccomp":      {},
	"libsock/seccomp/":     {},
	"libsock/state":        {"libsock/cgroup", "libsock/plan", "libsock/resctrl", "spec/coldfile", "spec/coldjson"},
	"libsock/stub":         {},
	"libsock/stub/bpf":     {},
	"libsock/stub/nofile":  {},
	"libsock/stub/signals": {},
}

// shimTrees are where the shim is.
var shimTrees = []string{"shim/", "cmd/sock-shimd"}

// reserved are modules that only these trees may depend on, also by way of others.
var reserved = map[string][]string{
	"github.com/urfave/cli/":            {"cmd/"},
	"github.com/containerd/containerd/": shimTrees,
	"github.com/containerd/ttrpc":       shimTrees,
	"github.com/containerd/cgroups/":    shimTrees,
	"github.com/pelletier/go-toml/":     append([]string{"cmd/", "spec/settings"}, shimTrees...),
	"google.golang.org/grpc":            shimTrees,
	"google.golang.org/protobuf/":       shimTrees,
	"k8s.io/":                           {"tests/"},
}

// plain are the packages that depend on nothing but the standard library, x/sys/unix and each other: what lives in the keeper
// must not grow.
var plain = []string{"shim/keeper", "shim/reap", "shim/rendezvous", "shim/wire"}

// helper is executed for every container, so it imports nothing but system calls.
const helper = "cmd/containerd-shim-sock-v1"

// unsafePackages may import unsafe: system calls on structures that x/sys/unix has no functions for, and what protoc
// generates.
var unsafePackages = []string{"libsock/stub", "libsock/stub/bpf", "libsock/stub/nofile", "libsock/stub/signals", "shim/reap", "shim/options", "shim/pod"}

// stubModules are all that the interpreter may import beside the standard library.
var stubModules = []string{"golang.org/x/sys/unix"}

// listed is what `go list -json` says of a package.
type listed struct {
	ImportPath string
	Standard   bool
	Imports    []string
	Deps       []string
}

// check returns a line for each import that breaks a rule. standard tells the standard library's packages.
func check(packages []listed, standard func(string) bool) []string {
	var found []string
	for _, p := range packages {
		name := strings.TrimPrefix(p.ImportPath, module)
		refuse := func(imported, why string) {
			found = append(found, fmt.Sprintf("%s imports %s: %s", name, strings.TrimPrefix(imported, module), why))
		}
		allowed, known := layerOf(name)
		if !known {
			found = append(found, name+" has no entry in the import rules")
			continue
		}
		for _, imported := range p.Imports {
			own, isOwn := strings.CutPrefix(imported, module)
			switch {
			case isOwn && !matches(allowed, own):
				refuse(imported, "its layer must not")
			case imported == "unsafe" && !slices.Contains(unsafePackages, name):
				refuse(imported, "only "+strings.Join(unsafePackages, ", ")+" may")
			case strings.HasPrefix(name, "libsock/stub") && !isOwn && !standard(imported) && !slices.Contains(stubModules, imported):
				refuse(imported, "the stub must not depend on anything")
			case name == helper && !isOwn && imported != "syscall", name == "shim/rendezvous":
				refuse(imported, "it is part of every container's start")
			}
		}
		for _, dependency := range p.Deps {
			for prefix, owners := range reserved {
				if strings.HasPrefix(dependency+"/", prefix) && !matches(owners, name) && !strings.HasPrefix(name, "tests/") {
					refuse(dependency, "only "+strings.Join(owners, ", ")+" may, directly or not")
				}
			}
			if slices.Contains(plain, name) && !slices.Contains(plain, strings.TrimPrefix(dependency, module)) &&
				!standard(dependency) && !strings.HasPrefix(dependency, "golang.org/x/sys/") {
				refuse(dependency, "it is part of the keeper")
			}
		}
	}
	return found
}

// layerOf finds the entry for a package.
func layerOf(name string) (allowed []string, known bool) {
	longest := -1
	for entry, list := range layers {
		if matches([]string{entry}, name) && len(entry) > longest {
			longest, allowed, known = len(entry), list, true
		}
	}
	return allowed, known
}

// matches tells whether name is one of the entries, or below one that ends in "/".
func matches(entries []string, name string) bool {
	return slices.ContainsFunc(entries, func(entry string) bool {
		return name == entry || strings.HasSuffix(entry, "/") && strings.HasPrefix(name, entry)
	})
}

// list runs go list on the module and all that it depends on.
func list(t *testing.T) (own []listed, standard func(string) bool) {
	t.Helper()
	out, err := exec.Command("go", "list", "-deps", "-json=ImportPath,Standard,Imports,Deps", module+"...").Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("go list: %v\n%s", err, exit.Stderr)
		}
		t.Fatalf("go list: %v", err)
	}
	std := map[string]bool{"unsafe": true, "C": true}
	for decoder := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := decoder.Decode(&p); err == io.EOF {
			return own, func(path string) bool { return std[path] }
		} else if err != nil {
			t.Fatal(err)
		}
		std[p.ImportPath] = p.Standard
		if strings.HasPrefix(p.ImportPath, module) {
			own = append(own, p)
		}
	}
}

func TestImports(t *testing.T) {
	own, standard := list(t)
	if len(own) < 8 {
		t.Fatalf("go list found only %d packages", len(own))
	}
	for _, violation := range check(own, standard) {
		t.Error(violation)
	}
}

// TestViolationsAreFound breaks each rule once.
func TestViolationsAreFound(t *testing.T) {
	standard := func(path string) bool { return !strings.Contains(path, ".") }
	for _, c := range []struct {
		name string
		p    listed
		want string // "" if it is allowed
	}{
		{"the way down", listed{ImportPath: module + "cmd/sock", Imports: []string{module + "libsock", module + "spec", "os"}}, ""},
		{"the way up", listed{ImportPath: module + "libsock", Imports: []string{module + "cmd/sock"}}, "its layer must not"},
		{"the CLI past the library", listed{ImportPath: module + "cmd/sock", Imports: []string{module + "libsock/stub"}}, "its layer must not"},
		{"plan acts", listed{ImportPath: module + "libsock/plan", Imports: []string{module + "libsock/host"}}, "its layer must not"},
		{"cgroup plans", listed{ImportPath: module + "libsock/cgroup", Imports: []string{module + "libsock/plan"}}, "its layer must not"},
		{"unknown package", listed{ImportPath: module + "libsock/util"}, "no entry"},
		{"unsafe in its place", listed{ImportPath: module + "libsock/stub", Imports: []string{"unsafe", "golang.org/x/sys/unix"}}, ""},
		{"unsafe elsewhere", listed{ImportPath: module + "libsock/plan", Imports: []string{"unsafe"}}, "only libsock/stub"},
		{"the stub's dependencies", listed{ImportPath: module + "libsock/stub", Imports: []string{"github.com/moby/sys/user"}}, "must not depend"},
		{"the CLI library", listed{ImportPath: module + "cmd/sock", Deps: []string{"github.com/urfave/cli/v2"}}, ""},
		{"the CLI library in the library", listed{ImportPath: module + "libsock", Deps: []string{"github.com/urfave/cli/v2"}}, "only cmd/ may"},
		{"protobuf in the shim", listed{ImportPath: module + "shim/task", Deps: []string{"google.golang.org/protobuf/proto"}}, ""},
		{"protobuf by a detour", listed{ImportPath: module + "cmd/sock", Deps: []string{"google.golang.org/protobuf/proto"}}, "only shim/, cmd/sock-shimd may"},
		{"protobuf in the shim's program", listed{ImportPath: module + "cmd/sock-shimd", Deps: []string{"google.golang.org/protobuf/proto"}}, ""},
		{"protobuf in the keeper", listed{ImportPath: module + "shim/keeper", Deps: []string{"google.golang.org/protobuf/proto"}}, "part of the keeper"},
		{"libsock in the keeper, by a detour", listed{ImportPath: module + "shim/wire", Deps: []string{module + "libsock"}}, "part of the keeper"},
		{"system calls in the helper", listed{ImportPath: module + helper, Imports: []string{"syscall", module + "shim/rendezvous"}}, ""},
		{"more in the helper", listed{ImportPath: module + helper, Imports: []string{"os"}}, "every container's start"},
		{"anything in what it imports", listed{ImportPath: module + "shim/rendezvous", Imports: []string{"syscall"}}, "every container's start"},
		{"ttrpc", listed{ImportPath: module + "libsock", Deps: []string{"github.com/containerd/ttrpc"}}, "only shim/, cmd/sock-shimd may"},
	} {
		t.Run(c.name, func(t *testing.T) {
			found := check([]listed{c.p}, standard)
			if c.want == "" && len(found) > 0 {
				t.Errorf("refused: %q", found)
			}
			if c.want != "" && (len(found) != 1 || !strings.Contains(found[0], c.want)) {
				t.Errorf("got %q, want one with %q", found, c.want)
			}
		})
	}
}
