package spec

import (
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// checkNetDevices checks what can be seen without the devices, config-linux.md "Network Devices".
func (c *checker) checkNetDevices(devices map[string]specs.LinuxNetDevice) error {
	if len(devices) == 0 {
		return nil
	}
	if c.namespace(specs.NetworkNamespace) == nil {
		return Field("linux.netDevices", "need a network namespace")
	}
	names := map[string]string{} // in the container, and on the host
	for _, key := range sortedKeys(devices) {
		at, name := member("linux.netDevices", key), devices[key].Name
		if !isDeviceName(key) || strings.Contains(key, "%") {
			return Field(at, "%q is no name of a network device", key)
		}
		if name == "" {
			name = key
		} else if at += ".name"; !isDeviceName(name) || strings.Contains(name, "%") && (strings.Count(name, "%") != 1 || !strings.Contains(name, "%d")) {
			return Field(at, "%q is no name of a network device", name)
		}
		if other, taken := names[name]; taken && !strings.Contains(name, "%") {
			return Field(at, "%q is the name of the device %s, too", name, other)
		}
		names[name] = key
	}
	return nil
}

// isDeviceName is the kernel's dev_valid_name: net/core/dev.c.
func isDeviceName(name string) bool {
	return name != "" && len(name) < unix.IFNAMSIZ && name != "." && name != ".." && !strings.ContainsAny(name, "/: \t\n\v\f\r\x00")
}
