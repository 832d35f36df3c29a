package conformance

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
)

var (
	update = flag.Bool("update", false, "write the table in docs/conformance.md")
	only   = flag.String("program", "", "run only this `program`, and show all that it says")
)

// parallel is how many programs run at a time. They hardly compute: most of their time they sleep until they ask again
// whether a container has ended.
const parallel = 6

// outcome is what one program says of all runtimes, by their names.
type outcome struct {
	verdicts map[string]verdict
	said     map[string]string
}

func TestSuite(t *testing.T) {
	needCgroupV1(t)
	runtimes := contestants(t)
	suite := buildSuite(t)
	programs := programNames(t)
	if *only != "" {
		need(t, slices.Contains(programs, *only), "the suite has no program "+*only)
		programs = []string{*only}
	}
	recorded := readTable(t)
	outcomes := runAll(t, suite, programs, runtimes, recorded)
	if t.Failed() {
		return
	}
	if *only != "" {
		for _, r := range runtimes {
			t.Logf("%s, %s: %s\n%s", *only, r.name, outcomes[*only].verdicts[r.name], outcomes[*only].said[r.name])
		}
	}
	for _, program := range programs {
		t.Run(program, func(t *testing.T) { compare(t, program, runtimes, outcomes[program], recorded[program]) })
	}
	if *only != "" {
		return
	}
	for _, r := range runtimes {
		t.Logf("%s %s passes %d of %d programs", r.name, r.version, passed(r, outcomes), len(programs))
	}
	if *update {
		writeTable(t, programs, runtimes, outcomes)
	}
}

// compare fails where sock is behind the others, or behind what is recorded of it.
func compare(t *testing.T, program string, runtimes []contestant, o outcome, recorded bool) {
	t.Helper()
	sock, n := o.verdicts["sock"], notes[program]
	if sock.passed() || n.luck || n.deviates {
		return
	}
	for _, r := range runtimes {
		if o.verdicts[r.name].passed() {
			t.Errorf("%s passes, sock does not: %s\n%s", r.name, sock.complaint, o.said["sock"])
			return
		}
	}
	if recorded && !*update {
		t.Errorf("docs/conformance.md says that sock passes: %s\n%s", sock.complaint, o.said["sock"])
	}
}

// pair is a program and the runtime that it is run against.
type pair struct {
	program string
	runtime contestant
}

// runAll runs each program against each runtime. Those about hooks race with what they test (with a process that writes
// into the same file as its hook, with hooks that end before they have read their state), so that a runtime may fail by
// bad luck: where another passes, it has five tries.
func runAll(t *testing.T, suite string, programs []string, runtimes []contestant, recorded map[string]bool) map[string]outcome {
	t.Helper()
	outcomes := make(map[string]outcome)
	var pairs []pair
	for _, program := range programs {
		outcomes[program] = outcome{make(map[string]verdict), make(map[string]string)}
		for _, r := range runtimes {
			pairs = append(pairs, pair{program, r})
		}
	}
	for try := 1; try <= 5 && !t.Failed(); try++ {
		runPairs(t, suite, pairs, outcomes)
		pairs = slices.DeleteFunc(pairs, func(p pair) bool {
			verdicts := outcomes[p.program].verdicts
			if notes[p.program].luck {
				return true
			}
			if verdicts[p.runtime.name].passed() {
				if try > 1 {
					t.Logf("%s passes %s at try %d", p.runtime.name, p.program, try)
				}
				return true
			}
			another := slices.ContainsFunc(runtimes, func(r contestant) bool { return verdicts[r.name].passed() })
			if p.runtime.name == "sock" {
				return notes[p.program].deviates || !another && !recorded[p.program]
			}
			return !another || !*update // only the table needs to be right about the others
		})
	}
	return outcomes
}

func runPairs(t *testing.T, suite string, pairs []pair, outcomes map[string]outcome) {
	t.Helper()
	var (
		mutex   sync.Mutex
		group   sync.WaitGroup
		tickets = make(chan struct{}, parallel)
	)
	for _, p := range pairs {
		tickets <- struct{}{}
		group.Go(func() {
			defer func() { <-tickets }()
			name := fmt.Sprintf("sock-conformance-%d-%s-%s", os.Getpid(), p.runtime.name, p.program)
			v, said, err := cell{name, suite, p.program, p.runtime.path, programTimeout}.run()
			mutex.Lock()
			defer mutex.Unlock()
			if err != nil {
				t.Errorf("%s, %s: %v", p.program, p.runtime.name, err)
			}
			outcomes[p.program].verdicts[p.runtime.name], outcomes[p.program].said[p.runtime.name] = v, said
		})
	}
	group.Wait()
}
