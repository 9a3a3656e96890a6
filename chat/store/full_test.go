package store

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/samnode/samnode/chat"
)

// TestFullDisk gives the database no more pages: what was applied is read all
// the same, nothing more is applied until there is room, and then nothing is
// missing.
func TestFullDisk(t *testing.T) {
	s, err := Open(t.Context(), Config{Path: filepath.Join(t.TempDir(), "chat.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	state, applied, err := s.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	m := NewMachine(s, state, applied, nil)
	entry := func(index uint64, op chat.Op) Entry {
		data, err := chat.Encode(chat.Command{ID: "c" + time.Unix(int64(index), 0).Format("150405"), Author: chat.Author{Person: "ana"}, Op: op})
		if err != nil {
			t.Fatal(err)
		}
		return Entry{Index: index, At: time.Unix(int64(index), 0), Data: data}
	}
	if err := m.Apply([]Entry{
		entry(1, chat.Op{ProjectPut: &chat.ProjectPut{Project: chat.Project{ID: "p", Name: "p", Repo: "/r"}}}),
		entry(2, chat.Op{TaskCreate: &chat.TaskCreate{ID: "T", Project: "p", Message: "m", Text: "x"}}),
	}); err != nil {
		t.Fatal(err)
	}
	if err := s.flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	setPages := func(n int) {
		if _, err := s.write.Exec("PRAGMA max_page_count = " + strings.Repeat("9", n)); err != nil {
			t.Fatal(err)
		}
	}
	setPages(1) // never below what there is: full
	big := []Entry{
		entry(3, chat.Op{Say: &chat.Say{Task: "T", Message: "small", Text: "y"}}),
		entry(4, chat.Op{Say: &chat.Say{Task: "T", Message: "big", Text: strings.Repeat("z", 100<<10)}}),
	}
	if err := m.Apply(big); err != nil {
		t.Fatal(err)
	}
	if err := s.flush(t.Context()); err == nil || !strings.Contains(err.Error(), "full") {
		t.Fatalf("writing to a full disk = %v", err)
	}
	small := entry(5, chat.Op{Say: &chat.Say{Task: "T", Message: "later", Text: "y"}})
	if err := m.Apply([]Entry{small}); err == nil || !strings.Contains(err.Error(), "full") {
		t.Fatalf("Apply on a full disk = %v", err)
	}
	if task, _ := state.Task("T"); m.Applied() != 4 || len(task.Queue) != 3 {
		t.Errorf("after the failure: applied %d, queue %d", m.Applied(), len(task.Queue))
	}
	if _, applied := onDisk(t, s); applied != 2 {
		t.Errorf("the database is at %d, want it before the block that failed", applied)
	}
	if got, err := s.One(t.Context(), "T", "big"); err != nil || len(got.Text) != 100<<10 {
		t.Errorf("message = %d bytes, %v", len(got.Text), err)
	}
	setPages(6)
	if err := m.Apply([]Entry{small}); err != nil {
		t.Fatalf("the same batch with room = %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := Open(t.Context(), Config{Path: s.path})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	loaded, applied := onDisk(t, again)
	if task, _ := loaded.Task("T"); applied != 5 || len(task.Queue) != 4 {
		t.Errorf("after a new start: applied %d, queue %d", applied, len(task.Queue))
	}
	if got, err := again.One(t.Context(), "T", "big"); err != nil || len(got.Text) != 100<<10 {
		t.Errorf("after a new start the message = %d bytes, %v", len(got.Text), err)
	}
}

// onDisk is what the database has, without what waits for it.
func onDisk(t *testing.T, s *Store) (*chat.State, uint64) {
	t.Helper()
	state, applied, err := load(t.Context(), s.read)
	if err != nil {
		t.Fatal(err)
	}
	return state, applied
}
