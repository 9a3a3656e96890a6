package shim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"sort"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	syncEvery = 50 * time.Millisecond  // longest that a written record waits for its sync
	syncBytes = 256 << 10              // or this many bytes
	maxTail   = 1 << 20                // bytes not yet durable; beyond it append blocks
	readChunk = 256 << 10              // bytes of one batch for a reader
	retryMin  = 100 * time.Millisecond // between attempts on a full or failing disk
	retryMax  = 2 * time.Second
)

var errClosed = errors.New("journal is closed")

// file is what the journal needs of one; a test puts a full disk behind it.
type file interface {
	io.ReaderAt
	io.WriterAt
	Sync() error
	Close() error
}

type osFile struct{ *os.File }

func (f osFile) Sync() error { return unix.Fdatasync(int(f.Fd())) }

// journal is the writing side. Records are numbered when they are appended,
// written by one goroutine in that order, and shown to readers only once they
// are synced: what a reader saw can not be lost and its number not be reused.
// The first record after a pause is synced at once, later ones together, at
// the latest syncEvery after.
//
// tail holds all that is not synced, so that a failed write or sync is done
// again from memory; while that lasts, append blocks and nobody reads the
// agent's output any more.
type journal struct {
	f   file
	log *slog.Logger

	wake chan struct{} // to the flusher; one slot
	done chan struct{} // closed when the flusher has ended

	mu      sync.Mutex // guards all below
	next    uint64     // seq of the next record
	tail    []byte     // frames from off on
	off     int64      // bytes of the file that are durable
	durable uint64     // last durable seq
	index   []mark
	urgent  uint64 // somebody waits for the sync of this seq
	closing bool
	trouble error // why the disk does not take records now
	since   time.Time
	changed chan struct{} // closed and replaced when durable, trouble or closing changes
}

func newJournal(f file, s found, log *slog.Logger) *journal {
	j := &journal{
		f: f, log: log,
		wake: make(chan struct{}, 1), done: make(chan struct{}),
		next: s.last + 1, off: s.size, durable: s.last, index: s.index,
		changed: make(chan struct{}),
	}
	go j.flush()
	return j
}

// Close writes what is left and closes the file. On a disk that takes nothing
// it gives up after a few seconds and says what was lost.
func (j *journal) Close() error {
	j.mu.Lock()
	j.closing = true
	j.broadcastLocked()
	j.mu.Unlock()
	j.kick()
	<-j.done
	j.mu.Lock()
	defer j.mu.Unlock()
	var err error
	if len(j.tail) > 0 {
		err = fmt.Errorf("%d records were not written: %w", j.next-1-j.durable, j.trouble)
	}
	return errors.Join(err, j.f.Close())
}

func (j *journal) kick() {
	select {
	case j.wake <- struct{}{}:
	default:
	}
}

func (j *journal) broadcastLocked() {
	close(j.changed)
	j.changed = make(chan struct{})
}

// append numbers the records and hands them to the flusher; it returns the seq
// of the last. It blocks while too much waits for the disk.
func (j *journal) append(ctx context.Context, recs ...Record) (uint64, error) {
	j.mu.Lock()
	for len(j.tail) >= maxTail && !j.closing {
		changed := j.changed
		j.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
		j.mu.Lock()
	}
	defer j.mu.Unlock()
	if j.closing {
		return 0, errClosed
	}
	for _, r := range recs {
		j.appendLocked(r)
	}
	j.kick()
	return j.next - 1, nil
}

func (j *journal) appendLocked(r Record) {
	r.Seq = j.next
	j.next++
	at := j.off + int64(len(j.tail))
	if len(j.index) == 0 || at-j.index[len(j.index)-1].off >= markEvery {
		j.index = append(j.index, mark{r.Seq, at})
	}
	j.tail = appendFrame(j.tail, r)
}

// appendNote appends a note of the shim.
func (j *journal) appendNote(ctx context.Context, run int, id string, n Note) (uint64, error) {
	data, err := json.Marshal(n)
	if err != nil {
		return 0, err
	}
	return j.append(ctx, Record{At: time.Now(), Dir: Notes, ID: id, Run: run, Data: data})
}

// wait returns when the record is durable. It makes the sync happen at once.
func (j *journal) wait(ctx context.Context, seq uint64) error {
	j.mu.Lock()
	for j.durable < seq {
		j.urgent = max(j.urgent, seq)
		changed := j.changed
		j.mu.Unlock()
		j.kick()
		select {
		case <-changed:
		case <-j.done:
			if durable, _ := j.status(); durable < seq {
				return errClosed
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		j.mu.Lock()
	}
	j.mu.Unlock()
	return nil
}

// status returns the last durable seq and why the disk takes no records, if so.
func (j *journal) status() (uint64, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.durable, j.trouble
}

// flush is the only writer of the file.
func (j *journal) flush() {
	defer close(j.done)
	var (
		written int // bytes of the tail that are in the file
		synced  time.Time
		retry   = retryMin
		until   time.Time // end of the attempts once closing
	)
	again := func(err error, doing string) (giveUp bool) {
		closing := j.fail(fmt.Errorf("%s journal: %w", doing, err))
		if closing && until.IsZero() {
			until = time.Now().Add(2 * retryMax)
		}
		time.Sleep(retry)
		retry = min(2*retry, retryMax)
		return closing && time.Now().After(until)
	}
	for {
		j.mu.Lock()
		tail, off, seq, urgent, closing := j.tail, j.off, j.next-1, j.urgent > j.durable, j.closing
		j.mu.Unlock()
		if len(tail) == 0 {
			if closing {
				return
			}
			<-j.wake
			continue
		}
		if written < len(tail) {
			if _, err := j.f.WriteAt(tail[written:], off+int64(written)); err != nil {
				if again(err, "writing") {
					return
				}
				continue
			}
			written = len(tail)
		}
		if due := time.Until(synced.Add(syncEvery)); due > 0 && !urgent && !closing && len(tail) < syncBytes {
			j.pause(due)
			continue
		}
		synced = time.Now()
		if err := j.f.Sync(); err != nil {
			// After a failed sync the kernel may have dropped the pages:
			// write them all again.
			written = 0
			if again(err, "syncing") {
				return
			}
			continue
		}
		j.commit(len(tail), seq)
		written, retry = 0, retryMin
	}
}

func (j *journal) pause(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-j.wake:
	case <-t.C:
	}
}

func (j *journal) fail(err error) (closing bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.trouble == nil {
		j.log.Error("journal takes no records, the agent has to wait", "err", err)
		j.since = time.Now()
	}
	j.trouble = err
	j.broadcastLocked()
	return j.closing
}

func (j *journal) commit(n int, seq uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	rest := len(j.tail) - n
	if cap(j.tail) > 4*maxTail && rest < maxTail { // give a huge line's memory back
		j.tail = slices.Clone(j.tail[n:])
	} else {
		copy(j.tail, j.tail[n:])
		j.tail = j.tail[:rest]
	}
	j.off += int64(n)
	j.durable = seq
	if j.trouble != nil {
		j.resumedLocked()
	}
	j.broadcastLocked()
}

func (j *journal) resumedLocked() {
	text := fmt.Sprintf("the journal could not be written for %s: %v", time.Since(j.since).Round(time.Millisecond), j.trouble)
	j.log.Info("journal takes records again", "after", time.Since(j.since))
	j.trouble = nil
	if data, err := json.Marshal(Note{Event: EventResumed, Text: text}); err == nil {
		j.appendLocked(Record{At: time.Now(), Dir: Notes, Data: data})
		j.kick()
	}
}

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
