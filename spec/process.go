package spec

import (
	"math"
	"path/filepath"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// checkProcess keeps runc's words where scripts match them.
func checkProcess(p *specs.Process) error {
	switch {
	case p.Cwd == "":
		return Field("process.cwd", "cwd property must not be empty")
	case !filepath.IsAbs(p.Cwd):
		return Field("process.cwd", "cwd must be an absolute path")
	case len(p.Cwd) >= unix.PathMax:
		return Field("process.cwd", "is longer than a path can be, %d bytes", unix.PathMax-1)
	case strings.IndexByte(p.Cwd, 0) >= 0:
		return Field("process.cwd", "must not contain NUL")
	case len(p.Args) == 0:
		return Field("process.args", "args must not be empty")
	}
	if err := checkNUL(p.Args, "process.args"); err != nil {
		return err
	}
	if err := checkEnv(p.Env); err != nil {
		return err
	}
	// A pty's size is two 16-bit numbers, ioctl_tty(2). Without a terminal the spec has consoleSize ignored.
	if size := p.ConsoleSize; p.Terminal && size != nil && max(size.Height, size.Width) > math.MaxUint16 {
		return Field("process.consoleSize", "%d by %d is larger than %d", size.Height, size.Width, math.MaxUint16)
	}
	if err := checkUser(&p.User); err != nil {
		return err
	}
	if err := checkRlimits(p.Rlimits); err != nil {
		return err
	}
	if adj := p.OOMScoreAdj; adj != nil && (*adj < -1000 || *adj > 1000) {
		return Field("process.oomScoreAdj", "%d is not between -1000 and 1000", *adj)
	}
	if err := checkLabel(p.ApparmorProfile, "process.apparmorProfile", maxAttribute-len("exec ")); err != nil {
		return err
	}
	if err := checkLabel(p.SelinuxLabel, "process.selinuxLabel", maxAttribute); err != nil {
		return err
	}
	if p.Scheduler != nil {
		if err := checkScheduler(p.Scheduler); err != nil {
			return err
		}
	}
	if p.IOPriority != nil {
		if err := checkIOPriority(p.IOPriority); err != nil {
			return err
		}
	}
	return checkAffinity(p.ExecCPUAffinity)
}

// maxAttribute is what /proc/PID/attr/* takes in one write, in bytes: a page with a NUL.
const maxAttribute = 4095

// checkLabel refuses the name of a profile, or a label, that the kernel would cut off.
func checkLabel(label, at string, limit int) error {
	switch {
	case len(label) > limit:
		return Field(at, "longer than %d bytes", limit)
	case strings.ContainsAny(label, "\x00\n"):
		return Field(at, "must not contain NUL or a newline")
	}
	return nil
}

func checkEnv(env []string) error {
	for i, entry := range env {
		name, _, found := strings.Cut(entry, "=")
		switch {
		case !found:
			return Field(element("process.env", i), "invalid environment variable: missing '='")
		case name == "":
			return Field(element("process.env", i), "invalid environment variable: name cannot be empty")
		case strings.IndexByte(entry, 0) >= 0:
			return Field(element("process.env", i), "invalid environment variable %q: must not contain NUL", name)
		}
	}
	return nil
}

func checkUser(u *specs.User) error {
	// setresuid(2) and setresgid(2) take it for "leave as it is", which would be root.
	const unchanged = math.MaxUint32
	if u.UID == unchanged {
		return Field("process.user.uid", "%d is not a user", u.UID)
	}
	if u.GID == unchanged {
		return Field("process.user.gid", "%d is not a group", u.GID)
	}
	for i, gid := range u.AdditionalGids {
		if gid == unchanged {
			return Field(element("process.user.additionalGids", i), "%d is not a group", gid)
		}
	}
	if u.Umask != nil && *u.Umask > 0o777 {
		return Field("process.user.umask", "%#o is larger than 0777", *u.Umask)
	}
	return nil
}

func checkRlimits(rlimits []specs.POSIXRlimit) error {
	var seen uint64
	for i, r := range rlimits {
		resource, ok := RlimitResource(r.Type)
		at := element("process.rlimits", i)
		switch {
		case !ok:
			return Field(at+".type", "unknown rlimit %q", r.Type)
		case seen&(1<<resource) != 0:
			return Field(at+".type", "duplicate rlimit %q", r.Type)
		case r.Soft > r.Hard:
			return Field(at+".soft", "%d is above the hard limit %d", r.Soft, r.Hard)
		}
		seen |= 1 << resource
	}
	return nil
}

// checkScheduler refuses fields that sched_setattr(2) would ignore under the policy; it leaves ranges to the kernel.
func checkScheduler(s *specs.Scheduler) error {
	if s.Policy == "" {
		return Field("process.scheduler.policy", "must be set")
	}
	if _, ok := SchedulerPolicy(s.Policy); !ok {
		return Field("process.scheduler.policy", "unknown policy %q", s.Policy)
	}
	for i, flag := range s.Flags {
		if _, ok := SchedulerFlag(flag); !ok {
			return Field(element("process.scheduler.flags", i), "unknown flag %q", flag)
		}
	}
	niced := s.Policy == specs.SchedOther || s.Policy == specs.SchedBatch
	realtime := s.Policy == specs.SchedFIFO || s.Policy == specs.SchedRR
	deadline := s.Policy == specs.SchedDeadline
	switch {
	case niced && (s.Nice < -20 || s.Nice > 19):
		return Field("process.scheduler.nice", "%d is not between -20 and 19", s.Nice)
	case !realtime && s.Priority != 0:
		return Field("process.scheduler.priority", "only for SCHED_FIFO and SCHED_RR")
	case !deadline && s.Runtime != 0:
		return Field("process.scheduler.runtime", "only for SCHED_DEADLINE")
	case !deadline && s.Deadline != 0:
		return Field("process.scheduler.deadline", "only for SCHED_DEADLINE")
	case !deadline && s.Period != 0:
		return Field("process.scheduler.period", "only for SCHED_DEADLINE")
	case deadline && s.Runtime == 0:
		return Field("process.scheduler.runtime", "must be set for SCHED_DEADLINE")
	case deadline && s.Deadline == 0:
		return Field("process.scheduler.deadline", "must be set for SCHED_DEADLINE")
	}
	return nil
}

func checkIOPriority(p *specs.LinuxIOPriority) error {
	switch p.Class {
	case specs.IOPRIO_CLASS_RT, specs.IOPRIO_CLASS_BE, specs.IOPRIO_CLASS_IDLE:
	default:
		return Field("process.ioPriority.class", "unknown class %q", p.Class)
	}
	if p.Priority < 0 || p.Priority > 7 {
		return Field("process.ioPriority.priority", "%d is not between 0 and 7", p.Priority)
	}
	return nil
}

func checkAffinity(a *specs.CPUAffinity) error {
	if a == nil {
		return nil
	}
	for _, f := range []struct{ path, list string }{
		{"process.execCPUAffinity.initial", a.Initial},
		{"process.execCPUAffinity.final", a.Final},
	} {
		if f.list == "" {
			continue
		}
		if _, err := ParseCPUList(f.list); err != nil {
			return &FieldError{Path: f.path, Err: err}
		}
	}
	return nil
}
