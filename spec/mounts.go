package spec

import (
	"errors"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// checkMount accepts a relative destination: the spec has it taken from "/".
func (c *checker) checkMount(m *specs.Mount, at string) error {
	if err := checkPath(m.Destination, at+".destination"); err != nil {
		return err
	}
	options, err := ParseMountOptions(m.Type, m.Options)
	var unknown *OptionError
	if errors.As(err, &unknown) {
		return &FieldError{Path: element(at+".options", unknown.Index), Err: unknown}
	}
	switch {
	case strings.IndexByte(m.Source, 0) >= 0:
		return Field(at+".source", "must not contain NUL")
	case strings.IndexByte(m.Type, 0) >= 0:
		return Field(at+".type", "must not contain NUL")
	case options.Remount:
		// It changes a mount that is there: the kernel looks at neither source nor type.
	case options.Bind && m.Source == "":
		return Field(at+".source", "must be set for a bind mount")
	case !options.Bind && m.Type == "":
		return Field(at+".type", "must be set unless it is a bind mount")
	}
	if options.TmpCopyUp && (options.Bind || m.Type != "tmpfs") {
		return Field(element(at+".options", slices.Index(m.Options, "tmpcopyup")), "tmpcopyup is only for tmpfs")
	}
	return c.checkIDMap(m, options, at)
}

func (c *checker) checkIDMap(m *specs.Mount, options MountOptions, at string) error {
	uids, gids := len(m.UIDMappings) > 0, len(m.GIDMappings) > 0
	switch {
	case uids && !gids:
		return Field(at+".gidMappings", "must be set along with uidMappings")
	case gids && !uids:
		return Field(at+".uidMappings", "must be set along with gidMappings")
	case uids && !options.Bind:
		return Field(at+".uidMappings", "only bind mounts can be id-mapped")
	case options.IDMap == "":
		return nil
	}
	option := element(at+".options", slices.Index(m.Options, options.IDMap))
	switch {
	case !options.Bind:
		return Field(option, "only bind mounts can be id-mapped")
	case !uids && c.namespace(specs.UserNamespace) == nil:
		return Field(option, "%s needs uidMappings and gidMappings, or a user namespace", options.IDMap)
	}
	return nil
}
