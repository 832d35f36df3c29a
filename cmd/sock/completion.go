package main

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"
)

// shells are those that completion knows.
const shells = "bash zsh fish"

// signalNames are the signals that are offered for kill.
const signalNames = "TERM KILL INT HUP QUIT USR1 USR2 STOP CONT WINCH"

//go:generate sh -c "go run . completion bash > ../../contrib/completion/sock.bash"
//go:generate sh -c "go run . completion zsh > ../../contrib/completion/_sock"
//go:generate sh -c "go run . completion fish > ../../contrib/completion/sock.fish"

var completionCommand = &cli.Command{
	Name:      "completion",
	Usage:     "print a completion script for a shell",
	ArgsUsage: "bash|zsh|fish",
	Description: `The script completes verbs, flags, their values and the IDs of containers. For
the bash that is running:

    # source <(sock completion bash)`,
	Action: func(ctx *cli.Context) error {
		if err := requireArgs(ctx, 1, 1); err != nil {
			return err
		}
		script, err := completionScript(ctx.App, ctx.Args().First())
		if err != nil {
			return err
		}
		_, err = ctx.App.Writer.Write(script)
		return err
	},
}

// completionScript returns the script for a shell.
func completionScript(app *cli.App, shell string) ([]byte, error) {
	global, verbs := describe(app)
	switch shell {
	case "bash":
		return bashCompletion(global, verbs), nil
	case "zsh":
		return zshCompletion(global, verbs), nil
	case "fish":
		return fishCompletion(global, verbs), nil
	default:
		return nil, fmt.Errorf("unknown shell %q: it must be one of %s", shell, shells)
	}
}

const bashHead = `# Completion of sock for bash, printed by "sock completion bash".

# _sock_flags VERB sets flags to those of the verb, or of sock itself, and valued to those of them that take a value.
_sock_flags() {
	case $1 in
`

const bashMiddle = `	esac
}

_sock_files() {
	compopt -o filenames 2>/dev/null
	mapfile -t COMPREPLY < <(compgen "$@" -- "$cur")
}

_sock_words() {
	mapfile -t COMPREPLY < <(compgen -W "$1" -- "$cur")
}

_sock() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
	local verb= word flags= valued= operands=0 i
	local -a root=()
	COMPREPLY=()
	# bash takes --flag=value for three words.
	if [[ $cur == = ]]; then
		cur=
	elif [[ $prev == = ]]; then
		prev=${COMP_WORDS[COMP_CWORD - 2]}
	fi
	_sock_flags ""
	for ((i = 1; i < COMP_CWORD; i++)); do
		word=${COMP_WORDS[i]}
		if [[ $word == -* ]]; then
			[[ " $valued " == *" $word "* ]] || continue
			[[ ${COMP_WORDS[i + 1]} != = ]] || ((i++))
			((++i))
			[[ $word != --root ]] || root=(--root "${COMP_WORDS[i]}")
		elif [[ -z $verb ]]; then
			verb=$word
			_sock_flags "$verb"
		else
			((++operands))
		fi
	done
	case $verb:$prev in
`

const bashOperands = `	esac
	if [[ $cur == -* ]]; then
		_sock_words "$flags"
		return
	fi
	case $verb:$operands in
`

const bashTail = `	esac
}

complete -F _sock sock
`

func bashCompletion(global []flagDoc, verbs []commandDoc) []byte {
	b := bytes.NewBufferString(bashHead)
	writeBashFlags(b, `""`, global)
	for _, v := range verbs {
		writeBashFlags(b, v.Name, v.flags)
	}
	b.WriteString("\t*) flags= valued= ;;\n" + bashMiddle)
	writeBashValues(b, "", global)
	var names []string
	for _, v := range verbs {
		names = append(names, v.Name)
		writeBashValues(b, v.Name, v.flags)
	}
	b.WriteString(bashOperands)
	fmt.Fprintf(b, "\t:0) _sock_words \"%s help\" ;;\n", strings.Join(names, " "))
	for _, v := range verbs {
		for n := range 2 {
			if action := bashAction(v.operand(n)); action != "" {
				fmt.Fprintf(b, "\t%s:%d) %s ;;\n", v.Name, n, action)
			}
		}
	}
	b.WriteString(bashTail)
	return b.Bytes()
}

func writeBashFlags(b *bytes.Buffer, verb string, flags []flagDoc) {
	var all, valued []string
	for _, f := range flags {
		all = append(all, f.names...)
		if f.value != "" {
			valued = append(valued, f.names...)
		}
	}
	fmt.Fprintf(b, "\t%s)\n\t\tflags=%q\n\t\tvalued=%q\n\t\t;;\n", verb, strings.Join(all, " "), strings.Join(valued, " "))
}

func writeBashValues(b *bytes.Buffer, verb string, flags []flagDoc) {
	for _, f := range flags {
		if f.value == "" {
			continue
		}
		var patterns []string
		for _, name := range f.names {
			patterns = append(patterns, verb+":"+name)
		}
		action := bashAction(f.kind())
		if action != "" {
			action += " && "
		}
		fmt.Fprintf(b, "\t%s) %sreturn ;;\n", strings.Join(patterns, "|"), action)
	}
}

func bashAction(kind int, choice string) string {
	switch kind {
	case files:
		return "_sock_files -f"
	case directories:
		return "_sock_files -d"
	case containers:
		return `_sock_words "$(sock "${root[@]}" list -q 2>/dev/null)"`
	case signals:
		return fmt.Sprintf("_sock_words %q", signalNames)
	case words:
		return fmt.Sprintf("_sock_words %q", choice)
	default:
		return ""
	}
}

const zshHead = `#compdef sock
# Completion of sock for zsh, printed by "sock completion zsh".

_sock_containers() {
	local -a ids
	ids=(${(f)"$(_call_program containers sock ${sock_root:+--root} $sock_root list -q 2>/dev/null)"})
	_describe -t containers container ids
}

_sock() {
	local context state state_descr line sock_root
	typeset -A opt_args
	_arguments -C \
`

const zshVerbs = `		'1:command:->verb' \
		'*::argument:->argument' && return
	sock_root=${opt_args[--root]}
	if [[ $state == verb ]]; then
		local -a verbs=(
`

const zshMiddle = `		)
		_describe -t commands command verbs
		return
	fi
	case $line[1] in
`

const zshTail = `	esac
}

if [[ $funcstack[1] == _sock ]]; then
	_sock "$@"
else
	compdef _sock sock
fi
`

func zshCompletion(global []flagDoc, verbs []commandDoc) []byte {
	b := bytes.NewBufferString(zshHead)
	writeZshFlags(b, global)
	b.WriteString(zshVerbs)
	for _, v := range verbs {
		fmt.Fprintf(b, "\t\t\t'%s:%s'\n", v.Name, zshText(v.Usage))
	}
	b.WriteString(zshMiddle)
	for _, v := range verbs {
		fmt.Fprintf(b, "\t%s)\n\t\t_arguments \\\n", v.Name)
		writeZshFlags(b, v.flags)
		for n := range 2 {
			if action := zshAction(v.operand(n)); action != "" {
				fmt.Fprintf(b, "\t\t'%d:argument:%s' \\\n", n+1, action)
			}
		}
		b.WriteString("\t\t;;\n")
	}
	b.WriteString(zshTail)
	return b.Bytes()
}

func writeZshFlags(b *bytes.Buffer, flags []flagDoc) {
	for _, f := range flags {
		exclusive := "(" + strings.Join(f.names, " ") + ")"
		if f.repeatable {
			exclusive = "*"
		}
		for _, name := range f.names {
			value := ""
			if f.value != "" {
				value = ":" + zshText(f.value) + ":" + zshAction(f.kind())
				if strings.HasPrefix(name, "--") {
					name += "="
				}
			}
			fmt.Fprintf(b, "\t\t'%s%s[%s]%s' \\\n", exclusive, name, zshText(f.text), value)
		}
	}
}

func zshAction(kind int, choice string) string {
	switch kind {
	case files:
		return "_files"
	case directories:
		return "_files -/"
	case containers:
		return "_sock_containers"
	case signals:
		return "(" + signalNames + ")"
	case words:
		return "(" + choice + ")"
	default:
		return ""
	}
}

// zshText escapes a text for the inside of brackets, or between colons, in single quotes.
func zshText(s string) string {
	return strings.NewReplacer(`\`, `\\`, `[`, `\[`, `]`, `\]`, `:`, `\:`, `'`, `'\''`).Replace(s)
}

const fishHead = `# Completion of sock for fish, printed by "sock completion fish".

# __sock_words prints the words before the cursor without global flags and their values.
function __sock_words
	set -l words (commandline -opc)
	set -l i 2
	while test $i -le (count $words)
		switch $words[$i]
			case %s
				set i (math $i + 2)
			case '-*'
				set i (math $i + 1)
			case '*'
				string join \n -- $words[$i..-1]
				return
		end
	end
end

# __sock_verb is true if the verb is one of the arguments; without arguments, if there is none yet.
function __sock_verb
	set -l words (__sock_words)
	if test (count $words) -eq 0
		test (count $argv) -eq 0
		return
	end
	contains -- $words[1] $argv
end

function __sock_containers
	set -l root
	set -l words (commandline -opc)
	if set -l at (contains -i -- --root $words)
		set root --root $words[(math $at + 1)]
	end
	sock $root list -q 2>/dev/null
end

complete -c sock -f
`

func fishCompletion(global []flagDoc, verbs []commandDoc) []byte {
	var valued []string
	for _, f := range global {
		if f.value != "" {
			valued = append(valued, f.names...)
		}
	}
	b := &bytes.Buffer{}
	fmt.Fprintf(b, fishHead, strings.Join(valued, " "))
	writeFishFlags(b, "__sock_verb", global)
	for _, v := range verbs {
		fmt.Fprintf(b, "complete -c sock -n __sock_verb -a %s -d %s\n", v.Name, fishText(v.Usage))
	}
	for _, v := range verbs {
		condition := fishText("__sock_verb " + v.Name)
		for n := range 2 {
			if action := fishAction(v.operand(n)); action != "" {
				fmt.Fprintf(b, "complete -c sock -n %s%s\n", condition, action)
			}
		}
		writeFishFlags(b, condition, v.flags)
	}
	return b.Bytes()
}

func writeFishFlags(b *bytes.Buffer, condition string, flags []flagDoc) {
	for _, f := range flags {
		fmt.Fprintf(b, "complete -c sock -n %s", condition)
		for _, name := range f.names {
			if long, ok := strings.CutPrefix(name, "--"); ok {
				fmt.Fprintf(b, " -l %s", long)
			} else {
				fmt.Fprintf(b, " -s %s", name[1:])
			}
		}
		if f.value != "" {
			b.WriteString(fishValue(f.kind()))
		}
		fmt.Fprintf(b, " -d %s\n", fishText(f.text))
	}
}

// fishValue is fishAction for a flag: a value is required, and no file unless it is said so.
func fishValue(kind int, choice string) string {
	if kind == files {
		return " -r -F"
	}
	return " -x" + fishAction(kind, choice)
}

func fishAction(kind int, choice string) string {
	switch kind {
	case directories:
		return " -a '(__fish_complete_directories)'"
	case containers:
		return " -a '(__sock_containers)'"
	case signals:
		return " -a " + fishText(signalNames)
	case words:
		return " -a " + fishText(choice)
	default:
		return ""
	}
}

// fishText puts a text into single quotes.
func fishText(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
}
