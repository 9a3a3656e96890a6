package shim

import (
	"context"
	"fmt"
	"sort"
)

const readChunk = 256 << 10 // bytes of one batch for a reader

// follow hands whole frames of durable records from seq from on to fn, in
// order, and then waits for more until ctx ends. fn must not keep the bytes.
func (j *journal) follow(ctx context.Context, from uint64, fn func(frames []byte) error) error {
	from = max(from, 1)
	pos, last, err := j.seek(from)
	if err != nil {
		return err
	}
	buf := make([]byte, readChunk)
	for {
		j.mu.Lock()
		end, changed, closing := j.off, j.changed, j.closing && len(j.tail) == 0
		j.mu.Unlock()
		for pos < end {
			var frames []byte
			if buf, frames, err = j.readFrames(buf, pos, end); err != nil {
				return err
			}
			pos += int64(len(frames))
			if len(buf) > 4*readChunk {
				buf = make([]byte, readChunk) // give a huge line's memory back; frames is still whole
			}
			if last < from {
				if frames, last, err = skip(frames, from); err != nil {
					return err
				}
			}
			if len(frames) > 0 {
				if err := fn(frames); err != nil {
					return err
				}
			}
			if err := context.Cause(ctx); err != nil {
				return err
			}
		}
		if closing {
			return errClosed
		}
		select {
		case <-changed:
		case <-j.done:
			if pos >= j.end() {
				return errClosed
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (j *journal) end() int64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.off
}

// seek finds a position at or before the frame of seq from, and the seq before
// that position.
func (j *journal) seek(from uint64) (int64, uint64, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if from > j.next {
		return 0, 0, fmt.Errorf("%w: asked from %d, the last is %d", ErrAhead, from, j.next-1)
	}
	i := sort.Search(len(j.index), func(i int) bool { return j.index[i].seq > from }) - 1
	if i < 0 {
		return int64(len(fileMagic)), 0, nil
	}
	return j.index[i].off, j.index[i].seq - 1, nil
}

// readFrames reads as many whole frames at pos as fit into buf, at least one;
// for a larger one it makes a larger buffer.
func (j *journal) readFrames(buf []byte, pos, end int64) (kept, frames []byte, err error) {
	b := buf[:min(int64(len(buf)), end-pos)]
	if _, err := j.f.ReadAt(b, pos); err != nil {
		return buf, nil, fmt.Errorf("reading journal: %w", err)
	}
	n := 0
	for n+headLen <= len(b) {
		size, err := frameLen(b[n:])
		if err != nil {
			return buf, nil, fmt.Errorf("reading journal at byte %d: %w", pos+int64(n), err)
		}
		if n+size > len(b) {
			if n == 0 {
				return j.readFrames(make([]byte, size), pos, pos+int64(size))
			}
			break
		}
		n += size
	}
	return buf, b[:n], nil
}

// skip drops the frames before seq from. last is the seq before what is left.
func skip(frames []byte, from uint64) (rest []byte, last uint64, err error) {
	for len(frames) > 0 {
		r, n, err := decodeFrame(frames)
		if err != nil {
			return nil, 0, fmt.Errorf("reading journal: %w", err)
		}
		if r.Seq >= from {
			return frames, from, nil
		}
		last, frames = r.Seq, frames[n:]
	}
	return nil, last, nil
}
