package consensus

import (
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

// hclogger hands what Raft and its stores log to slog. Raft tells its inner
// life as info and every heartbeat that a dead peer misses as an error: the
// first is for debugging, and of the second people get one in a while.
type hclogger struct {
	out  *slog.Logger
	name string
	args []any
	said *said
}

func newHclog(out *slog.Logger, name string) hclog.Logger {
	return &hclogger{out: out.With("part", name), name: name, said: &said{last: map[string]time.Time{}}}
}

// sayAgain is how long what was said of a peer is not said again.
const sayAgain = 30 * time.Second

// said is when each thing was said last. It is bounded by Raft's sentences
// times its peers, and cut when it is not.
type said struct {
	mu   sync.Mutex
	last map[string]time.Time
}

func (s *said) lately(what string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.last[what]) < sayAgain {
		return true
	}
	if len(s.last) > 1000 {
		clear(s.last)
	}
	s.last[what] = time.Now()
	return false
}

// slogLevel maps hclog's levels. Trace is below what slog names.
func slogLevel(l hclog.Level) slog.Level {
	switch l {
	case hclog.Error:
		return slog.LevelWarn
	case hclog.Warn:
		return slog.LevelInfo
	case hclog.Info:
		return slog.LevelDebug
	case hclog.Trace:
		return slog.LevelDebug - 4
	default:
		return slog.LevelDebug
	}
}

// Log implements hclog.Logger.
func (h *hclogger) Log(level hclog.Level, msg string, args ...any) {
	if !h.enabled(level) {
		return
	}
	if level >= hclog.Warn && h.said.lately(msg+" "+about(args)) {
		return
	}
	args = slices.Clone(args)
	for i, a := range args {
		// hclog.Fmt hands over a format and its arguments for later.
		if f, ok := a.(hclog.Format); ok && len(f) > 0 {
			args[i] = fmt.Sprintf(fmt.Sprint(f[0]), f[1:]...)
		}
		if k, ok := a.(string); ok && i%2 == 0 {
			args[i] = strings.ReplaceAll(k, "-", "_")
		}
	}
	h.out.Log(context.Background(), slogLevel(level), msg, args...) //nolint:sloglint // raft's words
}

// about is the peer that a line is about, or nothing.
func about(args []any) string {
	for i := 0; i+1 < len(args); i += 2 {
		if args[i] == "peer" || args[i] == "target" {
			return fmt.Sprint(args[i+1])
		}
	}
	return ""
}

func (h *hclogger) enabled(level hclog.Level) bool {
	return h.out.Enabled(context.Background(), slogLevel(level))
}

func (h *hclogger) Trace(msg string, args ...any) { h.Log(hclog.Trace, msg, args...) }
func (h *hclogger) Debug(msg string, args ...any) { h.Log(hclog.Debug, msg, args...) }
func (h *hclogger) Info(msg string, args ...any)  { h.Log(hclog.Info, msg, args...) }
func (h *hclogger) Warn(msg string, args ...any)  { h.Log(hclog.Warn, msg, args...) }
func (h *hclogger) Error(msg string, args ...any) { h.Log(hclog.Error, msg, args...) }

func (h *hclogger) IsTrace() bool { return h.enabled(hclog.Trace) }
func (h *hclogger) IsDebug() bool { return h.enabled(hclog.Debug) }
func (h *hclogger) IsInfo() bool  { return h.enabled(hclog.Info) }
func (h *hclogger) IsWarn() bool  { return h.enabled(hclog.Warn) }
func (h *hclogger) IsError() bool { return h.enabled(hclog.Error) }

func (h *hclogger) ImpliedArgs() []any { return h.args }
func (h *hclogger) Name() string       { return h.name }

// With implements hclog.Logger.
func (h *hclogger) With(args ...any) hclog.Logger {
	return &hclogger{out: h.out.With(args...), name: h.name, args: slices.Concat(h.args, args), said: h.said}
}

// Named implements hclog.Logger.
func (h *hclogger) Named(name string) hclog.Logger {
	return &hclogger{out: h.out, name: h.name + "." + name, args: h.args, said: h.said}
}

// ResetNamed implements hclog.Logger.
func (h *hclogger) ResetNamed(name string) hclog.Logger {
	return &hclogger{out: h.out, name: name, args: h.args, said: h.said}
}

// SetLevel does nothing: the handler behind slog decides.
func (h *hclogger) SetLevel(hclog.Level) {}

// GetLevel implements hclog.Logger.
func (h *hclogger) GetLevel() hclog.Level {
	for _, l := range []hclog.Level{hclog.Trace, hclog.Debug, hclog.Info, hclog.Warn} {
		if h.enabled(l) {
			return l
		}
	}
	return hclog.Error
}

// StandardLogger implements hclog.Logger.
func (h *hclogger) StandardLogger(*hclog.StandardLoggerOptions) *log.Logger {
	return slog.NewLogLogger(h.out.Handler(), slog.LevelInfo)
}

// StandardWriter implements hclog.Logger.
func (h *hclogger) StandardWriter(opts *hclog.StandardLoggerOptions) io.Writer {
	return h.StandardLogger(opts).Writer()
}
