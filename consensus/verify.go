package consensus

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"os"

	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"
)

// raft-wal takes every end of a segment that it cannot read for a write that
// was cut off, and what is before the last write on trust. So the segments are
// read here first. They are written in batches:
//
//	32 bytes  header, before the first one
//	frames    of an entry each, at the end of a full segment one with an index:
//	          1 byte type, 3 bytes 0, 4 bytes length; data; zeros up to 8 bytes
//	8 bytes   commit: type, 3 bytes 0, CRC-32C of the batch
//
// The file has its full size from the beginning, zeros behind the last batch.
const (
	segmentHeader = 32
	frameHeader   = 8
	frameEntry    = 1
	frameIndex    = 2
	frameCommit   = 3
	sectorSize    = 512              // the least that a disk writes or does not write
	mostFrame     = MaxEntry + 4<<10 // with what Raft adds
)

// batches is what was found in a segment.
type batches struct {
	good    int    // end of the last sound batch; 0: there is none
	entries uint64 // in the sound batches
	stop    int    // where reading ended
	commit  bool   // at a commit that does not fit its batch
	end     int    // behind the last byte that is not 0
}

// checkSegments looks at every segment of the log, and makes zeros of what a
// write that was cut off left behind the last one.
func checkSegments(files types.VFS, dir string, segments []types.SegmentInfo) (torn bool, err error) {
	for i, info := range segments {
		name := segment.FileName(info)
		b, err := readFile(files, dir, name)
		last := i == len(segments)-1 && info.SealTime.IsZero()
		if errors.Is(err, os.ErrNotExist) && last {
			return false, nil // not made yet
		}
		if errors.Is(err, os.ErrNotExist) {
			return false, fmt.Errorf("%w: %s is missing", ErrDamaged, name)
		}
		if err != nil {
			return false, err
		}
		found := readBatches(b)
		if !last {
			if info.MaxIndex >= info.BaseIndex+found.entries || info.IndexStart > uint64(found.good) {
				return false, fmt.Errorf("%w: %s cannot be read behind byte %d", ErrDamaged, name, found.good)
			}
			continue
		}
		if err := checkTail(b, found, int64(info.SizeLimit)); err != nil {
			return false, fmt.Errorf("%w: %s: %w", ErrDamaged, name, err)
		}
		if int64(len(b)) < int64(info.SizeLimit) {
			return found.end > 0, files.Delete(dir, name) // it is made anew
		}
		if found.end > found.good {
			return true, clearFile(files, dir, name, found.good, found.end)
		}
	}
	return false, nil
}

// readBatches reads as far as it goes.
func readBatches(b []byte) batches {
	f := batches{end: len(bytes.TrimRight(b, "\x00"))}
	start, off := 0, segmentHeader
	var entries uint64
	for off+frameHeader <= len(b) && [3]byte(b[off+1:off+4]) == [3]byte{} {
		value := binary.LittleEndian.Uint32(b[off+4:])
		switch b[off] {
		case frameCommit:
			if sum(b[start:off]) != value {
				f.stop, f.commit = off, true
				return f
			}
			off += frameHeader
			start, f.good, f.entries = off, off, entries
			continue
		case frameEntry:
			entries++
		case frameIndex:
		default:
			f.stop = off
			return f
		}
		if value > mostFrame {
			break
		}
		off += frameHeader + (int(value)+frameHeader-1)/frameHeader*frameHeader
	}
	f.stop = off // or behind the end: of a frame that goes on there
	return f
}

func sum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// checkTail tells what is left of a write that was cut off, which nobody was
// told of, from what was damaged later.
func checkTail(b []byte, f batches, size int64) error {
	f.end = max(f.end, f.good) // the last checksum may end in a 0
	rest := b[f.good:f.end:f.end]
	switch {
	case int64(len(b)) < size && f.good > 0:
		return errors.New("its end is missing")
	case f.end <= f.good:
		return nil // zeros
	case f.commit && f.end > f.stop+frameHeader, later(b, f):
		return fmt.Errorf("the write at byte %d is damaged, and there is another one behind it", f.good)
	case !f.commit && f.stop >= f.end && !endsInCommit(b, f.end):
		return nil // its beginning is there, as far as it goes
	case !lacksSector(rest, f.good):
		return fmt.Errorf("the write at byte %d is there and damaged", f.good)
	}
	return nil
}

// endsInCommit tells whether the last frame is a commit. Frames do not lie
// across sectors.
func endsInCommit(b []byte, end int) bool {
	off := (end - 1) / frameHeader * frameHeader
	return isCommit(b[off:])
}

func isCommit(frame []byte) bool {
	return len(frame) >= frameHeader && [4]byte(frame) == [4]byte{frameCommit}
}

// later tells whether there is a sound batch behind one that is not.
func later(b []byte, f batches) bool {
	start := f.stop + frameHeader // if only the commit is damaged
	for off := f.good; off+frameHeader <= f.end; off += frameHeader {
		if !isCommit(b[off:]) {
			continue
		}
		if off > start && sum(b[start:off]) == binary.LittleEndian.Uint32(b[off+4:]) {
			return true
		}
		start = off + frameHeader
	}
	return false
}

// lacksSector tells whether a whole sector of rest, which begins at offset off
// of the file, was not written: of the first one, what belongs to rest. A disk
// may write sectors in any order.
func lacksSector(rest []byte, off int) bool {
	first := min((sectorSize-off%sectorSize)%sectorSize, len(rest))
	if first > 0 && len(bytes.TrimLeft(rest[:first], "\x00")) == 0 {
		return true
	}
	for at := (off + sectorSize - 1) / sectorSize * sectorSize; at+sectorSize <= off+len(rest); at += sectorSize {
		if len(bytes.TrimLeft(rest[at-off:at-off+sectorSize], "\x00")) == 0 {
			return true
		}
	}
	return false
}

func readFile(files types.VFS, dir, name string) ([]byte, error) {
	f, err := files.OpenReader(dir, name)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.NewSectionReader(f, 0, math.MaxInt64))
	return b, errors.Join(err, f.Close())
}

// clearFile makes zeros of part of a file.
func clearFile(files types.VFS, dir, name string, from, to int) error {
	f, err := files.OpenWriter(dir, name)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(make([]byte, to-from), int64(from))
	return errors.Join(err, f.Sync(), f.Close())
}
