package store

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/samnode/samnode/chat"
)

// TestFullDisk gives the database no more pages: a batch fails whole, and the
// same batch goes through once there is room.
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
	if err := m.Apply(big); err == nil || !strings.Contains(err.Error(), "full") {
		t.Fatalf("Apply on a full disk = %v", err)
	}
	if task, _ := state.Task("T"); m.Applied() != 2 || len(task.Queue) != 1 {
		t.Errorf("after the failure: applied %d, queue %d", m.Applied(), len(task.Queue))
	}
	if _, err := s.One(t.Context(), "T", "small"); err == nil {
		t.Error("a message of the failed batch is on disk")
	}
	setPages(6)
	if err := m.Apply(big); err != nil {
		t.Fatalf("the same batch with room = %v", err)
	}
	if got, err := s.One(t.Context(), "T", "big"); err != nil || len(got.Text) != 100<<10 {
		t.Errorf("message = %d bytes, %v", len(got.Text), err)
	}
}
