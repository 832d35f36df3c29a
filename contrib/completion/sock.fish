# Completion of sock for fish, printed by "sock completion fish".

# __sock_words prints the words before the cursor without global flags and their values.
function __sock_words
	set -l words (commandline -opc)
	set -l i 2
	while test $i -le (count $words)
		switch $words[$i]
			case --log --log-format --root --cgroup-manager --rootless --profile
				set i (math $i + 2)
			case '-*'
				set i (math $i + 1)
			case '*'
				string join \n -- $words[$i..-1]
				return
		end
	end
end

# __sock_verb is true if the verb is one of the arguments; without arguments, if there is none yet.
function __sock_verb
	set -l words (__sock_words)
	if test (count $words) -eq 0
		test (count $argv) -eq 0
		return
	end
	contains -- $words[1] $argv
end

function __sock_containers
	set -l root
	set -l words (commandline -opc)
	if set -l at (contains -i -- --root $words)
		set root --root $words[(math $at + 1)]
	end
	sock $root list -q 2>/dev/null
end

complete -c sock -f
complete -c sock -n __sock_verb -l debug -d 'enable debug logging'
complete -c sock -n __sock_verb -l log -r -F -d 'append log messages to FILE instead of stderr'
complete -c sock -n __sock_verb -l log-format -x -a 'text json' -d 'FORMAT of log messages: text or json'
complete -c sock -n __sock_verb -l root -x -a '(__fish_complete_directories)' -d 'DIR for the state of containers; it should be on a tmpfs'
complete -c sock -n __sock_verb -l systemd-cgroup -d 'make cgroups through systemd; cgroupsPath then has the form "slice:prefix:name"'
complete -c sock -n __sock_verb -l cgroup-manager -x -d 'NAME as crun has it: cgroupfs, systemd (as with --systemd-cgroup), or disabled: containers get no cgroup'
complete -c sock -n __sock_verb -l rootless -x -a 'auto true false' -d 'do without cgroups that may not be written: BOOL is true, false or auto'
complete -c sock -n __sock_verb -l profile -x -a 'standard lean' -d 'NAME of the set of fast paths: standard has those that can\'t be told apart from runc, lean also those that trade isolation for speed'
complete -c sock -n __sock_verb -l help -s h -d 'show help'
complete -c sock -n __sock_verb -l version -s v -d 'print the version'
complete -c sock -n __sock_verb -a checkpoint -d 'checkpoint a running container (not supported yet)'
complete -c sock -n __sock_verb -a create -d 'create a container'
complete -c sock -n __sock_verb -a delete -d 'delete what is left of a container'
complete -c sock -n __sock_verb -a events -d 'display events of a container: lack of memory, and its use of resources'
complete -c sock -n __sock_verb -a exec -d 'execute a new process inside a container'
complete -c sock -n __sock_verb -a kill -d 'send a signal (default: SIGTERM) to the container\'s init process'
complete -c sock -n __sock_verb -a list -d 'list the containers of a root'
complete -c sock -n __sock_verb -a pause -d 'suspend all processes of a container'
complete -c sock -n __sock_verb -a ps -d 'list the processes of a container'
complete -c sock -n __sock_verb -a restore -d 'restore a container from a checkpoint (not supported yet)'
complete -c sock -n __sock_verb -a resume -d 'let the processes of a paused container go on'
complete -c sock -n __sock_verb -a run -d 'create and run a container'
complete -c sock -n __sock_verb -a spec -d 'create a new specification file'
complete -c sock -n __sock_verb -a start -d 'execute the user\'s program in a created container'
complete -c sock -n __sock_verb -a state -d 'output the state of a container'
complete -c sock -n __sock_verb -a update -d 'update a container\'s limits'
complete -c sock -n __sock_verb -a features -d 'show what sock recognises in config.json'
complete -c sock -n __sock_verb -a plan -d 'show what creating a container would do'
complete -c sock -n __sock_verb -a doctor -d 'check the host, and make engines know sock'
complete -c sock -n __sock_verb -a completion -d 'print a completion script for a shell'
complete -c sock -n '__sock_verb checkpoint' -a '(__sock_containers)'
complete -c sock -n '__sock_verb checkpoint' -l help -s h -d 'show help'
complete -c sock -n '__sock_verb create' -a '(__sock_containers)'
complete -c sock -n '__sock_verb create' -l bundle -s b -x -a '(__fish_complete_directories)' -d 'DIR of the bundle, by default the current directory'
complete -c sock -n '__sock_verb create' -l console-socket -r -F -d 'PATH of an AF_UNIX socket that receives the master of the terminal'
complete -c sock -n '__sock_verb create' -l pidfd-socket -r -F -d 'PATH of an AF_UNIX socket that receives a pidfd of the process'
complete -c sock -n '__sock_verb create' -l pid-file -r -F -d 'write the process ID to FILE'
complete -c sock -n '__sock_verb create' -l no-pivot -d 'enter the root filesystem without pivot_root, as is necessary on a ramdisk'
complete -c sock -n '__sock_verb create' -l no-new-keyring -d 'inherit the session keyring instead of making one'
complete -c sock -n '__sock_verb create' -l preserve-fds -x -d 'pass N additional file descriptors to the process, from 3 on'
complete -c sock -n '__sock_verb create' -l help -s h -d 'show help'
complete -c sock -n '__sock_verb delete' -a '(__sock_containers)'
complete -c sock -n '__sock_verb delete' -l force -s f -d 'kill the container if it is still running (with SIGKILL)'
complete -c sock -n '__sock_verb delete' -l help -s h -d 'show help'
complete -c sock -n '__sock_verb events' -a '(__sock_containers)'
complete -c sock -n '__sock_verb events' -l interval -x -d 'TIME between two stats'
complete -c sock -n '__sock_verb events' -l stats -d 'print stats once and exit'
complete -c sock -n '__sock_verb events' -l help -s h -d 'show help'
complete -c sock -n '__sock_verb exec' -a '(__sock_containers)'
complete -c sock -n '__sock_verb exec' -l console-socket -r -F -d 'PATH of an AF_UNIX socket that receives the master of the terminal'
complete -c sock -n '__sock_verb exec' -l pidfd-socket -r -F -d 'PATH of an AF_UNIX socket that receives a pidfd of the process'
complete -c sock -n '__sock_verb exec' -l cwd -x -d 'DIR in the container in which the process begins'
complete -c sock -n '__sock_verb exec' -l env -s e -x -d 'add NAME=VALUE to the environment'
complete -c sock -n '__sock_verb exec' -l tty -s t -d 'give the process a terminal'
complete -c sock -n '__sock_verb exec' -l user -s u -x -d 'execute as UID[:GID]'
complete -c sock -n '__sock_verb exec' -l additional-gids -s g -x -d 'add GID to the additional groups'
complete -c sock -n '__sock_verb exec' -l process -s p -r -F -d 'read the process from FILE, which is JSON'
complete -c sock -n '__sock_verb exec' -l detach -s d -d 'don\'t wait for the process to end'
complete -c sock -n '__sock_verb exec' -l pid-file -r -F -d 'write the process ID to FILE'
complete -c sock -n '__sock_verb exec' -l process-label -x -d 'SELinux LABEL of the process'
complete -c sock -n '__sock_verb exec' -l apparmor -x -d 'AppArmor PROFILE of the process'
complete -c sock -n '__sock_verb exec' -l no-new-privs -d 'keep the process from gaining privileges'
complete -c sock -n '__sock_verb exec' -l cap -s c -x -d 'add the capability NAME to the bounding, effective and permitted set'
complete -c sock -n '__sock_verb exec' -l preserve-fds -x -d 'pass N additional file descriptors to the process, from 3 on'
complete -c sock -n '__sock_verb exec' -l cgroup -x -d 'put the process into the existing cgroup [CONTROLLERS:]PATH below the container\'s'
complete -c sock -n '__sock_verb exec' -l ignore-paused -d 'execute also in a paused container'
complete -c sock -n '__sock_verb exec' -l help -s h -d 'show help'
complete -c sock -n '__sock_verb kill' -a '(__sock_containers)'
complete -c sock -n '__sock_verb kill' -a 'TERM KILL INT HUP QUIT USR1 USR2 STOP CONT WINCH'
complete -c sock -n '__sock_verb kill' -l all -s a -d 'send the signal to all processes of the container'
complete -c sock -n '__sock_verb kill' -l help -s h -d 'show help'
complete -c sock -n '__sock_verb list' -l format -s f -x -a 'table json' -d 'output FORMAT: table or json'
complete -c sock -n '__sock_verb list' -l quiet -s q -d 'print only IDs'
complete -c sock -n '__sock_verb list' -l help -s h -d 'show help'
complete -c sock -n '__sock_verb pause' -a '(__sock_containers)'
complete -c sock -n '__sock_verb pause' -l help -s h -d 'show help'
complete -c sock -n '__sock_verb ps' -a '(__sock_containers)'
complete -c sock -n '__sock_verb ps' -l format -s f -x -a 'table json' -d 'output FORMAT: table or json'
complete -c sock -n '__sock_verb ps' -l help -s h -d 'show help'
complete -c sock -n '__sock_verb restore' -a '(__sock_containers)'
complete -c sock -n '__sock_verb restore' -l help -s h -d 'show help'
complete -c sock -n '__sock_verb resume' -a '(__sock_containers)'
complete -c sock -n '__sock_verb resume' -l help -s h -d 'show help'
complete -c sock -n '__sock_verb run' -a '(__sock_containers)'
complete -c sock -n '__sock_verb run' -l bundle -s b -x -a '(__fish_complete_directories)' -d 'DIR of the bundle, by default the current directory'
complete -c sock -n '__sock_verb run' -l console-socket -r -F -d 'PATH of an AF_UNIX socket that receives the master of the terminal'
complete -c sock -n '__sock_verb run' -l pidfd-socket -r -F -d 'PATH of an AF_UNIX socket that receives a pidfd of the process'
complete -c sock -n '__sock_verb run' -l detach -s d -d 'don\'t wait for the process to end'
complete -c sock -n '__sock_verb run' -l keep -d 'don\'t delete the container when it has ended'
complete -c sock -n '__sock_verb run' -l pid-file -r -F -d 'write the process ID to FILE'
complete -c sock -n '__sock_verb run' -l no-subreaper -d 'don\'t become the parent of the container\'s orphans'
complete -c sock -n '__sock_verb run' -l no-pivot -d 'enter the root filesystem without pivot_root, as is necessary on a ramdisk'
complete -c sock -n '__sock_verb run' -l no-new-keyring -d 'inherit the session keyring instead of making one'
complete -c sock -n '__sock_verb run' -l preserve-fds -x -d 'pass N additional file descriptors to the process, from 3 on'
complete -c sock -n '__sock_verb run' -l help -s h -d 'show help'
complete -c sock -n '__sock_verb spec' -l bundle -s b -x -a '(__fish_complete_directories)' -d 'DIR of the bundle, by default the current directory'
complete -c sock -n '__sock_verb spec' -l rootless -d 'write one for a container of the calling user'
complete -c sock -n '__sock_verb spec' -l help -s h -d 'show help'
complete -c sock -n '__sock_verb start' -a '(__sock_containers)'
complete -c sock -n '__sock_verb start' -l help -s h -d 'show help'
complete -c sock -n '__sock_verb state' -a '(__sock_containers)'
complete -c sock -n '__sock_verb state' -l help -s h -d 'show help'
complete -c sock -n '__sock_verb update' -a '(__sock_containers)'
complete -c sock -n '__sock_verb update' -l resources -s r -r -F -d 'read the limits from FILE, or from stdin for -'
complete -c sock -n '__sock_verb update' -l blkio-weight -x -d 'WEIGHT for block devices, from 10 to 1000'
complete -c sock -n '__sock_verb update' -l cpu-period -x -d 'CFS period in MICROSECONDS'
complete -c sock -n '__sock_verb update' -l cpu-quota -x -d 'CPU time in a CFS period, in MICROSECONDS'
complete -c sock -n '__sock_verb update' -l cpu-burst -x -d 'unused CPU time that may be saved up for later, in MICROSECONDS'
complete -c sock -n '__sock_verb update' -l cpu-share -x -d 'WEIGHT for CPU time, relative to other containers'
complete -c sock -n '__sock_verb update' -l cpu-rt-period -x -d 'real-time period in MICROSECONDS'
complete -c sock -n '__sock_verb update' -l cpu-rt-runtime -x -d 'CPU time in a real-time period, in MICROSECONDS'
complete -c sock -n '__sock_verb update' -l cpuset-cpus -x -d 'LIST of CPUs to use'
complete -c sock -n '__sock_verb update' -l cpuset-mems -x -d 'LIST of memory nodes to use'
complete -c sock -n '__sock_verb update' -l memory -x -d 'limit of memory in BYTES, -1 for none'
complete -c sock -n '__sock_verb update' -l cpu-idle -x -d '1 to run only when the CPU is idle: NUMBER is 0 or 1'
complete -c sock -n '__sock_verb update' -l memory-reservation -x -d 'soft limit of memory in BYTES'
complete -c sock -n '__sock_verb update' -l memory-swap -x -d 'limit of memory and swap together in BYTES, -1 for none'
complete -c sock -n '__sock_verb update' -l pids-limit -x -d 'NUMBER of processes and threads, -1 for no limit'
complete -c sock -n '__sock_verb update' -l l3-cache-schema -x -d 'Intel RDT SCHEMA for the L3 cache, such as L3:0=ff;1=c0'
complete -c sock -n '__sock_verb update' -l mem-bw-schema -x -d 'Intel RDT SCHEMA for memory bandwidth, such as MB:0=20;1=70'
complete -c sock -n '__sock_verb update' -l help -s h -d 'show help'
complete -c sock -n '__sock_verb features' -l help -s h -d 'show help'
complete -c sock -n '__sock_verb plan' -a '(__fish_complete_directories)'
complete -c sock -n '__sock_verb plan' -l bundle -s b -x -a '(__fish_complete_directories)' -d 'DIR of the bundle, by default the current directory'
complete -c sock -n '__sock_verb plan' -l id -x -d 'ID of the container, which is in some of the paths'
complete -c sock -n '__sock_verb plan' -l explain -d 'say where each step comes from'
complete -c sock -n '__sock_verb plan' -l json -d 'print the plan as JSON'
complete -c sock -n '__sock_verb plan' -l help -s h -d 'show help'
complete -c sock -n '__sock_verb doctor' -l json -d 'print one JSON object'
complete -c sock -n '__sock_verb doctor' -l fix -x -a 'docker containerd' -d 'have an ENGINE, docker or containerd, know sock'
complete -c sock -n '__sock_verb doctor' -l dry-run -d 'with --fix, show what would be changed'
complete -c sock -n '__sock_verb doctor' -l config -r -F -d 'with --fix, the engine\'s configuration FILE: /etc/docker/daemon.json or /etc/containerd/config.toml if it isn\'t given'
complete -c sock -n '__sock_verb doctor' -l help -s h -d 'show help'
complete -c sock -n '__sock_verb completion' -a 'bash zsh fish'
complete -c sock -n '__sock_verb completion' -l help -s h -d 'show help'
