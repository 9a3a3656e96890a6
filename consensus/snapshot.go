package consensus

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime/debug"

	"github.com/hashicorp/raft"
)

// A snapshot, as Raft keeps and sends it:
//
//	4 bytes   "smn" and the format
//	8 bytes   newest leader's time in the state, ns, big endian
//	8 bytes   index of the newest entry in the state
//	sections  one for each machine:
//	          uvarint length, name; 8 bytes index of the newest entry that held a
//	          part for it; chunks of (uvarint length, bytes), the last one empty
//	uvarint 0 instead of a next name
//
// It is streamed in both directions. Raft's store adds a checksum.
const (
	snapshotMagic  = "smn"
	snapshotFormat = 1
	chunkSize      = 64 << 10
)

// snapshotHead is what a snapshot says of the whole state.
type snapshotHead struct {
	time  int64  // newest leader's time
	index uint64 // newest entry
}

// section is one machine's part of a snapshot.
type section struct {
	machine string
	index   uint64 // newest entry that held a part for it
	state   io.WriterTo
}

// fsmSnapshot implements raft.FSMSnapshot. It shares nothing with the fsm:
// Persist runs while entries are applied.
type fsmSnapshot struct {
	head     snapshotHead
	sections []section
}

// Persist implements raft.FSMSnapshot.
func (s *fsmSnapshot) Persist(sink raft.SnapshotSink) error {
	if err := s.write(sink); err != nil {
		return errors.Join(fmt.Errorf("writing snapshot: %w", err), sink.Cancel())
	}
	return sink.Close()
}

// Release implements raft.FSMSnapshot.
func (s *fsmSnapshot) Release() {
	for _, sec := range s.sections {
		if c, ok := sec.state.(io.Closer); ok {
			c.Close() // read-only by now
		}
	}
}

func (s *fsmSnapshot) write(w io.Writer) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
		}
	}()
	buf := bufio.NewWriterSize(w, chunkSize)
	b := append([]byte(snapshotMagic), snapshotFormat)
	b = binary.BigEndian.AppendUint64(b, uint64(s.head.time))
	b = binary.BigEndian.AppendUint64(b, s.head.index)
	if _, err := buf.Write(b); err != nil {
		return err
	}
	for _, sec := range s.sections {
		b = appendBytes(b[:0], sec.machine)
		b = binary.BigEndian.AppendUint64(b, sec.index)
		if _, err := buf.Write(b); err != nil {
			return err
		}
		chunks := bufio.NewWriterSize(chunkWriter{buf}, chunkSize)
		if _, err := sec.state.WriteTo(chunks); err != nil {
			return fmt.Errorf("machine %s: %w", sec.machine, err)
		}
		if err := chunks.Flush(); err != nil {
			return err
		}
		if err := buf.WriteByte(0); err != nil {
			return err
		}
	}
	if err := buf.WriteByte(0); err != nil {
		return err
	}
	return buf.Flush()
}

// chunkWriter writes each Write as one chunk.
type chunkWriter struct{ w *bufio.Writer }

func (c chunkWriter) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if _, err := c.w.Write(binary.AppendUvarint(nil, uint64(len(p)))); err != nil {
		return 0, err
	}
	return c.w.Write(p)
}

// chunkReader reads the chunks of one section.
type chunkReader struct {
	r    *bufio.Reader
	left uint64 // of the current chunk
	end  bool
}

func (c *chunkReader) Read(p []byte) (int, error) {
	if c.left == 0 && !c.end {
		n, err := binary.ReadUvarint(c.r)
		if err != nil {
			return 0, noEOF(err)
		}
		c.left, c.end = n, n == 0
	}
	if c.end {
		return 0, io.EOF
	}
	n, err := c.r.Read(p[:min(uint64(len(p)), c.left)])
	c.left -= uint64(n)
	return n, noEOF(err)
}

// readSnapshot reads the head and hands each section to restore, which need
// not read it to its end.
func readSnapshot(r io.Reader, restore func(machine string, index uint64, r io.Reader) error) (snapshotHead, error) {
	var head snapshotHead
	buf := bufio.NewReaderSize(r, chunkSize)
	var b [len(snapshotMagic) + 1 + 16]byte
	if _, err := io.ReadFull(buf, b[:]); err != nil {
		return head, fmt.Errorf("reading snapshot: %w", noEOF(err))
	}
	if string(b[:3]) != snapshotMagic {
		return head, errors.New("not a snapshot")
	}
	if b[3] != snapshotFormat {
		return head, fmt.Errorf("%w: snapshot format %d", ErrNewer, b[3])
	}
	head.time = int64(binary.BigEndian.Uint64(b[4:]))
	head.index = binary.BigEndian.Uint64(b[12:])
	for {
		name, index, err := readSectionHead(buf)
		if err != nil || name == "" {
			return head, err
		}
		chunks := &chunkReader{r: buf}
		if err := restore(name, index, chunks); err != nil {
			return head, fmt.Errorf("restoring machine %s: %w", name, err)
		}
		if _, err := io.Copy(io.Discard, chunks); err != nil {
			return head, fmt.Errorf("reading snapshot of machine %s: %w", name, err)
		}
	}
}

// readSectionHead returns an empty name at the end.
func readSectionHead(r *bufio.Reader) (string, uint64, error) {
	n, err := binary.ReadUvarint(r)
	if err != nil || n == 0 {
		return "", 0, noEOF(err)
	}
	if n > maxMachine {
		return "", 0, fmt.Errorf("machine name of %d bytes in snapshot", n)
	}
	b := make([]byte, n+8)
	if _, err := io.ReadFull(r, b); err != nil {
		return "", 0, fmt.Errorf("reading snapshot: %w", noEOF(err))
	}
	return string(b[:n]), binary.BigEndian.Uint64(b[n:]), nil
}

// noEOF makes an end where none may be an error.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
