#!/bin/sh
# A tour of sock with real containers: the plan of one, one run, the life of one step by step, and how long it takes.
# It needs root and leaves nothing behind; `make demo` calls it.
set -eu

[ $# -eq 2 ] || {
	echo "usage: demo.sh SOCK BENCH" >&2
	exit 2
}
[ "$(id -u)" -eq 0 ] || {
	echo "demo: needs root to make containers" >&2
	exit 1
}
sock=$(realpath "$1")
bench=$(realpath "$2")
PATH=$PATH:/usr/sbin:/sbin

if [ -t 1 ]; then
	bold=$(printf '\033[1m') dim=$(printf '\033[2m') plain=$(printf '\033[0m')
else
	bold='' dim='' plain=''
fi

# title begins a chapter, say explains, show prints a command as one would type it and runs it.
title() { printf '\n%s== %s ==%s\n' "$bold" "$*" "$plain"; }
say() { printf '\n%s%s%s\n' "$dim" "$*" "$plain"; }
show() {
	printf '%s#' "$bold"
	for word; do
		case $word in
		*[!A-Za-z0-9_./=:,-]*) printf " '%s'" "$word" ;;
		*) printf ' %s' "$word" ;;
		esac
	done
	printf '%s\n' "$plain"
	"$@"
}
sock() { "$sock" --root "$dir/state" "$@"; }

id=sock-demo-$$
dir=$(mktemp -d "${TMPDIR:-/tmp}/sock-demo.XXXXXX")

# left_behind prints what is still there of the containers: cgroups, and with them processes; mounts; states
# (what begins with a comma is no container, but a cache).
left_behind() {
	find /sys/fs/cgroup -type d -name "$id*" 2>/dev/null
	awk -v dir="$dir/" 'index($5, dir) == 1 { print "mount " $5 }' /proc/self/mountinfo
	[ ! -d "$dir/state" ] || find "$dir/state" -mindepth 1 -maxdepth 1 ! -name ",*"
}

cleanup() {
	status=$?
	trap - EXIT INT TERM HUP
	for container in "$id" "$id-run"; do
		sock delete --force "$container" >/dev/null 2>&1 || true
	done
	left=$(left_behind)
	rm -rf "$dir"
	if [ -n "$left" ]; then
		printf 'demo: left behind:\n%s\n' "$left" >&2
		exit 1
	fi
	exit "$status"
}
trap cleanup EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

title "1. A bundle: a root file system and a config.json"
say "The root file system is one static binary, busybox, and links to it."
mkdir -p "$dir/bundle/rootfs/bin"
cd "$dir/bundle"
cp "$(command -v busybox)" rootfs/bin/busybox
for applet in sh cat dd hostname id ls ps sleep true; do
	ln -s busybox "rootfs/bin/$applet"
done
show ls -l rootfs/bin

say "'sock spec' writes a config to begin with, the same as 'runc spec'. We want the host name subzero, at most 512 MiB of
memory, and no terminal."
show sock spec
change='.hostname = "subzero" | .linux.resources.memory = {limit: (512 * 1024 * 1024)} | .process.terminal = false'
printf "%s# jq '%s' config.json%s\n" "$bold" "$change" "$plain"
configure() {
	jq "$change | .process.args = \$ARGS.positional" config.json --args -- "$@" >config.new && mv config.new config.json
}
configure sh -c 'hostname; id'
jq -c '{hostname, memory: .linux.resources.memory, namespaces: [.linux.namespaces[].type], args: .process.args}' config.json

title "2. What sock is going to do"
say "By hand you would unshare namespaces, bind the root file system onto itself, mount /proc and the rest, pivot_root into it
with the old root at put_old, umount that, and set the host name. 'sock plan --explain' shows every step: who does it (the
host's side, or the one process that is cloned), which field of config.json asks for it, what sock does, and what you would
type instead. It changes nothing."
show sock plan --explain --id "$id"

title "3. Run it"
say "All of that, to the end of the process, and everything is removed again. It prints its host name and who it is."
show sock run "$id-run"

title "4. A container's life, step by step"
configure sleep 1000
say "create makes everything and stops right before the process: what is there now is a stub that waits for one byte."
# Detached containers keep the caller's standard output; this one has nothing to say.
show sock create "$id" </dev/null
show sock state "$id"
echo

say "start sends the byte, and the stub executes the process."
show sock start "$id"
show sock list

say "exec runs further processes in the container: they see its host name, its processes, its files, and nothing of the host."
show sock exec "$id" hostname
show sock exec "$id" ps
show sock exec "$id" ls /

say "Its memory limit as the kernel has it, read inside the container: 512 MiB are 536870912 bytes."
limit=/sys/fs/cgroup/memory/memory.limit_in_bytes
[ -d /sys/fs/cgroup/memory ] || limit=/sys/fs/cgroup/memory.max
show sock exec "$id" cat $limit

say "And what it means: who needs 600 MiB at once is killed, which is status 137 (unless the host has swap to help out)."
show sock exec "$id" dd if=/dev/zero of=/dev/null bs=600M count=1 || echo "exit status $?"

say "ps lists its processes as the host sees them."
show sock ps "$id"

say "events --stats is what engines draw their graphs from. A few of its fields:"
printf "%s# sock events --stats %s | jq -c '.data | {cpu: .cpu.usage.total, ...}'%s\n" "$bold" "$id" "$plain"
sock events --stats "$id" | jq -c '.data | {cpu: .cpu.usage.total, memory: .memory.usage.usage, limit: .memory.usage.limit, pids: .pids.current}'

status() { sock state "$id" | jq -r .status; }

say "pause freezes it, resume thaws it."
show sock pause "$id"
status
show sock resume "$id"
status

say "update changes limits while it runs: half the memory."
show sock update --memory 256m "$id"
show sock exec "$id" cat $limit

say "kill sends a signal. The process is number 1 of its PID namespace and has no handlers, so only KILL reaches it."
show sock kill "$id" KILL
tries=0
until [ "$(status)" = stopped ] || [ $((tries += 1)) -gt 100 ]; do
	sleep 0.02
done
status

say "delete removes what create made: cgroups and state."
show sock delete "$id"
show sock list

title "5. How fast?"
say "'run' of /bin/true on the config that 'sock spec' writes, in turns with the other runtimes that are installed here.
'make bench' has more rounds, create+start+delete, and exec."
"$bench" -sock "$sock" -rounds 25 -only run

title "6. Nothing left"
cd /
left=$(left_behind)
echo "processes, cgroups, mounts and states of the containers: ${left:-none}"
[ -z "$left" ]
say "Next: 'sock doctor' checks this machine and says how to give sock to Docker and containerd; README.md has the rest."
