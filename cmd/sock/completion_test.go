package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var completionFiles = map[string]string{"bash": "sock.bash", "zsh": "_sock", "fish": "sock.fish"}

func TestCompletionIsUpToDate(t *testing.T) {
	for shell, file := range completionFiles {
		script, err := completionScript(newApp(), shell)
		if err != nil {
			t.Fatal(err)
		}
		had, err := os.ReadFile(filepath.Join("../../contrib/completion", file))
		if err != nil || !bytes.Equal(had, script) {
			t.Errorf("%s is out of date (%v): go generate ./cmd/sock", file, err)
		}
	}
}

// shell finds a shell, writes its script, and puts a sock before all others that knows two containers in --root r and
// one elsewhere.
func shell(t *testing.T, name string) (path, script string) {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is not installed", name)
	}
	text, err := completionScript(newApp(), name)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	script = filepath.Join(dir, completionFiles[name])
	if err := os.WriteFile(script, text, 0o600); err != nil {
		t.Fatal(err)
	}
	const fake = "#!/bin/sh\nif [ \"$*\" = '--root r list -q' ]; then printf 'one\\ntwo\\n'; elif [ \"$*\" = 'list -q' ]; then echo other; fi\n"
	if err := os.WriteFile(filepath.Join(dir, "sock"), []byte(fake), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	t.Setenv("HOME", dir) // not the user's shell configuration
	t.Setenv("XDG_CONFIG_HOME", dir)
	t.Setenv("XDG_DATA_HOME", dir)
	return path, script
}

// completions are command lines, of which the last word is incomplete, and what must be offered.
var completions = []struct {
	line string
	want []string // exactly these
	has  []string // these among others
	not  []string
}{
	{line: "sock sta", want: []string{"start", "state"}},
	{line: "sock ", has: []string{"create", "exec", "plan"}, not: []string{"man"}},
	{line: "sock --log-format ", want: []string{"json", "text"}},
	{line: "sock --profile l", want: []string{"lean"}},
	{line: "sock --de", want: []string{"--debug"}},
	{line: "sock state ", want: []string{"other"}},
	{line: "sock --debug --root r state ", want: []string{"one", "two"}},
	{line: "sock --root r start o", want: []string{"one"}},
	{line: "sock kill one K", want: []string{"KILL"}},
	{line: "sock create --no", want: []string{"--no-new-keyring", "--no-pivot"}},
	{line: "sock list -f ", want: []string{"json", "table"}},
	{line: "sock --root r delete -f t", want: []string{"two"}},
	{line: "sock completion ", want: []string{"bash", "fish", "zsh"}},
	{line: "sock exec --user 5 o", want: []string{"other"}},
}

func checkCompletions(t *testing.T, complete func(line string) []string) {
	for _, tt := range completions {
		got := complete(tt.line)
		slices.Sort(got)
		got = slices.Compact(got)
		if tt.want != nil && !slices.Equal(got, tt.want) {
			t.Errorf("%q is completed by %q, want %q", tt.line, got, tt.want)
		}
		for _, word := range tt.has {
			if !slices.Contains(got, word) {
				t.Errorf("%q is completed by %q, without %q", tt.line, got, word)
			}
		}
		for _, word := range tt.not {
			if slices.Contains(got, word) {
				t.Errorf("%q is completed by %q", tt.line, got)
			}
		}
	}
}

func TestBashCompletion(t *testing.T) {
	bash, script := shell(t, "bash")
	checkCompletions(t, func(line string) []string {
		words := strings.Split(line, " ")
		code := fmt.Sprintf("source %s; COMP_WORDS=(%s); COMP_CWORD=%d; _sock; printf '%%s\\n' \"${COMPREPLY[@]}\"",
			script, "'"+strings.Join(words, "' '")+"'", len(words)-1)
		return output(t, bash, "--norc", "-c", code)
	})
}

func TestBashCompletionOfAttachedValues(t *testing.T) {
	bash, script := shell(t, "bash")
	code := fmt.Sprintf("source %s; COMP_WORDS=(sock --root = r state t); COMP_CWORD=5; _sock; printf '%%s\\n' \"${COMPREPLY[@]}\"", script)
	if got := output(t, bash, "--norc", "-c", code); !slices.Equal(got, []string{"two"}) {
		t.Errorf("sock --root=r state t is completed by %q", got)
	}
}

func TestFishCompletion(t *testing.T) {
	fish, script := shell(t, "fish")
	checkCompletions(t, func(line string) []string {
		var words []string
		for _, line := range output(t, fish, "--no-config", "-c", fmt.Sprintf("source %s; complete -C '%s'", script, line)) {
			word, _, _ := strings.Cut(line, "\t") // the description follows
			words = append(words, word)
		}
		return words
	})
}

// TestZshCompletion has zsh complete in a pseudo-terminal, since it does so nowhere else.
func TestZshCompletion(t *testing.T) {
	zsh, script := shell(t, "zsh")
	driver := filepath.Join(filepath.Dir(script), "driver")
	if err := os.WriteFile(driver, []byte(zshDriver), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"-f", driver, filepath.Dir(script)}
	for _, c := range completions {
		args = append(args, c.line)
	}
	answers := map[string][]string{}
	line := ""
	for _, answer := range output(t, zsh, args...) {
		if next, ok := strings.CutPrefix(answer, "line:"); ok {
			line = next
		} else {
			answers[line] = append(answers[line], answer)
		}
	}
	checkCompletions(t, func(line string) []string { return answers[line] })
}

// zshDriver prints what each line from $2 on is completed by, with the function in directory $1. compadd of the inner
// zsh prints the candidates, where it would have them shown.
const zshDriver = `
zmodload zsh/zpty
zpty inner zsh -f -i
zpty -w inner "PROMPT= fpath=($1 \$fpath); autoload -Uz compinit; compinit -u -D; stty -echo -onlcr
compadd () {
	local -a __candidates
	builtin compadd -A __candidates \"\$@\"
	(( \$#__candidates )) && print -rl -- @\${^__candidates}
	builtin compadd \"\$@\"
}
finish () { print -r -- @END; zle kill-whole-line }
both () { zle complete-word; zle finish }
zle -N finish; zle -N both; zle -C complete-word list-choices _main_complete; bindkey '^I' both; print -r -- @READY"
while zpty -r inner text; do [[ $text == *@READY* && $text != *print* ]] && break; done
shift
for line; do
	print -r -- line:$line
	zpty -w -n inner "$line"$'\t'
	while zpty -r inner text; do
		text=${text//$'\r'/}
		text=${text%$'\n'}
		[[ $text == *@END* ]] && break
		[[ $text == *@* ]] && print -r -- ${text##*@}
	done
done
zpty -d inner
`

// output returns the lines that a program prints.
func output(t *testing.T, name string, args ...string) []string {
	t.Helper()
	cmd := exec.Command(name, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil || stderr.Len() > 0 {
		t.Fatalf("%s %q: %v\n%s", name, args, err, stderr.String())
	}
	return strings.FieldsFunc(string(out), func(c rune) bool { return c == '\n' })
}
