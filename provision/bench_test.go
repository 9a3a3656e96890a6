package provision

import (
	"encoding/json"
	"fmt"
	"runtime"
	"testing"
	"time"
)

const (
	manyNodes = 500
	manyTasks = 2000
	perNode   = manyTasks / manyNodes
)

// large is a mesh of 500 started nodes, as many slots as there are tasks, and
// that many leases.
func large(tb testing.TB, leases int) (*State, uint64) {
	tb.Helper()
	s := NewState()
	index := uint64(0)
	do := func(c Command) { index++; apply(tb, s, index, c) }
	do(found("n000"))
	for i := range manyNodes {
		node := nodeName(i)
		if i > 0 {
			do(invite("i"+node, false, 100*time.Hour))
			do(join("i"+node, node, false))
		}
		do(start(node, "boot-"+node, 1, perNode))
	}
	do(batchOf(manyNodes))
	for i := range leases {
		node := nodeName(i / perNode)
		do(grant(fmt.Sprintf("01JBCDEFGHJKMNPQRSTV%06d", i), node, SlotName(node, 1+i%perNode)))
	}
	return s, index
}

func nodeName(i int) string { return fmt.Sprintf("n%03d", i) }

func batchOf(nodes int) Command {
	var list []Beat
	for i := range nodes {
		list = append(list, Beat{Node: nodeName(i), Boot: "boot-" + nodeName(i), Report: &Report{
			Used: perNode, Load: 1.25, CPUs: 8, Mem: 16 << 30, MemFree: 9 << 30, DiskFree: 111 << 30, Index: 123456,
		}})
	}
	return beats(list...)
}

// BenchmarkBeats applies the batch of 500 nodes with 2,000 leases; the leader
// has one in five seconds. Every batch is read once, as the pages do.
func BenchmarkBeats(b *testing.B) {
	s, index := large(b, manyTasks)
	c := batchOf(manyNodes)
	c.Version = Version
	data, err := json.Marshal(c)
	if err != nil {
		b.Fatal(err)
	}
	at := t0.Add(time.Hour)
	for b.Loop() {
		index++
		if err := s.Apply(index, at, data); err != nil {
			b.Fatal(err)
		}
		s.Pool()
	}
	b.ReportMetric(float64(len(data))/manyNodes, "logbytes/beat")
	b.ReportMetric(manyNodes*float64(b.N)/b.Elapsed().Seconds(), "beats/s")
}

// BenchmarkSchedule places 2,000 tasks at once, and looks at 2,000 that wait
// for slots that are all taken.
func BenchmarkSchedule(b *testing.B) {
	var wait []Waiting
	for i := range manyTasks {
		wait = append(wait, Waiting{Task: fmt.Sprint("w", i), Last: nodeName(i % manyNodes)})
	}
	for name, leases := range map[string]int{"place": 0, "full": manyTasks} {
		b.Run(name, func(b *testing.B) {
			s, _ := large(b, leases)
			p, _ := s.Pool()
			for b.Loop() {
				d := Schedule(p, wait, nil)
				if placed := d[len(d)-1].Node != ""; placed != (leases == 0) {
					b.Fatal(d[len(d)-1])
				}
			}
		})
	}
}

// BenchmarkGrant gives a slot and takes it back.
func BenchmarkGrant(b *testing.B) {
	s, index := large(b, manyTasks-1)
	node := nodeName(manyNodes - 1)
	for b.Loop() {
		apply(b, s, index+1, grant("last", node, SlotName(node, perNode)))
		apply(b, s, index+2, release("last", index+1, 0))
		index += 2
	}
}

// BenchmarkMemory says what the state of that mesh holds, and its snapshot.
func BenchmarkMemory(b *testing.B) {
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	for b.Loop() {
		before := heap()
		s, _ := large(b, manyTasks)
		s.Pool()
		after := heap()
		snap, err := json.Marshal(s.pool)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(after-before)/1024, "KiB")
		b.ReportMetric(float64(len(snap))/1024, "snapshotKiB")
		runtime.KeepAlive(s)
	}
}
