package spec

import (
	"errors"
	"reflect"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

func TestParseMountOptions(t *testing.T) {
	const atime = unix.MOUNT_ATTR__ATIME
	tests := []struct {
		name    string
		fstype  string
		options []string
		want    MountOptions
	}{
		{"none", "proc", nil, MountOptions{}},
		{"engine's tmpfs", "tmpfs", []string{"nosuid", "strictatime", "mode=755", "size=65536k"}, MountOptions{
			Set: unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_STRICTATIME, Clear: atime, Data: []string{"mode=755", "size=65536k"},
		}},
		{"ro", "sysfs", []string{"ro"}, MountOptions{Set: unix.MOUNT_ATTR_RDONLY, SuperFlags: []string{"ro"}}},
		{"rw after ro", "sysfs", []string{"ro", "rw"}, MountOptions{Clear: unix.MOUNT_ATTR_RDONLY, SuperFlags: []string{}}},
		{"ro after rw", "sysfs", []string{"rw", "ro", "ro"}, MountOptions{Set: unix.MOUNT_ATTR_RDONLY, SuperFlags: []string{"ro"}}},
		{"superblock", "ext4", []string{"sync", "dirsync", "lazytime", "mand", "async", "nomand"}, MountOptions{SuperFlags: []string{"dirsync", "lazytime"}}},
		{"no effect", "tmpfs", []string{"defaults", "silent", "loud", "iversion", "noiversion", "norelatime", "rnorelatime"}, MountOptions{}},
		{"acl is the filesystem's", "ext4", []string{"acl"}, MountOptions{Data: []string{"acl"}}},
		{"bind", "none", []string{"bind", "ro", "nodev", "sync"}, MountOptions{Bind: true, Set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NODEV}},
		{"bind by type", "bind", nil, MountOptions{Bind: true}},
		{"rbind", "bind", []string{"rbind", "rprivate", "rro"}, MountOptions{Bind: true, Recursive: true, RecPropagation: unix.MS_PRIVATE, RecSet: unix.MOUNT_ATTR_RDONLY}},
		{"dev after nodev", "bind", []string{"nodev", "dev"}, MountOptions{Bind: true, Clear: unix.MOUNT_ATTR_NODEV}},
		{"recursive later wins", "bind", []string{"rnoexec", "rexec", "rsuid", "rnosuid"}, MountOptions{Bind: true, RecSet: unix.MOUNT_ATTR_NOSUID, RecClear: unix.MOUNT_ATTR_NOEXEC}},
		{"nosymfollow", "bind", []string{"nosymfollow", "rsymfollow"}, MountOptions{Bind: true, Set: unix.MOUNT_ATTR_NOSYMFOLLOW, RecClear: unix.MOUNT_ATTR_NOSYMFOLLOW}},
		{"noatime", "bind", []string{"noatime"}, MountOptions{Bind: true, Set: unix.MOUNT_ATTR_NOATIME, Clear: atime}},
		{"one of the atimes", "bind", []string{"noatime", "strictatime"}, MountOptions{Bind: true, Set: unix.MOUNT_ATTR_STRICTATIME, Clear: atime}},
		{"relatime last", "bind", []string{"strictatime", "relatime"}, MountOptions{Bind: true, Clear: atime}},
		{"atime", "bind", []string{"noatime", "atime"}, MountOptions{Bind: true, Clear: atime}},
		{"atime keeps strictatime", "bind", []string{"strictatime", "atime"}, MountOptions{Bind: true, Set: unix.MOUNT_ATTR_STRICTATIME, Clear: atime}},
		{"nostrictatime", "bind", []string{"strictatime", "nostrictatime"}, MountOptions{Bind: true, Clear: atime}},
		{"nodiratime is apart", "bind", []string{"nodiratime", "relatime", "rdiratime"}, MountOptions{Bind: true, Set: unix.MOUNT_ATTR_NODIRATIME, Clear: atime, RecClear: unix.MOUNT_ATTR_NODIRATIME}},
		{"recursive atime", "bind", []string{"rnoatime", "rstrictatime"}, MountOptions{Bind: true, RecSet: unix.MOUNT_ATTR_STRICTATIME, RecClear: atime}},
		{"ratime", "bind", []string{"ratime"}, MountOptions{Bind: true, RecClear: atime}},
		{"propagation of both", "bind", []string{"rslave", "shared"}, MountOptions{Bind: true, RecPropagation: unix.MS_SLAVE, Propagation: unix.MS_SHARED}},
		{"recursive propagation last", "bind", []string{"shared", "rslave"}, MountOptions{Bind: true, RecPropagation: unix.MS_SLAVE}},
		{"remount", "bind", []string{"remount", "unbindable"}, MountOptions{Bind: true, Remount: true, Propagation: unix.MS_UNBINDABLE}},
		{"tmpcopyup", "tmpfs", []string{"tmpcopyup"}, MountOptions{TmpCopyUp: true}},
		{"idmap", "bind", []string{"idmap", "ridmap"}, MountOptions{Bind: true, IDMap: "ridmap"}},
		{"data with commas", "tmpfs", []string{"mode=1777,size=8m,", `context="u:r:t:s0:c1,c2",uid=1`}, MountOptions{Data: []string{"mode=1777", "size=8m", `context="u:r:t:s0:c1,c2"`, "uid=1"}}},
		{"overlay's commas", "overlay", []string{`lowerdir=/a\,b,upperdir=/c`}, MountOptions{Data: []string{`lowerdir=/a\,b`, "upperdir=/c"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseMountOptions(tt.fstype, tt.options)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got  %+v\nwant %+v", got, tt.want)
			}
		})
	}
}

func TestUnknownMountOption(t *testing.T) {
	for _, options := range [][]string{{"bind", "ro", "what"}, {"ro", "rbind", "what"}} {
		_, err := ParseMountOptions("none", options)
		var unknown *OptionError
		if !errors.As(err, &unknown) || unknown.Index != 2 || unknown.Option != "what" {
			t.Errorf("%q: got %v, want an error of option 2", options, err)
		}
	}
}

// The table is searched by bisection; no two options of a mount may be confused.
func TestKnownMountOptions(t *testing.T) {
	known := KnownMountOptions()
	if !slices.IsSorted(known) || len(slices.Compact(slices.Clone(known))) != len(known) {
		t.Errorf("not sorted or not unique: %q", known)
	}
	for _, name := range known {
		if o, ok := findMountOption(name); !ok || o.name != name {
			t.Errorf("%s is not found", name)
		}
	}
}

// mount_setattr(2): no attribute is both set and cleared but the access time, whose field is cleared whole or not at all.
func FuzzParseMountOptions(f *testing.F) {
	f.Add([]byte{0, 1, 2, 13, 29, 56}, "mode=755,size=1")
	f.Fuzz(func(t *testing.T, picks []byte, data string) {
		options := []string{data}
		for _, pick := range picks {
			options = append(options, mountOptions[int(pick)%len(mountOptions)].name)
		}
		m, err := ParseMountOptions("tmpfs", options)
		if err != nil {
			return
		}
		for _, attr := range []struct{ set, clear uint64 }{{m.Set, m.Clear}, {m.RecSet, m.RecClear}} {
			const atime = unix.MOUNT_ATTR__ATIME
			if attr.set&attr.clear&^atime != 0 {
				t.Errorf("%q: %#x set, %#x cleared", options, attr.set, attr.clear)
			}
			if touched := (attr.set | attr.clear) & atime; touched != 0 && attr.clear&atime != atime {
				t.Errorf("%q: access time %#x set, %#x cleared", options, attr.set&atime, attr.clear&atime)
			}
		}
	})
}
