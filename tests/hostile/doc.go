// Package hostile plays the attacks of docs/threats.md for real: a container, or whoever can write where sock reads, tries
// to get at the host, and each test shows that nothing came of it. Where it can be shown, the same attack succeeds on a
// weakened sock, or against a careless sequence of the same acts, so that the test would notice. It has only tests.
//
//	go test ./tests/hostile
//
// What runs in the containers is attacker, one static program.
package hostile
