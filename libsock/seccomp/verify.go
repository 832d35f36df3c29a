package seccomp

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// verify says whether a filter consists of the instructions that this package generates and always ends in a return.
func verify(filter []unix.SockFilter) error {
	if len(filter) == 0 || len(filter) > maxInstructions {
		return fmt.Errorf("%d instructions", len(filter))
	}
	for at, i := range filter {
		behind := uint64(len(filter) - at - 1) // instructions that follow
		ok := false
		switch i.Code {
		case opLoad:
			ok = i.K%4 == 0 && i.K < sizeOfData && behind > 0
		case opAnd:
			ok = behind > 0
		case opJump:
			ok = uint64(i.K) < behind
		case opEqual, opGreater, opGreaterEqual:
			ok = uint64(max(i.Jt, i.Jf)) < behind
		case opReturn:
			ok = true
		}
		if !ok {
			return fmt.Errorf("instruction %d: %+v", at, i)
		}
	}
	if filter[len(filter)-1].Code != opReturn {
		return errors.New("no return at the end")
	}
	return nil
}
