// Package rendezvous is how the program that containerd executes for every container finds the shim that runs already, and
// what the two say to each other. It imports nothing: that program's start is part of every container's.
package rendezvous

// Root is the directory of all shims' directories, 0700.
const Root = "/run/sock-shim"

// What is in a shim's directory. Neither socket is abstract, CVE-2020-15257.
const (
	TaskSocket    = "task.sock"    // what containerd connects to
	ControlSocket = "control.sock" // what takes Calls
)

// Scheme is what an address begins with; a socket's path follows.
const Scheme = "unix://"

// AddressFile is where the address stands in the bundle. containerd 1.6 reads it there.
const AddressFile = "address"

// Dir is the directory of the shim that serves a namespace of the containerd at an address, or a group of containers in it.
// The name begins with as much of the namespace as leaves the sockets' paths shorter than the 108 bytes of unix(7).
func Dir(address, namespace, group string) string {
	const longest = 32
	hash := uint64(14695981039346656037) // FNV-1a, 64 bits
	for _, part := range []string{address, namespace, group} {
		for i := range len(part) {
			hash = (hash ^ uint64(part[i])) * 1099511628211
		}
		hash *= 1099511628211 // as of a NUL, which ends the part
	}
	name := make([]byte, 0, longest+17)
	for i := 0; i < len(namespace) && i < longest; i++ {
		c := namespace[i]
		if c == '/' || c == 0 || c == '.' && i == 0 {
			c = '_'
		}
		name = append(name, c)
	}
	name = append(name, '-')
	for shift := 60; shift >= 0; shift -= 4 {
		name = append(name, "0123456789abcdef"[hash>>shift&15])
	}
	return Root + "/" + string(name)
}

// DirOf is the directory of the shim with an address; "" if it is not one of ours.
func DirOf(address string) string {
	const end = "/" + TaskSocket
	from, to := len(Scheme), len(address)-len(end)
	if to <= from || address[:from] != Scheme || address[to:] != end {
		return ""
	}
	dir := address[from:to]
	if len(dir) <= len(Root)+1 || dir[:len(Root)+1] != Root+"/" {
		return ""
	}
	for i := len(Root) + 1; i < len(dir); i++ {
		if dir[i] == '/' {
			return ""
		}
	}
	return dir
}

// Command is a shim's command line, which containerd defines.
type Command struct {
	Namespace string
	Address   string // containerd's gRPC socket
	ID        string // the task's
	Bundle    string // "" for the working directory
	Debug     bool
	Info      bool
	Version   bool
	Action    string // start or delete
}

// Parse reads a command line without the program's name, as Go's flag package would. ok is false if there is an unknown flag,
// or one lacks its value.
func Parse(args []string) (c Command, ok bool) {
	for len(args) > 0 {
		name := args[0]
		if len(name) < 2 || name[0] != '-' {
			c.Action = name
			return c, true // what follows is not for shims
		}
		args = args[1:]
		if name = name[1:]; name[0] == '-' {
			name = name[1:]
		}
		value, has := "", false
		for i := range len(name) {
			if name[i] == '=' {
				name, value, has = name[:i], name[i+1:], true
				break
			}
		}
		var to *string
		switch name {
		case "namespace":
			to = &c.Namespace
		case "address":
			to = &c.Address
		case "id":
			to = &c.ID
		case "bundle":
			to = &c.Bundle
		case "publish-binary", "socket", "debug-socket":
			to = new(string)
		case "debug":
			c.Debug = value != "false"
			continue
		case "info":
			c.Info = value != "false"
			continue
		case "v", "version":
			c.Version = value != "false"
			continue
		default:
			return c, false
		}
		if !has {
			if len(args) == 0 {
				return c, false
			}
			value, args = args[0], args[1:]
		}
		*to = value
	}
	return c, true
}
