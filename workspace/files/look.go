package files

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
)

// MaxEntries is how much of a folder a call shows at most, and what it counts.
const (
	MaxEntries = 10_000
	maxCounted = 500_000
)

// look answers with what is at a path.
func (s *server) look(p string, q request) error {
	link, err := s.stat(p)
	if err != nil {
		return err
	}
	if k := cmp.Or(link.Leads, link.Kind); q.Length == 0 && k != Folder && k != File {
		return s.answer(answer{Info: link}) // it is shown
	}
	in, f, err := s.open(p)
	if err != nil {
		return err
	}
	defer in.Close()
	a := answer{Info: infoOf(path.Base(p), f)}
	a.Info.Link, a.Info.Leads = link.Link, link.Leads
	if a.Info.Kind == Folder {
		if err := s.list(&a, p, in, q.Limit); err != nil {
			return err
		}
		return s.answer(a)
	}
	if q.From < 0 || q.From > a.Info.Size {
		return invalid("%s has %d bytes, and no byte %d", Quote(p), a.Info.Size, q.From)
	}
	a.Length = a.Info.Size - q.From
	if q.Length >= 0 {
		a.Length = min(a.Length, q.Length)
	}
	if _, err := in.Seek(q.From, io.SeekStart); err != nil {
		return s.why(p, err)
	}
	if err := s.answer(a); err != nil {
		return err
	}
	_, err = io.CopyN(s.out, struct{ io.Reader }{in}, a.Length) // short when it shrank: the other end counts
	return err
}

// list fills in a folder's entries, the first limit of them in order. Only what
// is shown is looked at.
func (s *server) list(a *answer, p string, in *os.File, limit int) error {
	if limit <= 0 || limit > MaxEntries {
		limit = MaxEntries
	}
	var all []os.DirEntry
	for len(all) < maxCounted {
		part, err := in.ReadDir(4096)
		all = append(all, part...)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return s.why(p, fmt.Errorf("listing: %w", err))
		}
	}
	a.Total, a.More = len(all), len(all) >= maxCounted
	slices.SortFunc(all, func(x, y os.DirEntry) int {
		return cmp.Or(cmp.Compare(rank(p, x), rank(p, y)), strings.Compare(x.Name(), y.Name()))
	})
	for _, e := range all[:min(limit, len(all))] {
		i, err := s.stat(path.Join(p, e.Name()))
		switch {
		case errors.Is(err, ErrNotFound):
			a.Total-- // it went meanwhile
			continue
		case err != nil: // no right to look at it
			i = Info{Name: Bytes(e.Name()), Kind: kindOf(e.Type())}
		}
		a.Entries = append(a.Entries, i)
	}
	return nil
}

// rank puts folders first, and git's own last.
func rank(folder string, e os.DirEntry) int {
	switch {
	case folder == "" && e.Name() == gitDir:
		return 2
	case e.IsDir():
		return 0
	}
	return 1
}
