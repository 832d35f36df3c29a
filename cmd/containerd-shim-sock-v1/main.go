// Go would look for our own cgroup's CPU limit at every start.
//
//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

// Command containerd-shim-sock-v1 is what containerd executes to start and to delete a container. It passes its command line
// on to the shim that runs already, and prints the answer. Where none runs, and for all else, it becomes sock-shimd, beside
// it.
//
// It is executed twice for every container, so it imports nothing but system calls; tests/archtest holds that.
package main

import (
	"syscall"

	"github.com/sock-runtime/sock/shim/rendezvous"
)

func main() {
	args := commandLine()
	if len(args) == 0 {
		fail("no command line")
	}
	c, ok := rendezvous.Parse(args[1:])
	if !ok || c.Info || c.Version || c.Action != "start" && c.Action != "delete" {
		becomeShimd(args)
	}
	socket := connect(c)
	if socket < 0 {
		becomeShimd(args)
	}
	call := rendezvous.Call{Args: args, Dir: directory()}
	if c.Action == "start" { // delete's standard input is nothing of ours
		call.Stdin = readAll(0)
	}
	answer, ok := ask(socket, call)
	if !ok || answer.Code == rendezvous.Elsewhere {
		// The shim was about to end, or it's another's task.
		if c.Action == "start" {
			restoreStdin(call.Stdin)
		}
		becomeShimd(args)
	}
	write(1, answer.Stdout)
	write(2, answer.Stderr)
	syscall.Exit(int(answer.Code))
}

// connect returns a connection to the shim, -1 if none runs. A task that is deleted may be in another one than the
// namespace's: the bundle has its address.
func connect(c rendezvous.Command) int {
	dir := rendezvous.Dir(c.Address, c.Namespace, "")
	if c.Action == "delete" {
		if fd, err := syscall.Open(rendezvous.AddressFile, syscall.O_RDONLY|syscall.O_CLOEXEC, 0); err == nil {
			if other := rendezvous.DirOf(string(readAll(fd))); other != "" {
				dir = other
			}
			_ = syscall.Close(fd)
		}
	}
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1
	}
	for {
		err := syscall.Connect(fd, &syscall.SockaddrUnix{Name: dir + "/" + rendezvous.ControlSocket})
		if err == nil {
			return fd
		}
		if err != syscall.EINTR {
			_ = syscall.Close(fd)
			return -1
		}
	}
}

// ask passes the call on; ok is false if no answer came.
func ask(socket int, call rendezvous.Call) (answer rendezvous.Answer, ok bool) {
	frame, ok := rendezvous.EncodeCall(call)
	if !ok || !write(socket, frame) {
		return answer, false
	}
	var header [rendezvous.HeaderSize]byte
	if !readFull(socket, header[:]) {
		return answer, false
	}
	size := rendezvous.ContentSize(header[:])
	if size > rendezvous.MaxFrame {
		return answer, false
	}
	content := make([]byte, size)
	if !readFull(socket, content) {
		return answer, false
	}
	return rendezvous.DecodeAnswer(content)
}

// becomeShimd executes sock-shimd, in our directory.
func becomeShimd(args []string) {
	path := make([]byte, 4096)
	n, err := syscall.Readlink("/proc/self/exe", path)
	if err != nil {
		fail("find sock-shimd: " + err.Error())
	}
	for n > 0 && path[n-1] != '/' {
		n--
	}
	shimd := string(path[:n]) + "sock-shimd"
	fail("execute " + shimd + ": " + syscall.Exec(shimd, args, syscall.Environ()).Error())
}

// restoreStdin makes what was read the standard input again.
func restoreStdin(data []byte) {
	const tmpfile = 0x400000 | syscall.O_DIRECTORY // O_TMPFILE, on all architectures that sock is built for
	fd, err := syscall.Open(rendezvous.Root, tmpfile|syscall.O_RDWR|syscall.O_CLOEXEC, 0o600)
	if err != nil || !write(fd, data) {
		fail("keep standard input")
	}
	if _, err := syscall.Seek(fd, 0, 0); err != nil {
		fail("keep standard input: " + err.Error())
	}
	if err := syscall.Dup3(fd, 0, 0); err != nil {
		fail("keep standard input: " + err.Error())
	}
}

// commandLine is os.Args. Package os costs more than the rest.
func commandLine() []string {
	fd, err := syscall.Open("/proc/self/cmdline", syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		fail("read the command line: " + err.Error())
	}
	data := readAll(fd)
	_ = syscall.Close(fd)
	var args []string
	for i, from := 0, 0; i < len(data); i++ {
		if data[i] == 0 {
			args = append(args, string(data[from:i]))
			from = i + 1
		}
	}
	return args
}

func directory() string {
	dir, err := syscall.Getwd()
	if err != nil {
		fail("working directory: " + err.Error())
	}
	return dir
}

func readAll(fd int) []byte {
	data := make([]byte, 0, 4096)
	for {
		if len(data) == cap(data) {
			data = append(data, 0)[:len(data)]
		}
		n, err := syscall.Read(fd, data[len(data):cap(data)])
		if err == syscall.EINTR {
			continue
		}
		if err != nil || n == 0 {
			return data
		}
		data = data[:len(data)+n]
	}
}

func readFull(fd int, b []byte) bool {
	for len(b) > 0 {
		n, err := syscall.Read(fd, b)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || n == 0 {
			return false
		}
		b = b[n:]
	}
	return true
}

func write(fd int, b []byte) bool {
	for len(b) > 0 {
		n, err := syscall.Write(fd, b)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return false
		}
		b = b[n:]
	}
	return true
}

func fail(message string) {
	write(2, []byte("containerd-shim-sock-v1: "+message+"\n"))
	syscall.Exit(1)
}
