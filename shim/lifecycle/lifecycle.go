// Package lifecycle has the states of a container's init and of the processes beside it. What a state can turn into is what
// its methods return: there are no others, so a transition that must not happen can't be written.
//
//	init:  Created ─► Running ◄─► Paused       exec:  Added ─► Active ─► Ended
//	          └─────────┴───────────┴──► Stopped         └──────────────►┘
package lifecycle

import (
	"time"

	"github.com/containerd/containerd/api/types/task"
)

// Exit is how a process ended.
type Exit struct {
	Status uint32 // 128 and the signal's number for one that a signal ended
	At     time.Time
}

// State is a state of a container's init. The zero value of no type is one: they come from New.
type State interface {
	Status() task.Status
	init()
}

// Live is a state in which init may end.
type Live interface {
	State
	Exited(Exit) Stopped
}

// Created waits for start.
type Created interface {
	Live
	Started() Running
}

// Running has executed.
type Running interface {
	Live
	Paused() Paused
}

// Paused is frozen.
type Paused interface {
	Live
	Resumed() Running
}

// Stopped has ended, and waits to be deleted.
type Stopped interface {
	State
	Exit() Exit
}

// New is the state after create.
func New() Created { return created{} }

type (
	created struct{}
	running struct{}
	paused  struct{}
	stopped struct{ exit Exit }
)

func (created) init() {}
func (running) init() {}
func (paused) init()  {}
func (stopped) init() {}

func (created) Status() task.Status { return task.Status_CREATED }
func (running) Status() task.Status { return task.Status_RUNNING }
func (paused) Status() task.Status  { return task.Status_PAUSED }
func (stopped) Status() task.Status { return task.Status_STOPPED }

func (created) Exited(e Exit) Stopped { return stopped{e} }
func (running) Exited(e Exit) Stopped { return stopped{e} }
func (paused) Exited(e Exit) Stopped  { return stopped{e} }

func (created) Started() Running { return running{} }
func (running) Paused() Paused   { return paused{} }
func (paused) Resumed() Running  { return running{} }
func (s stopped) Exit() Exit     { return s.exit }

// Exec is a state of a process beside init.
type Exec interface {
	Status() task.Status
	exec()
}

// Added is known and not started.
type Added interface {
	Exec
	Started() Active
	// Failed is after a start that never came to the process's execve.
	Failed(Exit) Ended
}

// Active has executed.
type Active interface {
	Exec
	Exited(Exit) Ended
}

// Ended waits to be deleted.
type Ended interface {
	Exec
	Exit() Exit
}

// NewExec is the state of a process that was added.
func NewExec() Added { return added{} }

type (
	added  struct{}
	active struct{}
	ended  struct{ exit Exit }
)

func (added) exec()  {}
func (active) exec() {}
func (ended) exec()  {}

func (added) Status() task.Status  { return task.Status_CREATED }
func (active) Status() task.Status { return task.Status_RUNNING }
func (ended) Status() task.Status  { return task.Status_STOPPED }

func (added) Started() Active      { return active{} }
func (added) Failed(e Exit) Ended  { return ended{e} }
func (active) Exited(e Exit) Ended { return ended{e} }
func (e ended) Exit() Exit         { return e.exit }

// Name is a status as messages have it.
func Name(s interface{ Status() task.Status }) string {
	switch s.Status() {
	case task.Status_CREATED:
		return "created"
	case task.Status_RUNNING:
		return "running"
	case task.Status_PAUSED:
		return "paused"
	default:
		return "stopped"
	}
}
