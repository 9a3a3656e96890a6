package sshd

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// Use is a way to be in a workspace.
type Use string

// The ways.
const (
	UseShell   Use = "shell"
	UseCommand Use = "command"
	UseFiles   Use = "files"
	UseForward Use = "forward" // a connection; what says to where
	UseNothing Use = "ssh"     // connected, for something else or nothing
)

// idleFor is how long a connection may do nothing until that is something.
const idleFor = 2 * time.Second

// did tells of something that begins; call what it returns when it is over.
func (c *conn) did(by Use, what string) (done func(bytes int64)) {
	c.did1st.Do(func() { close(c.busy) })
	if c.space.Did == nil {
		return func(int64) {}
	}
	return c.space.Did(by, what)
}

// sit tells of a connection that does nothing yet: a master that waits, or a
// tunnel that nobody uses.
func (c *conn) sit() {
	wait := time.NewTimer(idleFor)
	defer wait.Stop()
	select {
	case <-c.busy:
		return
	case <-c.ctx.Done():
	case <-wait.C:
	}
	done := c.did(UseNothing, "")
	<-c.ctx.Done()
	done(0)
}

// askAgain asks now and then whether the caller may still be here, and ends the
// connection with a word where not.
func (c *conn) askAgain() {
	tick := time.NewTicker(c.s.c.AskEvery)
	defer tick.Stop()
	for {
		select {
		case <-c.ctx.Done():
			return
		case <-tick.C:
		}
		err := c.check()
		if err == nil || c.ctx.Err() != nil || errors.Is(err, context.DeadlineExceeded) {
			continue // a node that does not answer in time has not said no
		}
		c.s.logger.Info("an ssh caller may not stay", "from", c.raw.RemoteAddr().String(), "err", err)
		c.why = err
		close(c.dismissed)
		wait := time.NewTimer(time.Second) // for the word
		defer wait.Stop()
		select {
		case <-wait.C:
		case <-c.ctx.Done():
		}
		c.ssh.Close()
		return
	}
}

// onDismissal tells the client of this session why it ends.
func (s *session) onDismissal() (stop func()) {
	over := make(chan struct{})
	go func() {
		select {
		case <-over:
		case <-s.dismissed:
			newline := "\n"
			if s.pty {
				newline = "\r\n"
			}
			_, _ = io.WriteString(s.ch.Stderr(), newline+told(s.why)+newline) // they may have left
		}
	}()
	return sync.OnceFunc(func() { close(over) })
}

// counter counts bytes in both directions.
type counter struct{ n atomic.Int64 }

type (
	countedReader struct {
		io.Reader
		*counter
	}
	countedWriter struct {
		io.Writer
		*counter
	}
)

func (c *counter) reader(r io.Reader) io.Reader { return countedReader{r, c} }
func (c *counter) writer(w io.Writer) io.Writer { return countedWriter{w, c} }

func (c countedReader) Read(b []byte) (int, error) {
	n, err := c.Reader.Read(b)
	c.n.Add(int64(n))
	return n, err
}

func (c countedWriter) Write(b []byte) (int, error) {
	n, err := c.Writer.Write(b)
	c.n.Add(int64(n))
	return n, err
}
