package store

import (
	"context"
	"fmt"
	"time"
)

// checkpointWait is how long a checkpoint waits for readers of old pages. A
// copy that is being made is not counted: it takes as long as it takes.
const checkpointWait = 30 * time.Second

// checkpoint makes durable what is committed now: it moves the WAL into the
// database and syncs both. Writing goes on meanwhile; a reader that stands on
// older pages holds it up, at most for checkpointWait.
func (s *Store) checkpoint(ctx context.Context) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	began := time.Now()
	for want := -1; ; {
		busy, inLog, moved, err := s.moveWAL(ctx, "PASSIVE")
		if err != nil {
			return fmt.Errorf("checkpointing %s: %w", s.path, err)
		}
		if want < 0 {
			want = inLog
		}
		if busy == 0 && (moved >= want || moved == inLog) { // a WAL that began anew was moved whole
			return nil
		}
		if s.pinned() {
			began = time.Now()
		}
		if time.Since(began) > checkpointWait {
			return fmt.Errorf("checkpointing %s: a reader held %d of %d pages back for %s", s.path, inLog-moved, inLog, checkpointWait)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("checkpointing %s: %w", s.path, context.Cause(ctx))
		}
	}
}

// moveWAL checkpoints once and says how many pages the WAL has and how many of
// them are in the database now.
func (s *Store) moveWAL(ctx context.Context, mode string) (busy, inLog, moved int, err error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	err = s.sync.QueryRowContext(ctx, `PRAGMA wal_checkpoint(`+mode+`)`).Scan(&busy, &inLog, &moved)
	return busy, inLog, moved, err
}
