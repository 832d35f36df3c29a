package main

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestLogLines(t *testing.T) {
	tests := []struct {
		name       string
		log        func(l *slog.Logger)
		text, json string
	}{
		{
			"error",
			func(l *slog.Logger) { l.Error(`exec: "x": executable file not found in $PATH`) },
			`time="TIME" level=error msg="exec: \"x\": executable file not found in $PATH"`,
			`{"level":"error","msg":"exec: \"x\": executable file not found in $PATH","time":"TIME"}`,
		},
		{
			"a word needs no quotes",
			func(l *slog.Logger) { l.Warn("a-b_c/d@e^f+1.2") },
			`time="TIME" level=warning msg=a-b_c/d@e^f+1.2`,
			`{"level":"warning","msg":"a-b_c/d@e^f+1.2","time":"TIME"}`,
		},
		{
			"attributes",
			func(l *slog.Logger) { l.Info("m", "z", 1, "error", errors.New("no way"), "b", true) },
			`time="TIME" level=info msg=m b=true error="no way" z=1`,
			`{"b":true,"error":"no way","level":"info","msg":"m","time":"TIME","z":1}`,
		},
		{
			"groups",
			func(l *slog.Logger) { l.With("a", "1").WithGroup("g").With("b", "2").Info("m", "c", "3") },
			`time="TIME" level=info msg=m a=1 g.b=2 g.c=3`,
			`{"a":"1","g.b":"2","g.c":"3","level":"info","msg":"m","time":"TIME"}`,
		},
		{
			"a name that is taken",
			func(l *slog.Logger) { l.Info("m", "msg", "x") },
			`time="TIME" level=info msg=m msg=x`,
			`{"fields.msg":"x","level":"info","msg":"m","time":"TIME"}`,
		},
		{"debug is off", func(l *slog.Logger) { l.Debug("m") }, "", ""},
	}
	for _, tt := range tests {
		for _, asJSON := range []bool{false, true} {
			var out bytes.Buffer
			tt.log(slog.New(&logHandler{out: &out, json: asJSON}))
			got := strings.TrimSuffix(timestamp.ReplaceAllString(out.String(), "TIME"), "\n")
			want := tt.text
			if asJSON {
				want = tt.json
			}
			if got != want {
				t.Errorf("%s: got\n%s\nwant\n%s", tt.name, got, want)
			}
		}
	}
}

func TestDebugLog(t *testing.T) {
	var out bytes.Buffer
	slog.New(&logHandler{out: &out, level: slog.LevelDebug}).Debug("m")
	if !strings.Contains(out.String(), "level=debug msg=m\n") {
		t.Errorf("got %q", out.String())
	}
}

func TestShorten(t *testing.T) {
	for length, want := range map[int]int{0: 0, longestMessage: longestMessage, longestMessage + 1: longestMessage, 10 << 20: longestMessage} {
		message := "begin" + strings.Repeat("ä", length/2) + strings.Repeat("x", length%2) + "end"
		got := shorten(message)
		if len(got) > want+64 || !strings.HasPrefix(got, "begin") || !strings.HasSuffix(got, "end") || !utf8.ValidString(got) {
			t.Errorf("%d bytes become %d: %.100q", len(message), len(got), got)
		}
	}
}
