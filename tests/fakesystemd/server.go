// Package fakesystemd stands in for systemd where none runs: it serves the methods that container runtimes call, on a private
// bus of dbus-daemon's, and does to the host's cgroups what systemd would do, in slices of the caller's own. What it can't
// stand for (how systemd really behaves) the virtual machine's tests look at.
package fakesystemd

import (
	"bufio"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
)

// Server is a bus with the stand-in on it.
type Server struct {
	// Address is the bus's, for DBUS_SYSTEM_BUS_ADDRESS.
	Address string

	daemon *exec.Cmd
	conn   *dbus.Conn

	mu       sync.Mutex
	units    map[string]*Unit
	jobs     int
	calls    []string
	behave   map[string]Behaviour
	watching sync.WaitGroup
	stop     chan struct{}
}

// Behaviour is what a method does instead of, or beside, its work.
type Behaviour struct {
	Delay       time.Duration // before it answers
	Error       string        // name of the error to answer with
	Result      string        // of the job, if not "done"; its work is left undone
	Hangup      bool          // leave the bus instead of answering
	EarlySignal bool          // announce the end of the job before the answer
	NoSignal    bool          // never announce the end of the job
	Exists      int           // answer that the unit exists, so many times
}

// Unit is a scope.
type Unit struct {
	Name       string
	Properties map[string]dbus.Variant // as given last
	dirs       []string
}

// Property is a pair as it comes over the bus.
type Property struct {
	Name  string
	Value dbus.Variant
}

// Aux is a unit to be made together with another; runtimes send none.
type Aux struct {
	Name       string
	Properties []Property
}

const (
	busName    = "org.freedesktop.systemd1"
	objectPath = "/org/freedesktop/systemd1"
	manager    = "org.freedesktop.systemd1.Manager"
)

// Start starts a bus whose socket is in dir, and the stand-in on it. Close ends both.
func Start(dir string) (*Server, error) {
	s := &Server{Address: "unix:path=" + filepath.Join(dir, "bus"), units: map[string]*Unit{}, behave: map[string]Behaviour{}, stop: make(chan struct{})}
	s.daemon = exec.Command("dbus-daemon", "--session", "--nofork", "--nopidfile", "--print-address=1", "--address="+s.Address)
	s.daemon.Dir = dir
	s.daemon.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := s.daemon.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.daemon.Start(); err != nil {
		return nil, err
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil { // it listens
		s.Close()
		return nil, fmt.Errorf("dbus-daemon: %w", err)
	}
	if err := s.serve(); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Server) serve() error {
	conn, err := dbus.Dial(s.Address)
	if err != nil {
		return err
	}
	s.conn = conn
	if err := conn.Auth(nil); err != nil {
		return err
	}
	if err := conn.Hello(); err != nil {
		return err
	}
	if err := conn.Export(methods{s}, objectPath, manager); err != nil {
		return err
	}
	if err := conn.Export(properties{}, objectPath, "org.freedesktop.DBus.Properties"); err != nil {
		return err
	}
	reply, err := conn.RequestName(busName, dbus.NameFlagDoNotQueue)
	if err == nil && reply != dbus.RequestNameReplyPrimaryOwner {
		err = errors.New("the name is taken")
	}
	return err
}

// Close ends the stand-in and its bus, and removes what is left of its units.
func (s *Server) Close() {
	if s.conn != nil {
		_ = s.conn.Close()
	}
	close(s.stop)
	s.watching.Wait()
	_ = s.daemon.Process.Kill()
	_ = s.daemon.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, u := range s.units {
		u.kill()
		u.remove()
	}
}

// Behave sets how a method behaves from now on.
func (s *Server) Behave(method string, b Behaviour) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.behave[method] = b
}

// Unit returns a unit, nil if there is none of the name.
func (s *Server) Unit(name string) *Unit {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.units[name]
}

// Units counts them.
func (s *Server) Units() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.units)
}

// Calls lists the methods that were called, with the unit's name.
func (s *Server) Calls() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.calls...)
}

// methods are those of the manager.
type methods struct{ *Server }

// enter records a call and behaves as it was told.
func (s *Server) enter(method, unit string) (Behaviour, *dbus.Error) {
	s.mu.Lock()
	b := s.behave[method]
	s.calls = append(s.calls, method+" "+unit)
	exists := b.Exists > 0
	if exists {
		less := b
		less.Exists--
		s.behave[method] = less
	}
	s.mu.Unlock()
	time.Sleep(b.Delay)
	switch {
	case b.Hangup:
		_ = s.conn.Close()
		return b, dbus.MakeFailedError(errors.New("gone"))
	case exists:
		return b, refusal("org.freedesktop.systemd1.UnitExists", "Unit "+unit+" was already loaded or has a fragment file.")
	case b.Error != "":
		return b, refusal(b.Error, "Told to refuse.")
	}
	return b, nil
}

func refusal(name, text string) *dbus.Error { return dbus.NewError(name, []any{text}) }

// job announces the end of a job, and returns its path.
func (s *Server) job(unit string, b Behaviour) dbus.ObjectPath {
	s.mu.Lock()
	s.jobs++
	id := s.jobs
	s.mu.Unlock()
	path := dbus.ObjectPath(fmt.Sprintf("%s/job/%d", objectPath, id))
	result := b.Result
	if result == "" {
		result = "done"
	}
	emit := func() {
		// Others' jobs end meanwhile.
		_ = s.conn.Emit(objectPath, manager+".JobRemoved", uint32(7), dbus.ObjectPath(objectPath+"/job/7777"), "other.service", "failed")
		_ = s.conn.Emit(objectPath, manager+".JobRemoved", uint32(id), path, unit, result)
	}
	switch {
	case b.NoSignal:
	case b.EarlySignal:
		emit()
	default:
		time.AfterFunc(time.Millisecond, emit)
	}
	return path
}

// StartTransientUnit is org.freedesktop.systemd1(5)'s.
func (m methods) StartTransientUnit(name, mode string, list []Property, _ []Aux) (dbus.ObjectPath, *dbus.Error) {
	b, refused := m.enter("StartTransientUnit", name)
	if refused != nil {
		return "", refused
	}
	if m.Unit(name) != nil {
		return "", refusal("org.freedesktop.systemd1.UnitExists", "Unit "+name+" was already loaded or has a fragment file.")
	}
	if mode != "replace" || !strings.HasSuffix(name, ".scope") {
		return "", refusal("org.freedesktop.DBus.Error.InvalidArgs", "Not a scope.")
	}
	u := &Unit{Name: name, Properties: map[string]dbus.Variant{}}
	if refused := u.set(list); refused != nil {
		return "", refused
	}
	if b.Result == "" {
		if err := u.make(); err != nil {
			u.remove()
			return "", dbus.MakeFailedError(err)
		}
		m.mu.Lock()
		m.units[name] = u
		m.mu.Unlock()
		m.watching.Add(1)
		go m.watch(u)
	}
	return m.job(name, b), nil
}

// StopUnit kills what is in the unit, and removes it.
func (m methods) StopUnit(name, _ string) (dbus.ObjectPath, *dbus.Error) {
	b, refused := m.enter("StopUnit", name)
	if refused != nil {
		return "", refused
	}
	u := m.Unit(name)
	if u == nil {
		return "", refusal("org.freedesktop.systemd1.NoSuchUnit", "Unit "+name+" not loaded.")
	}
	u.kill()
	m.forget(u)
	return m.job(name, b), nil
}

// SetUnitProperties changes a unit.
func (m methods) SetUnitProperties(name string, runtime bool, list []Property) *dbus.Error {
	if _, refused := m.enter("SetUnitProperties", name); refused != nil {
		return refused
	}
	u := m.Unit(name)
	switch {
	case u == nil:
		return refusal("org.freedesktop.systemd1.NoSuchUnit", "Unit "+name+" not loaded.")
	case !runtime:
		return refusal("org.freedesktop.DBus.Error.InvalidArgs", "Would be written to /etc.")
	}
	m.mu.Lock() // whoever asks for the unit sees all of it
	refused := u.set(list)
	m.mu.Unlock()
	if refused != nil {
		return refused
	}
	if err := u.apply(list); err != nil {
		return dbus.MakeFailedError(err)
	}
	return nil
}

// ResetFailedUnit has nothing to forget.
func (m methods) ResetFailedUnit(name string) *dbus.Error {
	if _, refused := m.enter("ResetFailedUnit", name); refused != nil {
		return refused
	}
	if m.Unit(name) == nil {
		return refusal("org.freedesktop.systemd1.NoSuchUnit", "Unit "+name+" not loaded.")
	}
	return nil
}

// watch removes a unit when its last process has ended, as systemd does.
func (s *Server) watch(u *Unit) {
	defer s.watching.Done()
	for {
		select {
		case <-s.stop:
			return
		case <-time.After(5 * time.Millisecond):
		}
		if s.Unit(u.Name) != u {
			return
		}
		if !u.populated() {
			s.forget(u)
			return
		}
	}
}

func (s *Server) forget(u *Unit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.units[u.Name] == u {
		delete(s.units, u.Name)
		u.remove()
	}
}

// properties are those of the manager.
type properties struct{}

// Get answers for what runtimes ask.
func (properties) Get(iface, name string) (dbus.Variant, *dbus.Error) {
	known := map[string]string{"Version": "252.39-1~deb12u1", "ControlGroup": ""}
	value, ok := known[name]
	if iface != manager || !ok {
		return dbus.Variant{}, refusal("org.freedesktop.DBus.Error.UnknownProperty", "Unknown property.")
	}
	return dbus.MakeVariant(value), nil
}

// kill ends all processes of the unit.
func (u *Unit) kill() {
	for deadline := time.Now().Add(5 * time.Second); u.populated() && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		for _, dir := range u.dirs {
			for _, pid := range pidsBelow(dir) {
				_ = unix.Kill(pid, unix.SIGKILL)
			}
		}
	}
}

// Adopt adds a unit without processes and cgroups: its properties are all there is of it.
func (s *Server) Adopt(name string) *Unit {
	u := &Unit{Name: name, Properties: map[string]dbus.Variant{}}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.units[name] = u
	return u
}
