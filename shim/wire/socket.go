package wire

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Send writes b to a socket, with the descriptor if fd isn't negative, and returns how much was taken. Errors: those of
// sendmsg(2), EAGAIN where the socket doesn't block.
func Send(socket int, b []byte, fd int) (int, error) {
	var rights []byte
	if fd >= 0 {
		rights = unix.UnixRights(fd)
	}
	for {
		n, err := unix.SendmsgN(socket, b, rights, nil, unix.MSG_NOSIGNAL)
		if err != unix.EINTR {
			return n, err
		}
	}
}

// maxRights is how many descriptors one receive may bring: messages have one each, and the kernel doesn't join what has some.
const maxRights = 4

// Receive reads from a socket, and returns the descriptors that came along, close-on-exec. Errors: those of recvmsg(2).
func Receive(socket int, b []byte) (n int, fds []int, err error) {
	var oob [64]byte
	rights := 0
	for {
		var flags int
		n, rights, flags, _, err = unix.Recvmsg(socket, b, oob[:unix.CmsgSpace(4*maxRights)], unix.MSG_CMSG_CLOEXEC)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return 0, nil, err
		}
		if fds, err = parseRights(oob[:rights]); err == nil && flags&unix.MSG_CTRUNC != 0 {
			err = fmt.Errorf("descriptors were lost: %w", unix.EMFILE)
		}
		return n, fds, err
	}
}

func parseRights(oob []byte) ([]int, error) {
	if len(oob) == 0 {
		return nil, nil
	}
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	var all []int
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			return nil, err
		}
		all = append(all, fds...)
	}
	return all, nil
}
