package consensus

import (
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// nullMachine costs nothing, so that the log alone is measured.
type nullMachine struct{}

func (nullMachine) Apply([]Entry) error            { return nil }
func (nullMachine) Applied() uint64                { return 0 }
func (nullMachine) Snapshot() (io.WriterTo, error) { return nullState{}, nil }
func (nullMachine) Restore(io.Reader) error        { return nil }

type nullState struct{}

func (nullState) WriteTo(io.Writer) (int64, error) { return 0, nil }

// BenchmarkAppend is acknowledged entries of 1 KiB on one voter, each on disk.
func BenchmarkAppend(b *testing.B) {
	for _, clients := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			c := testConfig(b, nullMachine{})
			c.Logger, c.segmentSize = slog.New(slog.DiscardHandler), 0
			benchmarkAppend(b, open(b, c), clients)
		})
	}
}

func benchmarkAppend(b *testing.B, l *Log, clients int) {
	say(b, l, "warm")
	data := make([]byte, 1024)
	took := make([]time.Duration, b.N)
	var next atomic.Int64
	b.ResetTimer()
	began := time.Now()
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(b.N); i = next.Add(1) - 1 {
				start := time.Now()
				if _, err := l.Propose(b.Context(), Part{Machine: "m", Data: data}); err != nil {
					b.Error(err)
					return
				}
				took[i] = time.Since(start)
			}
		})
	}
	wg.Wait()
	all := time.Since(began)
	b.StopTimer()
	slices.Sort(took)
	ms := func(q float64) float64 { return float64(took[int(q*float64(b.N-1))]) / float64(time.Millisecond) }
	b.ReportMetric(float64(b.N)/all.Seconds(), "appends/s")
	b.ReportMetric(ms(0.50), "p50-ms")
	b.ReportMetric(ms(0.99), "p99-ms")
}
