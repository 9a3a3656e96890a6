package consensus

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// nullMachine costs nothing, so that the log alone is measured.
type nullMachine struct{}

func (nullMachine) Apply([]Entry) error            { return nil }
func (nullMachine) Applied() uint64                { return 0 }
func (nullMachine) Snapshot() (io.WriterTo, error) { return nullState{}, nil }
func (nullMachine) Restore(io.Reader) error        { return nil }

type nullState struct{}

func (nullState) WriteTo(io.Writer) (int64, error) { return 0, nil }

func benchConfig(b *testing.B) Config {
	c := testConfig(b, nullMachine{})
	c.Logger, c.SegmentSize = slog.New(slog.DiscardHandler), 0
	return c
}

// BenchmarkAppend is acknowledged entries of 1 KiB on one voter, each on disk.
func BenchmarkAppend(b *testing.B) {
	for _, clients := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			benchmarkAppend(b, open(b, benchConfig(b)), clients)
		})
	}
}

// tcpTransport is loopback TCP.
type tcpTransport struct{ net.Listener }

func (tcpTransport) Dial(ctx context.Context, addr string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "tcp", addr)
}

// benchGroup is three voters over loopback TCP in this process, the first one
// the leader.
func benchGroup(b *testing.B) []*Log {
	var logs []*Log
	for _, name := range nodes {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		c := benchConfig(b)
		c.HeartbeatTimeout, c.LeaderLeaseTimeout = 5*time.Second, 5*time.Second // a busy machine changes no leader
		c.Node, c.Bootstrap, c.Join, c.Transport = name, name == "a", name != "a", tcpTransport{l}
		logs = append(logs, open(b, c))
		if name == "a" {
			req := raft.TimeoutNowRequest{RPCHeader: logs[0].header()}
			if err := logs[0].wire.TimeoutNow("a", logs[0].wire.LocalAddr(), &req, new(raft.TimeoutNowResponse)); err != nil {
				b.Fatal(err)
			}
		}
		say(b, logs[0], "it leads")
		f := logs[0].raft.AddVoter(raft.ServerID(name), raft.ServerAddress(l.Addr().String()), 0, 0)
		if err := f.Error(); err != nil {
			b.Fatal(err)
		}
	}
	return logs
}

// BenchmarkAppendThree is the same with three voters, proposed at the leader
// or at a follower.
func BenchmarkAppendThree(b *testing.B) {
	for _, clients := range []int{1, 16, 64, 256} {
		for at, name := range []string{"leader", "follower"} {
			b.Run(fmt.Sprintf("clients=%d/at=%s", clients, name), func(b *testing.B) {
				benchmarkAppend(b, benchGroup(b)[at], clients)
			})
		}
	}
}

// BenchmarkFresh is reads of what is certain to be new, at a follower.
func BenchmarkFresh(b *testing.B) {
	for _, clients := range []int{1, 64} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			l := benchGroup(b)[1]
			measure(b, clients, func() error {
				_, err := l.Fresh(b.Context())
				return err
			})
		})
	}
}

func benchmarkAppend(b *testing.B, l *Log, clients int) {
	say(b, l, "warm")
	data := make([]byte, 1024)
	measure(b, clients, func() error {
		_, err := l.Propose(b.Context(), Part{Machine: "m", Data: data})
		return err
	})
}

func measure(b *testing.B, clients int, call func() error) {
	took := make([]time.Duration, b.N)
	var next atomic.Int64
	b.ResetTimer()
	began := time.Now()
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(b.N); i = next.Add(1) - 1 {
				start := time.Now()
				if err := call(); err != nil {
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
	slices.Sort(took)
	ms := func(q float64) float64 { return float64(took[int(q*float64(b.N-1))]) / float64(time.Millisecond) }
	b.ReportMetric(float64(b.N)/all.Seconds(), "calls/s")
	b.ReportMetric(ms(0.50), "p50-ms")
	b.ReportMetric(ms(0.99), "p99-ms")
}

// bigMachine is a Copier with a store of so many bytes, which nobody keeps.
type bigMachine struct {
	nullMachine
	size     int64
	restored chan int64
}

func (m *bigMachine) Copy() (io.WriterTo, error) { return bigCopy(m.size), nil }

func (m *bigMachine) Restore(r io.Reader) error {
	n, err := io.Copy(io.Discard, r)
	m.restored <- n
	return err
}

type bigCopy int64

func (c bigCopy) WriteTo(w io.Writer) (int64, error) {
	b := make([]byte, 32<<10)
	for left := int64(c); left > 0; left -= int64(len(b)) {
		if _, err := w.Write(b); err != nil {
			return 0, err
		}
	}
	return int64(c), nil
}

// BenchmarkWholeCopy is a node that has nothing: a copy is made, sent over
// loopback TCP, written and restored.
func BenchmarkWholeCopy(b *testing.B) {
	const size = 256 << 20
	b.SetBytes(size)
	for range b.N {
		var logs []*Log
		restored := make(chan int64, 1)
		for _, name := range nodes[:2] {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			c := benchConfig(b)
			c.Node, c.Bootstrap, c.Join, c.Transport = name, name == "a", name != "a", tcpTransport{l}
			c.Trailing, c.SegmentSize = 1, 4<<10
			c.Machines["m"] = &bigMachine{size: size, restored: restored}
			logs = append(logs, open(b, c))
			if name == "a" {
				say(b, logs[0], numbered(1, 200)...)
				snapshot(b, logs[0])
			}
		}
		if err := logs[0].AddMember(b.Context(), "b", logs[1].conf.Transport.Addr().String()); err != nil {
			b.Fatal(err)
		}
		if n := <-restored; n != size {
			b.Fatalf("restored %d bytes, want %d", n, size)
		}
		for _, l := range logs {
			closeLog(b, l)
		}
	}
}
