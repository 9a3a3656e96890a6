package main

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/chat/chattest"
	"github.com/samnode/samnode/provision"
)

// manyWait is a core node, without the rest of it, with tasks that wait.
func manyWait(t testing.TB, count int) (*node, *chattest.Kit, []chat.TaskID) {
	kit := chattest.NewKit()
	kit.Project(t, "app")
	var ids []chat.TaskID
	for range count {
		ids = append(ids, kit.NewTask(t, "app", "hello").ID)
	}
	return &node{host: host{c: Config{LeaseFor: time.Minute}}, room: kit.Room, pool: provision.NewState()}, kit, ids
}

// TestWhyATaskWaits: of many it is said for all at once, and what has just come
// is among them.
func TestWhyATaskWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, kit, ids := manyWait(t, 3)
		for _, id := range ids {
			if why := n.why(id); why == "" {
				t.Errorf("nobody says why %s waits", id)
			}
		}
		made := n.decided.made
		time.Sleep(decisionsFor / 2)
		if n.why(ids[0]); n.decided.made != made {
			t.Error("what was said a moment ago is worked out again")
		}
		late := kit.NewTask(t, "app", "late").ID
		if why := n.why(late); why == "" || n.decided.made == made {
			t.Errorf("of a task that has just come is said %q", why)
		}
		made = n.decided.made
		if _, waits := n.explain(late); !waits || n.decided.made != made {
			t.Error("a task that is asked about is not one that waits")
		}
		time.Sleep(decisionsFor / 2)
		if n.explain(late); n.decided.made == made {
			t.Error("an explanation is of some time ago")
		}
		made = n.decided.made
		time.Sleep(decisionsFor + 1)
		if n.why(ids[0]); n.decided.made == made {
			t.Error("what is said of a task never changes")
		}
		kit.Must(t, chattest.Ana, chat.Op{Stop: &chat.Stop{Task: ids[1]}})
		if why := n.why(ids[1]); why != "" {
			t.Errorf("a task that was stopped waits: %s", why)
		}
	})
}

// BenchmarkWhyATaskWaits is what a POST of a task pays for being told why it
// waits, behind thousands.
func BenchmarkWhyATaskWaits(b *testing.B) {
	n, _, ids := manyWait(b, 6000)
	for b.Loop() {
		n.decision(ids[0], true)
	}
}
