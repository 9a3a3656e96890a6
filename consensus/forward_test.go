package consensus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestForwardingAcrossFailovers has clients at every node propose while leaders
// are cut off and stopped, and try again what may not be there. Every command
// must have been applied, by its id once, and acknowledged entries be where
// they were said to be.
func TestForwardingAcrossFailovers(t *testing.T) {
	for _, names := range [][]string{five[:3], five} {
		t.Run(fmt.Sprint(len(names)), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { testFailovers(t, names) })
		})
	}
}

func testFailovers(t *testing.T, names []string) {
	c := newClusterOf(t, names, nil)
	var mu sync.Mutex
	acked := make(map[string]uint64)
	var unknown, clients int
	stop := make(chan struct{})
	var running sync.WaitGroup
	for _, name := range names {
		for i := range 2 {
			clients++
			running.Go(func() {
				for n := 0; ; n++ {
					select {
					case <-stop:
						return
					case <-time.After(40 * time.Millisecond):
					}
					id := fmt.Sprintf("%s-%d-%d", name, i, n)
					index, tries := c.insist(t, name, id)
					mu.Lock()
					acked[id] = index
					unknown += tries
					mu.Unlock()
				}
			})
		}
	}
	for range 2 {
		time.Sleep(time.Second)
		leader := c.leader(t, names...)
		c.net.cut(leader, true)
		rest := slices.DeleteFunc(slices.Clone(names), func(n string) bool { return n == leader })
		c.leader(t, rest...)
		time.Sleep(500 * time.Millisecond)
		c.net.cut(leader, false)
	}
	close(stop)
	running.Wait()
	leader := c.leader(t, names...)
	say(t, c.logs[leader], "last")

	seen := make(map[string]uint64)
	for _, e := range c.agree(t, slices.Concat([]string{leader}, names)...) {
		if seen[string(e.Data)] == 0 { // a machine forgets the second one
			seen[string(e.Data)] = e.Index
		}
	}
	for id, index := range acked {
		if first := seen[id]; first == 0 || first > index {
			t.Errorf("%s was acknowledged at %d and is at %d first", id, index, first)
		}
	}
	if unknown == 0 || len(acked) < clients*15 {
		t.Errorf("%d acknowledged, %d unknown: the race did not happen", len(acked), unknown)
	}
}

// insist proposes a command at a node until it is acknowledged, and returns how
// often its outcome was unknown. What was acknowledged must be applied there.
func (c *cluster) insist(t *testing.T, node, id string) (index uint64, unknown int) {
	for {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		index, err := c.logs[node].Propose(ctx, Part{Machine: "m", Data: []byte(id)})
		cancel()
		switch {
		case err == nil:
			if got := c.logs[node].fsm.waits.applied(); got < index {
				t.Errorf("%s acknowledged entry %d and has applied %d", node, index, got)
			}
			return index, unknown
		case errors.Is(err, ErrUnknownOutcome):
			unknown++
		case !errors.Is(err, ErrNoLeader):
			t.Errorf("Propose() at %s = %v", node, err)
		}
	}
}

// TestNoLeaderMeansNothingWritten: such a command is never applied.
func TestNoLeaderMeansNothingWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, nil)
		say(t, c.logs["c"], "one")
		for _, name := range nodes {
			c.net.cut(name, true)
		}
		time.Sleep(5 * time.Second)
		var running sync.WaitGroup
		for _, name := range nodes {
			running.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				_, err := c.logs[name].Propose(ctx, Part{Machine: "m", Data: []byte("never")})
				if !errors.Is(err, ErrNoLeader) || errors.Is(err, ErrUnknownOutcome) {
					t.Errorf("Propose() at %s = %v, want ErrNoLeader", name, err)
				}
			})
		}
		running.Wait()
		for _, name := range nodes {
			c.net.cut(name, false)
		}
		say(t, c.logs["b"], "two")
		for _, e := range c.agree(t, "b", "a", "c") {
			if string(e.Data) == "never" {
				t.Error("what nobody wrote is in the log")
			}
		}
	})
}

// TestTheLeadersErrorsArriveAsTheyAre: a forwarded proposal fails as a local one.
func TestTheLeadersErrorsArriveAsTheyAre(t *testing.T) {
	for name, err := range map[string]error{
		"too large":            fmt.Errorf("doing: %w: 7 bytes", ErrTooLarge),
		"full, outcome known":  fmt.Errorf("doing: %w", ErrFull),
		"full, unknown":        fmt.Errorf("doing: %w: %w", ErrUnknownOutcome, ErrFull),
		"leadership lost":      fmt.Errorf("%w: %w", ErrUnknownOutcome, ErrLeadershipLost),
		"closed":               ErrClosed,
		"no leader":            ErrNoLeader,
		"last voter":           ErrLastVoter,
		"somebody else's":      errors.New("something else"),
		"not here":             errNotHere,
		"longer than a screen": errors.New(string(bytes.Repeat([]byte("é"), 2000))),
	} {
		got := unpackError(packError(err))
		for _, known := range wireErrors {
			if errors.Is(err, known) != errors.Is(got, known) {
				t.Errorf("%s: errors.Is(%v) = %v after the wire", name, known, errors.Is(got, known))
			}
		}
		if text := got.Error(); text != err.Error() && len(text) < 1000 {
			t.Errorf("%s: %q arrived as %q", name, err, text)
		}
	}
}

// TestAForwardedProposalIsChecked: what would stop the nodes that apply it, or
// carries a time of its own, is not written.
func TestAForwardedProposalIsChecked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, nil)
		say(t, c.logs["a"], "one")
		stamped, err := encodeEntry([]Part{{Machine: "m", Data: []byte("stamped")}})
		if err != nil {
			t.Fatal(err)
		}
		setStamp(stamped, time.Now().Add(time.Hour).UnixNano())
		unknown, err := encodeEntry([]Part{{Machine: "future"}})
		if err != nil {
			t.Fatal(err)
		}
		for name, tc := range map[string]struct {
			body []byte
			want error
		}{
			"nothing":              {nil, errCorrupt},
			"garbage":              {[]byte("garbage"), ErrNewer},
			"an unknown machine":   {unknown, ErrNewer},
			"more than an entry":   {make([]byte, MaxEntry+1), ErrTooLarge},
			"a time of the future": {stamped, nil},
		} {
			_, err := c.logs["b"].atLeader(t.Context(), callPropose, tc.body)
			if (err == nil) != (tc.want == nil) || tc.want != nil && tc.want != errCorrupt && !errors.Is(err, tc.want) {
				t.Errorf("%s: %v, want %v", name, err, tc.want)
			}
		}
		if _, err := c.logs["b"].atLeader(t.Context(), 99, nil); err == nil {
			t.Error("a call of an unknown kind succeeded")
		}
		say(t, c.logs["b"], "two")
		if got := c.agree(t, nodes...); len(got) != 3 || got[1].At.After(time.Now().Add(time.Minute)) {
			t.Errorf("the log has %v, want three entries of today", got)
		}
	})
}

// TestCloseOfAFollowerAnswersProposalsUnderWay: they get their answer, or an
// error that says that nobody knows.
func TestCloseOfAFollowerAnswersProposalsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, nil)
		say(t, c.logs["b"], "one")
		done := make(chan error, 10)
		for range cap(done) {
			go func() {
				_, err := c.logs["b"].Propose(t.Context(), Part{Machine: "m", Data: []byte("x")})
				done <- err
			}()
		}
		time.Sleep(time.Microsecond)
		c.stop(t, "b")
		for range cap(done) {
			if err := <-done; err != nil && !errors.Is(err, ErrClosed) {
				t.Errorf("Propose() = %v", err)
			}
		}
		// The leader does not answer at all.
		c.net.cut("a", true)
		go func() {
			_, err := c.logs["c"].Propose(t.Context(), Part{Machine: "m", Data: []byte("y")})
			done <- err
		}()
		time.Sleep(time.Second)
		began := time.Now()
		c.stop(t, "c")
		if err := <-done; !errors.Is(err, ErrClosed) {
			t.Errorf("Propose() = %v, want ErrClosed", err)
		}
		if took := time.Since(began); took > 2*graceTime {
			t.Errorf("Close() took %v", took)
		}
	})
}

// TestTheTransportOutlivesGarbage: what strangers, broken or slow nodes send
// ends their own connections only.
func TestTheTransportOutlivesGarbage(t *testing.T) {
	random := make([]byte, 64<<10)
	seeded := rand.NewChaCha8([32]byte{1})
	if _, err := seeded.Read(random); err != nil {
		t.Fatal(err)
	}
	random[0] = 0xff
	cases := map[string]garbage{
		"nothing at all":         {send: func(string) []byte { return nil }, ends: helloWait},
		"an old raft":            {send: func(string) []byte { return []byte{0, 1, 2, 3} }, ends: time.Second},
		"garbage":                {send: func(string) []byte { return random }, ends: time.Second},
		"http":                   {send: func(string) []byte { return []byte("GET / HTTP/1.1\r\n\r\n") }, ends: time.Second},
		"a slow greeting":        {send: func(g string) []byte { return append([]byte{helloMagic, 1, helloRaft}, g...) }, slow: time.Second, ends: helloWait + time.Second},
		"a foreign group":        {send: func(string) []byte { return append([]byte{helloMagic, 1, helloRaft}, newGroupID()...) }, ends: time.Second},
		"a newer greeting":       {send: func(g string) []byte { return append([]byte{helloMagic, 9, helloRaft}, g...) }, ends: time.Second},
		"garbage for raft":       {hello: helloRaft, send: func(string) []byte { return random }, ends: time.Minute},
		"huge for raft":          {hello: helloRaft, send: func(string) []byte { return append([]byte{0, 0x81, 0xa7}, "Entries\xdd\xff\xff\xff\xff"...) }, ends: time.Minute},
		"a huge string for raft": {hello: helloRaft, send: func(string) []byte { return append([]byte{1, 0x81, 0xa9}, "Candidate\xc6\xff\xff\xff\xff"...) }, ends: time.Minute},
		"half a request":         {hello: helloRaft, send: func(string) []byte { return []byte{0, 0x85} }, ends: time.Minute},
		"no request":             {hello: helloRaft, send: func(string) []byte { return nil }, ends: time.Minute},
		"a huge call":            {hello: helloCalls, send: func(string) []byte { return []byte{0xff, 0xff, 0xff, 0xff, 1, 2} }, ends: time.Second},
		"an empty call":          {hello: helloCalls, send: func(string) []byte { return make([]byte, 64) }, ends: time.Second},
		"half a call":            {hello: helloCalls, send: func(string) []byte { return []byte{0, 0, 1, 0, 1, 2} }, ends: time.Minute},
	}
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, nil)
		stranger := c.net.transport("stranger")
		for name, tc := range cases {
			conn, err := stranger.Dial(t.Context(), "a")
			if err != nil {
				t.Fatal(err)
			}
			tc.sendTo(t, name, conn, c.logs["a"].group.get())
			say(t, c.logs["b"], "the mesh is unharmed by "+name)
			c.agree(t, "b", "a", "c")
		}
	})
}

// garbage is what a stranger sends.
type garbage struct {
	hello byte // a greeting for this comes before it
	send  func(group string) []byte
	slow  time.Duration // between bytes
	ends  time.Duration // by when the node has ended the connection
}

func (g garbage) sendTo(t *testing.T, name string, conn net.Conn, group string) {
	t.Helper()
	if g.hello != 0 {
		if _, err := conn.Write(append([]byte{helloMagic, 1, g.hello}, group...)); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		sendSlowly(conn, g.send(group), g.slow)
	}()
	_, _ = io.Copy(io.Discard, conn) // until the node ends it
	if took := time.Since(began); took > g.ends {
		t.Errorf("%s: the connection ended after %v, want %v", name, took, g.ends)
	}
	conn.Close()
	<-sent
}

func sendSlowly(conn net.Conn, b []byte, slow time.Duration) {
	for len(b) > 0 {
		n := len(b)
		if slow > 0 {
			n = 1
			time.Sleep(slow)
		}
		if _, err := conn.Write(b[:n]); err != nil {
			return // the node ended it: that is what is waited for
		}
		b = b[n:]
	}
}

// TestConnectionsThatSayNothingDoNotPileUp: a node takes only so many.
func TestConnectionsThatSayNothingDoNotPileUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, nil)
		stranger := c.net.transport("stranger")
		for range 5 * mostGreetings {
			if _, err := stranger.Dial(t.Context(), "a"); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Second)
		s := c.logs["a"].wire.streams
		s.mu.Lock()
		open := s.greeting
		s.mu.Unlock()
		if open > mostGreetings {
			t.Errorf("%d connections are waited for", open)
		}
		say(t, c.logs["b"], "the mesh goes on")
		time.Sleep(helloWait)
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.greeting != 0 {
			t.Errorf("%d connections are still waited for", s.greeting)
		}
	})
}
