package ui

import (
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/ui/api"
)

// tapes are recordings that there are.
type tapes struct{}

func (tapes) Recordings(context.Context, chat.TaskID) ([]api.Recording, error) {
	return []api.Recording{{Name: "t1-20261101T090000Z.cast", Size: 2048}}, nil
}

func (tapes) Recording(_ context.Context, _ chat.TaskID, name string) (io.ReadCloser, error) {
	if name != "t1-20261101T090000Z.cast" {
		return nil, chat.ErrNotFound
	}
	return io.NopCloser(strings.NewReader(`{"version":2}`)), nil
}

func TestAccessSaysWhoWasThere(t *testing.T) {
	s := newSite(t, func(c *Config) {
		c.Recordings = tapes{}
		c.NodeAlive = func(n chat.Node) bool { return n != "dead" }
	})
	task := s.working(t, "Fix it")
	page := "/t/" + string(task.ID) + "/access"
	if body := s.get(t, page).Body.String(); !strings.Contains(body, "Nobody was in the workspace.") {
		t.Error("an empty list says nothing")
	}
	began := time.Now().UTC().Add(-10 * time.Minute)
	for node, list := range map[chat.Node][]chat.Visit{
		"core-1": {
			{ID: "a", Person: "ana@example.com", Device: "laptop", By: chat.VisitCommand, What: "echo <b>\u202e", Began: began, Ended: began.Add(3 * time.Second), Count: 7, Bytes: 5000},
			{ID: "b", Person: "ben@example.com", Device: "phone", By: chat.VisitPage, What: "t1", Began: began},
		},
		"dead": {{ID: "c", Person: "cy@example.com", By: chat.VisitShell, Began: began, Seen: began.Add(2 * time.Hour)}},
	} {
		if _, err := s.kit.Do(t.Context(), chat.Author{Node: node}, "", chat.Op{Visits: &chat.Visits{Task: task.ID, Visits: list}}); err != nil {
			t.Fatal(err)
		}
	}
	body := s.get(t, page).Body.String()
	for _, want := range []string{
		"ana@example.com", "laptop", "command by ssh", "echo &lt;b&gt;", "7 times", "3 s", "ben@example.com", "terminal in the page", `class="live"`,
		"2 h 0 min or more", "dead does not answer", "t1-20261101T090000Z.cast", "2 KB",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if strings.Contains(body, "\u202e") || strings.Count(body, `class="live"`) != 1 {
		t.Error("hidden characters, or more than one is there now")
	}
	tape := "/t/" + string(task.ID) + "/recordings/"
	if w := s.get(t, tape+"t1-20261101T090000Z.cast"); w.Code != 200 || w.Body.String() != `{"version":2}` {
		t.Errorf("a recording = %d %s", w.Code, w.Body)
	}
	if w := s.get(t, tape+"none.cast"); w.Code != 404 {
		t.Errorf("a recording that is not there = %d", w.Code)
	}
	s.role = Viewer
	if w := s.get(t, tape+"t1-20261101T090000Z.cast"); w.Code != 403 || strings.Contains(s.get(t, page).Body.String(), ".cast") {
		t.Errorf("a viewer's recording = %d", w.Code)
	}
}
