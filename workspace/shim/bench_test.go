package shim

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"
)

// Records of a burst, until all are durable.
func BenchmarkJournalAppend(b *testing.B) {
	for _, size := range []int{100, 1 << 10, 64 << 10} {
		b.Run(strconv.Itoa(size), func(b *testing.B) {
			j, _, _ := openTestJournal(b, filepath.Join(b.TempDir(), "journal"))
			defer closeJournal(b, j)
			r := Record{At: time.Now(), Dir: Out, Run: 1, Data: bytes.Repeat([]byte("x"), size)}
			b.SetBytes(int64(size))
			var last uint64
			for b.Loop() {
				var err error
				if last, err = j.append(b.Context(), r); err != nil {
					b.Fatal(err)
				}
			}
			if err := j.wait(b.Context(), last); err != nil {
				b.Fatal(err)
			}
		})
	}
}

// One durable record at a time, as Send needs it.
func BenchmarkJournalAppendAndWait(b *testing.B) {
	j, _, _ := openTestJournal(b, filepath.Join(b.TempDir(), "journal"))
	defer closeJournal(b, j)
	r := Record{At: time.Now(), Dir: In, ID: "id", Run: 1, Data: bytes.Repeat([]byte("x"), 1<<10)}
	for b.Loop() {
		seq, err := j.append(b.Context(), r)
		if err == nil {
			err = j.wait(b.Context(), seq)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}

// From the agent's write of a line, one each 5 ms, to the node's callback.
func BenchmarkLineLatency(b *testing.B) {
	r := newRig(b)
	var took []time.Duration
	b.ResetTimer()
	run := r.agent("stamp", strconv.Itoa(b.N))
	err := r.Records(b.Context(), 1, func(batch []Record) error {
		now := time.Now()
		for _, rec := range batch {
			if rec.Dir == Out {
				ns, err := strconv.ParseInt(string(rec.Data), 10, 64)
				if err != nil {
					return err
				}
				took = append(took, now.Sub(time.Unix(0, ns)))
			}
			if exited(rec) && rec.Run == run {
				return errEnough
			}
		}
		return nil
	})
	b.StopTimer()
	if !errors.Is(err, errEnough) || len(took) != b.N {
		b.Fatal(len(took), err)
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
}

// A line to the agent and its answer back, through the journal both ways.
func BenchmarkSend(b *testing.B) {
	r := newRig(b)
	r.start(Spec{ID: "cat", Path: "cat"})
	for i := range b.N {
		if _, _, err := r.Send(b.Context(), fmt.Sprint(b.N, "-", i), []byte(`{"jsonrpc":"2.0"}`)); err != nil {
			b.Fatal(err)
		}
	}
}

// All lines of a burst from the process to the node.
func BenchmarkBurst(b *testing.B) {
	r := newRig(b)
	b.ResetTimer()
	run := r.agent("burst", strconv.Itoa(b.N))
	err := r.Records(b.Context(), 1, func(batch []Record) error {
		if last := batch[len(batch)-1]; exited(last) && last.Run == run {
			return errEnough
		}
		return nil
	})
	if !errors.Is(err, errEnough) {
		b.Fatal(err)
	}
}
