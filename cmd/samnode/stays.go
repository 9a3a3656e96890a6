package main

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/workspace/sshd"
)

// stayPause is how long somebody may be away and still be on the same stay:
// editors, rsync and scripts come and go all the time.
const stayPause = 2 * time.Minute

// stays tell on a task who came into its workspace by ssh, and what they did
// when they left: two lines, however many connections it took. A node that dies
// tells the first only.
type stays struct {
	say func(task chat.TaskID, text string) // may take a while

	saying sync.WaitGroup

	mu   sync.Mutex
	open map[guest]*stay
}

// guest is somebody in a workspace.
type guest struct {
	task   chat.TaskID
	person chat.Person
	from   string // device
}

// stay is from the first connection to the last.
type stay struct {
	sum   sshd.Visit
	conns int
	end   *time.Timer // runs while there is none
}

func newStays(say func(chat.TaskID, string)) *stays {
	return &stays{say: say, open: map[guest]*stay{}}
}

// enter counts a connection, and keeps nobody waiting.
func (s *stays) enter(g guest) {
	if s.come(g) {
		s.saying.Go(func() { s.say(g.task, fmt.Sprintf("%s came into the workspace by ssh, from %s.", g.person, g.from)) })
	}
}

func (s *stays) come(g guest) (first bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.open[g]
	if t == nil {
		first = true
		t = &stay{sum: sshd.Visit{Began: time.Now()}}
		s.open[g] = t
	}
	if t.end != nil {
		t.end.Stop()
		t.end = nil
	}
	t.conns++
	return first
}

// leave ends a connection, and the stay when it was the last for a while.
func (s *stays) leave(g guest, v sshd.Visit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.open[g]
	if t == nil {
		return // the node stops
	}
	t.sum.Ended = v.Ended
	t.sum.Shells += v.Shells
	t.sum.Commands += v.Commands
	t.sum.Files += v.Files
	t.sum.Forwards += v.Forwards
	if t.conns--; t.conns == 0 {
		t.end = time.AfterFunc(stayPause, func() { s.finish(g, t) })
	}
}

// finish ends a stay, unless somebody came meanwhile.
func (s *stays) finish(g guest, t *stay) {
	s.mu.Lock()
	over := s.open[g] == t && t.conns == 0
	if over {
		delete(s.open, g)
	}
	s.mu.Unlock()
	if over {
		s.say(g.task, leftText(g, t.sum))
	}
}

// close ends every stay, for the node stops, and returns when all is said.
func (s *stays) close() {
	s.mu.Lock()
	open := s.open
	s.open = map[guest]*stay{}
	s.mu.Unlock()
	for g, t := range open {
		if t.end != nil {
			t.end.Stop()
		}
		if t.conns > 0 {
			t.sum.Ended = time.Now()
		}
		s.say(g.task, leftText(g, t.sum))
	}
	s.saying.Wait()
}

func leftText(g guest, v sshd.Visit) string {
	var did []string
	for _, part := range []struct {
		n         int
		one, many string
	}{
		{v.Shells, "1 shell", "shells"},
		{v.Commands, "1 command", "commands"},
		{v.Files, "1 session of sftp", "sessions of sftp"},
		{v.Forwards, "1 forwarded connection", "forwarded connections"},
	} {
		switch part.n {
		case 0:
		case 1:
			did = append(did, part.one)
		default:
			did = append(did, fmt.Sprintf("%d %s", part.n, part.many))
		}
	}
	what := "nothing was run"
	if len(did) > 0 {
		what = strings.Join(did, ", ")
	}
	return fmt.Sprintf("%s, by ssh from %s, left the workspace after %s: %s.", g.person, g.from, max(v.Ended.Sub(v.Began), 0).Round(time.Second), what)
}
