package keeper

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sock-runtime/sock/shim/wire"
)

func TestListeners(t *testing.T) {
	k := start(t)
	k.dial("task.sock").want("kind", "1")
	k.dial("control.sock").want("kind", "2")
}

// TestKillUnderLoad kills the worker a hundred times while clients call, large frames pass and processes end. Every request
// is answered once, every process's exit status is its own, what was held is there in the end.
func TestKillUnderLoad(t *testing.T) {
	k := start(t)
	kills := 100
	if testing.Short() {
		kills = 10
	}
	var wg sync.WaitGroup
	stop := make(chan struct{})
	stopped := func() bool {
		select {
		case <-stop:
			return true
		default:
			return false
		}
	}
	var mu sync.Mutex
	calls, children := 0, 0
	holder := k.dial("task.sock")
	for i := range 20 {
		holder.want(fmt.Sprintf("hold pipe%d text%d", i, i), fmt.Sprintf("pipe%d text%d", i, i))
	}

	// Many requests under way at once, answered in any order.
	for i := range 4 {
		c := k.dial("task.sock")
		wg.Go(func() {
			open := map[uint32]string{}
			seen := map[uint32]bool{}
			for n := 0; !stopped() || len(open) > 0; n++ {
				for len(open) < 20 && !stopped() {
					text := fmt.Sprintf("client%d-%d", i, n)
					n++
					if n%50 == 0 {
						text += strings.Repeat("x", rand.IntN(300_000))
					}
					open[c.send(fmt.Sprintf("nap %d %s", rand.IntN(30), text))] = text
				}
				_ = c.c.SetReadDeadline(time.Now().Add(time.Minute))
				stream, payload, err := readFrame(c.c)
				if err != nil {
					t.Errorf("client %d: %v", i, err)
					return
				}
				if want, ok := open[stream]; !ok || seen[stream] || want != string(payload) {
					t.Errorf("client %d: stream %d (open %v, answered before %v): %.40q, want %.40q", i, stream, ok, seen[stream], payload, want)
					return
				}
				delete(open, stream)
				seen[stream] = true
			}
			mu.Lock()
			calls += len(seen)
			mu.Unlock()
		})
	}
	// Processes with exit statuses of their own; orphans, too.
	for i := range 3 {
		c := k.dial("task.sock")
		wg.Go(func() {
			n := 0
			for ; !stopped(); n++ {
				status := 1 + rand.IntN(250)
				at := c.call(fmt.Sprintf("spawn %d-%d (sleep 0.0%d; exit 3) & (exit 4) & sleep 0.0%d; exit %d", i, n, rand.IntN(10), rand.IntN(10), status))
				if got := c.call("wait " + at); got != strconv.Itoa(status<<8) {
					t.Errorf("process %s: wait status %s, want %d", at, got, status<<8)
					return
				}
			}
			mu.Lock()
			children += n
			mu.Unlock()
		})
	}
	killed := 0
	last := 0
	for deadline := time.Now().Add(4 * time.Minute); killed < kills && !t.Failed(); {
		if time.Now().After(deadline) {
			t.Errorf("only %d kills", killed)
			break
		}
		time.Sleep(time.Duration(5+rand.IntN(40)) * time.Millisecond)
		if pid := k.worker(); pid != last && k.kill() {
			killed++
			last = pid
		}
	}
	close(stop)
	wg.Wait()
	for i := range 20 {
		holder.want(fmt.Sprintf("read pipe%d", i), fmt.Sprintf("text%d", i))
	}
	t.Logf("%d kills, %d calls, %d processes", killed, calls, children)
	if calls < 5*kills || children < kills/2 {
		t.Errorf("too little load: %d calls, %d processes", calls, children)
	}
	k.nothingLeft()
}

// nothingLeft waits until the keeper has no child but its worker, and no descriptors of clients that are gone.
func (k *running) nothingLeft() {
	k.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		var children []string
		tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", k.pid))
		for _, name := range tasks {
			b, _ := os.ReadFile(name)
			children = append(children, strings.Fields(string(b))...)
		}
		if len(children) == 1 {
			return
		}
		if time.Now().After(deadline) {
			k.Errorf("the keeper's children: %v", children)
			return
		}
	}
}

// TestWaitSurvives has one Wait answered by the fourth worker.
func TestWaitSurvives(t *testing.T) {
	k := start(t)
	c := k.dial("task.sock")
	at := c.call("spawn a read x < " + k.fifo() + "; exit 42")
	stream := c.send("wait " + at)
	for range 3 {
		k.replace()
	}
	if err := os.WriteFile(filepath.Join(k.dir, "fifo"), []byte("go\n"), 0); err != nil {
		t.Fatal(err)
	}
	got, payload, err := readFrame(c.c)
	if err != nil || got != stream || string(payload) != strconv.Itoa(42<<8) {
		t.Fatalf("stream %d: %q, %v", got, payload, err)
	}
}

func (k *running) fifo() string {
	name := filepath.Join(k.dir, "fifo")
	if err := unix.Mkfifo(name, 0o600); err != nil {
		k.Fatal(err)
	}
	return name
}

// replace kills the worker and waits for the next one.
func (k *running) replace() {
	k.Helper()
	before := k.worker()
	if !k.kill() {
		k.Fatal("no worker")
	}
	for deadline := time.Now().Add(20 * time.Second); k.worker() == before; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			k.Fatal("no new worker")
		}
	}
}

// TestExitWithoutWorker has a process end while there is no worker, and one before that which no worker acknowledged.
func TestExitWithoutWorker(t *testing.T) {
	k := start(t)
	c := k.dial("task.sock")
	at := c.call("spawn a read x < " + k.fifo() + "; exit 9")
	k.breakWorker(true)
	k.kill()
	if err := os.WriteFile(filepath.Join(k.dir, "fifo"), []byte("go\n"), 0); err != nil {
		t.Fatal(err)
	}
	stream := c.send("wait " + at)
	time.Sleep(200 * time.Millisecond) // several workers fail meanwhile
	k.breakWorker(false)
	got, payload, err := readFrame(c.c)
	if err != nil || got != stream || string(payload) != strconv.Itoa(9<<8) {
		t.Fatalf("stream %d: %q, %v", got, payload, err)
	}
}

// breakWorker has workers fail at their start, or not any more.
func (k *running) breakWorker(broken bool) {
	k.Helper()
	name := filepath.Join(k.dir, "broken")
	var err error
	if broken {
		err = os.WriteFile(name, nil, 0o600)
	} else {
		err = os.Remove(name)
	}
	if err != nil {
		k.Fatal(err)
	}
}

// TestBackoff has workers fail for a while: not too many of them are started, and requests wait.
func TestBackoff(t *testing.T) {
	k := start(t)
	first := k.dial("task.sock")
	first.want("echo warm", "warm")
	k.breakWorker(true)
	k.kill()
	var clients []*client
	for i := range 50 {
		c := k.dial("task.sock")
		c.send("echo " + strconv.Itoa(i))
		clients = append(clients, c)
	}
	time.Sleep(1500 * time.Millisecond)
	log, err := os.ReadFile(filepath.Join(k.dir, LogFile))
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(log, []byte("worker ended")); n < 5 || n > 13 {
		t.Errorf("%d workers were started in 1.5 s", n)
	}
	k.breakWorker(false)
	for i, c := range clients {
		_ = c.c.SetReadDeadline(time.Now().Add(20 * time.Second))
		if _, payload, err := readFrame(c.c); err != nil || string(payload) != strconv.Itoa(i) {
			t.Fatalf("client %d: %q, %v", i, payload, err)
		}
	}
	first.want("echo again", "again")
}

func TestDelay(t *testing.T) {
	total := time.Duration(0)
	for i := range 100 {
		d := delay(i)
		if d < 0 || d > time.Second || i <= 2 && d != 0 || i > 2 && d == 0 {
			t.Fatalf("after %d failures: %v", i, d)
		}
		total += d
	}
	if delay(99) != time.Second {
		t.Fatalf("at last %v", delay(99))
	}
}

// TestBadClients breaks the rules in many ways; others notice nothing.
func TestBadClients(t *testing.T) {
	k := start(t)
	good := k.dial("task.sock")
	wait := good.call("spawn a sleep 100")
	good.send("wait " + wait)
	for _, name := range []string{"task.sock", "control.sock"} {
		// Half a header, half a frame, a request without waiting for the answer.
		for _, b := range []string{"", "\x00\x00", "\x00\x00\x00\x08\x00\x00\x00\x01\x01\x00half", string(wire.AppendFrame(nil, 1, wire.Request, []byte("nap 50 x")))} {
			c := k.dial(name)
			_, _ = c.c.Write([]byte(b))
			_ = c.c.Close()
		}
		// A frame that is too long.
		c := k.dial(name)
		_, _ = c.c.Write([]byte("\xff\xff\xff\xff\x00\x00\x00\x01\x01\x00"))
		_ = c.c.SetReadDeadline(time.Now().Add(20 * time.Second))
		if n, err := c.c.Read(make([]byte, 1)); n != 0 || err == nil || os.IsTimeout(err) {
			t.Errorf("%s: a frame of 4 GiB: %d, %v", name, n, err)
		}
		// The longest that is not, in two pieces.
		c = k.dial(name)
		text := strings.Repeat("y", wire.MaxFrame-len("echo "))
		b := wire.AppendFrame(nil, 1, wire.Request, []byte("echo "+text))
		go func() {
			_, _ = c.c.Write(b[:100_000])
			time.Sleep(20 * time.Millisecond)
			_, _ = c.c.Write(b[100_000:])
		}()
		if _, payload, err := readFrame(c.c); err != nil || string(payload) != text {
			t.Errorf("%s: 4 MiB: %d bytes, %v", name, len(payload), err)
		}
		// Responses and data that nobody asked for.
		c = k.dial(name)
		_, _ = c.c.Write(wire.AppendFrame(wire.AppendFrame(nil, 1, wire.Response, nil), 1, 200, []byte("z")))
	}
	k.dial("task.sock").want("echo fine", "fine")
	k.replace()
	k.dial("task.sock").want("echo fine", "fine")
	pid, _, _ := strings.Cut(wait, " ")
	n, _ := strconv.Atoi(pid)
	_ = unix.Kill(n, unix.SIGTERM)
	if _, payload, err := readFrame(good.c); err != nil || string(payload) != "15" {
		t.Fatalf("%q, %v", payload, err)
	}
}

// TestClientThatDoesntRead asks for much and reads nothing, until late: the keeper's memory stays small, others are served,
// and in the end all is there.
func TestClientThatDoesntRead(t *testing.T) {
	k := start(t)
	lazy := k.dial("task.sock")
	const count, size = 300, 1 << 20
	text := strings.Repeat("w", size)
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for range count {
			lazy.send("echo " + text)
		}
	}()
	other := k.dial("task.sock")
	for range 50 {
		other.want("echo quick", "quick")
		time.Sleep(10 * time.Millisecond)
	}
	if rss := memory(t, k.pid, "Rss"); rss > 150<<10 {
		t.Errorf("the keeper has %d KiB", rss)
	}
	k.replace()
	for i := range count {
		if _, payload, err := readFrame(lazy.c); err != nil || len(payload) != size {
			t.Fatalf("answer %d: %d bytes, %v", i, len(payload), err)
		}
	}
	<-sent
}

// TestManyConnections opens thousands, all with a request that is replayed to a second worker.
func TestManyConnections(t *testing.T) {
	k := start(t)
	const count = 3000
	k.dial("control.sock").want("echo x", "x")
	before := descriptors(t, k.pid)
	clients := make([]*client, count)
	for i := range clients {
		clients[i] = k.dial("task.sock")
		clients[i].send("nap 300 n" + strconv.Itoa(i))
	}
	k.replace()
	for i, c := range clients {
		if _, payload, err := readFrame(c.c); err != nil || string(payload) != "n"+strconv.Itoa(i) {
			t.Fatalf("client %d: %q, %v", i, payload, err)
		}
		_ = c.c.Close()
	}
	k.dial("task.sock").want("echo x", "x") // one more, and Go may have set up its poller
	for deadline := time.Now().Add(10 * time.Second); descriptors(t, k.pid) > before+3; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			out, _ := exec.Command("ls", "-l", fmt.Sprintf("/proc/%d/fd", k.pid)).CombinedOutput()
			t.Fatalf("%d descriptors, before %d:\n%s", descriptors(t, k.pid), before, out)
		}
	}
}

// TestTooManyConnections has the keeper run out of descriptors: connections wait, and are served when others end.
func TestTooManyConnections(t *testing.T) {
	k := start(t)
	k.dial("task.sock").want("echo x", "x")
	limit := unix.Rlimit{Cur: 100, Max: 100}
	if err := unix.Prlimit(k.pid, unix.RLIMIT_NOFILE, &limit, nil); err != nil {
		t.Fatal(err)
	}
	var clients []*client
	for range 120 {
		clients = append(clients, k.dial("task.sock"))
	}
	late := clients[len(clients)-1]
	late.send("echo late")
	_ = late.c.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
	if _, _, err := readFrame(late.c); !os.IsTimeout(err) {
		t.Fatalf("the last connection: %v", err)
	}
	cpu := cpuTicks(t, k.pid)
	time.Sleep(300 * time.Millisecond)
	if used := cpuTicks(t, k.pid) - cpu; used > 10 {
		t.Errorf("%d ticks of CPU time for waiting", used)
	}
	for _, c := range clients[:60] {
		_ = c.c.Close()
	}
	_ = late.c.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, payload, err := readFrame(late.c); err != nil || string(payload) != "late" {
		t.Fatalf("the last connection: %q, %v", payload, err)
	}
}

func TestHold(t *testing.T) {
	k := start(t)
	c := k.dial("task.sock")
	c.want("hold a one", "a one")
	c.want("hold b two", "b two")
	c.want("hold a three", "a three")
	c.want("hold c four", "c four")
	c.want("drop c", "c")
	c.want("drop never", "never")
	k.replace()
	c.want("read a", "three")
	c.want("read b", "two")
	c.want("read c", "nothing is held")
	n := descriptors(t, k.pid)
	for range 50 {
		c.want("hold a again", "a again")
	}
	if after := descriptors(t, k.pid); after != n {
		t.Errorf("descriptors: %d, then %d", n, after)
	}
}

// TestLastWords has a worker die right after it has said much, which the keeper reads only when it is dead.
func TestLastWords(t *testing.T) {
	link, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	client, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	k := &keeper{conns: map[uint64]*conn{}, byFD: map[int]*conn{}, held: map[string]int{}, worker: worker{socket: link[0]}}
	k.conns[1] = &conn{id: 1, fd: client[0], requests: [][]byte{wire.AppendFrame(nil, 3, wire.Request, nil)}}
	answer := wire.AppendFrame(nil, 3, wire.Response, bytes.Repeat([]byte("l"), 150_000)) // more than one read
	words := wire.Append(nil, wire.Message{Kind: wire.Frame, Conn: 1, Payload: answer})
	if n, err := wire.Send(link[1], words, -1); n != len(words) || err != nil {
		t.Fatal(n, err)
	}
	words = wire.Append(nil, wire.Message{Kind: wire.Hold, Payload: []byte("kept")})
	if n, err := wire.Send(link[1], words, link[1]); n != len(words) || err != nil {
		t.Fatal(n, err)
	}
	words = wire.Append(nil, wire.Message{Kind: wire.Drop, Payload: []byte("kept")})
	if n, err := wire.Send(link[1], words[:len(words)-1], -1); n != len(words)-1 || err != nil { // it was killed in the middle of it
		t.Fatal(n, err)
	}
	_ = unix.Close(link[1])
	k.endWorker()
	if len(k.conns[1].requests) != 0 || len(k.held) != 1 || k.worker.socket >= 0 {
		t.Errorf("unanswered requests: %d, held: %v", len(k.conns[1].requests), k.held)
	}
	got := 0
	for {
		n, err := unix.Read(client[1], make([]byte, 65536))
		if n <= 0 || err != nil {
			break
		}
		got += n
	}
	if got+len(k.conns[1].out) != len(answer) {
		t.Errorf("the client got %d bytes and will get %d of %d", got, len(k.conns[1].out), len(answer))
	}
	for _, fd := range []int{client[0], client[1], k.held["kept"]} {
		_ = unix.Close(fd)
	}
}

// TestHandOver checks that nothing is dropped or replaced while its number waits to be sent.
func TestHandOver(t *testing.T) {
	k := &keeper{held: map[string]int{"a": 1000}, worker: worker{out: []chunk{{fd: 1000}}}}
	if err := k.obey(wire.Message{Kind: wire.Drop, Payload: []byte("a"), FD: -1}); err == nil || len(k.held) != 1 {
		t.Errorf("dropped: %v", err)
	}
	k.worker.out = []chunk{{fd: -1}}
	if err := k.obey(wire.Message{Kind: wire.Drop, Payload: []byte("b"), FD: -1}); err != nil {
		t.Error(err)
	}
}

// TestBadWorker sends nonsense in a worker's place: it is replaced.
func TestBadWorker(t *testing.T) {
	k := start(t)
	c := k.dial("task.sock")
	for range 3 {
		c.want("echo fine", "fine")
		before := k.worker()
		// Its end of the link is reachable through /proc only as a new descriptor; so is nothing but a pidfd's copy.
		pidfd, err := unix.PidfdOpen(before, 0)
		if err != nil {
			t.Fatal(err)
		}
		fd, err := unix.PidfdGetfd(pidfd, 3, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := unix.Write(fd, bytes.Repeat([]byte{0xee}, 64)); err != nil {
			t.Fatal(err)
		}
		_, _ = unix.Close(fd), unix.Close(pidfd)
		for deadline := time.Now().Add(20 * time.Second); k.worker() == before; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("the worker stayed")
			}
		}
	}
	c.want("echo fine", "fine")
}

func TestQuit(t *testing.T) {
	k := start(t)
	c := k.dial("task.sock")
	if got := c.call("quit"); got != "" {
		t.Fatalf("quit: %q", got)
	}
	c.want("echo still", "still") // it was connected
	// It does so when a client is gone whose request the worker carries out.
	_ = c.c.Close()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		l, err := net.Dial("unix", filepath.Join(k.dir, "control.sock"))
		if err != nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the keeper doesn't quit")
		}
		_, _ = l.Write(wire.AppendFrame(nil, 1, wire.Request, []byte("quit")))
		_ = l.Close()
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if _, err := os.Stat(k.dir); os.IsNotExist(err) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the directory stays")
		}
	}
}

// TestUpgrade replaces the keeper by another executable, under load, and a few times.
func TestUpgrade(t *testing.T) {
	k := start(t)
	c := k.dial("task.sock")
	c.want("hold a kept", "a kept")
	at := c.call("spawn a read x < " + k.fifo() + "; exit 5")
	waiting := k.dial("task.sock")
	waiting.send("wait " + at)
	half := k.dial("task.sock")
	frame := wire.AppendFrame(nil, 1, wire.Request, []byte("echo halves"))
	_, _ = half.c.Write(frame[:15])
	lazy := k.dial("task.sock")
	text := strings.Repeat("w", 1<<20)
	go func() {
		for range 3 {
			lazy.send("echo " + text)
		}
	}()
	time.Sleep(100 * time.Millisecond)

	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(k.dir, "other")
	copyFile(t, exe, other)
	stop, ended := make(chan struct{}), make(chan int)
	busy := k.dial("task.sock")
	go func() {
		n := 0
		defer func() { ended <- n }()
		for ; ; n++ {
			select {
			case <-stop:
				return
			default:
			}
			status := 1 + n%200
			at := busy.call(fmt.Sprintf("spawn busy%d (exit 7) & exit %d", n, status))
			if got := busy.call("wait " + at); got != strconv.Itoa(status<<8) {
				t.Errorf("process %s: %s, want %d", at, got, status<<8)
				return
			}
		}
	}()
	control := k.dial("control.sock")
	for i, to := range []string{other, exe, other} {
		time.Sleep(50 * time.Millisecond)
		before := k.worker()
		// The worker dies of it, so the request may be replayed, and the keeper upgraded once more.
		if got := control.call("upgrade " + to); got != to {
			t.Fatalf("upgrade %d: %q", i, got)
		}
		for deadline := time.Now().Add(20 * time.Second); k.exe() != to || k.worker() == before; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("upgrade %d: the keeper is %s", i, k.exe())
			}
		}
	}
	close(stop)
	t.Logf("%d processes meanwhile", <-ended)

	_, _ = half.c.Write(frame[15:])
	if _, payload, err := readFrame(half.c); err != nil || string(payload) != "halves" {
		t.Errorf("halves: %q, %v", payload, err)
	}
	for i := range 3 {
		if _, payload, err := readFrame(lazy.c); err != nil || string(payload) != text {
			t.Errorf("unread answer %d: %d bytes, %v", i, len(payload), err)
		}
	}
	if err := os.WriteFile(filepath.Join(k.dir, "fifo"), []byte("go\n"), 0); err != nil {
		t.Fatal(err)
	}
	if _, payload, err := readFrame(waiting.c); err != nil || string(payload) != strconv.Itoa(5<<8) {
		t.Errorf("wait: %q, %v", payload, err)
	}
	c.want("read a", "kept")
	k.dial("task.sock").want("echo new", "new")
	k.nothingLeft()

	// What is no keeper isn't taken.
	for _, to := range []string{"/bin/false", "/does/not/exist", "/bin/true\x00", "/etc/passwd"} {
		before := k.worker()
		c.send("upgrade " + to)
		for k.worker() == before {
			time.Sleep(time.Millisecond)
		}
		_, _, _ = readFrame(c.c)
		c.want("read a", "kept")
		if k.exe() != other {
			t.Errorf("the keeper is %s", k.exe())
		}
	}
}

func (k *running) exe() string {
	exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", k.pid))
	return exe
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, b, 0o700)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestTables(t *testing.T) {
	k := &keeper{conns: map[uint64]*conn{}, byFD: map[int]*conn{}, held: map[string]int{"a": 5, "": 6}, lastID: 1 << 40}
	k.listening = [Listeners]int{8, 9}
	k.exits = []wire.Exit{{Pid: 1, Start: 2, Status: 3, At: 4}}
	k.conns[7] = &conn{id: 7, fd: 12, listener: 2, in: []byte("in"), requests: [][]byte{[]byte("r1"), []byte("r2")}, out: []byte("out")}
	k.conns[3] = &conn{id: 3, fd: 13, listener: 1, finished: true}
	b := k.tables()
	got := &keeper{conns: map[uint64]*conn{}, byFD: map[int]*conn{}, held: map[string]int{}}
	if err := got.restore(b); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.tables(), b) && len(k.held) == 1 || got.load != 4 || got.lastID != 1<<40 || got.byFD[12].out == nil {
		t.Errorf("got %+v", got)
	}
	for n := range b {
		broken := &keeper{conns: map[uint64]*conn{}, byFD: map[int]*conn{}, held: map[string]int{}}
		if broken.restore(b[:n]) == nil {
			t.Fatalf("%d bytes of %d were taken", n, len(b))
		}
	}
}

// TestMemory measures what a keeper costs with nothing to do, and after much.
func TestMemory(t *testing.T) {
	k := start(t)
	c := k.dial("task.sock")
	c.want("echo x", "x")
	t.Logf("at first: PSS %d KiB, RSS %d KiB, private %d KiB", memory(t, k.pid, "Pss"), memory(t, k.pid, "Rss"), private(t, k.pid))
	var clients []*client
	for i := range 100 {
		c := k.dial("task.sock")
		c.send("hang")
		c.send("echo " + strconv.Itoa(i))
		_, _, _ = readFrame(c.c)
		clients = append(clients, c)
	}
	t.Logf("with 100 connections that wait: PSS %d KiB", memory(t, k.pid, "Pss"))
	for range 200 {
		for _, c := range clients {
			c.send("echo x")
			if _, payload, err := readFrame(c.c); err != nil || string(payload) != "x" {
				t.Fatal(err)
			}
		}
	}
	t.Logf("after 20,000 requests: PSS %d KiB", memory(t, k.pid, "Pss"))
	big := strings.Repeat("b", 4<<20-100)
	for range 20 {
		if got := c.call("echo " + big); got != big {
			t.Fatal("another text")
		}
	}
	after := memory(t, k.pid, "Pss")
	time.Sleep(2 * time.Second)
	t.Logf("after 20 requests of 4 MiB: PSS %d KiB, a little later %d KiB", after, memory(t, k.pid, "Pss"))
}

// memory reads a line of smaps_rollup, in KiB.
func memory(t *testing.T, pid int, name string) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); f[0] == name+":" {
			n, _ := strconv.Atoi(f[1])
			return n
		}
	}
	t.Fatalf("no %s in smaps_rollup", name)
	return 0
}

func private(t *testing.T, pid int) int {
	t.Helper()
	return memory(t, pid, "Private_Dirty") + memory(t, pid, "Private_Clean")
}

func descriptors(t *testing.T, pid int) int {
	t.Helper()
	all, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

func cpuTicks(t *testing.T, pid int) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	return user + system
}
