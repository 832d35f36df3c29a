package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const manDir = "../../contrib/man"

func TestManPagesAreUpToDate(t *testing.T) {
	pages := manPages(newApp())
	for name, page := range pages {
		had, err := os.ReadFile(filepath.Join(manDir, name))
		if err != nil {
			t.Errorf("%v: go generate ./cmd/sock", err)
		} else if !bytes.Equal(had, page) {
			t.Errorf("%s is out of date: go generate ./cmd/sock", name)
		}
	}
	files, err := filepath.Glob(manDir + "/*.8")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if pages[filepath.Base(file)] == nil {
			t.Errorf("%s is of no command", file)
		}
	}
}

func TestManPagesAreClean(t *testing.T) {
	mandoc, err := exec.LookPath("mandoc")
	if err != nil {
		t.Skip("mandoc is not installed")
	}
	dir := t.TempDir()
	args := []string{"-T", "lint", "-W", "warning"}
	for name, page := range manPages(newApp()) {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, page, 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, file)
	}
	if out, err := exec.Command(mandoc, args...).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("mandoc: %v\n%s", err, out)
	}
}

func TestEveryFlagIsInTheManual(t *testing.T) {
	pages := manPages(newApp())
	for _, c := range newApp().Commands {
		if c.Hidden {
			continue
		}
		page := string(pages["sock-"+c.Name+".8"])
		for _, f := range c.VisibleFlags() {
			for _, name := range f.Names() {
				if !strings.Contains(page, `\-`+strings.ReplaceAll(name, "-", `\-`)+`\fR`) {
					t.Errorf("%s: --%s is not in the manual", c.Name, name)
				}
			}
		}
	}
}

func TestRoff(t *testing.T) {
	const text = ".start\nof \\ 'a' \"b\" -c"
	const want = "\\&.start\nof \\e \\(aqa\\(aq \\(dqb\\(dq \\-c"
	if got := roff(text); got != want {
		t.Errorf("roff = %s, want %s", got, want)
	}
}
