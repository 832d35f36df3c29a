// Package netdevice moves network devices from one network namespace to another, and back, with the few messages of
// rtnetlink(7) that it takes. The usual library for that, vishvananda/netlink, brings package net along, whose
// initialisation every start of sock would pay for.
package netdevice

import (
	"encoding/binary"
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// Conn is a connection to the kernel's rtnetlink in one network namespace. It is for one goroutine at a time.
type Conn struct {
	socket int
	ns     int // descriptor of the namespace
	seq    uint32
}

// Open connects in the network namespace of this process.
func Open() (*Conn, error) {
	ns, err := unix.Open("/proc/self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open own network namespace: %w", err)
	}
	c := &Conn{ns: ns}
	if c.socket, err = socket(); err != nil {
		_ = unix.Close(ns)
		return nil, err
	}
	return c, nil
}

// OpenIn connects in the network namespace of a descriptor, which stays the caller's. Errors: those of setns(2).
func OpenIn(ns int) (*Conn, error) {
	own, err := unix.FcntlInt(uintptr(ns), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, fmt.Errorf("duplicate descriptor: %w", err)
	}
	c := &Conn{ns: own}
	done := make(chan error)
	go func() { done <- c.connectThere() }()
	if err := <-done; err != nil {
		_ = unix.Close(own)
		return nil, err
	}
	return c, nil
}

// connectThere makes the socket on a thread that visits the namespace: a socket stays where it was made.
func (c *Conn) connectThere() error {
	runtime.LockOSThread()
	home, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("open own network namespace: %w", err)
	}
	defer unix.Close(home)
	if err := unix.Setns(c.ns, unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter the network namespace: %w", err)
	}
	c.socket, err = socket()
	if back := unix.Setns(home, unix.CLONE_NEWNET); back == nil {
		runtime.UnlockOSThread() // otherwise the thread ends with its goroutine
	}
	return err
}

// patience bounds how long the kernel may take to answer: it answers at once.
const patience = 10

func socket() (int, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return -1, fmt.Errorf("netlink socket: %w", err)
	}
	// With it errors come with a reason in words; what is older than Linux 4.12 doesn't know it.
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_EXT_ACK, 1)
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: patience}); err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("netlink socket: %w", err)
	}
	return fd, nil
}

// Close ends the connection.
func (c *Conn) Close() {
	_ = unix.Close(c.socket)
	_ = unix.Close(c.ns)
}

// Error is the kernel's refusal, with its reason where it gives one.
type Error struct {
	unix.Errno
	Reason string
}

func (e *Error) Error() string {
	if e.Reason == "" {
		return e.Errno.Error()
	}
	return fmt.Sprintf("%s (%s)", e.Errno.Error(), e.Reason)
}

func (e *Error) Unwrap() error { return e.Errno }

// attribute appends a struct rtattr, padded.
func attribute(b []byte, kind uint16, value []byte) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(unix.SizeofRtAttr+len(value)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = append(b, value...)
	for len(b)%unix.RTA_ALIGNTO != 0 {
		b = append(b, 0)
	}
	return b
}

func number(n uint32) []byte { return binary.NativeEndian.AppendUint32(nil, n) }

func text(s string) []byte { return append([]byte(s), 0) }

// typeMask leaves out the flags of an attribute's type, NLA_TYPE_MASK.
const typeMask = 0x3fff

// attributes calls each with the attributes of a message, and stops where they make no sense.
func attributes(b []byte, each func(kind uint16, value []byte)) {
	for len(b) >= unix.SizeofRtAttr {
		size := int(binary.NativeEndian.Uint16(b))
		if size < unix.SizeofRtAttr || size > len(b) {
			return
		}
		each(binary.NativeEndian.Uint16(b[2:])&typeMask, b[unix.SizeofRtAttr:size])
		b = b[min((size+unix.RTA_ALIGNTO-1)&^(unix.RTA_ALIGNTO-1), len(b)):]
	}
}

// do sends a request and calls each with the body of every answer but the acknowledgement. Errors: *Error.
func (c *Conn) do(kind, flags uint16, body []byte, each func(body []byte)) error {
	c.seq++
	request := binary.NativeEndian.AppendUint32(nil, uint32(unix.NLMSG_HDRLEN+len(body)))
	request = binary.NativeEndian.AppendUint16(request, kind)
	request = binary.NativeEndian.AppendUint16(request, flags|unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	request = binary.NativeEndian.AppendUint32(request, c.seq)
	request = binary.NativeEndian.AppendUint32(request, 0)
	if err := unix.Sendto(c.socket, append(request, body...), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("netlink: send: %w", err)
	}
	buf := make([]byte, 64<<10)
	for {
		n, from, err := unix.Recvfrom(c.socket, buf, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("netlink: receive: %w", err)
		}
		if sender, ok := from.(*unix.SockaddrNetlink); !ok || sender.Pid != 0 {
			continue // not the kernel
		}
		done, err := c.answers(buf[:n], each)
		if done || err != nil {
			return err
		}
	}
}

// answers reads one datagram and says whether the last answer was in it.
func (c *Conn) answers(b []byte, each func(body []byte)) (done bool, err error) {
	for len(b) >= unix.NLMSG_HDRLEN {
		size, kind := int(binary.NativeEndian.Uint32(b)), binary.NativeEndian.Uint16(b[4:])
		flags, seq := binary.NativeEndian.Uint16(b[6:]), binary.NativeEndian.Uint32(b[8:])
		if size < unix.NLMSG_HDRLEN || size > len(b) {
			return true, fmt.Errorf("netlink: malformed answer")
		}
		body := b[unix.NLMSG_HDRLEN:size]
		b = b[min((size+3)&^3, len(b)):]
		switch {
		case seq != c.seq: // of an earlier request
		case flags&unix.NLM_F_DUMP_INTR != 0:
			return true, &Error{Errno: unix.EAGAIN, Reason: "the list changed while it was read"}
		case kind == unix.NLMSG_ERROR || kind == unix.NLMSG_DONE:
			return true, verdict(body, flags)
		case each != nil:
			each(body)
		}
	}
	return false, nil
}

// verdict reads struct nlmsgerr, or the number at the end of a list, and what comes with it.
func verdict(body []byte, flags uint16) error {
	if len(body) < 4 {
		return nil
	}
	code := int32(binary.NativeEndian.Uint32(body))
	if code == 0 {
		return nil
	}
	e := &Error{Errno: unix.Errno(-code)}
	if flags&unix.NLM_F_ACK_TLVS == 0 || len(body) < unix.SizeofNlMsgerr {
		return e
	}
	rest := body[unix.SizeofNlMsgerr:]
	if flags&unix.NLM_F_CAPPED == 0 { // the request comes back first
		request := int(binary.NativeEndian.Uint32(body[4:])) - unix.NLMSG_HDRLEN
		rest = rest[max(min((request+3)&^3, len(rest)), 0):]
	}
	attributes(rest, func(kind uint16, value []byte) {
		if kind == unix.NLMSGERR_ATTR_MSG && len(value) > 0 {
			e.Reason = string(value[:len(value)-1])
		}
	})
	return e
}
