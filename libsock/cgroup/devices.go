package cgroup

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// wildcard stands for every major or minor number.
const wildcard = -1

// access is a set of BPF_DEVCG_ACC_MKNOD, _READ and _WRITE.
type access uint8

const allAccess access = unix.BPF_DEVCG_ACC_MKNOD | unix.BPF_DEVCG_ACC_READ | unix.BPF_DEVCG_ACC_WRITE

func parseAccess(s string) (access, error) {
	var a access
	for _, c := range s {
		switch c {
		case 'r':
			a |= unix.BPF_DEVCG_ACC_READ
		case 'w':
			a |= unix.BPF_DEVCG_ACC_WRITE
		case 'm':
			a |= unix.BPF_DEVCG_ACC_MKNOD
		default:
			return 0, fmt.Errorf("%q is not made of r, w and m", s)
		}
	}
	if a == 0 {
		return 0, errors.New("must not be empty")
	}
	return a, nil
}

func (a access) String() string {
	s := ""
	if a&unix.BPF_DEVCG_ACC_READ != 0 {
		s += "r"
	}
	if a&unix.BPF_DEVCG_ACC_WRITE != 0 {
		s += "w"
	}
	if a&unix.BPF_DEVCG_ACC_MKNOD != 0 {
		s += "m"
	}
	return s
}

// device is a device number, or with wildcards a range of them.
type device struct {
	kind         byte // 'b' or 'c'
	major, minor int64
}

func (d device) String() string {
	number := func(n int64) string {
		if n == wildcard {
			return "*"
		}
		return strconv.FormatInt(n, 10)
	}
	return string(d.kind) + " " + number(d.major) + ":" + number(d.minor)
}

// exception is a deviation from a policy's default.
type exception struct {
	device
	access access
}

func (e exception) String() string { return e.device.String() + " " + e.access.String() }

// devicePolicy is what a list of device rules amounts to: a default for all
// devices and exceptions from it. It is the model of the v1 controller
// (cgroup-v1/devices.rst), in which the spec's rules are written, and is used
// on v2 as well so that a config means the same on both.
type devicePolicy struct {
	allow      bool // the default
	exceptions []exception
}

// defaultDevices are the devices that runc allows every container in addition
// to its config, whatever that says.
var defaultDevices = []exception{
	{device{'c', wildcard, wildcard}, unix.BPF_DEVCG_ACC_MKNOD},
	{device{'b', wildcard, wildcard}, unix.BPF_DEVCG_ACC_MKNOD},
	{device{'c', 1, 3}, allAccess},          // /dev/null
	{device{'c', 1, 8}, allAccess},          // /dev/random
	{device{'c', 1, 7}, allAccess},          // /dev/full
	{device{'c', 5, 0}, allAccess},          // /dev/tty
	{device{'c', 1, 5}, allAccess},          // /dev/zero
	{device{'c', 1, 9}, allAccess},          // /dev/urandom
	{device{'c', 136, wildcard}, allAccess}, // /dev/pts/*
	{device{'c', 5, 2}, allAccess},          // /dev/ptmx
	{device{'c', 10, 200}, allAccess},       // /dev/net/tun (runc PR 3468)
}

// newDevicePolicy applies the rules of linux.resources.devices in their order
// to a policy that denies everything, and then the default devices.
func newDevicePolicy(rules []specs.LinuxDeviceCgroup) (*devicePolicy, error) {
	p := &devicePolicy{exceptions: make([]exception, 0, len(rules)+len(defaultDevices))}
	for i, r := range rules {
		if err := p.applySpec(r); err != nil {
			return nil, fmt.Errorf("linux.resources.devices[%d]%w", i, err)
		}
	}
	for _, e := range defaultDevices {
		if err := p.apply(true, e); err != nil {
			return nil, fmt.Errorf("linux.resources.devices: allow default device: %w", err)
		}
	}
	return p, nil
}

// applySpec applies one rule. Its errors begin with the rest of a JSON path.
func (p *devicePolicy) applySpec(r specs.LinuxDeviceCgroup) error {
	a, err := parseAccess(r.Access)
	if err != nil {
		return fmt.Errorf(".access: %w", err)
	}
	e := exception{device{major: wildcard, minor: wildcard}, a}
	switch r.Type {
	case "", "a":
		// As in the kernel, a rule for all devices is one for all access: it
		// sets the default and forgets the rules before.
		*p = devicePolicy{allow: r.Allow, exceptions: p.exceptions[:0]}
		return nil
	case "b", "c":
		e.kind = r.Type[0]
	default:
		return fmt.Errorf(".type: %q is not a, b or c", r.Type)
	}
	for _, n := range []struct {
		name string
		from *int64
		to   *int64
	}{{"major", r.Major, &e.major}, {"minor", r.Minor, &e.minor}} {
		if n.from == nil {
			continue
		}
		if *n.from < wildcard || *n.from > math.MaxUint32 {
			return fmt.Errorf(".%s: %d is not a device number", n.name, *n.from)
		}
		*n.to = *n.from
	}
	if err := p.apply(r.Allow, e); err != nil {
		return fmt.Errorf(": %w", err)
	}
	return nil
}

// apply adds an exception if the rule deviates from the default, else it takes
// exceptions back.
func (p *devicePolicy) apply(allow bool, rule exception) error {
	same := slices.IndexFunc(p.exceptions, func(e exception) bool { return e.device == rule.device })
	if allow != p.allow {
		if same < 0 {
			p.exceptions = append(p.exceptions, rule)
		} else {
			p.exceptions[same].access |= rule.access
		}
		return nil
	}
	// The v1 controller silently ignores the request to take a part out of an
	// exception with a wildcard. A deny rule that does nothing is dangerous.
	for _, e := range p.exceptions {
		if e.device != rule.device && e.covers(rule.device) && e.access&rule.access != 0 {
			return fmt.Errorf("can't make an exception %q from the wider rule %q", rule, e)
		}
	}
	if same >= 0 {
		p.exceptions[same].access &^= rule.access
		if p.exceptions[same].access == 0 {
			p.exceptions = slices.Delete(p.exceptions, same, same+1)
		}
	}
	return nil
}

// covers tells whether d's numbers include those of other.
func (d device) covers(other device) bool {
	return d.kind == other.kind &&
		(d.major == wildcard || d.major == other.major) &&
		(d.minor == wildcard || d.minor == other.minor)
}

// setDevices enforces a policy on the group, which has no process yet.
func (g *Group) setDevices(p *devicePolicy) error {
	d := g.dir("devices")
	var err error
	switch {
	case d == nil && g.rootless:
		return nil
	case d == nil:
		return errors.New("linux.resources.devices: devices hierarchy is not mounted")
	case g.mode == Unified:
		err = p.attach(d)
	default:
		err = p.write(d.path)
	}
	// In a user namespace the kernel lets nobody change device rules, and mknod
	// is impossible anyway.
	if err != nil && isDenied(err) && (g.rootless || inUserNamespace()) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("linux.resources.devices: %w", err)
	}
	return nil
}

// write sets the policy in a v1 cgroup. The kernel takes one rule a write.
func (p *devicePolicy) write(dir string) error {
	byDefault, byException := dir+"/devices.deny", dir+"/devices.allow"
	if p.allow {
		byDefault, byException = byException, byDefault
	}
	if err := writeFile(byDefault, "a"); err != nil {
		return err
	}
	if len(p.exceptions) == 0 {
		return nil
	}
	fd, err := open(byException, unix.O_WRONLY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for _, e := range p.exceptions {
		if err := writeTo(fd, byException, e.String()); err != nil {
			return err
		}
	}
	return nil
}

// inUserNamespace tells whether we are outside of the initial user namespace,
// whose map is the identity over all IDs (user_namespaces(7)).
func inUserNamespace() bool {
	uidMap, err := readFile("/proc/self/uid_map")
	var inside, outside, count uint64
	if err == nil {
		_, err = fmt.Sscan(uidMap, &inside, &outside, &count)
	}
	return err == nil && (inside != 0 || outside != 0 || count != math.MaxUint32)
}
