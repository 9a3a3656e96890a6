package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/samnode/samnode/chat"
)

// visitLog is what a log is told of visits.
type visitLog struct {
	mu     sync.Mutex
	err    error
	writes int
	visits map[string]chat.Visit
	lines  map[string]string
}

func (l *visitLog) put(_ context.Context, op chat.Visits) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.writes++
	if l.err != nil {
		return l.err
	}
	for _, v := range op.Visits {
		l.visits[v.ID] = v
	}
	if op.Line != nil {
		l.lines[op.Line.ID] = string(op.Task) + ": " + op.Line.Text
	}
	return nil
}

func (l *visitLog) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.err = err
}

// said is what there is, and how often it was written.
func (l *visitLog) said() (visits, lines []string, writes int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, v := range l.visits {
		end := "on"
		if !v.Ended.IsZero() {
			end = v.Ended.Sub(v.Began).String()
		}
		visits = append(visits, fmt.Sprintf("%s %s %s ×%d %dB %s", v.Person, v.By, v.What, v.Count, v.Bytes, end))
	}
	for _, line := range l.lines {
		lines = append(lines, line)
	}
	return visits, lines, l.writes
}

func visitsUnderTest(t *testing.T) (*visits, *visitLog, func()) {
	t.Helper()
	l := &visitLog{visits: map[string]chat.Visit{}, lines: map[string]string{}}
	v := newVisits(l.put, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); v.run(ctx) }()
	return v, l, func() { cancel(); <-done }
}

var anaAtT1 = guest{"t1", "ana", "laptop"}

func TestVisitsOfOneStay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		v, l, stop := visitsUnderTest(t)
		leave := v.enter(visit{anaAtT1, chat.VisitShell, "ana's shell"})
		time.Sleep(time.Second)
		synctest.Wait()
		if visits, lines, _ := l.said(); len(visits) != 1 || len(lines) != 1 || lines[0] != "t1: ana is in the workspace, from laptop." {
			t.Fatalf("at once: %q, %q", visits, lines)
		}
		for range 1000 { // rsync in a loop
			done := v.enter(visit{anaAtT1, chat.VisitCommand, "rsync --server"})
			time.Sleep(100 * time.Millisecond)
			done(10)
			done(10) // once counts
		}
		leave(0)
		time.Sleep(2 * stayPause)
		synctest.Wait()
		visits, lines, writes := l.said()
		want := map[string]bool{"ana shell ana's shell ×1 0B 1m41s": true, "ana command rsync --server ×1000 10000B 1m40s": true}
		if len(visits) != 2 || !want[visits[0]] || !want[visits[1]] {
			t.Errorf("visits %q", visits)
		}
		if d := cmp.Diff([]string{"t1: ana was in the workspace for 1m41s, from laptop: 1 shell, 1000 commands."}, lines); d != "" {
			t.Errorf("lines (-want +got):\n%s", d)
		}
		if writes > 30 {
			t.Errorf("%d writes for 1000 commands in 100 s", writes)
		}
		stop()
	})
}

// A storm of people and of commands that all differ stays small.
func TestVisitsInAStorm(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		v, l, stop := visitsUnderTest(t)
		for i := range 200 {
			v.enter(visit{anaAtT1, chat.VisitCommand, fmt.Sprintf("echo %d\x1b[2J\n%s", i, strings.Repeat("x", 500))})(0)
			v.enter(visit{guest{"t1", chat.Person(fmt.Sprint("p", i)), "d"}, chat.VisitForward, "port 80"})
		}
		time.Sleep(time.Second)
		synctest.Wait()
		visits, _, writes := l.said()
		if len(visits) != 200+maxKinds+1 || writes > 201 {
			t.Errorf("%d visits in %d writes", len(visits), writes)
		}
		others := false
		for _, s := range visits {
			others = others || s == "ana command and others ×180 0B 0s"
			if strings.ContainsAny(s, "\x1b\n") || len(s) > 300 {
				t.Errorf("visit %q", s)
			}
		}
		if !others {
			t.Error("the rest is not counted together")
		}
		stop()
	})
}

// What cannot be written is written later, what is refused is not tried again,
// and a node that stops ends what is open.
func TestVisitsAreNotLost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		v, l, stop := visitsUnderTest(t)
		l.fail(errors.New("no leader"))
		v.enter(visit{anaAtT1, chat.VisitPage, "t1"})(0)
		time.Sleep(time.Hour)
		l.fail(nil)
		time.Sleep(time.Minute)
		synctest.Wait()
		if visits, lines, _ := l.said(); len(visits) != 1 || len(lines) != 1 || !strings.Contains(lines[0], "was in the workspace for 0s") {
			t.Errorf("after the trouble: %q, %q", visits, lines)
		}
		l.fail(chat.Outcome{Code: chat.CodeNotFound, Text: "There is no task."}.Err())
		v.enter(visit{guest{"gone", "ana", "laptop"}, chat.VisitPage, "t1"})(0)
		time.Sleep(time.Minute)
		_, _, before := l.said()
		time.Sleep(time.Hour)
		if _, _, after := l.said(); after > before+1 {
			t.Errorf("a refused visit was tried %d more times", after-before)
		}
		l.fail(nil)
		v.enter(visit{guest{"t2", "ben", "phone"}, chat.VisitShell, "ben's shell"})
		time.Sleep(25 * time.Minute)
		synctest.Wait()
		for _, x := range l.visits {
			if x.Person == "ben" && time.Since(x.Seen) > visitSeen+visitsEvery {
				t.Errorf("the log knows of one that goes on as of %s ago", time.Since(x.Seen))
			}
		}
		stop()
		found := false
		visits, _, _ := l.said()
		for _, s := range visits {
			found = found || s == "ben shell ben's shell ×1 0B 25m0s"
		}
		if !found {
			t.Errorf("after the stop: %q", visits)
		}
	})
}
