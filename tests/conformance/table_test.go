package conformance

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const (
	tableFile  = "../../docs/conformance.md"
	tableBegin = "<!-- table: begin; from make conformance UPDATE=1 -->\n"
	tableEnd   = "<!-- table: end -->\n"
)

var moduleLine = regexp.MustCompile(`(?m)^\s+` + regexp.QuoteMeta(suiteModule) + ` (v\S+)`)

// splitTable returns what stands before the table, the table and what stands after it.
func splitTable(t *testing.T) (before, table, after string) {
	t.Helper()
	data, err := os.ReadFile(tableFile)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(data), tableBegin)
	table, after, ok2 := strings.Cut(rest, tableEnd)
	if !ok || !ok2 {
		t.Fatalf("%s has no table between %q and %q", tableFile, tableBegin, tableEnd)
	}
	return before, table, after
}

// readTable returns the programs of which the table says that sock passes.
func readTable(t *testing.T) map[string]bool {
	t.Helper()
	_, table, _ := splitTable(t)
	passes := make(map[string]bool)
	for line := range strings.Lines(table) {
		if cells := strings.Split(line, "|"); len(cells) > 2 && strings.TrimSpace(cells[2]) == "pass" {
			passes[strings.TrimSpace(cells[1])] = true
		}
	}
	return passes
}

// writeTable puts a new table in the place of the old.
func writeTable(t *testing.T, programs []string, runtimes []contestant, outcomes map[string]outcome) {
	t.Helper()
	before, _, after := splitTable(t)
	table := render(t, programs, runtimes, outcomes)
	if err := os.WriteFile(tableFile, []byte(before+tableBegin+table+tableEnd+after), 0o644); err != nil {
		t.Fatal(err)
	}
}

func render(t *testing.T, programs []string, runtimes []contestant, outcomes map[string]outcome) string {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "runtime-tools %s, %d programs, on Linux %s:\n\n| program |", suiteVersion(t), len(programs), kernel(t))
	for _, r := range runtimes {
		if r.name == "sock" {
			fmt.Fprint(&b, " sock |")
		} else {
			fmt.Fprintf(&b, " %s %s |", r.name, r.version)
		}
	}
	fmt.Fprintf(&b, " why |\n|%s\n", strings.Repeat("---|", len(runtimes)+2))
	for _, program := range programs {
		o, n := outcomes[program], notes[program]
		fmt.Fprintf(&b, "| %s |", program)
		for _, r := range runtimes {
			cell := o.verdicts[r.name].String()
			if n.luck {
				cell = "by luck"
			}
			fmt.Fprintf(&b, " %s |", cell)
		}
		nobody := !slices.ContainsFunc(runtimes, func(r contestant) bool { return o.verdicts[r.name].passed() })
		if nobody && n.why == "" {
			t.Errorf("%s fails for everyone: notes must say why", program)
		}
		if nobody || n.luck || n.deviates {
			fmt.Fprintf(&b, " %s |\n", n.why)
		} else {
			fmt.Fprint(&b, " |\n")
		}
	}
	fmt.Fprint(&b, "| **passed** |")
	for _, r := range runtimes {
		fmt.Fprintf(&b, " **%d** |", passed(r, outcomes))
	}
	fmt.Fprint(&b, " |\n")
	return b.String()
}

// passed counts.
func passed(r contestant, outcomes map[string]outcome) int {
	count := 0
	for program, o := range outcomes {
		if o.verdicts[r.name].passed() && !notes[program].luck {
			count++
		}
	}
	return count
}

func suiteVersion(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile("suite/go.mod")
	if err != nil {
		t.Fatal(err)
	}
	match := moduleLine.FindSubmatch(data)
	if match == nil {
		t.Fatal("suite/go.mod has no version of the suite")
	}
	return string(match[1])
}

func kernel(t *testing.T) string {
	t.Helper()
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		t.Fatal(err)
	}
	release, _, _ := strings.Cut(unix.ByteSliceToString(uts.Release[:]), "-")
	return release
}

// TestTable holds the table against the suite: a row for each program, notes only for programs that exist.
func TestTable(t *testing.T) {
	_, table, _ := splitTable(t)
	programs := programNames(t)
	if len(programs) != 58 {
		t.Errorf("suite/go.mod has %d programs, not 58", len(programs))
	}
	for _, program := range programs {
		if !strings.Contains(table, "\n| "+program+" |") {
			t.Errorf("the table has no row for %s", program)
		}
	}
	for program := range notes {
		if !slices.Contains(programs, program) {
			t.Errorf("notes has %s, the suite has not", program)
		}
	}
}
