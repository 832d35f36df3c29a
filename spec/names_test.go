package spec

import (
	"bytes"
	"encoding/json"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func TestCapabilityNumber(t *testing.T) {
	for name, want := range map[string]uint{
		"CAP_CHOWN":              unix.CAP_CHOWN,
		"cap_sys_admin":          unix.CAP_SYS_ADMIN,
		"CAP_AUDIT_READ":         unix.CAP_AUDIT_READ,
		"CAP_CHECKPOINT_RESTORE": unix.CAP_CHECKPOINT_RESTORE,
	} {
		if got, ok := CapabilityNumber(name); !ok || got != want {
			t.Errorf("CapabilityNumber(%q) = %d, %v, want %d", name, got, ok, want)
		}
	}
	for _, name := range []string{"", "CHOWN", "CAP_X"} {
		if got, ok := CapabilityNumber(name); ok {
			t.Errorf("CapabilityNumber(%q) = %d, want none", name, got)
		}
	}
	if got := len(Capabilities()); got != unix.CAP_LAST_CAP+1 {
		t.Errorf("%d capabilities, want %d", got, unix.CAP_LAST_CAP+1)
	}
}

func TestNamespaceFlags(t *testing.T) {
	var all uint64
	for _, ns := range namespaceTypes {
		flag, ok := NamespaceFlag(ns)
		if !ok || all&flag != 0 {
			t.Errorf("NamespaceFlag(%q) = %#x, %v", ns, flag, ok)
		}
		all |= flag
	}
	const want = unix.CLONE_NEWCGROUP | unix.CLONE_NEWIPC | unix.CLONE_NEWNS | unix.CLONE_NEWNET |
		unix.CLONE_NEWPID | unix.CLONE_NEWTIME | unix.CLONE_NEWUSER | unix.CLONE_NEWUTS
	if all != want {
		t.Errorf("all namespaces are %#x, want %#x", all, uint64(want))
	}
}

// The kernel lists its limits by number in its own words.
func TestRlimitResources(t *testing.T) {
	names := []string{
		"CPU", "FSIZE", "DATA", "STACK", "CORE", "RSS", "NPROC", "NOFILE", "MEMLOCK", "AS",
		"LOCKS", "SIGPENDING", "MSGQUEUE", "NICE", "RTPRIO", "RTTIME",
	}
	for want, name := range names {
		if got, ok := RlimitResource("RLIMIT_" + name); !ok || got != want {
			t.Errorf("RlimitResource(RLIMIT_%s) = %d, %v, want %d", name, got, ok, want)
		}
	}
}

func TestSchedulerNames(t *testing.T) {
	policies := []specs.LinuxSchedulerPolicy{
		specs.SchedOther, specs.SchedFIFO, specs.SchedRR, specs.SchedBatch, specs.SchedISO, specs.SchedIdle, specs.SchedDeadline,
	}
	for want, policy := range policies {
		if got, ok := SchedulerPolicy(policy); !ok || got != uint32(want) {
			t.Errorf("SchedulerPolicy(%s) = %d, %v, want %d", policy, got, ok, want)
		}
	}
	flags := []specs.LinuxSchedulerFlag{
		specs.SchedFlagResetOnFork, specs.SchedFlagReclaim, specs.SchedFlagDLOverrun, specs.SchedFlagKeepPolicy,
		specs.SchedFlagKeepParams, specs.SchedFlagUtilClampMin, specs.SchedFlagUtilClampMax,
	}
	for i, flag := range flags {
		if got, ok := SchedulerFlag(flag); !ok || got != 1<<i {
			t.Errorf("SchedulerFlag(%s) = %#x, %v, want %#x", flag, got, ok, 1<<i)
		}
	}
}

func TestParseCPUList(t *testing.T) {
	set, err := ParseCPUList(" 0-2, ,7 ,1")
	if err != nil || set.Count() != 4 || !set.IsSet(7) || set.IsSet(3) {
		t.Errorf("got %v, %v, want CPUs 0, 1, 2 and 7", set, err)
	}
	for _, list := range []string{"", ",", "-", "1-", "2-1", "-1", "0x1", "1024", "1-4294967296", "0-4294967295"} {
		if set, err := ParseCPUList(list); err == nil {
			t.Errorf("ParseCPUList(%q) gave %d CPUs, want an error", list, set.Count())
		}
	}
}

// testdata/features.json is what features.md asks for; a change in what is supported shows up there.
func TestFeatures(t *testing.T) {
	got, err := json.MarshalIndent(Features(), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("testdata/features.json")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(append(got, '\n'), want) {
		t.Errorf("got\n%s", got)
	}
}

// A nil field means that the runtime doesn't know.
func TestFeaturesKnowAll(t *testing.T) {
	var walk func(path string, v reflect.Value)
	walk = func(path string, v reflect.Value) {
		switch v.Kind() {
		case reflect.Pointer, reflect.Slice:
			if v.IsNil() {
				t.Errorf("%s is nil", path)
			} else if v.Kind() == reflect.Pointer {
				walk(path, v.Elem())
			}
		case reflect.Struct:
			for i := range v.NumField() {
				walk(path+"."+v.Type().Field(i).Name, v.Field(i))
			}
		}
	}
	f := Features()
	walk("features", reflect.ValueOf(f))
	for _, key := range []string{AnnotationProfile, AnnotationNet, AnnotationScratch} {
		if !strings.HasPrefix(key, "dev.sock.") || !slices.Contains(f.PotentiallyUnsafeConfigAnnotations, key) {
			t.Errorf("annotation %q is not listed", key)
		}
	}
}
