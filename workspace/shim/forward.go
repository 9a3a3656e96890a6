package shim

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"
)

const dialTimeout = 10 * time.Second

// forwards are the loopback listeners of the workspace.
type forwards struct {
	listeners []net.Listener
	accepting sync.WaitGroup
	conns     sync.WaitGroup

	mu   sync.Mutex
	open map[net.Conn]bool
}

func forwardAll(all []Forward, log *slog.Logger) (*forwards, error) {
	fs := &forwards{open: map[net.Conn]bool{}}
	for _, f := range all {
		l, err := net.Listen("tcp", f.Listen) //nolint:noctx // waits for nobody
		if err != nil {
			fs.Close()
			return nil, fmt.Errorf("listening for %s: %w", f.Socket, err)
		}
		fs.listeners = append(fs.listeners, l)
		fs.accepting.Go(func() { fs.accept(l, f, log) })
	}
	return fs, nil
}

// Close ends the listeners and their connections and waits for both.
func (fs *forwards) Close() {
	for _, l := range fs.listeners {
		l.Close()
	}
	fs.accepting.Wait()
	fs.mu.Lock()
	for c := range fs.open {
		c.Close()
	}
	fs.mu.Unlock()
	fs.conns.Wait()
}

func (fs *forwards) accept(l net.Listener, f Forward, log *slog.Logger) {
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // out of descriptors: the next one may fit again
			log.Warn("accepting", "listen", f.Listen, "err", err)
			time.Sleep(50 * time.Millisecond)
			continue
		}
		fs.conns.Go(func() {
			defer c.Close()
			to, err := net.DialTimeout("unix", f.Socket, dialTimeout) //nolint:noctx // ends by itself
			if err != nil {
				log.Warn("forwarding", "listen", f.Listen, "err", err)
				return
			}
			defer to.Close()
			fs.track(c, true)
			defer fs.track(c, false)
			fs.track(to, true)
			defer fs.track(to, false)
			join(c, to)
		})
	}
}

func (fs *forwards) track(c net.Conn, open bool) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if open {
		fs.open[c] = true
	} else {
		delete(fs.open, c)
	}
}

// join copies both ways until both have ended. The end of one way closes that
// way only.
func join(a, b net.Conn) {
	var wg sync.WaitGroup
	wg.Go(func() { oneWay(a, b) })
	wg.Go(func() { oneWay(b, a) })
	wg.Wait()
}

func oneWay(to, from net.Conn) {
	if _, err := io.Copy(to, from); err != nil { // broken, not ended: the other way has no use either
		to.Close()
		from.Close()
		return
	}
	if h, ok := to.(interface{ CloseWrite() error }); ok {
		_ = h.CloseWrite() // it may be closed already
	}
}
