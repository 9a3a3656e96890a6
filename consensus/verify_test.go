package consensus

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/raft"
)

const firstSegment = "00000000000000000001-0000000000000000.wal"

// writtenSegment is a segment with batches of entries that look like any data,
// and where each of the batches ends.
func writtenSegment(t *testing.T) (b []byte, ends []int) {
	t.Helper()
	dir := t.TempDir()
	w, closeWAL := openTestWAL(t, dir)
	random := rand.NewChaCha8([32]byte{7})
	index := uint64(1)
	for _, sizes := range [][]int{{100}, {700, 1}, {2000}, {33, 44, 55, 660}, {1500}} {
		var batch []*raft.Log
		for _, size := range sizes {
			data := make([]byte, size)
			if _, err := random.Read(data); err != nil {
				t.Fatal(err)
			}
			batch = append(batch, &raft.Log{Index: index, Term: 1, Data: data})
			index++
		}
		if err := w.StoreLogs(batch); err != nil {
			t.Fatal(err)
		}
		var err error
		if b, err = os.ReadFile(filepath.Join(dir, firstSegment)); err != nil {
			t.Fatal(err)
		}
		ends = append(ends, readBatches(b).good)
	}
	closeWAL()
	return b[:ends[len(ends)-1]+1<<10], ends
}

// TestAFlippedByteIsNoticed: at whatever place, and no entry is lost silently.
func TestAFlippedByteIsNoticed(t *testing.T) {
	b, ends := writtenSegment(t)
	for at := range ends[len(ends)-1] {
		for _, flip := range []byte{1, 0x80, 0xff} {
			c := slices.Clone(b)
			c[at] ^= flip
			if err := checkTail(c, readBatches(c), int64(len(b))); err == nil {
				t.Errorf("byte %d xor %#x goes unnoticed; batches end at %v", at, flip, ends)
			}
		}
	}
	if err := checkTail(b, readBatches(b), int64(len(b))); err != nil {
		t.Errorf("the sound segment: %v", err)
	}
}

// TestAWriteThatWasCutOffIsLeftOut: the log goes on from what is before.
func TestAWriteThatWasCutOffIsLeftOut(t *testing.T) {
	b, ends := writtenSegment(t)
	last, end := ends[len(ends)-2], ends[len(ends)-1]
	for at := last; at < end; at += frameHeader { // the end is missing
		c := slices.Clone(b)
		clear(c[at:end])
		f := readBatches(c)
		if err := checkTail(c, f, int64(len(b))); err != nil || f.good != last {
			t.Errorf("written up to byte %d of %d: %v, sound up to %d, want %d", at, end, err, f.good, last)
		}
	}
	for at := (last/sectorSize + 1) * sectorSize; at+sectorSize <= end; at += sectorSize { // any sector is
		c := slices.Clone(b)
		clear(c[at : at+sectorSize])
		f := readBatches(c)
		if err := checkTail(c, f, int64(len(b))); err != nil || f.good != last {
			t.Errorf("without the sector at %d: %v, sound up to %d, want %d", at, err, f.good, last)
		}
	}
	for first := sectorSize; first < 3*sectorSize; first += frameHeader { // the first one is, of which it has any part
		for _, n := range []int{2 * sectorSize, 3*sectorSize - 8, 3*sectorSize + 8} {
			c := make([]byte, first+n+sectorSize)
			start := (first/sectorSize + 1) * sectorSize
			copy(c[start:], bytes.Repeat([]byte{frameEntry}, first+n-start))
			if err := checkTail(c, batches{good: first, stop: first, end: first + n}, 0); err != nil {
				t.Errorf("%d bytes at byte %d without their first sector: %v", n, first, err)
			}
		}
	}
	for at := ends[0]; at < end; at++ { // the file is cut short
		if err := checkTail(b[:at], readBatches(b[:at]), int64(len(b))); err == nil {
			t.Errorf("cut short to %d bytes goes unnoticed", at)
		}
	}
}

// TestASoundSegmentMayEndInZeros: the last bytes are a checksum.
func TestASoundSegmentMayEndInZeros(t *testing.T) {
	b, ends := writtenSegment(t)
	end, random := ends[len(ends)-1], rand.NewChaCha8([32]byte{8})
	found := 0
	for range 2000 {
		data, start := b[ends[3]+frameHeader:end-frameHeader], ends[3]
		if _, err := random.Read(data[:8]); err != nil {
			t.Fatal(err)
		}
		binary.LittleEndian.PutUint32(b[end-4:], sum(b[start:end-frameHeader]))
		f := readBatches(b)
		if f.end < end {
			found++
		}
		if err := checkTail(b, f, int64(len(b))); err != nil || f.good != end {
			t.Fatalf("checksum %x: %v, sound up to %d, want %d", b[end-4:end], err, f.good, end)
		}
	}
	if found == 0 {
		t.Error("no checksum ended in a 0")
	}
}

// TestTheLastSegmentIsDamaged is what a node does about it, and a person.
func TestTheLastSegmentIsDamaged(t *testing.T) {
	for name, tc := range map[string]struct {
		damage func(b []byte, end int) []byte
		stops  bool
		lost   int // entries that nobody was told of, when it goes on
	}{
		"a write was cut off": {lost: 1, damage: func(b []byte, end int) []byte { clear(b[end-40 : end]); return b }},
		"a flipped byte":      {stops: true, damage: func(b []byte, end int) []byte { b[end-700] ^= 1; return b }},
		"cut short":           {stops: true, damage: func(b []byte, end int) []byte { return b[:end-100] }},
	} {
		t.Run(name, func(t *testing.T) {
			m, d := new(recorder), new(disk)
			c := testConfig(t, m)
			c.Machines["d"] = &copier{keeper{disk: d}, new(copyWatch)}
			l := open(t, c)
			for range 5 {
				say(t, l, strings.Repeat("entry ", 100))
			}
			snapshot(t, l)
			for range 5 {
				say(t, l, strings.Repeat("entry ", 100))
			}
			closeLog(t, l)
			path := filepath.Join(c.Dir, "wal", firstSegment)
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, tc.damage(b, readBatches(b).end), 0o600); err != nil {
				t.Fatal(err)
			}
			before := m.all()

			m = new(recorder)
			c.Machines["m"] = m
			l, err = Open(t.Context(), c)
			if !tc.stops {
				if err != nil {
					t.Fatal(err)
				}
				say(t, l, "on")
				if diff := cmp.Diff(before[:10-tc.lost], m.all()[:10-tc.lost]); diff != "" {
					t.Errorf("entries (-before +after):\n%s", diff)
				}
				closeLog(t, l)
				return
			}
			if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "join the node again") {
				t.Fatalf("Open() = %v, want ErrDamaged with what to do", err)
			}
			m = new(recorder)
			c.Machines["m"] = m
			lost, err := Recover(t.Context(), c)
			if err != nil || len(lost.Aside) != 1 {
				t.Fatalf("Recover() = %+v, %v; want the log put aside", lost, err)
			}
			m = new(recorder)
			c.Machines["m"] = m
			l = open(t, c)
			say(t, l, "on")
			if diff := cmp.Diff(before[:5], m.all()[:5]); diff != "" || len(m.all()) != 6 {
				t.Errorf("entries of the snapshot (-before +after):\n%s", diff)
			}
		})
	}
}
