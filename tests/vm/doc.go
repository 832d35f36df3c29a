// Package vm runs the project's tests in virtual machines: on the oldest kernel that a supported Debian has, 6.1, on a
// host with nothing but cgroup v2, with AppArmor; those that are about SELinux in a second one that has it; and those that
// are about cgroups in two that systemd boots, where it manages the containers' cgroups, on cgroup v2 and on a hybrid host.
// It has only tests.
//
//	go test ./tests/vm
//
// A machine is qemu without KVM, so that it runs everywhere; it needs no root and no network, except that kernel.sh and
// systemd.sh fetch Debian's cloud kernel and its systemd once. Each test in a machine is a subtest here. SOCK_TEST_VM_RUN
// picks some of them, as go test's -run would: go test's own sees their names only when they are over, but picks machines.
//
// It skips what -short skips: here everything takes twenty times as long as elsewhere. .cache/vm holds what was fetched,
// until make clean; all else is made anew each time.
//
// Boot takes two stages of the one script init: the first copies the initramfs to a disk, for pivot_root(2) works on no
// initramfs, and before Linux 6.3 idmapped mounts on no tmpfs; the second, which may be a service of systemd's, mounts what a
// host has and runs the tests.
package vm
