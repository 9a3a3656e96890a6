package main

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/samnode/samnode/chat"
)

// stamper prints the time every 50 ms without starting a process, in blocks of
// five seconds as an agent's tool calls are.
var stamper = "Print the time\n\n" + strings.Repeat("```bash\nexport LC_ALL=C\nexec 3<> <(:)\nfor i in {1..100}; do echo $EPOCHREALTIME; read -t 0.05 -u 3 || :; done\n```\n\n", 100)

var stamp = regexp.MustCompile(`\b(1[0-9]{9})\.([0-9]{6})\b`)

// BenchmarkStream is the way of a byte from the agent's program to a browser's
// stream: 20 tasks on one node that print every 50 ms, a page open on each.
func BenchmarkStream(b *testing.B) {
	needDocker(b)
	const tasks = 20
	n := newNode(b, "--slots", strconv.Itoa(tasks))
	ids := n.working(b, tasks, stamper)
	for b.Loop() {
		var mu sync.Mutex
		var took []time.Duration
		var wg sync.WaitGroup
		window := 10 * time.Second
		ctx, cancel := context.WithTimeout(b.Context(), window)
		busy := n.processor(b)
		for _, id := range ids {
			wg.Go(func() {
				own := n.latencies(ctx, b, "/t/"+string(id)+"/events?after=0")
				mu.Lock()
				took = append(took, own...)
				mu.Unlock()
			})
		}
		wg.Wait()
		cancel()
		b.ReportMetric(100*float64(n.processor(b)-busy)/float64(window), "node-cpu-%")
		b.ReportMetric(float64(len(took))/window.Seconds()/tasks, "lines/s/task")
		b.ReportMetric(n.resident(b), "node-MB")
		reportMS(b, "", took)
	}
	b.ReportMetric(0, "ns/op")
}

// working are tasks of the script agent whose turn runs.
func (n *testNode) working(b *testing.B, count int, text string) (ids []chat.TaskID) {
	b.Helper()
	must[chat.Project](n, "project", "add", "app", "--repo", localRepo(b, nil), "--mode", "everything")
	for range count {
		ids = append(ids, must[taskView](n, "task", "run", "--project", "app", text).ID)
	}
	for _, id := range ids {
		n.until(id, "working", func(v taskView) bool { return v.State == chat.Working && v.Turn.Delivery == chat.Delivered })
	}
	return ids
}

// latencies reads a page's stream until ctx ends. Each stamp counts when it is
// seen for the first time; what was printed before the page was open is history.
func (n *testNode) latencies(ctx context.Context, b *testing.B, path string) (took []time.Duration) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, n.url+path, nil)
	if err != nil {
		b.Error(err)
		return nil
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		b.Error(err)
		return nil
	}
	defer resp.Body.Close()
	newest := time.Now().UnixMicro()
	in := bufio.NewScanner(resp.Body)
	in.Buffer(make([]byte, 1<<20), 16<<20)
	for in.Scan() {
		now := time.Now()
		for _, m := range stamp.FindAllStringSubmatch(in.Text(), -1) {
			us, _ := strconv.ParseInt(m[1]+m[2], 10, 64) // sixteen digits
			if us <= newest {
				continue
			}
			newest = us
			took = append(took, now.Sub(time.UnixMicro(us)))
		}
	}
	return took
}

// BenchmarkIdle is what a node costs with nobody working: 20 idle tasks with
// their workspaces up, and 100 pages open.
func BenchmarkIdle(b *testing.B) {
	needDocker(b)
	n := newNode(b, "--slots", "20")
	must[chat.Project](n, "project", "add", "app", "--repo", localRepo(b, nil), "--mode", "everything")
	var ids []chat.TaskID
	for i := range 20 {
		ids = append(ids, must[taskView](n, "task", "run", "--project", "app", fmt.Sprintf("%d\n\n```sh\nseq 200\n```\n", i)).ID)
	}
	for _, id := range ids {
		n.until(id, "idle", func(v taskView) bool { return v.State == chat.Idle })
	}
	for b.Loop() {
		b.ReportMetric(n.resident(b), "MB-0-pages")
		ctx, cancel := context.WithCancel(b.Context())
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() { n.latencies(ctx, b, "/t/"+string(ids[i%len(ids)])+"/events?after=0&list=1") })
		}
		<-time.After(time.Second) // the pages get what they have missed
		busy, began := n.processor(b), time.Now()
		<-time.After(5 * time.Second)
		b.ReportMetric(100*float64(n.processor(b)-busy)/float64(time.Since(began)), "cpu-%")
		b.ReportMetric(n.resident(b), "MB-100-pages")
		cancel()
		wg.Wait()
	}
	b.ReportMetric(0, "ns/op")
}
