package settings

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       Settings
		err        string
	}{
		{"nothing", "", Settings{}, ""},
		{"comments", "# Profile = 'lean'\n", Settings{}, ""},
		{
			"all", "Profile = 'lean'\nAnnotationProfiles = ['standard', 'lean']\nGrouping = 'pod'\nSystemdCgroup = true\n",
			Settings{Profile: "lean", AnnotationProfiles: []string{"standard", "lean"}, Grouping: "pod", SystemdCgroup: true},
			"",
		},
		{"none for annotations", "AnnotationProfiles = []", Settings{AnnotationProfiles: []string{}}, ""},
		{"unknown key", "Profile = 'standard'\nProfil = 'lean'\n", Settings{}, `line 2: unknown key "Profil"`},
		{"unknown table", "[shim]\nGrouping = 'pod'\n", Settings{}, `unknown key "shim`},
		{"unknown profile", "Profile = 'fat'", Settings{}, `Profile: "fat" is none of standard, lean`},
		{"unknown profile for annotations", "AnnotationProfiles = ['standard', '']", Settings{}, `AnnotationProfiles: "" is none of standard, lean`},
		{"unknown grouping", "Grouping = 'galaxy'", Settings{}, `Grouping: "galaxy" is none of namespace, pod, container`},
		{"another type", "SystemdCgroup = 'yes'", Settings{}, "line 1, column 17"},
		{"no TOML", "Profile: lean", Settings{}, "line 1, column 8"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := parse([]byte(c.text))
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) || strings.Contains(err.Error(), "\n") {
					t.Errorf("error is %v, want %q", err, c.err)
				}
				return
			}
			if err != nil || !reflect.DeepEqual(got, c.want) {
				t.Errorf("got %+v, %v, want %+v", got, err, c.want)
			}
		})
	}
}

func TestRead(t *testing.T) {
	name := filepath.Join(t.TempDir(), "config.toml")
	if s, err := read(name); err != nil || !reflect.DeepEqual(s, Settings{}) {
		t.Errorf("no file: %+v, %v", s, err)
	}
	if err := os.WriteFile(name, []byte("Grouping = 'pod'\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if s, err := read(name); err != nil || s.Grouping != "pod" {
		t.Errorf("%+v, %v", s, err)
	}
	if err := os.Chmod(name, 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := read(name); err == nil || !strings.Contains(err.Error(), name+": may be written by all, mode 0666") {
		t.Errorf("writable by all: %v", err)
	}
	if _, err := read(filepath.Dir(name)); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a directory: %v", err)
	}
}

// BenchmarkRead is what the file costs where there is one.
func BenchmarkRead(b *testing.B) {
	name := filepath.Join(b.TempDir(), "config.toml")
	text := "# for all\nProfile = 'standard'\nAnnotationProfiles = ['standard']\nGrouping = 'namespace'\n"
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := read(name); err != nil {
			b.Fatal(err)
		}
	}
}
