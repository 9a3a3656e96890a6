package ui

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// stopwatch is a reader that notes when each event came.
type stopwatch struct {
	http.ResponseWriter
	began time.Time
	at    []time.Duration
	names []string
	text  strings.Builder
}

func (w *stopwatch) Write(p []byte) (int, error) {
	if _, name, ok := strings.Cut(string(p), "event: "); ok {
		name, _, _ = strings.Cut(name, "\n")
		w.at, w.names = append(w.at, time.Since(w.began)), append(w.names, name)
	}
	return w.text.Write(p)
}

// silent fails where nothing came for longer than a beat.
func (w *stopwatch) silent(t *testing.T) {
	t.Helper()
	last := time.Duration(0)
	for _, at := range w.at {
		if at-last > beatEvery {
			t.Errorf("silent from %v to %v", last, at)
		}
		last = at
	}
	if last < time.Since(w.began)-beatEvery {
		t.Errorf("silent from %v on", last)
	}
}

// TestAStreamIsNeverSilentForLongerThanABeat, whenever it says something in
// between: a page takes a longer silence for its node's death. It says no more
// than that either.
func TestAStreamIsNeverSilentForLongerThanABeat(t *testing.T) {
	for name, says := range map[string][]time.Duration{
		"nothing":             nil,
		"just before a beat":  {900 * time.Millisecond, 2800 * time.Millisecond},
		"just after one":      {1100 * time.Millisecond, 3200 * time.Millisecond},
		"all the time":        {300 * time.Millisecond, 600 * time.Millisecond, 900 * time.Millisecond, 1200 * time.Millisecond, 1500 * time.Millisecond},
		"what is not a patch": {-500 * time.Millisecond, -700 * time.Millisecond, -1300 * time.Millisecond}, // nothing new for this reader
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite(t)
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second+time.Millisecond)
				defer cancel()
				w := &stopwatch{ResponseWriter: httptest.NewRecorder(), began: time.Now()}
				left := says
				step := func(ctx context.Context, e *events) error {
					var due <-chan time.Time
					if len(left) > 0 {
						due = time.After(time.Until(w.began.Add(left[0].Abs())))
					}
					select {
					case <-ctx.Done():
						return ctx.Err()
					case <-due:
						var pieces []string
						if left[0] > 0 {
							pieces = []string{"data: x\n"}
						}
						left = left[1:]
						return e.patch(1, pieces...)
					}
				}
				if err := s.follow(w, httptest.NewRequestWithContext(ctx, "GET", "/events", nil), step); err != nil {
					t.Fatal(err)
				}
				w.silent(t)
				last := time.Duration(0)
				for i, at := range w.at {
					if w.names[i] == "beat" && at-last < beatEvery {
						t.Errorf("a beat at %v, %v after an event", at, at-last)
					}
					last = at
				}
				if len(left) > 0 {
					t.Errorf("%d are left", len(left))
				}
			})
		})
	}
}

// TestADeadNodesPageBeats: who looks at a node that does not answer is not to
// take the one that serves the page for dead.
func TestADeadNodesPageBeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newFakeMesh()
		m.asleep, m.slow = true, 3*time.Second
		s := newSite(t, m.with)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second+time.Millisecond)
		defer cancel()
		w := &stopwatch{ResponseWriter: httptest.NewRecorder(), began: time.Now()}
		s.ServeHTTP(w, httptest.NewRequestWithContext(ctx, "GET", "/events/nodes/core-2", nil))
		w.silent(t)
		if !strings.Contains(w.text.String(), "core-2 does not answer.") {
			t.Errorf("the stream says %s", w.text.String())
		}
	})
}
