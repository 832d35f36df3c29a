package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sock-runtime/sock/cmd/sock/engines"
	"github.com/sock-runtime/sock/libsock/host"
)

func TestDiagnose(t *testing.T) {
	for _, test := range []struct {
		name     string
		verdicts []host.Verdict
		ok       bool
	}{
		{"all good", []host.Verdict{host.OK, host.OK}, true},
		{"a warning", []host.Verdict{host.OK, host.Warn}, true},
		{"a failure before a good one", []host.Verdict{host.Fail, host.OK}, false},
	} {
		var checks []host.Check
		for _, v := range test.verdicts {
			checks = append(checks, host.Check{Group: "g", Name: "n", Verdict: v, Detail: "d"})
		}
		if d := diagnose(checks, "/bin/sock"); d.OK != test.ok {
			t.Errorf("%s: ok is %t", test.name, d.OK)
		}
	}
}

func TestDoctorOutput(t *testing.T) {
	d := diagnose([]host.Check{
		{Group: "kernel", Name: "release", Verdict: host.OK, Detail: "6.1"},
		{Group: "kernel", Name: "root", Verdict: host.Fail, Detail: "not root"},
		{Group: "cgroups", Name: "mode", Verdict: host.Warn, Detail: "legacy"},
	}, `/opt/a "b"/sock`)

	var table bytes.Buffer
	if err := d.writeTable(&table); err != nil {
		t.Fatal(err)
	}
	const want = `kernel
  ok    release  6.1
  fail  root     not root
cgroups
  warn  mode     legacy

Containers can't run on this host.

Docker: in /etc/docker/daemon.json

    {
      "runtimes": {
        "sock": {
          "path": "/opt/a \"b\"/sock"
        }
      }
    }
`
	if !strings.HasPrefix(table.String(), want) {
		t.Errorf("table:\n%s\nwant it to begin with:\n%s", table.String(), want)
	}

	var out bytes.Buffer
	if err := d.writeJSON(&out); err != nil {
		t.Fatal(err)
	}
	var read diagnosis
	if err := json.Unmarshal(out.Bytes(), &read); err != nil {
		t.Fatal(err)
	}
	if read.OK || len(read.Checks) != 3 || read.Checks[1] != d.Checks[1] || len(read.Snippets) != 4 {
		t.Errorf("JSON reads as %+v", read)
	}
}

func TestSnippets(t *testing.T) {
	const binary = `/opt/a "b"/sock`
	all := snippets(binary)
	var docker struct {
		Runtimes map[string]struct{ Path string }
	}
	if err := json.Unmarshal([]byte(all[0].Text), &docker); err != nil {
		t.Fatal(err)
	}
	if got := docker.Runtimes["sock"].Path; got != binary {
		t.Errorf("Docker's path is %q", got)
	}
	for _, line := range []string{"[engine.runtimes]", `sock = ["/opt/a \"b\"/sock"]`} {
		if !strings.Contains(all[3].Text, line+"\n") {
			t.Errorf("%s lacks %s:\n%s", all[3].Engine, line, all[3].Text)
		}
	}
	for i, lines := range map[int][]string{
		1: {"version = 3", `[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.sock]`},
		2: {"version = 2", `[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.sock]`},
	} {
		for _, line := range append(lines, `  runtime_type = "io.containerd.sock.v1"`) {
			if !strings.Contains(all[i].Text, line+"\n") {
				t.Errorf("%s lacks %s:\n%s", all[i].Engine, line, all[i].Text)
			}
		}
	}
}

// TestFix is about the command line; what is written is tested in package engines.
func TestFix(t *testing.T) {
	doctor := func(args ...string) (code int, stdout, stderr string) {
		t.Helper()
		cmd := exec.Command(sock(t), append([]string{"doctor"}, args...)...)
		var out, errs strings.Builder
		cmd.Stdout, cmd.Stderr = &out, &errs
		_ = cmd.Run()
		return cmd.ProcessState.ExitCode(), out.String(), errs.String()
	}
	config := filepath.Join(t.TempDir(), "etc", "daemon.json")
	code, stdout, _ := doctor("--fix", "docker", "--dry-run", "--config", config)
	if _, err := os.Stat(filepath.Dir(config)); code != 0 || !strings.Contains(stdout, "--- /dev/null\n+++ "+config+"\n@@ -0,0 +1,7 @@\n+{\n") || err == nil {
		t.Errorf("dry run: exit status %d, %v\n%s", code, err, stdout)
	}
	code, stdout, _ = doctor("--fix", "docker", "--config", config)
	text, _ := os.ReadFile(config)
	if code != 0 || !strings.Contains(stdout, config+": written\n") || !strings.Contains(stdout, "systemctl reload docker") || string(text) != engines.DockerText(sock(t)) {
		t.Errorf("exit status %d\n%s%s", code, stdout, text)
	}
	if code, stdout, _ := doctor("--fix", "docker", "--config", config); code != 0 || !strings.Contains(stdout, "nothing to do") {
		t.Errorf("once more: exit status %d\n%s", code, stdout)
	}
	broken := filepath.Join(t.TempDir(), "broken")
	if err := os.WriteFile(broken, []byte("{]"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		err  string
		args []string
	}{
		{"--fix podman: there are docker and containerd", []string{"--fix", "podman"}},
		{"--config and --dry-run need --fix", []string{"--dry-run"}},
		{"--config and --dry-run need --fix", []string{"--config", config}},
		{"--fix has no --json", []string{"--fix", "docker", "--json"}},
		{broken + ": line 1, column 2: ", []string{"--fix", "docker", "--config", broken}},
		{broken + ": line 1, column 1: ", []string{"--fix", "containerd", "--config", broken}},
	} {
		if code, stdout, stderr := doctor(c.args...); code != 1 || !strings.Contains(stderr, c.err) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%q: exit status %d, want %q\n%s%s", c.args, code, c.err, stdout, stderr)
		}
	}
	if text, _ := os.ReadFile(broken); string(text) != "{]" {
		t.Errorf("changed to %s", text)
	}
}
