package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/samnode/samnode/chat"
)

// BenchmarkSay is one acknowledged message of 1 KiB that a person says through
// the API, in a mesh of one node and of three in one process: what it takes,
// and what the process has of the processors for it, which load beside it
// hardly changes. The tasks are drafts, so that no agent takes the messages.
func BenchmarkSay(b *testing.B) {
	for _, nodes := range []int{1, 3} {
		for _, clients := range []int{1, 64} {
			b.Run(fmt.Sprintf("nodes=%d/clients=%d", nodes, clients), func(b *testing.B) { benchmarkSay(b, nodes, clients) })
		}
	}
}

func benchmarkSay(b *testing.B, nodes, clients int) {
	const perTask = 16 // that wait in one task at most, as people's do
	n := newNode(b, "--nodes", fmt.Sprint(nodes))
	must[chat.Project](n, "project", "add", "app", "--repo", "/srv/app.git")
	ids := n.drafts(b, max(64, (b.N+perTask-1)/perTask))
	h := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: clients, DisableCompression: true}}
	defer h.CloseIdleConnections()
	text := strings.Repeat("x", 1024)
	took := make([]time.Duration, b.N)
	var next atomic.Int64
	busy := n.processor(b)
	b.ResetTimer()
	began := time.Now()
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(b.N); i = next.Add(1) - 1 {
				start := time.Now()
				in := map[string]string{"id": fmt.Sprint("m", i), "text": text}
				if err := postJSON(h, n.url+"/api/v1/"+path("tasks", string(ids[i%int64(len(ids))]), "messages"), in); err != nil {
					b.Error(err)
					return
				}
				took[i] = time.Since(start)
			}
		})
	}
	wg.Wait()
	all := time.Since(began)
	b.StopTimer()
	b.ReportMetric(float64(n.processor(b)-busy)/float64(b.N)/float64(time.Microsecond), "cpu-µs/op")
	b.ReportMetric(float64(b.N)/all.Seconds(), "says/s")
	reportMS(b, "", took)
}

// drafts makes tasks that wait for nobody.
func (n *testNode) drafts(b *testing.B, count int) []chat.TaskID {
	b.Helper()
	ids := make([]chat.TaskID, count)
	room := make(chan struct{}, 32)
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() {
			room <- struct{}{}
			defer func() { <-room }()
			ids[i] = chat.TaskID(chat.NewID())
			in := map[string]any{"id": ids[i], "project": "app", "text": "Take messages", "draft": true}
			if err := postJSON(http.DefaultClient, n.url+"/api/v1/tasks", in); err != nil {
				b.Error(err)
			}
		})
	}
	wg.Wait()
	if b.Failed() {
		b.FailNow()
	}
	return ids
}

// postJSON sends JSON and reads the answer whole, so that the connection is used
// again.
func postJSON(h *http.Client, url string, in any) error {
	data, err := json.Marshal(in)
	if err != nil {
		return err
	}
	resp, err := h.Post(url, "application/json", bytes.NewReader(data))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode >= 300 {
		err = fmt.Errorf("%s: %s: %s", url, resp.Status, answer)
	}
	return err
}
