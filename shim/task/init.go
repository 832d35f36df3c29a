package task

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	api "github.com/containerd/containerd/api/events"
	v2 "github.com/containerd/containerd/api/runtime/task/v2"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sock-runtime/sock/libsock"
	"github.com/sock-runtime/sock/shim/lifecycle"
	"github.com/sock-runtime/sock/shim/options"
	"github.com/sock-runtime/sock/shim/rootfs"
	"github.com/sock-runtime/sock/shim/stdio"
	"github.com/sock-runtime/sock/spec"
	"github.com/sock-runtime/sock/spec/settings"
)

// runtime is libsock for one task.
func (s *Service) runtime(r *record, bundle string) *libsock.Runtime {
	userNS := libsock.InUserNamespace() // as under a rootless containerd
	return &libsock.Runtime{
		Root: r.Root, SystemdCgroup: r.Systemd, Rootless: userNS, UserNS: userNS, Profile: r.Profile,
		ProfileFrom: "options", Log: logTo(bundle, r.ID),
		Reaper: s.exits, CloneParent: s.link.CloneParent(),
	}
}

// newTask makes a container. After an error nothing is left of it.
func (s *Service) newTask(r *v2.CreateTaskRequest, o *options.Options, host settings.Settings) (_ *task, err error) {
	t := &task{
		service: s, log: logTo(r.Bundle, r.ID), state: lifecycle.New(), execs: map[string]*exec{},
		kept: record{
			ID: r.ID, Bundle: r.Bundle, Root: filepath.Join(o.Root, s.namespace), Systemd: o.SystemdCgroup, Profile: o.Profile,
			UID: int(o.IoUid), GID: int(o.IoGid), Rootfs: len(r.Rootfs) > 0,
		},
		init: process{
			paths: stdio.Paths{Stdin: r.Stdin, Stdout: r.Stdout, Stderr: r.Stderr, Terminal: r.Terminal}, ended: make(chan struct{}),
		},
	}
	runtime := s.runtime(&t.kept, r.Bundle)
	runtime.AnnotationProfiles, runtime.SystemdPaths = host.AnnotationProfiles, true
	if o.Profile == "" {
		runtime.Profile, runtime.ProfileFrom = host.Profile, spec.SettingsFile
	}
	var undo []func() error
	defer func() {
		if err != nil {
			for i := range undo {
				err = errors.Join(err, undo[len(undo)-1-i]())
			}
		}
	}()
	t.init.io = stdio.Prepare(t.init.paths, t.stdioOf(""), s.link)
	undo = append(undo, func() error { t.init.io.Close(); return nil })
	if err := t.clear(runtime); err != nil {
		return nil, err
	}
	if t.kept.Rootfs {
		if err := os.Mkdir(t.rootfs(), 0o711); err != nil && !errors.Is(err, os.ErrExist) {
			return nil, err
		}
		if err := rootfs.Mount(r.Rootfs, t.rootfs()); err != nil {
			return nil, err
		}
		undo = append(undo, func() error { return rootfs.Unmount(t.rootfs()) })
	}
	if err := s.openStdio(t.init.io, t.stdioOf("")); err != nil {
		return nil, err
	}
	t.box, err = s.createBox(runtime, libsock.CreateOptions{
		ID: r.ID, Bundle: r.Bundle, KeepConsole: r.Terminal, Stdio: t.init.io.Stdio(), NoPivot: o.NoPivotRoot, NoNewKeyring: o.NoNewKeyring,
	})
	t.init.io.Started()
	if err != nil {
		return nil, fmt.Errorf("OCI runtime create failed: %w", err)
	}
	undo = append(undo, func() error { return t.box.Copy().Delete(true) })
	t.init.pid, t.init.start = t.box.Pid()
	undo = append(undo, func() error { _, err := s.exits.Wait(t.init.pid); return err }) // undone first: it has to be killed before
	undo = append(undo, func() error { return ignoreEnded(t.box.Copy().Kill(unix.SIGKILL, false)) })
	if console := t.box.TakeConsole(); console >= 0 {
		if err := t.init.io.Attach(console); err != nil {
			return nil, err
		}
	}
	return t, t.save()
}

// createBox makes the container, with what its pod has for it.
func (s *Service) createBox(runtime *libsock.Runtime, o libsock.CreateOptions) (*libsock.Container, error) {
	if s.pods != nil {
		o.Amend = s.pods.Amend
		using := s.pods.Using()
		using.Lock()
		defer using.Unlock()
	}
	return runtime.Create(o)
}

func ignoreEnded(err error) error {
	if errors.Is(err, libsock.ErrNotRunning) {
		return nil
	}
	return err
}

func (t *task) rootfs() string { return filepath.Join(t.bundle(), "rootfs") }

// clear removes what a worker that was killed in Create has left: nobody was told of it.
func (t *task) clear(runtime *libsock.Runtime) error {
	old, err := runtime.Load(t.id())
	if err == nil {
		err = old.Delete(true)
	}
	if err != nil && !errors.Is(err, libsock.ErrNotExist) {
		return fmt.Errorf("remove what is left of an earlier create: %w", err)
	}
	if t.kept.Rootfs {
		return rootfs.Unmount(t.rootfs())
	}
	return nil
}

// startInit has init execute.
func (t *task) startInit() error {
	t.change.Lock()
	defer t.change.Unlock()
	t.mu.Lock()
	created, ok := t.state.(lifecycle.Created)
	if !ok {
		defer t.mu.Unlock()
		if t.replaying() { // it was started, and the answer didn't come through
			return nil
		}
		return precondition("cannot start a %s process", lifecycle.Name(t.state))
	}
	t.init.busy = true
	t.mu.Unlock()
	box, err := t.container()
	if err == nil {
		err = box.Start()
		if err != nil && t.replaying() { // its process may have been let go, and was about to execute when we took over
			if started, startErr := box.Started(); !started.IsZero() {
				err = startErr
			}
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if err == nil {
		t.state = created.Started()
		t.publishStart()
	}
	t.tellEarlyOOM()
	t.init.release(t.endInit)
	return coded(err, "OCI runtime start failed")
}

func (t *task) publishStart() {
	t.service.events.Publish(&api.TaskStart{ContainerID: t.id(), Pid: uint32(t.init.pid)})
}

// pause freezes the container.
func (t *task) pause() error {
	t.change.Lock()
	defer t.change.Unlock()
	t.mu.Lock()
	running, ok := t.state.(lifecycle.Running)
	again := t.paused() && t.replaying()
	name := lifecycle.Name(t.state)
	t.mu.Unlock()
	if again {
		t.service.events.Publish(&api.TaskPaused{ContainerID: t.id()})
		return nil
	}
	if !ok {
		return precondition("cannot pause a %s container", name)
	}
	box, err := t.container()
	if err == nil {
		err = box.Pause()
	}
	if err != nil {
		return coded(err, "OCI runtime pause failed")
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.state == lifecycle.State(running) { // init may have been killed
		t.state = running.Paused()
		t.service.events.Publish(&api.TaskPaused{ContainerID: t.id()})
	}
	return nil
}

// resume thaws it.
func (t *task) resume() error {
	t.change.Lock()
	defer t.change.Unlock()
	t.mu.Lock()
	paused, ok := t.state.(lifecycle.Paused)
	_, running := t.state.(lifecycle.Running)
	name := lifecycle.Name(t.state)
	t.mu.Unlock()
	if running && t.replaying() {
		t.service.events.Publish(&api.TaskResumed{ContainerID: t.id()})
		return nil
	}
	if !ok {
		return precondition("cannot resume a %s container", name)
	}
	box, err := t.container()
	if err == nil {
		err = box.Resume()
	}
	if err != nil {
		return coded(err, "OCI runtime resume failed")
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.state == lifecycle.State(paused) {
		t.state = paused.Resumed()
		t.service.events.Publish(&api.TaskResumed{ContainerID: t.id()})
	}
	return nil
}

// killInit sends a signal to init or, with all, to every process. A SIGKILL thaws a paused container, or it would not come.
func (t *task) killInit(signal uint32, all bool) error {
	box, err := t.container()
	if err == nil {
		err = box.Kill(unix.Signal(signal), all)
	}
	return killError(err)
}

// remove deletes the container and everything that is left of it.
func (t *task) remove() (lifecycle.Exit, error) {
	t.change.Lock()
	defer t.change.Unlock()
	t.mu.Lock()
	state := t.state
	t.mu.Unlock()
	switch state.(type) {
	case lifecycle.Created, lifecycle.Stopped:
	default:
		return lifecycle.Exit{}, precondition("cannot delete a %s process", lifecycle.Name(state))
	}
	box, err := t.container()
	if err == nil {
		err = box.Delete(false)
	}
	if err != nil && !errors.Is(err, libsock.ErrNotExist) {
		return lifecycle.Exit{}, coded(err, "failed to delete task")
	}
	select {
	case <-t.init.ended: // one that was only created is killed by libsock
	case <-time.After(timeoutEnd):
		return lifecycle.Exit{}, coded(fmt.Errorf("the end of process %d does not come", t.init.pid), "failed to delete task")
	}
	t.mu.Lock()
	var open []*stdio.IO
	for _, e := range t.execs {
		open = append(open, e.io)
	}
	open = append(open, t.init.io)
	t.mu.Unlock()
	for _, s := range open {
		if s != nil {
			s.Close()
		}
	}
	if t.kept.Rootfs {
		if err := rootfs.Unmount(t.rootfs()); err != nil {
			return lifecycle.Exit{}, coded(err, "failed rootfs umount")
		}
	}
	return t.init.exit, nil
}

// deleted is what Delete publishes of a task.
func deletedEvent(id string, pid int, e lifecycle.Exit) *api.TaskDelete {
	return &api.TaskDelete{ContainerID: id, Pid: uint32(pid), ExitStatus: e.Status, ExitedAt: timestamppb.New(e.At)}
}

// ourComm is the name that this process's threads have, and a process of a container until it has executed.
func ourComm() string { return comm(os.Getpid()) }

func comm(pid int) string {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	return strings.TrimSpace(string(data))
}
