// Package settings reads what the administrator of a host has decided for all containers: /etc/sock/config.toml.
package settings

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"golang.org/x/sys/unix"

	"github.com/sock-runtime/sock/spec"
	"github.com/sock-runtime/sock/spec/coldfile"
)

// Settings are the keys of the file. What it doesn't have is zero.
type Settings struct {
	// Profile is that of containers for which nobody has asked for one: "standard" or "lean".
	Profile string
	// AnnotationProfiles are those that the annotation dev.sock.profile may choose; without the key standard alone.
	AnnotationProfiles []string
	// Grouping says who shares a shim, if a task's options don't: "namespace", "pod" or "container".
	Grouping string
	// SystemdCgroup has systemd make the cgroups of all the shim's tasks, also where their options don't ask for it.
	SystemdCgroup bool
}

var (
	profiles  = []string{"standard", "lean"}
	groupings = []string{"namespace", "pod", "container"}
)

// maxFile bounds the file, in bytes.
const maxFile = 1 << 20

// Read returns the settings of this host; all are zero if there is no file. Errors name the file, and the key that is wrong.
func Read() (Settings, error) { return read(spec.SettingsFile) }

func read(name string) (Settings, error) {
	text, err := readFile(name)
	if err == unix.ENOENT {
		return Settings{}, nil
	}
	var s Settings
	if err == nil {
		s, err = parse(text)
	}
	if err != nil {
		return Settings{}, fmt.Errorf("%s: %w", name, err)
	}
	return s, nil
}

func parse(text []byte) (Settings, error) {
	var s Settings
	err := toml.NewDecoder(bytes.NewReader(text)).DisallowUnknownFields().Decode(&s)
	var strict *toml.StrictMissingError
	var decode *toml.DecodeError
	switch {
	case errors.As(err, &strict) && len(strict.Errors) > 0:
		line, _ := strict.Errors[0].Position()
		return s, fmt.Errorf("line %d: unknown key %q", line, strings.Join(strict.Errors[0].Key(), "."))
	case errors.As(err, &decode):
		line, column := decode.Position()
		return s, fmt.Errorf("line %d, column %d: %w", line, column, err)
	case err != nil:
		return s, err
	}
	check := func(key, value string, known []string) {
		if err == nil && !slices.Contains(known, value) {
			err = fmt.Errorf("%s: %q is none of %s", key, value, strings.Join(known, ", "))
		}
	}
	if s.Profile != "" {
		check("Profile", s.Profile, profiles)
	}
	for _, p := range s.AnnotationProfiles {
		check("AnnotationProfiles", p, profiles)
	}
	if s.Grouping != "" {
		check("Grouping", s.Grouping, groupings)
	}
	return s, err
}

// readFile reads a file that only its owner and group may write: it decides for all containers.
func readFile(name string) ([]byte, error) {
	return coldfile.Read(unix.AT_FDCWD, name, unix.O_NONBLOCK, maxFile, func(st *unix.Stat_t) error {
		switch {
		case st.Mode&unix.S_IFMT != unix.S_IFREG:
			return errors.New("not a regular file")
		case st.Mode&0o002 != 0:
			return fmt.Errorf("may be written by all, mode %04o", st.Mode&0o7777)
		}
		return nil
	})
}
