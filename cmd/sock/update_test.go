package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestParseBytes(t *testing.T) {
	tests := []struct {
		text string
		want int64
	}{
		{"0", 0},
		{"-1", -1},
		{"512", 512},
		{"512b", 512},
		{"512 B", 512},
		{"1k", 1 << 10},
		{"512m", 512 << 20},
		{"512M", 512 << 20},
		{"512mb", 512 << 20},
		{"512MiB", 512 << 20},
		{"1.5g", 3 << 29},
		{".5k", 512},
		{"2 GB", 2 << 30},
		{"1t", 1 << 40},
		{"3p", 3 << 50},
		{"9223372036854775807", 1<<63 - 1}, // no detour through a float
	}
	for _, tt := range tests {
		if got, err := parseBytes(tt.text); got != tt.want || err != nil {
			t.Errorf("parseBytes(%q) = %d, %v; want %d", tt.text, got, err, tt.want)
		}
	}
	for _, text := range []string{
		"", "m", "-2", "-1m", "1x", "1ki", "1kbb", "1mi", "1bb", "0x10", "1e3", "1_0", "1.2.3", " 1", "1  k", "inf",
		"9223372036854775808", "8192p", "99999999999999999999",
	} {
		if got, err := parseBytes(text); err == nil {
			t.Errorf("parseBytes(%q) = %d, want an error", text, got)
		}
	}
}

func TestUpdateFlags(t *testing.T) {
	tests := []struct{ args, want string }{
		{"", `{"memory":{},"cpu":{}}`},
		{
			"--memory 512m --memory-reservation 1g --memory-swap -1",
			`{"memory":{"limit":536870912,"reservation":1073741824,"swap":-1},"cpu":{}}`,
		},
		{
			"--cpu-period 100000 --cpu-quota -1 --cpu-burst 10 --cpu-share 0 --cpu-idle 1 --cpuset-cpus 0-1 --cpuset-mems 0",
			`{"memory":{},"cpu":{"shares":0,"quota":-1,"burst":10,"period":100000,"cpus":"0-1","mems":"0","idle":1}}`,
		},
		{"--cpu-rt-period 5 --cpu-rt-runtime 4", `{"memory":{},"cpu":{"realtimeRuntime":4,"realtimePeriod":5}}`},
		{"--pids-limit 7 --blkio-weight 500", `{"memory":{},"cpu":{},"pids":{"limit":7},"blockIO":{"weight":500}}`},
		{"--pids-limit -1", `{"memory":{},"cpu":{},"pids":{"limit":-1}}`},
		{"--pids-limit 0 --blkio-weight 0", `{"memory":{},"cpu":{},"pids":{"limit":0}}`},
	}
	for _, tt := range tests {
		r, err := readResources(parse(t, updateCommand, append(strings.Fields(tt.args), "c")...))
		if err != nil {
			t.Errorf("%s: %v", tt.args, err)
			continue
		}
		got, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != tt.want {
			t.Errorf("%s: got\n%s\nwant\n%s", tt.args, got, tt.want)
		}
	}
}

func TestUpdateErrors(t *testing.T) {
	broken := filepath.Join(t.TempDir(), "broken.json")
	if err := os.WriteFile(broken, []byte(`{"memory": {"limit": "much"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct{ args, want string }{
		{"--memory much", `invalid value for memory: invalid suffix: "much"`},
		{"--cpu-quota 1.5", "invalid value for cpu-quota: "},
		{"--cpu-share -1", "invalid value for cpu-share: "},
		{"--blkio-weight 70000", "invalid value for blkio-weight: 70000 is not between 10 and 1000"},
		{"-r /nonexistent", "open /nonexistent: no such file or directory"},
		{"-r " + broken, broken},
	}
	for _, tt := range tests {
		_, err := readResources(parse(t, updateCommand, append(strings.Fields(tt.args), "c")...))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error is %v, want %s", tt.args, err, tt.want)
		}
	}
}

func TestUpdateFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "r.json")
	if err := os.WriteFile(name, []byte(`{"memory":{"limit":5},"pids":{"limit":3}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	// Other flags are ignored beside a file.
	r, err := readResources(parse(t, updateCommand, "-r", name, "--memory", "7", "c"))
	if err != nil {
		t.Fatal(err)
	}
	if *r.Memory.Limit != 5 || *r.Pids.Limit != 3 || r.CPU != nil {
		t.Errorf("got %+v", r)
	}
}
