package shim

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// found is what opening a journal learned by reading it.
type found struct {
	last  uint64
	size  int64 // of the sound part
	run   int
	open  bool              // run has no EventExited: the shim died before or with it
	ids   map[string]uint64 // of "in" records: their seq
	lost  map[string]bool   // ids with an EventUnsent
	index []mark
}

// mark is one entry of the sparse index: the frame of seq begins at off.
type mark struct {
	seq uint64
	off int64
}

const markEvery = 64 << 10

func (s *found) add(r Record, off, end int64) {
	s.last, s.size = r.Seq, end
	if r.Run > s.run {
		s.run, s.open = r.Run, true
	}
	if len(s.index) == 0 || off-s.index[len(s.index)-1].off >= markEvery {
		s.index = append(s.index, mark{r.Seq, off})
	}
	switch r.Dir {
	case In:
		if _, known := s.ids[r.ID]; !known {
			s.ids[r.ID] = r.Seq
		}
	case Notes:
		switch n, _ := r.Note(); {
		case n.Event == EventUnsent:
			s.lost[r.ID] = true
		case n.Event == EventExited && r.Run == s.run:
			s.open = false
		}
	case Out, Stderr: // tell nothing of runs and ids
	}
}

// openJournalFile opens or makes the file at path for this process alone and
// repairs it. A torn tail (never served to anyone: only synced records are) is
// cut off. Damage with sound records after it keeps those, and puts an
// EventLost in the place of each record that is gone, so that no number is
// ever used for something else. What was cut is kept beside the journal.
func openJournalFile(path string) (*os.File, found, *Note, error) {
	var note *Note
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, found{}, nil, fmt.Errorf("opening journal: %w", err)
		}
		s, repaired, err := prepare(f, path)
		if repaired != nil {
			note = repaired
		}
		if err == nil {
			return f, s, note, nil
		}
		f.Close()
		if !errors.Is(err, errRebuilt) {
			return nil, found{}, nil, fmt.Errorf("opening journal %s: %w", path, err)
		}
	}
}

// errRebuilt says that the path now names another, sound file.
var errRebuilt = errors.New("rebuilt")

func prepare(f *os.File, path string) (found, *Note, error) {
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return found{}, nil, fmt.Errorf("another shim has it: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		return found{}, nil, err
	}
	if info.Size() < int64(len(fileMagic)) { // new, or torn at its very first write
		return found{size: int64(len(fileMagic)), ids: map[string]uint64{}, lost: map[string]bool{}}, nil, create(f, path)
	}
	if err := checkMagic(f); err != nil {
		return found{}, nil, err
	}
	s, err := scan(f)
	if err == nil {
		return s, nil, nil
	}
	if !errors.Is(err, errTorn) && !errors.Is(err, errDamaged) {
		return found{}, nil, err
	}
	cut := info.Size() - s.size
	if next, err := resync(f, s.size+1, s.last); err != nil {
		return found{}, nil, err
	} else if next >= 0 {
		return found{}, &Note{Event: EventRepaired, Bytes: cut, Text: "the journal was damaged in the middle; what could be read was kept"},
			cmp.Or(rebuild(f, path, s), errRebuilt)
	}
	kept := keepCut(f, s.size, path)
	if err := f.Truncate(s.size); err != nil {
		return found{}, nil, fmt.Errorf("cutting the torn tail: %w", err)
	}
	return s, &Note{Event: EventRepaired, Bytes: cut, Text: "the journal ended inside a record; that tail was cut off" + kept}, f.Sync()
}

func create(f *os.File, path string) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	if _, err := f.WriteAt([]byte(fileMagic), 0); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// scan reads the sound records at the beginning. The error says why it ended
// before the end of the file, nil when it did not.
func scan(f *os.File) (found, error) {
	s := found{size: int64(len(fileMagic)), ids: map[string]uint64{}, lost: map[string]bool{}}
	fr := newFrameReader(io.NewSectionReader(f, s.size, 1<<62), s.size)
	for {
		off := fr.off
		r, err := fr.next()
		if errors.Is(err, io.EOF) {
			return s, nil
		}
		if err != nil {
			return s, err
		}
		if r.Seq != s.last+1 {
			return s, errDamaged
		}
		s.add(r, off, fr.off)
	}
}

// resync looks for the next sound frame at or after off whose seq is above
// last; -1 when there is none.
func resync(f *os.File, off int64, last uint64) (int64, error) {
	buf := make([]byte, 1<<20)
	for {
		n, err := f.ReadAt(buf, off)
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, fmt.Errorf("looking for sound records: %w", err)
		}
		for i := 0; i+headLen <= n; i++ {
			if buf[i] != frameMagic&0xff || buf[i+1] != frameMagic>>8 {
				continue
			}
			fr := newFrameReader(io.NewSectionReader(f, off+int64(i), 1<<62), off+int64(i))
			if r, err := fr.next(); err == nil && r.Seq > last {
				return off + int64(i), nil
			}
		}
		if n < len(buf) {
			return -1, nil
		}
		off += int64(n - headLen + 1)
	}
}

// rebuild writes a new file of all sound records and puts it in the place of
// the damaged one, which stays beside it.
func rebuild(f *os.File, path string, s found) error {
	out, err := os.OpenFile(path+".new", os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("rebuilding: %w", err)
	}
	defer out.Close()
	if _, err := io.Copy(out, io.NewSectionReader(f, 0, s.size)); err != nil {
		return fmt.Errorf("rebuilding: %w", err)
	}
	if err := salvage(out, f, s); err != nil {
		return fmt.Errorf("rebuilding: %w", err)
	}
	if err := out.Sync(); err != nil {
		return fmt.Errorf("rebuilding: %w", err)
	}
	os.Remove(path + ".damaged") // of an earlier time
	if err := os.Link(path, path+".damaged"); err != nil {
		return fmt.Errorf("rebuilding: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("rebuilding: %w", err)
	}
	return syncDir(filepath.Dir(path))
}

func salvage(out io.Writer, f *os.File, s found) error {
	data, err := json.Marshal(Note{Event: EventLost})
	if err != nil {
		return err
	}
	last, off := s.last, s.size
	for {
		next, err := resync(f, off, last)
		if err != nil || next < 0 {
			return err
		}
		fr := newFrameReader(io.NewSectionReader(f, next, 1<<62), next)
		for {
			r, err := fr.next()
			if err != nil || r.Seq <= last {
				break // damaged again, or the end: look further
			}
			var b []byte
			for last++; last < r.Seq; last++ {
				b = appendFrame(b, Record{Seq: last, At: r.At, Dir: Notes, Run: r.Run, Data: data})
			}
			if _, err := out.Write(appendFrame(b, r)); err != nil {
				return err
			}
		}
		off = max(fr.off, next+1)
	}
}

// keepCut copies the torn tail to a file beside the journal, for a person to
// look at; it says so, or why not. The tail is no use to the program.
func keepCut(f *os.File, from int64, path string) string {
	name := path + ".cut-" + time.Now().UTC().Format("20060102T150405.000000000")
	out, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return " and not kept: " + err.Error()
	}
	_, err = io.Copy(out, io.NewSectionReader(f, from, 1<<62))
	if err = errors.Join(err, out.Close()); err != nil {
		os.Remove(name)
		return " and not kept: " + err.Error()
	}
	return " and kept in " + filepath.Base(name)
}
