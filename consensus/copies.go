package consensus

import (
	"io"

	"github.com/hashicorp/raft"
)

// opened is a snapshot that is read. Raft hands it to the fsm wrapped.
type opened struct {
	io.ReadCloser
	meta *raft.SnapshotMeta
}

// metaOf finds out what a reader that Raft handed over is of; nil: unknown.
func metaOf(r io.ReadCloser) *raft.SnapshotMeta {
	for {
		switch x := r.(type) {
		case *opened:
			return x.meta
		case raft.ReadCloserWrapper:
			r = x.WrappedReadCloser()
		default:
			return nil
		}
	}
}
