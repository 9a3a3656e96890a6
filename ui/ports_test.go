package ui

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/samnode/samnode/chat"
)

// Streams of a task tell what listens, from one watch for all of them, which is
// tried again when it breaks and ends with the last stream.
func TestPortsStream(t *testing.T) {
	t.Parallel()
	lists, broken := make(chan []Port), make(chan struct{})
	var watching, watches atomic.Int32
	s := newSite(t, func(c *Config) {
		c.Previews = true
		c.Ports = func(context.Context, chat.TaskID) ([]Port, error) { return nil, nil }
		c.WatchPorts = func(ctx context.Context, _ chat.TaskID, seen func([]Port)) error {
			watches.Add(1)
			watching.Add(1)
			defer watching.Add(-1)
			for {
				select {
				case <-ctx.Done():
					return ctx.Err()
				case <-broken:
					return errors.New("the machine is gone")
				case list := <-lists:
					seen(list)
				}
			}
		}
	})
	task := s.working(t, "Serve it")
	server := listen(t, s)
	page := "/t/" + string(task.ID) + "/events"
	first, second := openFeed(t, server, page, ""), openFeed(t, server, page, "")
	lists <- []Port{{Number: 3000, Process: "node"}, {Number: 5173, Process: "<b>vite"}}
	for _, f := range []*feed{first, second} {
		data := f.until("port-3000").Data
		for _, want := range []string{`id="ports-count"`, "listening: 3000 node, 5173", "&lt;b&gt;vite", "/t/" + string(task.ID) + "/ports/3000/open", "samnode forward " + string(task.ID) + " 5173"} {
			if !strings.Contains(data, want) {
				t.Errorf("the stream does not have %q: %s", want, data)
			}
		}
	}
	if n := watches.Load(); n != 1 {
		t.Errorf("two streams have %d watches", n)
	}
	late := openFeed(t, server, page, "")
	late.until("port-3000") // which was told before
	if body := s.get(t, "/t/"+string(task.ID)).Body.String(); !strings.Contains(body, "listening: 3000 node") {
		t.Error("a page that is loaded now does not count the ports")
	}
	broken <- struct{}{}
	first.until("does not answer yet")
	lists <- []Port{{Number: 3000, Process: "node"}}
	first.until("port-3000")
	for _, f := range []*feed{first, second, late} {
		f.close()
	}
	for watching.Load() > 0 {
		select {
		case <-t.Context().Done():
			t.Fatal("the watch goes on without a stream")
		case lists <- nil: // somebody still listens
		case <-time.After(5 * time.Millisecond):
		}
	}
}
