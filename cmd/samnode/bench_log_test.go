package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/samnode/samnode/chat"
)

// logNode is a node's log, store and room in this process, with no workspaces.
func logNode(b *testing.B, state, name string) *node {
	b.Helper()
	c, err := Config{State: state, Node: name, Alone: true, Listen: "127.0.0.1:0", Logger: slog.New(slog.DiscardHandler)}.withDefaults()
	if err != nil {
		b.Fatal(err)
	}
	n := &node{host: host{c: c}, caught: make(chan struct{})}
	for _, step := range []func(context.Context) error{
		func(context.Context) error { return beginDev(state, name) }, n.openState, n.openKey, n.openNetworkHere, n.openLog,
	} {
		if err := step(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	return n
}

// stream is a task that takes items, as one with a lease does.
type stream struct {
	n      *node
	id     chat.TaskID
	token  uint64
	cursor uint64
}

func (n *node) doNow(b *testing.B, op chat.Op) uint64 {
	b.Helper()
	index, err := n.room.Do(b.Context(), chat.Author{Node: chat.Node(n.c.Node)}, "", op)
	if err != nil {
		b.Fatal(err)
	}
	return index
}

// streams makes tasks of one project that take items.
func (n *node) streams(b *testing.B, count int) []*stream {
	b.Helper()
	project := chat.ProjectID(chat.NewID())
	put := chat.Op{ProjectPut: &chat.ProjectPut{Project: chat.Project{ID: project, Name: "app", Repo: "/srv/app.git"}}}
	if _, err := n.room.Do(b.Context(), chat.Author{Person: "ana"}, "", put); err != nil {
		b.Fatal(err)
	}
	list := make([]*stream, count)
	var wg sync.WaitGroup
	room := make(chan struct{}, 64)
	for i := range list {
		wg.Go(func() {
			room <- struct{}{}
			defer func() { <-room }()
			s := &stream{n: n, id: chat.TaskID(chat.NewID())}
			create := chat.Op{TaskCreate: &chat.TaskCreate{ID: s.id, Project: project, Message: string(s.id) + "-1", Text: "Work on part " + strconv.Itoa(i), Agent: "script"}}
			if _, err := n.room.Do(b.Context(), chat.Author{Person: "ana"}, "", create); err != nil {
				b.Error(err)
				return
			}
			token, err := n.room.Do(b.Context(), n.c.author(), "", chat.Op{Place: &chat.Place{Task: s.id, Node: chat.Node(n.c.Node), Slot: fmt.Sprint(n.c.Node, "/", i)}})
			if err != nil {
				b.Error(err)
			}
			s.token, list[i] = token, s
		})
	}
	wg.Wait()
	if b.Failed() {
		b.FailNow()
	}
	return list
}

// post appends n new messages and waits until they are applied.
func (s *stream) post(ctx context.Context, n int, text string) error {
	op := chat.Items{Task: s.id, Token: s.token, Workspace: 1, From: s.cursor, Upto: s.cursor + uint64(n)}
	for i := range n {
		seq := s.cursor + uint64(i) + 1
		op.Items = append(op.Items, chat.Item{ID: fmt.Sprint("1-", seq), Kind: chat.KindAgent, Source: seq, Text: text, Closed: true})
	}
	s.cursor = op.Upto
	_, err := s.n.room.Do(ctx, s.n.c.author(), "", chat.Op{Items: &op})
	return err
}

// BenchmarkPost is one acknowledged message of 1 KiB on one voter, all the way:
// encoded, in the log and on disk, applied, in the store, visible to readers.
func BenchmarkPost(b *testing.B) {
	text := strings.Repeat("x", 1024)
	for _, clients := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			n := logNode(b, b.TempDir(), "bench")
			defer n.close()
			list := n.streams(b, clients)
			var next atomic.Int64
			took := make([]time.Duration, b.N)
			b.ResetTimer()
			began := time.Now()
			var wg sync.WaitGroup
			for _, s := range list {
				wg.Go(func() {
					for i := next.Add(1) - 1; i < int64(b.N); i = next.Add(1) - 1 {
						start := time.Now()
						if err := s.post(b.Context(), 1, text); err != nil {
							b.Error(err)
							return
						}
						took[i] = time.Since(start)
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/time.Since(began).Seconds(), "posts/s")
			reportMS(b, "", took)
		})
	}
}

// reportMS reports the median and the 99th percentile.
func reportMS(b *testing.B, prefix string, took []time.Duration) {
	b.Helper()
	if len(took) == 0 {
		b.Fatal("nothing was measured")
	}
	slices.Sort(took)
	at := func(q float64) float64 {
		return float64(took[int(q*float64(len(took)-1))]) / float64(time.Millisecond)
	}
	b.ReportMetric(at(0.50), prefix+"p50-ms")
	b.ReportMetric(at(0.99), prefix+"p99-ms")
}

// BenchmarkHistory is a node with a long history, a million messages of 1 KiB
// in 2000 tasks unless SAMNODE_BENCH_MESSAGES says otherwise: how long a
// restart takes, also after kill -9, its memory, and pages of 50 messages over
// HTTP. Filling takes some minutes and is not measured.
func BenchmarkHistory(b *testing.B) {
	if testing.Short() {
		b.Skip("fills a log with a million messages")
	}
	total, tasks := 1_000_000, 2000
	if v, err := strconv.Atoi(os.Getenv("SAMNODE_BENCH_MESSAGES")); err == nil {
		total, tasks = v, max(1, min(tasks, v/500))
	}
	n := newNode(b) // makes the state and its name
	n.stop()
	ids := fillLog(b, n.state, n.args[1], total, tasks)
	start := func() time.Duration {
		began := time.Now()
		n.start()
		return time.Since(began)
	}
	for b.Loop() {
		b.ReportMetric(start().Seconds()*1e3, "restart-ms")
		n.kill()
		b.ReportMetric(start().Seconds()*1e3, "restart-after-kill-ms")
		b.ReportMetric(n.resident(b), "fresh-MB")
		var pages, items []time.Duration
		perTask := total / tasks
		for range 400 {
			id := ids[rand.IntN(len(ids))]
			before := 60 + rand.IntN(perTask-60)
			pages = append(pages, n.timed(b, fmt.Sprintf("/t/%s?before=%d", id, before)))
			items = append(items, n.timed(b, fmt.Sprintf("/api/v1/tasks/%s/items?limit=50", id)))
		}
		b.ReportMetric(n.resident(b), "resident-MB")
		reportMS(b, "page50-", pages)
		reportMS(b, "items50-", items)
		n.stop()
	}
	b.ReportMetric(float64(total), "messages")
	b.ReportMetric(0, "ns/op")
}

// fillLog writes messages through the log, as a node does that was up for long.
func fillLog(b *testing.B, state, name string, total, tasks int) (ids []chat.TaskID) {
	b.Helper()
	n := logNode(b, state, name)
	list := n.streams(b, tasks)
	text := strings.Repeat("The quick brown fox jumps over the lazy dog. ", 23)[:1024]
	const perEntry, writers = 50, 32
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := w; i < tasks; i += writers {
				for left := total / tasks; left > 0; left -= perEntry {
					if err := list[i].post(b.Context(), min(left, perEntry), text); err != nil {
						b.Error(err)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	for _, s := range list {
		ids = append(ids, s.id)
		n.doNow(b, chat.Op{End: &chat.End{Task: s.id, Token: s.token, Failure: &chat.Failure{Reason: "The end of the benchmark."}}})
	}
	if err := n.close(); err != nil {
		b.Fatal(err)
	}
	if b.Failed() {
		b.FailNow()
	}
	return ids
}

// timed reads a page whole.
func (n *testNode) timed(b *testing.B, path string) time.Duration {
	b.Helper()
	began := time.Now()
	resp, err := http.Get(n.url + path)
	if err != nil {
		b.Fatal(err)
	}
	defer resp.Body.Close()
	size, err := io.Copy(io.Discard, resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK || size < 20<<10 {
		b.Fatalf("%s: %s, %d bytes, %v", path, resp.Status, size, err)
	}
	return time.Since(began)
}

// resident is the node's memory in MB.
func (n *testNode) resident(b *testing.B) float64 {
	b.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.cmd.Process.Pid))
	if err != nil {
		b.Skip(err)
	}
	for l := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(l, "VmRSS:"); ok {
			kb, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			if err != nil {
				b.Fatal(err)
			}
			return kb / 1024
		}
	}
	b.Fatal("the process has no VmRSS")
	return 0
}

// processor is the time that the node's process has had of the processors.
func (n *testNode) processor(b *testing.B) time.Duration {
	b.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", n.cmd.Process.Pid))
	if err != nil {
		b.Skip(err)
	}
	_, rest, _ := strings.Cut(string(data), ") ")
	f := strings.Fields(rest)
	user, err1 := strconv.Atoi(f[11])
	system, err2 := strconv.Atoi(f[12])
	if err := errors.Join(err1, err2); err != nil {
		b.Fatal(err)
	}
	return time.Duration(user+system) * (time.Second / 100) // USER_HZ
}

// machineLine says what the figures were measured on.
func machineLine(dir string) string {
	model := "unknown processor"
	if data, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for l := range strings.Lines(string(data)) {
			if _, v, ok := strings.Cut(l, "model name\t: "); ok {
				model = strings.TrimSpace(v)
				break
			}
		}
	}
	cores, _ := exec.Command("nproc").Output()
	load, _ := os.ReadFile("/proc/loadavg")
	return fmt.Sprintf("%s, %s cores; %s; load now %s", model, strings.TrimSpace(string(cores)), disk(dir), strings.Join(strings.Fields(string(load))[:1], ""))
}

// disk is how long this disk takes to make 4 KiB durable.
func disk(dir string) string {
	f, err := os.Create(filepath.Join(dir, "sync"))
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	var took []time.Duration
	for i := range 100 {
		began := time.Now()
		_, err := f.WriteAt(make([]byte, 4096), int64(i)*4096)
		if err := errors.Join(err, syscall.Fdatasync(int(f.Fd()))); err != nil {
			return err.Error()
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	return fmt.Sprintf("fdatasync of 4 KiB p50 %s, p99 %s", took[50].Round(time.Microsecond), took[98].Round(time.Microsecond))
}

// BenchmarkMachine prints the machine that the others run on.
func BenchmarkMachine(b *testing.B) {
	line := machineLine(b.TempDir())
	for b.Loop() {
		_ = line
	}
	b.ReportMetric(0, "ns/op")
	b.Log(line)
}
