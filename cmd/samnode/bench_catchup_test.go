package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/ui/api"
)

// BenchmarkCatchUp adds core nodes to a mesh with a long history: how long a new
// one takes to have it all and how long to vote, while the first one takes
// messages, and what both need in memory. It is a history of a million messages
// of 1 KiB, or of SAMNODE_BENCH_MESSAGES.
func BenchmarkCatchUp(b *testing.B) {
	if testing.Short() {
		b.Skip("fills a log with a million messages")
	}
	total, tasks := 1_000_000, 2000
	if v, err := strconv.Atoi(os.Getenv("SAMNODE_BENCH_MESSAGES")); err == nil {
		total, tasks = v, max(1, min(tasks, v/500))
	}
	first := newNode(b)
	first.stop()
	fillLog(b, first.state, first.args[1], total, tasks)
	first.verb, first.args, first.url = "run", meshTimes(), ""
	first.start()
	m := &testMesh{t: b, state: first.state, nodes: []*testNode{first}}
	m.await("a leader", func() bool { info, ok := m.info(first); return ok && info.Leader != "" })
	// Once, and not in a loop: a third voter that is gone is no start for a second round.
	stop := make(chan struct{})
	said := make(chan int)
	go func() { said <- keepSaying(b, first, stop) }()
	began := time.Now()
	second := m.joined(b, "second")
	m.await("the new node to have it all", func() bool {
		info, ok := m.info(second)
		return ok && info.Leader != "" && info.Index > uint64(total/50) && info.Lag == 0
	})
	b.ReportMetric(time.Since(began).Seconds()*1e3, "caught-up-ms")
	third := m.joined(b, "third")
	m.await("three voters", func() bool { info, ok := m.info(third); return ok && info.Voters == 3 })
	b.ReportMetric(time.Since(began).Seconds()*1e3, "three-voters-ms")
	close(stop)
	b.ReportMetric(float64(<-said), "said-meanwhile")
	b.ReportMetric(first.resident(b), "leader-MB")
	b.ReportMetric(second.resident(b), "new-MB")
	if info, err := os.Stat(filepath.Join(second.state, "chat", "chat.db")); err == nil {
		b.ReportMetric(float64(info.Size())/1e6, "store-MB")
	}
	second.stop()
	third.stop()
	b.ReportMetric(0, "ns/op")
}

// joined is a core node that has just joined.
func (m *testMesh) joined(b *testing.B, name string) *testNode {
	b.Helper()
	bin, err := binary()
	if err != nil {
		b.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "sj")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	name += strings.ToLower(chat.NewID()[20:])
	n := &testNode{t: b, bin: bin, verb: "run", state: filepath.Join(dir, name), args: meshTimes(), log: &lockedBuffer{}}
	v := must[api.Invitation](m.nodes[0], "node", "invite", "--core")
	m.setUpNode(n, []string{"join", "--core", "--state", n.state, "--name", name, "--setup-only", v.Token})
	n.start()
	return n
}

// keepSaying writes drafts one after the other and counts them.
func keepSaying(b *testing.B, n *testNode, stop <-chan struct{}) (count int) {
	for {
		select {
		case <-stop:
			return count
		default:
		}
		body := map[string]any{"project": "app", "text": fmt.Sprintf("message %d", count), "draft": true}
		if err := newClient(n.url).call(b.Context(), "POST", "tasks", body, nil); err != nil {
			b.Errorf("writing while a node catches up: %v", err)
			return count
		}
		count++
		time.Sleep(20 * time.Millisecond)
	}
}
