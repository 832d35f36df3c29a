//go:build weak_exe

package exe

// weakened has the program believe in a read-only mount, to show that the attack succeeds then.
const weakened = true
