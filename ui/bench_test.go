package ui

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/samnode/samnode/chat"
)

// BenchmarkThousandPages is what a thousand open pages cost the node that
// serves them: a hundred tasks say something every 100 ms, or nothing, and ten
// pages are open on each. The browsers are a process of their own, so that the
// node's processor time is the node's.
func BenchmarkThousandPages(b *testing.B) {
	for _, list := range []string{"", "&list=1"} {
		b.Run(map[string]string{"": "alone", "&list=1": "with the list"}[list], func(b *testing.B) { thousandPages(b, 100, 1000, list, 10*time.Second) })
	}
	b.Run("idle", func(b *testing.B) { thousandPages(b, 100, 1000, "&list=1", 0) })
}

// thousandPages measures pages on tasks that talk for a while, or do not.
func thousandPages(b *testing.B, tasks, pages int, list string, talk time.Duration) {
	window := cmp.Or(talk, 20*time.Second)
	s := newSite(b, newFakeMesh().with)
	var ids []chat.TaskID
	for i := range tasks {
		ids = append(ids, s.working(b, fmt.Sprintf("Task %d", i)).ID)
	}
	server := newServer(b, s)
	var paths []string
	for i := range pages {
		paths = append(paths, fmt.Sprintf("%s/t/%s/events?after=%d%s", server, ids[i%tasks], s.kit.Index(), list))
	}
	b.ReportMetric(0, "ns/op")
	for b.Loop() {
		readers := exec.CommandContext(b.Context(), os.Args[0], "-test.run=^TestReaders$", "-test.v")
		readers.Env = append(os.Environ(), "READERS_FOR="+window.String())
		readers.Stdin = strings.NewReader(strings.Join(paths, "\n"))
		var out bytes.Buffer
		readers.Stdout, readers.Stderr = &out, os.Stderr
		if err := readers.Start(); err != nil {
			b.Fatal(err)
		}
		s.opened(b, pages)
		busy, began := processor(b), time.Now()
		said := 0
		if talk > 0 {
			said = s.chatter(b, ids, talk)
		} else {
			time.Sleep(window)
		}
		b.ReportMetric(100*float64(processor(b)-busy)/float64(time.Since(began)), "cpu-%")
		b.ReportMetric(float64(said)/time.Since(began).Seconds(), "items/s")
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		b.ReportMetric(float64(m.HeapInuse+m.StackInuse)/(1<<20), "MB")
		if err := readers.Wait(); err != nil {
			b.Fatalf("readers: %v\n%s", err, out.String())
		}
		for _, f := range regexp.MustCompile(`(?m)^readers: (\S+) (\S+)$`).FindAllStringSubmatch(out.String(), -1) {
			n, err := strconv.ParseFloat(f[2], 64)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(n, f[1])
		}
	}
}

func newServer(b *testing.B, s *site) string {
	b.Helper()
	server := &http.Server{Handler: s}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	go func() { _ = server.Serve(l) }() // until Close
	b.Cleanup(func() { s.Close(); _ = server.Close() })
	return "http://" + l.Addr().String()
}

// opened waits until so many streams follow.
func (s *site) opened(b *testing.B, pages int) {
	b.Helper()
	for {
		n := 0
		s.tasks.mu.Lock()
		for _, y := range s.tasks.all {
			n += y.followers
		}
		s.tasks.mu.Unlock()
		if n >= pages {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// chatter makes each task say the time every 100 ms, in messages that grow to
// forty lines.
func (s *site) chatter(b *testing.B, ids []chat.TaskID, window time.Duration) (said int) {
	var wg sync.WaitGroup
	ctx, stop := context.WithTimeout(b.Context(), window)
	defer stop()
	var mu sync.Mutex
	for i, id := range ids {
		wg.Go(func() {
			time.Sleep(time.Duration(i) * time.Millisecond)
			tick := time.NewTicker(100 * time.Millisecond)
			defer tick.Stop()
			offset, n := int64(0), 0
			for {
				select {
				case <-ctx.Done():
					mu.Lock()
					said += n
					mu.Unlock()
					return
				case <-tick.C:
				}
				if n%40 == 0 {
					offset = 0
				}
				text := fmt.Sprintf("Some **words** of the agent at T%d.\n\n", time.Now().UnixMicro())
				s.kit.Emit(b, id, chat.Item{ID: fmt.Sprintf("m%d", n/40), Kind: chat.KindAgent, Offset: offset, Text: text})
				offset, n = offset+int64(len(text)), n+1
			}
		})
	}
	wg.Wait()
	return said
}

// processor is the time that this process has used.
func processor(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// TestReaders is the process that reads the streams of BenchmarkThousandPages.
func TestReaders(t *testing.T) {
	window, err := time.ParseDuration(os.Getenv("READERS_FOR"))
	if err != nil {
		t.Skip("only a benchmark starts this")
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var mu sync.Mutex
	var lags []time.Duration
	var beats int
	var wg sync.WaitGroup
	client := &http.Client{Transport: &http.Transport{MaxConnsPerHost: 0}}
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		path := in.Text()
		wg.Go(func() {
			own, heard := readLags(ctx, t, client, path)
			mu.Lock()
			lags = append(lags, own...)
			beats += heard
			mu.Unlock()
		})
	}
	time.Sleep(window + 2*time.Second)
	cancel()
	wg.Wait()
	slices.Sort(lags)
	fmt.Printf("\nreaders: beats/s %.0f\n", float64(beats)/(window+2*time.Second).Seconds())
	if len(lags) == 0 {
		if beats == 0 {
			t.Fatal("nothing was read")
		}
		return
	}
	at := func(q float64) float64 { return float64(lags[int(q*float64(len(lags)-1))]) / 1e6 }
	fmt.Printf("\nreaders: p50-ms %.1f\nreaders: p99-ms %.1f\nreaders: max-ms %.1f\nreaders: events/s %.0f\n", at(.5), at(.99), at(1), float64(len(lags))/window.Seconds())
}

var saidAt = regexp.MustCompile(`T([0-9]{16})\.`)

func readLags(ctx context.Context, t *testing.T, client *http.Client, path string) (lags []time.Duration, beats int) {
	r, err := http.NewRequestWithContext(ctx, "GET", path, nil)
	if err != nil {
		t.Error(err)
		return nil, 0
	}
	answer, err := client.Do(r)
	if err != nil {
		if ctx.Err() == nil {
			t.Error(err)
		}
		return nil, 0
	}
	defer answer.Body.Close()
	in := bufio.NewReaderSize(answer.Body, 16<<10)
	var last int64
	for {
		line, err := in.ReadSlice('\n')
		if err != nil && err != bufio.ErrBufferFull {
			return lags, beats
		}
		if bytes.HasPrefix(line, []byte("event: beat")) {
			beats++
		}
		if i := bytes.LastIndex(line, []byte("at T")); i >= 0 {
			if m := saidAt.FindSubmatch(line[i:]); m != nil {
				us, _ := strconv.ParseInt(string(m[1]), 10, 64) // sixteen digits
				if us > last {
					last = us
					lags = append(lags, time.Since(time.UnixMicro(us)))
				}
			}
		}
	}
}

// BenchmarkPageWith2000Tasks is the whole list of a busy mesh, on its own page
// and beside a task.
func BenchmarkPageWith2000Tasks(b *testing.B) {
	s := newSite(b)
	s.kit.Project(b, "web")
	var last chat.Task
	for i := range 2000 {
		last = s.kit.NewTask(b, "web", fmt.Sprintf("Task %d of many", i))
		if i%4 == 0 {
			last = s.kit.Work(b, last.ID)
		}
		if i%8 == 0 {
			last = s.kit.Finish(b, last.ID)
		}
	}
	for range 50 {
		s.kit.Must(b, chat.Author{Person: "ana@example.com"}, chat.Op{Say: &chat.Say{Task: last.ID, Message: chat.NewID(), Text: "Some **words**."}})
	}
	for name, path := range map[string]string{"list": "/", "task": "/t/" + string(last.ID)} {
		b.Run(name, func(b *testing.B) {
			var took []time.Duration
			for b.Loop() {
				began := time.Now()
				if w := s.get(b, path); w.Code != 200 {
					b.Fatal(w.Code)
				}
				took = append(took, time.Since(began))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)*99/100])/1e6, "p99-ms")
		})
	}
}
