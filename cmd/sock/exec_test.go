package main

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func TestExecFlags(t *testing.T) {
	base := func() *specs.Process {
		return &specs.Process{
			Terminal: true,
			Args:     []string{"sh"},
			Env:      []string{"A=1"},
			Cwd:      "/",
			User:     specs.User{UID: 1, GID: 2, AdditionalGids: []uint32{3}},
			Capabilities: &specs.LinuxCapabilities{
				Bounding:    []string{"CAP_KILL"},
				Inheritable: []string{"CAP_CHOWN"},
			},
			NoNewPrivileges: true,
		}
	}
	tests := []struct {
		args   string
		change func(p *specs.Process)
	}{
		{"c ls -l", func(p *specs.Process) {
			p.Args, p.Terminal = []string{"ls", "-l"}, false
		}},
		{"-t --cwd /tmp -e B=2,3 -e C= c env", func(p *specs.Process) {
			p.Args, p.Cwd, p.Env = []string{"env"}, "/tmp", []string{"A=1", "B=2,3", "C="}
		}},
		{"-t --no-new-privs=false c id", func(p *specs.Process) {
			p.Args, p.NoNewPrivileges = []string{"id"}, false
		}},
		{"-t -u 5 c id", func(p *specs.Process) {
			p.Args, p.User.UID = []string{"id"}, 5
		}},
		{"-t --user 5:6 --additional-gids 7 --additional-gids 8 c id", func(p *specs.Process) {
			p.Args, p.User = []string{"id"}, specs.User{UID: 5, GID: 6, AdditionalGids: []uint32{3, 7, 8}}
		}},
		{"-t --apparmor profile --process-label u:r:t c id", func(p *specs.Process) {
			p.Args, p.ApparmorProfile, p.SelinuxLabel = []string{"id"}, "profile", "u:r:t"
		}},
		{"-t -c CAP_CHOWN -c CAP_FOWNER c id", func(p *specs.Process) {
			added := []string{"CAP_CHOWN", "CAP_FOWNER"}
			p.Args = []string{"id"}
			p.Capabilities = &specs.LinuxCapabilities{
				Bounding:    []string{"CAP_KILL", "CAP_CHOWN", "CAP_FOWNER"},
				Effective:   added,
				Permitted:   added,
				Inheritable: []string{"CAP_CHOWN"},
				Ambient:     []string{"CAP_CHOWN"},
			}
		}},
	}
	for _, tt := range tests {
		got, want := base(), base()
		if err := applyExecFlags(parse(t, execCommand, strings.Fields(tt.args)...), got); err != nil {
			t.Errorf("%s: %v", tt.args, err)
		}
		tt.change(want)
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got\n%+v %+v\nwant\n%+v %+v", tt.args, got, got.Capabilities, want, want.Capabilities)
		}
	}
}

func TestExecCapabilitiesOfNone(t *testing.T) {
	p := &specs.Process{}
	addCapabilities(p, []string{"CAP_KILL"})
	if p.Capabilities == nil || len(p.Capabilities.Bounding) != 1 || p.Capabilities.Ambient != nil {
		t.Errorf("got %+v", p.Capabilities)
	}
}

func TestExecErrors(t *testing.T) {
	tests := []struct{ args, want string }{
		{"c", "exec args cannot be empty"},
		{"-u root c id", `bad uid: strconv.ParseUint: parsing "root": invalid syntax`},
		{"-u 0:wheel c id", `bad gid: strconv.ParseUint: parsing "wheel": invalid syntax`},
		{"-u 0: c id", "bad gid: "},
		{"-u -1 c id", "bad uid: "},
		{"-u 4294967296 c id", "bad uid: "},
		{"-g -1 c id", "additional-gids must be a number from 0 to 4294967295: -1"},
	}
	for _, tt := range tests {
		err := applyExecFlags(parse(t, execCommand, strings.Fields(tt.args)...), &specs.Process{})
		if err == nil || !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("%s: error is %v, want %s", tt.args, err, tt.want)
		}
	}
}

func TestExecProcessFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "process.json")
	if err := os.WriteFile(name, []byte(`{"terminal":true,"args":["id"],"cwd":"/tmp","user":{"uid":4}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	// The file is the whole process: other flags don't change it.
	p, err := readProcess(parse(t, execCommand, "--process", name, "--cwd", "/var", "c"), nil)
	if err != nil {
		t.Fatal(err)
	}
	want := &specs.Process{Terminal: true, Args: []string{"id"}, Cwd: "/tmp", User: specs.User{UID: 4}}
	if !reflect.DeepEqual(p, want) {
		t.Errorf("got %+v", p)
	}
}

func TestSubCgroups(t *testing.T) {
	tests := []struct {
		args  string
		want  map[string]string
		fails bool
	}{
		{"", map[string]string{}, false},
		{"a/b", map[string]string{"": "a/b"}, false},
		{"memory,cpu:a b", map[string]string{"memory": "a", "cpu": "a", "": "b"}, false},
		{"a b", nil, true},
		{"memory:a memory:b", nil, true},
		{":a", nil, true},
	}
	for _, tt := range tests {
		got, err := subCgroups(strings.Fields(tt.args))
		if !reflect.DeepEqual(got, tt.want) || (err != nil) != tt.fails {
			t.Errorf("subCgroups(%q) = %q, %v", tt.args, got, err)
		}
	}
}
