package cgroup

import (
	"context"
	"testing"
	"time"
)

// TestNotifyOOMUnified plays the kernel with ordinary files.
func TestNotifyOOMUnified(t *testing.T) {
	g, dir := fakeGroup(t, Unified)
	writeTestFile(t, dir, "memory.events", "oom 3\noom_kill 2\n")
	writeTestFile(t, dir, "cgroup.events", "populated 1\nfrozen 0\n")
	oom, err := g.NotifyOOM(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	replace := func(name, content string) { // in one modification, as the kernel does
		if err := writeFile(dir+"/"+name, content); err != nil {
			t.Fatal(err)
		}
	}
	replace("memory.events", "oom 4\noom_kill 2\n") // nobody was killed
	replace("memory.events", "oom 5\noom_kill 4\n") // two were
	replace("cgroup.events", "populated 0\nfrozen 0\n")
	deadline := time.After(30 * time.Second)
	for n := 0; ; n++ {
		select {
		case _, ok := <-oom:
			if ok {
				continue
			}
			if n != 2 {
				t.Errorf("%d notifications before the end, want 2", n)
			}
			return
		case <-deadline:
			t.Fatal("channel still open")
		}
	}
}
