package store_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/chat/chattest"
	"github.com/samnode/samnode/chat/store"
)

var epoch = time.Date(2026, 11, 1, 9, 0, 0, 0, time.UTC)

// script is a log of n commands: one project, tasks, streams of items. The
// same n gives the same log.
func script(tb testing.TB, n int) []store.Entry {
	tb.Helper()
	entries, err := scriptEntries(tb.Context(), n)
	if err != nil {
		tb.Fatal(err)
	}
	return entries
}

// scripter writes a script by playing it.
type scripter struct {
	ctx context.Context
	k   *chattest.Kit
	rng *rand.Rand
	ids int
}

func (s *scripter) do(by chat.Author, op chat.Op) (uint64, error) {
	s.ids++
	index, err := s.k.Do(s.ctx, by, fmt.Sprintf("cmd-%06d", s.ids), op)
	if errors.Is(err, chat.ErrRefused) { // a full queue is part of the script
		err = nil
	}
	return index, err
}

func scriptEntries(ctx context.Context, n int) ([]store.Entry, error) {
	s := &scripter{ctx: ctx, k: chattest.NewKit(), rng: rand.New(rand.NewPCG(1, 2))}
	at := epoch
	s.k.Log.Clock = func() time.Time { at = at.Add(time.Second); return at }
	if _, err := s.do(chattest.Ana, chat.Op{ProjectPut: &chat.ProjectPut{Project: chat.Project{ID: "p", Name: "p", Repo: "/r"}}}); err != nil {
		return nil, err
	}
	var tasks []chat.TaskID
	for len(tasks) < 3 {
		id := chat.TaskID(fmt.Sprintf("task-%08d", len(tasks)))
		tasks = append(tasks, id)
		if err := s.begin(id); err != nil {
			return nil, err
		}
	}
	for len(s.k.Log.Entries()) < n {
		if err := s.stream(tasks[s.rng.IntN(len(tasks))]); err != nil {
			return nil, err
		}
	}
	var out []store.Entry
	for _, e := range s.k.Log.Entries() {
		out = append(out, store.Entry{Index: e.Index, At: e.At, Data: e.Data})
	}
	return out, nil
}

// begin makes a task that works.
func (s *scripter) begin(id chat.TaskID) error {
	_, err := s.do(chattest.Ana, chat.Op{TaskCreate: &chat.TaskCreate{ID: id, Project: "p", Message: "m0", Text: "do it"}})
	if err != nil {
		return err
	}
	token, err := s.do(chattest.Node, chat.Op{Place: &chat.Place{Task: id, Node: "node-1", Slot: "s"}})
	if err != nil {
		return err
	}
	if _, err := s.do(chattest.Node, chat.Op{StepSet: &chat.StepSet{Task: id, Token: token, Name: chat.StepAgent, State: chat.StepDone}}); err != nil {
		return err
	}
	_, err = s.do(chattest.Node, chat.Op{TurnSet: &chat.TurnSet{Task: id, Token: token, Turn: "turn-" + chat.TurnID(id), Prompt: "m0", Delivery: chat.Sent}})
	return err
}

// stream adds what an agent or a person says.
func (s *scripter) stream(id chat.TaskID) error {
	t, err := s.k.Task(string(id))
	if err != nil {
		return err
	}
	item := chat.Item{ID: fmt.Sprintf("i%d", t.Cursor/4), Kind: chat.KindTool, Source: t.Cursor + 1, Tool: &chat.Tool{Title: fmt.Sprintf("run %d", t.Cursor), Output: strings.Repeat("x", s.rng.IntN(500))}}
	if _, err = s.do(chattest.Node, chat.Op{Items: &chat.Items{Task: t.ID, Token: t.Lease.Token, Workspace: t.Workspace, From: t.Cursor, Upto: t.Cursor + 1, Items: []chat.Item{item}}}); err != nil {
		return err
	}
	if s.rng.IntN(10) == 0 {
		_, err = s.do(chattest.Ben, chat.Op{Say: &chat.Say{Task: t.ID, Message: fmt.Sprintf("s%d", t.Cursor), Text: "and also"}})
	}
	return err
}

// opened is a store with its machine and room.
type opened struct {
	*store.Store
	machine *store.Machine
	room    *chat.Room
	state   *chat.State
}

func open(tb testing.TB, path string) *opened {
	tb.Helper()
	s, err := store.Open(tb.Context(), store.Config{Path: path})
	if err != nil {
		tb.Fatal(err)
	}
	state, applied, err := s.Load(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	room := chat.NewRoom(chat.RoomConfig{State: state, History: s, Applied: applied})
	return &opened{Store: s, machine: store.NewMachine(s, state, applied, room), room: room, state: state}
}

func (o *opened) close(tb testing.TB) {
	tb.Helper()
	if err := o.Close(); err != nil {
		tb.Fatal(err)
	}
}

// apply gives the entries in batches of random size.
func (o *opened) apply(tb testing.TB, entries []store.Entry, rng *rand.Rand) {
	tb.Helper()
	for len(entries) > 0 {
		n := min(1+rng.IntN(20), len(entries))
		if err := o.machine.Apply(entries[:n]); err != nil {
			tb.Fatal(err)
		}
		entries = entries[n:]
	}
}

// dump is everything that a replica holds, to compare.
func dump(tb testing.TB, state *chat.State, history chat.History) []string {
	tb.Helper()
	rows, err := state.Rows()
	if err != nil {
		tb.Fatal(err)
	}
	var out []string
	for _, r := range rows {
		out = append(out, r.Kind+" "+r.ID+" "+string(r.Data))
		if r.Kind != "task" {
			continue
		}
		all, err := history.Page(tb.Context(), chat.TaskID(r.ID), chat.Range{From: 1}, 1<<20)
		if err != nil {
			tb.Fatal(err)
		}
		for i, m := range all {
			if m.Seq != uint64(i+1) {
				tb.Errorf("message %d of task %s has seq %d", i+1, r.ID, m.Seq)
			}
			data, err := json.Marshal(m)
			if err != nil {
				tb.Fatal(err)
			}
			out = append(out, string(data))
		}
	}
	return out
}

// replay applies entries to a state in memory.
func replay(tb testing.TB, entries []store.Entry) []string {
	tb.Helper()
	state, messages := chat.NewState(), chattest.NewMessages()
	for _, e := range entries {
		cmd, err := chat.Decode(e.Data)
		if err != nil {
			tb.Fatal(err)
		}
		if err := state.Apply(e.Index, e.At, cmd, messages); err != nil {
			tb.Fatal(err)
		}
	}
	return dump(tb, state, messages)
}

func TestStoreEqualsReplay(t *testing.T) {
	entries := script(t, 300)
	path := filepath.Join(t.TempDir(), "chat.db")
	rng := rand.New(rand.NewPCG(3, 4))
	for cut := 0; cut < len(entries); cut += 100 { // reopened twice on the way
		o := open(t, path)
		if got := o.machine.Applied(); cut > 0 && got != entries[cut-1].Index {
			t.Errorf("applied = %d, want %d", got, entries[cut-1].Index)
		}
		o.apply(t, entries[:min(cut+100, len(entries))], rng) // what it has is skipped
		o.close(t)
	}
	o := open(t, path)
	defer o.close(t)
	if diff := cmp.Diff(replay(t, entries), dump(t, o.state, o)); diff != "" {
		t.Errorf("store differs from replay (-want +got):\n%s", diff)
	}
}

func TestFailedBatchLeavesNothing(t *testing.T) {
	entries := script(t, 60)
	o := open(t, filepath.Join(t.TempDir(), "chat.db"))
	defer o.close(t)
	rng := rand.New(rand.NewPCG(7, 8))
	o.apply(t, entries[:30], rng)
	before := dump(t, o.state, o)
	broken := append(append([]store.Entry{}, entries[30:40]...), store.Entry{Index: entries[39].Index + 1, At: epoch, Data: []byte(`{"v":99}`)})
	err := o.machine.Apply(broken)
	if !errors.Is(err, chat.ErrNewer) || !strings.Contains(err.Error(), "upgrade this node") {
		t.Fatalf("Apply of a newer command = %v, want that this node must be upgraded", err)
	}
	if diff := cmp.Diff(before, dump(t, o.state, o)); diff != "" {
		t.Errorf("a failed batch left something (-before +after):\n%s", diff)
	}
	if got := o.room.Index(); got != entries[29].Index {
		t.Errorf("the room is at %d, want %d", got, entries[29].Index)
	}
	o.apply(t, entries[30:], rng)
	if diff := cmp.Diff(replay(t, entries), dump(t, o.state, o)); diff != "" {
		t.Errorf("after the failed batch (-want +got):\n%s", diff)
	}
}

func TestSnapshotManifest(t *testing.T) {
	entries := script(t, 60)
	dir := t.TempDir()
	o := open(t, filepath.Join(dir, "chat.db"))
	defer o.close(t)
	rng := rand.New(rand.NewPCG(9, 10))
	o.apply(t, entries[:40], rng)
	snap, err := o.machine.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	o.apply(t, entries[40:], rng)
	var manifest bytes.Buffer
	if _, err := snap.WriteTo(&manifest); err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf(`{"format":2,"index":%d}`, entries[39].Index); manifest.String() != want {
		t.Errorf("manifest = %s, want %s", manifest.String(), want)
	}
	if err := o.machine.Restore(bytes.NewReader(manifest.Bytes())); err != nil {
		t.Errorf("Restore of an older manifest = %v", err)
	}
	empty := open(t, filepath.Join(dir, "empty.db"))
	defer empty.close(t)
	if err := empty.machine.Restore(bytes.NewReader(manifest.Bytes())); !errors.Is(err, store.ErrBehind) {
		t.Errorf("Restore into an empty store = %v, want ErrBehind", err)
	}
}

func TestSnapshotIsDurableWithoutTheLog(t *testing.T) {
	entries := script(t, 80)
	dir := t.TempDir()
	o := open(t, filepath.Join(dir, "chat.db"))
	o.apply(t, entries, rand.New(rand.NewPCG(11, 12)))
	snap, err := o.machine.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := snap.WriteTo(new(bytes.Buffer)); err != nil {
		t.Fatal(err)
	}
	// What a power loss leaves at worst: the database without its WAL.
	data, err := os.ReadFile(filepath.Join(dir, "chat.db"))
	if err != nil {
		t.Fatal(err)
	}
	o.close(t)
	if err := os.WriteFile(filepath.Join(dir, "after.db"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	after := open(t, filepath.Join(dir, "after.db"))
	defer after.close(t)
	if got, want := after.machine.Applied(), entries[len(entries)-1].Index; got != want {
		t.Errorf("applied = %d without the WAL, want %d", got, want)
	}
}

func TestCorruptStoreIsMovedAside(t *testing.T) {
	path := filepath.Join(t.TempDir(), "chat.db")
	o := open(t, path)
	o.apply(t, script(t, 200), rand.New(rand.NewPCG(13, 14)))
	o.close(t)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := 4096; i < len(data); i++ { // the header survives, every other page does not
		data[i] ^= 0x5a
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Open(t.Context(), store.Config{Path: path}); !errors.Is(err, store.ErrCorrupt) {
		t.Fatalf("Open of a corrupt store = %v, want ErrCorrupt", err)
	}
	kept, err := os.ReadFile(path + ".corrupt")
	if err != nil || !bytes.Equal(kept, data) {
		t.Errorf("the corrupt store was not kept: %v", err)
	}
	o = open(t, path)
	defer o.close(t)
	if got := o.machine.Applied(); got != 0 {
		t.Errorf("applied of the fresh store = %d, want 0", got)
	}
}

func TestUncleanStopIsChecked(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "chat.db")
	o := open(t, path)
	o.apply(t, script(t, 300), rand.New(rand.NewPCG(15, 16)))
	snap, err := o.machine.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := snap.WriteTo(new(bytes.Buffer)); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path) // as it lies while in use: not clean
	if err != nil {
		t.Fatal(err)
	}
	o.close(t)
	crashed := filepath.Join(dir, "crashed.db")
	torn := 0
	for at := 4096; at < len(data); at += 4096 {
		if data[at] == 0x0d { // a leaf of a table
			torn = at
		}
	}
	if torn == 0 {
		t.Fatal("the store has no leaf page beyond the first")
	}
	clear(data[torn : torn+2048]) // a write that reached the disk by half
	if err := os.WriteFile(crashed, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Open(t.Context(), store.Config{Path: crashed}); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("Open after an unclean stop with a torn page = %v, want ErrCorrupt", err)
	}
}

// TestQueuedTextsComeBack: a task's row does not hold them, the messages do.
func TestQueuedTextsComeBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "chat.db")
	o := open(t, path)
	ops := []chat.Op{
		{ProjectPut: &chat.ProjectPut{Project: chat.Project{ID: "p", Name: "p", Repo: "/r"}}},
		{TaskCreate: &chat.TaskCreate{ID: "T", Project: "p", Message: "m1", Text: "first", Draft: true}},
		{TaskCreate: &chat.TaskCreate{ID: "U", Project: "p", Message: "m1", Text: "of another task", Draft: true}},
		{Say: &chat.Say{Task: "T", Message: "m2", Text: "second"}},
		{QueueEdit: &chat.QueueEdit{Task: "T", Message: "m2", Text: new("second, edited")}},
	}
	for i, op := range ops {
		data, err := chat.Encode(chat.Command{ID: fmt.Sprint("c", i), Author: chattest.Ana, Op: op})
		if err != nil {
			t.Fatal(err)
		}
		if err := o.machine.Apply([]store.Entry{{Index: uint64(i + 1), At: epoch, Data: data}}); err != nil {
			t.Fatal(err)
		}
	}
	want, _ := o.state.Task("T")
	o.close(t)
	again := open(t, path)
	defer again.close(t)
	if got, _ := again.state.Task("T"); len(got.Queue) != 2 || got.Queue[1].Text != "second, edited" || cmp.Diff(want.Queue, got.Queue) != "" {
		t.Errorf("queue after a restart (-before +after):\n%s", cmp.Diff(want.Queue, got.Queue))
	}
}
