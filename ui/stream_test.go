package ui

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/chat/chattest"
)

// event is one server-sent event.
type event struct{ Name, ID, Data string }

// feed is an open stream, read by a browser of our own.
type feed struct {
	t      *testing.T
	events chan event
	close  func()
}

// listen serves until the feeds are closed.
func listen(t *testing.T, s *site) *httptest.Server {
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	return server
}

func openFeed(t *testing.T, server *httptest.Server, path, last string) *feed {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	r, err := http.NewRequestWithContext(ctx, "GET", server.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if last != "" {
		r.Header.Set("Last-Event-ID", last)
	}
	answer, err := server.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if answer.StatusCode != 200 || answer.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("GET %s = %d %s", path, answer.StatusCode, answer.Header.Get("Content-Type"))
	}
	f := &feed{t: t, events: make(chan event, 100), close: func() { cancel(); answer.Body.Close() }}
	t.Cleanup(f.close)
	go func() {
		defer close(f.events)
		in := bufio.NewScanner(answer.Body)
		in.Buffer(nil, 1<<22)
		var e event
		for in.Scan() {
			key, value, _ := strings.Cut(in.Text(), ": ")
			switch key {
			case "event":
				e.Name = value
			case "id":
				e.ID = value
			case "data":
				e.Data += value + "\n"
			case "":
				if e.Name != "" {
					f.events <- e
				}
				e = event{}
			}
		}
	}()
	return f
}

func (f *feed) next() event {
	f.t.Helper()
	e, ok := <-f.events
	if !ok {
		f.t.Fatal("the stream ended")
	}
	return e
}

// until reads patches up to the one that holds a text.
func (f *feed) until(text string) event {
	f.t.Helper()
	for {
		if e := f.next(); strings.Contains(e.Data, text) {
			return e
		}
	}
}

func TestATaskStreamsAndResumes(t *testing.T) {
	s := newSite(t)
	task := s.working(t, "Fix it")
	server := listen(t, s)
	page := "/t/" + string(task.ID)
	f := openFeed(t, server, fmt.Sprintf("%s/events?after=%d", page, task.Index), "")
	if e := f.next(); e.Name != "hello" || strings.TrimSpace(e.Data) != "test" {
		t.Fatalf("first event = %+v", e)
	}
	at := s.kit.Emit(t, task.ID, chat.Item{ID: "a1", Kind: chat.KindAgent, Text: "Hello "}, chat.Item{ID: "a2", Kind: chat.KindThought, Text: "hm"})
	e := f.until("Hello")
	if e.Name != "patch" || e.ID != strconv.FormatUint(at.Index, 10) || !strings.Contains(e.Data, `id="m-a1"`) || !strings.Contains(e.Data, `id="m-a2"`) {
		t.Fatalf("items of one index came apart: %+v", e)
	}
	f.close()
	s.kit.Emit(t, task.ID, chat.Item{ID: "a1", Kind: chat.KindAgent, Offset: 6, Text: "world", Closed: true})
	f = openFeed(t, server, page+"/events?after=1", e.ID)
	e = f.until("Hello world")
	if strings.Contains(e.Data, `id="m-a2"`) {
		t.Error("an item came again that had not changed")
	}
	done := s.kit.Finish(t, task.ID)
	if e := f.until(`data-state="idle"`); !strings.Contains(e.Data, `id="dock"`) || e.ID != strconv.FormatUint(done.Index, 10) {
		t.Errorf("the end of the turn = %+v", e)
	}
}

func TestAStreamSendsARegionOnlyWhenItChanges(t *testing.T) {
	s := newSite(t)
	task := s.working(t, "Fix it")
	server := listen(t, s)
	f := openFeed(t, server, fmt.Sprintf("/t/%s/events?after=%d", task.ID, task.Index), "")
	s.kit.Emit(t, task.ID, chat.Item{ID: "a1", Kind: chat.KindAgent, Text: "one "})
	f.until("one")
	s.kit.Emit(t, task.ID, chat.Item{ID: "a1", Kind: chat.KindAgent, Offset: 4, Text: "two"})
	e := f.until("one two")
	for _, id := range []string{"stepper", "chips", "dock", "queue", "strip", "banner", "mode", "title"} {
		if strings.Contains(e.Data, `id="`+id+`"`) {
			t.Errorf("region %s came again", id)
		}
	}
}

func TestTheListStreamsBesideATask(t *testing.T) {
	s := newSite(t)
	task, other := s.working(t, "Fix it"), s.working(t, "Other work")
	server := listen(t, s)
	f := openFeed(t, server, fmt.Sprintf("/t/%s/events?list=1&after=%d", task.ID, other.Index), "")
	s.kit.Emit(t, other.ID, permission("ask-1"))
	if e := f.until(`id="row-` + string(other.ID) + `"`); !strings.Contains(e.Data, `data-group="needs"`) || strings.Contains(e.Data, "m-ask-1") {
		t.Errorf("the row of another task = %s", e.Data)
	}
	s.kit.Emit(t, task.ID, chat.Item{ID: "a1", Kind: chat.KindAgent, Text: "mine"})
	f.until("mine")
	s.kit.Must(t, chattest.Ana, chat.Op{TaskEdit: &chat.TaskEdit{Task: other.ID, Archived: new(true)}})
	f.until(`data-group="archived"`)
}

func TestTheListStreamsOfAProject(t *testing.T) {
	s := newSite(t)
	task := s.working(t, "Fix it")
	s.kit.Project(t, "store")
	server := listen(t, s)
	f := openFeed(t, server, fmt.Sprintf("/events?project=store&after=%d", task.Index), "")
	s.working(t, "Not in this project")
	s.kit.NewTask(t, "store", "In this one")
	for e := f.next(); ; e = f.next() {
		if strings.Contains(e.Data, "Not in this project") {
			t.Fatal("a row of another project")
		}
		if strings.Contains(e.Data, "In this one") {
			return
		}
	}
}

func TestClosingTheServerEndsStreams(t *testing.T) {
	s := newSite(t)
	task := s.working(t, "Fix it")
	server := listen(t, s)
	f := openFeed(t, server, fmt.Sprintf("/t/%s/events?after=%d", task.ID, task.Index), "")
	f.next()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for range f.events { // ends, or the test times out
	}
}

func TestACursorThatIsNoIndexIsRefused(t *testing.T) {
	s := newSite(t)
	task := s.working(t, "Fix it")
	if w := s.get(t, "/t/"+string(task.ID)+"/events?after=yesterday"); w.Code != 422 {
		t.Errorf("status = %d, want 422", w.Code)
	}
}

func BenchmarkFragment(b *testing.B) {
	s := newSite(b)
	task := s.working(b, "Fix it")
	text := strings.Repeat("Some **words** with `code` and a [link](https://a.example).\n\n", 10)
	s.kit.Emit(b, task.ID, chat.Item{ID: "a1", Kind: chat.KindAgent, Text: text})
	m, err := s.Room.Message(b.Context(), task.ID, "a1")
	if err != nil {
		b.Fatal(err)
	}
	b.Run("known text", func(b *testing.B) {
		for b.Loop() {
			if _, err := fragment(b.Context(), itemView(s.item(task, m))); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("new text", func(b *testing.B) {
		n := 0
		for b.Loop() {
			n++
			m.Text = text + strconv.Itoa(n)
			if _, err := fragment(b.Context(), itemView(s.item(task, m))); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkPageOf50(b *testing.B) {
	s := newSite(b)
	task := s.working(b, "Fix it")
	for i := range 60 {
		s.kit.Emit(b, task.ID, chat.Item{ID: fmt.Sprint("a", i), Kind: chat.KindAgent, Text: fmt.Sprintf("Message **%d** with `code`.", i), Closed: true})
	}
	n := s.get(b, "/t/"+string(task.ID)).Body.Len()
	b.ReportMetric(float64(n), "bytes/page")
	for b.Loop() {
		s.get(b, "/t/"+string(task.ID))
	}
}

// A reader that was away for long gets what it missed in parts, and then goes
// on like the others.
func TestAReaderThatWasAwayForLongCatchesUp(t *testing.T) {
	s := newSite(t)
	task := s.working(t, "Fix it")
	server := listen(t, s)
	path := fmt.Sprintf("/t/%s/events?after=%d&list=1", task.ID, task.Index)
	others := openFeed(t, server, path, "")
	for i := range 500 {
		s.kit.Emit(t, task.ID, chat.Item{ID: fmt.Sprintf("a%03d", i), Kind: chat.KindAgent, Text: "word", Closed: true})
	}
	others.until(`id="m-a499"`)
	late := openFeed(t, server, path, "")
	seen := 0
	for seen < 500 {
		e := late.next()
		n := strings.Count(e.Data, `id="m-a`)
		if n > batchItems {
			t.Errorf("one event has %d items", n)
		}
		seen += n
	}
	s.kit.Emit(t, task.ID, chat.Item{ID: "b", Kind: chat.KindAgent, Text: "now"})
	if e := late.until(`id="m-b"`); strings.Contains(e.Data, "m-a") || seen != 500 {
		t.Errorf("after %d items: %s", seen, e.Data)
	}
	others.until(`id="m-b"`)
}
