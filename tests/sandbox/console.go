package sandbox

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Console listens for the pty that the runtime sends, and reads what is written to it.
type Console struct {
	*Sandbox
	Path     string
	listener *net.UnixListener
	Master   *os.File
	mutex    sync.Mutex
	text     strings.Builder
}

// Console makes a socket for --console-socket.
func (s *Sandbox) Console() *Console {
	s.Helper()
	path := filepath.Join(s.Dir, fmt.Sprint("console-", time.Now().UnixNano()))
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	Must(s.T, err)
	c := &Console{Sandbox: s, Path: path, listener: listener}
	s.Cleanup(func() {
		listener.Close()
		if c.Master != nil {
			c.Master.Close()
		}
	})
	return c
}

// Receive takes the master of the pty.
func (c *Console) Receive() {
	c.Helper()
	Must(c.T, c.listener.SetDeadline(time.Now().Add(SettleTimeout)))
	conn, err := c.listener.AcceptUnix()
	Must(c.T, err)
	defer conn.Close()
	name, oob := make([]byte, 4096), make([]byte, unix.CmsgSpace(4*8))
	n, oobn, _, _, err := conn.ReadMsgUnix(name, oob)
	Must(c.T, err)
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	Must(c.T, err)
	if len(messages) != 1 {
		c.Fatalf("%d control messages", len(messages))
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	Must(c.T, err)
	Equal(c.T, "number of descriptors", len(fds), 1)
	if !strings.HasPrefix(string(name[:n]), "/dev/pts/") && !strings.Contains(string(name[:n]), "ptmx") {
		c.Errorf("the terminal's name is %q", name[:n])
	}
	c.Open(fds[0])
}

// Open reads from now on what is written to the terminal whose master fd is.
func (c *Console) Open(fd int) {
	Must(c.T, unix.SetNonblock(fd, true))
	c.Master = os.NewFile(uintptr(fd), "master")
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := c.Master.Read(buf)
			c.mutex.Lock()
			c.text.Write(buf[:n])
			c.mutex.Unlock()
			if err != nil {
				return
			}
		}
	}()
}

// Output is what was written to the terminal so far.
func (c *Console) Output() string {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	return c.text.String()
}

// WaitFor waits until a text was written to the terminal.
func (c *Console) WaitFor(text string) {
	c.Helper()
	Eventually(c.T, fmt.Sprintf("%q on the terminal", text), func() error {
		if out := c.Output(); !strings.Contains(out, text) {
			return fmt.Errorf("has %q", out)
		}
		return nil
	})
}

// Write types a text.
func (c *Console) Write(text string) {
	c.Helper()
	_, err := c.Master.WriteString(text)
	Must(c.T, err)
}

// Pty opens a pseudo-terminal for a runtime in the foreground.
func (s *Sandbox) Pty(rows, columns uint16) (*Console, *os.File) {
	s.Helper()
	master, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	Must(s.T, err)
	Must(s.T, unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0))
	number, err := unix.IoctlGetInt(master, unix.TIOCGPTN)
	Must(s.T, err)
	Must(s.T, unix.IoctlSetWinsize(master, unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: columns}))
	slave, err := os.OpenFile(fmt.Sprint("/dev/pts/", number), os.O_RDWR|unix.O_NOCTTY, 0)
	Must(s.T, err)
	con := &Console{Sandbox: s}
	con.Open(master)
	s.Cleanup(func() { con.Master.Close(); slave.Close() })
	return con, slave
}
