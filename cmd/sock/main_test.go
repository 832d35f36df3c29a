package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go/features"
	"github.com/urfave/cli/v2"
)

const buildTags = "urfave_cli_no_docs,urfave_cli_no_suggest,netgo,osusergo"

var binDir string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "sock-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	binDir = dir
	status := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(status)
}

// build makes the binary as the Makefile does, once.
var build = sync.OnceValues(func() (string, error) {
	bin := filepath.Join(binDir, "sock")
	cmd := exec.Command("go", "build", "-trimpath", "-tags", buildTags, "-ldflags", "-s -w -X main.version=1.2.3 -X main.commit=abc", "-o", bin, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return bin, nil
})

func sock(t *testing.T) string {
	t.Helper()
	bin, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return bin
}

// result is what a command line leads to.
type result struct {
	status         int
	stdout, stderr string
}

func execute(t *testing.T, dir, bin string, args ...string) result {
	t.Helper()
	cmd := exec.Command(bin, args...)
	cmd.Dir = dir
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// parse returns the context in which a verb's action finds itself.
func parse(t *testing.T, verb *cli.Command, args ...string) *cli.Context {
	t.Helper()
	var got *cli.Context
	command := *verb
	command.Action = func(ctx *cli.Context) error {
		got = ctx
		return nil
	}
	app := newApp()
	app.Commands = []*cli.Command{&command}
	if err := app.Run(append([]string{"sock", verb.Name}, args...)); err != nil {
		t.Fatal(err)
	}
	return got
}

// TestLikeRunc gives runc and sock the same command lines and compares what a script can see.
func TestLikeRunc(t *testing.T) {
	runc, err := exec.LookPath("runc")
	if err != nil {
		t.Skip("runc is not installed")
	}
	if os.Geteuid() != 0 {
		t.Skip("runc wants to be root")
	}
	lines := []string{
		"list", "list -q", "list -f json", "list --format table", "list --format yaml", "list extra",
		"state gone", "state", "state a b", "state --bad a", "state --format",
		"start gone", "start ''", "pause gone", "resume gone", "update gone",
		"kill gone", "kill gone KILL", "kill --all gone 9", "kill gone 9 --all", "kill", "kill a b c",
		"delete gone", "delete --force gone", "delete gone --force", "delete -f gone", "delete",
		"ps gone", "events gone", "events --stats gone",
		"exec gone true", "exec", "exec --bad gone", "exec -d gone true",
		"create", "create a b", "create -b /nonexistent a", "run -b /nonexistent a", "run",
		"spec extra", "features extra", "--log-format yaml list", "--log-format json state gone", "--bad",
	}
	for _, line := range lines {
		for _, global := range []string{"", "--log LOG --log-format json "} {
			t.Run(global+line, func(t *testing.T) {
				want, got := seen(t, runc, global+line), seen(t, sock(t), global+line)
				if got != want {
					t.Errorf("got\n%s\nrunc has\n%s", got, want)
				}
			})
		}
	}
}

var (
	timestamp = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(Z|[+-]\d\d:\d\d)`)
	tempPath  = regexp.MustCompile(`\S*/(runc|sock)\b`)
)

// seen is what the command line shows to a script: status, stderr and log, and stdout if it isn't help.
func seen(t *testing.T, bin, line string) string {
	dir := t.TempDir()
	args := []string{"--root", filepath.Join(dir, "root")}
	for _, arg := range strings.Fields(line) {
		args = append(args, strings.Trim(strings.Replace(arg, "LOG", filepath.Join(dir, "log"), 1), "'"))
	}
	r := execute(t, dir, bin, args...)
	if strings.Contains(r.stdout, "USAGE:") {
		r.stdout, _, _ = strings.Cut(r.stdout, "NAME:")
		r.stdout = strings.Replace(r.stdout, "Usage. ", "Usage: ", 1) // runc itself is of two minds
	}
	log, err := os.ReadFile(filepath.Join(dir, "log"))
	if err != nil {
		log = []byte("no log\n")
	}
	all := fmt.Sprintf("status %d\n%s--\n%s--\n%s", r.status, r.stdout, r.stderr, log)
	all = tempPath.ReplaceAllString(all, "$1")
	return strings.ReplaceAll(timestamp.ReplaceAllString(all, "TIME"), "runc", "sock")
}

func TestCommandLines(t *testing.T) {
	const stamp = `time="TIME" level=error msg=`
	tests := []struct {
		args   string
		status int
		stdout string // how it begins
		stderr string
	}{
		{"--version", 0, "sock version 1.2.3\ncommit: abc\nspec: 1.3.0\ngo: go1", ""},
		{"-v", 0, "sock version 1.2.3\n", ""},
		{"", 0, "NAME:\n   sock - Open Container Initiative runtime\n", ""},
		{"nonsense", 3, "", stamp + "\"No help topic for 'nonsense'\"\n"},
		{"create --help", 0, "NAME:\n   sock create - create a container\n\nUSAGE:\n   sock create [command options] <container-id>\n", ""},
		// Containers may be called like the help command and like flags.
		{"state help", 1, "", stamp + "\"container does not exist\"\n"},
		{"state h", 1, "", stamp + "\"container does not exist\"\n"},
		{"delete force", 1, "", stamp + "\"container does not exist\"\n"},
		{"--root / list", 1, "", stamp + "\"option --root argument should not be set to /\"\n"},
		{"--rootless maybe list", 1, "", stamp + `"invalid value for rootless: strconv.ParseBool: parsing \"maybe\": invalid syntax"` + "\n"},
		{"checkpoint --leave-running c", 1, "", stamp + "\"sock checkpoint is not supported yet\"\n"},
		{"restore -b bundle c", 1, "", stamp + "\"sock restore is not supported yet\"\n"},
		{"plan --json --explain", 1, "", stamp + "\"--explain and --json exclude each other\"\n"},
		{"plan -b . .", 1, "", stamp + "\"the bundle is given twice: by --bundle and as an argument\"\n"},
		{"create --preserve-fds 1 c", 1, "", stamp + "\"sock create failed: unable to stat preserved-fd 0 (of 1): bad file descriptor\"\n"},
		{"completion tcsh", 1, "", stamp + `"unknown shell \"tcsh\": it must be one of bash zsh fish"` + "\n"},
		{"--log /nonexistent/log list", 1, "", stamp + "\"open /nonexistent/log: no such file or directory\"\n"},
	}
	for _, tt := range tests {
		t.Run(tt.args, func(t *testing.T) {
			dir := t.TempDir()
			args := append([]string{"--root", filepath.Join(dir, "root")}, strings.Fields(tt.args)...)
			r := execute(t, dir, sock(t), args...)
			stderr := timestamp.ReplaceAllString(r.stderr, "TIME")
			if r.status != tt.status || !strings.HasPrefix(r.stdout, tt.stdout) || stderr != tt.stderr {
				t.Errorf("status %d, stdout %q, stderr %q; want %d, %q, %q", r.status, r.stdout, stderr, tt.status, tt.stdout, tt.stderr)
			}
			if tt.stdout == "" && r.stdout != "" {
				t.Errorf("stdout is %q", r.stdout)
			}
		})
	}
}

func TestSpecThenPlan(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "rootfs"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"spec"}, {"plan"}, {"plan", "--explain", "."}, {"plan", "--json"}} {
		r := execute(t, dir, sock(t), append([]string{"--root", filepath.Join(dir, "root")}, args...)...)
		if r.status != 0 || r.stderr != "" {
			t.Fatalf("%v: status %d, stderr %q", args, r.status, r.stderr)
		}
		if args[0] == "plan" && !strings.Contains(r.stdout, "linux.maskedPaths[8]") {
			t.Errorf("%v: not all of the configuration is in %q", args, r.stdout)
		}
	}
	r := execute(t, dir, sock(t), "spec")
	if r.status != 1 || !strings.Contains(r.stderr, "File config.json exists. Remove it first") {
		t.Errorf("second spec: status %d, stderr %q", r.status, r.stderr)
	}
	if _, err := os.Stat(filepath.Join(dir, "root")); !os.IsNotExist(err) {
		t.Errorf("plan made the root: %v", err)
	}
}

func TestFeatures(t *testing.T) {
	r := execute(t, t.TempDir(), sock(t), "features")
	var f features.Features
	if err := json.Unmarshal([]byte(r.stdout), &f); err != nil {
		t.Fatal(err)
	}
	if f.OCIVersionMin != "1.0.0" || f.Linux == nil || len(f.Linux.Namespaces) == 0 {
		t.Errorf("features: %s", r.stdout)
	}
}

func TestFinish(t *testing.T) {
	saved, stderr := *logs, os.Stderr
	defer func() { *logs, os.Stderr = saved, stderr }()
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	os.Stderr = null
	tests := []struct {
		err    error
		status int
		logged bool
	}{
		{nil, 0, false},
		{exitWith(0), 0, false},
		{exitWith(137), 137, false},
		{errors.New("broken"), 1, true},
		{cli.Exit(errors.New("broken"), execFailed), 255, true},
	}
	for _, tt := range tests {
		var out bytes.Buffer
		logs.out = &out
		if status := finish(tt.err); status != tt.status {
			t.Errorf("finish(%v) = %d, want %d", tt.err, status, tt.status)
		}
		if logged := strings.Contains(out.String(), "level=error msg=broken"); logged != tt.logged {
			t.Errorf("finish(%v) logged %q", tt.err, out.String())
		}
	}
}

func TestDefaultRoot(t *testing.T) {
	if !realRoot() {
		t.Skip("as root of the host only")
	}
	t.Setenv("XDG_RUNTIME_DIR", "/run/user/0")
	if root, private := defaultRoot(); root != "/run/sock" || private {
		t.Errorf("defaultRoot() = %s, %v; the host's root has /run/sock", root, private)
	}
}
