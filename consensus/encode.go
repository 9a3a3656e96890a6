package consensus

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"
)

// An entry of the log, as Raft carries it:
//
//	1 byte   format
//	8 bytes  leader's time, ns since 1970 UTC, big endian; 0 until the leader appends it
//	uvarint  number of parts, then for each part
//	         uvarint length, name of the machine; uvarint length, data
//
// The time has a fixed place so that the leader can set it without decoding.
const (
	entryFormat = 1
	entryTime   = 1 // offset of the time
	entryHeader = 9

	// MaxEntry is the most bytes one entry may have, encoded. What is larger
	// is cut up by whoever proposes it.
	MaxEntry = 512 << 10

	maxParts   = 64
	maxMachine = 64 // bytes of a machine's name
)

var errCorrupt = errors.New("entry cannot be decoded")

// encodeEntry puts parts into one entry without a time.
func encodeEntry(parts []Part) ([]byte, error) {
	if len(parts) == 0 || len(parts) > maxParts {
		return nil, fmt.Errorf("an entry has 1 to %d parts, not %d", maxParts, len(parts))
	}
	size := entryHeader + binary.MaxVarintLen64
	for i, p := range parts {
		if p.Machine == "" || len(p.Machine) > maxMachine {
			return nil, fmt.Errorf("machine name %q: want 1 to %d bytes", p.Machine, maxMachine)
		}
		if slices.ContainsFunc(parts[:i], func(q Part) bool { return q.Machine == p.Machine }) {
			return nil, fmt.Errorf("two parts for machine %q in one entry", p.Machine)
		}
		size += 2*binary.MaxVarintLen32 + len(p.Machine) + len(p.Data)
	}
	b := make([]byte, entryHeader, size)
	b[0] = entryFormat
	b = binary.AppendUvarint(b, uint64(len(parts)))
	for _, p := range parts {
		b = appendBytes(b, p.Machine)
		b = appendBytes(b, p.Data)
	}
	if len(b) > MaxEntry {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, len(b), MaxEntry)
	}
	return b, nil
}

func appendBytes[T string | []byte](b []byte, v T) []byte {
	return append(binary.AppendUvarint(b, uint64(len(v))), v...)
}

// decodeEntry is the reverse. The parts share b's memory.
func decodeEntry(b []byte) (time.Time, []Part, error) {
	if len(b) == 0 {
		return time.Time{}, nil, fmt.Errorf("%w: empty", errCorrupt)
	}
	if b[0] != entryFormat {
		return time.Time{}, nil, fmt.Errorf("%w: entry format %d", ErrNewer, b[0])
	}
	if len(b) < entryHeader {
		return time.Time{}, nil, fmt.Errorf("%w: short header", errCorrupt)
	}
	at := stampTime(stampOf(b))
	n, b, err := cutUvarint(b[entryHeader:])
	if err != nil || n == 0 || n > maxParts {
		return time.Time{}, nil, fmt.Errorf("%w: number of parts", errCorrupt)
	}
	parts := make([]Part, n)
	for i := range parts {
		var name []byte
		if name, b, err = cutBytes(b); err != nil {
			return time.Time{}, nil, err
		}
		parts[i].Machine = string(name)
		if slices.ContainsFunc(parts[:i], func(q Part) bool { return q.Machine == parts[i].Machine }) {
			return time.Time{}, nil, fmt.Errorf("%w: two parts for machine %q", errCorrupt, name)
		}
		if parts[i].Data, b, err = cutBytes(b); err != nil {
			return time.Time{}, nil, err
		}
	}
	if len(b) > 0 {
		return time.Time{}, nil, fmt.Errorf("%w: %d bytes too many", errCorrupt, len(b))
	}
	return at, parts, nil
}

func cutUvarint(b []byte) (uint64, []byte, error) {
	v, n := binary.Uvarint(b)
	if n <= 0 {
		return 0, nil, fmt.Errorf("%w: bad length", errCorrupt)
	}
	return v, b[n:], nil
}

func cutBytes(b []byte) (head, tail []byte, err error) {
	n, b, err := cutUvarint(b)
	if err != nil {
		return nil, nil, err
	}
	if n > uint64(len(b)) {
		return nil, nil, fmt.Errorf("%w: cut short", errCorrupt)
	}
	return b[:n:n], b[n:], nil
}

// isEntry tells whether b has the header of an entry of this format.
func isEntry(b []byte) bool { return len(b) >= entryHeader && b[0] == entryFormat }

func stampOf(b []byte) int64 { return int64(binary.BigEndian.Uint64(b[entryTime:])) }

func setStamp(b []byte, ns int64) { binary.BigEndian.PutUint64(b[entryTime:], uint64(ns)) }

func stampTime(ns int64) time.Time { return time.Unix(0, ns).UTC() }
