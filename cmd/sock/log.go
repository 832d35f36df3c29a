package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
)

// logs is where all messages go: to stderr as text, until setupLog has seen the flags.
var logs = &logHandler{out: os.Stderr}

// logHandler writes lines like those of logrus, which engines parse: `time="..." level=error msg="..."`, or the same as
// a JSON object. Attributes follow, sorted by name.
type logHandler struct {
	out   io.Writer
	json  bool
	level slog.Level
	attrs []slog.Attr
	group string // prefix of attributes' names
}

// setupLog obeys --debug, --log and --log-format.
func setupLog(ctx *cli.Context) error {
	if ctx.Bool("debug") {
		logs.level = slog.LevelDebug
	}
	switch format := ctx.String("log-format"); format {
	case "", "text":
	case "json":
		logs.json = true
	default:
		return fmt.Errorf("invalid log-format: %s", format)
	}
	if name := ctx.String("log"); name != "" {
		file, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
		if err != nil {
			return err
		}
		logs.out = file
	}
	return nil
}

// report logs the message of a command that failed, and says it on stderr too if the log is elsewhere.
func report(message string) {
	message = shorten(message)
	slog.New(logs).Error(message)
	if logs.out != os.Stderr {
		fmt.Fprintln(os.Stderr, message)
	}
}

// longestMessage is where messages are cut, in bytes: they quote what config.json says, which may be of any length.
const longestMessage = 4096

// shorten cuts out the middle of a message that is too long: it begins with what failed and ends with why.
func shorten(message string) string {
	if len(message) <= longestMessage {
		return message
	}
	const half = longestMessage / 2
	return strings.ToValidUTF8(fmt.Sprintf("%s … (%d bytes) … %s", message[:half], len(message), message[len(message)-half:]), "")
}

func (h *logHandler) Enabled(_ context.Context, level slog.Level) bool { return level >= h.level }

func (h *logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	with := *h
	with.attrs = slices.Clone(h.attrs)
	for _, a := range attrs {
		a.Key = h.group + a.Key
		with.attrs = append(with.attrs, a)
	}
	return &with
}

func (h *logHandler) WithGroup(name string) slog.Handler {
	with := *h
	with.group += name + "."
	return &with
}

// Handle writes the whole line at once, so that the lines of several processes don't mix in one log.
func (h *logHandler) Handle(_ context.Context, r slog.Record) error {
	r.Message = shorten(r.Message)
	attrs := slices.Clone(h.attrs)
	r.Attrs(func(a slog.Attr) bool {
		a.Key = h.group + a.Key
		attrs = append(attrs, a)
		return true
	})
	line := textLine(r, attrs)
	if h.json {
		var err error
		if line, err = jsonLine(r, attrs); err != nil {
			return err
		}
	}
	_, err := h.out.Write(append(line, '\n'))
	return err
}

func textLine(r slog.Record, attrs []slog.Attr) []byte {
	line := fmt.Appendf(nil, "time=%q level=%s msg=%s", r.Time.Format(time.RFC3339), levelName(r.Level), quote(r.Message))
	slices.SortStableFunc(attrs, func(a, b slog.Attr) int { return strings.Compare(a.Key, b.Key) })
	for _, a := range attrs {
		line = fmt.Appendf(line, " %s=%s", a.Key, quote(a.Value.String()))
	}
	return line
}

func jsonLine(r slog.Record, attrs []slog.Attr) ([]byte, error) {
	fields := map[string]any{"level": levelName(r.Level), "msg": r.Message, "time": r.Time.Format(time.RFC3339)}
	for _, a := range attrs {
		name := a.Key
		if _, taken := fields[name]; taken {
			name = "fields." + name
		}
		value := a.Value.Resolve().Any()
		if err, ok := value.(error); ok {
			value = err.Error()
		}
		fields[name] = value
	}
	return json.Marshal(fields)
}

// levelName returns the name that logrus has for a level.
func levelName(level slog.Level) string {
	switch {
	case level >= slog.LevelError:
		return "error"
	case level >= slog.LevelWarn:
		return "warning"
	case level >= slog.LevelInfo:
		return "info"
	default:
		return "debug"
	}
}

// quote quotes what isn't made of logrus' harmless characters alone.
func quote(s string) string {
	for _, c := range s {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.ContainsRune("-._/@^+", c):
		default:
			return strconv.Quote(s)
		}
	}
	return s
}
