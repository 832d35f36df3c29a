package plan_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/sock-runtime/sock/libsock/plan"
	"github.com/sock-runtime/sock/libsock/stub"
	"github.com/sock-runtime/sock/spec"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// legacy is a host with nine cgroup v1 hierarchies, two controllers sharing one.
func legacy() plan.Facts {
	facts := plan.Facts{LastCap: unix.CAP_LAST_CAP, Home: "/root", Kcore: true, NOFILE: &plan.Rlimit{Soft: 1024, Hard: 524288}}
	for _, name := range []string{"systemd", "cpu,cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "hugetlb"} {
		m := plan.CgroupMount{Name: name, Dir: "/sys/fs/cgroup/" + name + "/box", Data: name}
		switch name {
		case "systemd":
			m.Data = "none,name=systemd"
		case "cpu,cpuacct":
			m.Links = []string{"cpu", "cpuacct"}
		}
		facts.Cgroup.Mounts = append(facts.Cgroup.Mounts, m)
	}
	return facts
}

// unified is the same host with cgroup v2.
func unified() plan.Facts {
	facts := legacy()
	facts.Cgroup = plan.Cgroup{Unified: true, Into: true, Mounts: []plan.CgroupMount{{Dir: "/sys/fs/cgroup/box"}}}
	return facts
}

// inUnit has systemd manage the host's cgroups.
func inUnit(facts plan.Facts) plan.Facts {
	facts.Cgroup.Unit = "sock-box.scope"
	for i, m := range facts.Cgroup.Mounts {
		facts.Cgroup.Mounts[i].Dir = filepath.Dir(m.Dir) + "/system.slice/sock-box.scope"
		facts.Cgroup.Mounts[i].Own = m.Name == "systemd"
	}
	return facts
}

// options are those of `create`.
func options(config *specs.Spec) plan.Options {
	return plan.Options{
		ID: "box", Bundle: "/bundle", Rootfs: "/bundle/rootfs", Gate: true, Profile: plan.Standard,
		Console: config.Process.Terminal,
	}
}

// filesOf takes the sources of engines' file mounts for files, by their names.
func filesOf(config *specs.Spec) map[string]bool {
	files := map[string]bool{}
	for _, m := range config.Mounts {
		switch filepath.Base(m.Source) {
		case "resolv.conf", "hostname", "hosts", ".containerenv":
			files[m.Source] = true
		}
	}
	return files
}

// engineCase is one real config on one kind of host.
type engineCase struct {
	name   string
	config *specs.Spec
	facts  plan.Facts
}

func engineCases(t *testing.T) []engineCase {
	t.Helper()
	files, err := filepath.Glob("../../spec/testdata/engines/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no configs of engines: %v", err)
	}
	var cases []engineCase
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		config, err := spec.Parse(data, file)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		for version, facts := range map[string]plan.Facts{"v1": legacy(), "v2": unified()} {
			facts.Files = filesOf(config)
			cases = append(cases, engineCase{name + "." + version, config, facts})
		}
		if name == "docker20-bridge" {
			cases = append(cases, engineCase{name + ".v1-systemd", config, inUnit(legacy())}, engineCase{name + ".v2-systemd", config, inUnit(unified())})
		}
	}
	return cases
}

func TestEngines(t *testing.T) {
	for _, c := range engineCases(t) {
		t.Run(c.name, func(t *testing.T) {
			p, err := plan.Build(c.config, options(c.config), c.facts)
			if err != nil {
				t.Fatal(err)
			}
			golden(t, c.name, dump(t, p))
		})
	}
}

// dump is everything that a plan says: the table for people, the host steps in full, and the JSON with all calls.
func dump(t *testing.T, p *plan.Plan) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := p.Explain(&out); err != nil {
		t.Fatal(err)
	}
	out.WriteString("\nhost steps\n")
	for _, s := range slices.Concat(p.Host, p.After) {
		action, err := json.Marshal(s.Do)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&out, "%s %s\n", strings.TrimPrefix(reflect.TypeOf(s.Do).String(), "plan."), action)
	}
	out.WriteString("\n")
	if err := p.JSON(&out); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(got, want) {
		return
	}
	gotLines, wantLines := strings.Split(string(got), "\n"), strings.Split(string(want), "\n")
	for i := range min(len(gotLines), len(wantLines)) {
		if gotLines[i] != wantLines[i] {
			t.Fatalf("%s:%d differs (-update rewrites it)\ngot  %s\nwant %s", file, i+1, gotLines[i], wantLines[i])
		}
	}
	t.Fatalf("%s has %d lines, the plan %d (-update rewrites it)", file, len(wantLines), len(gotLines))
}

// eachPlan builds the plan of every engine's config on both hosts, with a gate and without.
func eachPlan(t *testing.T, check func(t *testing.T, p *plan.Plan)) {
	t.Helper()
	for _, c := range engineCases(t) {
		for _, gate := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/gate=%t", c.name, gate), func(t *testing.T) {
				opt := options(c.config)
				opt.Gate = gate
				p, err := plan.Build(c.config, opt, c.facts)
				if err != nil {
					t.Fatal(err)
				}
				check(t, p)
			})
		}
	}
}

func linesOf(p *plan.Plan) [][]stub.Instr {
	var lines [][]stub.Instr
	for _, l := range p.Child {
		lines = append(lines, l.Ops)
	}
	return lines
}

// provided are the descriptors that the plan's own host steps open.
func provided(p *plan.Plan, facts plan.Facts) map[string]bool {
	names := map[string]bool{}
	for _, s := range p.Host {
		switch a := s.Do.(type) {
		case plan.CloneTree:
			names[a.Out] = true
		case plan.NewMount:
			names[a.Out] = true
		case plan.OpenNamespace:
			names[a.Out] = true
		case plan.OpenProc:
			names[a.Out] = true
		case plan.MakeGate:
			names["state"] = true
		case plan.JoinCgroup:
			if facts.Cgroup.Into {
				names["cgroup"] = true
			}
			if facts.Cgroup.Unified {
				continue
			}
			for _, m := range facts.Cgroup.Mounts {
				names["cgroup."+m.Name] = true
			}
		}
	}
	return names
}

// Compile refuses unknown descriptors and labels that lead nowhere.
func TestEveryPlanCompiles(t *testing.T) {
	eachPlan(t, func(t *testing.T, p *plan.Plan) {
		fds := map[string]int{}
		for name := range stub.Descriptors(linesOf(p)) {
			fds[name] = 10 + len(fds)
		}
		if _, err := stub.Compile(linesOf(p), fds, 9); err != nil {
			t.Fatal(err)
		}
	})
}

func TestEveryDescriptorIsProvided(t *testing.T) {
	for _, c := range engineCases(t) {
		p, err := plan.Build(c.config, options(c.config), c.facts)
		if err != nil {
			t.Fatal(err)
		}
		have := provided(p, c.facts)
		have["sync"] = true // by the launcher
		if c.config.Process.Terminal {
			have["console"], have["spare"] = true, true
		}
		used := stub.Descriptors(linesOf(p))
		for _, name := range []string{p.Clone.PID, p.Clone.IntoCgroup} {
			if name != "" {
				used[name] = true
			}
		}
		for name := range used {
			if !have[name] {
				t.Errorf("%s: nobody opens descriptor %q", c.name, name)
			}
		}
		for name := range have {
			if !used[name] {
				t.Errorf("%s: descriptor %q is opened for nobody", c.name, name)
			}
		}
	}
}

// places are the indices of all calls for which is says yes, counted over all lines.
func places(p *plan.Plan, is func(call string) bool) []int {
	var found []int
	i := 0
	for _, l := range p.Child {
		for _, in := range l.Ops {
			call := in.String()
			if in.Label != "" {
				call = strings.TrimPrefix(call, in.Label+": ")
			}
			if _, rest, ok := strings.Cut(call, " = "); in.Keep && ok {
				call = rest
			}
			if is(call) {
				found = append(found, i)
			}
			i++
		}
	}
	return found
}

func calls(names ...string) func(string) bool {
	return func(call string) bool {
		for _, name := range names {
			if strings.HasPrefix(call, name+"(") {
				return true
			}
		}
		return false
	}
}

func TestOrder(t *testing.T) {
	eachPlan(t, func(t *testing.T, p *plan.Plan) {
		undumpable := fmt.Sprintf("prctl(%#x, 0x0,", unix.PR_SET_DUMPABLE)
		if first := places(p, func(c string) bool { return strings.HasPrefix(c, undumpable) }); len(first) == 0 || first[0] != 0 {
			t.Errorf("PR_SET_DUMPABLE stands at %v, want first", first)
		}
		mounts := places(p, calls("mount", "move_mount", "open_tree", "fsopen", "mount_setattr", "pivot_root", "umount2", "mknodat", "setns", "unshare"))
		drops := places(p, calls("setresuid", "setresgid", "setgroups", "capset"))
		if len(drops) == 6 { // the first two become root of a user namespace
			drops = drops[2:]
		}
		if len(mounts) == 0 || len(drops) != 4 || mounts[len(mounts)-1] > drops[0] {
			t.Errorf("credentials are dropped at %v, the last mount is at %d", drops, mounts[len(mounts)-1])
		}
		closed := places(p, calls("close_range"))
		if len(closed) != 1 || closed[0] < mounts[len(mounts)-1] {
			t.Fatalf("close_range at %v, want one behind the mounts", closed)
		}
		// Behind it, only the parent's word and the gate are waited for, and nothing is opened but the working directory.
		reads := places(p, calls("read", "readv", "recvmsg", "poll", "accept"))
		want := 1
		if slices.Contains(acts(p), "wait for start") {
			want = 2
		}
		behind := 0
		for _, r := range reads {
			if r > closed[0] {
				behind++
			}
		}
		if behind != want {
			t.Errorf("%d reads behind close_range, want %d", behind, want)
		}
		if opens := places(p, calls("open", "openat", "socket", "dup3")); opens[len(opens)-1] > closed[0] {
			t.Errorf("call %d, behind close_range, opens something", opens[len(opens)-1])
		}
		if opens := places(p, calls("openat2")); len(opens) > 0 && opens[len(opens)-1] > closed[0] {
			cwd := linesDoing(p, "enter the working directory")
			if last := cwd[len(cwd)-1]; !strings.Contains(strings.Join(last, "\n"), "openat2(") {
				t.Error("an openat2 behind close_range is not the working directory's")
			}
		}
		if execs := places(p, calls("execve")); len(execs) == 0 || execs[0] < drops[3] {
			t.Errorf("execve at %v", execs)
		}
	})
}

func acts(p *plan.Plan) []string {
	var does []string
	for _, l := range p.Child {
		does = append(does, l.Does)
	}
	return does
}

// Whatever order maps are walked in, a plan is the same, and Build only reads what it is given.
func TestBuildIsPure(t *testing.T) {
	for _, c := range engineCases(t) {
		c.config.Linux.Sysctl = map[string]string{"net.ipv4.ip_forward": "1", "kernel.msgmax": "9", "net.core.somaxconn": "5", "kernel.shm_rmid_forced": "1"}
		c.config.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"monotonic": {Secs: 1}, "boottime": {Secs: 2}}
		snapshot := func() (s [3]string) {
			for i, v := range []any{c.config, options(c.config), c.facts} {
				data, err := json.Marshal(v)
				if err != nil {
					t.Fatal(err)
				}
				s[i] = string(data)
			}
			return s
		}
		before := snapshot()
		var first []byte
		for range 5 {
			p, err := plan.Build(c.config, options(c.config), c.facts)
			if err != nil {
				t.Fatal(err)
			}
			if got := dump(t, p); first == nil {
				first = got
			} else if !bytes.Equal(got, first) {
				t.Errorf("%s: the plan differs from run to run", c.name)
			}
		}
		if snapshot() != before {
			t.Errorf("%s: Build changed its input", c.name)
		}
	}
}
