package engines

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	. "github.com/sock-runtime/sock/tests/sandbox"
)

// dockerLiveRestore has a container outlive the daemon and containerd.
func dockerLiveRestore(c client, d *daemon) {
	c.start("box", "", untilTerm)
	c.waitFor("box", "ready")
	pid := Atoi(c.inspect("box", ".State.Pid"))
	d.stop(c)
	if !Alive(pid) {
		c.Error("the container ended with dockerd")
	}
	d.start(c)
	c.wantStatus("box", "running")
	Equal(c.T, "pid", Atoi(c.inspect("box", ".State.Pid")), pid)
	c.Prints("0", "exec", "box", "id", "-u")
	c.OK("pause", "box")
	c.OK("unpause", "box")
	c.OK("stop", "box")
	Equal(c.T, "exit status", c.inspect("box", ".State.ExitCode"), "3")
}

// dockerKilled kills the engine's daemons under containers and brings them back: they go on, and not a byte of theirs is lost.
func dockerKilled(c client, kill, restart func()) { dockerCrash(c, kill, restart, false) }

// dockerEnded has containers end while the daemons are away. runc's shim loses their exit status or their output; ours doesn't.
func dockerEnded(c client, kill, restart func()) { dockerCrash(c, kill, restart, true) }

func dockerCrash(c client, kill, restart func(), meanwhile bool) {
	dir := c.HostDir()
	const (
		count = 3000
		lines = `i=0; while [ $i -lt 3000 ]; do echo $i; i=$((i + 1)); [ $((i % 100)) != 0 ] || sleep 0.05; done; until [ -e /v/go ]; do sleep 0.05; done; echo last; exit 5`
	)
	ending := []string{"pipe", "terminal"}
	c.start("pipe", "--volume "+dir+":/v", lines)
	c.start("terminal", "--tty --volume "+dir+":/v", lines)
	c.start("stays", "--interactive", untilTerm)
	for _, name := range ending {
		c.waitFor(name, "1000")
	}
	pids := map[string]int{}
	for _, name := range append(ending, "stays") {
		pids[name] = Atoi(c.inspect(name, ".State.Pid"))
	}
	end := func() {
		Must(c.T, os.WriteFile(filepath.Join(dir, "go"), nil, 0o644))
		for _, name := range ending {
			Eventually(c.T, "the end of "+name, func() error {
				if Alive(pids[name]) {
					return fmt.Errorf("%d is alive", pids[name])
				}
				return nil
			})
		}
	}
	kill()
	for name, pid := range pids {
		if !Alive(pid) {
			c.Errorf("%s ended with the daemons", name)
		}
	}
	if meanwhile {
		end()
	}
	restart()
	c.wantStatus("stays", "running")
	Equal(c.T, "pid", Atoi(c.inspect("stays", ".State.Pid")), pids["stays"])
	c.Prints("0", "exec", "stays", "id", "-u")
	c.OK("pause", "stays")
	c.OK("unpause", "stays")
	c.OK("stop", "stays")
	Equal(c.T, "exit status", c.inspect("stays", ".State.ExitCode"), "3")
	c.OK("start", "stays")
	if !meanwhile {
		end()
	}
	var want strings.Builder
	for i := range count {
		fmt.Fprintln(&want, i)
	}
	want.WriteString("last\n")
	for _, name := range ending {
		c.OK("wait", name)
		ended := c.inspect(name, ".State.Status") + " " + c.inspect(name, ".State.ExitCode")
		log := func() string { return strings.ReplaceAll(c.Try("logs", name).Stdout, "\r", "") }
		if meanwhile && c.column != dockerShim {
			*c.cell = "" // by luck
			if ended != "exited 5" || log() != want.String() {
				*c.cell = lost
				return
			}
			continue
		}
		Equal(c.T, "status of "+name, ended, "exited 5")
		Eventually(c.T, "log of "+name, func() error {
			if got := log(); got != want.String() {
				return fmt.Errorf("%d bytes of %d", len(got), want.Len())
			}
			return nil
		})
	}
}
