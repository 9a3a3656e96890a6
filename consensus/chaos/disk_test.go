package chaos

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	walfs "github.com/hashicorp/raft-wal/fs"
	"github.com/hashicorp/raft-wal/types"
)

// disk is what a node's log files are on. It is a real directory, and it knows
// what of it a power cut may lose: what was written and not synced since. That
// outlives the process, as a system's cache does.
//
// Syncing is all it does not do: what is to survive is decided by image. The
// other files of a node (bbolt, snapshots) are taken as they are between two
// writes; they are synced before anything depends on them.
type disk struct {
	real *walfs.FS
	lies bool // flaw: a sync keeps nothing

	mu     sync.Mutex
	full   bool
	files  map[string]*dirty // by name
	left   int               // syncs until spring; 0: no trap is set
	spring func()            // kills, in the middle of a sync
	syncs  int
}

// dirty is what of a file is not safe.
type dirty struct {
	unnamed bool    // its directory was not synced since it was made
	writes  []write // oldest first
}

type write struct {
	off      int64
	old, new []byte
}

func newDisk(lies bool) *disk {
	return &disk{real: walfs.New(), lies: lies, files: make(map[string]*dirty)}
}

// trap has the process killed by spring during its n-th sync.
func (d *disk) trap(n int, spring func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.left, d.spring = n, spring
}

// fill makes the disk full, or makes room.
func (d *disk) fill(full bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.full = full
}

func (d *disk) room(op, name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.full {
		return &fs.PathError{Op: op, Path: name, Err: syscall.ENOSPC}
	}
	return nil
}

// ListDir implements types.VFS.
func (d *disk) ListDir(dir string) ([]string, error) { return d.real.ListDir(dir) }

// Create implements types.VFS.
func (d *disk) Create(dir, name string, size uint64) (types.WritableFile, error) {
	if err := d.room("create", name); err != nil {
		return nil, err
	}
	f, err := d.real.Create(dir, name, size)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.files[name] = &dirty{unnamed: true}
	return &file{WritableFile: f, disk: d, name: name}, nil
}

// Delete implements types.VFS.
func (d *disk) Delete(dir, name string) error {
	d.mu.Lock()
	delete(d.files, name)
	d.mu.Unlock()
	return os.Remove(filepath.Join(dir, name))
}

// OpenReader implements types.VFS.
func (d *disk) OpenReader(dir, name string) (types.ReadableFile, error) {
	return d.real.OpenReader(dir, name)
}

// OpenWriter implements types.VFS.
func (d *disk) OpenWriter(dir, name string) (types.WritableFile, error) {
	f, err := d.real.OpenWriter(dir, name)
	if err != nil {
		return nil, err
	}
	return &file{WritableFile: f, disk: d, name: name}, nil
}

// file is one that is written.
type file struct {
	types.WritableFile
	disk *disk
	name string
}

// WriteAt implements io.WriterAt.
func (f *file) WriteAt(b []byte, off int64) (int, error) {
	if err := f.disk.room("write", f.name); err != nil {
		return 0, err
	}
	old := make([]byte, len(b))
	if _, err := f.ReadAt(old, off); err != nil && err != io.EOF {
		return 0, err
	}
	n, err := f.WritableFile.WriteAt(b, off)
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	d := f.disk.files[f.name]
	if d == nil {
		d = new(dirty)
		f.disk.files[f.name] = d
	}
	d.writes = append(d.writes, write{off, old[:n], append([]byte(nil), b[:n]...)})
	return n, err
}

// Sync implements types.WritableFile.
func (f *file) Sync() error {
	d := f.disk
	d.mu.Lock()
	last, spring := d.left == 1, d.spring
	d.left = max(0, d.left-1)
	d.mu.Unlock()
	if last {
		spring()
		return nil // what the process still does nobody sees
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.syncs++
	if !d.lies {
		delete(d.files, f.name)
	}
	return nil
}

// image copies a node's directory as a process finds it that is started now,
// after a power cut without some of what was not synced. The disk goes on with
// the copy.
func (d *disk) image(from, to string, power bool, rng *rand.Rand) (*disk, error) {
	for try := 0; ; try++ {
		err := os.CopyFS(to, os.DirFS(from))
		if err == nil {
			break
		}
		if err := os.RemoveAll(to); err != nil || try == 10 { // a snapshot was renamed or removed meanwhile
			return nil, errors.Join(fmt.Errorf("copying the disk: %w", err), err)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	next := newDisk(d.lies)
	for name, f := range d.files {
		if !power {
			next.files[name] = &dirty{f.unnamed, append([]write(nil), f.writes...)}
			continue
		}
		if err := f.lose(filepath.Join(to, "wal", name), rng); err != nil {
			return nil, fmt.Errorf("losing what was not synced: %w", err)
		}
	}
	return next, nil
}

const sector = 512

// lose takes back, in the file at path, some of what was not synced: nothing,
// all, the newest writes, or sectors here and there.
func (d *dirty) lose(path string, rng *rand.Rand) error {
	if d.unnamed && rng.IntN(3) == 0 {
		return os.Remove(path)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // nothing is synced here
	kept := rng.IntN(len(d.writes) + 1)
	torn := rng.IntN(2) == 0
	for i := len(d.writes) - 1; i >= kept; i-- {
		w := d.writes[i]
		for at := 0; at < len(w.old); {
			end := min(len(w.old), at+sector-int(w.off+int64(at))%sector)
			if !torn || rng.IntN(2) == 0 {
				if _, err := f.WriteAt(w.old[at:end], w.off+int64(at)); err != nil {
					return err
				}
			}
			at = end
		}
	}
	return nil
}
