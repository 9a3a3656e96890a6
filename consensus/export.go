package consensus

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/hashicorp/raft"
)

// Export is a whole copy of all machines at one index, in a file. Import reads
// it.
type Export struct {
	Path  string
	Size  int64
	Index uint64 // everything up to it is in there, and nothing else
}

// Close removes the file.
func (e *Export) Close() error { return os.Remove(e.Path) }

// Export writes a whole copy of all machines to a new file in dir, while the
// log goes on. Everything that was acknowledged before is in it. The caller
// closes it.
func (l *Log) Export(ctx context.Context, dir string) (*Export, error) {
	e, err := l.export(ctx, dir)
	if err != nil {
		return nil, fmt.Errorf("exporting: %w", err)
	}
	return e, nil
}

func (l *Log) export(ctx context.Context, dir string) (*Export, error) {
	index, err := l.Fresh(ctx)
	if err != nil {
		return nil, err
	}
	snap, pos, err := l.capture(index, 0)
	if err != nil {
		return nil, err
	}
	defer snap.Release()
	file, err := os.CreateTemp(dir, "samnode-export-*")
	if err != nil {
		return nil, err
	}
	check := func() error {
		if l.life.Err() != nil {
			return ErrClosed
		}
		return context.Cause(ctx)
	}
	err = snap.write(&checkedWriter{w: file, check: check})
	st, statErr := file.Stat()
	if err := errors.Join(err, statErr, file.Sync(), file.Close()); err != nil {
		return nil, errors.Join(err, os.Remove(file.Name()))
	}
	return &Export{Path: file.Name(), Size: st.Size(), Index: pos.index}, nil
}

// Import begins a new group with this node as its only voter, whose machines
// have the state that Export wrote. c.Dir must be empty and the machines new;
// of c.Transport only the address is used. A damaged copy changes nothing.
// When Import was cut off before it began the group, it can be repeated; once
// it has, Open goes on.
func Import(ctx context.Context, c Config, r io.Reader) error {
	if err := c.validate(); err != nil {
		return err
	}
	c.setDefaults()
	c.Bootstrap, c.Join = true, false
	if err := importTo(ctx, &c, r); err != nil {
		if full(err) {
			err = fmt.Errorf("%w: %w", ErrFull, err)
		}
		return fmt.Errorf("importing to %s: %w", c.Dir, err)
	}
	return nil
}

func importTo(ctx context.Context, c *Config, r io.Reader) (err error) {
	for name, m := range c.Machines {
		if n := m.Applied(); n > 0 {
			return fmt.Errorf("machine %s is not new: it has entries up to %d", name, n)
		}
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return err
	}
	g, err := claim(c)
	if err != nil {
		return err
	}
	s, err := openStores(c, func(error) {}) // every error is returned as well
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	empty, err := s.empty()
	if err != nil {
		return err
	}
	if !empty {
		return errors.New("there is state already: choose another folder, or remove this one")
	}
	if err := g.set(newGroupID()); err != nil {
		return err
	}
	if err := s.stable.SetUint64([]byte(keyTerm), 1); err != nil {
		return err
	}
	if err := importSnapshot(ctx, c, s, r); err != nil {
		return err
	}
	return newFSM(c.Machines, c.Logger, func(error) {}, s.log.raise).load(s, c.MaxAppendEntries)
}

// importSnapshot makes the copy the newest snapshot of a new group.
func importSnapshot(ctx context.Context, c *Config, s *stores, r io.Reader) error {
	in := bufio.NewReaderSize(r, chunkSize)
	b, err := in.Peek(headSize)
	if err != nil {
		return fmt.Errorf("reading the copy: %w", noEOF(err))
	}
	head, err := readHead(bytes.NewReader(b))
	if err != nil {
		return err
	}
	if !head.whole {
		return errors.New("it is not a whole copy")
	}
	sink, err := s.createOwn(c, max(head.index, 1), 1)
	if err != nil {
		return err
	}
	copied := io.TeeReader(in, &checkedWriter{w: sink, check: func() error { return context.Cause(ctx) }})
	_, err = readSnapshot(copied, func(machine string, _ uint64, _ io.Reader) error {
		if c.Machines[machine] == nil {
			return fmt.Errorf("%w: state of this machine", ErrNewer)
		}
		return nil
	})
	if err != nil {
		return errors.Join(err, sink.Cancel())
	}
	return sink.Close()
}

// createOwn begins a snapshot of a group in which this node is the only one.
func (s *stores) createOwn(c *Config, index, term uint64) (raft.SnapshotSink, error) {
	addr := raft.ServerAddress(c.Node)
	if c.Transport != nil {
		addr = raft.ServerAddress(c.Transport.Addr().String())
	}
	_, trans := raft.NewInmemTransport(addr) // to encode the address with
	group := raft.Configuration{Servers: []raft.Server{{ID: raft.ServerID(c.Node), Address: addr}}}
	return s.snaps.Create(raft.SnapshotVersionMax, index, term, group, 1, trans)
}
