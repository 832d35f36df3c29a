// Go would look for our own cgroup's CPU limit at every start.
//
//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

// Command nothing is what containerd executes of the shim that does nothing: it imports nothing but system calls, as sock's
// does. The server behind the address is `sock-bench nothing`.
package main

import "syscall"

func main() {
	// A RuntimeInfo with a name, for -info; the address for start; an empty DeleteResponse for delete.
	answer := ""
	switch action := lastArgument(); action {
	case "-info":
		const name = "io.containerd.nothing.v1"
		answer = "\x0a" + string(rune(len(name))) + name
	case "start":
		answer, _ = syscall.Getenv("SOCK_BENCH_NOTHING")
	case "delete":
	default:
		syscall.Exit(1)
	}
	if _, err := syscall.Write(1, []byte(answer)); err != nil {
		syscall.Exit(1)
	}
	syscall.Exit(0)
}

// lastArgument is the action, by which all of containerd's command lines end.
func lastArgument() string {
	data := make([]byte, 8<<10)
	fd, err := syscall.Open("/proc/self/cmdline", syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return ""
	}
	n, err := syscall.Read(fd, data)
	if err != nil || n < 1 {
		return ""
	}
	data = data[:n-1]
	for i := len(data) - 1; i >= 0; i-- {
		if data[i] == 0 {
			return string(data[i+1:])
		}
	}
	return ""
}
