// Package dbus is a client of D-Bus (https://dbus.freedesktop.org/doc/dbus-specification.html) that can do what systemd is
// asked for, and no more: call methods and wait for signals, over one connection that nothing else uses meanwhile.
//
// The usual library costs each start of sock, also of those who never ask systemd, 0.03 to 0.05 ms and a megabyte, with
// package net, and starts threads; see docs/design.md, "Cgroups".
package dbus

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Conn is a connection to a message bus, or to a peer that answers by itself. It is for one goroutine at a time.
type Conn struct {
	fd       int
	bus      bool
	patience time.Duration
	serial   uint32
	in       []byte    // received, not yet a whole message
	signals  []*Signal // received while something else was waited for
}

// Signal is a message that nobody asked for.
type Signal struct {
	Interface, Member string
	Body              []any
}

// Error is an error reply.
type Error struct {
	Name    string // such as org.freedesktop.systemd1.UnitExists
	Message string
}

func (e *Error) Error() string {
	if e.Message == "" {
		return e.Name
	}
	return e.Message
}

// ErrTimeout is returned when the other side takes longer than the connection's patience.
var ErrTimeout = errors.New("no answer in time")

// ErrClosed is returned when the other side has closed the connection.
var ErrClosed = errors.New("connection was closed")

// Dial connects to one of the unix sockets of an address (the specification's "Server Addresses") and authenticates by the
// credentials of this process. bus says that a message bus is there: it wants to be greeted. patience is how long each
// answer may take.
func Dial(address string, bus bool, patience time.Duration) (*Conn, error) {
	sockets, err := parseAddress(address)
	if err != nil {
		return nil, err
	}
	var failed error
	for _, socket := range sockets {
		c, err := dial(socket, patience)
		if err == nil {
			c.bus = bus
			if err = c.greet(); err == nil {
				return c, nil
			}
			c.Close()
		}
		err = fmt.Errorf("connect to %s: %w", socket, err)
		if failed != nil {
			err = fmt.Errorf("%w; %w", failed, err)
		}
		failed = err
	}
	return nil, failed
}

// parseAddress lists the unix sockets of an address; abstract ones begin with @.
func parseAddress(address string) ([]string, error) {
	var sockets []string
	for one := range strings.SplitSeq(address, ";") {
		keys, ok := strings.CutPrefix(one, "unix:")
		if !ok {
			continue
		}
		for pair := range strings.SplitSeq(keys, ",") {
			key, value, _ := strings.Cut(pair, "=")
			value, err := url.PathUnescape(value)
			switch {
			case err != nil:
				return nil, fmt.Errorf("D-Bus address %q: %w", address, err)
			case key == "path" && value != "":
				sockets = append(sockets, value)
			case key == "abstract" && value != "":
				sockets = append(sockets, "@"+value)
			}
		}
	}
	if len(sockets) == 0 {
		return nil, fmt.Errorf("D-Bus address %q names no unix socket", address)
	}
	return sockets, nil
}

// dial connects and authenticates by the user ID, or, where the other side knows us by another (outside of our user
// namespace), leaves that to it.
func dial(socket string, patience time.Duration) (*Conn, error) {
	identity := hex.EncodeToString([]byte(strconv.Itoa(os.Geteuid())))
	c, err := dialAs(socket, "AUTH EXTERNAL "+identity+"\r\n", patience)
	if errors.Is(err, errRejected) {
		c, err = dialAs(socket, "AUTH EXTERNAL\r\nDATA\r\n", patience)
	}
	return c, err
}

func dialAs(socket, auth string, patience time.Duration) (*Conn, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	c := &Conn{fd: fd, patience: patience}
	// For connect, while the backlog is full, and for writing.
	timeout := unix.NsecToTimeval(patience.Nanoseconds())
	if err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &timeout); err == nil {
		err = unix.Connect(fd, &unix.SockaddrUnix{Name: socket})
	}
	if err == nil {
		err = c.authenticate(auth)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

var errRejected = errors.New("authenticate: rejected")

// authenticate is the specification's "Authentication Protocol" with the mechanism EXTERNAL. BEGIN is sent ahead: systemd
// doesn't see the first message if it reads it together with BEGIN, until something else comes.
func (c *Conn) authenticate(auth string) error {
	if err := c.write([]byte("\x00" + auth + "BEGIN\r\n")); err != nil {
		return fmt.Errorf("authenticate: %w", err)
	}
	for {
		answer, err := c.line()
		switch {
		case err != nil:
			return fmt.Errorf("authenticate: %w", err)
		case strings.HasPrefix(answer, "OK "):
			return nil
		case strings.HasPrefix(answer, "REJECTED"):
			return errRejected
		case !strings.HasPrefix(answer, "DATA"): // asks for ours, which is on its way
			return fmt.Errorf("authenticate: got %q", answer)
		}
	}
}

// line returns the next line of the authentication.
func (c *Conn) line() (string, error) {
	const longest = 16 << 10
	for deadline := time.Now().Add(c.patience); ; {
		if before, after, ok := strings.Cut(string(c.in), "\r\n"); ok {
			c.in = []byte(after)
			return before, nil
		}
		if len(c.in) > longest {
			return "", errors.New("line is too long")
		}
		if err := c.read(deadline); err != nil {
			return "", err
		}
	}
}

// greet says hello to a bus; only then does it take calls.
func (c *Conn) greet() error {
	if !c.bus {
		return nil
	}
	_, err := c.Call("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "Hello", "")
	return err
}

// Subscribe has a bus pass on the signals that match a rule. Peers send theirs anyway.
func (c *Conn) Subscribe(rule string) error {
	if !c.bus {
		return nil
	}
	_, err := c.Call("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "AddMatch", "s", rule)
	return err
}

// Call calls a method with arguments of a signature and returns what it answers. Errors: *Error, ErrTimeout, ErrClosed.
func (c *Conn) Call(destination, path, iface, member, signature string, args ...any) ([]any, error) {
	c.serial++
	m := &message{kind: methodCall, serial: c.serial, fields: map[byte]any{
		fieldPath: path, fieldInterface: iface, fieldMember: member,
	}, bodySig: signature, body: args}
	if c.bus {
		m.fields[fieldDestination] = destination
	}
	data, err := m.marshal()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", member, err)
	}
	if err := c.write(data); err != nil {
		return nil, fmt.Errorf("%s: %w", member, err)
	}
	for deadline := time.Now().Add(c.patience); ; {
		answer, err := c.receive(deadline)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", member, err)
		}
		if answer.kind == signal {
			c.signals = append(c.signals, asSignal(answer))
			continue
		}
		if answer.fields[fieldReplySerial] != c.serial {
			continue // to a call that was given up
		}
		switch answer.kind {
		case methodReturn:
			return answer.body, nil
		case failure:
			e := &Error{Name: answer.text(fieldErrorName)}
			if len(answer.body) > 0 {
				e.Message, _ = answer.body[0].(string)
			}
			return nil, e
		}
	}
}

func asSignal(m *message) *Signal {
	return &Signal{m.text(fieldInterface), m.text(fieldMember), m.body}
}

// Await returns the first signal since the last Await for which wanted returns true; others are dropped. Errors: ErrTimeout,
// ErrClosed.
func (c *Conn) Await(wanted func(*Signal) bool) (*Signal, error) {
	for deadline := time.Now().Add(c.patience); ; {
		for len(c.signals) > 0 {
			s := c.signals[0]
			c.signals = c.signals[1:]
			if wanted(s) {
				return s, nil
			}
		}
		m, err := c.receive(deadline)
		if err != nil {
			return nil, err
		}
		if m.kind == signal {
			c.signals = append(c.signals, asSignal(m))
		}
	}
}

// receive returns the next message.
func (c *Conn) receive(deadline time.Time) (*message, error) {
	for {
		if len(c.in) >= fixedHeader {
			size, err := sizeOf(c.in)
			if err != nil {
				return nil, err
			}
			if len(c.in) >= size {
				m, err := unmarshal(c.in[:size])
				c.in = append([]byte(nil), c.in[size:]...)
				return m, err
			}
		}
		if err := c.read(deadline); err != nil {
			return nil, err
		}
	}
}

// read waits for bytes and appends them to c.in.
func (c *Conn) read(deadline time.Time) error {
	for {
		left := time.Until(deadline)
		if left <= 0 {
			return ErrTimeout
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(c.fd), Events: unix.POLLIN}}, int(left.Milliseconds())+1)
		if err == unix.EINTR || err == nil && n == 0 {
			continue
		}
		if err != nil {
			return os.NewSyscallError("poll", err)
		}
		buf := make([]byte, 4096)
		n, err = unix.Read(c.fd, buf)
		switch {
		case err == unix.EINTR:
		case err == unix.ECONNRESET, err == nil && n == 0:
			return ErrClosed
		case err != nil:
			return os.NewSyscallError("read", err)
		default:
			c.in = append(c.in, buf[:n]...)
			return nil
		}
	}
}

func (c *Conn) write(data []byte) error {
	for len(data) > 0 {
		n, err := unix.SendmsgN(c.fd, data, nil, nil, unix.MSG_NOSIGNAL)
		switch err {
		case nil:
			data = data[n:]
		case unix.EINTR:
		case unix.EAGAIN:
			return ErrTimeout
		case unix.EPIPE, unix.ECONNRESET:
			return ErrClosed
		default:
			return os.NewSyscallError("write", err)
		}
	}
	return nil
}

// Close closes the connection.
func (c *Conn) Close() { _ = unix.Close(c.fd) }

// SocketAddress is the address of a unix socket by its path.
func SocketAddress(path string) string { return "unix:path=" + url.PathEscape(path) }
