package main

import (
	"strings"

	"github.com/urfave/cli/v2"
)

// flagDoc is what man pages and completions say about a flag.
type flagDoc struct {
	names      []string // with dashes, the long one first
	value      string   // what stands for the value; empty for a flag without one
	text       string
	standard   string // the value without the flag; empty if there is none worth telling
	repeatable bool
}

// commandDoc is the same for a verb, or for sock itself.
type commandDoc struct {
	*cli.Command
	flags []flagDoc
}

// describe returns what sock's global flags and its visible verbs are. The answer is the same for every user, whose
// --root may differ.
func describe(app *cli.App) (global []flagDoc, verbs []commandDoc) {
	for _, f := range append(globalFlags("/run/sock"), cli.HelpFlag, cli.VersionFlag) {
		global = append(global, describeFlag(f))
	}
	for _, c := range app.Commands {
		if c.Hidden || c.Name == "help" {
			continue
		}
		verb := commandDoc{Command: c}
		for _, f := range c.VisibleFlags() {
			if f != cli.HelpFlag {
				verb.flags = append(verb.flags, describeFlag(f))
			}
		}
		if !c.HideHelp {
			verb.flags = append(verb.flags, describeFlag(cli.HelpFlag))
		}
		verbs = append(verbs, verb)
	}
	return global, verbs
}

func describeFlag(f cli.Flag) flagDoc {
	doc := f.(cli.DocGenerationFlag)
	var d flagDoc
	for _, name := range f.Names() {
		if len(name) == 1 {
			d.names = append(d.names, "-"+name)
		} else {
			d.names = append(d.names, "--"+name)
		}
	}
	d.text = strings.ReplaceAll(doc.GetUsage(), "`", "")
	if slice, ok := f.(cli.DocGenerationSliceFlag); ok {
		d.repeatable = slice.IsSliceFlag()
	}
	if !doc.TakesValue() {
		return d
	}
	_, rest, _ := strings.Cut(doc.GetUsage(), "`")
	d.value, _, _ = strings.Cut(rest, "`")
	if standard := strings.Trim(doc.GetDefaultText(), `"`); standard != "0" {
		d.standard = standard
	}
	return d
}

// Kinds of values that a shell can complete.
const (
	anything = iota
	files
	directories
	containers
	signals
	words
)

// kind says what the value of a flag is, and for words which.
func (d flagDoc) kind() (kind int, choice string) {
	switch name := d.names[0]; {
	case name == "--format":
		return words, "table json"
	case name == "--log-format":
		return words, "text json"
	case name == "--rootless":
		return words, "auto true false"
	case name == "--fix":
		return words, "docker containerd"
	case name == "--profile":
		return words, "standard lean"
	case name == "--cwd" || name == "--cgroup": // not on the host
		return anything, ""
	case d.value == "DIR":
		return directories, ""
	case d.value == "FILE" || d.value == "PATH":
		return files, ""
	default:
		return anything, ""
	}
}

// operand says what the argument number n of a verb is, counted from 0.
func (c commandDoc) operand(n int) (kind int, choice string) {
	switch {
	case n == 0 && strings.HasPrefix(c.ArgsUsage, "<container-id>"):
		return containers, ""
	case n == 0 && c.Name == "plan":
		return directories, ""
	case n == 0 && c.Name == "completion":
		return words, shells
	case n == 1 && c.Name == "kill":
		return signals, ""
	default:
		return anything, ""
	}
}
