package chat

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// slow is what encoding/json makes of a command.
func slow(data []byte) (cmd Command, err error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err = dec.Decode(&cmd); err == nil && len(bytes.TrimSpace(data[dec.InputOffset():])) > 0 {
		err = errors.New("something follows")
	}
	return cmd, err
}

var awkward = []string{
	"plain", "", "two\nlines\tand a tab", `quotes " and \ and /`, "<b>&amp;</b>", "\u2028\u2029", "\x00\x1f\x7f", "日本語 🎉 é", "\xff\xfe broken", strings.Repeat("long ", 300),
}

// TestQuickReadsWhatEncodeWrites: all that is common goes the quick way.
func TestQuickReadsWhatEncodeWrites(t *testing.T) {
	for _, text := range awkward {
		for name, cmd := range map[string]Command{
			"say":   {ID: "c", Author: Author{Person: "ana@example.com"}, Op: Op{Say: &Say{Task: "T", Message: "m", Text: text}}},
			"steer": {ID: "c", Author: Author{Person: "ana@example.com"}, Op: Op{Say: &Say{Task: "T", Message: "m", Text: text, Steer: true}}},
			"items": {ID: "c", Author: Author{Node: "n"}, Op: Op{Items: &Items{Task: "T", Token: 7, Workspace: 1, From: 0, Upto: 9, Items: []Item{
				{ID: "a", Kind: KindAgent, Text: text}, {ID: "b", Kind: KindThought, Source: 3, Offset: 12, Text: text, Closed: true, Size: 1 << 40},
			}}}},
		} {
			data, err := json.Marshal(withVersion(cmd))
			if err != nil {
				t.Fatal(err)
			}
			want, err := slow(data)
			if err != nil {
				t.Fatal(err)
			}
			got, ok := quick(data)
			if !ok {
				t.Errorf("%s with %q was left to encoding/json: %s", name, text, data)
			} else if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s with %q (-slow +quick):\n%s", name, text, diff)
			}
		}
	}
}

func withVersion(cmd Command) Command { cmd.Version = Version; return cmd }

// TestQuickLeavesTheRest: what is valid in another form, and what is not valid.
func TestQuickLeavesTheRest(t *testing.T) {
	const good = `{"v":1,"id":"c","by":{"person":"a"},"op":{"say":{"task":"T","message":"m","text":"x"}}}`
	if _, ok := quick([]byte(good)); !ok {
		t.Fatal("the plain form was not taken")
	}
	for _, bad := range []string{
		"", good + " ", good + "x", good[:len(good)-1], strings.Replace(good, `"v":1`, `"v":01`, 1), strings.Replace(good, `"v":1`, `"v":99`, 1),
		strings.Replace(good, `"v":1`, `"v":1e0`, 1), strings.Replace(good, "{", " {", 1), strings.Replace(good, `"x"`, `"x\ud83d\ude00"`, 1),
		strings.Replace(good, `"x"`, `"\ud800"`, 1), strings.Replace(good, `"x"`, `"\q"`, 1), strings.Replace(good, `"x"`, `"\u12"`, 1),
		strings.Replace(good, `"x"`, "\"\x01\"", 1), strings.Replace(good, `"x"`, "\"\xff\"", 1), strings.Replace(good, `"x"`, `"x\"`, 1), strings.Replace(good, `"x"`, `"x\`, 1),
		strings.Replace(good, `"text":"x"`, `"text":"x","steer":false`, 1), strings.Replace(good, `"person":"a"`, `"person":"a","node":"n"`, 1),
		`{"v":1,"id":"c","by":{"node":"n"},"op":{"stop":{"task":"T"}}}`,
	} {
		if cmd, ok := quick([]byte(bad)); ok {
			t.Errorf("%s was taken: %+v", bad, cmd)
		}
	}
}

// FuzzQuick: what quick takes, encoding/json takes for the same.
func FuzzQuick(f *testing.F) {
	for _, text := range awkward {
		for _, op := range []Op{
			{Say: &Say{Task: "T", Message: "m", Text: text, Steer: len(text)%2 == 0}},
			{Items: &Items{Task: "T", Token: 1, Workspace: 2, From: 3, Upto: 4, Items: []Item{{ID: text, Kind: KindAgent, Offset: 1, Text: text}}}},
		} {
			data, err := json.Marshal(Command{Version: 1, ID: "c", Author: Author{Person: Person(text)}, Op: op})
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, ok := quick(data)
		if !ok {
			return
		}
		want, err := slow(data)
		if err != nil {
			t.Fatalf("quick takes %q, encoding/json says %v", data, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q (-slow +quick):\n%s", data, diff)
		}
	})
}

// BenchmarkDecode compares the two ways for a message of 1 KiB.
func BenchmarkDecode(b *testing.B) {
	data, err := Encode(Command{ID: NewID(), Author: Author{Person: "ana@example.com"}, Op: Op{Say: &Say{Task: "T", Message: NewID(), Text: strings.Repeat("some words\n", 93)}}})
	if err != nil {
		b.Fatal(err)
	}
	b.Run("way=quick", func(b *testing.B) {
		for b.Loop() {
			if _, ok := quick(data); !ok {
				b.Fatal("it was not taken")
			}
		}
	})
	b.Run("way=encoding/json", func(b *testing.B) {
		for b.Loop() {
			if _, err := slow(data); err != nil {
				b.Fatal(err)
			}
		}
	})
}
