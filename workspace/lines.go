package workspace

import (
	"bytes"
	"io"
	"sync"
)

// lineWriter hands on whole lines; carriage returns end a line, too, as git's
// and npm's progress does. Safe for the two streams of one command.
type lineWriter struct {
	fn   func(string)
	mu   sync.Mutex
	rest []byte
}

var _ io.Writer = (*lineWriter)(nil)

func (w *lineWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rest = append(w.rest, p...)
	for {
		i := bytes.IndexAny(w.rest, "\r\n")
		if i < 0 {
			if len(w.rest) > 64<<10 { // no line: show what there is
				w.emitLocked(len(w.rest))
			}
			return len(p), nil
		}
		w.emitLocked(i)
		w.rest = w.rest[1:]
	}
}

func (w *lineWriter) emitLocked(n int) {
	if w.fn != nil && n > 0 {
		w.fn(string(w.rest[:n]))
	}
	w.rest = w.rest[n:]
}

func (w *lineWriter) flush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.emitLocked(len(w.rest))
}
