package consensus

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc64"
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
//	8 bytes   of a whole one: CRC-64 of all before
//
// It is streamed in both directions. Raft's store adds a checksum of its own,
// which does not leave this node.
const (
	snapshotMagic = "smn"
	formatOwn     = 1 // may name what a machine's own store holds
	formatWhole   = 2 // holds everything, and ends with a checksum
	chunkSize     = 64 << 10
)

// snapshotHead is what a snapshot says of the whole state.
type snapshotHead struct {
	whole bool   // another node can use it, or a new mesh
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
	sum, format := crc64.New(crc64.MakeTable(crc64.ECMA)), byte(formatOwn)
	if s.head.whole {
		format = formatWhole
	}
	buf := bufio.NewWriterSize(io.MultiWriter(w, sum), chunkSize)
	b := append([]byte(snapshotMagic), format)
	b = binary.BigEndian.AppendUint64(b, uint64(s.head.time))
	b = binary.BigEndian.AppendUint64(b, s.head.index)
	if _, err := buf.Write(b); err != nil {
		return err
	}
	for _, sec := range s.sections {
		if err := sec.write(buf); err != nil {
			return err
		}
	}
	if err := buf.WriteByte(0); err != nil {
		return err
	}
	if err := buf.Flush(); err != nil || !s.head.whole {
		return err
	}
	_, err = w.Write(binary.BigEndian.AppendUint64(nil, sum.Sum64()))
	return err
}

func (sec *section) write(buf *bufio.Writer) error {
	b := appendBytes(nil, sec.machine)
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
	return buf.WriteByte(0)
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
	r    *sumReader
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

// sumReader adds up what is read.
type sumReader struct {
	r   *bufio.Reader
	sum hash.Hash64
}

func (s *sumReader) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.sum.Write(p[:n]) // never fails
	return n, err
}

// ReadByte implements io.ByteReader.
func (s *sumReader) ReadByte() (byte, error) {
	b, err := s.r.ReadByte()
	if err == nil {
		s.sum.Write([]byte{b}) // never fails
	}
	return b, err
}

// readSnapshot reads the head and hands each section to restore, which need
// not read it to its end.
func readSnapshot(r io.Reader, restore func(machine string, index uint64, r io.Reader) error) (snapshotHead, error) {
	buf := &sumReader{bufio.NewReaderSize(r, chunkSize), crc64.New(crc64.MakeTable(crc64.ECMA))}
	head, err := readHead(buf)
	if err != nil {
		return head, err
	}
	for {
		name, index, err := readSectionHead(buf)
		if err != nil {
			return head, err
		}
		if name == "" {
			return head, checkSum(buf, head)
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

const headSize = len(snapshotMagic) + 1 + 16

func readHead(r io.Reader) (head snapshotHead, err error) {
	var b [headSize]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return head, fmt.Errorf("reading snapshot: %w", noEOF(err))
	}
	if string(b[:3]) != snapshotMagic {
		return head, errors.New("not a snapshot")
	}
	if b[3] != formatOwn && b[3] != formatWhole {
		return head, fmt.Errorf("%w: snapshot format %d", ErrNewer, b[3])
	}
	head.whole = b[3] == formatWhole
	head.time = int64(binary.BigEndian.Uint64(b[4:]))
	head.index = binary.BigEndian.Uint64(b[12:])
	return head, nil
}

// checkSum compares what was read with what was written.
func checkSum(r *sumReader, head snapshotHead) error {
	if !head.whole {
		return nil
	}
	want := r.sum.Sum64()
	var b [8]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return fmt.Errorf("reading snapshot: %w", noEOF(err))
	}
	if binary.BigEndian.Uint64(b[:]) != want {
		return errors.New("the snapshot is damaged: wrong checksum")
	}
	if _, err := r.ReadByte(); !errors.Is(err, io.EOF) {
		return errors.Join(errors.New("the snapshot is damaged: there is more behind it"), err)
	}
	return nil
}

// readSectionHead returns an empty name at the end.
func readSectionHead(r *sumReader) (string, uint64, error) {
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
