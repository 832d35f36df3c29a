package nofile

import "unsafe"

// addressOf is safe for a package variable: it never moves.
func addressOf(l *Limit) uintptr { return uintptr(unsafe.Pointer(l)) }
