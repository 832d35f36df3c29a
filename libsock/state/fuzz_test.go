package state

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/sock-runtime/sock/libsock/cgroup"
	"github.com/sock-runtime/sock/spec/coldjson"
)

// seedStates are states as they are written, and what may become of them on a full disk or in wrong hands.
func seedStates(f *testing.F) [][]byte {
	score := 5
	whole := &State{
		ID: "c", Version: "1.3.0", Bundle: "/b", Rootfs: "/b/rootfs", Profile: "standard", Namespaces: 0x6c020000, OwnPIDs: true,
		Cgroup:  &cgroup.Saved{Mode: "hybrid", Paths: map[string]string{"memory": "/sys/fs/cgroup/memory/c", "unified": "/sys/fs/cgroup/unified/c"}},
		Process: &specs.Process{Args: []string{"sh"}, Env: []string{"PATH=/bin"}, Cwd: "/", OOMScoreAdj: &score},
		Hooks:   &specs.Hooks{Poststop: []specs.Hook{{Path: "/bin/true"}}}, Annotations: map[string]string{"a": "b"},
		Unmount: []Mount{{Path: "/b/rootfs", Over: 7}}, Listener: &Listener{Path: "/run/agent"},
	}
	data, err := coldjson.Append(nil, whole)
	if err != nil {
		f.Fatal(err)
	}
	return [][]byte{data, data[:len(data)/2], nil, []byte(`null`), []byte(`{"id":"c"}`), []byte(`{"id":"d","process":{"args":["x"]}}`)}
}

// Whatever the files of a state hold, reading them gives a container that can be worked with, or one error.
func FuzzRead(f *testing.F) {
	for _, data := range seedStates(f) {
		f.Add(data, []byte("12 345 created\n"), []byte("12345678abcdefgh"))
	}
	for _, init := range []string{"", "0 1 created", "-1 1 created", "1 -1 created", "4294967297 1 created", "1 1 creating", "1 1 x", "1 1", "1 1 created x"} {
		f.Add(seedStates(f)[0], []byte(init), []byte(nil))
	}
	root := f.TempDir()
	dir := filepath.Join(root, "c")
	if err := os.Mkdir(dir, 0o700); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data, init, filter []byte) {
		for name, content := range map[string][]byte{fileName: data, initName: init, filterName: filter} {
			if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if f, err := ReadFilter(root, "c"); (f == nil) != (err != nil) || f != nil && len(f.Program)%8 != 0 {
			t.Errorf("filter %+v, %v", f, err)
		}
		s, err := Read(root, "c")
		if err != nil {
			if !strings.Contains(err.Error(), "container c") {
				t.Errorf("%v names no container", err)
			}
			return
		}
		if s.ID != "c" || s.Pid <= 0 || int(int32(s.Pid)) != s.Pid || len(s.Process.Args) == 0 {
			t.Errorf("got %+v", s)
		}
		if s.Cgroup != nil {
			checkCgroup(t, *s.Cgroup)
		}
		again, err := coldjson.Append(nil, s)
		if err != nil {
			return // a time that JSON doesn't have
		}
		copied := &State{Init: s.Init, inode: s.inode}
		if err := json.Unmarshal(again, copied); err != nil {
			t.Fatalf("what was read can't be read again: %v\n%s", err, again)
		}
		twice, err := coldjson.Append(nil, copied)
		if err != nil || !reflect.DeepEqual(twice, again) {
			t.Errorf("it changes when it is read: %v\n%s\n%s", err, again, twice)
		}
	})
}

// checkCgroup makes sure that a cgroup that would be killed and removed is not the root of a hierarchy.
func checkCgroup(t *testing.T, saved cgroup.Saved) {
	t.Helper()
	if _, err := cgroup.Open(saved); err != nil {
		return
	}
	for _, path := range saved.Paths {
		var st unix.Statx_t
		if unix.Statx(unix.AT_FDCWD, path, 0, 0, &st) == nil && st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0 {
			t.Errorf("cgroup %q of the host is accepted", path)
		}
	}
}
