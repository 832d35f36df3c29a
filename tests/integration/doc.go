// Package integration runs the sock command as engines and people do, as root on the real machine: with real namespaces,
// cgroups and mounts. It has only tests.
//
//	go test ./tests/integration
//
// SOCK_BINARY names another runtime with runc's command line to run them against. SOCK_TEST_STRICT=1 fails where
// something is missing that could be installed, where otherwise the test is skipped.
package integration
