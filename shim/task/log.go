package task

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// bundleLog writes to the FIFO "log" of a task's bundle, which containerd reads into its own log, in that one's format. It
// never waits: what nobody reads is lost.
type bundleLog struct {
	path  string
	attrs []slog.Attr
}

// logTo returns a logger for the task with this bundle.
func logTo(bundle, id string) *slog.Logger {
	return slog.New(&bundleLog{path: filepath.Join(bundle, "log")}).With("id", id)
}

// Enabled implements slog.Handler.
func (b *bundleLog) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelInfo }

// Handle implements slog.Handler.
func (b *bundleLog) Handle(_ context.Context, r slog.Record) error {
	level := map[slog.Level]string{slog.LevelInfo: "info", slog.LevelWarn: "warning", slog.LevelError: "error"}[r.Level]
	if level == "" {
		level = "debug"
	}
	var line strings.Builder
	fmt.Fprintf(&line, "time=%q level=%s msg=%q runtime=io.containerd.sock.v1", r.Time.Format(time.RFC3339Nano), level, r.Message)
	add := func(a slog.Attr) bool {
		fmt.Fprintf(&line, " %s=%q", a.Key, a.Value)
		return true
	}
	for _, a := range b.attrs {
		add(a)
	}
	r.Attrs(add)
	line.WriteByte('\n')
	fd, err := unix.Open(b.path, unix.O_WRONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_, err = unix.Write(fd, []byte(line.String()))
	return err
}

// WithAttrs implements slog.Handler.
func (b *bundleLog) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &bundleLog{path: b.path, attrs: append(b.attrs[:len(b.attrs):len(b.attrs)], attrs...)}
}

// WithGroup implements slog.Handler.
func (b *bundleLog) WithGroup(string) slog.Handler { return b }
