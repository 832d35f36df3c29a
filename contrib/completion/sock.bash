# Completion of sock for bash, printed by "sock completion bash".

# _sock_flags VERB sets flags to those of the verb, or of sock itself, and valued to those of them that take a value.
_sock_flags() {
	case $1 in
	"")
		flags="--debug --log --log-format --root --systemd-cgroup --cgroup-manager --rootless --profile --help -h --version -v"
		valued="--log --log-format --root --cgroup-manager --rootless --profile"
		;;
	checkpoint)
		flags="--help -h"
		valued=""
		;;
	create)
		flags="--bundle -b --console-socket --pidfd-socket --pid-file --no-pivot --no-new-keyring --preserve-fds --help -h"
		valued="--bundle -b --console-socket --pidfd-socket --pid-file --preserve-fds"
		;;
	delete)
		flags="--force -f --help -h"
		valued=""
		;;
	events)
		flags="--interval --stats --help -h"
		valued="--interval"
		;;
	exec)
		flags="--console-socket --pidfd-socket --cwd --env -e --tty -t --user -u --additional-gids -g --process -p --detach -d --pid-file --process-label --apparmor --no-new-privs --cap -c --preserve-fds --cgroup --ignore-paused --help -h"
		valued="--console-socket --pidfd-socket --cwd --env -e --user -u --additional-gids -g --process -p --pid-file --process-label --apparmor --cap -c --preserve-fds --cgroup"
		;;
	kill)
		flags="--all -a --help -h"
		valued=""
		;;
	list)
		flags="--format -f --quiet -q --help -h"
		valued="--format -f"
		;;
	pause)
		flags="--help -h"
		valued=""
		;;
	ps)
		flags="--format -f --help -h"
		valued="--format -f"
		;;
	restore)
		flags="--help -h"
		valued=""
		;;
	resume)
		flags="--help -h"
		valued=""
		;;
	run)
		flags="--bundle -b --console-socket --pidfd-socket --detach -d --keep --pid-file --no-subreaper --no-pivot --no-new-keyring --preserve-fds --help -h"
		valued="--bundle -b --console-socket --pidfd-socket --pid-file --preserve-fds"
		;;
	spec)
		flags="--bundle -b --rootless --help -h"
		valued="--bundle -b"
		;;
	start)
		flags="--help -h"
		valued=""
		;;
	state)
		flags="--help -h"
		valued=""
		;;
	update)
		flags="--resources -r --blkio-weight --cpu-period --cpu-quota --cpu-burst --cpu-share --cpu-rt-period --cpu-rt-runtime --cpuset-cpus --cpuset-mems --memory --cpu-idle --memory-reservation --memory-swap --pids-limit --l3-cache-schema --mem-bw-schema --help -h"
		valued="--resources -r --blkio-weight --cpu-period --cpu-quota --cpu-burst --cpu-share --cpu-rt-period --cpu-rt-runtime --cpuset-cpus --cpuset-mems --memory --cpu-idle --memory-reservation --memory-swap --pids-limit --l3-cache-schema --mem-bw-schema"
		;;
	features)
		flags="--help -h"
		valued=""
		;;
	plan)
		flags="--bundle -b --id --explain --json --help -h"
		valued="--bundle -b --id"
		;;
	doctor)
		flags="--json --fix --dry-run --config --help -h"
		valued="--fix --config"
		;;
	completion)
		flags="--help -h"
		valued=""
		;;
	*) flags= valued= ;;
	esac
}

_sock_files() {
	compopt -o filenames 2>/dev/null
	mapfile -t COMPREPLY < <(compgen "$@" -- "$cur")
}

_sock_words() {
	mapfile -t COMPREPLY < <(compgen -W "$1" -- "$cur")
}

_sock() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
	local verb= word flags= valued= operands=0 i
	local -a root=()
	COMPREPLY=()
	# bash takes --flag=value for three words.
	if [[ $cur == = ]]; then
		cur=
	elif [[ $prev == = ]]; then
		prev=${COMP_WORDS[COMP_CWORD - 2]}
	fi
	_sock_flags ""
	for ((i = 1; i < COMP_CWORD; i++)); do
		word=${COMP_WORDS[i]}
		if [[ $word == -* ]]; then
			[[ " $valued " == *" $word "* ]] || continue
			[[ ${COMP_WORDS[i + 1]} != = ]] || ((i++))
			((++i))
			[[ $word != --root ]] || root=(--root "${COMP_WORDS[i]}")
		elif [[ -z $verb ]]; then
			verb=$word
			_sock_flags "$verb"
		else
			((++operands))
		fi
	done
	case $verb:$prev in
	:--log) _sock_files -f && return ;;
	:--log-format) _sock_words "text json" && return ;;
	:--root) _sock_files -d && return ;;
	:--cgroup-manager) return ;;
	:--rootless) _sock_words "auto true false" && return ;;
	:--profile) _sock_words "standard lean" && return ;;
	create:--bundle|create:-b) _sock_files -d && return ;;
	create:--console-socket) _sock_files -f && return ;;
	create:--pidfd-socket) _sock_files -f && return ;;
	create:--pid-file) _sock_files -f && return ;;
	create:--preserve-fds) return ;;
	events:--interval) return ;;
	exec:--console-socket) _sock_files -f && return ;;
	exec:--pidfd-socket) _sock_files -f && return ;;
	exec:--cwd) return ;;
	exec:--env|exec:-e) return ;;
	exec:--user|exec:-u) return ;;
	exec:--additional-gids|exec:-g) return ;;
	exec:--process|exec:-p) _sock_files -f && return ;;
	exec:--pid-file) _sock_files -f && return ;;
	exec:--process-label) return ;;
	exec:--apparmor) return ;;
	exec:--cap|exec:-c) return ;;
	exec:--preserve-fds) return ;;
	exec:--cgroup) return ;;
	list:--format|list:-f) _sock_words "table json" && return ;;
	ps:--format|ps:-f) _sock_words "table json" && return ;;
	run:--bundle|run:-b) _sock_files -d && return ;;
	run:--console-socket) _sock_files -f && return ;;
	run:--pidfd-socket) _sock_files -f && return ;;
	run:--pid-file) _sock_files -f && return ;;
	run:--preserve-fds) return ;;
	spec:--bundle|spec:-b) _sock_files -d && return ;;
	update:--resources|update:-r) _sock_files -f && return ;;
	update:--blkio-weight) return ;;
	update:--cpu-period) return ;;
	update:--cpu-quota) return ;;
	update:--cpu-burst) return ;;
	update:--cpu-share) return ;;
	update:--cpu-rt-period) return ;;
	update:--cpu-rt-runtime) return ;;
	update:--cpuset-cpus) return ;;
	update:--cpuset-mems) return ;;
	update:--memory) return ;;
	update:--cpu-idle) return ;;
	update:--memory-reservation) return ;;
	update:--memory-swap) return ;;
	update:--pids-limit) return ;;
	update:--l3-cache-schema) return ;;
	update:--mem-bw-schema) return ;;
	plan:--bundle|plan:-b) _sock_files -d && return ;;
	plan:--id) return ;;
	doctor:--fix) _sock_words "docker containerd" && return ;;
	doctor:--config) _sock_files -f && return ;;
	esac
	if [[ $cur == -* ]]; then
		_sock_words "$flags"
		return
	fi
	case $verb:$operands in
	:0) _sock_words "checkpoint create delete events exec kill list pause ps restore resume run spec start state update features plan doctor completion help" ;;
	checkpoint:0) _sock_words "$(sock "${root[@]}" list -q 2>/dev/null)" ;;
	create:0) _sock_words "$(sock "${root[@]}" list -q 2>/dev/null)" ;;
	delete:0) _sock_words "$(sock "${root[@]}" list -q 2>/dev/null)" ;;
	events:0) _sock_words "$(sock "${root[@]}" list -q 2>/dev/null)" ;;
	exec:0) _sock_words "$(sock "${root[@]}" list -q 2>/dev/null)" ;;
	kill:0) _sock_words "$(sock "${root[@]}" list -q 2>/dev/null)" ;;
	kill:1) _sock_words "TERM KILL INT HUP QUIT USR1 USR2 STOP CONT WINCH" ;;
	pause:0) _sock_words "$(sock "${root[@]}" list -q 2>/dev/null)" ;;
	ps:0) _sock_words "$(sock "${root[@]}" list -q 2>/dev/null)" ;;
	restore:0) _sock_words "$(sock "${root[@]}" list -q 2>/dev/null)" ;;
	resume:0) _sock_words "$(sock "${root[@]}" list -q 2>/dev/null)" ;;
	run:0) _sock_words "$(sock "${root[@]}" list -q 2>/dev/null)" ;;
	start:0) _sock_words "$(sock "${root[@]}" list -q 2>/dev/null)" ;;
	state:0) _sock_words "$(sock "${root[@]}" list -q 2>/dev/null)" ;;
	update:0) _sock_words "$(sock "${root[@]}" list -q 2>/dev/null)" ;;
	plan:0) _sock_files -d ;;
	completion:0) _sock_words "bash zsh fish" ;;
	esac
}

complete -F _sock sock
