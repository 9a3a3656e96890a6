package shim

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// A connection carries one call: the request, the payload it announces, the
// answer, and for streams frames in both directions. A frame is
//
//	kind u8 | length u32 little endian | bytes
const (
	kindRequest = 'q' // JSON, client first
	kindAnswer  = 'a' // JSON
	kindData    = 'd' // the line of send; input of exec and terminal
	kindEOF     = 'z' // end of exec's input
	kindCredit  = 'k' // u32: bytes of input that were taken
	kindRecords = 'r' // whole frames of the journal
	kindOut     = 'o' // output of exec and terminal
	kindErr     = 'e' // stderr of exec
	kindExit    = 'x' // JSON exit; the last frame
	kindCancel  = 'c' // kill exec
	kindResize  = 'w' // rows u16, columns u16
	kindSignal  = 's' // u8: the number of a signal for exec
	kindGuest   = 'g' // JSON guest: somebody connected to a listener
	kindInfo    = 'i' // JSON TerminalInfo: who is at the terminal, or its size, changed
	kindCast    = 't' // JSON CastEvent of a recording
	kindPorts   = 'p' // JSON list of Port: what listens now

	maxFrame    = maxBody + headLen
	maxHead     = 4 << 20   // of a request or answer
	inputWindow = 256 << 10 // bytes of input on the way that nobody has taken
)

type request struct {
	Protocol int           `json:"protocol"`
	Op       string        `json:"op"`
	ID       string        `json:"id,omitempty"`
	Name     string        `json:"name,omitempty"`
	From     uint64        `json:"from,omitempty"`
	Address  *Address      `json:"address,omitempty"`
	All      bool          `json:"all,omitempty"`
	Grace    time.Duration `json:"grace,omitempty"`
	Spec     *Spec         `json:"spec,omitempty"`
	Exec     *ExecSpec     `json:"exec,omitempty"`
	Terminal *TerminalSpec `json:"terminal,omitempty"`
	Who      *Who          `json:"who,omitempty"`
	On       bool          `json:"on,omitempty"`
}

type answer struct {
	Code      string         `json:"code,omitempty"` // key of codes; empty: done
	Error     string         `json:"error,omitempty"`
	Info      *Info          `json:"info,omitempty"`
	Run       int            `json:"run,omitempty"`
	Seq       uint64         `json:"seq,omitempty"`
	Duplicate bool           `json:"duplicate,omitempty"`
	Terminals []TerminalInfo `json:"terminals,omitempty"`
	Terminal  *TerminalInfo  `json:"terminal,omitempty"`
	Ports     []Port         `json:"ports,omitempty"`
	Port      int            `json:"port,omitempty"`
}

type exit struct {
	Code int `json:"code"`
}

// codes are the errors that keep their identity across the socket.
var codes = []struct {
	code string
	err  error
}{
	{"not_running", ErrNotRunning},
	{"running", ErrRunning},
	{"start", ErrStart},
	{"unsent", ErrUnsent},
	{"not_reading", ErrNotReading},
	{"full", ErrFull},
	{"ahead", ErrAhead},
	{"not_found", ErrNotFound},
	{"busy", ErrBusy},
	{"refused", ErrRefused},
	{"protocol", ErrProtocol},
	{"invalid", ErrInvalid},
}

func (a *answer) setErr(err error) {
	if err == nil {
		return
	}
	a.Code, a.Error = "failed", err.Error()
	for _, c := range codes {
		if errors.Is(err, c.err) {
			a.Code = c.code
			return
		}
	}
}

// remoteError keeps the shim's words and the identity of its sentinel.
type remoteError struct {
	text string
	is   error
}

func (e *remoteError) Error() string { return e.text }
func (e *remoteError) Unwrap() error { return e.is }

func (a *answer) err() error {
	if a.Code == "" {
		return nil
	}
	for _, c := range codes {
		if a.Code == c.code {
			return &remoteError{a.Error, c.err}
		}
	}
	return errors.New(a.Error)
}

// frameWriter lets several goroutines write frames on one connection.
type frameWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (f *frameWriter) write(kind byte, b []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	var head [5]byte
	head[0] = kind
	binary.LittleEndian.PutUint32(head[1:], uint32(len(b)))
	if len(b) < 32<<10 { // one packet for small ones
		_, err := f.w.Write(append(head[:], b...))
		return err
	}
	if _, err := f.w.Write(head[:]); err != nil {
		return err
	}
	_, err := f.w.Write(b)
	return err
}

func (f *frameWriter) writeJSON(kind byte, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return f.write(kind, b)
}

// readFrame reads one frame of at most limit bytes into fresh memory.
func readFrame(r io.Reader, limit int) (byte, []byte, error) { return readFrameInto(r, limit, nil) }

// readFrameInto is readFrame into buf, where that has the room.
func readFrameInto(r io.Reader, limit int, buf []byte) (byte, []byte, error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.LittleEndian.Uint32(head[1:])
	if int64(n) > int64(limit) {
		return 0, nil, fmt.Errorf("%w: a frame of %d bytes", ErrInvalid, n)
	}
	if buf == nil || cap(buf) < int(n) {
		buf = make([]byte, n)
	}
	b := buf[:n]
	if _, err := io.ReadFull(r, b); err != nil {
		return 0, nil, fmt.Errorf("reading a frame: %w", err)
	}
	return head[0], b, nil
}

func readJSON(r io.Reader, kind byte, v any) error {
	got, b, err := readFrame(r, maxHead)
	if err != nil {
		return err
	}
	if got != kind {
		return fmt.Errorf("%w: frame %q where %q belongs", ErrInvalid, got, kind)
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return nil
}
