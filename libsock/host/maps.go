package host

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/sock-runtime/sock/libsock/plan"
)

// SetMaps gives the user namespace of process pid its id maps, user_namespaces(7). Those of one that is joined must be what
// config.json says. Errors name the field.
func SetMaps(pid int, m *plan.Maps) error {
	for _, ids := range []struct {
		file, from, tool string
		list             []specs.LinuxIDMapping
		own              int
	}{
		{"uid_map", "linux.uidMappings", "newuidmap", m.UIDs, os.Geteuid()},
		{"gid_map", "linux.gidMappings", "newgidmap", m.GIDs, os.Getegid()},
	} {
		var err error
		switch {
		case len(ids.list) == 0:
		case m.Joined:
			err = checkMap(pid, ids.file, ids.list)
		case os.Geteuid() == 0:
			err = write(pid, ids.file, mapText(ids.list))
		default:
			err = mapAsUser(pid, ids.file, ids.tool, ids.list, ids.own)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", ids.from, err)
		}
	}
	return nil
}

// mapAsUser is for an ordinary user, who may map but its own ids, one of each kind. For others there are newuidmap(1) and
// newgidmap(1), which know what it was granted in /etc/subuid and /etc/subgid.
func mapAsUser(pid int, file, tool string, list []specs.LinuxIDMapping, own int) error {
	if !isOnly(list, own) {
		return mapBy(tool, pid, list)
	}
	if file == "gid_map" {
		// Else whoever is kept out of a file by a group could leave that group, user_namespaces(7).
		if err := write(pid, "setgroups", "deny"); err != nil {
			return err
		}
	}
	return write(pid, file, mapText(list))
}

// checkMap compares a map of process pid's user namespace with what it should be.
func checkMap(pid int, file string, list []specs.LinuxIDMapping) error {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
	if err != nil {
		return err
	}
	if has := mapLines(string(text)); !slices.Equal(has, mapLines(mapText(list))) {
		return fmt.Errorf("the user namespace that is joined has others: %s", strings.Join(has, ", "))
	}
	return nil
}

// ReadMap reads uid_map or gid_map of process pid's user namespace. It is empty where that can't be read.
func ReadMap(pid int, file string) []specs.LinuxIDMapping {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
	if err != nil {
		return nil
	}
	var list []specs.LinuxIDMapping
	for line := range strings.Lines(string(text)) {
		var m specs.LinuxIDMapping
		if _, err := fmt.Sscan(line, &m.ContainerID, &m.HostID, &m.Size); err == nil {
			list = append(list, m)
		}
	}
	return list
}

// mapLines are the lines of a mapping, in an order that the kernel may have changed, with single blanks.
func mapLines(text string) []string {
	var list []string
	for line := range strings.Lines(text) {
		list = append(list, strings.Join(strings.Fields(line), " "))
	}
	slices.Sort(list)
	return list
}

// isOnly says whether the mapping has no other id of the host's than this one.
func isOnly(mapping []specs.LinuxIDMapping, id int) bool {
	return len(mapping) == 1 && mapping[0].Size == 1 && int64(mapping[0].HostID) == int64(id)
}

// mapBy has one of the set-uid tools of PATH write a mapping.
func mapBy(tool string, pid int, mapping []specs.LinuxIDMapping) error {
	name, err := exec.LookPath(tool)
	if err != nil {
		return fmt.Errorf("other ids than one's own take %s, which is not in PATH (Debian has it in the package uidmap)", tool)
	}
	said, err := exec.Command(name, append([]string{strconv.Itoa(pid)}, strings.Fields(mapText(mapping))...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, strings.Join(strings.Fields(string(said)), " "))
	}
	return nil
}

// write writes a file of the process in one write, without package os's poller.
func write(pid int, file, text string) error {
	name := fmt.Sprintf("/proc/%d/%s", pid, file)
	fd, err := unix.Open(name, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err == nil {
		_, err = unix.Write(fd, []byte(text))
		err = errors.Join(err, unix.Close(fd))
	}
	if err != nil {
		return fmt.Errorf("write %q to %s: %w", strings.TrimSpace(text), name, err)
	}
	return nil
}

// mapText is the format of uid_map, user_namespaces(7).
func mapText(mapping []specs.LinuxIDMapping) string {
	var text strings.Builder
	for _, m := range mapping {
		fmt.Fprintf(&text, "%d %d %d\n", m.ContainerID, m.HostID, m.Size)
	}
	return text.String()
}
