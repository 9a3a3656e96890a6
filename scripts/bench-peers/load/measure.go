package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// messageSize is what every append carries.
const messageSize = 1 << 10

// target is a system that takes messages.
type target interface {
	Name() string
	// Prepare makes what that many appends of one measurement need and is not
	// measured.
	Prepare(ctx context.Context, appends int) error
	// Append returns when the message of that client is acknowledged.
	Append(ctx context.Context, client int, text string) error
	Close()
}

// result is one measurement.
type result struct {
	Kind      string  `json:"kind"` // append
	Target    string  `json:"target"`
	Clients   int     `json:"clients"`
	Round     int     `json:"round"`
	Appends   int     `json:"appends"`
	Seconds   float64 `json:"seconds"`
	PerSecond float64 `json:"per_second"`
	P50       float64 `json:"p50_ms"`
	P99       float64 `json:"p99_ms"`
	Max       float64 `json:"max_ms"`
}

// measure lets clients append, each the next message when the last one is
// acknowledged, until the time or the operations are over. The first tenth of
// the time warms up and does not count. One error ends it: a figure of a
// system that loses appends says nothing.
func measure(ctx context.Context, t target, clients, operations int, length time.Duration) (result, error) {
	if err := t.Prepare(ctx, operations); err != nil {
		return result{}, fmt.Errorf("preparing: %w", err)
	}
	text := message()
	var given atomic.Int64
	began := time.Now()
	counted, end := began.Add(length/10), began.Add(length)
	ctx, cancel := context.WithDeadlineCause(ctx, end.Add(20*time.Second), errors.New("an append took more than 20 s"))
	defer cancel()
	took := make([][]time.Duration, clients)
	var last atomic.Int64 // when the newest counted append ended
	errs := make(chan error, clients)
	var wg sync.WaitGroup
	for client := range clients {
		wg.Go(func() {
			for time.Now().Before(end) && given.Add(1) <= int64(operations) {
				start := time.Now()
				if err := t.Append(ctx, client, text); err != nil {
					errs <- errors.Join(err, context.Cause(ctx))
					cancel()
					return
				}
				if done := time.Now(); done.After(counted) && start.After(counted) {
					took[client] = append(took[client], done.Sub(start))
					storeMax(&last, int64(done.Sub(counted)))
				}
			}
		})
	}
	wg.Wait()
	select {
	case err := <-errs:
		return result{}, err
	default:
	}
	all := slices.Concat(took...)
	if len(all) < 10 {
		return result{}, fmt.Errorf("only %d appends were acknowledged in %s", len(all), length)
	}
	slices.Sort(all)
	seconds := time.Duration(last.Load()).Seconds()
	return result{
		Kind: "append", Target: t.Name(), Clients: clients, Appends: len(all), Seconds: seconds,
		PerSecond: float64(len(all)) / seconds,
		P50:       quantile(all, 0.50), P99: quantile(all, 0.99), Max: quantile(all, 1),
	}, nil
}

func storeMax(v *atomic.Int64, n int64) {
	for old := v.Load(); n > old && !v.CompareAndSwap(old, n); old = v.Load() {
	}
}

// message is a text that does not compress to nothing, in ASCII so that it is
// as long in JSON.
func message() string {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 -"
	b := make([]byte, messageSize)
	for i := range b {
		b[i] = letters[rand.IntN(len(letters))]
	}
	return string(b)
}

// quantile is in milliseconds, of what is sorted.
func quantile(sorted []time.Duration, q float64) float64 {
	return float64(sorted[int(q*float64(len(sorted)-1))]) / float64(time.Millisecond)
}

// disk is what the folder's disk takes to make 4 KiB durable.
type disk struct {
	Kind string  `json:"kind"` // disk
	P50  float64 `json:"fdatasync_p50_ms"`
	P99  float64 `json:"fdatasync_p99_ms"`
}

func measureDisk(dir string) (disk, error) {
	f, err := os.Create(filepath.Join(dir, "sync"))
	if err != nil {
		return disk{}, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	var took []time.Duration
	for i := range 300 {
		began := time.Now()
		_, err := f.WriteAt(make([]byte, 4096), int64(i)*4096)
		if err := errors.Join(err, syscall.Fdatasync(int(f.Fd()))); err != nil {
			return disk{}, fmt.Errorf("measuring the disk of %s: %w", dir, err)
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	return disk{"disk", quantile(took, 0.5), quantile(took, 0.99)}, nil
}
