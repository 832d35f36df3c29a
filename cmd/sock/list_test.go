package main

import (
	"bytes"
	"testing"
	"time"

	"github.com/sock-runtime/sock/libsock"
)

func TestListTable(t *testing.T) {
	created := time.Date(2026, 1, 2, 3, 4, 5, 678, time.UTC)
	var out bytes.Buffer
	err := writeTable(&out, []libsock.Status{
		{ID: "a", Pid: 12, Status: "running", Bundle: "/b", Created: created, Owner: "root"},
		{ID: "a-long-name-it-is", Status: "stopped", Bundle: "/some/where", Created: created, Owner: "#5"},
	})
	if err != nil {
		t.Fatal(err)
	}
	// As Debian's runc 1.1.5 prints it.
	const want = "" +
		"ID                  PID         STATUS      BUNDLE        CREATED                          OWNER\n" +
		"a                   12          running     /b            2026-01-02T03:04:05.000000678Z   root\n" +
		"a-long-name-it-is   0           stopped     /some/where   2026-01-02T03:04:05.000000678Z   #5\n"
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
}
