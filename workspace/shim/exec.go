package shim

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	execSilence = 250 * time.Millisecond // after its end, for children that keep its output open
	cancelGrace = time.Second            // between SIGTERM and SIGKILL of a cancelled command
)

// exec runs one command for the life of the connection. When the caller
// cancels or leaves, the command and all it started are killed; when it ends
// by itself, what it left running stays.
func (s *server) exec(ctx context.Context, c *net.UnixConn, w *frameWriter, q request) error {
	if q.Exec == nil {
		return refuse(w, fmt.Errorf("%w: exec needs a command", ErrInvalid))
	}
	ours, theirs, err := pipes()
	if err != nil {
		return refuse(w, err)
	}
	given, err := pipeNames(ours)
	if err != nil {
		closeAll(ours)
		closeAll(theirs)
		return err
	}
	cmd := s.program(q.Exec.Args, q.Exec.Command)
	cmd.env, cmd.dir, cmd.files = s.env(q.Exec.Env), firstOf(q.Exec.Dir, s.config.Home), theirs
	p, err := s.procs.start(cmd)
	closeAll(theirs)
	if err != nil {
		closeAll(ours)
		return refuse(w, err)
	}
	if err := w.writeJSON(kindAnswer, answer{}); err != nil {
		closeAll(ours)
		p.sweep(s.log)
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	input := newInput(ours[0], w)
	go func() {
		defer cancel() // the caller cancelled or left
		input.receive(c, p.signal)
	}()
	go input.feed()
	defer input.close()
	var gone func()
	if q.Exec.HangUp {
		gone = func() { p.hangUp(given) }
	}
	code := s.relay(ctx, p, w, gone, &pipe{File: ours[1]}, &pipe{File: ours[2]})
	return w.writeJSON(kindExit, exit{Code: code})
}

// program is argv, a line for the shell, or the login shell itself.
func (s *server) program(args []string, line string) command {
	if len(args) > 0 {
		return command{args: args}
	}
	name := s.config.Shell[strings.LastIndexByte(s.config.Shell, '/')+1:]
	if line == "" {
		return command{path: s.config.Shell, args: []string{"-" + name}}
	}
	return command{path: s.config.Shell, args: []string{name, "-c", line}}
}

// relay copies the output until the command has ended and returns its exit
// code, 128 and more for a signal as shells do. Gone is what happens when the
// caller leaves; nil: all is killed.
func (s *server) relay(ctx context.Context, p *proc, w *frameWriter, gone func(), stdout, stderr *pipe) int {
	var wg sync.WaitGroup
	for kind, from := range map[byte]*pipe{kindOut: stdout, kindErr: stderr} {
		wg.Go(func() {
			defer from.Close()
			buf := make([]byte, 32<<10)
			for {
				n, err := from.Read(buf)
				if n > 0 && w.write(kind, buf[:n]) != nil || err != nil {
					return
				}
			}
		})
	}
	select {
	case <-p.done:
	case <-ctx.Done():
		if gone != nil {
			gone()
			stdout.Close()
			stderr.Close()
			wg.Wait()
			return 128 + int(syscall.SIGHUP)
		}
		p.signal(syscall.SIGTERM)
		if waitFor(context.Background(), p.done, cancelGrace) != nil {
			p.signal(syscall.SIGKILL)
		}
		p.sweep(s.log)
		<-p.done
	}
	drained := make(chan struct{})
	go func() { wg.Wait(); close(drained) }()
	giveUpWhenSilent(drained, execSilence, stdout, stderr)
	return exitCode(p.status)
}

func exitCode(s syscall.WaitStatus) int {
	if s.Signaled() {
		return 128 + int(s.Signal())
	}
	return s.ExitStatus()
}

// pipes makes stdin, stdout and stderr of a process.
func pipes() (ours, theirs [3]*os.File, err error) {
	for i := range ours {
		r, w, err := os.Pipe()
		if err != nil {
			closeAll(ours)
			closeAll(theirs)
			return ours, theirs, fmt.Errorf("making pipes: %w", err)
		}
		ours[i], theirs[i] = r, w
		if i == 0 {
			ours[i], theirs[i] = w, r
		}
	}
	return ours, theirs, nil
}

func closeAll(files [3]*os.File) {
	for _, f := range files {
		f.Close() // nil is harmless
	}
}

// input takes what the caller types without ever blocking the connection, so
// that its end is always noticed: the caller sends no more than inputWindow
// ahead of what the command has read.
type input struct {
	to *os.File
	w  *frameWriter

	mu     sync.Mutex
	wake   *sync.Cond
	queue  [][]byte
	bytes  int
	ended  bool // no more will come
	closed bool // the command is through
}

func newInput(to *os.File, w *frameWriter) *input {
	in := &input{to: to, w: w}
	in.wake = sync.NewCond(&in.mu)
	return in
}

// receive returns when the caller cancelled, left, or broke the protocol.
func (in *input) receive(r io.Reader, signal func(syscall.Signal)) {
	for {
		kind, b, err := readFrame(r, inputWindow)
		if err != nil || kind == kindCancel {
			return
		}
		in.mu.Lock()
		switch kind {
		case kindData:
			in.queue = append(in.queue, b)
			in.bytes += len(b)
		case kindEOF:
			in.ended = true
		case kindSignal:
			if len(b) == 1 && b[0] > 0 && b[0] < 65 { // 0 asks, and above is none
				signal(syscall.Signal(b[0]))
			}
		}
		over := in.bytes > inputWindow
		in.wake.Signal()
		in.mu.Unlock()
		if over {
			return
		}
	}
}

// feed writes to the command and gives the caller credit. A command that reads
// no more gets no more, and the caller is not held up by that.
func (in *input) feed() {
	defer in.to.Close()
	for broken := false; ; {
		b := in.take()
		if b == nil {
			return
		}
		if !broken {
			_, err := in.to.Write(b)
			broken = err != nil
		}
		if err := in.w.write(kindCredit, binary.LittleEndian.AppendUint32(nil, uint32(len(b)))); err != nil {
			return
		}
	}
}

// take returns nil at the end of the input.
func (in *input) take() []byte {
	in.mu.Lock()
	defer in.mu.Unlock()
	for len(in.queue) == 0 && !in.ended && !in.closed {
		in.wake.Wait()
	}
	if in.closed || len(in.queue) == 0 {
		return nil
	}
	b := in.queue[0]
	in.queue = in.queue[1:]
	in.bytes -= len(b)
	return b
}

func (in *input) close() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.closed = true
	in.wake.Broadcast()
	in.to.Close()
}

// decodeExit reads the payload of kindExit.
func decodeExit(b []byte) (int, error) {
	var e exit
	if err := json.Unmarshal(b, &e); err != nil {
		return 0, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return e.Code, nil
}
