// Command attacker is what containers of the tests run: each verb plays one attack, as far as it gets, and prints what came
// of each of its steps, one in a line: "STEP: done" or "STEP: ERROR". It is built by the tests.
package main

import (
	"fmt"
	"os"
)

var verbs = map[string]func(args []string){
	"change-stdio": changeStdio,
	"dump-network": dumpNetwork,
	"escape":       escape,
	"flood":        flood,
	"inherit":      inherit,
	"naive-bind":   naiveBind,
	"naive-cwd":    naiveCwd,
	"naive-mask":   naiveMask,
	"naive-mkdir":  naiveMkdir,
	"nothing":      func([]string) {},
	"overwrite":    overwrite,
	"pry":          pry,
	"swap":         swap,
	"unlock":       unlock,
}

func main() {
	if len(os.Args) < 2 || verbs[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: attacker VERB [ARGUMENT ...]")
		os.Exit(2)
	}
	verbs[os.Args[1]](os.Args[2:])
}

// step prints what came of a step.
func step(err error, format string, args ...any) {
	what := fmt.Sprintf(format, args...)
	if err != nil {
		fmt.Printf("%s: %v\n", what, err)
	} else {
		fmt.Printf("%s: done\n", what)
	}
}
