package engines

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"golang.org/x/sys/unix"

	. "github.com/sock-runtime/sock/tests/sandbox"
)

// TestHundredContainers has a hundred containers run, with a Wait pending for each and some of them talking, also at a terminal,
// and kills the worker again and again while other containers and execs come, end, and are killed: nobody notices.
func TestHundredContainers(t *testing.T) {
	t.Parallel()
	k := newContainerd(t, flavour{dir: newest, shim: true}).api()
	const boxes, talkers, terminals = 100, 8, 3
	status := func(i int) uint32 { return uint32(i + 1) }
	var waits, making sync.WaitGroup
	talks := make([]*talk, boxes)
	ends := make([]uint32, boxes)
	for hand := range 4 {
		making.Go(func() {
			for i := hand; i < boxes; i += 4 {
				id := fmt.Sprint("box", i)
				s := k.fifos(id, i < terminals)
				talks[i] = s.talk()
				if !check(t, k.run(id, parrot, s)) || !check(t, talks[i].open()) {
					return
				}
				waits.Go(func() {
					var err error
					ends[i], err = k.wait(id, "")
					check(t, err)
				})
			}
		})
	}
	if making.Wait(); t.Failed() {
		return
	}

	stop := k.killWorkers()
	done := make(chan struct{})
	var load, talking sync.WaitGroup
	for i := range talkers {
		talking.Go(func() {
			for check(t, talks[i].on()) {
				select {
				case <-done:
					return
				case <-time.After(10 * time.Millisecond):
				}
			}
		})
	}
	var mu sync.Mutex
	lives, execs := map[string]uint32{}, map[string]uint32{}
	note := func(m map[string]uint32, key string, status uint32) {
		mu.Lock()
		defer mu.Unlock()
		m[key] = status
	}
	const rounds = 8
	for hand := range 2 {
		load.Go(func() { // short execs
			for i := range rounds {
				id, exec, want := fmt.Sprint("box", (i*7+hand*13)%boxes), fmt.Sprintf("x%d-%d", hand, i), uint32(100+i)
				s := k.fifos(exec, false)
				said := text(s.out)
				if !check(t, k.exec(id, exec, fmt.Sprintf("echo %s; exit %d", exec, want), stdio{out: s.out})) || !check(t, k.ended(id, exec, want)) {
					return
				}
				Equal(t, "output of "+exec, <-said, exec+"\n")
				note(execs, id+"/"+exec, want)
			}
		})
		load.Go(func() { // short containers
			for i := range rounds {
				id, want := fmt.Sprintf("life%d-%d", hand, i), uint32(150+i)
				s := k.fifos(id, hand == 1)
				said := text(s.out)
				if !check(t, k.run(id, fmt.Sprintf("echo -n %s; exit %d", id, want), stdio{out: s.out, terminal: s.terminal})) || !check(t, k.ended(id, "", want)) {
					return
				}
				Equal(t, "output of "+id, <-said, id)
				note(lives, id, want)
			}
		})
		load.Go(func() { // killed ones
			for i := range rounds {
				id, exec := fmt.Sprint("box", (i*11+hand*3)%boxes), fmt.Sprintf("k%d-%d", hand, i)
				if !check(t, k.exec(id, exec, "sleep 1000", stdio{})) {
					return
				}
				_, err := k.tasks.Kill(k.ctx, &tasks.KillRequest{ContainerID: id, ExecID: exec, Signal: uint32(unix.SIGKILL)})
				if !check(t, err) || !check(t, k.ended(id, exec, 137)) {
					return
				}
				note(execs, id+"/"+exec, 137)
			}
		})
	}
	load.Wait()
	Eventually(t, "the tenth kill", func() error { // for those that talk, if the machine is fast
		if kills := k.kills.Load(); kills < 10 {
			return fmt.Errorf("%d kills", kills)
		}
		return nil
	})
	close(done)
	talking.Wait()
	t.Logf("%d kills", stop())

	all := k.statuses()
	for i := range boxes {
		Equal(t, fmt.Sprint("status of box", i), all[fmt.Sprint("box", i)], "RUNNING")
	}
	Equal(t, "number of tasks", len(all), boxes)
	if t.Failed() {
		return
	}
	for i := range boxes {
		check(t, talks[i].end(status(i)))
	}
	waits.Wait()
	for i := range boxes {
		id := fmt.Sprint("box", i)
		Equal(t, "what Wait says of "+id, ends[i], status(i))
		got, err := k.delete(id, "")
		check(t, err)
		Equal(t, "what Delete says of "+id, got, status(i))
		k.lived(id, status(i))
	}
	for id, status := range lives {
		k.lived(id, status)
	}
	for key, status := range execs {
		k.happened(key, "added", "started", fmt.Sprint("exit ", status))
	}
}

// TestContainerdKilled kills containerd, twice, and starts it anew: what ran runs, what ended meanwhile has its status, and
// nothing that was said meanwhile is lost.
func TestContainerdKilled(t *testing.T) {
	onShims(t, func(t *testing.T, f flavour) {
		k := newContainerd(t, f).api()
		program := "containerd"
		if f.dir != "" {
			var err error
			program, err = filepath.Abs(filepath.Join(f.dir, "containerd"))
			Must(t, err)
		}
		talks := map[string]*talk{}
		begin := func(id, exec string, terminal bool) {
			t.Helper()
			name := id + exec
			s := k.fifos(name, terminal)
			talks[name] = s.talk()
			if exec == "" {
				Must(t, k.run(id, parrot, s))
			} else {
				Must(t, k.exec(id, exec, parrot, s))
			}
			Must(t, talks[name].open())
		}
		for i, id := range []string{"stays", "tty", "ends0", "ends1"} {
			begin(id, "", i == 1)
			begin(id, "x", i == 1)
		}
		begin("stays", "ends0", false)
		begin("stays", "ends1", false)
		for round := range 2 {
			// One end comes to a containerd that is about to be killed, the others to none.
			gone := fmt.Sprint("ends", round)
			Must(t, talks[gone+"x"].end(70))
			Must(t, k.server.Process.Kill())
			_ = k.server.Wait()
			Must(t, talks[gone].end(71))
			Must(t, talks["stays"+gone].end(72))
			for _, name := range []string{"stays", "staysx", "tty", "ttyx"} {
				Must(t, talks[name].on())
			}
			k.restart(program)
			k.listen()
			all := k.statuses()
			for id, want := range map[string]string{"stays": "RUNNING", "tty": "RUNNING", gone: "STOPPED"} {
				Equal(t, "status of "+id, all[id], want)
			}
			Must(t, k.ended(gone, "x", 70))
			Must(t, k.ended("stays", gone, 72))
			Must(t, k.ended(gone, "", 71))
			k.journalIsEmpty()
		}
		// All is as it was for those that go on, and for new ones.
		for _, id := range []string{"stays", "tty"} {
			Must(t, talks[id+"x"].on())
			Must(t, talks[id+"x"].end(80))
			Must(t, k.ended(id, "x", 80))
			k.happened(id+"/x", "exit 80")
			Must(t, talks[id].on())
			Must(t, talks[id].end(81))
			Must(t, k.ended(id, "", 81))
			k.happened(id, "exit 81", "delete 81")
		}
		Must(t, k.run("new", "exit 9", stdio{}))
		Must(t, k.ended("new", "", 9))
		k.lived("new", 9)
		if keepers := k.shimProcesses("keeper"); len(keepers) != 1 {
			t.Errorf("keepers: %v", keepers)
		}
	})
}

// restart starts containerd for a client, which may have to wait before it connects again.
func (k *apiClient) restart(program string) {
	k.Helper()
	k.containerd.start(program)
	k.conn.ResetConnectBackoff()
}

// journalIsEmpty waits until containerd has acknowledged all events.
func (k *apiClient) journalIsEmpty() {
	k.Helper()
	Eventually(k.T, "an empty journal", func() error {
		journals, err := filepath.Glob(fmt.Sprintf("/proc/%d/root/run/sock-shim/*/events", k.Room.Pid()))
		if err != nil || len(journals) != 1 {
			return fmt.Errorf("%v, %v", journals, err)
		}
		if info, err := os.Stat(journals[0]); err != nil || info.Size() != 8 {
			return fmt.Errorf("%v, %v", info.Size(), err)
		}
		return nil
	})
}
