package shim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A node that is killed and comes back again and again reads each record
// exactly once, and what it read is what the journal says.
func TestNodeComesAndGoes(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.agent("drip", "2000")
	var got []Record
	last := func() uint64 {
		if len(got) == 0 {
			return 0
		}
		return got[len(got)-1].Seq
	}
	for life := 0; len(got) == 0 || !exited(got[len(got)-1]); life++ {
		c, err := Dial(t.Context(), r.config.Socket) // a new node
		if err != nil {
			t.Fatal(err)
		}
		batches := 0
		err = c.Records(t.Context(), last()+1, func(batch []Record) error {
			if batches++; batches > 3 && life < 50 {
				return errEnough // killed before it took this batch
			}
			got = append(got, batch...)
			if exited(batch[len(batch)-1]) {
				return errEnough
			}
			return nil
		})
		if !errors.Is(err, errEnough) {
			t.Fatal(err)
		}
	}
	checkDense(t, got, 1)
	if diff := cmp.Diff(readAll(t, r.journal(), 1), got); diff != "" {
		t.Errorf("journal and node (-journal +node):\n%s", diff)
	}
	var want []string
	for i := range 2000 {
		want = append(want, strconv.Itoa(i))
	}
	if diff := cmp.Diff(want, of(got, Out)); diff != "" {
		t.Errorf("the agent's lines (-want +got):\n%s", diff)
	}
}

// kill -9 of the shim in the middle of a burst, with a torn tail on top: what
// a node has read stays, the numbers go on, and no line is sent twice.
func TestShimIsKilled(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var read []Record
	for life := range 5 {
		run := r.start(Spec{
			ID: fmt.Sprint("life", life), Path: "sh",
			Args: []string{"-c", `read -r l; echo "got $l"; exec "$0" agent-process burst 1000000`, os.Args[0]},
		})
		if run != life+1 {
			t.Errorf("life %d is run %d", life, run)
		}
		id := fmt.Sprint("prompt", life)
		seq, dup, err := r.Send(t.Context(), id, []byte(id))
		if err != nil || dup {
			t.Fatalf("Send = %d, %t, %v", seq, dup, err)
		}
		from := uint64(len(read)) + 1
		ctx, cancel := context.WithCancel(t.Context())
		err = r.Records(ctx, from, func(batch []Record) error {
			read = append(read, batch...)
			if len(read) > int(from)+3000 {
				r.kill()
				return errEnough
			}
			return nil
		})
		cancel()
		if !errors.Is(err, errEnough) {
			t.Fatal(err)
		}
		tear(t, r.journal())
		r.launch()
		again, dup, err := r.Send(t.Context(), id, []byte(id))
		if again != seq || !dup || err != nil {
			t.Errorf("Send after the restart = %d, %t, %v, want %d, true, nil", again, dup, err, seq)
		}
		info, err := r.Hello(t.Context())
		if err != nil || info.Running || info.Run != run || info.Last < read[len(read)-1].Seq {
			t.Errorf("Hello after the restart = %+v, %v", info, err)
		}
	}
	checkDense(t, read, 1)
	all := readAll(t, r.journal(), 1)
	checkDense(t, all, 1)
	if diff := cmp.Diff(all[:len(read)], read); diff != "" {
		t.Errorf("journal and node (-journal +node):\n%s", diff)
	}
	if n := len(notes(all, EventRepaired)); n != 5 {
		t.Errorf("%d repairs are noted, want 5", n)
	}
	ends := 0
	for i, rec := range all { // each life's end is the last word of its run
		if !exited(rec) {
			continue
		}
		if n, _ := rec.Note(); rec.Run != ends+1 || n.Code != -1 || n.Text == "" {
			t.Errorf("end %d is %+v of run %d", ends+1, n, rec.Run)
		}
		if ends++; i+1 < len(all) && all[i+1].Run == rec.Run && all[i+1].Dir != Notes {
			t.Errorf("run %d speaks after its end: %+v", rec.Run, all[i+1])
		}
	}
	if ends != 5 {
		t.Errorf("%d ends are noted, want 5", ends)
	}
	in := of(all, In)
	if want := []string{"prompt0", "prompt1", "prompt2", "prompt3", "prompt4"}; !slices.Equal(in, want) {
		t.Errorf("lines in = %q, want %q", in, want)
	}
}

// tear appends the beginning of a record, as a crash of the machine may.
func tear(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	frame := appendFrame(nil, Record{Seq: 1 << 40, Dir: Out, Data: make([]byte, 1000)})
	if _, err := f.Write(frame[:500]); err != nil {
		t.Fatal(err)
	}
}

func TestJournalOfAnotherLife(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.sh("a", "exit 0")
	r.until(1, exited)
	err := r.Records(t.Context(), 1000, func([]Record) error { return errEnough })
	if !errors.Is(err, ErrAhead) {
		t.Errorf("Records beyond the end = %v, want ErrAhead", err)
	}
}

// A journal whose container is gone for good gets its end once, and is closed
// to nobody who lives.
func TestBury(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.sh("a", "echo last words; sleep 600")
	r.until(1, line("last words"))
	if err := Bury(t.Context(), r.journal(), slog.New(slog.DiscardHandler)); err == nil {
		t.Error("the journal of a live shim was buried")
	}
	r.kill()
	for range 2 {
		if err := Bury(t.Context(), r.journal(), slog.New(slog.DiscardHandler)); err != nil {
			t.Fatal(err)
		}
	}
	all := readAll(t, r.journal(), 1)
	checkDense(t, all, 1)
	if n := len(notes(all, EventExited)); n != 1 || !exited(all[len(all)-1]) {
		t.Errorf("%d ends in %d records, the last is %+v; want one at the end", n, len(all), all[len(all)-1])
	}
}
