//go:build !weak_exe

package exe

const weakened = false
