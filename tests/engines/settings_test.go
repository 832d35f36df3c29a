package engines

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	. "github.com/sock-runtime/sock/tests/sandbox"
)

// refusals are settings, and what a container with an annotation dev.sock.profile is told then; "" is that it runs.
var refusals = []struct{ settings, profile, said string }{
	{"AnnotationProfiles = ['standard']\n", "standard", ""},
	{"AnnotationProfiles = ['standard']\n", "lean", `annotations["dev.sock.profile"]: profile "lean" is not among those that annotations may choose, AnnotationProfiles = ["standard"] in /etc/sock/config.toml`},
	{"AnnotationProfiles = []\n", "standard", `annotations["dev.sock.profile"]: profile "standard" is not among`},
	{"AnnotationProfiles = ['lean']\n", "lean", `annotations["dev.sock.profile"]: profile "lean" is not supported yet`},
	{"Profile = 'lean'\n", "standard", ""},
	{"Profile = 'lean'\n", "", `/etc/sock/config.toml: profile "lean" is not supported yet`},
	{"# of another version\nProfiles = 'lean'\n", "", `/etc/sock/config.toml: line 2: unknown key "Profiles"`},
	{"", "", ""},
}

// TestSettings has the sock command heed the host's settings.
func TestSettings(t *testing.T) {
	t.Parallel()
	room := engineRoom(t)
	b := room.Bundle(Script("echo here"))
	for _, c := range refusals {
		room.WriteSettings(c.settings)
		changed := b
		if c.profile != "" {
			changed = room.Bundle(Script("echo here"))
			room.Set(changed, c.profile, "annotations", "dev.sock.profile")
		}
		run := func(flags ...string) Result {
			return room.Do(room.Command(append(append([]string{Binary, "--root", room.Root}, flags...), "run", "--bundle", changed.Dir, room.NewID())...))
		}
		r := run()
		if said := strings.ReplaceAll(r.Stderr, `\"`, `"`); (c.said == "") != (r.Code == 0) || !strings.Contains(said, c.said) {
			t.Errorf("%s%s: want %q: %v", c.settings, c.profile, c.said, r)
		}
		if c.settings == "Profile = 'lean'\n" {
			if r := run("--profile", "standard"); r.Code != 0 || r.Stdout != "here\n" {
				t.Errorf("with --profile standard: %v", r)
			}
		}
	}
	room.WriteSettings("Grouping = 'galaxy'\n")
	if r := room.Do(room.Command(Binary, "doctor")); r.Code != 1 || !regexp.MustCompile(`fail +/etc/sock/config.toml +Grouping: "galaxy" is none of`).MatchString(r.Stdout) {
		t.Errorf("%v", r)
	}
}

// TestSettingsOfShim has the shim heed them, also for the author of a pod's annotations who asks for more.
func TestSettingsOfShim(t *testing.T) {
	t.Parallel()
	c := newContainerd(t, flavour{dir: newest, shim: true})
	for i, r := range refusals {
		c.Room.WriteSettings(r.settings)
		flags := "--rm"
		if r.profile != "" {
			flags += " --annotation dev.sock.profile=" + r.profile
		}
		result := c.Try(c.line(fmt.Sprint("box", i), flags, "true")...)
		if said := strings.ReplaceAll(result.Stderr, `\"`, `"`); (r.said == "") != (result.Code == 0) || !strings.Contains(said, r.said) {
			t.Errorf("%s%s: want %q: %v", r.settings, r.profile, r.said, result)
		}
	}
	if keepers := c.shimProcesses("keeper"); len(keepers) != 1 {
		t.Errorf("keepers: %v", keepers)
	}

	c.Room.WriteSettings("Grouping = 'container'\n")
	for _, id := range []string{"a", "b"} {
		c.OK(c.line(id, "--detach", "sleep", "1000")...)
	}
	addresses := map[string]bool{}
	for _, id := range []string{"a", "b"} {
		address := ReadFile(fmt.Sprintf("/proc/%d/root/run/containerd/io.containerd.runtime.v2.task/default/%s/address", c.Room.Pid(), id))
		addresses[filepath.Dir(address)] = true
	}
	if len(addresses) != 2 {
		t.Errorf("shims of two containers: %v", addresses)
	}
	for _, id := range []string{"a", "b"} {
		c.OK("task", "delete", "--force", id)
		c.OK("container", "rm", id)
	}

	c.Room.WriteSettings("SystemdCgroup = true\n")
	c.Fails(1, `expected cgroupsPath to be of format`, c.line("systemd", "--rm", "true")...)
	c.Room.WriteSettings("")
	// Here is no systemd, but that is who is asked.
	c.Fails(1, "systemd cgroup flag passed, but systemd support for managing cgroups is not available",
		c.line("unit", "--rm --cgroup "+c.Mark+".slice:ctr:unit", "true")...)
}
