package modeltest

import (
	"context"
	"crypto/rand"
	"net/http"
	"strings"
	"time"
)

type responseWriter = http.ResponseWriter

// stream writes server-sent events, each at once.
type stream struct {
	w   http.ResponseWriter
	rc  *http.ResponseController
	ctx context.Context
}

func (s *stream) begin(contentType string) {
	h := s.w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Cache-Control", "no-cache")
	s.w.WriteHeader(http.StatusOK)
}

// event sends one event; name may be empty.
func (s *stream) event(name string, v any) {
	var b strings.Builder
	if name != "" {
		b.WriteString("event: " + name + "\n")
	}
	b.WriteString("data: " + mustJSON(v) + "\n\n")
	s.raw(b.String())
}

func (s *stream) raw(text string) {
	// A client that is gone is found out by the context.
	_, _ = s.w.Write([]byte(text))
	_ = s.rc.Flush()
}

// say gives the words of a text to send, with the reply's pace, and returns
// false when the answer is to end here: the client left, or the script broke
// off.
func (s *stream) say(text string, r reply, send func(part string)) bool {
	parts := strings.SplitAfter(text, " ")
	if r.pace == 0 && len(parts) > 16 {
		parts = grouped(parts, 8)
	}
	for i, part := range parts {
		if r.cut && i >= len(parts)/2 {
			panic(http.ErrAbortHandler)
		}
		send(part)
		if !s.wait(r.pace) {
			return false
		}
	}
	if r.hang {
		<-s.ctx.Done()
		return false
	}
	return true
}

func grouped(parts []string, n int) []string {
	var out []string
	for len(parts) > n {
		out, parts = append(out, strings.Join(parts[:n], "")), parts[n:]
	}
	return append(out, strings.Join(parts, ""))
}

// wait returns false when the client left meanwhile.
func (s *stream) wait(d time.Duration) bool {
	if d <= 0 {
		return s.ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-s.ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// pieces cuts the JSON of a call's arguments, as models stream it.
func pieces(text string) []string {
	var out []string
	for len(text) > 24 {
		out, text = append(out, text[:24]), text[24:]
	}
	return append(out, text)
}

// tokens is the size of what a reply says, at 4 bytes each.
func (r reply) tokens() int64 {
	n := len(r.thought) + len(r.text)
	if r.call != nil {
		n += len(r.call.input())
	}
	return int64(n/4 + 1)
}

// input is the call's argument as the wire has it.
func (c *call) input() string {
	if c.tool.freeform {
		return c.text
	}
	return mustJSON(c.args)
}

// fresh makes an id that no other answer has, also after a restart.
func fresh(prefix string) string { return prefix + rand.Text() }

// retryAfter tells the client when to come again, in both common forms.
func (f fault) retryAfter(h http.Header) {
	if f.retry > 0 {
		h.Set("Retry-After", "0")
		h.Set("Retry-After-Ms", "20")
	}
}
