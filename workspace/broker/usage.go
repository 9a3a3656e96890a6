package broker

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"sync"

	"github.com/samnode/samnode/chat"
)

// tally is what the answer of one model call said about its cost. The four
// input counts do not overlap; their sum is the whole prompt.
type tally struct {
	model     string
	input     int64 // neither read from nor written to a cache
	cached    int64 // read from a cache
	written   int64 // written to a cache for 5 minutes
	writtenH  int64 // written to a cache for an hour
	output    int64 // thoughts included
	searches  int64 // web searches run by the vendor
	textBytes int64 // of the answer, to guess at a call that was broken off
	known     bool  // the answer said what the prompt was
}

// usage is the tally in the chat's unit.
func (t tally) usage() (u chat.Usage, priced bool) {
	u = chat.Usage{Input: t.input + t.written + t.writtenH, Cached: t.cached, Output: t.output}
	u.Cost, priced = cost(t)
	return u, priced
}

// bytesPerToken is the rule of thumb for an answer whose end was not seen. It
// is there so that breaking off every call just before its end does not make
// them free.
const bytesPerToken = 4

// finished counts one call and tells about it.
func (m *models) finished(c *call, t tally, status int, whole bool) {
	if t.model == "" {
		t.model = c.model
	}
	if !whole {
		t.output = max(t.output, t.textBytes/bytesPerToken)
		if !t.known && status < 300 {
			t.input = int64(c.size) / bytesPerToken
		}
	}
	u, priced := t.usage()
	b := m.b
	b.log.Debug("model call", "provider", c.api.name, "model", t.model, "status", status, "whole", whole,
		"input", u.Input, "cached", u.Cached, "output", u.Output, "cost", u.Cost)
	if u != (chat.Usage{}) {
		b.stats.add(t.model, u)
		m.unpriced(t.model, priced)
		if b.cfg.Spent != nil {
			b.cfg.Spent(u)
		}
	}
	b.stats.Calls.Add(1)
	if status >= 400 {
		b.stats.Failed.Add(1)
	}
	if b.cfg.Called != nil {
		b.cfg.Called(Call{Provider: c.api.name, Model: t.model, Usage: u, Status: status, Aborted: !whole, Priced: priced})
	}
}

// unpriced warns when there is a budget that cannot see a model's cost.
func (m *models) unpriced(model string, priced bool) {
	if priced || m.b.cfg.Budget == nil {
		return
	}
	if _, limited := m.b.cfg.Budget(); limited {
		m.b.notes.tell(Refusal{
			Kind: KindPrice, What: model, Why: "The price of " + model + " is not known: the task's budget does not count it.",
			Todo: "Watch the tokens, or choose another model.",
		})
	}
}

// metered reads the usage out of an answer while it passes.
type metered struct {
	io.ReadCloser
	meter *meter
	done  func(t tally, whole bool)
	once  sync.Once
	whole bool
}

func (m *metered) Read(p []byte) (int, error) {
	n, err := m.ReadCloser.Read(p)
	m.meter.write(p[:n])
	if errors.Is(err, io.EOF) {
		m.whole = true
	}
	return n, err
}

func (m *metered) Close() error {
	m.once.Do(func() { m.done(m.meter.end(), m.whole) })
	return m.ReadCloser.Close()
}

// maxEvent bounds what the meter holds of one event or document. A larger one
// passes to the agent all the same, but is not read.
const maxEvent = 16 << 20

// meter finds the JSON documents in an answer: the data lines of a stream, or
// the one document (with Gemini perhaps an array of them) of a plain answer.
type meter struct {
	api    *api
	stream bool
	buf    []byte
	skip   bool // the current line is too long
	t      tally
}

func newMeter(a *api, stream bool) *meter { return &meter{api: a, stream: stream} }

func (m *meter) write(p []byte) {
	if !m.stream {
		m.keep(p)
		return
	}
	for len(p) > 0 {
		line, rest, ended := bytes.Cut(p, []byte("\n"))
		m.keep(line)
		if ended {
			m.line()
		}
		p = rest
	}
}

func (m *meter) keep(p []byte) {
	if m.skip || len(m.buf)+len(p) > maxEvent {
		m.skip, m.buf = true, m.buf[:0]
		return
	}
	m.buf = append(m.buf, p...)
}

// line reads one line of a stream.
func (m *meter) line() {
	if data, ok := bytes.CutPrefix(m.buf, []byte("data:")); ok && !m.skip {
		m.api.read(bytes.TrimSpace(data), &m.t)
	}
	m.buf, m.skip = m.buf[:0], false
}

// end returns the sum, after the last line without its end.
func (m *meter) end() tally {
	switch {
	case m.stream:
		m.line()
	case m.skip:
	default:
		m.document()
	}
	return m.t
}

// document reads a plain answer, or as much of an array as arrived.
func (m *meter) document() {
	body := bytes.TrimSpace(m.buf)
	if !bytes.HasPrefix(body, []byte("[")) {
		m.api.read(body, &m.t)
		return
	}
	d := json.NewDecoder(bytes.NewReader(body))
	if _, err := d.Token(); err != nil {
		return
	}
	for d.More() {
		var doc json.RawMessage
		if d.Decode(&doc) != nil {
			return
		}
		m.api.read(doc, &m.t)
	}
}
