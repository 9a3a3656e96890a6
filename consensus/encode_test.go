package consensus

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestEntriesComeBackAsTheyWere(t *testing.T) {
	for name, parts := range map[string][]Part{
		"one part":      {{Machine: "chat", Data: []byte("hello")}},
		"two machines":  {{Machine: "chat", Data: []byte("place")}, {Machine: "pool", Data: []byte("slot")}},
		"no data":       {{Machine: "chat"}},
		"longest name":  {{Machine: strings.Repeat("m", maxMachine), Data: []byte{0, 1, 2}}},
		"largest entry": {{Machine: "m", Data: make([]byte, MaxEntry-entryHeader-6)}},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := encodeEntry(parts)
			if err != nil {
				t.Fatal(err)
			}
			want := time.Date(2026, 9, 1, 12, 0, 0, 123, time.UTC)
			setStamp(b, want.UnixNano())
			at, got, err := decodeEntry(b)
			if err != nil {
				t.Fatal(err)
			}
			if !at.Equal(want) || at.Location() != time.UTC {
				t.Errorf("time = %v, want %v", at, want)
			}
			same := func(a, b Part) bool { return a.Machine == b.Machine && bytes.Equal(a.Data, b.Data) }
			if !slices.EqualFunc(parts, got, same) {
				t.Errorf("decodeEntry() = %.200v, want %.200v", got, parts)
			}
		})
	}
}

func TestEncodeRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		parts []Part
		want  error // nil: any
	}{
		"no parts":           {},
		"too many parts":     {parts: make([]Part, maxParts+1)},
		"no machine":         {parts: []Part{{Data: []byte("x")}}},
		"long name":          {parts: []Part{{Machine: strings.Repeat("m", maxMachine+1)}}},
		"same machine twice": {parts: []Part{{Machine: "m"}, {Machine: "m"}}},
		"too large":          {parts: []Part{{Machine: "m", Data: make([]byte, MaxEntry)}}, want: ErrTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := encodeEntry(tc.parts)
			if err == nil || tc.want != nil && !errors.Is(err, tc.want) {
				t.Errorf("encodeEntry() = %v, want an error (%v)", err, tc.want)
			}
		})
	}
}

func TestDecodeRefuses(t *testing.T) {
	head := func(rest ...byte) []byte { return append(append([]byte{entryFormat}, make([]byte, 8)...), rest...) }
	for name, tc := range map[string]struct {
		data []byte
		want error
	}{
		"nothing":            {nil, errCorrupt},
		"newer format":       {[]byte{entryFormat + 1}, ErrNewer},
		"half a header":      {[]byte{entryFormat, 0, 0}, errCorrupt},
		"no parts":           {head(0), errCorrupt},
		"too many parts":     {head(maxParts + 1), errCorrupt},
		"name cut short":     {head(1, 5, 'm'), errCorrupt},
		"data cut short":     {head(1, 1, 'm', 9, 'x'), errCorrupt},
		"bytes too many":     {head(1, 1, 'm', 1, 'x', 'y'), errCorrupt},
		"same machine twice": {head(2, 1, 'm', 0, 1, 'm', 0), errCorrupt},
		"endless length":     {head(0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff), errCorrupt},
	} {
		t.Run(name, func(t *testing.T) {
			if _, _, err := decodeEntry(tc.data); !errors.Is(err, tc.want) {
				t.Errorf("decodeEntry(%v) = %v, want %v", tc.data, err, tc.want)
			}
		})
	}
}

// FuzzDecode checks that decoding never panics, and that what it accepts it
// would have written.
func FuzzDecode(f *testing.F) {
	b, err := encodeEntry([]Part{{Machine: "chat", Data: []byte("hello")}, {Machine: "pool"}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(b[:len(b)-1])
	f.Add([]byte{2})
	f.Fuzz(func(t *testing.T, b []byte) {
		at, parts, err := decodeEntry(b)
		if err != nil {
			if !errors.Is(err, errCorrupt) && !errors.Is(err, ErrNewer) {
				t.Errorf("decodeEntry(%x) = %v, an error of no kind", b, err)
			}
			return
		}
		again, err := encodeEntry(parts)
		if err != nil {
			return // decoding is more generous: empty names
		}
		setStamp(again, at.UnixNano())
		at2, parts2, err := decodeEntry(again)
		if err != nil || !at2.Equal(at) {
			t.Fatalf("second decode: %v, %v; want %v", at2, err, at)
		}
		if diff := cmp.Diff(parts, parts2); diff != "" {
			t.Errorf("parts changed (-first +second):\n%s", diff)
		}
		if len(again) < len(b) {
			return // b spelled a length in more bytes than needed
		}
		if !bytes.Equal(again, b) {
			t.Errorf("encoded again = %x, want %x", again, b)
		}
	})
}
