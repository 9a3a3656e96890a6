package main

import (
	"cmp"
	"context"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/ui/metrics"
)

// openMetrics shows this node's figures to Prometheus.
func (n *node) openMetrics(context.Context) error {
	var states []string
	for _, s := range []chat.TaskState{
		chat.Draft, chat.Queued, chat.Placing, chat.Buying, chat.Booting, chat.Preparing, chat.Starting,
		chat.Working, chat.NeedsYou, chat.Publishing, chat.Idle, chat.Failed, chat.Stopped,
	} {
		states = append(states, string(s))
	}
	m, err := metrics.New(metrics.Config{
		Node: n.c.Node, Version: version, Core: true, Logger: n.c.Logger, States: states,
		Log: n.logFigures, Tasks: n.taskFigures, Nodes: n.nodeFigures, Store: n.storeSize, Disk: n.diskFigures, Backup: n.backupFigures,
	})
	n.metrics = m
	return err
}

func (n *node) logFigures() metrics.Log {
	s := n.log.Stats()
	out := metrics.Log{
		Role: s.Role, Leader: s.Leader != "", Quorum: s.Quorum, Term: s.Term,
		Last: s.Last, Commit: s.Commit, Applied: s.Applied, Snapshot: s.Snapshot,
	}
	if s.Role != "leader" {
		return out
	}
	for _, p := range s.Peers {
		out.Peers = append(out.Peers, metrics.Peer{Node: p.Node, Voter: p.Voter, Lag: p.Lag, Silent: p.Silent})
	}
	return out
}

func (n *node) taskFigures() map[string]int {
	counts := map[string]int{}
	for _, t := range n.room.Tasks(chat.Filter{}) {
		counts[string(t.State)]++
	}
	return counts
}

func (n *node) nodeFigures() []metrics.Node {
	pool, _ := n.pool.Pool()
	heart := n.heart.get()
	var out []metrics.Node
	for _, m := range pool.Nodes {
		x := metrics.Node{Name: m.Name, Core: m.Core, Heard: -1}
		if machine, ok := pool.Machine(m.Name); ok {
			x.Slots = machine.Slots
		}
		for _, l := range pool.Leases {
			if l.Node == m.Name {
				x.Leases++
			}
		}
		if heart != nil {
			if ago, ok := heart.HeardAgo(m.Name); ok {
				x.Heard = ago
			}
		}
		out = append(out, x)
	}
	return out
}

// storeSize is what the message store takes on disk, its write-ahead log
// included.
func (n *node) storeSize() (int64, error) {
	files, err := filepath.Glob(n.c.dir("chat/chat.db*"))
	var size int64
	for _, f := range files {
		info, e := os.Stat(f)
		if e == nil {
			size += info.Size()
		}
		err = cmp.Or(err, e)
	}
	return size, err
}

func (n *node) diskFigures() (free, size int64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(n.c.State, &st); err != nil {
		return 0, 0, err
	}
	return int64(st.Bavail) * st.Bsize, int64(st.Blocks) * st.Bsize, nil
}

func (n *node) backupFigures() metrics.Backup {
	b := n.backup.get(n)
	out := metrics.Backup{Scheduled: !b.Next.IsZero()}
	if b.Last != nil {
		out.Succeeded, out.Size = b.Last.At, b.Last.Size
	}
	if b.Failed != nil {
		out.Failed = b.Failed.At
	}
	return out
}

// observed times a proposal for the figures.
func (n *node) observed(began time.Time, err error) {
	if n.metrics != nil {
		n.metrics.ObserveAppend(time.Since(began), err)
	}
}
