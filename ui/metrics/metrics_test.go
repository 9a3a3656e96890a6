package metrics

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// full is a leader of three with a worker.
func full() Config {
	return Config{
		Node: "mon", Version: "v1", Core: true,
		Log: func() Log {
			return Log{
				Role: "leader", Leader: true, Quorum: true, Term: 3, Last: 120, Commit: 118, Applied: 110, Snapshot: 64,
				Peers: []Peer{{Node: "tue", Voter: true, Lag: 2, Silent: 1500 * time.Millisecond}, {Node: "wed", Lag: 120, Silent: -1}},
			}
		},
		Tasks:  func() map[string]int { return map[string]int{"idle": 2, "working": 1} },
		States: []string{"draft", "idle", "working"},
		Nodes: func() []Node {
			return []Node{{Name: "mon", Core: true, Slots: 2, Leases: 1, Heard: time.Second}, {Name: "laptop", Slots: 4, Heard: -1}}
		},
		Streams: func() int { return 17 },
		Store:   func() (int64, error) { return 5 << 20, nil },
		Disk:    func() (int64, int64, error) { return 1 << 30, 4 << 30, nil },
		Backup: func() Backup {
			return Backup{Scheduled: true, Succeeded: time.UnixMilli(1_700_000_000_500), Size: 9000}
		},
	}
}

func newMetrics(t *testing.T, c Config) *Metrics {
	t.Helper()
	m, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// scrape reads the figures as Prometheus does.
func scrape(t *testing.T, m *Metrics) (string, map[string]*dto.MetricFamily) {
	t.Helper()
	w := httptest.NewRecorder()
	m.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("scraping = %d: %s", w.Code, w.Body)
	}
	text := w.Body.String()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return text, families
}

// ours are the lines of samnode's own figures, sorted, without histograms.
func ours(text string) []string {
	var lines []string
	for l := range strings.Lines(text) {
		if strings.HasPrefix(l, "samnode_") && !strings.Contains(l, "_duration_seconds") && !strings.HasPrefix(l, "samnode_build_info") {
			lines = append(lines, strings.TrimSpace(l))
		}
	}
	slices.Sort(lines)
	return lines
}

func TestAllFigures(t *testing.T) {
	m := newMetrics(t, full())
	m.ObserveAppend(3*time.Millisecond, nil)
	m.ObserveAppend(time.Second, errors.New("no leader"))
	text, families := scrape(t, m)
	want := strings.Split(strings.TrimSpace(`
samnode_backup_last_failure_timestamp_seconds 0
samnode_backup_last_success_timestamp_seconds 1.7000000005e+09
samnode_backup_scheduled 1
samnode_backup_size_bytes 9000
samnode_disk_free_bytes 1.073741824e+09
samnode_disk_size_bytes 4.294967296e+09
samnode_log_appends_total{outcome="failed"} 1
samnode_log_appends_total{outcome="ok"} 1
samnode_log_applied_index 110
samnode_log_commit_index 118
samnode_log_last_index 120
samnode_log_leader_known 1
samnode_log_peer_lag_entries{node="tue"} 2
samnode_log_peer_lag_entries{node="wed"} 120
samnode_log_peer_silence_seconds{node="tue"} 1.5
samnode_log_peers{voter="false"} 1
samnode_log_peers{voter="true"} 1
samnode_log_quorum 1
samnode_log_role{role="candidate"} 0
samnode_log_role{role="follower"} 0
samnode_log_role{role="leader"} 1
samnode_log_role{role="shutdown"} 0
samnode_log_snapshot_index 64
samnode_log_term 3
samnode_log_unapplied_entries 8
samnode_node_heartbeat_age_seconds{node="mon"} 1
samnode_node_leases{node="laptop"} 0
samnode_node_leases{node="mon"} 1
samnode_node_slots{node="laptop"} 4
samnode_node_slots{node="mon"} 2
samnode_nodes{kind="core"} 1
samnode_nodes{kind="worker"} 1
samnode_store_size_bytes 5.24288e+06
samnode_streams 17
samnode_tasks{state="draft"} 0
samnode_tasks{state="idle"} 2
samnode_tasks{state="working"} 1
`), "\n")
	if diff := cmp.Diff(want, ours(text)); diff != "" {
		t.Errorf("figures (-want +got)\n%s", diff)
	}
	for _, line := range []string{
		`samnode_log_append_duration_seconds_bucket{le="0.005"} 1`,
		`samnode_log_append_duration_seconds_bucket{le="0.002"} 0`,
		`samnode_log_append_duration_seconds_count 1`, // what failed has no duration
		`node="mon",version="v1"} 1`,
	} {
		if !strings.Contains(text, line) {
			t.Errorf("missing: %s", line)
		}
	}
	for _, name := range []string{"go_goroutines", "process_resident_memory_bytes", "process_open_fds"} {
		if families[name] == nil {
			t.Errorf("missing: %s", name)
		}
	}
}

// TestNames holds ours against Prometheus' own rules for names and help.
func TestNames(t *testing.T) {
	m := newMetrics(t, full())
	m.Count(http.NotFoundHandler()).ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
	text, families := scrape(t, m)
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "samnode_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
	if n := len(families); n < 30 {
		t.Errorf("only %d families were looked at: %v", n, slices.Sorted(maps.Keys(families)))
	}
}

// TestAWorker: what a node does not have is not there, rather than 0.
func TestAWorker(t *testing.T) {
	text, _ := scrape(t, newMetrics(t, Config{Node: "laptop", Version: "v1", Streams: func() int { return 0 }}))
	want := []string{`samnode_log_appends_total{outcome="failed"} 0`, `samnode_log_appends_total{outcome="ok"} 0`, "samnode_streams 0"}
	if diff := cmp.Diff(want, ours(text)); diff != "" {
		t.Errorf("figures (-want +got)\n%s", diff)
	}
	if !strings.Contains(text, `kind="worker"`) {
		t.Error("it does not say that it is a worker")
	}
}

// TestAFigureThatCannotBeRead is missing, said in the log, and takes no other
// with it.
func TestAFigureThatCannotBeRead(t *testing.T) {
	var log bytes.Buffer
	c := full()
	c.Logger = slog.New(slog.NewTextHandler(&log, nil))
	c.Disk = func() (int64, int64, error) { return 0, 0, errors.New("the disk is gone") }
	c.Nodes = func() []Node { return []Node{{Name: "\xff"}, {Name: "ok", Slots: 1}} }
	text, _ := scrape(t, newMetrics(t, c))
	if strings.Contains(text, "samnode_disk_free_bytes ") {
		t.Error("the disk's room is shown")
	}
	for _, line := range []string{"samnode_store_size_bytes 5.24288e+06", `samnode_node_slots{node="ok"} 1`, "samnode_backup_size_bytes 9000"} {
		if !strings.Contains(text, line) {
			t.Errorf("missing: %s", line)
		}
	}
	if !strings.Contains(log.String(), "the disk is gone") || !strings.Contains(log.String(), "not valid UTF-8") {
		t.Errorf("the log says: %s", log.String())
	}
}

// TestManyNodes: however many there are, the lines are bounded and the counts right.
func TestManyNodes(t *testing.T) {
	c := full()
	c.Nodes = func() (all []Node) {
		for i := range maxNodes + 500 {
			all = append(all, Node{Name: fmt.Sprint("n", i), Core: i < 3})
		}
		return all
	}
	c.Log = func() (l Log) {
		for i := range maxNodes + 500 {
			l.Peers = append(l.Peers, Peer{Node: fmt.Sprint("n", i), Voter: i < 2})
		}
		return l
	}
	text, families := scrape(t, newMetrics(t, c))
	for _, name := range []string{"samnode_node_slots", "samnode_log_peer_lag_entries"} {
		if n := len(families[name].GetMetric()); n != maxNodes {
			t.Errorf("%s has %d lines, want %d", name, n, maxNodes)
		}
	}
	for _, line := range []string{`samnode_nodes{kind="worker"} 1497`, `samnode_log_peers{voter="false"} 1498`, `samnode_nodes{kind="core"} 3`} {
		if !strings.Contains(text, line) {
			t.Errorf("missing: %s", line)
		}
	}
}

// TestTwoNodesInOneProcess have nothing in common.
func TestTwoNodesInOneProcess(t *testing.T) {
	a, b := newMetrics(t, full()), newMetrics(t, full())
	a.ObserveAppend(time.Millisecond, nil)
	text, _ := scrape(t, b)
	if !strings.Contains(text, `samnode_log_appends_total{outcome="ok"} 0`) {
		t.Error("an append at one node is counted at the other")
	}
}

// TestCount: requests over real connections, through muxes in muxes.
func TestCount(t *testing.T) {
	m := newMetrics(t, Config{})
	inner := http.NewServeMux()
	inner.HandleFunc("GET /api/tasks/{task}", func(w http.ResponseWriter, r *http.Request) {
		if r.PathValue("task") == "none" {
			http.Error(w, "no such task", http.StatusNotFound)
		}
	})
	inner.HandleFunc("POST /api/tasks", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusEarlyHints) // is not yet the answer
		w.WriteHeader(http.StatusCreated)
	})
	inner.HandleFunc("GET /api/stream", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		io.WriteString(w, "data: x\n\n")
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Error(err)
		}
		<-r.Context().Done()
	})
	inner.HandleFunc("GET /api/socket", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Upgrade", "test")
		w.WriteHeader(http.StatusSwitchingProtocols)
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		conn.Close()
	})
	// The server does not wait for a connection that was taken from it.
	var taken sync.WaitGroup
	inner.HandleFunc("GET /api/abort", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	outer := http.NewServeMux()
	outer.Handle("/api/", inner)
	counts := m.Count(outer)
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		taken.Add(1)
		defer taken.Done()
		counts.ServeHTTP(w, r)
	}))
	defer web.Close()

	get := func(path string) { do(t, http.MethodGet, web.URL+path) }
	for i := range 50 { // one label for all of them
		get(fmt.Sprint("/api/tasks/", i))
	}
	get("/api/tasks/none")
	get("/api/socket")
	get("/api/abort")
	get("/wp-login.php")
	get("/api/tasks/1/../../../x")
	do(t, http.MethodPost, web.URL+"/api/tasks")
	do(t, http.MethodDelete, web.URL+"/api/tasks")
	stream(t, web.URL+"/api/stream")
	web.Close() // waits for what is still answered
	taken.Wait()

	text, _ := scrape(t, m)
	var got []string
	for _, l := range ours(text) {
		if strings.HasPrefix(l, "samnode_http_requests_total") {
			got = append(got, l)
		}
	}
	want := []string{
		`samnode_http_requests_total{code="101",route="GET /api/socket"} 1`,
		`samnode_http_requests_total{code="200",route="GET /api/stream"} 1`,
		`samnode_http_requests_total{code="200",route="GET /api/tasks/{task}"} 50`,
		`samnode_http_requests_total{code="201",route="POST /api/tasks"} 1`,
		`samnode_http_requests_total{code="307",route="other"} 1`,
		`samnode_http_requests_total{code="404",route="GET /api/tasks/{task}"} 1`,
		`samnode_http_requests_total{code="404",route="other"} 1`,
		`samnode_http_requests_total{code="405",route="other"} 1`,
		`samnode_http_requests_total{code="other",route="GET /api/abort"} 1`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("requests (-want +got)\n%s", diff)
	}
	if !strings.Contains(text, `samnode_http_request_duration_seconds_count{route="GET /api/tasks/{task}"} 51`) {
		t.Error("the duration of requests is missing")
	}
	for _, route := range []string{"stream", "socket"} {
		if strings.Contains(text, `duration_seconds_count{route="GET /api/`+route) {
			t.Errorf("a %s has a duration", route)
		}
	}
}

func do(t *testing.T, method, url string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	c := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := c.Do(req)
	if err != nil {
		if !strings.HasSuffix(url, "/abort") {
			t.Fatal(err)
		}
		return
	}
	resp.Body.Close()
}

// stream reads the beginning of a stream and leaves.
func stream(t *testing.T, url string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := resp.Body.Read(make([]byte, 10)); err != nil {
		t.Error("the stream does not flush:", err)
	}
}

// TestScrapesAtOnce: Prometheus and a person with curl, and a slow reader.
func TestScrapesAtOnce(t *testing.T) {
	m := newMetrics(t, full())
	web := httptest.NewServer(m)
	defer web.Close()
	conn, err := net.Dial("tcp", strings.TrimPrefix(web.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() // asks and never reads
	fmt.Fprint(conn, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
	done := make(chan string, 20)
	for range cap(done) {
		go func() {
			m.ObserveAppend(time.Millisecond, nil)
			resp, err := http.Get(web.URL)
			if err != nil {
				done <- err.Error()
				return
			}
			defer resp.Body.Close()
			io.Copy(io.Discard, resp.Body)
			done <- resp.Status
		}()
	}
	answers := map[string]int{}
	for range cap(done) {
		answers[<-done]++
	}
	if answers["200 OK"] == 0 || answers["200 OK"]+answers["503 Service Unavailable"] != cap(done) {
		t.Errorf("answers: %v; want 200, and 503 for what is too much at once", answers)
	}
}
