package workspace

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/samnode/samnode/workspace/shim"
)

// castText is what a recording shows, and how large it is in the end.
func castText(t *testing.T, file string) (text, size string) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	if !lines.Scan() {
		t.Fatal("an empty recording")
	}
	var head struct{ Version, Width, Height int }
	if err := json.Unmarshal(lines.Bytes(), &head); err != nil || head.Version != 2 {
		t.Fatalf("the head is %q: %v", lines.Text(), err)
	}
	size = fmt.Sprintf("%dx%d", head.Width, head.Height)
	last := 0.0
	for lines.Scan() {
		var e []any
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil || len(e) != 3 || e[0].(float64) < last {
			t.Fatalf("the event %q: %v", lines.Text(), err)
		}
		last = e[0].(float64)
		switch e[1] {
		case "o":
			text += e[2].(string)
		case "r":
			size = e[2].(string)
		}
	}
	return text, size
}

func TestRecorder(t *testing.T) {
	t.Parallel()
	began := time.Date(2026, 11, 1, 9, 0, 0, 0, time.UTC)
	dir := filepath.Join(t.TempDir(), "tapes")
	event := func(kind string, after time.Duration, data string) shim.CastEvent {
		return shim.CastEvent{Shell: "../t1", Started: began, At: began.Add(after), Kind: kind, Data: []byte(data), Rows: 24, Cols: 80, Name: "t1", Maker: "ana@x"}
	}
	play := func(events ...shim.CastEvent) {
		t.Helper()
		r := &recorder{dir: dir, open: map[string]*tape{}}
		for _, e := range events {
			if err := r.take(e); err != nil {
				t.Fatal(err)
			}
		}
		if err := r.close(); err != nil {
			t.Fatal(err)
		}
	}
	resize := event(shim.CastResize, 3*time.Second, "")
	resize.Cols, resize.Rows = 100, 30
	play(event(shim.CastBegin, 0, ""), event(shim.CastOutput, time.Second, "gr\xc3"), event(shim.CastOutput, 2*time.Second, "\xbcn \xff\x1b[0m"), resize)
	play(event(shim.CastBegin, 4*time.Second, ""), event(shim.CastOutput, 5*time.Second, " again"), event(shim.CastEnd, 6*time.Second, "")) // the node restarted
	list, err := tapesIn(dir)
	if err != nil || len(list) != 1 || list[0].Name != "_t1-20261101T090000Z.cast" {
		t.Fatalf("recordings %+v, %v", list, err)
	}
	if text, size := castText(t, filepath.Join(dir, list[0].Name)); text != "grün \uFFFD\x1b[0m again" || size != "100x30" {
		t.Errorf("it shows %q at %s", text, size)
	}

	big := event(shim.CastOutput, time.Second, strings.Repeat("x", 1<<20))
	big.Shell = "big"
	first := big
	first.Kind = shim.CastBegin
	events := []shim.CastEvent{first}
	for range 40 {
		events = append(events, big)
	}
	play(events...)
	info, err := os.Stat(filepath.Join(dir, "big-20261101T090000Z.cast"))
	if err != nil || info.Size() > maxTape+2<<20 {
		t.Errorf("a long recording has %d bytes, %v", info.Size(), err)
	}
	for i := range 9 {
		if err := os.Truncate(filepath.Join(dir, "big-20261101T090000Z.cast"), maxTape); err != nil {
			t.Fatal(err)
		}
		name := filepath.Join(dir, fmt.Sprintf("old%d-20261101T090000Z.cast", i))
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(name, maxTape); err != nil { // takes no room
			t.Fatal(err)
		}
		if err := os.Chtimes(name, began, began.Add(time.Duration(i)*time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	late := event(shim.CastBegin, 12*time.Hour, "")
	late.Shell = "late"
	play(late)
	var sum int64
	list, err = tapesIn(dir)
	for _, tp := range list {
		sum += tp.Size
	}
	if _, gone := os.Stat(filepath.Join(dir, "old0-20261101T090000Z.cast")); err != nil || sum > maxTapes || gone == nil {
		t.Errorf("%d bytes in %+v, %v", sum, list, err)
	}
}
