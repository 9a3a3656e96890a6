package store_test

import (
	"errors"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/chat/chattest"
	"github.com/samnode/samnode/chat/store"
)

// TestReads: readers see the same whether what they read is in the database,
// waits for it, or is in both at different times.
func TestReads(t *testing.T) {
	entries := script(t, 200)
	for name, written := range map[string][]int{
		"nothing written": nil,
		"begun":           {20},
		"half":            {30, 110},
		"often":           {20, 40, 60, 80, 100, 120, 140, 160, 180, 199},
		"all":             {200},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := open(t, filepath.Join(t.TempDir(), "chat.db"))
			defer o.close(t)
			rng := rand.New(rand.NewPCG(5, 6))
			for _, n := range written {
				o.apply(t, entries[:n], rng)
				if err := o.Flush(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			o.apply(t, entries, rng)
			checkReads(t, o, messagesOf(t, entries), entries[len(entries)-1].Index)
		})
	}
}

// messagesOf replays entries without a store.
func messagesOf(t *testing.T, entries []store.Entry) *chattest.Messages {
	t.Helper()
	want, state := chattest.NewMessages(), chat.NewState()
	for _, e := range entries {
		cmd, err := chat.Decode(e.Data)
		if err != nil {
			t.Fatal(err)
		}
		if err := state.Apply(e.Index, e.At, cmd, want); err != nil {
			t.Fatal(err)
		}
		state.Commit()
	}
	return want
}

func checkReads(t *testing.T, o *opened, want *chattest.Messages, last uint64) {
	t.Helper()
	ctx, task := t.Context(), chat.TaskID("task-00000001")
	for _, r := range []chat.Range{{}, {Before: 5}, {Before: 1}, {From: 1}, {From: 7}, {From: 1 << 40}, {Before: 1 << 40}} {
		for _, limit := range []int{1, 3, 1000} {
			wantPage, _ := want.Page(ctx, task, r, limit)
			got, err := o.Page(ctx, task, r, limit)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(wantPage, got); diff != "" && len(wantPage)+len(got) > 0 {
				t.Errorf("Page(%+v, %d) (-want +got):\n%s", r, limit, diff)
			}
		}
	}
	for _, upto := range []uint64{last, last - 3, last / 2} {
		for after := uint64(0); after <= last; after += 7 {
			for _, limit := range []int{1, 2, 50} {
				wantBatch, wantMore, _ := want.Changed(ctx, task, after, upto, limit)
				got, more, err := o.Changed(ctx, task, after, upto, limit)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(wantBatch, got); (diff != "" && len(wantBatch)+len(got) > 0) || wantMore && !more {
					t.Errorf("Changed(%d, %d, %d) more %v, want %v (-want +got):\n%s", after, upto, limit, more, wantMore, diff)
				}
			}
		}
	}
	if _, err := o.One(ctx, task, "nothing"); !errors.Is(err, chat.ErrNotFound) {
		t.Errorf("One of an unknown id = %v, want ErrNotFound", err)
	}
	if m, err := o.One(ctx, task, "m0"); err != nil || m.Kind != chat.KindUser {
		t.Errorf("One(m0) = %+v, %v", m, err)
	}
	if page, err := o.Page(ctx, "no task", chat.Range{}, 10); err != nil || len(page) != 0 {
		t.Errorf("Page of an unknown task = %v, %v", page, err)
	}
}
