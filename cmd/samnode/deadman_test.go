package main

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/samnode/samnode/provision"
)

// TestDeadMan: a machine goes off only after the whole time without the mesh.
func TestDeadMan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		tenure := provision.NewTenure(30 * time.Second)
		offs := 0
		d := &deadMan{tenure: tenure, after: time.Hour, logger: slog.New(slog.DiscardHandler), off: func(context.Context) error {
			offs++
			return errors.New("not now")
		}}
		done := make(chan error)
		go func() { done <- d.run(ctx) }()
		at := func(what string, wait time.Duration, want int) {
			t.Helper()
			time.Sleep(wait)
			synctest.Wait()
			if offs != want {
				t.Errorf("%s: powered off %d times, want %d", what, offs, want)
			}
		}
		at("before it ever joined", 59*time.Minute, 0)
		tenure.Renewed(time.Now())
		at("heard of just in time", 2*time.Minute, 0)
		for range 4 {
			tenure.Renewed(time.Now())
			at("cut off, not for long enough", 59*time.Minute, 0)
		}
		at("cut off for an hour and its lease", 2*time.Minute, 1)
		at("still on: again each minute", 3*time.Minute, 4)
		tenure.Renewed(time.Now())
		at("back", 59*time.Minute, 4)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
