package engines

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	. "github.com/sock-runtime/sock/tests/sandbox"
)

// docs/engines.md says which scenario works with which engine. The tests note what happens, and compare it with what is written
// there in the end, or write it.
const (
	tableFile  = "../../docs/engines.md"
	tableBegin = "<!-- tables: begin; from go test ./tests/engines -update -->\n"
	tableEnd   = "<!-- tables: end -->\n"
)

var update = flag.Bool("update", false, "write "+filepath.Base(tableFile)+" anew")

// What the cells of a table say.
const (
	works   = "yes"
	refused = "no ¹" // an error, also with runc, for the machine lacks what the engine asks for
	lost    = "no ²" // also with runc
	unasked = "no ³" // the engine doesn't ask for it
	none    = "–"
)

const footnotes = `¹ The engine asks for capabilities that the machine of these tables lacks; runc fails there, too.
² Exit status or output are lost, with runc as well: runc's shim loses them, whatever it executes.
³ Docker asks for the outermost mount only: 20.10 always, 29 for a runtimeType, of whose features it knows nothing. It refuses
bind-recursive=readonly there.
`

// table has rows for scenarios, by name, and columns for engines.
type table struct {
	title   string
	columns []string
	rows    [][2]string // name and description of a scenario
}

// The columns.
const (
	oldDocker      = "Docker 20.10"
	dockerPath     = "Docker 29, path"
	dockerShim     = "Docker 29, runtimeType"
	dockerRunc     = "runc in Docker 29"
	podman         = "Podman"
	podmanRootless = "Podman, rootless"

	oldContainerd     = "1.6, runc's shim"
	oldContainerdShim = "1.6, our shim"
	containerdRunc    = "2.4, runc's shim"
	containerdShim    = "2.4, our shim"

	buildah         = "Buildah"
	buildahRootless = "Buildah, rootless"
)

var tables = []table{
	{"Docker and Podman", []string{oldDocker, dockerPath, dockerShim, dockerRunc, podman, podmanRootless}, [][2]string{
		{"demo", "`run -dt --hostname=subzero --memory 512MB --name demo`, then `exec -it demo sh` in a terminal"},
		{"run", "`run`: output, exit status, standard input, errors for what can't be executed, `--init`"},
		{"process", "`--user`, `--group-add`, `--workdir`, `--env`, `--hostname`, `--ulimit`, `--oom-score-adj`, `--sysctl`"},
		{"capabilities", "`--cap-add`, `--cap-drop`, seccomp profiles, `no-new-privileges`, masked paths"},
		{"privileged", "`--privileged` of `run` and `exec`"},
		{"host namespaces", "`--network`, `--pid`, `--ipc`, `--uts` and `--cgroupns host`"},
		{"namespaces of another", "`--network`, `--pid` and `--ipc container:X`"},
		{"host pids", "`--pid host` and `container:X`: the end of all processes with the container"},
		{"user namespaces", "user namespaces: `--userns-remap`, or `--userns` and `--uidmap`"},
		{"limits", "`--memory`, `--cpus`, `--pids-limit`, `--cpuset-cpus`"},
		{"out of memory", "out of memory: exit status and `OOMKilled`"},
		{"cgroup parent", "`--cgroup-parent`"},
		{"volumes", "`--volume`, named volumes, `--mount`, `--tmpfs`, `--shm-size`, `--read-only`"},
		{"read-only below", "`--volume …:ro`: mounts below the volume are read-only, too"},
		{"device", "`--device`"},
		{"network", "`--network none`, the bridge, `--publish`, `--network container:X`"},
		{"own network", "a network of one's own, `network connect`, `disconnect`"},
		{"exec", "`exec`: output, exit status, standard input, errors, `--user`, `--env`, `--workdir`, `--detach`; `top`"},
		{"terminal", "terminals of `run`, `exec` and `attach`, their size, detaching"},
		{"bytes", "megabytes through standard input, output and error"},
		{"storm", "many short `run` and `exec` at once"},
		{"life", "`create`, `start`, `stop`, `restart`, `kill`, `wait`, `rm`, `logs`"},
		{"pause", "`ps`, `stats`, `update`, `pause`, `unpause`"},
		{"stats", "figures of `stats`, `update` of a running container"},
		{"cp", "`cp`"},
		{"commit", "`commit` of a running container"},
		{"restart", "`--restart on-failure`"},
		{"policies", "`--restart always` and `unless-stopped`"},
		{"health", "health checks"},
		{"events", "events, in order"},
		{"more flags", "more: Docker's `--stop-signal`, signals by name; Podman's `--preserve-fds`, `--systemd`, `--umask` …"},
		{"build", "`build` by the classic builder"},
		{"options", "`runtimeType` with `options`; the runtime's type as a name"},
		{"live restore", "live-restore: a restart of dockerd"},
		{"killed daemons", "kill -9 of dockerd and its containerd: containers go on, with every byte of output"},
		{"killed daemon, ended", "kill -9 of dockerd: exit status and output of what ends meanwhile"},
		{"killed daemons, ended", "kill -9 of dockerd and its containerd: exit status and output of what ends meanwhile"},
		{"rootfs", "`--rootfs`"},
		{"pod", "pods"},
		{"hooks", "hooks"},
	}},
	{"containerd, by ctr", []string{oldContainerd, oldContainerdShim, containerdRunc, containerdShim}, [][2]string{
		{"run", "`run`: output, exit status, errors, `--env`, `--cwd`, `--seccomp`, a terminal"},
		{"tasks", "`task exec`, with a terminal too, `pause`, `resume`, `ps`, `metrics`, `kill`, `delete`; `--memory-limit`"},
		{"events", "events, in order"},
		{"bytes", "megabytes through standard input, output and error"},
		{"storm", "many short containers and execs at once"},
		{"killed workers", "kill -9 of the shim's worker, again and again, under load"},
		{"terminal", "the same under a terminal, no byte of which is lost"},
		{"killed containerd", "kill -9 of containerd and of workers: containers go on"},
	}},
	{"Buildah", []string{buildah, buildahRootless}, [][2]string{
		{"run", "`run`: output, exit status, errors, flags, volumes, host namespaces, a terminal"},
		{"user namespace", "user namespaces"},
		{"build", "`build` of a Containerfile"},
	}},
}

// noted is what happened, by column and scenario.
var noted = struct {
	sync.Mutex
	cells map[[2]string]string
}{cells: map[[2]string]string{}}

// note has a column's cell for a scenario say what happened.
func note(t *testing.T, column, name, cell string) {
	t.Helper()
	for _, table := range tables {
		if slices.Contains(table.columns, column) && slices.ContainsFunc(table.rows, func(row [2]string) bool { return row[0] == name }) {
			noted.Lock()
			defer noted.Unlock()
			noted.cells[[2]string{column, name}] = cell
			return
		}
	}
	t.Errorf("no table has a column %q with a row %q", column, name)
}

// played runs a scenario as a subtest, and notes in a column what it says in the end.
func played(t *testing.T, column, name string, test func(t *testing.T) string) {
	t.Helper()
	t.Run(name, func(t *testing.T) {
		if cell := test(t); cell != "" && !t.Failed() {
			note(t, column, name, cell)
		}
	})
}

// working notes, for a test that defers it, that a scenario works.
func working(t *testing.T, column, name string) {
	if !t.Failed() && !t.Skipped() {
		note(t, column, name, works)
	}
}

// checkTables compares what the tests noted with docs/engines.md, or writes it there. It returns the exit status.
func checkTables() int {
	noted.Lock()
	defer noted.Unlock()
	if len(noted.cells) == 0 {
		return 0
	}
	data, err := os.ReadFile(tableFile)
	before, rest, ok := strings.Cut(string(data), tableBegin)
	written, after, ok2 := strings.Cut(rest, tableEnd)
	if err != nil || !ok || !ok2 {
		return complain("%s has no tables between %q and %q (%v)", tableFile, tableBegin, tableEnd, err)
	}
	old := parse(written)
	if *update {
		if err := os.WriteFile(tableFile, []byte(before+tableBegin+render(old)+tableEnd+after), 0o644); err != nil {
			return complain("%v", err)
		}
		return 0
	}
	code := 0
	otherMachine := !strings.HasPrefix(written, machine()+"\n")
	for _, table := range tables {
		for _, column := range table.columns {
			for _, row := range table.rows {
				key := [2]string{column, row[0]}
				was, is := old[[2]string{column, row[1]}], noted.cells[key]
				if is == "" && emptied(table, column, was) {
					is = none
				}
				if is == "" || is == was || otherMachine && was != none && is != none {
					continue
				}
				code = complain("%s says %q of %q with %s, but %q is what happened: look whether that is right, then have it written by -update", tableFile, was, row[0], column, is)
			}
		}
	}
	return code
}

// emptied tells whether a cell for which nothing was noted must be empty, since all tests of its engine ran. What is lost
// usually may be there by luck.
func emptied(table table, column, was string) bool {
	whole := flag.Lookup("test.run").Value.String() == "" && flag.Lookup("test.skip").Value.String() == ""
	return whole && was != lost &&
		slices.ContainsFunc(table.rows, func(row [2]string) bool { return noted.cells[[2]string{column, row[0]}] != "" })
}

func complain(format string, args ...any) int {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
	return 1
}

// parse reads the cells of tables, by column and description.
func parse(text string) map[[2]string]string {
	cells := map[[2]string]string{}
	var columns []string
	for line := range strings.Lines(text) {
		parts := strings.Split(strings.TrimSpace(line), "|")
		if len(parts) < 4 {
			columns = nil
			continue
		}
		for i := range parts {
			parts[i] = strings.TrimSpace(parts[i])
		}
		if columns == nil {
			columns = parts
			continue
		}
		for i := 2; i < min(len(parts)-1, len(columns)); i++ {
			cells[[2]string{columns[i], parts[1]}] = parts[i]
		}
	}
	return cells
}

// render writes the tables, with the old cells where nothing was noted.
func render(old map[[2]string]string) string {
	var b strings.Builder
	fmt.Fprintln(&b, machine())
	for _, table := range tables {
		fmt.Fprintf(&b, "\n## %s\n\n| | %s |\n|---%s|\n", table.title, strings.Join(table.columns, " | "), strings.Repeat("|:-:", len(table.columns)))
		for _, row := range table.rows {
			fmt.Fprintf(&b, "| %s |", row[1])
			for _, column := range table.columns {
				cell := noted.cells[[2]string{column, row[0]}]
				if was := old[[2]string{column, row[1]}]; cell == "" && was != "" && !emptied(table, column, was) {
					cell = was
				} else if cell == "" {
					cell = none
				}
				fmt.Fprintf(&b, " %s |", cell)
			}
			fmt.Fprintln(&b)
		}
	}
	fmt.Fprintf(&b, "\n%s", footnotes)
	return b.String()
}

// machine says on what the tests ran.
func machine() string {
	var uts unix.Utsname
	_ = unix.Uname(&uts)
	release, _, _ := strings.Cut(unix.ByteSliceToString(uts.Release[:]), "-")
	capabilities := "all capabilities"
	if own, all := ownCapabilities(), allCapabilities(); own != all {
		capabilities = fmt.Sprintf("not all capabilities (%s of %s)", own, all)
	}
	return fmt.Sprintf("Linux %s, cgroup %s, %s.", release, ByCgroup("v1", "v2"), capabilities)
}
