package main

import (
	"bytes"
	"testing"
)

func TestFilterProcesses(t *testing.T) {
	const table = "UID        PID  PPID CMD\nroot        12     1 sleep 7\nroot        13    12 sh\nroot         7     1 12\n"
	tests := []struct {
		name, table string
		pids        []int
		want        string
		fails       bool
	}{
		{"some", table, []int{7, 12}, "UID        PID  PPID CMD\nroot        12     1 sleep 7\nroot         7     1 12\n", false},
		{"none", table, nil, "UID        PID  PPID CMD\n", false},
		{"empty lines", "PID\n\n5\n", []int{5}, "PID\n5\n", false},
		{"no such column", "USER CMD\nroot sh\n", []int{7}, "", true},
		{"nothing", "", []int{7}, "", true},
		{"not a number", "PID\nx\n", []int{7}, "", true},
		{"a short line", "USER PID\nroot\n", []int{7}, "", true},
	}
	for _, tt := range tests {
		var out bytes.Buffer
		err := filterProcesses(&out, tt.table, tt.pids)
		if out.String() != tt.want || (err != nil) != tt.fails {
			t.Errorf("%s: got %q, %v; want %q", tt.name, out.String(), err, tt.want)
		}
	}
}
