package backup

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"
)

// What age encrypts:
//
//	header     one line of JSON: the format and the Meta
//	pieces     uvarint length, bytes; the last one is empty; together they are
//	           the copy, compressed with zstd
//	trailer    one line of JSON: the copy's length, and the SHA-256 of the
//	           header line and the copy
//	zeros      up to a whole number of age's chunks
//
// The zeros are there so that every chunk is full: a short one at the end of a
// file is then a file that was cut, and cannot be one whose bytes changed.
const (
	format    = 1
	ageChunk  = 64 << 10
	maxLine   = 8 << 10
	maxWindow = 32 << 20 // of zstd, more than its encoder ever uses here
	ageMagic  = "age-encryption.org/v1\n"
)

type header struct {
	Format int `json:"samnode_backup"`
	Meta
}

type trailer struct {
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// seal writes the file of a backup.
func seal(w io.Writer, to Recipient, m Meta, src func(io.Writer) error) error {
	closed, err := age.Encrypt(w, to.keys...)
	if err != nil {
		return err
	}
	plain := &counted{w: closed}
	sum := sha256.New()
	if err := writeLine(io.MultiWriter(plain, sum), header{format, m}); err != nil {
		return err
	}
	// One goroutine, the caller's: the node has other things to do meanwhile.
	z, err := zstd.NewWriter(pieceWriter{plain}, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return fmt.Errorf("starting to compress: %w", err)
	}
	whole := &counted{w: io.MultiWriter(sum, z)}
	if err := src(whole); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	if _, err := plain.Write([]byte{0}); err != nil {
		return err
	}
	if err := writeLine(plain, trailer{whole.n, hex.EncodeToString(sum.Sum(nil))}); err != nil {
		return err
	}
	pad := (ageChunk - plain.n%ageChunk) % ageChunk
	if _, err := plain.Write(make([]byte, pad)); err != nil {
		return err
	}
	return closed.Close()
}

func writeLine(w io.Writer, v any) error {
	line, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = w.Write(append(line, '\n'))
	return err
}

// counted counts what went through.
type counted struct {
	w io.Writer
	n int64
}

func (c *counted) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// pieceWriter writes each Write as one piece.
type pieceWriter struct{ w io.Writer }

func (p pieceWriter) Write(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	if _, err := p.w.Write(binary.AppendUvarint(nil, uint64(len(b)))); err != nil {
		return 0, err
	}
	return p.w.Write(b)
}

// pieceReader reads pieces up to the empty one.
type pieceReader struct {
	r    *bufio.Reader
	left uint64 // of the current piece
	end  bool
}

func (p *pieceReader) Read(b []byte) (int, error) {
	if p.left == 0 && !p.end {
		n, err := binary.ReadUvarint(p.r)
		if err != nil {
			return 0, noEOF(err)
		}
		p.left, p.end = n, n == 0
	}
	if p.end {
		return 0, io.EOF
	}
	n, err := p.r.Read(b[:min(uint64(len(b)), p.left)])
	p.left -= uint64(n)
	return n, noEOF(err)
}

// noEOF makes an end where none may be an error.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// reader reads the copy in a backup.
type reader struct {
	name   string
	stored io.Closer
	plain  *plainReader
	buf    *bufio.Reader // of plain
	z      *zstd.Decoder
	sum    hash.Hash
	n      int64
	err    error // the end, good or bad
}

// unseal opens the file of a backup. It leaves closing stored on an error to
// the caller.
func unseal(stored io.ReadCloser, id Identity) (Meta, *reader, error) {
	raw := &rawReader{r: stored}
	plain, err := decrypt(raw, id)
	if err != nil {
		return Meta{}, nil, err
	}
	buf := bufio.NewReaderSize(plain, ageChunk)
	line, err := readLine(buf)
	if err != nil {
		return Meta{}, nil, plain.why(err)
	}
	var head header
	if err := json.Unmarshal(line, &head); err != nil || head.Format < 1 {
		return Meta{}, nil, ErrNotBackup
	}
	if head.Format > format {
		return Meta{}, nil, fmt.Errorf("%w: its format is %d, samnode's version was %q; this one reads up to format %d", ErrNewer, head.Format, head.Version, format)
	}
	z, err := zstd.NewReader(&pieceReader{r: buf},
		zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		return Meta{}, nil, plain.why(err)
	}
	r := &reader{stored: stored, plain: plain, buf: buf, z: z, sum: sha256.New()}
	r.sum.Write(line)
	return head.Meta, r, nil
}

// readLine returns a line with its end.
func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for len(line) < maxLine {
		c, err := r.ReadByte()
		if err != nil {
			return nil, noEOF(err)
		}
		line = append(line, c)
		if c == '\n' {
			return line, nil
		}
	}
	return nil, ErrNotBackup
}

// Read implements io.Reader; io.EOF means that all of it was there.
func (r *reader) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	n, err := r.z.Read(p)
	r.sum.Write(p[:n])
	r.n += int64(n)
	if errors.Is(err, io.EOF) {
		err = r.finish()
	}
	if err != nil && !errors.Is(err, io.EOF) {
		err = fmt.Errorf("the backup %s cannot be used: %w", r.name, r.plain.why(err))
	}
	r.err = err
	return n, err
}

// finish reads what follows the copy. Only all of it right is io.EOF.
func (r *reader) finish() error {
	line, err := readLine(r.buf)
	if err != nil {
		return err
	}
	var end trailer
	if err := json.Unmarshal(line, &end); err != nil {
		return fmt.Errorf("%w: its last line is not one", ErrDamaged)
	}
	if end.Bytes != r.n || end.SHA256 != hex.EncodeToString(r.sum.Sum(nil)) {
		return fmt.Errorf("%w: %d bytes were read whose checksum is not that of the %d written", ErrDamaged, r.n, end.Bytes)
	}
	for {
		zeros, err := r.buf.Peek(1)
		if err != nil {
			return r.plain.end
		}
		zeros, _ = r.buf.Peek(r.buf.Buffered()) // is there
		if len(bytes.Trim(zeros, "\x00")) > 0 {
			return fmt.Errorf("%w: something follows its end", ErrDamaged)
		}
		r.buf.Discard(len(zeros)) //nolint:errcheck // is there
	}
}

// Close implements io.Closer.
func (r *reader) Close() error {
	r.z.Close()
	if r.err == nil {
		r.err = errors.New("the backup is closed")
	}
	return r.stored.Close()
}

// decrypt checks the head of an age file and says what is wrong with it.
func decrypt(raw *rawReader, id Identity) (*plainReader, error) {
	if len(id.keys) == 0 {
		return nil, errors.New("a backup needs a key to be opened with")
	}
	magic := make([]byte, len(ageMagic))
	n, err := io.ReadFull(raw, magic)
	if string(magic[:n]) != ageMagic[:n] {
		return nil, ErrNotBackup
	}
	if err != nil {
		return nil, raw.why()
	}
	r, err := age.Decrypt(io.MultiReader(bytes.NewReader(magic), raw), id.keys...)
	if err == nil {
		return &plainReader{r: r, raw: raw}, nil
	}
	if none, ok := errors.AsType[*age.NoIdentityMatchError](err); ok && !raw.eof && raw.err == nil {
		return nil, wrongKey(none, id)
	}
	return nil, raw.why()
}

func wrongKey(err *age.NoIdentityMatchError, id Identity) error {
	locked := len(err.StanzaTypes) == 1 && err.StanzaTypes[0] == "scrypt"
	switch {
	case locked && id.passphrase:
		return fmt.Errorf("%w: the passphrase is another one", ErrWrongKey)
	case locked:
		return fmt.Errorf("%w: it is closed with a passphrase", ErrWrongKey)
	case id.passphrase:
		return fmt.Errorf("%w: it is closed with a key pair, not with a passphrase", ErrWrongKey)
	}
	return ErrWrongKey
}

// plainReader reads what age decrypts, and keeps why that ended: what reads
// through other readers may see another error.
type plainReader struct {
	r   io.Reader
	raw *rawReader
	end error
}

func (p *plainReader) Read(b []byte) (int, error) {
	if p.end != nil {
		return 0, p.end
	}
	n, err := p.r.Read(b)
	switch {
	case errors.Is(err, io.EOF):
		p.end = io.EOF
	case err != nil:
		p.end = p.raw.why()
	}
	return n, p.end
}

// why returns the error that a reader above came to see as err.
func (p *plainReader) why(err error) error {
	switch {
	case p.end != nil && !errors.Is(p.end, io.EOF):
		return p.end
	case errors.Is(err, ErrDamaged), errors.Is(err, ErrNotBackup):
		return err
	}
	// All that age gave is what was encrypted, and still it cannot be read.
	return fmt.Errorf("%w: its parts do not fit together: %w", ErrDamaged, err)
}

// rawReader reads the stored file, and knows how that went.
type rawReader struct {
	r   io.Reader
	n   int64
	eof bool
	err error
}

func (r *rawReader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	r.n += int64(n)
	if n > 0 && errors.Is(err, io.EOF) {
		err = nil // it comes again, when somebody asks for more
	}
	switch {
	case errors.Is(err, io.EOF):
		r.eof = true
	case err != nil:
		r.err = err
	}
	return n, err
}

// why says why age could not go on. Whole files end with a full chunk, so it
// only ever sees the end of one that was cut.
func (r *rawReader) why() error {
	switch {
	case r.err != nil:
		return fmt.Errorf("reading it: %w", r.err)
	case r.n == 0:
		return fmt.Errorf("%w: it is empty", ErrCut)
	case r.eof:
		return fmt.Errorf("%w: it ends after %d bytes", ErrCut, r.n)
	}
	return fmt.Errorf("%w: at byte %d or before", ErrDamaged, r.n)
}
