package cgroup

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// NotifyOOM returns a channel that gets a value for each time that the kernel
// ran out of the group's memory and had to kill. It is closed when the cgroup
// is removed (on v2: when its last process has gone) or ctx is done.
//
// On v1 the event is that the limit was hit for good, which with
// memory.disableOOMKiller kills nobody.
func (g *Group) NotifyOOM(ctx context.Context) (<-chan struct{}, error) {
	d := g.dir("memory")
	switch {
	case g.None():
		return nil, fmt.Errorf("notify of OOM: %w", errNone)
	case d == nil:
		return nil, errors.New("notify of OOM: memory hierarchy is not mounted")
	}
	watch := watchLegacy
	if g.mode == Unified {
		watch = watchUnified
	}
	events, next, err := watch(d.path)
	if err != nil {
		return nil, fmt.Errorf("notify of OOM: %w", err)
	}
	ch := make(chan struct{})
	stop := context.AfterFunc(ctx, func() { events.Close() }) // ends a blocked read
	go func() {
		defer close(ch)
		defer events.Close()
		defer stop()
		for {
			killed, ok := next()
			if !ok {
				return
			}
			for range killed {
				select {
				case ch <- struct{}{}:
				case <-ctx.Done():
					return
				}
			}
		}
	}()
	return ch, nil
}

// OOMKills returns how many of the group's processes the kernel has killed for
// want of memory. On v1 those of cgroups below it are not counted.
func (g *Group) OOMKills() (uint64, error) {
	d := g.dir("memory")
	if d == nil {
		return 0, nil
	}
	name := "memory.oom_control" // Linux 4.13
	if g.mode == Unified {
		name = "memory.events"
	}
	table, err := readTable(d.path, name)
	if err != nil {
		return 0, fmt.Errorf("read OOM kills: %w", err)
	}
	return table["oom_kill"], nil
}

// watchLegacy registers an eventfd with memory.oom_control (cgroup-v1/memory.rst,
// "OOM Control"). next waits for how often memory ran out since the last time;
// it is not ok when the cgroup is gone or events was closed.
func watchLegacy(path string) (events *os.File, next func() (n uint64, ok bool), err error) {
	control, err := open(path+"/memory.oom_control", unix.O_RDONLY)
	if err != nil {
		return nil, nil, err
	}
	defer unix.Close(control)
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, nil, os.NewSyscallError("eventfd", err)
	}
	events = os.NewFile(uintptr(fd), "eventfd")
	register := path + "/cgroup.event_control"
	if err := writeFile(register, fmt.Sprintf("%d %d", fd, control)); err != nil {
		events.Close()
		return nil, nil, err
	}
	return events, func() (uint64, bool) {
		var count [8]byte
		if _, err := events.Read(count[:]); err != nil {
			return 0, false
		}
		// The removal of the cgroup is an event, too.
		return binary.NativeEndian.Uint64(count[:]), unix.Access(register, unix.F_OK) == nil
	}, nil
}

// watchUnified watches memory.events and cgroup.events with inotify, which says
// when a file of cgroupfs changed but not that the cgroup was removed.
func watchUnified(path string) (events *os.File, next func() (n uint64, ok bool), err error) {
	seen, err := readTable(path, "memory.events")
	if err != nil {
		return nil, nil, err
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, nil, os.NewSyscallError("inotify_init1", err)
	}
	events = os.NewFile(uintptr(fd), "inotify")
	for _, name := range []string{"/memory.events", "/cgroup.events"} {
		if _, err := unix.InotifyAddWatch(fd, path+name, unix.IN_MODIFY); err != nil {
			events.Close()
			return nil, nil, &fs.PathError{Op: "inotify_add_watch", Path: path + name, Err: err}
		}
	}
	kills := seen["oom_kill"]
	gone, watching := false, false
	return events, func() (uint64, bool) {
		var buf [4096]byte
		for !gone {
			if watching { // else it may have happened before the watches were there
				if _, err := events.Read(buf[:]); err != nil {
					return 0, false
				}
			}
			watching = true
			// Which of the files changed is no matter: reading both is cheap,
			// and the last process may be the one that was killed.
			state, err := readTable(path, "cgroup.events")
			gone = err != nil || state["populated"] == 0
			now, err := readTable(path, "memory.events")
			if err == nil && now["oom_kill"] > kills {
				n := now["oom_kill"] - kills
				kills = now["oom_kill"]
				return n, true
			}
		}
		return 0, false
	}, nil
}
