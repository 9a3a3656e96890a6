package store

import "context"

// Flush writes the backlog.
func (s *Store) Flush(ctx context.Context) error { return s.flush(ctx) }
