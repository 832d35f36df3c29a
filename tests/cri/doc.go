// Package cri drives containerd's CRI plugin as the kubelet does, with runc and with sock, in one containerd: the same
// scenarios must pass with both. `go test ./tests/cri -update` writes the table of them into docs/kubernetes.md.
package cri
