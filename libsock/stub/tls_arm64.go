package stub

// heapTLS is false: Go's code has g in a register.
//
//go:nosplit
func heapTLS(arena) bool { return false }
