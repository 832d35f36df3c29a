package netdevice

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"
)

// device is what has to be known of a network device.
type device struct {
	index int32
	name  string
	up    bool
}

// address is one of a device's addresses, as struct ifaddrmsg and its attributes.
type address struct {
	family, prefix uint8
	ip             netip.Addr // for errors
	attributes     []byte
}

// Moved is a device that was moved.
type Moved struct {
	from, to  *Conn
	was, is   device
	addresses []address
}

// Move takes a device from c's namespace to another, and renames it to as, if that is not empty; "%d" in it becomes a
// number that is free there. The device keeps its permanent addresses of global scope and what else doesn't depend on the
// namespace, and is set up: config-linux.md "Network Devices". After an error it is where it was, as far as that goes:
// its routes are gone with its namespace in any case.
func (c *Conn) Move(name, as string, to *Conn) (*Moved, error) {
	d, err := c.find(name)
	if err != nil {
		return nil, err
	}
	if as == "" {
		as = d.name
	}
	if !strings.Contains(as, "%") {
		if _, err := to.look(0, as); err == nil {
			return nil, fmt.Errorf("there is a device %s already", as)
		} else if !errors.Is(err, unix.ENODEV) {
			return nil, err
		}
	}
	addresses, err := c.addresses(d.index)
	if err != nil {
		return nil, err
	}
	m := &Moved{from: c, to: to, was: d, addresses: addresses}
	if m.is, err = c.transfer(d, device{d.index, as, false}, to); err != nil {
		if _, here := c.look(d.index, ""); errors.Is(here, unix.ENODEV) { // moved, but not renamed: somebody was faster with the name
			err = errors.Join(err, m.Back())
		}
		return nil, err
	}
	if err := to.furnish(m.is.index, addresses, true); err != nil {
		return nil, errors.Join(err, m.Back())
	}
	return m, nil
}

// Back takes the device to where it came from, with the name, the addresses and the state that it had.
func (m *Moved) Back() error {
	d, err := m.to.transfer(m.is, m.was, m.from)
	if err == nil {
		err = m.from.furnish(d.index, m.addresses, m.was.up)
	}
	if err != nil {
		return fmt.Errorf("move network device %s back: %w", m.was.name, err)
	}
	return nil
}

// tries is how often a number is chosen that somebody else then takes.
const tries = 8

// transfer moves d and renames it, in one request, so that neither namespace sees a name of the other's. It gets the
// number that is wanted, or the next that is free: by that it is found again, whatever its name, also after an error
// (IFLA_NEW_IFINDEX, Linux 5.13).
func (c *Conn) transfer(d, want device, to *Conn) (device, error) {
	for range tries {
		there := device{index: want.index}
		for ; ; there.index++ {
			if _, err := to.look(there.index, ""); errors.Is(err, unix.ENODEV) {
				break
			} else if err != nil {
				return there, err
			}
		}
		body := attribute(link(d.index, 0, 0), unix.IFLA_NET_NS_FD, number(uint32(to.ns)))
		body = attribute(body, unix.IFLA_NEW_IFINDEX, number(uint32(there.index)))
		body = attribute(body, unix.IFLA_IFNAME, text(want.name))
		err := c.do(unix.RTM_NEWLINK, 0, body, nil)
		if errors.Is(err, unix.EBUSY) {
			if _, still := c.look(d.index, ""); still == nil {
				continue
			}
		}
		return there, err
	}
	return d, fmt.Errorf("no number is free for it: %w", unix.EBUSY)
}

// link is struct ifinfomsg: a device's number, and the flags to change.
func link(index int32, flags, change uint32) []byte {
	b := make([]byte, 4, 64) // family, type
	b = binary.NativeEndian.AppendUint32(b, uint32(index))
	b = binary.NativeEndian.AppendUint32(b, flags)
	return binary.NativeEndian.AppendUint32(b, change)
}

// find looks a device up by its name, or by another one that it has. Errors: it is not there.
func (c *Conn) find(name string) (device, error) {
	d, err := c.look(0, name)
	if errors.Is(err, unix.ENODEV) {
		return d, fmt.Errorf("there is no device %s: %w", name, unix.ENODEV)
	}
	return d, err
}

// look asks for a device by its number or its name. Errors: ENODEV.
func (c *Conn) look(index int32, name string) (d device, err error) {
	body := link(index, 0, 0)
	if name != "" {
		body = attribute(body, unix.IFLA_IFNAME, text(name))
	}
	err = c.do(unix.RTM_GETLINK, 0, body, func(b []byte) {
		if len(b) < unix.SizeofIfInfomsg {
			return
		}
		d.index, d.up = int32(binary.NativeEndian.Uint32(b[4:])), binary.NativeEndian.Uint32(b[8:])&unix.IFF_UP != 0
		attributes(b[unix.SizeofIfInfomsg:], func(kind uint16, value []byte) {
			if kind == unix.IFLA_IFNAME && len(value) > 0 {
				d.name = string(value[:len(value)-1])
			}
		})
	})
	if err == nil && d.index == 0 {
		err = errors.New("netlink: no answer")
	}
	return d, err
}

// addresses lists a device's permanent addresses of global scope, of all families.
func (c *Conn) addresses(index int32) (list []address, err error) {
	for range tries {
		list = nil
		err = c.do(unix.RTM_GETADDR, unix.NLM_F_DUMP, make([]byte, unix.SizeofIfAddrmsg), func(b []byte) {
			if len(b) < unix.SizeofIfAddrmsg || int32(binary.NativeEndian.Uint32(b[4:])) != index || b[3] != unix.RT_SCOPE_UNIVERSE {
				return
			}
			if a, permanent := parseAddress(b); permanent {
				list = append(list, a)
			}
		})
		if !errors.Is(err, unix.EAGAIN) {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	return list, nil
}

// keptFlags are those of an address that somebody set, and that the kernel takes.
const keptFlags = unix.IFA_F_NODAD | unix.IFA_F_HOMEADDRESS | unix.IFA_F_MANAGETEMPADDR | unix.IFA_F_NOPREFIXROUTE | unix.IFA_F_MCAUTOJOIN

func parseAddress(b []byte) (a address, permanent bool) {
	a.family, a.prefix = b[0], b[1]
	flags := uint32(b[2])
	attributes(b[unix.SizeofIfAddrmsg:], func(kind uint16, value []byte) {
		if kind == unix.IFA_LOCAL || kind == unix.IFA_ADDRESS && !a.ip.IsValid() { // LOCAL is its own where ADDRESS is its peer's
			a.ip, _ = netip.AddrFromSlice(value)
		}
		switch kind {
		case unix.IFA_FLAGS:
			if len(value) == 4 {
				flags = binary.NativeEndian.Uint32(value)
			}
		case unix.IFA_ADDRESS, unix.IFA_LOCAL, unix.IFA_BROADCAST, unix.IFA_RT_PRIORITY: // not IFA_LABEL, which has the old name
			a.attributes = attribute(a.attributes, kind, value)
		}
	})
	a.attributes = attribute(a.attributes, unix.IFA_FLAGS, number(flags&keptFlags))
	return a, flags&unix.IFA_F_PERMANENT != 0
}

// furnish gives a device that has just come its addresses, which the kernel took away, and sets it up.
func (c *Conn) furnish(index int32, addresses []address, up bool) error {
	for _, a := range addresses {
		body := append([]byte{a.family, a.prefix, 0, unix.RT_SCOPE_UNIVERSE}, number(uint32(index))...)
		err := c.do(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL, append(body, a.attributes...), nil)
		if err != nil {
			return fmt.Errorf("give it its address %s/%d: %w", a.ip, a.prefix, err)
		}
	}
	if !up {
		return nil
	}
	if err := c.do(unix.RTM_NEWLINK, 0, link(index, unix.IFF_UP, unix.IFF_UP), nil); err != nil {
		return fmt.Errorf("set it up: %w", err)
	}
	return nil
}
