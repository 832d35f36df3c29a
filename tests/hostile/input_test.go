package hostile

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	. "github.com/sock-runtime/sock/tests/sandbox"
)

// worksOrOneError checks that a command did what it should or said in one line why not; a crash would be many.
func worksOrOneError(t *testing.T, r Result) {
	t.Helper()
	shorten := func(text string) string { return text[:min(len(text), 1000)] }
	switch {
	case r.Code == 0:
	case r.Code != 1 && r.Code != 255:
		t.Errorf("exit status %d: %s", r.Code, shorten(r.Stderr))
	case strings.Count(strings.TrimSpace(r.Stderr), "\n") > 0 || strings.TrimSpace(r.Stderr) == "":
		t.Errorf("no clear single line: %s", shorten(r.Stderr))
	case len(r.Stderr) > 8<<10:
		t.Errorf("an error of %d bytes: %s", len(r.Stderr), shorten(r.Stderr))
	case strings.Contains(r.Stderr, "panic") || strings.Contains(r.Stderr, "goroutine"):
		t.Errorf("a crash: %s", shorten(r.Stderr))
	}
}

func TestOversizedInput(t *testing.T) {
	t.Parallel()
	many := func(n int, text string) []string {
		list := make([]string, n)
		for i := range list {
			list[i] = fmt.Sprintf(text, i)
		}
		return list
	}
	for name, c := range map[string]struct {
		works  bool
		change Change
	}{
		"annotation of 10 MiB": {true, func(c *specs.Spec) { c.Annotations = map[string]string{"big": strings.Repeat("x", 10<<20)} }},
		"100,000 annotations": {true, func(c *specs.Spec) {
			c.Annotations = map[string]string{}
			for _, k := range many(100000, "key-%d") {
				c.Annotations[k] = k
			}
		}},
		"100,000 variables":         {false, func(c *specs.Spec) { c.Process.Env = append(c.Process.Env, many(100000, "VARIABLE_%d=some value")...) }},
		"20,000 variables":          {true, func(c *specs.Spec) { c.Process.Env = append(c.Process.Env, many(20000, "V%d=x")...) }},
		"variable of 1 MiB":         {false, func(c *specs.Spec) { c.Process.Env = append(c.Process.Env, "BIG="+strings.Repeat("x", 1<<20)) }},
		"argument of 1 MiB":         {false, func(c *specs.Spec) { c.Process.Args = []string{"true", strings.Repeat("x", 1<<20)} }},
		"program of 1 MiB":          {false, func(c *specs.Spec) { c.Process.Args = []string{strings.Repeat("x", 1<<20)} }},
		"program of 1 MiB, by path": {false, func(c *specs.Spec) { c.Process.Args = []string{strings.Repeat("/x", 1<<19)} }},
		"PATH of 10,000 directories": {false, func(c *specs.Spec) {
			c.Process.Env = []string{"PATH=" + strings.Join(many(10000, "/directory/%d"), ":") + ":/bin"}
		}},
		"PATH of 5,000 directories": {true, func(c *specs.Spec) {
			c.Process.Env = []string{"PATH=" + strings.Join(many(5000, "/directory/%d"), ":") + ":/bin"}
		}},
		"100,000 arguments":           {true, func(c *specs.Spec) { c.Process.Args = append([]string{"true"}, many(100000, "%d")...) }},
		"SELinux label of 100 KiB":    {false, func(c *specs.Spec) { c.Process.SelinuxLabel = strings.Repeat("x", 100<<10) }},
		"mount label of 100 KiB":      {false, func(c *specs.Spec) { c.Linux.MountLabel = strings.Repeat("x", 100<<10) }},
		"AppArmor profile of 100 KiB": {false, func(c *specs.Spec) { c.Process.ApparmorProfile = strings.Repeat("x", 100<<10) }},
		"host name of 64 KiB":         {false, func(c *specs.Spec) { c.Hostname = strings.Repeat("x", 64<<10) }},
		"domain name of 64 KiB":       {false, func(c *specs.Spec) { c.Domainname = strings.Repeat("x", 64<<10) }},
		"working directory of 1 MiB":  {false, func(c *specs.Spec) { c.Process.Cwd = strings.Repeat("/x", 1<<19) }},
		"working directory 200 deep":  {true, func(c *specs.Spec) { c.Process.Cwd = strings.Repeat("/x", 200) }},
		"5,000 mounts": {true, func(c *specs.Spec) {
			for _, d := range many(5000, "/mnt/%d") {
				BindAt(d, "/etc")(c)
			}
		}},
		"500 tmpfs": {true, func(c *specs.Spec) {
			for _, d := range many(500, "/mnt/%d") {
				MountAt(d, "tmpfs", "tmpfs", "size=4k")(c)
			}
		}},
		"mount options of 1 MiB":     {false, MountAt("/mnt", "tmpfs", "tmpfs", "size="+strings.Repeat("1", 1<<20))},
		"10,000 mount options":       {true, MountAt("/mnt", "tmpfs", "tmpfs", slices.Repeat([]string{"nosuid"}, 10000)...)},
		"mount destination of 1 MiB": {false, MountAt(strings.Repeat("/x", 1<<19), "tmpfs", "tmpfs")},
		"mount source of 1 MiB":      {false, BindAt("/mnt", strings.Repeat("/x", 1<<19))},
		"mount type of 1 MiB":        {false, MountAt("/mnt", strings.Repeat("x", 1<<20), "x")},
		"10,000 masked paths":        {true, func(c *specs.Spec) { c.Linux.MaskedPaths = many(10000, "/nowhere/%d") }},
		"masked path of 1 MiB":       {false, func(c *specs.Spec) { c.Linux.MaskedPaths = []string{strings.Repeat("/x", 1<<19)} }},
		"10,000 read-only paths":     {true, func(c *specs.Spec) { c.Linux.ReadonlyPaths = many(10000, "/nowhere/%d") }},
		"70,000 groups":              {false, func(c *specs.Spec) { c.Process.User.AdditionalGids = make([]uint32, 70000) }},
		"60,000 groups": {true, func(c *specs.Spec) {
			for i := range uint32(60000) {
				c.Process.User.AdditionalGids = append(c.Process.User.AdditionalGids, i)
			}
		}},
		"10,000 limits": {false, func(c *specs.Spec) {
			for range 10000 {
				c.Process.Rlimits = append(c.Process.Rlimits, specs.POSIXRlimit{Type: "RLIMIT_CORE"})
			}
		}},
		"10,000 sysctls": {false, func(c *specs.Spec) {
			c.Linux.Sysctl = map[string]string{}
			for _, k := range many(10000, "net.nowhere.%d") {
				c.Linux.Sysctl[k] = "1"
			}
		}},
		"sysctl of 1 MiB": {false, func(c *specs.Spec) {
			c.Linux.Sysctl = map[string]string{"net.ipv4.ip_forward": strings.Repeat("1", 1<<20)}
		}},
		"1,000 id mappings": {false, func(c *specs.Spec) {
			InUserNamespace(c)
			for i := range uint32(1000) {
				c.Linux.UIDMappings = append(c.Linux.UIDMappings, specs.LinuxIDMapping{ContainerID: 1000000 + i, HostID: 1000000 + i, Size: 1})
			}
		}},
		"1,000 devices": {true, func(c *specs.Spec) {
			for _, d := range many(1000, "/dev/x%d") {
				c.Linux.Devices = append(c.Linux.Devices, specs.LinuxDevice{Path: d, Type: "c", Major: 1, Minor: 3})
			}
		}},
		"1,000 device rules": {true, func(c *specs.Spec) {
			for i := range int64(1000) {
				c.Linux.Resources.Devices = append(c.Linux.Resources.Devices, specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: Ptr(i % 4096), Minor: Ptr(i), Access: "rwm"})
			}
		}},
		"seccomp profile of 4 MiB":   {false, func(c *specs.Spec) { c.Linux.Seccomp = bigProfile(30000) }},
		"seccomp profile of 100 KiB": {true, func(c *specs.Spec) { c.Linux.Seccomp = bigProfile(500) }},
		"seccomp, 100,000 names": {true, func(c *specs.Spec) {
			c.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{{Names: many(100000, "call_%d"), Action: specs.ActErrno}}}
		}},
		"1,000 hooks": {true, func(c *specs.Spec) {
			c.Hooks = &specs.Hooks{}
			for range 100 {
				c.Hooks.CreateRuntime = append(c.Hooks.CreateRuntime, specs.Hook{Path: "/bin/true"})
			}
		}},
		"1,000 namespaces": {false, func(c *specs.Spec) {
			for range 1000 {
				c.Linux.Namespaces = append(c.Linux.Namespaces, specs.LinuxNamespace{Type: specs.IPCNamespace})
			}
		}},
		"cgroup path of 1 MiB":      {false, func(c *specs.Spec) { c.Linux.CgroupsPath += strings.Repeat("/x", 1<<19) }},
		"console of 65535 by 65535": {true, func(c *specs.Spec) { c.Process.ConsoleSize = &specs.Box{Width: 65535, Height: 65535} }},
		"console of 2^32":           {true, func(c *specs.Spec) { c.Process.ConsoleSize = &specs.Box{Width: 1 << 32, Height: 1 << 32} }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if testing.Short() && (name == "5,000 mounts" || name == "1,000 device rules") {
				t.Skip("takes long on an emulated processor")
			}
			s := NewSandbox(t)
			b := s.Bundle(Args("true"), Writable, c.change)
			r := s.Sock("run", "--bundle", b.Dir, "big")
			worksOrOneError(t, r)
			if (r.Code == 0) != c.works {
				t.Errorf("works: %t: %s", r.Code == 0, r.Stderr[:min(len(r.Stderr), 500)])
			}
		})
	}
}

// bigProfile has rules that can't be put together.
func bigProfile(rules uint64) *specs.LinuxSeccomp {
	p := &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Architectures: []specs.Arch{specs.ArchX86_64, specs.ArchAARCH64}}
	for i := range rules {
		p.Syscalls = append(p.Syscalls, specs.LinuxSyscall{
			Names: []string{"kcmp"}, Action: specs.ActErrno,
			Args: []specs.LinuxSeccompArg{{Index: uint(i % 6), Value: i*7919 + 1, Op: specs.OpEqualTo}},
		})
	}
	return p
}

// TestDeepJSON has documents that take a parser's stack.
func TestDeepJSON(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	c := s.Running()
	b := s.Bundle(Args("true"), inCgroup(s.Mark+"-deep"))
	config := filepath.Join(b.Dir, "config.json")
	valid := ReadFile(config)
	inside := func(text string) string { return strings.Replace(valid, "{", `{"unknown":`+text+",", 1) }
	const depth = 2000000
	for name, text := range map[string]string{
		"arrays":                     strings.Repeat("[", depth),
		"closed arrays":              strings.Repeat("[", depth) + strings.Repeat("]", depth),
		"objects":                    strings.Repeat(`{"a":`, depth),
		"closed objects":             strings.Repeat(`{"a":`, depth) + "1" + strings.Repeat("}", depth),
		"in an unknown field":        inside(strings.Repeat("[", depth) + strings.Repeat("]", depth)),
		"in a known field":           strings.Replace(valid, `"args": [`, `"args": `+strings.Repeat("[", depth), 1),
		"valid: a string of 50 MiB":  inside(`"` + strings.Repeat("x", 50<<20) + `"`),
		"an open string":             `{"ociVersion":"` + strings.Repeat("x", 10<<20),
		"valid: escapes":             inside(`"` + strings.Repeat(`\u0000`, 1<<20) + `"`),
		"valid: a number of 1 MiB":   inside(strings.Repeat("1", 1<<20)),
		"an exponent":                strings.Replace(valid, `"uid": 0`, `"uid": 1e`+strings.Repeat("9", 1<<20), 1),
		"valid: a million keys":      inside("{" + strings.Repeat(`"a":1,`, 1000000) + `"b":1}`),
		"valid: blanks":              strings.Repeat(" \n", 10<<20) + valid,
		"nothing":                    "",
		"a NUL":                      "\x00",
		"no UTF-8":                   "{\"ociVersion\":\"\xff\xfe\"}",
		"a byte order mark":          "\ufeff" + valid,
		"two documents":              valid + valid,
		"valid: a surrogate by half": inside(`"\ud800"`),
	} {
		WriteFile(t, config, text, 0o644)
		for _, verb := range []string{"run", "plan"} {
			args := []string{verb, "--bundle", b.Dir, "deep"}
			if verb == "plan" {
				args = []string{verb, b.Dir}
			}
			r := s.Sock(args...)
			t.Logf("%s: %s: %d %.200s", verb, name, r.Code, r.Stderr)
			worksOrOneError(t, r)
			if got := r.Code == 0; got != strings.HasPrefix(name, "valid: ") {
				t.Errorf("%s: %s works: %t", name, verb, got)
			}
		}
		file := filepath.Join(s.Dir, "file.json")
		WriteFile(t, file, text, 0o644)
		for _, args := range [][]string{{"exec", "--process", file, c.ID}, {"update", "--resources", file, c.ID}} {
			worksOrOneError(t, s.Sock(args...))
		}
	}
	c.WantStatus("running")
	Must(t, os.Remove(config))
}

// TestPathInjection has names that lead elsewhere, or to nothing that a file can be called.
func TestPathInjection(t *testing.T) {
	t.Parallel()
	s := NewSandbox(t)
	names := []string{
		"..", ".", "../escaped", "a/../../escaped", "/escaped", "a/b", "a\nb", "\n", "a b", "a\tb", "a;b", "$(touch escaped)", "a\x7fb", "ä", "\xff", "%s%n", "a\\b", "*", "~",
		strings.Repeat("x", 5000), strings.Repeat("../", 1000) + "tmp/escaped", "a\rb", "a:b", ",new-1", ",seccomp", "--", "",
	}
	outside := func() string {
		var list []string
		for _, dir := range []string{s.Dir, filepath.Dir(s.Root)} {
			entries, err := os.ReadDir(dir)
			Must(t, err)
			for _, e := range entries {
				if !strings.HasPrefix(e.Name(), "std") { // outputs of the commands
					list = append(list, e.Name())
				}
			}
		}
		return strings.Join(list, " ")
	}
	b := s.Bundle()
	s.OK("list") // makes the state directory
	before := outside()
	for _, id := range names {
		for _, args := range [][]string{
			{"create", "--bundle", b.Dir, id}, {"run", "--bundle", b.Dir, id}, {"state", id}, {"start", id}, {"kill", id, "KILL"}, {"exec", id, "true"}, {"delete", id}, {"ps", id}, {"pause", id}, {"update", "--memory", "1000000", id}, {"events", "--stats", id},
		} {
			r := s.Sock(args...)
			if r.Code == 0 {
				t.Errorf("succeeded: %.300q", args)
			}
			if id != "--" && id != "" { // these are flags, or a lack of arguments, which prints help
				worksOrOneError(t, r)
			}
		}
	}
	Equal(t, "files beside the state directory", outside(), before)
	s.CheckNothingLeft()

	// Cgroups below the container's own place, or nowhere.
	for _, path := range []string{"../../" + s.Mark, "/../../../" + s.Mark, "a/../../../../../../tmp/" + s.Mark, "/" + s.Mark + "/a\nb", strings.Repeat("/x", 2500), "/" + s.Mark + strings.Repeat("x", 5000), "/./" + s.Mark + "//b/"} {
		b := s.Bundle(Args("cat", "/proc/self/cgroup"), func(c *specs.Spec) { c.Linux.CgroupsPath = path; WithoutNamespace(specs.CgroupNamespace)(c) })
		r := s.Sock("run", "--bundle", b.Dir, "cgroup")
		worksOrOneError(t, r)
		for line := range strings.Lines(r.Stdout) {
			if strings.Contains(line, "..") {
				t.Errorf("%q: %s", path, line)
			}
		}
		if exists("/tmp/"+s.Mark) || exists("/"+s.Mark) || exists("/sys/"+s.Mark) || exists("/sys/fs/"+s.Mark) {
			t.Errorf("%q was made outside of the hierarchies", path)
		}
		for _, dir := range s.Cgroups() {
			_ = RemoveCgroup(dir)
		}
	}

	// A pid file goes where the caller says, but through no link that is there already, and as a whole.
	c := s.Running()
	precious := filepath.Join(s.Dir, "precious")
	WriteFile(t, precious, "precious\n", 0o644)
	link := filepath.Join(s.Dir, "link")
	Must(t, os.Symlink(precious, link))
	s.OK("exec", "--detach", "--pid-file", link, c.ID, "true")
	Equal(t, "the file behind a link", ReadFile(precious), "precious\n")
	if Atoi(ReadFile(link)) == 0 {
		t.Errorf("the pid file: %q", ReadFile(link))
	}
	for _, file := range []string{"/nowhere/pid", s.Dir, "/proc/pid", strings.Repeat("x", 5000), "/dev/null/pid", ""} {
		worksOrOneError(t, s.Sock("exec", "--detach", "--pid-file", file, c.ID, "true"))
	}
	for _, file := range []string{"a\nb", "$(touch escaped)", "../" + filepath.Base(s.Dir) + "/pid-file"} {
		s.OK("exec", "--detach", "--pid-file", file, c.ID, "true")
		if Atoi(ReadFile(filepath.Join(s.Dir, file))) == 0 {
			t.Errorf("no pid in %q", file)
		}
	}

	// Annotations and labels are data.
	for _, key := range []string{"../escaped", "a\nb", "a\x00b", strings.Repeat("x", 5000), "$(touch escaped)"} {
		b := s.Bundle(Args("true"), inCgroup(s.Mark+"-annotation"), func(c *specs.Spec) { c.Annotations = map[string]string{key: key} })
		worksOrOneError(t, s.Sock("run", "--bundle", b.Dir, "annotation"))
	}
	if exists(filepath.Join(s.Dir, "escaped")) {
		t.Error("a name was executed")
	}
	// What has a NUL, or a newline, in it is no name.
	for field, change := range map[string]Change{
		"process.args":           func(c *specs.Spec) { c.Process.Args = []string{"true", "a\x00b"} },
		"process.env":            func(c *specs.Spec) { c.Process.Env = []string{"PATH=/bin", "A=a\x00b"} },
		"process.cwd":            func(c *specs.Spec) { c.Process.Cwd = "/tmp\x00/x" },
		"hostname":               func(c *specs.Spec) { c.Hostname = "a\x00b" },
		"mounts[7].destination":  MountAt("/mnt\x00", "tmpfs", "tmpfs"),
		"mounts[7].source":       BindAt("/mnt", "/etc\x00/x"),
		"mounts[7].type":         MountAt("/mnt", "tmpfs\x00", "tmpfs"),
		"mounts[7].options":      MountAt("/mnt", "tmpfs", "tmpfs", "mode=1777\x00"),
		"linux.maskedPaths[0]":   func(c *specs.Spec) { c.Linux.MaskedPaths = []string{"/etc\x00/x"} },
		"linux.readonlyPaths[0]": func(c *specs.Spec) { c.Linux.ReadonlyPaths = []string{"/etc\x00/x"} },
		"linux.cgroupsPath":      func(c *specs.Spec) { c.Linux.CgroupsPath += "\x00x" },
		"linux.devices[0]": func(c *specs.Spec) {
			c.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/x\x00y", Type: "c", Major: 1, Minor: 3}}
		},
		"linux.sysctl":            func(c *specs.Spec) { c.Linux.Sysctl = map[string]string{"net.ipv4.ip_forward\x00": "1"} },
		"root.path":               func(c *specs.Spec) { c.Root.Path = "rootfs\x00/x" },
		"linux.namespaces":        WithNamespace(specs.IPCNamespace, "/proc/self/ns/ipc\x00"),
		"hooks.createRuntime[0]":  AddHook("createRuntime", specs.Hook{Path: "/bin/true\x00x"}),
		"linux.sysctl of a path":  func(c *specs.Spec) { c.Linux.Sysctl = map[string]string{"net/../kernel/core_pattern": "|/attacked"} },
		"linux.sysctl of a path ": func(c *specs.Spec) { c.Linux.Sysctl = map[string]string{"net...kernel.core_pattern": "|/attacked"} },
	} {
		b := s.Bundle(inCgroup(s.Mark+"-nul"), change)
		r := s.Fails(nil, "run", "--bundle", b.Dir, "nul")
		OneLine(t, r)
		if first, _, _ := strings.Cut(field, " "); !strings.Contains(r.Stderr, strings.Split(first, "[")[0]) {
			t.Errorf("%s is not named: %v", field, r)
		}
	}
}
