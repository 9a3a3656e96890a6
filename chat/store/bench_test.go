package store_test

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/chat/chattest"
	"github.com/samnode/samnode/chat/store"
)

// feeder writes entries that stream messages into tasks.
type feeder struct {
	index  uint64
	tokens []uint64
	cursor []uint64
}

func benchTask(i int) chat.TaskID { return chat.TaskID(fmt.Sprintf("01JBENCHBENCHBENCHTASK%04d", i)) }

func (f *feeder) entry(b *testing.B, by chat.Author, op chat.Op) store.Entry {
	b.Helper()
	f.index++
	data, err := chat.Encode(chat.Command{Version: 1, ID: fmt.Sprintf("bench-%d", f.index), Author: by, Op: op})
	if err != nil {
		b.Fatal(err)
	}
	return store.Entry{Index: f.index, At: epoch, Data: data}
}

// begin makes tasks that work.
func (f *feeder) begin(b *testing.B, o *opened, tasks int) {
	b.Helper()
	entries := []store.Entry{f.entry(b, chattest.Ana, chat.Op{ProjectPut: &chat.ProjectPut{Project: chat.Project{ID: "p", Name: "p", Repo: "/r"}}})}
	for i := range tasks {
		entries = append(entries,
			f.entry(b, chattest.Ana, chat.Op{TaskCreate: &chat.TaskCreate{ID: benchTask(i), Project: "p", Message: "m", Text: "x"}}),
			f.entry(b, chattest.Node, chat.Op{Place: &chat.Place{Task: benchTask(i), Node: "n", Slot: "s"}}))
		f.tokens, f.cursor = append(f.tokens, f.index), append(f.cursor, 0)
	}
	if err := o.machine.Apply(entries); err != nil {
		b.Fatal(err)
	}
}

// items is one entry with n new messages of 1 KiB in one task.
func (f *feeder) items(b *testing.B, task, n int, text string) store.Entry {
	b.Helper()
	items := make([]chat.Item, n)
	from := f.cursor[task]
	for i := range items {
		source := from + uint64(i) + 1
		items[i] = chat.Item{ID: fmt.Sprintf("%d-%d", task, source), Kind: chat.KindAgent, Source: source, Text: text, Closed: true}
	}
	f.cursor[task] += uint64(n)
	return f.entry(b, chattest.Node, chat.Op{Items: &chat.Items{Task: benchTask(task), Token: f.tokens[task], Workspace: 1, From: from, Upto: f.cursor[task], Items: items}})
}

// BenchmarkApply is a batch of 64 entries, each one new message of 1 KiB.
func BenchmarkApply(b *testing.B) {
	o := open(b, filepath.Join(b.TempDir(), "chat.db"))
	defer o.close(b)
	f := &feeder{}
	f.begin(b, o, 16)
	text := strings.Repeat("x", 1024)
	for n := 0; b.Loop(); n++ {
		batch := make([]store.Entry, 64)
		for i := range batch {
			batch[i] = f.items(b, (n+i)%16, 1, text)
		}
		if err := o.machine.Apply(batch); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N*64)/b.Elapsed().Seconds(), "messages/s")
}

// BenchmarkApplySay is what people say, 1 KiB a message, in drafts of which
// none has more than 16 waiting: the processor's time for one, in batches.
func BenchmarkApplySay(b *testing.B) {
	text := strings.Repeat("x", 1024)
	for _, size := range []int{1, 8, 64} {
		b.Run(fmt.Sprintf("batch=%d", size), func(b *testing.B) {
			o := open(b, filepath.Join(b.TempDir(), "chat.db"))
			defer o.close(b)
			f := &feeder{}
			f.begin(b, o, 1)
			var busy time.Duration
			said := 0
			for b.Loop() {
				batch := make([]store.Entry, size)
				for i := range batch {
					task := chat.TaskID(fmt.Sprintf("01JBENCHBENCHBENCHSAY%d-%d", said/1024, said%64))
					if said%1024 < 64 {
						create := f.entry(b, chattest.Ana, chat.Op{TaskCreate: &chat.TaskCreate{ID: task, Project: "p", Message: "m", Text: "x", Draft: true}})
						if err := o.machine.Apply([]store.Entry{create}); err != nil {
							b.Fatal(err)
						}
					}
					said++
					batch[i] = f.entry(b, chattest.Ana, chat.Op{Say: &chat.Say{Task: task, Message: fmt.Sprint("m", said), Text: text}})
				}
				began := processor(b)
				if err := o.machine.Apply(batch); err != nil {
					b.Fatal(err)
				}
				busy += processor(b) - began
			}
			b.ReportMetric(float64(busy.Microseconds())/float64(said), "cpu-µs/say")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// processor is the time that this process has had of the processors.
func processor(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// benchMessages is the size of a filled store: a million messages, or what
// SAMNODE_BENCH_MESSAGES says.
func benchMessages(b *testing.B) int {
	b.Helper()
	if testing.Short() {
		b.Skip("fills a store with a million messages")
	}
	total := 1_000_000
	if v := os.Getenv("SAMNODE_BENCH_MESSAGES"); v != "" {
		var err error
		if total, err = strconv.Atoi(v); err != nil {
			b.Fatal(err)
		}
	}
	return total
}

// The shape of a filled store.
const benchTasks, perEntry = 200, 50

// fill puts that many messages of 1 KiB into the store and returns how many a
// second.
func (f *feeder) fill(b *testing.B, o *opened, total int) float64 {
	b.Helper()
	f.begin(b, o, benchTasks)
	text := strings.Repeat("x", 1024)
	began := time.Now()
	for n := 0; n < total; n += 20 * perEntry {
		var batch []store.Entry
		for i := range 20 {
			batch = append(batch, f.items(b, (n/perEntry+i)%benchTasks, perEntry, text))
		}
		if err := o.machine.Apply(batch); err != nil {
			b.Fatal(err)
		}
	}
	return float64(total) / time.Since(began).Seconds()
}

// BenchmarkPage reads pages of 50 at random places of a filled store.
func BenchmarkPage(b *testing.B) {
	total := benchMessages(b)
	o := open(b, filepath.Join(b.TempDir(), "chat.db"))
	defer o.close(b)
	f := &feeder{}
	filled := f.fill(b, o, total)
	rng := rand.New(rand.NewPCG(1, 1))
	perTask := total / benchTasks
	var took []time.Duration
	for b.Loop() {
		start := time.Now()
		page, err := o.room.Messages(b.Context(), benchTask(rng.IntN(benchTasks)), uint64(60+rng.IntN(perTask-60)), 50)
		if err != nil || len(page) != 50 {
			b.Fatalf("page of %d messages, %v", len(page), err)
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
	b.ReportMetric(filled, "fill-messages/s")
	b.ReportMetric(residentMB(b), "resident-MB")
}

// BenchmarkCopy copies a filled store while messages are applied, and restores
// the copy into another store.
func BenchmarkCopy(b *testing.B) {
	total := benchMessages(b)
	dir := b.TempDir()
	o := open(b, filepath.Join(dir, "chat.db"))
	defer o.close(b)
	f := &feeder{}
	f.fill(b, o, total)
	alone := f.rate(b, o, time.After(3*time.Second))
	for n := 0; b.Loop(); n++ {
		began := time.Now()
		c, err := o.machine.Copy()
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(time.Since(began).Microseconds()), "pin-µs")
		path := filepath.Join(dir, fmt.Sprintf("copy-%d", n))
		done, peak := make(chan time.Time), make(chan float64)
		go func() { peak <- peakMB(b, done) }()
		began = time.Now()
		go func() {
			defer close(done)
			if err := writeFile(path, c); err != nil {
				b.Error(err)
			}
		}()
		rate := f.rate(b, o, done)
		b.ReportMetric(alone, "apply-alone/s")
		b.ReportMetric(rate, "apply-copying/s")
		b.ReportMetric(time.Since(began).Seconds(), "copy-s")
		b.ReportMetric(<-peak, "copy-resident-MB")
		b.ReportMetric(float64(fileSize(b, filepath.Join(dir, "chat.db-wal")))/1e6, "wal-MB")
		restoreFile(b, filepath.Join(dir, fmt.Sprintf("restored-%d.db", n)), path)
	}
}

// rate applies batches of 64 messages until stop and returns messages per
// second.
func (f *feeder) rate(b *testing.B, o *opened, stop <-chan time.Time) float64 {
	b.Helper()
	text := strings.Repeat("x", 1024)
	began, n := time.Now(), 0
	for {
		select {
		case <-stop:
			return float64(n*64) / time.Since(began).Seconds()
		default:
		}
		batch := make([]store.Entry, 64)
		for i := range batch {
			batch[i] = f.items(b, (n+i)%benchTasks, 1, text)
		}
		if err := o.machine.Apply(batch); err != nil {
			b.Fatal(err)
		}
		n++
	}
}

// peakMB is the most resident memory seen until stop.
func peakMB(b *testing.B, stop <-chan time.Time) (peak float64) {
	for {
		peak = max(peak, residentMB(b))
		select {
		case <-stop:
			return peak
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func writeFile(path string, c io.WriterTo) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = c.WriteTo(f)
	return errors.Join(err, f.Close(), c.(io.Closer).Close())
}

// restoreFile restores a copy into a fresh store and removes both.
func restoreFile(b *testing.B, path, from string) {
	b.Helper()
	f, err := os.Open(from)
	if err != nil {
		b.Fatal(err)
	}
	defer os.Remove(from)
	defer f.Close()
	r := open(b, path)
	done, peak := make(chan time.Time), make(chan float64)
	go func() { peak <- peakMB(b, done) }()
	began := time.Now()
	if err := r.machine.Restore(f); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(time.Since(began).Seconds(), "restore-s")
	close(done)
	b.ReportMetric(<-peak, "restore-resident-MB")
	b.ReportMetric(float64(fileSize(b, path))/1e6, "MB")
	r.close(b)
	if err := os.Remove(path); err != nil {
		b.Fatal(err)
	}
}

// residentMB is the process' resident memory now; 0 where /proc lacks it.
func residentMB(b *testing.B) float64 {
	b.Helper()
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for l := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(l, "VmRSS:"); ok {
			kb, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 64)
			if err != nil {
				b.Fatal(err)
			}
			return kb / 1024
		}
	}
	return 0
}
