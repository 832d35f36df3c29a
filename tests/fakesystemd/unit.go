package fakesystemd

import (
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
)

// types are the signatures of the properties that systemd 252 takes for scopes, as far as runtimes use them.
var types = map[string]string{
	"Description": "s", "Slice": "s", "PIDs": "au", "Delegate": "b", "DefaultDependencies": "b", "CollectMode": "s",
	"MemoryAccounting": "b", "CPUAccounting": "b", "IOAccounting": "b", "BlockIOAccounting": "b", "TasksAccounting": "b",
	"DevicePolicy": "s", "DeviceAllow": "a(ss)",
	"MemoryLimit": "t", "MemoryMax": "t", "MemoryHigh": "t", "MemoryLow": "t", "MemoryMin": "t", "MemorySwapMax": "t",
	"CPUShares": "t", "CPUWeight": "t", "CPUQuotaPerSecUSec": "t", "CPUQuotaPeriodUSec": "t",
	"BlockIOWeight": "t", "IOWeight": "t", "TasksMax": "t", "AllowedCPUs": "ay", "AllowedMemoryNodes": "ay",
	"TimeoutStopUSec": "t", "OOMPolicy": "s",
}

// set takes properties, if all are known.
func (u *Unit) set(list []Property) *dbus.Error {
	for _, p := range list {
		want, ok := types[p.Name]
		if !ok {
			return refusal("org.freedesktop.DBus.Error.PropertyReadOnly", "Cannot set property "+p.Name+", or unknown property.")
		}
		if got := p.Value.Signature().String(); got != want {
			return refusal("org.freedesktop.DBus.Error.InvalidArgs", fmt.Sprintf("Property %s is of type %s, not %s.", p.Name, want, got))
		}
		u.Properties[p.Name] = p.Value
	}
	return nil
}

// root is where the hierarchies are.
const root = "/sys/fs/cgroup"

// tracking are the hierarchies in which systemd puts all processes, limiting those that it puts them in for Delegate=yes.
// The first is where it looks for them.
func hierarchies() []string {
	var st unix.Statfs_t
	if unix.Statfs(root, &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC {
		return []string{root}
	}
	var found []string
	for _, name := range strings.Fields("systemd unified cpu cpuacct memory pids blkio devices") {
		if unix.Access(filepath.Join(root, name), unix.F_OK) == nil {
			found = append(found, filepath.Join(root, name))
		}
	}
	return found
}

// expand gives the cgroup of a slice.
func expand(slice string) string {
	path, prefix := "", ""
	for part := range strings.SplitSeq(strings.TrimSuffix(slice, ".slice"), "-") {
		prefix += part
		path += "/" + prefix + ".slice"
		prefix += "-"
	}
	return path
}

// make makes the unit's cgroups, limits them and moves its processes there.
func (u *Unit) make() error {
	pids, _ := u.Properties["PIDs"].Value().([]uint32)
	slice, _ := u.Properties["Slice"].Value().(string)
	if len(pids) == 0 {
		return fmt.Errorf("scope %s has no PIDs", u.Name)
	}
	for _, h := range hierarchies() {
		dir := filepath.Join(h, expand(slice), u.Name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		u.dirs = append(u.dirs, dir)
	}
	var list []Property
	for name, value := range u.Properties {
		list = append(list, Property{name, value})
	}
	if err := u.apply(list); err != nil {
		return err
	}
	for _, dir := range u.dirs {
		for _, pid := range pids {
			if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(int(pid))), 0); err != nil {
				return err
			}
		}
	}
	return nil
}

// files are where limits go, on v1.
var files = map[string]string{
	"MemoryLimit": "memory/memory.limit_in_bytes", "CPUShares": "cpu/cpu.shares", "TasksMax": "pids/pids.max",
}

func (u *Unit) apply(list []Property) error {
	for _, p := range list {
		hierarchy, file, ok := strings.Cut(files[p.Name], "/")
		n, isNumber := p.Value.Value().(uint64)
		if !ok || !isNumber {
			continue
		}
		text := strconv.FormatUint(n, 10)
		if n == math.MaxUint64 {
			text = map[string]string{"TasksMax": "max"}[p.Name]
			if text == "" {
				text = "-1"
			}
		}
		for _, dir := range u.dirs {
			if strings.HasPrefix(dir, filepath.Join(root, hierarchy)+"/") {
				if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0); err != nil {
					return err
				}
			}
		}
	}
	return u.allowDevices()
}

// allowDevices writes the device rules; as systemd does, by denying all first.
func (u *Unit) allowDevices() error {
	policy, _ := u.Properties["DevicePolicy"].Value().(string)
	for _, dir := range u.dirs {
		if !strings.HasPrefix(dir, root+"/devices/") {
			continue
		}
		if policy != "strict" {
			return os.WriteFile(dir+"/devices.allow", []byte("a"), 0)
		}
		if err := os.WriteFile(dir+"/devices.deny", []byte("a"), 0); err != nil {
			return err
		}
		entries, _ := u.Properties["DeviceAllow"].Value().([][]any)
		for _, e := range entries {
			rule, err := deviceRule(e[0].(string))
			if err != nil {
				return err
			}
			if err := os.WriteFile(dir+"/devices.allow", []byte(rule+" "+e[1].(string)), 0); err != nil {
				return err
			}
		}
	}
	return nil
}

// deviceRule translates systemd's name for devices to the kernel's.
func deviceRule(name string) (string, error) {
	for prefix, kind := range map[string]string{"/dev/char/": "c ", "/dev/block/": "b "} {
		if number, ok := strings.CutPrefix(name, prefix); ok {
			return kind + number, nil
		}
	}
	for prefix, kind := range map[string]string{"char-": "c ", "block-": "b "} {
		if major, ok := strings.CutPrefix(name, prefix); ok {
			return kind + major + ":*", nil
		}
	}
	return "", fmt.Errorf("unknown device %q", name)
}

// Devices is the list that the kernel has of the unit's device rules, on v1.
func (u *Unit) Devices() string {
	for _, dir := range u.dirs {
		if data, err := os.ReadFile(dir + "/devices.list"); err == nil {
			return string(data)
		}
	}
	return ""
}

func (u *Unit) populated() bool { return len(u.dirs) > 0 && len(pidsBelow(u.dirs[0])) > 0 }

func pidsBelow(dir string) []int {
	var pids []int
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			data, _ := os.ReadFile(path + "/cgroup.procs")
			for _, word := range strings.Fields(string(data)) {
				if pid, err := strconv.Atoi(word); err == nil && pid > 0 {
					pids = append(pids, pid)
				}
			}
		}
		return nil
	})
	return pids
}

// remove removes the unit's cgroups, those below them, and the slice if nothing else is in it.
func (u *Unit) remove() {
	for _, dir := range u.dirs {
		removeTree(dir)
		for slice := filepath.Dir(dir); strings.HasSuffix(slice, ".slice"); slice = filepath.Dir(slice) {
			if unix.Rmdir(slice) != nil {
				break
			}
		}
	}
}

func removeTree(dir string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if e.IsDir() {
			removeTree(filepath.Join(dir, e.Name()))
		}
	}
	_ = unix.Rmdir(dir)
}
