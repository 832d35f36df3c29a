package vm

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"testing"
)

// suite is what one package's tests printed, between the marks that init sets.
type suite struct {
	name   string
	output string
	status string // of the test binary, decimal
}

// suites cuts the output of init into those of the packages.
func suites(output string) ([]suite, error) {
	var all []suite
	for {
		_, rest, ok := strings.Cut(output, "\n<")
		name, rest, _ := strings.Cut(rest, ">\n")
		switch {
		case !ok:
			return all, errors.New("the output has no end")
		case name == "over":
			return all, nil
		}
		var s suite
		s.name = name
		s.output, output, ok = strings.Cut(rest, "\n</"+name+" ")
		if !ok {
			return append(all, s), fmt.Errorf("the output of %s has no end", name)
		}
		s.status, output, _ = strings.Cut(output, ">")
		all = append(all, s)
	}
}

// outcome is what became of one test, and of its subtests.
type outcome struct {
	name   string // the last part of its name
	action string // run, and in the end pass, fail or skip
	output strings.Builder
	tests  []*outcome
}

// outcomes asks test2json, which knows the format of test binaries and the ways in which they end.
func outcomes(s suite) (*outcome, error) {
	convert := exec.Command("go", "tool", "test2json")
	convert.Stdin = strings.NewReader(s.output)
	var failure bytes.Buffer
	convert.Stderr = &failure
	lines, err := convert.Output()
	if err != nil {
		return nil, fmt.Errorf("test2json: %w: %s", err, &failure)
	}
	root := &outcome{name: s.name}
	for decoder := json.NewDecoder(bytes.NewReader(lines)); ; {
		var event struct{ Action, Test, Output string }
		if err := decoder.Decode(&event); err == io.EOF {
			return root, nil
		} else if err != nil {
			return nil, fmt.Errorf("test2json: %w", err)
		}
		o := root.find(event.Test)
		switch event.Action {
		case "run", "pass", "fail", "skip":
			o.action = event.Action
		case "output":
			o.output.WriteString(event.Output)
		}
	}
}

// find returns the outcome of a test by its full name, new if need be.
func (o *outcome) find(test string) *outcome {
	if test == "" {
		return o
	}
	name, rest, _ := strings.Cut(test, "/")
	for _, sub := range o.tests {
		if sub.name == name {
			return sub.find(rest)
		}
	}
	sub := &outcome{name: name}
	o.tests = append(o.tests, sub)
	return sub.find(rest)
}

func TestSuites(t *testing.T) {
	const first, second = "\n<a/b>\nPASS\n\n</a/b 0>\n", "\n<c>\n<d>\nFAIL\n</c 1>\n"
	for output, want := range map[string]string{
		"6.1\n" + first + second + "<over>\n": "[{a/b PASS\n 0} {c <d>\nFAIL 1}] <nil>",
		first + second:                        "[{a/b PASS\n 0} {c <d>\nFAIL 1}] the output has no end",
		first + "\n<c>\npanic":                "[{a/b PASS\n 0} {c panic }] the output of c has no end",
		"":                                    "[] the output has no end",
	} {
		all, err := suites(output)
		if got := fmt.Sprint(all, " ", err); got != want {
			t.Errorf("%q:\ngot  %q\nwant %q", output, got, want)
		}
	}
}

func TestOutcomes(t *testing.T) {
	const mark = "\x16"
	root, err := outcomes(suite{name: "suite", output: mark + "=== RUN   TestA\n" + mark + "=== RUN   TestA/b/c\n" + mark + "=== RUN   TestD\n" +
		"    x_test.go:1: why\n" + mark + "--- FAIL: TestD (0.00s)\n" + mark + "=== RUN   TestE\npanic: lost\n"})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"TestA": "run", "TestA/b": "", "TestA/b/c": "run", "TestD": "fail", "TestE": "run", "TestF": ""} {
		if got := root.find(name).action; got != want {
			t.Errorf("%q: got %q, want %q", name, got, want)
		}
	}
	if output := root.find("TestD").output.String(); !strings.Contains(output, "x_test.go:1: why") {
		t.Errorf("output of TestD: %q", output)
	}
}

// report makes a subtest of the outcome.
func (o *outcome) report(t *testing.T) {
	t.Run(o.name, func(t *testing.T) {
		for _, sub := range o.tests {
			sub.report(t)
		}
		switch o.action {
		case "pass", "": // there is no test of the name before a slash in a subtest's name
		case "skip":
			t.Skip(&o.output)
		case "fail":
			t.Error(&o.output)
		default:
			t.Errorf("has not ended\n%s", &o.output)
		}
	})
}
