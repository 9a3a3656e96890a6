package metrics

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// other is the label of requests that no route took, and of answers without a
// status.
const other = "other"

// Count counts the requests that next answers. The label is the pattern of
// next's route, which an http.ServeMux leaves in the request, so next is the
// mux, or passes on the very request it gets.
func (m *Metrics) Count(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		answer := &answer{ResponseWriter: w}
		panics := true
		defer func() { // also when the handler panics, as those that are aborted do
			route := other
			if r.Pattern != "" {
				route = r.Pattern
			}
			m.requests.WithLabelValues(route, answer.code(panics)).Inc()
			if !answer.stream() {
				m.duration.WithLabelValues(route).Observe(time.Since(began).Seconds())
			}
		}()
		next.ServeHTTP(answer, r)
		panics = false
	})
}

// answer remembers the status of an answer.
type answer struct {
	http.ResponseWriter
	status int
}

// Unwrap lets http.ResponseController flush, hijack and set deadlines.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// WriteHeader implements http.ResponseWriter.
func (a *answer) WriteHeader(status int) {
	if a.status == 0 && (status >= 200 || status == http.StatusSwitchingProtocols) {
		a.status = status
	}
	a.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (a *answer) Write(p []byte) (int, error) {
	if a.status == 0 {
		a.status = http.StatusOK
	}
	return a.ResponseWriter.Write(p)
}

// code is the label of the status. An answer that nothing was written to is a
// 200, but not after a panic; codes that are none have no labels of their own.
func (a *answer) code(panics bool) string {
	switch {
	case a.status == 0 && !panics:
		return strconv.Itoa(http.StatusOK)
	case a.status < 100 || a.status > 599:
		return other
	}
	return strconv.Itoa(a.status)
}

// stream tells whether the answer was one without an end of its own.
func (a *answer) stream() bool {
	return a.status == http.StatusSwitchingProtocols || strings.HasPrefix(a.Header().Get("Content-Type"), "text/event-stream")
}
