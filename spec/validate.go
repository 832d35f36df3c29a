package spec

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Validate returns the first thing wrong with s that can be seen without executing anything, as a *FieldError, and
// after that the first field that sock does not support. A relative root.path is taken from the bundle.
func Validate(s *specs.Spec, bundle string) error {
	c := checker{spec: s, bundle: bundle, stat: os.Stat}
	if err := c.check(); err != nil {
		return err
	}
	if unsupported := Unsupported(s); len(unsupported) > 0 {
		return unsupported[0]
	}
	return nil
}

// ValidateProcess is Validate for a process that `exec` adds to a container; paths begin with "process".
func ValidateProcess(p *specs.Process) error {
	if err := checkProcess(p); err != nil {
		return err
	}
	if unsupported := Unsupported(&specs.Spec{Process: p}); len(unsupported) > 0 {
		return unsupported[0]
	}
	return nil
}

// ValidateResources is Validate for the resources that `update` gives to a container; paths begin with
// "linux.resources".
func ValidateResources(r *specs.LinuxResources) error { return checkResources(r) }

// Warnings returns what is odd about s but no reason to fail: it is for the log.
func Warnings(s *specs.Spec) []string {
	var warnings []string
	for i, m := range s.Mounts {
		if !filepath.IsAbs(m.Destination) {
			warnings = append(warnings, fmt.Sprintf("%s.destination: relative paths are deprecated, using /%s",
				element("mounts", i), m.Destination))
		}
		if o, err := ParseMountOptions(m.Type, m.Options); err == nil && o.Bind && len(o.Data) > 0 {
			warnings = append(warnings, fmt.Sprintf("%s.options: %q has no effect on a bind", element("mounts", i), o.Data))
		}
	}
	if s.Linux != nil && s.Linux.Resources != nil {
		warnings = append(warnings, ResourceWarnings(s.Linux.Resources)...)
	}
	if s.Process == nil {
		return warnings
	}
	for _, f := range []struct{ path, value string }{
		{"process.commandLine", s.Process.CommandLine},
		{"process.user.username", s.Process.User.Username},
	} {
		if f.value != "" {
			warnings = append(warnings, f.path+": has no meaning on Linux")
		}
	}
	caps := s.Process.Capabilities
	if caps == nil {
		return warnings
	}
	for _, set := range []struct {
		name  string
		names []string
	}{
		{"bounding", caps.Bounding},
		{"effective", caps.Effective},
		{"inheritable", caps.Inheritable},
		{"permitted", caps.Permitted},
		{"ambient", caps.Ambient},
	} {
		for i, name := range set.names {
			if _, ok := CapabilityNumber(name); !ok {
				warnings = append(warnings, fmt.Sprintf("%s: ignoring unknown capability %q",
					element("process.capabilities."+set.name, i), name))
			}
		}
	}
	var refused []string
	for _, name := range caps.Ambient {
		if n, ok := CapabilityNumber(name); ok && !(hasCapability(caps.Permitted, n) && hasCapability(caps.Inheritable, n)) {
			refused = append(refused, name)
		}
	}
	if len(refused) > 0 { // runc has a line for each; Buildah asks for fourteen in every step of a build
		warnings = append(warnings, fmt.Sprintf("process.capabilities.ambient: can't raise ambient capability %s: not both permitted and inheritable",
			strings.Join(refused, ", ")))
	}
	return warnings
}

func hasCapability(names []string, number uint) bool {
	return slices.ContainsFunc(names, func(name string) bool {
		n, ok := CapabilityNumber(name)
		return ok && n == number
	})
}

// checker holds what several checks need.
type checker struct {
	spec   *specs.Spec
	bundle string
	stat   func(path string) (fs.FileInfo, error)
}

func (c *checker) check() error {
	s := c.spec
	if err := checkVersion(s.Version); err != nil {
		return err
	}
	if err := c.checkRoot(); err != nil {
		return err
	}
	if s.Process == nil {
		// The spec wants it only at start, runc already here.
		return Field("process", "must be set")
	}
	if err := checkProcess(s.Process); err != nil {
		return err
	}
	if s.Linux != nil {
		if err := c.checkLinux(s.Linux); err != nil {
			return err
		}
	}
	if err := c.checkHostname(); err != nil {
		return err
	}
	for i := range s.Mounts {
		if err := c.checkMount(&s.Mounts[i], element("mounts", i)); err != nil {
			return err
		}
	}
	if err := checkHooks(s.Hooks); err != nil {
		return err
	}
	if _, ok := s.Annotations[""]; ok {
		return Field("annotations", "keys must not be empty")
	}
	return nil
}

// checkVersion accepts every SemVer 2.0 of major version 1: the spec promises compatibility within it.
func checkVersion(version string) error {
	if version == "" {
		return Field("ociVersion", "must be set")
	}
	core, build, hasBuild := strings.Cut(version, "+")
	core, pre, hasPre := strings.Cut(core, "-")
	numbers := strings.Split(core, ".")
	valid := len(numbers) == 3 && (!hasPre || identifiers(pre)) && (!hasBuild || identifiers(build))
	for _, n := range numbers {
		number, err := strconv.ParseUint(n, 10, 64)
		valid = valid && err == nil && strconv.FormatUint(number, 10) == n
	}
	switch {
	case !valid:
		return Field("ociVersion", "%q is not a semantic version", version)
	case numbers[0] != "1":
		return Field("ociVersion", "%q is not supported, want 1.x", version)
	}
	return nil
}

// Older says whether an ociVersion that Validate accepts is older than version 1.minor; its release candidates are not.
func Older(version string, minor int) bool {
	numbers := strings.SplitN(version, ".", 3)
	n, err := strconv.Atoi(numbers[min(1, len(numbers)-1)])
	return err == nil && n < minor
}

// identifiers reports whether s is a list of SemVer's identifiers, such as "rc.1".
func identifiers(s string) bool {
	for id := range strings.SplitSeq(s, ".") {
		if id == "" || strings.Trim(id, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-") != "" {
			return false
		}
	}
	return true
}

func (c *checker) checkRoot() error {
	root := c.spec.Root
	if root == nil {
		return Field("root", "must be set")
	}
	if err := checkPath(root.Path, "root.path"); err != nil {
		return err
	}
	path := root.Path
	if !filepath.IsAbs(path) {
		path = filepath.Join(c.bundle, path)
	}
	info, err := c.stat(path)
	if err != nil {
		return &FieldError{Path: "root.path", Err: err}
	}
	if !info.IsDir() {
		return Field("root.path", "%s is not a directory", path)
	}
	return nil
}

func (c *checker) checkHostname() error {
	// The kernel's limit, __NEW_UTS_LEN.
	const maxLength = 64
	for _, f := range []struct{ path, value string }{
		{"hostname", c.spec.Hostname},
		{"domainname", c.spec.Domainname},
	} {
		switch {
		case f.value == "":
		case c.namespace(specs.UTSNamespace) == nil:
			return Field(f.path, "unable to set %s without a private UTS namespace", f.path)
		case len(f.value) > maxLength:
			return Field(f.path, "longer than %d bytes", maxLength)
		case strings.IndexByte(f.value, 0) >= 0:
			return Field(f.path, "must not contain NUL")
		}
	}
	return nil
}

func checkHooks(hooks *specs.Hooks) error {
	if hooks == nil {
		return nil
	}
	for _, kind := range []struct {
		name  string
		hooks []specs.Hook
	}{
		//lint:ignore SA1019 Docker 20.10 configures networks in it.
		{"prestart", hooks.Prestart},
		{"createRuntime", hooks.CreateRuntime},
		{"createContainer", hooks.CreateContainer},
		{"startContainer", hooks.StartContainer},
		{"poststart", hooks.Poststart},
		{"poststop", hooks.Poststop},
	} {
		for i, hook := range kind.hooks {
			if err := checkHook(hook, element("hooks."+kind.name, i)); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkHook(hook specs.Hook, at string) error {
	if err := checkAbsolute(hook.Path, at+".path"); err != nil {
		return err
	}
	if err := checkNUL(hook.Args, at+".args"); err != nil {
		return err
	}
	if err := checkNUL(hook.Env, at+".env"); err != nil {
		return err
	}
	if hook.Timeout != nil && *hook.Timeout <= 0 {
		return Field(at+".timeout", "must be greater than zero")
	}
	return nil
}

// namespace returns the entry of linux.namespaces of a type, or nil: then the container shares the runtime's.
func (c *checker) namespace(t specs.LinuxNamespaceType) *specs.LinuxNamespace {
	if c.spec.Linux == nil {
		return nil
	}
	list := c.spec.Linux.Namespaces
	i := slices.IndexFunc(list, func(ns specs.LinuxNamespace) bool { return ns.Type == t })
	if i < 0 {
		return nil
	}
	return &list[i]
}

func (c *checker) sameFile(a, b string) (bool, error) {
	infoA, errA := c.stat(a)
	infoB, errB := c.stat(b)
	if err := errors.Join(errA, errB); err != nil {
		return false, err
	}
	return os.SameFile(infoA, infoB), nil
}

// checkPath refuses what no system call takes as a path.
func checkPath(path, at string) error {
	switch {
	case path == "":
		return Field(at, "must not be empty")
	case strings.IndexByte(path, 0) >= 0:
		return Field(at, "must not contain NUL")
	case len(path) >= unix.PathMax:
		return Field(at, "is longer than a path can be, %d bytes", unix.PathMax-1)
	}
	return nil
}

func checkAbsolute(path, at string) error {
	if err := checkPath(path, at); err != nil {
		return err
	}
	if !filepath.IsAbs(path) {
		return Field(at, "%q is not an absolute path", path)
	}
	return nil
}

func checkNUL(list []string, at string) error {
	for i, s := range list {
		if strings.IndexByte(s, 0) >= 0 {
			return Field(element(at, i), "must not contain NUL")
		}
	}
	return nil
}

// sortedKeys makes the error that is reported first a deterministic one.
func sortedKeys[V any](m map[string]V) []string {
	return slices.Sorted(maps.Keys(m))
}
