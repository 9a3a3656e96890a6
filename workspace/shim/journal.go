package shim

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"iter"
	"os"
	"time"
)

// Dir says which way a record went.
type Dir string

// The directions of a record.
const (
	In     Dir = "in"   // a line to the agent's stdin
	Out    Dir = "out"  // a line of the agent's stdout
	Stderr Dir = "err"  // a line of the agent's stderr
	Notes  Dir = "note" // said by the shim; Data is the JSON of a Note
)

// Record is one line of the journal, without its newline and not necessarily
// valid UTF-8. Seq is dense from 1 and never given twice.
type Record struct {
	Seq  uint64    `json:"seq"`
	At   time.Time `json:"at"` // the shim's clock, UTC
	Dir  Dir       `json:"dir"`
	ID   string    `json:"id,omitempty"` // of "in" lines (Send) and of notes about them or about a start
	Run  int       `json:"run"`          // n-th agent process of this workspace, 0 before the first
	Data []byte    `json:"data"`
	Size int64     `json:"size,omitempty"` // bytes the line had when Data is only its beginning; 0: whole
}

// Note is what the shim has to say. Code and Signal belong to EventExited.
type Note struct {
	Event  string `json:"event"`
	PID    int    `json:"pid,omitempty"`
	Code   int    `json:"code,omitempty"`   // exit code; -1 when a signal ended the process
	Signal string `json:"signal,omitempty"` // "killed", "terminated", ...
	OOM    bool   `json:"oom,omitempty"`    // the memory limit killed a process of the workspace meanwhile
	Text   string `json:"text,omitempty"`   // words for a person
	Bytes  int64  `json:"bytes,omitempty"`  // left out or cut away
	Lines  int64  `json:"lines,omitempty"`  // left out
}

// The events of notes.
const (
	EventStarted  = "started"  // the agent's process runs; ID is that of Start
	EventExited   = "exited"   // the agent's process ended and its output is complete; with a Text when a later shim says it for one that was killed
	EventUnsent   = "unsent"   // the line of Send ID may not have reached the agent's stdin whole
	EventRepaired = "repaired" // the journal had a torn or damaged part
	EventLost     = "lost"     // stands for one record that damage took
	EventResumed  = "resumed"  // the journal could not be written for a while (disk full) and can be again
	EventLeftOut  = "left_out" // stderr came faster than it is kept
)

// Note decodes the note of a record with Dir Notes, and false for any other.
func (r Record) Note() (Note, bool) {
	var n Note
	if r.Dir != Notes || json.Unmarshal(r.Data, &n) != nil {
		return Note{}, false
	}
	return n, true
}

// The file is fileMagic and then frames, little endian:
//
//	magic u16 | body length u32 | crc32c of the body u32 | body
//	body: seq u64 | at i64 unix ns | size i64 | run u32 | dir u8 | id length u16 | id | data
const (
	fileMagic  = "samjnl1\n"
	frameMagic = 0xA55A
	headLen    = 10
	fixedLen   = 31
	maxBody    = 64<<20 + 64<<10 // no frame is larger; a larger length is damage
)

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	dirs       = []Dir{In, Out, Stderr, Notes}

	errTorn    = errors.New("incomplete frame")
	errDamaged = errors.New("damaged frame")
)

// ErrNotJournal means that the file is something else.
var ErrNotJournal = errors.New("not a samnode journal")

func appendFrame(b []byte, r Record) []byte {
	start := len(b)
	b = append(b, make([]byte, headLen)...)
	b = binary.LittleEndian.AppendUint64(b, r.Seq)
	b = binary.LittleEndian.AppendUint64(b, uint64(r.At.UnixNano()))
	b = binary.LittleEndian.AppendUint64(b, uint64(r.Size))
	b = binary.LittleEndian.AppendUint32(b, uint32(r.Run))
	b = append(b, dirByte(r.Dir))
	b = binary.LittleEndian.AppendUint16(b, uint16(len(r.ID)))
	b = append(b, r.ID...)
	b = append(b, r.Data...)
	head, body := b[start:start+headLen], b[start+headLen:]
	binary.LittleEndian.PutUint16(head, frameMagic)
	binary.LittleEndian.PutUint32(head[2:], uint32(len(body)))
	binary.LittleEndian.PutUint32(head[6:], crc32.Checksum(body, castagnoli))
	return b
}

func dirByte(d Dir) byte {
	for i, known := range dirs {
		if d == known {
			return byte(i)
		}
	}
	panic("shim: unknown direction " + string(d)) // only this package makes records
}

// frameLen returns the length of the frame that b begins with, head included.
// It needs headLen bytes.
func frameLen(b []byte) (int, error) {
	if len(b) < headLen {
		return 0, errTorn
	}
	n := binary.LittleEndian.Uint32(b[2:])
	if binary.LittleEndian.Uint16(b) != frameMagic || n < fixedLen || n > maxBody {
		return 0, errDamaged
	}
	return headLen + int(n), nil
}

// decodeFrame reads the frame that b begins with. Data points into b.
func decodeFrame(b []byte) (r Record, n int, err error) {
	n, err = frameLen(b)
	if err != nil {
		return Record{}, 0, err
	}
	if len(b) < n {
		return Record{}, 0, errTorn
	}
	body := b[headLen:n:n]
	if crc32.Checksum(body, castagnoli) != binary.LittleEndian.Uint32(b[6:]) {
		return Record{}, 0, errDamaged
	}
	dir, idLen := body[28], int(binary.LittleEndian.Uint16(body[29:]))
	if int(dir) >= len(dirs) || fixedLen+idLen > len(body) {
		return Record{}, 0, errDamaged
	}
	return Record{
		Seq:  binary.LittleEndian.Uint64(body),
		At:   time.Unix(0, int64(binary.LittleEndian.Uint64(body[8:]))).UTC(),
		Size: int64(binary.LittleEndian.Uint64(body[16:])),
		Run:  int(binary.LittleEndian.Uint32(body[24:])),
		Dir:  dirs[dir],
		ID:   string(body[fixedLen : fixedLen+idLen]),
		Data: body[fixedLen+idLen:],
	}, n, nil
}

// frameReader walks the frames of a file from a position on.
type frameReader struct {
	r   *bufio.Reader
	off int64 // of the next frame
}

func newFrameReader(r io.Reader, off int64) *frameReader {
	return &frameReader{r: bufio.NewReaderSize(r, 256<<10), off: off}
}

// next returns io.EOF at a clean end, errTorn when the file ends inside a
// frame, errDamaged when the bytes are no frame, or the error of reading.
// After an error the reader is of no more use; off is where the trouble is.
func (f *frameReader) next() (Record, error) {
	head, err := f.r.Peek(headLen)
	if len(head) == 0 && err != nil {
		return Record{}, err
	}
	if len(head) < headLen {
		return Record{}, torn(err)
	}
	n, err := frameLen(head)
	if err != nil {
		return Record{}, err
	}
	if n <= f.r.Size() {
		b, err := f.r.Peek(n)
		if len(b) < n {
			return Record{}, torn(err)
		}
		r, _, err := decodeFrame(append([]byte(nil), b...))
		if err == nil {
			_, err = f.r.Discard(n)
			f.off += int64(n)
		}
		return r, err
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(f.r, b); err != nil {
		return Record{}, torn(err)
	}
	r, _, err := decodeFrame(b)
	if err == nil {
		f.off += int64(n)
	}
	return r, err
}

func torn(err error) error {
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errTorn
	}
	return err
}

// ReadJournal yields the records of the journal file at path from seq from on
// (0 and 1: all). It may run beside a live shim: a frame that is not whole yet
// ends the sequence. Damage before the end of the file, a gap in seq and
// trouble in reading are yielded as an error, which is then the last.
func ReadJournal(path string, from uint64) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		f, err := os.Open(path)
		if err != nil {
			yield(Record{}, fmt.Errorf("opening journal: %w", err))
			return
		}
		defer f.Close()
		if err := checkMagic(f); err != nil {
			yield(Record{}, fmt.Errorf("reading journal %s: %w", path, err))
			return
		}
		fr, want := newFrameReader(f, int64(len(fileMagic))), uint64(1)
		for {
			r, err := fr.next()
			if errors.Is(err, io.EOF) || errors.Is(err, errTorn) {
				return
			}
			if err == nil && r.Seq != want {
				err = fmt.Errorf("record %d where %d belongs", r.Seq, want)
			}
			if err != nil {
				yield(Record{}, fmt.Errorf("reading journal %s at byte %d: %w", path, fr.off, err))
				return
			}
			want++
			if r.Seq >= from && !yield(r, nil) {
				return
			}
		}
	}
}

func checkMagic(r io.Reader) error {
	b := make([]byte, len(fileMagic))
	if _, err := io.ReadFull(r, b); err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	if string(b) != fileMagic {
		return ErrNotJournal
	}
	return nil
}
