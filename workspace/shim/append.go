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
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	syncOften = 10 * time.Millisecond  // shortest time between two syncs in a burst
	syncEvery = 50 * time.Millisecond  // longest; in between 20 times what the last sync took
	syncBurst = 8                      // syncs that go at once after a pause: calls and answers at a start
	syncBytes = 256 << 10              // or this many bytes
	maxTail   = 1 << 20                // bytes not yet durable; beyond it append blocks
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
// The first few records after a pause are synced at once, later ones together,
// at the latest syncEvery after; sooner where the disk is fast.
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

// inherit says what became of an earlier shim's records, and of its agent,
// which cannot have outlived its container.
func (j *journal) inherit(ctx context.Context, s found, repaired *Note) error {
	if repaired != nil {
		j.log.Warn("journal repaired", "why", repaired.Text, "bytes", repaired.Bytes)
		if _, err := j.appendNote(ctx, s.run, "", *repaired); err != nil {
			return err
		}
	}
	if !s.open {
		return nil
	}
	_, err := j.appendNote(ctx, s.run, "", Note{Event: EventExited, Code: -1, Text: "its workspace was stopped"})
	return err
}

// Bury puts the end into the journal file of a shim that is gone for good, as
// the next shim would: [ReadJournal] then has all there will ever be. A live
// shim on the file is an error.
func Bury(ctx context.Context, path string, log *slog.Logger) error {
	f, s, note, err := openJournalFile(path)
	if err != nil {
		return err
	}
	j := newJournal(osFile{f}, s, log)
	return errors.Join(j.inherit(ctx, s, note), j.Close())
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
		written int       // bytes of the tail that are in the file
		paid    time.Time // until when the syncs so far have used up the pace
		every   = syncOften
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
		if due := time.Until(paid.Add(-(syncBurst - 1) * every)); due > 0 && !urgent && !closing && len(tail) < syncBytes {
			j.pause(due)
			continue
		}
		began := time.Now()
		if paid.Before(began) {
			paid = began
		}
		paid = paid.Add(every)
		if err := j.f.Sync(); err != nil {
			// After a failed sync the kernel may have dropped the pages:
			// write them all again.
			written = 0
			if again(err, "syncing") {
				return
			}
			continue
		}
		every = min(max(20*time.Since(began), syncOften), syncEvery)
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
