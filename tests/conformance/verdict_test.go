package conformance

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// verdict is what a program of the suite says of a runtime. The zero value is a pass.
type verdict struct {
	failed, points int    // of the program's test points
	complaint      string // the first thing that is wrong, "" for a pass
}

func (v verdict) passed() bool { return v.complaint == "" }

// String is what stands in the table: without a word that changes from one run to the next.
func (v verdict) String() string {
	switch {
	case v.passed():
		return "pass"
	case v.failed > 0 && v.points > 1:
		return fmt.Sprintf("fail (%d of %d)", v.failed, v.points)
	}
	return "fail"
}

var (
	pointLine = regexp.MustCompile(`^(not )?ok\b(.*)`)
	planLine  = regexp.MustCompile(`^1\.\.(\d+)`)
	directive = regexp.MustCompile(`(?i)# todo\b`) // a point that may fail, as TAP has it
	errorKey  = regexp.MustCompile(`^\s+"?error"?: *(.*)`)
	notCalled = regexp.MustCompile(`(?m)^WARNING: The post\w+ hook invoke fails$`)
)

// judge reads the Test Anything Protocol (version 13) of a program that ended by itself with an exit status. Programs of the
// suite exit with 0 also when they fail. Those about hooks don't even have test points: they show an error only as a block
// of YAML that belongs to none, where one after "ok" may well hold the error that was provoked. And a container that did
// not run at all leaves no output: no plan. Only silent programs have none when they pass. That a poststart or poststop hook
// was never called is but a warning among the errors.
func judge(output, errors string, exitStatus int, silent bool) verdict {
	var v verdict
	complain := func(format string, args ...any) {
		if v.complaint == "" {
			v.complaint = fmt.Sprintf(format, args...)
		}
	}
	plans, planned := 0, 0
	inBlock, afterPoint := false, false // afterPoint: a block here is the last point's
	ofPoint := false                    // the block we are in is
	for line := range strings.Lines(output) {
		line = strings.TrimRight(line, "\n")
		point, plan := pointLine.FindStringSubmatch(line), planLine.FindStringSubmatch(line)
		switch {
		case strings.TrimSpace(line) == "---" && !inBlock:
			inBlock, ofPoint, afterPoint = true, afterPoint, false
		case strings.TrimSpace(line) == "...":
			inBlock = false
		case inBlock:
			if match := errorKey.FindStringSubmatch(line); match != nil && !ofPoint {
				complain("error: %s", match[1])
			}
		case point != nil:
			v.points++
			afterPoint = true
			if point[1] != "" && !directive.MatchString(line) {
				v.failed++
				complain("not ok%s", point[2])
			}
		case plan != nil:
			plans++
			n, _ := strconv.Atoi(plan[1])
			planned += n
		}
	}
	if warning := notCalled.FindString(errors); warning != "" {
		complain("%s", warning)
	}
	if exitStatus != 0 {
		complain("exit status %d", exitStatus)
	}
	if plans == 0 && !silent {
		complain("no plan: the container's program said nothing")
	} else if plans > 0 && planned != v.points {
		complain("%d test points, %d planned", v.points, planned)
	}
	return v
}

func TestJudge(t *testing.T) {
	const header = "TAP version 13\n"
	for _, c := range []struct {
		name, output string
		status       int
		want         string // the verdict
		complaint    string
	}{
		{"pass", header + "1..2\nok 1 - a\nok 2 - b\n", 0, "pass", ""},
		{"plan at the end", header + "ok 1 - a\nok 2 - b\n1..2\n", 0, "pass", ""},
		{"not ok", header + "ok 1 - a\nnot ok 2 - b\n1..2\n", 0, "fail (1 of 2)", "not ok 2 - b"},
		{"the only one", header + "not ok 1 - a\n1..1\n", 0, "fail", "not ok 1 - a"},
		{"may fail", header + "not ok 1 # TODO a\n1..1\n", 0, "pass", ""},
		{"exit status", header + "ok 1 - a\n1..1\n", 1, "fail", "exit status 1"},
		{"not ok counts first", header + "not ok 1 - a\n1..1\n", 1, "fail", "not ok 1 - a"},
		{"nothing said", "", 0, "fail", "no plan: the container's program said nothing"},
		{"died half way", header + "1..3\nok 1 - a\n", 0, "fail", "1 test points, 3 planned"},
		{"hooks", header + "1..0\n", 0, "pass", ""},
		{"an error of no point", header + "  ---\n  error: 'no hook'\n  ...\n1..0\n", 0, "fail", "error: 'no hook'"},
		{"a key in quotes", header + "  ---\n  {\n    \"error\": \"no hook\"\n  }\n  ...\n1..0\n", 0, "fail", `error: "no hook"`},
		{"an error that had to come", header + "ok 1 - refused\n  ---\n  error: exit status 1\n  ...\n1..1\n", 0, "pass", ""},
		{"one after it that had not", header + "ok 1 - a\n  ---\n  error: x\n  ...\n  ---\n  error: y\n  ...\n1..1\n", 0, "fail", "error: y"},
		{"output in a block", header + "ok 1 - a\n  ---\n  stdout: |\n    not ok 1 - b\n  ...\n1..1\n", 0, "pass", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := judge(c.output, "", c.status, false)
			if v.String() != c.want || v.complaint != c.complaint {
				t.Errorf("got %q because of %q, want %q because of %q", v, v.complaint, c.want, c.complaint)
			}
		})
	}
	if v := judge("", "", 0, true); !v.passed() {
		t.Errorf("silent: %s", v.complaint)
	}
	if v := judge("", "", 1, true); v.passed() {
		t.Error("silent, exit status 1: passed")
	}
	const warning = "WARNING: The poststop hook invoke fails"
	if v := judge(header+"1..0\n", "level=warning msg=x\n"+warning+"\n", 0, false); v.complaint != warning {
		t.Errorf("a hook that was not called: %q", v.complaint)
	}
	if v := judge(header+"1..0\n", "level=warning msg=\"WARNING: the hook\"\n", 0, false); !v.passed() {
		t.Errorf("a warning of the runtime's: %s", v.complaint)
	}
}
