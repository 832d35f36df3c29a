package resctrl

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// fake is a directory with the files that the kernel's resctrl has. It does not act on what is written.
func fake(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range map[string]string{
		"schemata": "    L3:0=fffff;1=fffff\n    MB:0=100;1=100\n", "tasks": "1\n", "mon_groups/old/tasks": "",
		"info/last_cmd_status": "ok\n",
		"info/L3/cbm_mask":     "fffff\n", "info/L3/min_cbm_bits": "1\n", "info/L3/num_closids": "16\n",
		"info/MB/bandwidth_gran": "10\n", "info/MB/delay_linear": "1\n", "info/MB/min_bandwidth": "10\n", "info/MB/num_closids": "8\n",
		"info/L3_MON/mon_features": "llc_occupancy\nmbm_total_bytes\nmbm_local_bytes\n",
	} {
		put(t, filepath.Join(root, name), text)
	}
	return root
}

func put(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// group is a new one whose directories are made as the kernel makes them: with files.
func group(t *testing.T, root, id string, r *specs.LinuxIntelRdt) *Group {
	t.Helper()
	g, err := New(root, id, r)
	if err != nil {
		t.Fatal(err)
	}
	return kernel(t, g)
}

func kernel(t *testing.T, g *Group) *Group {
	g.mkdir = func(dir string) error {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
		put(t, dir+"/tasks", "")
		put(t, dir+"/mon_data/mon_L3_00/llc_occupancy", "4096\n")
		put(t, dir+"/mon_data/mon_L3_00/mbm_total_bytes", "300\n")
		put(t, dir+"/mon_data/mon_L3_00/mbm_local_bytes", "200\n")
		if filepath.Base(filepath.Dir(dir)) != "mon_groups" {
			put(t, dir+"/schemata", "    L3:0=fffff;1=fffff\n    MB:0=100;1=100\n")
			return os.Mkdir(dir+"/mon_groups", 0o755)
		}
		return nil
	}
	g.rmdir = os.RemoveAll
	return g
}

func want(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

func read(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func made(t *testing.T, g *Group, r *specs.LinuxIntelRdt) {
	t.Helper()
	if err := g.Make(r); err != nil {
		t.Fatal(err)
	}
}

// again is the group as a later command finds it in the state.
func again(t *testing.T, g *Group) *Group {
	t.Helper()
	data, err := json.Marshal(g)
	if err != nil {
		t.Fatal(err)
	}
	var saved Group
	if err := json.Unmarshal(data, &saved); err != nil {
		t.Fatal(err)
	}
	return kernel(t, &saved)
}

func TestOwnClass(t *testing.T) {
	root := fake(t)
	r := &specs.LinuxIntelRdt{L3CacheSchema: "L3:0=ff;1=ff", MemBwSchema: "MB:0=20", Schemata: []string{"L3:0=f", "L2:0=1"}, EnableMonitoring: true}
	g := group(t, root, "box", r)
	made(t, g, r)
	want(t, "schemata", read(t, root+"/box/schemata"), "L3:0=ff;1=ff\nMB:0=20\nL3:0=f\nL2:0=1\n")
	want(t, "tasks", strings.Join(g.Tasks(), " "), root+"/box/tasks "+root+"/box/mon_groups/box/tasks")
	if !g.Exists() || !exists(root+"/box/mon_groups/box") {
		t.Error("the groups don't exist")
	}
	g = again(t, g)
	if err := g.Set("L3:0=1"); err != nil {
		t.Fatal(err)
	}
	want(t, "updated schemata", read(t, root+"/box/schemata"), "L3:0=1\n")
	if err := g.Remove(); err != nil || exists(root+"/box") || g.Exists() {
		t.Errorf("the class of service is left: %v", err)
	}
	if err := g.Remove(); err != nil {
		t.Errorf("for the second time: %v", err)
	}
}

// Without schemata nothing is written, and a class of service that was there stays.
func TestForeignClass(t *testing.T) {
	root := fake(t)
	for _, test := range []struct {
		config specs.LinuxIntelRdt
		dir    string
	}{
		{specs.LinuxIntelRdt{ClosID: "gold"}, "gold"},
		{specs.LinuxIntelRdt{ClosID: "/"}, "/"},
		{specs.LinuxIntelRdt{}, "box"},
	} {
		put(t, filepath.Join(root, test.dir, "schemata"), "untouched")
		put(t, filepath.Join(root, test.dir, "mon_groups/old/tasks"), "")
		test.config.EnableMonitoring = true
		g := group(t, root, "box", &test.config)
		want(t, "directory", g.Dir, filepath.Join(root, test.dir))
		made(t, g, &test.config)
		want(t, "schemata", read(t, g.Dir+"/schemata"), "untouched")
		if err := again(t, g).Remove(); err != nil || !exists(g.Dir) || exists(g.Monitor) {
			t.Errorf("%s: %v, or something else than its monitoring group was removed", test.dir, err)
		}
	}
	if _, err := New(root, "box", &specs.LinuxIntelRdt{ClosID: "silver"}); err == nil || !strings.HasPrefix(err.Error(), "linux.intelRdt.closID: ") {
		t.Errorf("a class of service that nobody described: %v", err)
	}
}

// A class of service that has a name is shared: made if need be, never removed, never changed to something else.
func TestSharedClass(t *testing.T) {
	root := fake(t)
	first := &specs.LinuxIntelRdt{ClosID: "gold", L3CacheSchema: "L3:0=ff;1=f0"}
	g := group(t, root, "first", first)
	made(t, g, first)
	if err := again(t, g).Remove(); err != nil || !exists(root+"/gold") {
		t.Errorf("the class of service was removed: %v", err)
	}
	put(t, root+"/gold/schemata", "    L3:0=000ff;1=000f0\n    MB:0= 30;1=100\n") // as the kernel writes it
	for _, same := range []*specs.LinuxIntelRdt{first, {ClosID: "gold", L3CacheSchema: "L3: 1=f0", MemBwSchema: "MB:0=21"}} {
		made(t, group(t, root, "second", same), same)
		put(t, root+"/gold/schemata", "    L3:0=000ff;1=000f0\n    MB:0= 30;1=100\n")
	}
	for want, other := range map[string]*specs.LinuxIntelRdt{
		"linux.intelRdt.l3CacheSchema: ": {ClosID: "gold", L3CacheSchema: "L3:0=fe"},
		"linux.intelRdt.memBwSchema: ":   {ClosID: "gold", MemBwSchema: "MB:0=31"},
	} {
		err := group(t, root, "third", other).Make(other)
		if err == nil || !strings.HasPrefix(err.Error(), want) || !strings.Contains(err.Error(), "L3:0=000ff;1=000f0") {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	want(t, "schemata", read(t, root+"/gold/schemata"), "    L3:0=000ff;1=000f0\n    MB:0= 30;1=100\n")
}

func TestFailedMake(t *testing.T) {
	root := fake(t)
	put(t, root+"/info/last_cmd_status", "Invalid mask\n")
	for _, closID := range []string{"", "gold"} {
		r := &specs.LinuxIntelRdt{ClosID: closID, Schemata: []string{"L3:0=5"}, EnableMonitoring: true}
		g := group(t, root, "box", r)
		mkdir := g.mkdir
		g.mkdir = func(dir string) error {
			err := mkdir(dir)
			_ = os.Remove(dir + "/schemata") // no file of the kernel's can be made
			return err
		}
		if err := g.Make(r); err == nil || !strings.Contains(err.Error(), "(Invalid mask)") {
			t.Errorf("got %v", err)
		}
		if exists(g.Dir) {
			t.Errorf("%s is left", g.Dir)
		}
	}
	// A monitoring group of the name is somebody else's.
	r := &specs.LinuxIntelRdt{ClosID: "/", EnableMonitoring: true}
	put(t, root+"/mon_groups/box/tasks", "")
	if err := group(t, root, "box", r).Make(r); err == nil || !exists(root+"/mon_groups/box") {
		t.Errorf("got %v", err)
	}
	// What was made between New and Make is somebody else's, too.
	r = &specs.LinuxIntelRdt{}
	g := group(t, root, "late", r)
	put(t, root+"/late/tasks", "")
	if err := g.Make(r); err == nil || !exists(root+"/late") {
		t.Errorf("got %v", err)
	}
}

func TestStats(t *testing.T) {
	root := fake(t)
	r := &specs.LinuxIntelRdt{EnableMonitoring: true}
	g := group(t, root, "box", r)
	made(t, g, r)
	put(t, root+"/box/schemata", "    L3:0=000ff;1=fffff\n    MB:0= 20;1=100\n")
	stats, err := again(t, g).Stats()
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(stats)
	if err != nil {
		t.Fatal(err)
	}
	want(t, "stats", string(data), `{"l3_cache_info":{"cbm_mask":"fffff","min_cbm_bits":1,"num_closids":16},`+
		`"l3_cache_schema_root":"L3:0=fffff;1=fffff","l3_cache_schema":"L3:0=000ff;1=fffff",`+
		`"mem_bw_info":{"bandwidth_gran":10,"delay_linear":1,"min_bandwidth":10,"num_closids":8},`+
		`"mem_bw_schema_root":"MB:0=100;1=100","mem_bw_schema":"MB:0= 20;1=100",`+
		`"schemata":["L3:0=000ff;1=fffff","MB:0= 20;1=100"],`+
		`"mbm_stats":[{"mbm_total_bytes":300,"mbm_local_bytes":200}],"cmt_stats":[{"llc_occupancy":4096}]}`)
}

func TestMountPoint(t *testing.T) {
	const other = "24 1 0:22 / /proc rw,relatime - proc proc rw\n"
	for mounts, point := range map[string]string{
		other: "",
		other + "40 24 0:36 / /mnt/my\\040rdt rw,relatime shared:3 - resctrl resctrl rw,cdp\n": "/mnt/my rdt",
		"40 24 0:36 / /resctrl rw - tmpfs resctrl rw\n":                                        "",
	} {
		want(t, mounts, mountPoint(mounts), point)
	}
}
