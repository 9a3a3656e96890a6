package shim

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// Client talks to one shim. Each call is a connection of its own, so a client
// holds nothing that could break, outlives a restart of the shim, and is safe
// for concurrent use.
type Client struct {
	dial func(context.Context) (net.Conn, error)
}

// NewClient makes a client whose connections to the shim's socket come from
// dial, such as over another node. They need a CloseWrite as TCP's is.
func NewClient(dial func(context.Context) (net.Conn, error)) *Client { return &Client{dial} }

// Dial makes a client and checks that a shim of our protocol answers.
func Dial(ctx context.Context, socket string) (*Client, error) {
	c := NewClient(func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	})
	_, err := c.Hello(ctx)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// Hello tells how the shim and the agent are.
func (c *Client) Hello(ctx context.Context) (Info, error) {
	a, err := c.ask(ctx, request{Op: "hello"}, nil)
	if err != nil {
		return Info{}, fmt.Errorf("asking the shim: %w", err)
	}
	return *a.Info, nil
}

// Start starts the agent in its own session and returns its number. While the
// process of the same id runs it does nothing but return that number; while
// one of another id runs it is refused with ErrRunning.
func (c *Client) Start(ctx context.Context, s Spec) (run int, err error) {
	a, err := c.ask(ctx, request{Op: "start", Spec: &s}, nil)
	if err != nil {
		return 0, fmt.Errorf("starting the agent: %w", err)
	}
	return a.Run, nil
}

// Send puts the line into the journal, durably, and then onto the agent's
// stdin with a newline. The same id is never sent twice, whatever the line: it
// returns the first seq with duplicate set, and, for both callers, only after
// that line was written. The line has at most MaxSend bytes and no newline.
//
// ErrNotRunning, ErrNotReading and ErrFull mean that nothing was done and the
// id may be used again. ErrUnsent means that the line is in the journal at seq
// but the agent ended or closed its stdin first; so does any later Send with
// that id. After any other error (the end of ctx, a lost connection) ask
// again with the same id.
func (c *Client) Send(ctx context.Context, id string, line []byte) (seq uint64, duplicate bool, err error) {
	if len(line) > MaxSend {
		return 0, false, fmt.Errorf("sending: %w: a line of %d bytes", ErrInvalid, len(line))
	}
	a, err := c.ask(ctx, request{Op: "send", ID: id}, line)
	if err != nil {
		return a.Seq, a.Duplicate, fmt.Errorf("sending: %w", err)
	}
	return a.Seq, a.Duplicate, nil
}

// StopAgent ends the agent: stdin closed, SIGTERM to its group at half of the
// grace, SIGKILL to everything it started at the end. It returns when the exit
// is in the journal; without an agent at once.
func (c *Client) StopAgent(ctx context.Context, grace time.Duration) error {
	if _, err := c.ask(ctx, request{Op: "stop", Grace: grace}, nil); err != nil {
		return fmt.Errorf("stopping the agent: %w", err)
	}
	return nil
}

// Records calls fn with the records from seq from on (0 and 1: all), in order
// and without gaps, and then with new ones as they become durable, until ctx
// ends, fn fails, or the shim is gone; the error says which. While fn works
// nothing more is read, and nothing is dropped. ErrAhead means that the
// journal has no record from-1.
func (c *Client) Records(ctx context.Context, from uint64, fn func([]Record) error) error {
	conn, stop, err := c.open(ctx, request{Op: "records", From: from}, nil)
	if err != nil {
		return fmt.Errorf("reading records: %w", err)
	}
	defer stop()
	if _, err := readAnswer(conn); err != nil {
		return fmt.Errorf("reading records: %w", cause(ctx, err))
	}
	r := bufio.NewReaderSize(conn, readChunk)
	for {
		kind, frames, err := readFrame(r, maxFrame)
		if err != nil {
			return fmt.Errorf("reading records: %w", cause(ctx, err))
		}
		if kind != kindRecords {
			return fmt.Errorf("reading records: %w: frame %q", ErrInvalid, kind)
		}
		var batch []Record
		for len(frames) > 0 {
			rec, n, err := decodeFrame(frames)
			if err != nil {
				return fmt.Errorf("reading records: %w", err)
			}
			batch, frames = append(batch, rec), frames[n:]
		}
		if err := fn(batch); err != nil {
			return err
		}
	}
}

// Terminals lists the open terminals, oldest first.
func (c *Client) Terminals(ctx context.Context) ([]TerminalInfo, error) {
	a, err := c.ask(ctx, request{Op: "terminals"}, nil)
	if err != nil {
		return nil, fmt.Errorf("listing terminals: %w", err)
	}
	return a.Terminals, nil
}

// CloseTerminal ends the shell and what runs in its session.
func (c *Client) CloseTerminal(ctx context.Context, id string) error {
	if _, err := c.ask(ctx, request{Op: "close_terminal", ID: id}, nil); err != nil {
		return fmt.Errorf("closing the terminal: %w", err)
	}
	return nil
}

// RenameTerminal gives the terminal another name; its id stays.
func (c *Client) RenameTerminal(ctx context.Context, id, name string) error {
	if _, err := c.ask(ctx, request{Op: "rename_terminal", ID: id, Name: name}, nil); err != nil {
		return fmt.Errorf("renaming the terminal: %w", err)
	}
	return nil
}

// HoldTerminal lets one person alone type, or everybody again. Who made the
// terminal may, and owners; ErrRefused says why not. It ends when that person
// leaves.
func (c *Client) HoldTerminal(ctx context.Context, id string, who Who, on bool) error {
	if _, err := c.ask(ctx, request{Op: "hold_terminal", ID: id, Who: &who, On: on}, nil); err != nil {
		return fmt.Errorf("holding the terminal: %w", err)
	}
	return nil
}

// SetRecording says whether terminals that begin from now on are recorded.
func (c *Client) SetRecording(ctx context.Context, on bool) error {
	if _, err := c.ask(ctx, request{Op: "recording", On: on}, nil); err != nil {
		return fmt.Errorf("setting what is recorded: %w", err)
	}
	return nil
}

// Ports lists what listens in the workspace below port 32768, without the
// shim's own forwarders. Ports above are mostly those that tools open for
// themselves: see AllPorts.
func (c *Client) Ports(ctx context.Context) ([]Port, error) { return c.ports(ctx, false) }

// AllPorts is Ports without the limit.
func (c *Client) AllPorts(ctx context.Context) ([]Port, error) { return c.ports(ctx, true) }

func (c *Client) ports(ctx context.Context, all bool) ([]Port, error) {
	a, err := c.ask(ctx, request{Op: "ports", All: all}, nil)
	if err != nil {
		return nil, fmt.Errorf("listing ports: %w", err)
	}
	return a.Ports, nil
}

// call is the connection of one call, closed when its context ends.
type call struct {
	net.Conn
	release func() bool // from the context; false: it has ended already
}

// open sends the request, and the payload if there is one.
func (c *Client) open(ctx context.Context, q request, payload []byte) (*call, func(), error) {
	conn, err := c.dial(ctx)
	if err != nil {
		return nil, nil, err
	}
	release := context.AfterFunc(ctx, func() { conn.Close() })
	stop := func() {
		release()
		conn.Close()
	}
	q.Protocol = Protocol
	w := &frameWriter{w: conn}
	err = w.writeJSON(kindRequest, q)
	if err == nil && payload != nil {
		err = w.write(kindData, payload)
	}
	if err != nil {
		stop()
		return nil, nil, cause(ctx, err)
	}
	return &call{conn, release}, stop, nil
}

// ask makes a call of one question and one answer.
func (c *Client) ask(ctx context.Context, q request, payload []byte) (answer, error) {
	if q.Op == "send" && payload == nil {
		payload = []byte{}
	}
	conn, stop, err := c.open(ctx, q, payload)
	if err != nil {
		return answer{}, err
	}
	defer stop()
	a, err := readAnswer(conn)
	return a, cause(ctx, err)
}

func readAnswer(r io.Reader) (answer, error) {
	var a answer
	if err := readJSON(r, kindAnswer, &a); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return answer{}, err
	}
	return a, a.err()
}

// cause prefers the reason of an ended context to the broken connection that
// came of it.
func cause(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// creditOf reads the payload of kindCredit.
func creditOf(b []byte) int {
	if len(b) != 4 {
		return 0
	}
	return int(binary.LittleEndian.Uint32(b))
}
