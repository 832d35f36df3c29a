package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"
)

//go:generate go run . man ../../contrib/man

// manDate is when what the pages say last changed.
const manDate = "2026-11-23"

var manCommand = &cli.Command{
	Name:      "man",
	Usage:     "write the manual pages into a directory",
	ArgsUsage: "<dir>",
	Hidden:    true, // for those who build packages
	Action: func(ctx *cli.Context) error {
		if err := requireArgs(ctx, 1, 1); err != nil {
			return err
		}
		for name, page := range manPages(ctx.App) {
			if err := os.WriteFile(filepath.Join(ctx.Args().First(), name), page, 0o644); err != nil {
				return err
			}
		}
		return nil
	},
}

// manPages returns all manual pages by the name of their file: sock(8) and one for each verb.
func manPages(app *cli.App) map[string][]byte {
	global, verbs := describe(app)
	pages := map[string][]byte{"sock.8": mainPage(global, verbs)}
	for _, v := range verbs {
		pages["sock-"+v.Name+".8"] = verbPage(v)
	}
	return pages
}

func mainPage(global []flagDoc, verbs []commandDoc) []byte {
	b := &bytes.Buffer{}
	manTitle(b, "sock", "Open Container Initiative runtime")
	b.WriteString(".SH SYNOPSIS\n\\fBsock\\fR [\\fIglobal options\\fR] \\fIcommand\\fR [\\fIoptions\\fR] [\\fIarguments\\fR]\n")
	manText(b, "DESCRIPTION", description)
	b.WriteString(".SH COMMANDS\n")
	for _, v := range verbs {
		fmt.Fprintf(b, ".TP\n\\fB%s\\fR\n%s. See\n.BR sock\\-%s (8).\n", roff(v.Name), roff(v.Usage), roff(v.Name))
	}
	manFlags(b, "GLOBAL OPTIONS", global)
	manText(b, "EXIT STATUS", `0 on success, 1 on failure. "sock run" and "sock exec" in the foreground exit with
the status of the process, or with 128 and the number of the signal that ended
it; "sock exec" exits with 255 if the process can't be executed.`)
	manText(b, "ENVIRONMENT", `Where the user isn't the host's root, containers' states are in the directory sock
in $XDG_RUNTIME_DIR, if that is set and --root isn't.`)
	b.WriteString(".SH SEE ALSO\n.BR runc (8),\n.BR crun (1)\n")
	return b.Bytes()
}

func verbPage(v commandDoc) []byte {
	b := &bytes.Buffer{}
	manTitle(b, "sock-"+v.Name, v.Usage)
	fmt.Fprintf(b, ".SH SYNOPSIS\n\\fBsock\\fR [\\fIglobal options\\fR] \\fB%s\\fR", roff(v.Name))
	if len(v.flags) > 0 {
		b.WriteString(" [\\fIoptions\\fR]")
	}
	if v.ArgsUsage != "" {
		fmt.Fprintf(b, " %s", roff(v.ArgsUsage))
	}
	b.WriteString("\n")
	manText(b, "DESCRIPTION", v.Description)
	if len(v.flags) > 0 {
		manFlags(b, "OPTIONS", v.flags)
	}
	b.WriteString(".SH SEE ALSO\n.BR sock (8)\n")
	return b.Bytes()
}

func manTitle(b *bytes.Buffer, name, usage string) {
	fmt.Fprintf(b, ".\\\" Made from the command's definition by \"sock man\".\n.TH %s 8 %s sock \"System Administration\"\n",
		strings.ToUpper(roff(name)), manDate)
	fmt.Fprintf(b, ".SH NAME\n%s \\- %s\n", roff(name), roff(usage))
}

// manText writes a section. Paragraphs are parted by empty lines; those indented by four spaces are set as they are.
func manText(b *bytes.Buffer, title, text string) {
	fmt.Fprintf(b, ".SH %s\n", title)
	for i, paragraph := range strings.Split(text, "\n\n") {
		if code, ok := strings.CutPrefix(paragraph, "    "); ok {
			code = strings.ReplaceAll(code, "\n    ", "\n")
			fmt.Fprintf(b, ".PP\n.RS 4\n.nf\n%s\n.fi\n.RE\n", roff(code))
			continue
		}
		if i > 0 {
			b.WriteString(".PP\n")
		}
		b.WriteString(roff(paragraph) + "\n")
	}
}

func manFlags(b *bytes.Buffer, title string, flags []flagDoc) {
	fmt.Fprintf(b, ".SH %s\n", title)
	for _, f := range flags {
		var forms []string
		for _, name := range f.names {
			form := "\\fB" + roff(name) + "\\fR"
			if f.value != "" {
				form += " \\fI" + roff(f.value) + "\\fR"
			}
			forms = append(forms, form)
		}
		fmt.Fprintf(b, ".TP\n%s\n%s.", strings.Join(forms, ", "), roff(strings.ToUpper(f.text[:1])+f.text[1:]))
		if f.standard != "" {
			fmt.Fprintf(b, " The default is %s.", roff(f.standard))
		}
		if f.repeatable {
			b.WriteString(" May be given several times.")
		}
		b.WriteString("\n")
	}
}

// roff escapes what man(7) would take for markup.
func roff(s string) string {
	s = strings.NewReplacer(`\`, `\e`, `-`, `\-`, `"`, `\(dq`, `'`, `\(aq`, `^`, `\(ha`, `~`, `\(ti`, "`", `\(ga`).Replace(s)
	lines := strings.Split(s, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, ".") {
			lines[i] = `\&` + line
		}
	}
	return strings.Join(lines, "\n")
}
