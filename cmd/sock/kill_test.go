package main

import (
	"testing"

	"golang.org/x/sys/unix"
)

func TestParseSignal(t *testing.T) {
	tests := []struct {
		text string
		want unix.Signal
	}{
		{"9", unix.SIGKILL},
		{"0", 0},
		{"37", 37},
		{"KILL", unix.SIGKILL},
		{"SIGKILL", unix.SIGKILL},
		{"sigusr1", unix.SIGUSR1},
		{"Term", unix.SIGTERM},
	}
	for _, tt := range tests {
		if got, err := parseSignal(tt.text); got != tt.want || err != nil {
			t.Errorf("parseSignal(%q) = %v, %v", tt.text, got, err)
		}
	}
	for _, text := range []string{"", "SIG", "KILLED", "9x"} {
		if got, err := parseSignal(text); err == nil {
			t.Errorf("parseSignal(%q) = %v, want an error", text, got)
		}
	}
}
