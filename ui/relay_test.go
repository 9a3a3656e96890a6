package ui

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/samnode/samnode/chat"
)

// counter is a log whose entries are numbers from 1.
type counter struct {
	mu      sync.Mutex
	n       uint64
	changed chan struct{}
	fail    error
	reads   int
}

func (c *counter) add() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *counter) read(ctx context.Context, after uint64) ([]uint64, uint64, error) {
	for {
		c.mu.Lock()
		n, changed, fail := c.n, c.changed, c.fail
		c.reads++
		c.mu.Unlock()
		if fail != nil {
			return nil, 0, fail
		}
		if n > after {
			var out []uint64
			for i := after + 1; i <= n; i++ {
				out = append(out, i)
			}
			return out, n, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, 0, ctx.Err()
		}
	}
}

// Whoever joins when, and with what cursor, sees every entry after it, in
// order; and the relay ends with its last follower.
func TestARelayLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &counter{changed: make(chan struct{})}
		r := relays[string, []uint64]{base: t.Context(), open: func(string) *relay[[]uint64] {
			return &relay[[]uint64]{pace: 3 * time.Millisecond, read: log.read}
		}}
		var readers sync.WaitGroup
		for seed := range uint64(50) {
			readers.Go(func() {
				dice := rand.New(rand.NewPCG(1, seed))
				time.Sleep(time.Duration(dice.IntN(800)) * time.Millisecond)
				log.mu.Lock()
				now := log.n
				log.mu.Unlock()
				from := uint64(dice.IntN(int(now) + 20)) // a reader may come from a node that is ahead
				frame, leave := r.follow("k", from, now)
				defer leave()
				place := &reader[[]uint64]{from, frame}
				seen := from
				for seen < from+uint64(dice.IntN(400)) {
					for place.at < place.frame.upto { // the gap, which each reads itself
						got, upto, err := log.read(t.Context(), place.at)
						if err != nil {
							t.Error(err)
							return
						}
						seen, place.at = got[len(got)-1], upto
					}
					<-place.frame.next
					frames, err := place.take()
					if err != nil {
						t.Error(err)
						return
					}
					for _, f := range frames {
						if first := f.value[0]; first > seen+1 {
							t.Errorf("reader %d jumped from %d to %d", seed, seen, first)
						}
						seen = max(seen, f.value[len(f.value)-1])
					}
					time.Sleep(time.Duration(dice.IntN(30)) * time.Millisecond) // some are slow
				}
			})
		}
		stop := make(chan struct{})
		go func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(time.Millisecond):
					log.add()
				}
			}
		}()
		readers.Wait()
		close(stop)
		r.wg.Wait()
		if len(r.all) != 0 {
			t.Errorf("%d relays are left", len(r.all))
		}
	})
}

func TestManyReadersReadOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &counter{changed: make(chan struct{})}
		r := relays[string, []uint64]{base: t.Context(), open: func(string) *relay[[]uint64] { return &relay[[]uint64]{read: log.read} }}
		var places []*reader[[]uint64]
		for range 100 {
			frame, leave := r.follow("k", 0, 0)
			defer leave()
			places = append(places, &reader[[]uint64]{0, frame})
		}
		for range 10 {
			log.add()
			synctest.Wait()
			for _, p := range places {
				if frames, err := p.take(); err != nil || len(frames) != 1 {
					t.Fatalf("%d frames, %v", len(frames), err)
				}
			}
		}
		if log.reads > 21 { // two looks a change, and the first
			t.Errorf("the log was read %d times for ten changes", log.reads)
		}
	})
}

func TestARelayThatFailsBeginsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &counter{changed: make(chan struct{}), fail: errors.New("disk")}
		r := relays[string, []uint64]{base: t.Context(), open: func(string) *relay[[]uint64] { return &relay[[]uint64]{read: log.read} }}
		frame, leave := r.follow("k", 0, 0)
		place := &reader[[]uint64]{0, frame}
		synctest.Wait()
		if _, err := place.take(); err == nil {
			t.Error("a failed read is not told")
		}
		log.mu.Lock()
		log.fail = nil
		log.mu.Unlock()
		frame, again := r.follow("k", 0, 0) // while the first has not left yet
		place = &reader[[]uint64]{0, frame}
		log.add()
		synctest.Wait()
		if frames, err := place.take(); err != nil || len(frames) != 1 {
			t.Errorf("after the failure: %d frames, %v", len(frames), err)
		}
		leave()
		again()
		r.wg.Wait()
	})
}

// A browser that stops reading costs its own connection, and nobody else's.
func TestASlowReaderHoldsNobodyUp(t *testing.T) {
	s := newSite(t)
	task := s.working(t, "Fix it")
	server := httptest.NewUnstartedServer(s)
	server.Config.ConnState = func(c net.Conn, state http.ConnState) {
		if state == http.StateNew {
			_ = c.(*net.TCPConn).SetWriteBuffer(4096) // so that little is enough to fill it
		}
	}
	server.Start()
	t.Cleanup(func() { s.Close(); server.CloseClientConnections(); server.Close() })
	path := fmt.Sprintf("/t/%s/events?after=%d", task.ID, task.Index)
	stuck, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer stuck.Close()
	if err := stuck.(*net.TCPConn).SetReadBuffer(1024); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(stuck, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path)
	if line, err := bufio.NewReaderSize(stuck, 16).ReadString('\n'); err != nil || !strings.Contains(line, "200") {
		t.Fatalf("answer = %q, %v", line, err)
	}
	f := openFeed(t, server, path, "")
	for i := range 10 { // more than the kernel keeps for a reader
		id := fmt.Sprintf("b%d", i)
		s.kit.Emit(t, task.ID, chat.Item{ID: id, Kind: chat.KindTool, Tool: &chat.Tool{Title: "cat", Kind: "execute", Status: "completed", Output: strings.Repeat("x", 60_000)}})
		f.until(`id="m-` + id + `"`)
	}
}

func TestTheTableIsTheRoom(t *testing.T) {
	s := newSite(t)
	if all, _, waits := s.briefs(); len(all) != 0 || waits != 0 {
		t.Errorf("without tasks: %d, %d", len(all), waits)
	}
	one := s.working(t, "One")
	s.working(t, "Two")
	check := func(what string, n, want int) {
		t.Helper()
		all, index, waits := s.briefs()
		if len(all) != n || waits != want || index != s.kit.Index() {
			t.Errorf("%s: %d tasks, %d wait, index %d of %d", what, len(all), waits, index, s.kit.Index())
		}
		for _, b := range all {
			task := s.kit.Get(t, b.id)
			if *b != *newBrief(task) {
				t.Errorf("%s: brief %+v of %+v", what, b, task)
			}
		}
	}
	check("two at work", 2, 0)
	s.kit.Emit(t, one.ID, permission("ask-1"))
	check("one waits", 2, 1)
	before, _, _ := s.briefs()
	was := *before[0]
	s.kit.Project(t, "store") // the log goes on, no task changes
	check("a project", 2, 1)
	s.kit.Must(t, by("ana@example.com"), chat.Op{TaskEdit: &chat.TaskEdit{Task: one.ID, Archived: new(true)}})
	s.kit.NewTask(t, "store", "Three")
	check("one archived, one more", 3, 0)
	if *before[0] != was {
		t.Error("a list that a page has was changed")
	}
}
