package plan_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/sock-runtime/sock/libsock/plan"
	"github.com/sock-runtime/sock/spec"
)

// merge applies a JSON merge patch (RFC 7396): a small input is then a change of a whole config.
func merge(base, patch any) any {
	change, isObject := patch.(map[string]any)
	if !isObject {
		return patch
	}
	merged, isObject := base.(map[string]any)
	if !isObject {
		merged = map[string]any{}
	}
	for key, value := range change {
		if value == nil {
			delete(merged, key)
		} else {
			merged[key] = merge(merged[key], value)
		}
	}
	return merged
}

// patched is base with the patch; what is no JSON stands for itself.
func patched(t *testing.T, base string, patch []byte) []byte {
	t.Helper()
	change, err := numbers(patch)
	if err != nil {
		return patch
	}
	to, err := numbers([]byte(base))
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(merge(to, change))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// numbers decodes JSON without making its numbers floating point.
func numbers(data []byte) (v any, err error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	if err = d.Decode(&v); err == nil && d.More() {
		err = errors.New("there is more")
	}
	return v, err
}

// jsonPath is how an error begins that names a field of config.json.
var jsonPath = regexp.MustCompile(`^(ociVersion|root|process|hostname|domainname|mounts|hooks|annotations|linux|windows|solaris|vm|zos|freebsd)\b`)

func wantPath(t *testing.T, err error) {
	t.Helper()
	if !jsonPath.MatchString(err.Error()) {
		t.Errorf("%q names no field", err)
	}
}

// soundPlan checks what holds for every plan: it compiles (its jumps lead forward, its descriptors are known), its strings
// end where the kernel sees their end, its user is one, it is undumpable from the first call on and gives up root before
// it executes.
func soundPlan(t *testing.T, p *plan.Plan) {
	t.Helper()
	compiles(t, p)
	for _, l := range p.Child {
		for _, in := range l.Ops {
			call := in.String()
			if strings.Contains(call, `\x00`) {
				t.Fatalf("%s: NUL in %s", l.Does, call)
			}
			if strings.HasPrefix(call, "setres") && strings.Contains(call, "0xffffffff") { // which leaves root as it is
				t.Fatalf("%s: %s", l.Does, call)
			}
			for _, branch := range in.On {
				if branch.Errno == 0 {
					t.Fatalf("%s: no errno in %s", l.Does, in)
				}
			}
		}
	}
	sets, execs := places(p, calls("capset")), places(p, calls("execve"))
	if first := places(p, calls("prctl")); len(first) == 0 || first[0] != 0 {
		t.Fatal("the child is dumpable")
	}
	if len(sets) != 1 || len(execs) == 0 && len(linesDoing(p, "exec")) != 1 || len(execs) > 0 && sets[0] > execs[0] {
		t.Fatalf("capset at %v, execve at %v", sets, execs)
	}
}

// FuzzBuild goes from config.json to a compiled plan. how picks the base that the input changes, the host and the flags.
func FuzzBuild(f *testing.F) {
	bases := []string{"", string(mustJSON(f, spec.Default(false))), string(mustJSON(f, spec.Default(true)))}
	files, err := filepath.Glob("../../spec/testdata/engines/*.json")
	if err != nil || len(files) == 0 {
		f.Fatalf("no configs of engines: %v", err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		config := map[string]any{}
		if err := json.Unmarshal(data, &config); err != nil {
			f.Fatal(err)
		}
		delete(config["linux"].(map[string]any), "seccomp") // most of the file, and not the plan's
		bases = append(bases, string(mustJSON(f, config)))
	}
	for how := range bases {
		f.Add(uint16(how), []byte(`{}`))
	}
	bundle := f.TempDir()
	if err := os.Mkdir(filepath.Join(bundle, "rootfs"), 0o755); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, how uint16, input []byte) {
		data := input
		if base := bases[int(how&0xff)%len(bases)]; base != "" {
			data = patched(t, base, input)
		}
		config, err := spec.Parse(data, "config.json")
		if err != nil {
			return // FuzzParse
		}
		if config.Root != nil && len(input) > 0 {
			config.Root.Path = "rootfs"
		}
		if err := spec.Validate(config, bundle); err != nil {
			wantPath(t, err)
			return
		}
		opt := plan.Options{
			ID: "box", Bundle: bundle, Rootfs: filepath.Join(bundle, "rootfs"), Gate: how&0x100 != 0, Pause: how&0x100 == 0 && how&0x200 != 0,
			Console: config.Process.Terminal, NoPivot: how&0x400 != 0, NoKeyring: how&0x800 != 0, PreserveFDs: int(how >> 14), Profile: plan.Standard,
		}
		if how&0x1000 != 0 {
			opt.Notify, opt.Env = "/state/box/notify", []string{"NOTIFY_SOCKET=/run/notify/notify.sock"}
		}
		facts := legacy()
		if how&0x2000 != 0 {
			facts = unified()
		}
		facts.AppArmor, facts.SELinux = how&0x100 != 0, how&0x100 == 0
		p, err := plan.Build(config, opt, facts)
		if err != nil {
			wantPath(t, err)
			return
		}
		soundPlan(t, p)
		again, err := plan.Build(config, opt, facts)
		if err != nil || !reflect.DeepEqual(p, again) {
			t.Errorf("the plan differs from run to run: %v", err)
		}
	})
}

func mustJSON(f *testing.F, v any) []byte {
	f.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		f.Fatal(err)
	}
	return data
}

// FuzzBuildExec goes from a file of exec --process to a compiled plan.
func FuzzBuildExec(f *testing.F) {
	const base = `{"args":["sh","-c","true"],"env":["PATH=/bin:/usr/bin"],"cwd":"/","user":{"uid":1000,"gid":1000}}`
	f.Add(uint8(0), []byte(base))
	f.Fuzz(func(t *testing.T, how uint8, input []byte) {
		data := input
		if how&1 != 0 {
			data = patched(t, base, input)
		}
		p, err := spec.ParseProcess(data, "process.json")
		if err != nil {
			if !strings.HasPrefix(err.Error(), "process.json:") {
				t.Errorf("no position in %q", err)
			}
			return
		}
		wantUser(t, data, p)
		if err := spec.ValidateProcess(p); err != nil {
			if !strings.HasPrefix(err.Error(), "process.") {
				t.Errorf("%q names no field", err)
			}
			return
		}
		join := plan.Join{Flags: unix.CLONE_NEWPID | unix.CLONE_NEWNS, Root: how&2 != 0}
		if how&4 != 0 {
			join.Flags |= unix.CLONE_NEWUSER
		}
		opt := plan.Options{ID: "box", Console: p.Terminal, Pause: p.Terminal, PreserveFDs: int(how >> 6)}
		facts := legacy()
		if how&8 != 0 {
			facts = unified()
		}
		built, err := plan.BuildExec(p, join, opt, facts)
		if err != nil {
			wantPath(t, err)
			return
		}
		soundPlan(t, built)
		if again, err := plan.BuildExec(p, join, opt, facts); err != nil || !reflect.DeepEqual(built, again) {
			t.Errorf("the plan differs from run to run: %v", err)
		}
	})
}

// wantUser compares the user with what another decoder reads: nobody becomes root by a number that is too large, or none
// (CVE-2026-30892).
func wantUser(t *testing.T, data []byte, p *specs.Process) {
	t.Helper()
	var want struct {
		User struct {
			UID, GID json.Number
		}
	}
	if err := json.Unmarshal(data, &want); err != nil {
		t.Fatalf("another decoder doesn't read it: %v", err)
	}
	for _, id := range []struct {
		want json.Number
		got  uint32
	}{{want.User.UID, p.User.UID}, {want.User.GID, p.User.GID}} {
		text := id.want.String()
		if text == "" {
			text = "0"
		}
		if n, err := json.Number(text).Int64(); err != nil || n != int64(id.got) {
			t.Errorf("%s was read as %d", text, id.got)
		}
	}
}
