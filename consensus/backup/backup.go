// Package backup keeps copies of a mesh where the mesh is not: in a folder, in
// one file or in a bucket that speaks S3.
//
// A backup is one age file, so it is of use only to who holds the key, and the
// key is not on any node: nodes have its public half. It is written as a
// stream, in bounded memory, and becomes visible under its name when it is
// whole. Reading one ends with io.EOF only when all of it was there and is
// what was written; until then what was read is not to be trusted.
//
// What it does not do: whoever may write to the place and knows the public key
// can put a backup of their own there. Keep strangers from writing to it, or
// use a passphrase, which proves who made the backup.
package backup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// What can be wrong with a backup. Errors that wrap these name the backup.
var (
	// ErrWrongKey: no key given opens it. Bytes that changed within the few
	// that hold the locked key look the same.
	ErrWrongKey = errors.New("it was made for another key")
	// ErrCut: its end is missing.
	ErrCut = errors.New("it is cut off; take another backup")
	// ErrDamaged: bytes have changed since it was written.
	ErrDamaged = errors.New("it is damaged; take another backup")
	// ErrNewer: a newer samnode made it.
	ErrNewer = errors.New("a newer samnode made it; upgrade this one first")
	// ErrNotBackup: something else is in the file.
	ErrNotBackup = errors.New("it is not a backup of samnode, or its first bytes are damaged")
	// ErrNone: there is no backup where one was looked for.
	ErrNone = errors.New("there is no backup")
)

// Meta is what a backup says of itself, inside, where only the key's holder
// reads it and nobody changes it.
type Meta struct {
	Mesh    string    `json:"mesh"`    // letters, digits, dots, dashes
	Node    string    `json:"node"`    // that made it
	Index   uint64    `json:"index"`   // of the newest log entry in it
	Version string    `json:"version"` // of the samnode that made it
	At      time.Time `json:"at"`
	Size    int64     `json:"size"` // of the copy, as far as known before; 0: unknown
}

// Info is what a place says of a backup without its key.
type Info struct {
	Name  string    `json:"name"` // in its folder or bucket
	Mesh  string    `json:"mesh"`
	Index uint64    `json:"index"`
	At    time.Time `json:"at"`   // UTC, to the second
	Size  int64     `json:"size"` // of the stored file
}

// place is where backups lie.
type place interface {
	// put makes name what fill writes: all of it, durably, or nothing.
	put(ctx context.Context, name string, estimate int64, fill func(io.Writer) error) (size int64, err error)
	// list returns what is named as a backup is, in any order; or only the one
	// of that name, whatever it is like.
	list(ctx context.Context, only string) ([]Info, error)
	// open's reader returns io.EOF at the end of what is stored and nowhere else.
	open(ctx context.Context, name string) (io.ReadCloser, error)
	remove(ctx context.Context, name string) error
	// tidy removes what writers of that mesh left unfinished and are not at any more.
	tidy(ctx context.Context, mesh string) error
}

// Write stores what src writes, closed for the key. When it returns an error
// there is no new backup, nor half of one. Src gets every error of its writer,
// and an end of ctx is one.
func Write(ctx context.Context, d Destination, to Recipient, m Meta, src func(io.Writer) error) (Info, error) {
	if d.place == nil {
		return Info{}, errors.New("no place for backups is set")
	}
	if len(to.keys) == 0 {
		return Info{}, errors.New("a backup needs a key to be closed with")
	}
	if err := checkMesh(m.Mesh); err != nil {
		return Info{}, err
	}
	m.At = m.At.UTC()
	name := d.name
	if name == "" {
		name = nameOf(m)
	}
	size, err := d.place.put(ctx, name, m.Size, func(w io.Writer) error {
		return seal(&untilDone{ctx, w}, to, m, src)
	})
	if err != nil {
		return Info{}, fmt.Errorf("writing the backup to %s: %w", d, err)
	}
	return Info{Name: name, Mesh: m.Mesh, Index: m.Index, At: m.At.Truncate(time.Second), Size: size}, nil
}

// Open opens a backup: the one that d names, or the newest in d when all in it
// are of one mesh. The caller closes the reader, and does not act on what it
// read before io.EOF. The reader fails when ctx has ended.
func Open(ctx context.Context, d Destination, id Identity) (Meta, io.ReadCloser, error) {
	name, err := d.pick(ctx)
	if err != nil {
		return Meta{}, nil, err
	}
	stored, err := d.place.open(ctx, name)
	if err != nil {
		return Meta{}, nil, fmt.Errorf("opening the backup %s: %w", d.Pick(name), err)
	}
	m, r, err := unseal(&readUntilDone{ctx, stored}, id)
	if err != nil {
		return Meta{}, nil, errors.Join(fmt.Errorf("the backup %s cannot be used: %w", d.Pick(name), err), stored.Close())
	}
	r.name = d.Pick(name).String()
	return m, r, nil
}

// Verify reads a backup as Open does, to its end.
func Verify(ctx context.Context, d Destination, id Identity) (Meta, error) {
	m, r, err := Open(ctx, d, id)
	if err != nil {
		return Meta{}, err
	}
	_, err = io.Copy(io.Discard, r)
	if err := errors.Join(err, r.Close()); err != nil {
		return Meta{}, err
	}
	return m, nil
}

// List returns the backups in d, the newest first; none is no error.
func List(ctx context.Context, d Destination) ([]Info, error) {
	if d.place == nil {
		return nil, errors.New("no place for backups is set")
	}
	all, err := d.place.list(ctx, d.name)
	if err != nil {
		return nil, fmt.Errorf("listing the backups in %s: %w", d, err)
	}
	slices.SortFunc(all, newestFirst)
	return all, nil
}

func newestFirst(a, b Info) int {
	return cmp.Or(b.At.Compare(a.At), cmp.Compare(b.Index, a.Index), cmp.Compare(a.Name, b.Name))
}

// Prune removes all but the newest keep backups of that mesh, and what killed
// writers left. Those of other meshes, and a destination that is one file, stay
// as they are. It goes on past what it cannot remove, and returns what it did.
func Prune(ctx context.Context, d Destination, mesh string, keep int) ([]Info, error) {
	if keep < 1 {
		return nil, fmt.Errorf("keeping %d backups would remove the newest, too; keep at least 1", keep)
	}
	all, err := List(ctx, d)
	if err != nil || d.name != "" {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(i Info) bool { return i.Mesh != mesh })
	var removed []Info
	var errs []error
	for _, i := range all[min(keep, len(all)):] {
		if err := d.place.remove(ctx, i.Name); err != nil {
			errs = append(errs, fmt.Errorf("removing the old backup %s: %w", d.Pick(i.Name), err))
			continue
		}
		removed = append(removed, i)
	}
	if err := d.place.tidy(ctx, mesh); err != nil {
		errs = append(errs, fmt.Errorf("removing unfinished backups in %s: %w", d, err))
	}
	return removed, errors.Join(errs...)
}

// pick returns the name of the backup that d means.
func (d Destination) pick(ctx context.Context) (string, error) {
	if d.name != "" {
		return d.name, nil
	}
	all, err := List(ctx, d)
	if err != nil {
		return "", err
	}
	if len(all) == 0 {
		return "", fmt.Errorf("%w in %s", ErrNone, d)
	}
	var meshes []string
	for _, i := range all {
		if !slices.Contains(meshes, i.Mesh) {
			meshes = append(meshes, i.Mesh)
		}
	}
	if len(meshes) > 1 {
		slices.Sort(meshes)
		return "", fmt.Errorf("%s has backups of the meshes %s; name the one you mean, such as %s",
			d, strings.Join(meshes, ", "), d.Pick(all[0].Name))
	}
	return all[0].Name, nil
}

// untilDone is a writer that fails when ctx has ended.
type untilDone struct {
	ctx context.Context
	w   io.Writer
}

func (u *untilDone) Write(p []byte) (int, error) {
	if u.ctx.Err() != nil {
		return 0, context.Cause(u.ctx)
	}
	return u.w.Write(p)
}

// readUntilDone is a reader that fails when ctx has ended.
type readUntilDone struct {
	ctx context.Context
	io.ReadCloser
}

func (r *readUntilDone) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.ReadCloser.Read(p)
}
