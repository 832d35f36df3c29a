package cri

import (
	"flag"
	"os"
	"strings"
	"testing"

	. "github.com/sock-runtime/sock/tests/sandbox"
)

var update = flag.Bool("update", false, "write the table in docs/kubernetes.md")

const (
	page              = "../../docs/kubernetes.md"
	beginMark         = "<!-- scenarios: begin; from go test ./tests/cri -update -->\n"
	endMark           = "<!-- scenarios: end -->\n"
	passed, notPassed = "yes", "no"
)

// table has a line for each scenario and a column for each handler.
func table(result func(handler, scenario string) bool) string {
	var b strings.Builder
	b.WriteString("| what is asked for |")
	for _, h := range handlers {
		b.WriteString(" " + h.title + " |")
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(handlers)) + "\n")
	for _, s := range scenarios {
		b.WriteString("| " + s.says + " |")
		for _, h := range handlers {
			cell := notPassed
			if result(h.name, s.name) {
				cell = passed
			}
			b.WriteString(" " + cell + " |")
		}
		b.WriteString("\n")
	}
	return b.String()
}

// split takes the page apart.
func split(t *testing.T) (before, table, after string) {
	t.Helper()
	text := ReadFile(page)
	before, rest, ok := strings.Cut(text, beginMark)
	table, after, ended := strings.Cut(rest, endMark)
	if !ok || !ended {
		t.Fatalf("%s has no marks of the table", page)
	}
	return before, table, after
}

// write replaces the table.
func write(t *testing.T, table string) {
	before, _, after := split(t)
	Must(t, os.WriteFile(page, []byte(before+beginMark+table+endMark+after), 0o644))
}

// TestTable compares the page with the scenarios: what it says is what they show when they all pass.
func TestTable(t *testing.T) {
	if *update {
		t.Skip("it is being written")
	}
	if _, has, _ := split(t); has != table(func(string, string) bool { return true }) {
		t.Errorf("the table in %s is not that of the scenarios; go test ./tests/cri -update writes it", page)
	}
}
