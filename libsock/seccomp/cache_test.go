package seccomp

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// planted is a program that Compile makes of no profile: who gets it has read the cache.
var planted = &Program{Filter: []unix.SockFilter{{Code: opReturn, K: unix.SECCOMP_RET_ALLOW | 99}}}

// cacheFile gives the path of a profile's file.
func cacheFile(t *testing.T, dir string) string {
	t.Helper()
	entries, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(entries) != 1 {
		t.Fatalf("files %v, %v", entries, err)
	}
	return entries[0]
}

func TestCached(t *testing.T) {
	p := readProfile(t, "docker.json")
	fresh, err := Compile(p)
	if err != nil {
		t.Fatal(err)
	}
	key := profileKey(p, nativeArch())
	good := encode(key, planted)
	broken := func(change func(b []byte)) []byte {
		b := slices.Clone(good)
		change(b)
		return b
	}
	write := func(t *testing.T, path string, b []byte) {
		t.Helper()
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	backward := encode(key, &Program{Filter: []unix.SockFilter{{Code: opJump, K: ^uint32(0)}, {Code: opReturn}}})
	for name, c := range map[string]struct {
		plant   func(t *testing.T, dir, file string)
		trusted bool // the planted program is loaded
		kept    bool // what was planted stays, since nothing may be written there
	}{
		"good":           {plant: func(t *testing.T, _, file string) { write(t, file, good) }, trusted: true, kept: true},
		"empty":          {plant: func(t *testing.T, _, file string) { write(t, file, nil) }},
		"truncated":      {plant: func(t *testing.T, _, file string) { write(t, file, good[:len(good)-1]) }},
		"longer":         {plant: func(t *testing.T, _, file string) { write(t, file, append(slices.Clone(good), 0)) }},
		"huge":           {plant: func(t *testing.T, _, file string) { write(t, file, make([]byte, maxCacheFile+1)) }},
		"other version":  {plant: func(t *testing.T, _, file string) { write(t, file, broken(func(b []byte) { b[7]++ })) }},
		"other profile":  {plant: func(t *testing.T, _, file string) { write(t, file, encode([32]byte{1}, planted)) }},
		"bit flipped":    {plant: func(t *testing.T, _, file string) { write(t, file, broken(func(b []byte) { b[len(b)-1] ^= 1 })) }},
		"flags changed":  {plant: func(t *testing.T, _, file string) { write(t, file, broken(func(b []byte) { b[headerSize-8] ^= 2 })) }},
		"endless loop":   {plant: func(t *testing.T, _, file string) { write(t, file, backward) }},
		"no instruction": {plant: func(t *testing.T, _, file string) { write(t, file, encode(key, &Program{})) }},
		"group may write": {plant: func(t *testing.T, _, file string) {
			write(t, file, good)
			must(t, os.Chmod(file, 0o620))
		}},
		"symlink": {plant: func(t *testing.T, dir, file string) {
			target := filepath.Join(t.TempDir(), "target")
			write(t, target, good)
			must(t, os.Remove(file))
			must(t, os.Symlink(target, file))
		}},
		"fifo": {plant: func(t *testing.T, _, file string) {
			must(t, os.Remove(file))
			must(t, unix.Mkfifo(file, 0o600))
		}},
		"directory": {kept: true, plant: func(t *testing.T, _, file string) {
			must(t, os.Remove(file))
			must(t, os.Mkdir(file, 0o700))
		}},
		"other owner": {plant: func(t *testing.T, _, file string) {
			needRoot(t)
			write(t, file, good)
			must(t, os.Chown(file, 1, 1))
		}},
		"directory of others": {kept: true, plant: func(t *testing.T, dir, file string) {
			needRoot(t)
			write(t, file, good)
			must(t, os.Chown(dir, 1, 1))
		}},
		"directory that all may write": {kept: true, plant: func(t *testing.T, dir, file string) {
			write(t, file, good)
			must(t, os.Chmod(dir, 0o777))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "cache")
			if got, err := Cached(dir, p); err != nil || !reflect.DeepEqual(got, fresh) {
				t.Fatalf("first use: %v", err)
			}
			file := cacheFile(t, dir)
			c.plant(t, dir, file)
			want := fresh
			if c.trusted {
				want = planted
			}
			for _, use := range []string{"after planting", "again"} {
				if got, err := Cached(dir, p); err != nil || !reflect.DeepEqual(got, want) {
					t.Errorf("%s: another program, %v", use, err)
				}
			}
			b, err := os.ReadFile(file)
			if replaced := err == nil && slices.Equal(b, encode(key, fresh)); replaced == c.kept {
				t.Errorf("replaced: %v", replaced)
			}
			cacheFile(t, dir) // and nothing else is left behind
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root gives files away")
	}
}

// TestCachedWithoutDirectory never fails because of the cache, but always because of the profile.
func TestCachedWithoutDirectory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(file, nil, 0o600))
	link := filepath.Join(t.TempDir(), "link")
	must(t, os.Symlink(t.TempDir(), link))
	for _, dir := range []string{file, link, filepath.Join(t.TempDir(), "no", "parent"), ""} {
		program, err := Cached(dir, readProfile(t, "podman.json"))
		if err != nil || program == nil {
			t.Errorf("%q: %v", dir, err)
		}
		if _, err := Cached(dir, &specs.LinuxSeccomp{DefaultAction: "?"}); err == nil {
			t.Errorf("%q: no error of a wrong profile", dir)
		}
	}
	if entries, err := os.ReadDir(link); err != nil || len(entries) != 0 {
		t.Errorf("followed a link: %v, %v", entries, err)
	}
}

func TestProfileKey(t *testing.T) {
	five := uint(5)
	base := func() *specs.LinuxSeccomp {
		return &specs.LinuxSeccomp{DefaultAction: specs.ActErrno, Syscalls: []specs.LinuxSyscall{
			{Names: []string{"read", "write"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{{Index: 1, Value: 2, ValueTwo: 3, Op: specs.OpMaskedEqual}}},
		}}
	}
	keys := map[[32]byte]int{profileKey(base(), specs.ArchX86_64): -2, profileKey(base(), specs.ArchAARCH64): -1}
	for i, change := range []func(p *specs.LinuxSeccomp){
		func(p *specs.LinuxSeccomp) { p.DefaultAction = specs.ActTrap },
		func(p *specs.LinuxSeccomp) { p.DefaultErrnoRet = &five },
		func(p *specs.LinuxSeccomp) { p.Architectures = []specs.Arch{specs.ArchX86} },
		func(p *specs.LinuxSeccomp) { p.Flags = []specs.LinuxSeccompFlag{} },
		func(p *specs.LinuxSeccomp) { p.Flags = []specs.LinuxSeccompFlag{specs.LinuxSeccompFlagLog} },
		func(p *specs.LinuxSeccomp) { p.ListenerPath = "/s" },
		func(p *specs.LinuxSeccomp) { p.ListenerMetadata = "x" },
		func(p *specs.LinuxSeccomp) { p.Syscalls = append(p.Syscalls, specs.LinuxSyscall{}) },
		func(p *specs.LinuxSeccomp) { p.Syscalls[0].Names = []string{"readwrite"} },
		func(p *specs.LinuxSeccomp) { p.Syscalls[0].Action = specs.ActLog },
		func(p *specs.LinuxSeccomp) { p.Syscalls[0].ErrnoRet = &five },
		func(p *specs.LinuxSeccomp) { p.Syscalls[0].Args = nil },
		func(p *specs.LinuxSeccomp) { p.Syscalls[0].Args[0].Index = 2 },
		func(p *specs.LinuxSeccomp) { p.Syscalls[0].Args[0].Value = 3 },
		func(p *specs.LinuxSeccomp) { p.Syscalls[0].Args[0].ValueTwo = 2 },
		func(p *specs.LinuxSeccomp) { p.Syscalls[0].Args[0].Op = specs.OpEqualTo },
	} {
		p := base()
		change(p)
		key := profileKey(p, specs.ArchX86_64)
		if other, taken := keys[key]; taken {
			t.Errorf("changes %d and %d have the same key", i, other)
		}
		keys[key] = i
	}
}

func FuzzDecode(f *testing.F) {
	key := [32]byte{7}
	f.Add(encode(key, planted))
	f.Add(binary.NativeEndian.AppendUint32([]byte(cacheMagic), 1))
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, err := decode(b, key); err == nil && verify(p.Filter) != nil {
			t.Error("a malformed filter was accepted")
		}
	})
}

func BenchmarkCached(b *testing.B) {
	p := readProfile(b, "docker.json")
	dir := filepath.Join(b.TempDir(), "cache")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Cached(dir, p); err != nil {
			b.Fatal(err)
		}
	}
}
