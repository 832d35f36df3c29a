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
	// While dockerd is killed nobody writes: what it has read, but not written down, is lost with it.
	const lines = `seq 1000; until [ -e /v/more ]; do sleep 0.05; done; seq 1001 3000; until [ -e /v/end ]; do sleep 0.05; done; echo last; exit 5`
	mark := func(name string) { Must(c.T, os.WriteFile(filepath.Join(dir, name), nil, 0o644)) }
	ending := []string{"pipe", "terminal"}
	c.start("pipe", "--volume "+dir+":/v", lines)
	c.start("terminal", "--tty --volume "+dir+":/v", lines)
	c.start("stays", "", untilTerm)
	c.start("frozen", "", untilTerm)
	c.start("asks", "--interactive", "echo ready; read line; echo got $line; exit 6")
	staying := []string{"stays", "frozen", "asks"}
	for _, name := range ending {
		c.waitFor(name, "1000")
	}
	for _, name := range staying {
		c.waitFor(name, "ready")
	}
	c.OK("pause", "frozen")
	pids := map[string]int{}
	for _, name := range append(staying, ending...) {
		pids[name] = Atoi(c.inspect(name, ".State.Pid"))
	}
	end := func() {
		mark("end")
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
	mark("more")
	if meanwhile {
		end()
	}
	restart()
	c.wantStatus("stays", "running")
	c.wantStatus("frozen", "paused")
	for _, name := range staying {
		Equal(c.T, "pid of "+name, Atoi(c.inspect(name, ".State.Pid")), pids[name])
	}
	c.OK("unpause", "frozen")
	c.OK("stop", "frozen")
	Equal(c.T, "exit status", c.inspect("frozen", ".State.ExitCode"), "3")
	attach := c.Command("attach", "asks")
	attach.Stdin = strings.NewReader("typed\n")
	if r := c.Do(attach); r.Code != 6 {
		c.Errorf("want 6: %v", r)
	}
	c.waitFor("asks", "ready\ngot typed\n")
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
	for i := range 3000 {
		fmt.Fprintln(&want, i+1)
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
