package acp_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/workspace/acp"
)

// runNode is one life of a node: it reads the journal from the first record,
// logs what lies above the cursor, and dies at some moment.
func runNode(t *testing.T, rng *rand.Rand, records []acp.Record, log *cursorLog) {
	t.Helper()
	die := rng.IntN(len(records)) + 1
	lives := rng.IntN(6) + 1
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	b := acp.NewBatcher(log.cursor, func(_ context.Context, batch acp.Batch) error {
		if batch.From != log.cursor || batch.Upto <= batch.From {
			t.Errorf("batch (%d, %d] at cursor %d", batch.From, batch.Upto, log.cursor)
		}
		log.cursor = batch.Upto
		log.items = append(log.items, batch.Items...)
		if lives--; lives == 0 {
			return errors.New("died after the log had it")
		}
		return nil
	})
	done := make(chan error, 1)
	c := acp.NewConversation(acp.ConversationConfig{Workspace: 3, Agent: "Fake"})
	started := false
	for i, r := range records {
		items, err := c.Feed(r)
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Add(ctx, r.Seq, items); err != nil {
			break
		}
		if i == die || i == len(records)-1 {
			if !started {
				started = true
				go func() { done <- b.Run(ctx) }()
			}
			_ = b.Flushed(ctx, r.Seq)
		}
	}
	cancel()
	<-done
}

type flushed struct {
	at    time.Duration
	batch acp.Batch
}

// pace runs fn with a batcher and returns what it flushed and when.
func pace(t *testing.T, cursor uint64, fn func(add func(seq uint64, items ...chat.Item))) []flushed {
	t.Helper()
	var got []flushed
	began := time.Now()
	ctx, cancel := context.WithCancel(t.Context())
	b := acp.NewBatcher(cursor, func(_ context.Context, batch acp.Batch) error {
		got = append(got, flushed{time.Since(began), batch})
		return nil
	})
	done := make(chan struct{})
	go func() { defer close(done); _ = b.Run(ctx) }()
	fn(func(seq uint64, items ...chat.Item) {
		if err := b.Add(ctx, seq, items); err != nil {
			t.Errorf("Add = %v", err)
		}
	})
	time.Sleep(time.Second)
	cancel()
	<-done
	next := cursor
	for _, f := range got {
		if f.batch.From != next {
			t.Errorf("a batch begins at %d, want %d", f.batch.From, next)
		}
		next = f.batch.Upto
	}
	return got
}

func words(id string, offset int, text string) chat.Item {
	return chat.Item{ID: id, Kind: chat.KindAgent, Offset: int64(offset), Text: text}
}

func TestBatcherPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		got := pace(t, 10, func(add func(uint64, ...chat.Item)) {
			time.Sleep(time.Second)
			for i := range 20 { // a word every 10 ms
				add(uint64(11+i), words("a", 5*i, "word "))
				time.Sleep(10 * time.Millisecond)
			}
		})
		if len(got) != 4 || got[0].at != time.Second || got[1].at != time.Second+75*time.Millisecond {
			t.Fatalf("flushes: %+v", got)
		}
		if it := got[1].batch.Items; len(it) != 1 || it[0].Offset != 5 || it[0].Text != strings.Repeat("word ", 7) {
			t.Errorf("second batch: %+v", it)
		}
		if last := got[3].batch.Upto; last != 30 {
			t.Errorf("the last batch ends at %d", last)
		}
	})
}

func TestBatcherDoesNotWaitWithMuch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		got := pace(t, 0, func(add func(uint64, ...chat.Item)) {
			add(1, words("a", 0, "x"))
			synctest.Wait()
			add(2, words("a", 1, strings.Repeat("y", 5000)))
		})
		if len(got) != 2 || got[1].at != 0 {
			t.Errorf("flushes: %+v", got)
		}
	})
}

func TestBatcherIsLazyWithToolOutput(t *testing.T) {
	for _, c := range []struct {
		name    string
		output  int
		flushes int
		second  time.Duration
	}{
		{"short output", 4000, 6, 100 * time.Millisecond},
		{"long output, sent whole each time", 64 << 10, 3, 300 * time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				got := pace(t, 0, func(add func(uint64, ...chat.Item)) {
					add(1, chat.Item{ID: "t", Kind: chat.KindTool, Tool: &chat.Tool{Title: "make", Status: "in_progress"}})
					synctest.Wait()
					for i := range 98 { // to between two flushes
						add(uint64(2+i), chat.Item{ID: "t", Kind: chat.KindTool, Tool: &chat.Tool{Output: strings.Repeat("o", c.output)}})
						time.Sleep(5 * time.Millisecond)
					}
					add(102, chat.Item{ID: "t", Kind: chat.KindTool, Tool: &chat.Tool{Status: "completed"}})
				})
				if len(got) != c.flushes || got[1].at != c.second {
					t.Fatalf("%d flushes, the second at %v; want %d, %v", len(got), got[1].at, c.flushes, c.second)
				}
				last := got[len(got)-1].batch
				if tool := last.Items[0].Tool; len(last.Items) != 1 || tool.Status != "completed" || tool.Output == "" {
					t.Errorf("last batch: %+v", last)
				}
			})
		})
	}
}

func TestBatcherSplitsAndMerges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		got := pace(t, 0, func(add func(uint64, ...chat.Item)) {
			for i := range 20 { // 1.2 MB of different items
				add(uint64(1+i), chat.Item{ID: fmt.Sprint(i), Kind: chat.KindTool, Tool: &chat.Tool{Output: strings.Repeat("o", 60000)}})
			}
			add(21) // records without items
			add(22)
		})
		if last := got[len(got)-1].batch.Upto; last != 22 {
			t.Errorf("the last batch ends at %d, want 22", last)
		}
		for _, f := range got {
			b, err := json.Marshal(f.batch.Items)
			if err != nil || len(b) > 256<<10 {
				t.Errorf("a batch of %d bytes, %v", len(b), err)
			}
		}
	})
	synctest.Test(t, func(t *testing.T) {
		ask := chat.Item{ID: "q", Kind: chat.KindAsk, Ask: &chat.Ask{ID: "q"}}
		closed := chat.Item{ID: "q", Kind: chat.KindAsk, Ask: &chat.Ask{ID: "q", Closed: "x"}, Closed: true}
		end := chat.Item{ID: "e", TurnEnd: &chat.TurnEnd{Turn: "t"}}
		got := pace(t, 0, func(add func(uint64, ...chat.Item)) {
			add(1, words("a", 0, "x"))
			synctest.Wait()
			add(2, words("a", 1, "y"), ask)
			add(3, closed, words("a", 2, "z"))
			add(4, end, words("a", 3, "!"))
		})
		if items := got[1].batch.Items; len(items) != 5 || items[0].Text != "yz" || items[3].TurnEnd == nil || items[4].Text != "!" {
			t.Errorf("items: %+v", items)
		}
	})
}

func TestBatcherHoldsTheReaderBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		b := acp.NewBatcher(0, func(context.Context, acp.Batch) error { <-gate; return nil })
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); _ = b.Run(ctx) }()
		added := 0
		fed := make(chan struct{})
		go func() {
			defer close(fed)
			for i := range 200 {
				if b.Add(ctx, uint64(i+1), []chat.Item{words(fmt.Sprint(i), 0, strings.Repeat("x", 60000))}) != nil {
					return
				}
				added++
			}
		}()
		synctest.Wait()
		if added == 200 || added < 50 {
			t.Errorf("%d records wait in memory", added)
		}
		close(gate)
		<-fed
		if err := b.Flushed(ctx, 200); err != nil || added != 200 {
			t.Errorf("Flushed = %v after %d", err, added)
		}
		cancel()
		<-done
	})
}

func TestBatcherEndsWithItsLog(t *testing.T) {
	stale := errors.New("stale")
	b := acp.NewBatcher(0, func(context.Context, acp.Batch) error { return stale })
	if err := b.Add(t.Context(), 1, []chat.Item{words("a", 0, "x")}); err != nil {
		t.Fatal(err)
	}
	if err := b.Run(t.Context()); !errors.Is(err, stale) {
		t.Errorf("Run = %v", err)
	}
	if err := b.Add(t.Context(), 2, nil); !errors.Is(err, stale) {
		t.Errorf("Add = %v", err)
	}
}

func BenchmarkFeed(b *testing.B) {
	records := everything()
	b.ReportAllocs()
	for b.Loop() {
		c := acp.NewConversation(acp.ConversationConfig{})
		for _, r := range records {
			if _, err := c.Feed(r); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(b.N*len(records))/b.Elapsed().Seconds(), "records/s")
}
