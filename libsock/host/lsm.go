package host

import (
	"strings"

	"golang.org/x/sys/unix"
)

// AppArmor says whether the kernel confines by AppArmor profiles.
func AppArmor() bool { return firstWord("/sys/module/apparmor/parameters/enabled") == "Y" }

// SELinux says whether the kernel enforces an SELinux policy, or would if it weren't permissive. A selinuxfs that is
// read-only is what container engines show in a container to say no, selinux(8).
func SELinux() bool {
	var st unix.Statfs_t
	if unix.Statfs("/sys/fs/selinux", &st) != nil || st.Type != unix.SELINUX_MAGIC || st.Flags&unix.ST_RDONLY != 0 {
		return false
	}
	return firstWord("/proc/self/attr/current") != "kernel" // everybody's label until a policy is loaded
}

// firstWord returns what a short file holds, "" where there is none. It is on the way of every start that asks for a label,
// so it does without package os.
func firstWord(file string) string {
	fd, err := unix.Open(file, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return ""
	}
	defer unix.Close(fd)
	buf := make([]byte, 256)
	n, err := unix.Read(fd, buf)
	if err != nil {
		return ""
	}
	return strings.Trim(string(buf[:n]), "\x00\n ")
}
