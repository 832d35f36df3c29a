// Package podconfig decodes what a pod's containers have in common from CRI's PodSandboxConfig (k8s.io/cri-api, runtime.v1).
// Of its two hundred messages it takes six apart by hand: the worker needs no more, and their Go types would make it twice
// as large.
package podconfig

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// Mode is a NamespaceMode: whose namespace it is.
type Mode uint64

// The modes that sandboxes have.
const (
	Pod       Mode = 0 // all containers share one
	Container Mode = 1 // each has its own
	Node      Mode = 2 // the host's
)

// Config is what concerns us of a PodSandboxConfig.
type Config struct {
	Hostname     string
	DNS          *DNS   // nil: the host's
	CgroupParent string // of cgroupfs, or a path that ends in .slice
	Sysctls      map[string]string
	Network      Mode
	PID          Mode
	IPC          Mode
	Users        *Users // nil: the host's user namespace
}

// DNS is what resolv.conf is to say.
type DNS struct {
	Servers, Searches, Options []string
}

// Users are the mappings of the pod's user namespace.
type Users struct {
	UIDs, GIDs []Mapping
}

// Mapping is an IDMapping.
type Mapping struct {
	Host, Container, Size uint32
}

// fields calls f for each field of a message: number for varints, data for all that has a length.
func fields(message []byte, f func(field protowire.Number, number uint64, data []byte) error) error {
	for len(message) > 0 {
		field, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return protowire.ParseError(n)
		}
		message = message[n:]
		var number uint64
		var data []byte
		switch kind {
		case protowire.VarintType:
			number, n = protowire.ConsumeVarint(message)
		case protowire.BytesType:
			data, n = protowire.ConsumeBytes(message)
		default:
			n = protowire.ConsumeFieldValue(field, kind, message)
		}
		if n < 0 {
			return protowire.ParseError(n)
		}
		if err := f(field, number, data); err != nil {
			return err
		}
		message = message[n:]
	}
	return nil
}

// Decode reads a PodSandboxConfig. Fields that it doesn't know are none of a runtime's business.
func Decode(message []byte) (*Config, error) {
	c := &Config{}
	err := fields(message, func(field protowire.Number, _ uint64, data []byte) error {
		switch field {
		case 2:
			c.Hostname = string(data)
		case 4:
			return c.dns(data)
		case 8:
			return c.linux(data)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("decode PodSandboxConfig: %w", err)
	}
	return c, nil
}

func (c *Config) dns(message []byte) error {
	if c.DNS == nil {
		c.DNS = &DNS{}
	}
	return fields(message, func(field protowire.Number, _ uint64, data []byte) error {
		switch field {
		case 1:
			c.DNS.Servers = append(c.DNS.Servers, string(data))
		case 2:
			c.DNS.Searches = append(c.DNS.Searches, string(data))
		case 3:
			c.DNS.Options = append(c.DNS.Options, string(data))
		}
		return nil
	})
}

// linux is a LinuxPodSandboxConfig.
func (c *Config) linux(message []byte) error {
	return fields(message, func(field protowire.Number, _ uint64, data []byte) error {
		switch field {
		case 1:
			c.CgroupParent = string(data)
		case 2: // LinuxSandboxSecurityContext
			return fields(data, func(field protowire.Number, _ uint64, data []byte) error {
				if field == 1 {
					return c.namespaces(data)
				}
				return nil
			})
		case 3:
			return c.sysctl(data)
		}
		return nil
	})
}

// sysctl is an entry of a map.
func (c *Config) sysctl(message []byte) error {
	var key, value string
	err := fields(message, func(field protowire.Number, _ uint64, data []byte) error {
		switch field {
		case 1:
			key = string(data)
		case 2:
			value = string(data)
		}
		return nil
	})
	if c.Sysctls == nil {
		c.Sysctls = map[string]string{}
	}
	c.Sysctls[key] = value
	return err
}

// namespaces is a NamespaceOption.
func (c *Config) namespaces(message []byte) error {
	return fields(message, func(field protowire.Number, number uint64, data []byte) error {
		switch field {
		case 1:
			c.Network = Mode(number)
		case 2:
			c.PID = Mode(number)
		case 3:
			c.IPC = Mode(number)
		case 5:
			return c.users(data)
		}
		return nil
	})
}

// users is a UserNamespace.
func (c *Config) users(message []byte) error {
	mode, users := Pod, &Users{}
	err := fields(message, func(field protowire.Number, number uint64, data []byte) error {
		var err error
		switch field {
		case 1:
			mode = Mode(number)
		case 2:
			users.UIDs, err = appendMapping(users.UIDs, data)
		case 3:
			users.GIDs, err = appendMapping(users.GIDs, data)
		}
		return err
	})
	switch mode {
	case Pod:
		c.Users = users
	case Node:
	default:
		return fmt.Errorf("user namespace of mode %d", mode)
	}
	return err
}

func appendMapping(list []Mapping, message []byte) ([]Mapping, error) {
	var m Mapping
	err := fields(message, func(field protowire.Number, number uint64, _ []byte) error {
		switch field {
		case 1:
			m.Host = uint32(number)
		case 2:
			m.Container = uint32(number)
		case 3:
			m.Size = uint32(number)
		}
		return nil
	})
	return append(list, m), err
}
