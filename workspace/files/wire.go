package files

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// request is one call. What Write writes follows it in blocks.
type request struct {
	Op      string `json:"op"` // look, archive, write, mkdir, remove, rename
	Path    Bytes  `json:"path"`
	To      Bytes  `json:"to,omitempty"`
	From    int64  `json:"from,omitempty"`   // of look: first byte
	Length  int64  `json:"length,omitempty"` // of look: how many; negative: all
	Limit   int    `json:"limit,omitempty"`  // of look: entries
	Replace bool   `json:"replace,omitempty"`
	All     bool   `json:"all,omitempty"`  // of remove: folders with what is in them
	Mode    uint32 `json:"mode,omitempty"` // of write: of a new file; 0: 0644
}

// answer begins what comes back. The content of a file, or an archive, follows.
type answer struct {
	Code    string `json:"code,omitempty"`
	Text    Bytes  `json:"text,omitempty"`
	Info    Info   `json:"info"`
	Entries []Info `json:"entries,omitempty"`
	Total   int    `json:"total,omitempty"`
	More    bool   `json:"more,omitempty"`
	Length  int64  `json:"length,omitempty"`
}

const (
	maxRequest = 64 << 10
	maxAnswer  = 64 << 10 // without entries
	maxEntry   = 1600     // the longest name and link, in base64
	maxText    = 1 << 10  // of an error
	maxLink    = 512      // that is told of where a link points to
	block      = 64 << 10
)

var codes = []struct {
	code string
	err  error
}{
	{"not_found", ErrNotFound}, {"exists", ErrExists}, {"refused", ErrRefused}, {"invalid", ErrInvalid}, {"full", ErrFull},
}

func refusal(err error) answer {
	a := answer{Code: "failed", Text: Bytes(cut(err.Error(), maxText))}
	for _, c := range codes {
		if errors.Is(err, c.err) {
			a.Code = c.code
		}
	}
	return a
}

func (a answer) err() error {
	if a.Code == "" {
		return nil
	}
	for _, c := range codes {
		if a.Code == c.code {
			return &problem{cut(string(a.Text), maxText), c.err}
		}
	}
	return errors.New(cut(string(a.Text), maxText))
}

// readLine reads a line of JSON of at most limit bytes.
func readLine(r *bufio.Reader, limit int, v any) error {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		if len(line)+len(part) > limit {
			return fmt.Errorf("a line of more than %d bytes", limit)
		}
		line = append(line, part...)
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if errors.Is(err, io.EOF) && len(line) > 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
		return json.Unmarshal(bytes.TrimSuffix(line, []byte{'\n'}), v)
	}
}

func writeLine(w io.Writer, v any) error {
	line, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = w.Write(append(line, '\n'))
	return err
}

// writeBlocks copies from in blocks with their length in front; one of no length
// says that all was sent, so that half of a file is never taken for the whole.
func writeBlocks(w io.Writer, from io.Reader) error {
	buf := make([]byte, 4+block)
	for {
		n, err := io.ReadFull(from, buf[4:])
		end := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if err != nil && !end {
			return fmt.Errorf("reading what is to be written: %w", err)
		}
		if n > 0 {
			binary.BigEndian.PutUint32(buf, uint32(n))
			if _, err := w.Write(buf[:4+n]); err != nil {
				return err
			}
		}
		if end {
			_, err := w.Write(make([]byte, 4))
			return err
		}
	}
}

// blocks reads what writeBlocks wrote.
type blocks struct {
	r    io.Reader
	left int
	done bool
}

func (b *blocks) Read(p []byte) (int, error) {
	for b.left == 0 && !b.done {
		var head [4]byte
		if _, err := io.ReadFull(b.r, head[:]); err != nil {
			return 0, errCut
		}
		n := binary.BigEndian.Uint32(head[:])
		if n > block {
			return 0, errors.New("a block that is too long")
		}
		b.left, b.done = int(n), n == 0
	}
	if b.done {
		return 0, io.EOF
	}
	n, err := b.r.Read(p[:min(len(p), b.left)])
	b.left -= n
	if errors.Is(err, io.EOF) {
		err = errCut
	}
	return n, err
}

var errCut = errors.New("it broke off before its end, and nothing was written")
