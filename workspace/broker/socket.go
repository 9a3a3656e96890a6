package broker

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
)

// maxConns is how many connections one socket holds at once. The next ones
// wait in the kernel: a workspace cannot use up the node's file descriptors.
const maxConns = 256

// maxSocketPath is what fits into a sockaddr_un on Linux, with its NUL.
const maxSocketPath = 107

// socket is a unix socket in a directory of any length.
type socket struct {
	net.Listener
	path  string
	slots chan struct{}
	done  chan struct{}
	once  sync.Once
}

// listen makes dir/name, over the left-over of a node that was killed.
func listen(dir, name string) (*socket, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("making socket directory: %w", err)
	}
	path := filepath.Join(dir, name)
	if err := removeSocket(path); err != nil {
		return nil, err
	}
	addr := path
	if len(path) > maxSocketPath {
		d, err := os.Open(dir)
		if err != nil {
			return nil, fmt.Errorf("opening socket directory: %w", err)
		}
		defer d.Close()
		addr = fmt.Sprintf("/proc/self/fd/%d/%s", d.Fd(), name)
	}
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: addr, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listening on %s: %w", name, err)
	}
	ln.SetUnlinkOnClose(false) // addr may be gone by then; remove knows the path
	// The workspace's user is another than ours.
	if err := os.Chmod(path, 0o666); err != nil {
		return nil, errors.Join(fmt.Errorf("opening %s to the workspace: %w", name, err), ln.Close())
	}
	return &socket{Listener: ln, path: path, slots: make(chan struct{}, maxConns), done: make(chan struct{})}, nil
}

// Accept waits for a free slot, then for a connection.
func (s *socket) Accept() (net.Conn, error) {
	select {
	case s.slots <- struct{}{}:
	case <-s.done:
		return nil, net.ErrClosed
	}
	c, err := s.Listener.Accept()
	if err != nil {
		<-s.slots
		return nil, err
	}
	return &slotConn{UnixConn: c.(*net.UnixConn), free: sync.OnceFunc(func() { <-s.slots })}, nil
}

// Close stops listening; the file stays until remove.
func (s *socket) Close() error {
	s.once.Do(func() { close(s.done) })
	return s.Listener.Close()
}

func (s *socket) remove() error { return removeSocket(s.path) }

// removeSocket removes a socket, and nothing else that has its name.
func removeSocket(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("looking at old socket: %w", err)
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("%s exists and is not a socket", path)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("removing socket: %w", err)
	}
	return nil
}

// slotConn gives its slot back when it is closed.
type slotConn struct {
	*net.UnixConn
	free func()
}

func (c *slotConn) Close() error {
	defer c.free()
	return c.UnixConn.Close()
}
