package main

import (
	"context"
	"fmt"
	"log/slog"
	"os/exec"
	"strings"
	"time"

	"github.com/samnode/samnode/workspace"
)

// deadMan powers a bought machine off that was cut off from the mesh for a long
// time: nobody can be helped by what it does, and the files were committed when
// the mesh went away. A machine that is off costs the same; its disk can still
// be looked at, and the mesh deletes it when it is there again.
type deadMan struct {
	tenure workspace.Tenure
	after  time.Duration
	off    func(context.Context) error
	logger *slog.Logger
}

// offAgain is when a power-off that failed is tried again.
const offAgain = time.Minute

// run watches until ctx ends.
func (d *deadMan) run(ctx context.Context) error {
	wait := d.after
	for ctx.Err() == nil {
		if d.held(ctx, wait) {
			select {
			case <-d.tenure.Lost():
			case <-ctx.Done():
			}
			wait = d.after
			continue
		}
		if ctx.Err() != nil {
			break
		}
		d.logger.Error("cut off from the mesh for too long: powering this machine off", "after", d.after)
		if err := d.off(ctx); err != nil {
			d.logger.Error("powering off", "err", err)
		}
		wait = offAgain
	}
	return nil
}

// held waits for the tenure, but no longer than that.
func (d *deadMan) held(ctx context.Context, wait time.Duration) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-d.tenure.Held():
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	return false
}

// powerOff ends the machine.
func powerOff(ctx context.Context) error {
	out, err := exec.CommandContext(ctx, "systemctl", "poweroff").CombinedOutput()
	if err != nil {
		err = fmt.Errorf("systemctl poweroff: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return err
}
