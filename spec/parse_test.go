package spec

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestParseErrors(t *testing.T) {
	tests := []struct {
		name, in, want string
	}{
		{"empty", "", "config.json:1:1: unexpected end of JSON input"},
		{"cut off", "{\n\t\"root\": {", "config.json:2:10: unexpected end of JSON input"},
		{"missing comma", "{\n  \"hostname\": \"a\"\n  \"root\": {}\n}", "config.json:3:3: invalid character '\"' after object key:value pair"},
		{"trailing garbage", "{}\n{}", "config.json:2:1: invalid character '{' after top-level value"},
		{"null", "\n null", "config.json:2:2: want object, got null"},
		{"not an object", "[]", "config.json:1:1: want object, got array"},
		{"top-level field", `{"hostname": 7}`, "config.json:1:14: hostname: want string, got number"},
		{"object for string", `{"process": {"cwd": {}}}`, "config.json:1:21: process.cwd: want string, got object"},
		{"string for object", `{"root": "rootfs"}`, "config.json:1:10: root: want object, got string"},
		{"object for array", `{"mounts": {}}`, "config.json:1:12: mounts: want array, got object"},
		{"bool for string, nested", "{\"mounts\": [{},\n{\"options\": [\"ro\", true]}]}", "config.json:2:20: mounts[1].options[1]: want string, got bool"},
		{"after a nested array", `{"mounts": [{"options": ["a", "b"], "type": 1}]}`, "config.json:1:45: mounts[0].type: want string, got number"},
		{"after skipped members", `{"x": {"y": [1, {"z": ""}]}, "": 1, "hostname": []}`, "config.json:1:49: hostname: want string, got array"},
		{"empty and huge", `{"": "", "x": 1e999, "annotations": {"": 1e999}}`, `config.json:1:42: annotations[""]: want string, got number`},
		{"array in a map", `{"linux": {"sysctl": {"net.a": ["1"]}}}`, `config.json:1:32: linux.sysctl["net.a"]: want string, got array`},
		{"negative id", `{"process": {"user": {"uid": -1}}}`, "config.json:1:30: process.user.uid: want uint32, got number -1"},
		{"overflowing id", `{"process": {"user": {"gid": 4294967296}}}`, "config.json:1:30: process.user.gid: want uint32, got number 4294967296"},
		{"fraction", `{"linux": {"devices": [{"major": 1.5}]}}`, "config.json:1:34: linux.devices[0].major: want int64, got number 1.5"},
		{"promoted field", `{"linux": {"resources": {"blockIO": {"weightDevice": [{"major": "8"}]}}}}`, "config.json:1:65: linux.resources.blockIO.weightDevice[0].major: want int64, got string"},
		{"map value", `{"annotations": {"dev.sock.net": 1}}`, `config.json:1:34: annotations["dev.sock.net"]: want string, got number`},
		{"pointer", `{"process": {"oomScoreAdj": "1"}}`, "config.json:1:29: process.oomScoreAdj: want int, got string"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse([]byte(tt.in), "config.json")
			if err == nil || err.Error() != tt.want {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
		})
	}
}

func TestParseOtherDocuments(t *testing.T) {
	_, err := ParseProcess([]byte(`{"args": ["a", 1]}`), "process.json")
	if want := "process.json:1:16: args[1]: want string, got number"; err == nil || err.Error() != want {
		t.Errorf("ParseProcess: got %v, want %s", err, want)
	}
	var field *FieldError
	if !errors.As(err, &field) || field.Path != "args[1]" {
		t.Errorf("ParseProcess: %v holds no FieldError of args[1]", err)
	}
	_, err = ParseResources([]byte(`{"memory": {"limit": "1G"}}`), "-")
	if want := "-:1:22: memory.limit: want int64, got string"; err == nil || err.Error() != want {
		t.Errorf("ParseResources: got %v, want %s", err, want)
	}
	p, err := ParseProcess([]byte(`{"cwd": "/", "args": ["true"], "future": {"x": [null]}}`), "process.json")
	if err != nil || p.Cwd != "/" || len(p.Args) != 1 {
		t.Errorf("ParseProcess: got %+v, %v", p, err)
	}
}

func TestLoad(t *testing.T) {
	bundle := t.TempDir()
	_, err := Load(bundle)
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: got %v, want os.ErrNotExist", err)
	}
	for _, want := range []string{"JSON specification file config.json not found"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("missing file: got %v, want %q in it", err, want)
		}
	}

	config := filepath.Join(bundle, "config.json")
	if err := os.WriteFile(config, []byte(`{"ociVersion": "1.3.0", "x-unknown": {}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Load(bundle)
	if err != nil || s.Version != "1.3.0" {
		t.Errorf("got %+v, %v, want version 1.3.0", s, err)
	}

	if err := os.Truncate(config, maxConfigSize+1); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(bundle); err == nil || !strings.Contains(err.Error(), "larger than 64 MiB") {
		t.Errorf("too large: got %v", err)
	}

	if err := os.Remove(config); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(config, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(bundle); err == nil || !strings.Contains(err.Error(), "is a directory") {
		t.Errorf("directory: got %v", err)
	}
}

// engineConfigs returns the configurations that real engines wrote, by file name.
func engineConfigs(t testing.TB) map[string][]byte {
	t.Helper()
	files, err := filepath.Glob("testdata/engines/*.json")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Fatal("no files in testdata/engines")
	}
	configs := make(map[string][]byte)
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		configs[filepath.Base(file)] = data
	}
	return configs
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		``, `{}`, `null`, `[[`, `{"a":`, `{"mounts":[{"options":["ro",1]}]}`, `{"linux":{"resources":{"rdma":{"a b":{}}}}}`,
		`{"ociVersion":"1.3.0","root":{"path":"r"},"process":{"cwd":"/","args":["x"],"user":{"uid":1e3}}}`,
		`{"hostname":"\ud83d\ude00\u0000\ud83d","HostName":"` + "\xff" + `"}`, `{"process":null,"mounts":[null]}`,
		`{"linux":{"resources":{"blockIO":{"weightDevice":[{"major":8,"weight":1}]}}},"windows":{"credentialSpec":{"a":[1,null]}}}`,
	} {
		f.Add([]byte(seed))
	}
	for _, data := range engineConfigs(f) {
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Parse(data, "config.json")
		if err != nil {
			if !strings.HasPrefix(err.Error(), "config.json:") {
				t.Errorf("no position in %q", err)
			}
			return
		}
		c := checker{spec: s, bundle: "/bundle", stat: everythingIsADirectory}
		var field *FieldError
		if err := c.check(); err != nil && !errors.As(err, &field) {
			t.Errorf("%v names no field", err)
		}
		Warnings(s)
		Unsupported(s)
	})
}
