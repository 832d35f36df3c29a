// Package engines runs containers through real engines: Docker, containerd with its shim API, Podman and Buildah, with
// sock and, for what they must have in common, runc. It has only tests.
//
//	go test ./tests/engines
//
// SOCK_TEST_STRICT=1 fails where an engine is missing that could be installed, where otherwise the test is skipped.
package engines
