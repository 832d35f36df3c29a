// Package conformance runs the validation suite of the OCI runtime-tools against sock, runc and crun, and compares. It has
// only tests, and they need root, cgroup v1 (all that the suite knows) and the Go module proxy.
//
//	go test ./tests/conformance                sock must pass whatever runc or crun passes here, and what the table says
//	go test ./tests/conformance -update        writes the table in docs/conformance.md anew
//
// SOCK_BINARY names another sock. SOCK_TEST_STRICT=1 fails where something is missing that could be installed, where
// otherwise the test is skipped.
package conformance
