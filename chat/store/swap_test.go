package store

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/samnode/samnode/chat"
)

// filled is a machine over a store with n projects.
func filled(t *testing.T, path string, n int) *Machine {
	t.Helper()
	s, err := Open(t.Context(), Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	state, applied, err := s.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	m := NewMachine(s, state, applied, nil)
	for i := m.Applied() + 1; i <= uint64(n); i++ {
		name := "p" + time.Unix(int64(i), 0).UTC().Format("150405")
		data, err := chat.Encode(chat.Command{ID: name, Author: chat.Author{Person: "ana"}, Op: chat.Op{ProjectPut: &chat.ProjectPut{Project: chat.Project{ID: chat.ProjectID(name), Name: name, Repo: "/r"}}}})
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Apply([]Entry{{Index: i, At: time.Unix(int64(i), 0), Data: data}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	return m
}

// TestCrashInASwap stops a swap after each of its steps, as a crash would, and
// opens what lies there.
func TestCrashInASwap(t *testing.T) {
	const older, newer = 20, 70
	for steps := range 7 {
		dir := t.TempDir()
		fresh := filled(t, filepath.Join(dir, "new.db"), newer)
		if err := fresh.store.Close(); err != nil {
			t.Fatal(err)
		}
		m := filled(t, filepath.Join(dir, "chat.db"), older)
		if err := os.Rename(filepath.Join(dir, "new.db"), m.store.path+restoreMark); err != nil {
			t.Fatal(err)
		}
		all := m.store.swapSteps(m.store.path + restoreMark)
		if len(all) != 6 {
			t.Fatalf("a swap has %d steps; walk them all here", len(all))
		}
		for _, step := range all[:steps] {
			if err := step(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		crashed := filepath.Join(t.TempDir(), "crashed")
		if err := os.CopyFS(crashed, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		want := older
		if steps >= 4 {
			want = newer
		}
		after := filled(t, filepath.Join(crashed, "chat.db"), 0)
		rows, err := after.state.Rows()
		if err != nil || after.Applied() != uint64(want) || len(rows) != want+(want+63)/64+1 {
			t.Errorf("after %d steps: index %d with %d rows, %v, want the store at %d", steps, after.Applied(), len(rows), err, want)
		}
		if left, err := filepath.Glob(filepath.Join(crashed, "*"+restoreMark+"*")); err != nil || len(left) > 0 {
			t.Errorf("after %d steps: %v was left behind, %v", steps, left, err)
		}
		if err := after.store.Close(); err != nil {
			t.Error(err)
		}
		if err := m.store.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestSwapThatFails: the machine is dead, what is on disk is whole.
func TestSwapThatFails(t *testing.T) {
	dir := t.TempDir()
	from := filled(t, filepath.Join(dir, "from.db"), 30)
	c, err := from.Copy()
	if err != nil {
		t.Fatal(err)
	}
	m := filled(t, filepath.Join(dir, "chat.db"), 10)
	var whole bytes.Buffer
	if _, err := c.WriteTo(&whole); err != nil {
		t.Fatal(err)
	}
	hindrance := m.store.path + "-journal" // another program's, as far as we know
	if err := os.Mkdir(hindrance, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := m.Restore(&whole); err == nil || !strings.Contains(err.Error(), "another program") {
		t.Fatalf("Restore beside another program's file = %v", err)
	}
	if err := os.Remove(hindrance); err != nil {
		t.Fatal(err)
	}
	if again := m.Apply([]Entry{{Index: 11}}); again == nil || !strings.Contains(again.Error(), "restart this node") {
		t.Errorf("Apply after a swap that failed = %v", again)
	}
	if _, err := m.store.Page(t.Context(), "T", chat.Range{}, 1); err == nil {
		t.Error("a page of a store that is shut was read")
	}
	if err := m.store.Close(); err != nil {
		t.Errorf("closing a store that is shut = %v", err)
	}
	if err := c.(io.Closer).Close(); err != nil {
		t.Error(err)
	}
	if err := from.store.Close(); err != nil {
		t.Error(err)
	}
	after := filled(t, filepath.Join(dir, "chat.db"), 0)
	if after.Applied() != 10 {
		t.Errorf("reopened at %d, want 10", after.Applied())
	}
	if err := after.store.Close(); err != nil {
		t.Error(err)
	}
}
