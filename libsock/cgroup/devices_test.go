package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/sock-runtime/sock/libsock/stub/bpf"
)

func rule(allow bool, kind string, major, minor int64, access string) specs.LinuxDeviceCgroup {
	r := specs.LinuxDeviceCgroup{Allow: allow, Type: kind, Access: access}
	if major != wildcard {
		r.Major = &major
	}
	if minor != wildcard {
		r.Minor = &minor
	}
	return r
}

var denyAll = rule(false, "", wildcard, wildcard, "rwm")

func TestDevicePolicy(t *testing.T) {
	const defaults = "c *:* m, b *:* m, c 1:3 rwm, c 1:8 rwm, c 1:7 rwm, c 5:0 rwm, c 1:5 rwm, c 1:9 rwm, c 136:* rwm, c 5:2 rwm, c 10:200 rwm"
	type rules = []specs.LinuxDeviceCgroup
	for name, tc := range map[string]struct {
		rules rules
		want  string
	}{
		"none":       {nil, "deny but " + defaults},
		"runc spec":  {rules{denyAll}, "deny but " + defaults},
		"privileged": {rules{denyAll, rule(true, "a", wildcard, wildcard, "rwm")}, "allow but "},
		"one more":   {rules{denyAll, rule(true, "c", 10, 229, "rw")}, "deny but c 10:229 rw, " + defaults},
		"merged":     {rules{rule(true, "b", 8, 0, "r"), rule(true, "b", 8, 0, "w")}, "deny but b 8:0 rw, " + defaults},
		"taken back": {rules{rule(true, "b", 8, 0, "rw"), rule(false, "b", 8, 0, "w")}, "deny but b 8:0 r, " + defaults},
		"forgotten":  {rules{rule(true, "b", 8, 0, "rw"), denyAll}, "deny but " + defaults},
		"all but":    {rules{rule(true, "a", wildcard, wildcard, "rwm"), rule(false, "b", 8, wildcard, "rwm")}, "allow but b 8:* rwm"},
		"all but w":  {rules{rule(true, "a", wildcard, wildcard, "rwm"), rule(false, "b", 8, 0, "w")}, "allow but b 8:0 w"},
		"defaults are always allowed": {
			rules{rule(true, "a", wildcard, wildcard, "rwm"), rule(false, "c", 1, 3, "rwm")}, "allow but ",
		},
	} {
		p, err := newDevicePolicy(tc.rules)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := policyString(p); got != tc.want {
			t.Errorf("%s: got  %s\nwant %s", name, got, tc.want)
		}
	}
}

func policyString(p *devicePolicy) string {
	var exceptions []string
	for _, e := range p.exceptions {
		exceptions = append(exceptions, e.String())
	}
	verb := "deny but "
	if p.allow {
		verb = "allow but "
	}
	return verb + strings.Join(exceptions, ", ")
}

func TestDevicePolicyErrors(t *testing.T) {
	for want, r := range map[string]specs.LinuxDeviceCgroup{
		"linux.resources.devices[1].access: must not be empty": rule(true, "c", 1, 1, ""),
		"linux.resources.devices[1].access: \"rx\"":            rule(true, "c", 1, 1, "rx"),
		"linux.resources.devices[1].type: \"p\"":               rule(true, "p", 1, 1, "r"),
		"linux.resources.devices[1].major: -2":                 rule(true, "c", -2, 1, "r"),
		"linux.resources.devices[1].minor: 4294967296":         rule(true, "c", 1, 1<<32, "r"),
		"linux.resources.devices[1]: can't make an exception":  rule(false, "b", 8, 1, "r"),
	} {
		_, err := newDevicePolicy([]specs.LinuxDeviceCgroup{rule(true, "b", 8, wildcard, "rw"), r})
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v: got %v, want %s", r, err, want)
		}
	}
}

// allows is what cgroup-v1/devices.rst and the kernel's match_exception say.
func (p *devicePolicy) allows(d device, a access) bool {
	for _, e := range p.exceptions {
		if e.covers(d) && (p.allow && e.access&a != 0 || !p.allow && e.access&a == a) {
			return !p.allow
		}
	}
	return p.allow
}

// run interprets a device filter.
func run(t *testing.T, prog []bpf.Instruction, d device, a access) bool {
	t.Helper()
	kind := uint32(unix.BPF_DEVCG_DEV_CHAR)
	if d.kind == 'b' {
		kind = unix.BPF_DEVCG_DEV_BLOCK
	}
	context := map[int16]uint32{0: kind | uint32(a)<<16, 4: uint32(d.major), 8: uint32(d.minor)}
	var r [16]uint32
	for pc := 0; pc < len(prog); pc++ {
		i := prog[pc]
		dst, src, jump := &r[i.Registers&15], r[i.Registers>>4], false
		switch i.Code {
		case opLoadWord:
			*dst = context[i.Offset]
		case opMove:
			*dst = uint32(i.Immediate)
		case opMoveReg:
			*dst = src
		case opAnd:
			*dst &= uint32(i.Immediate)
		case opShift:
			*dst >>= uint32(i.Immediate)
		case opJumpNE:
			jump = *dst != uint32(i.Immediate)
		case opJumpNEr:
			jump = *dst != src
		case opJumpEQ:
			jump = *dst == uint32(i.Immediate)
		case opExit:
			return r[0] == 1
		default:
			t.Fatalf("unknown instruction %+v", i)
		}
		if jump {
			pc += int(i.Offset)
		}
	}
	t.Fatal("the program has no end")
	return false
}

func TestDeviceProgram(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	number := func() int64 { return random.Int64N(4) - 1 }
	for range 500 {
		p := &devicePolicy{allow: random.IntN(2) == 0}
		for range random.IntN(6) {
			p.exceptions = append(p.exceptions, exception{device{"bc"[random.IntN(2)], number(), number()}, access(1 + random.IntN(7))})
		}
		prog := p.program()
		for _, kind := range []byte("bc") {
			for n := range 9 * 7 {
				d, a := device{kind, int64(n / 7 % 3), int64(n / 21)}, access(1+n%7)
				if got, want := run(t, prog, d, a), p.allows(d, a); got != want {
					t.Fatalf("%s: %s %s: got %v, want %v", policyString(p), d, a, got, want)
				}
			}
		}
	}
}

// TestDevicesEnforced has the kernel judge: on v1, and on v2 by eBPF.
func TestDevicesEnforced(t *testing.T) {
	onBoth(t, func(t *testing.T, g *Group) {
		create(t, g)
		for i, tc := range []struct {
			rules []specs.LinuxDeviceCgroup
			kmsg  bool // c 1:11, which is no default device
		}{
			{nil, false},
			{[]specs.LinuxDeviceCgroup{denyAll, rule(true, "c", 1, 11, "r")}, true},
			{[]specs.LinuxDeviceCgroup{denyAll, rule(true, "c", 1, 11, "w")}, false},
			{[]specs.LinuxDeviceCgroup{rule(true, "a", wildcard, wildcard, "rwm")}, true},
			{[]specs.LinuxDeviceCgroup{rule(true, "a", wildcard, wildcard, "rwm"), rule(false, "c", 1, 11, "r")}, false},
			{[]specs.LinuxDeviceCgroup{denyAll}, false},
		} {
			err := g.Set(&specs.LinuxResources{Devices: tc.rules})
			if g.Unified() && errors.Is(err, unix.EINVAL) {
				t.Skipf("this kernel has no eBPF for cgroups: %v", err)
			}
			if err != nil {
				t.Fatal(err)
			}
			g.dirs[0].fresh = false // so that the next round replaces the program
			cmd := startIn(t, g, deviceScript)
			exit := 0
			if err := cmd.Wait(); err != nil {
				var status *exec.ExitError
				if !errors.As(err, &status) {
					t.Fatal(err)
				}
				exit = status.ExitCode()
			}
			want := 7
			if tc.kmsg {
				want = 0
			}
			if exit != want {
				t.Errorf("case %d: exit %d, want %d", i, exit, want)
			}
		}
	})
}

// deviceScript exits with 8 if /dev/null is denied, with 7 if kmsg is.
const deviceScript = "sleep 0.02; true </dev/null >/dev/null || exit 8; { true </dev/kmsg; } 2>/dev/null || exit 7"

func TestUserNamespaceIsNoticed(t *testing.T) {
	if os.Getenv("SOCK_TEST_USERNS") != "" {
		fmt.Print(inUserNamespace())
		return
	}
	needRoot(t)
	cmd := exec.Command(os.Args[0], "-test.run=^TestUserNamespaceIsNoticed$")
	cmd.Env = append(os.Environ(), "SOCK_TEST_USERNS=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: 1000, Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: 1000, Size: 1}},
	}
	out, err := cmd.Output()
	if errors.Is(err, fs.ErrPermission) {
		t.Skipf("no user namespaces here: %v", err)
	}
	if err != nil || !strings.HasPrefix(string(out), "true") {
		t.Errorf("inside of one: %q, %v", out, err)
	}
}
