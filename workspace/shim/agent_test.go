package shim

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestAgentConversation(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	if _, _, err := r.Send(t.Context(), "early", []byte("x")); !errors.Is(err, ErrNotRunning) {
		t.Errorf("Send without an agent = %v, want ErrNotRunning", err)
	}
	run := r.sh("one", `while read -r l; do echo "got $l"; done; echo bye >&2; exit 3`)
	if again := r.sh("one", "exit 9"); again != run {
		t.Errorf("Start with the same id = run %d, want %d", again, run)
	}
	if _, err := r.Start(t.Context(), Spec{ID: "other", Path: "sh"}); !errors.Is(err, ErrRunning) {
		t.Errorf("Start with another id = %v, want ErrRunning", err)
	}
	seq, dup, err := r.Send(t.Context(), "m1", []byte("hello"))
	if err != nil || dup || seq != 2 {
		t.Fatalf("Send = %d, %t, %v, want 2, false, nil", seq, dup, err)
	}
	seq, dup, err = r.Send(t.Context(), "m1", []byte("hello again"))
	if err != nil || !dup || seq != 2 {
		t.Fatalf("Send of the same id = %d, %t, %v, want 2, true, nil", seq, dup, err)
	}
	if _, _, err := r.Send(t.Context(), "m2", []byte("two\nlines")); !errors.Is(err, ErrInvalid) {
		t.Errorf("Send of two lines = %v, want ErrInvalid", err)
	}
	r.until(1, line("got hello"))
	if err := r.StopAgent(t.Context(), 10*time.Second); err != nil {
		t.Fatal(err)
	}
	recs := r.until(1, exited)
	checkDense(t, recs, 1)
	type short struct {
		Dir  Dir
		ID   string
		Run  int
		Data string
	}
	var got []short
	for _, rec := range recs {
		data := string(rec.Data)
		if n, ok := rec.Note(); ok {
			data = fmt.Sprint(n.Event, " ", n.Code)
		}
		got = append(got, short{rec.Dir, rec.ID, rec.Run, data})
	}
	want := []short{
		{Notes, "one", 1, "started 0"},
		{In, "m1", 1, "hello"},
		{Out, "", 1, "got hello"},
		{Stderr, "", 1, "bye"},
		{Notes, "one", 1, "exited 3"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("journal (-want +got):\n%s", diff)
	}
	info, err := r.Hello(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if info.Running || info.Run != 1 || info.Last != 5 || string(info.Stderr) != "bye\n" || info.Trouble != "" {
		t.Errorf("Hello = %+v, want run 1 ended, 5 records, stderr bye", info)
	}
	if run := r.sh("one", "exit 0"); run != 2 {
		t.Errorf("Start of an ended id = run %d, want 2", run)
	}
}

func TestAgentOutput(t *testing.T) {
	t.Parallel()
	t.Run("a burst of 100,000 lines arrives whole and in order", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		r.agent("burst", "100000")
		recs := r.until(1, exited)
		checkDense(t, recs, 1)
		lines := of(recs, Out)
		if len(lines) != 100000 {
			t.Fatalf("%d lines, want 100000; %+v", len(lines), notes(recs, EventExited))
		}
		for i, l := range lines {
			if want := fmt.Sprintf(`{"n":%d,"text":"a line of the agent"}`, i); l != want {
				t.Fatalf("line %d = %q, want %q", i, l, want)
			}
		}
	})
	t.Run("a line of 20 MiB is whole, one of 40 MiB is cut with its size", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		r.agent("long", strconv.Itoa(20<<20))
		recs := r.until(1, exited)
		if rec := recs[2]; len(rec.Data) != 20<<20 || rec.Size != 0 {
			t.Errorf("20 MiB line: %d bytes, size %d", len(rec.Data), rec.Size)
		}
		r.agent("long", strconv.Itoa(40<<20))
		recs = r.until(recs[len(recs)-1].Seq+1, exited)
		if rec := recs[2]; len(rec.Data) != 32<<20 || rec.Size != 40<<20 {
			t.Errorf("40 MiB line: %d bytes, size %d", len(rec.Data), rec.Size)
		}
		if l := of(recs, Out); l[0] != "before" || l[2] != "after" {
			t.Errorf("neighbours of the long line: %q, %q", l[0], l[2])
		}
	})
	t.Run("invalid UTF-8, empty lines and a last line without newline are kept", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		r.sh("a", `printf 'a\377\376b\n\n\000zero\r\nmid'`)
		want := []string{"a\xff\xfeb", "", "\x00zero\r", "mid"}
		if diff := cmp.Diff(want, of(r.until(1, exited), Out)); diff != "" {
			t.Errorf("lines (-want +got):\n%s", diff)
		}
	})
	t.Run("stderr is limited, and what is left out is counted", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		r.agent("stderr", "5000")
		recs := r.until(1, exited)
		kept, left := int64(len(of(recs, Stderr))), int64(0)
		for _, n := range notes(recs, EventLeftOut) {
			left += n.Lines
		}
		if kept+left != 5000 || left == 0 {
			t.Errorf("%d lines kept and %d left out, want 5000 together and some left out", kept, left)
		}
		info, err := r.Hello(t.Context())
		if err != nil || len(info.Stderr) != 64<<10 {
			t.Errorf("Hello has %d bytes of stderr, %v, want 64 KiB", len(info.Stderr), err)
		}
	})
}

func TestSendToAgent(t *testing.T) {
	t.Parallel()
	t.Run("a line of 20 MiB reaches stdin whole", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		r.sh("a", `head -n 1 | wc -c`)
		if _, _, err := r.Send(t.Context(), "big", bytes.Repeat([]byte("y"), 20<<20)); err != nil {
			t.Fatal(err)
		}
		recs := r.until(1, exited)
		if got := strings.TrimSpace(of(recs, Out)[0]); got != strconv.Itoa(20<<20+1) {
			t.Errorf("agent read %s bytes", got)
		}
		if in := of(recs, In); len(in) != 1 || len(in[0]) != 20<<20 {
			t.Errorf("journal has %d lines in", len(in))
		}
	})
	t.Run("a line that the agent never took is marked, and not sent again", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		r.sh("a", `exec <&-; echo closed; sleep 30`)
		r.until(1, line("closed"))
		_, _, err := r.Send(t.Context(), "lost", []byte("x"))
		if !errors.Is(err, ErrUnsent) {
			t.Fatalf("Send to closed stdin = %v, want ErrUnsent", err)
		}
		seq, dup, err := r.Send(t.Context(), "lost", []byte("x"))
		if !errors.Is(err, ErrUnsent) || !dup || seq == 0 {
			t.Errorf("Send again = %d, %t, %v, want the seq, true, ErrUnsent", seq, dup, err)
		}
		r.kill()
		r.launch()
		if _, dup, err := r.Send(t.Context(), "lost", []byte("x")); !errors.Is(err, ErrUnsent) || !dup {
			t.Errorf("Send after a restart = %t, %v, want true, ErrUnsent", dup, err)
		}
	})
}

func TestAgentEnds(t *testing.T) {
	t.Parallel()
	t.Run("one that ignores SIGTERM is killed", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		r.agent("stubborn")
		r.until(1, line("ready"))
		if err := r.StopAgent(t.Context(), 200*time.Millisecond); err != nil {
			t.Fatal(err)
		}
		n := notes(r.until(1, exited), EventExited)[0]
		if n.Signal != "killed" || n.Code != -1 {
			t.Errorf("exit note = %+v, want killed, -1", n)
		}
	})
	t.Run("what it started dies with it, also outside its session", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		r.sh("a", `sleep 1000 & echo $!; setsid sh -c 'echo $$; exec sleep 1000' & sleep 0.3; exit 0`)
		recs := r.until(1, exited)
		for _, l := range of(recs, Out) {
			pid, err := strconv.Atoi(l)
			if err != nil {
				t.Fatal(err)
			}
			eventually(t, "process "+l+" is gone", func() bool { return !exists(pid) })
		}
	})
	t.Run("orphans are reaped", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		r.sh("a", `for i in 1 2 3 4 5 6 7 8; do (sh -c 'echo $$; exit 0' &) ; done; sleep 0.3; echo done; sleep 1000`)
		recs := r.until(1, line("done"))
		lines := of(recs, Out)
		for _, l := range lines[:len(lines)-1] {
			pid, err := strconv.Atoi(l)
			if err != nil {
				t.Fatal(err)
			}
			eventually(t, "process "+l+" is reaped", func() bool { return !exists(pid) })
		}
	})
	t.Run("SIGTERM of the shim ends it and completes the journal", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		r.agent("stubborn")
		r.until(1, line("ready"))
		if err := r.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if err := r.cmd.Wait(); err != nil {
			t.Errorf("shim ended with %v", err)
		}
		var last Record
		for rec, err := range ReadJournal(r.journal(), 1) {
			if err != nil {
				t.Fatal(err)
			}
			last = rec
		}
		if !exited(last) {
			t.Errorf("last record is %s %q, want the exit", last.Dir, last.Data)
		}
	})
	t.Run("a program that is not there is refused", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		for _, s := range []Spec{{ID: "a", Path: "no-such-program"}, {ID: "b", Path: "/no/such"}, {ID: "c", Path: "sh", Dir: "/no/such"}} {
			if _, err := r.Start(t.Context(), s); !errors.Is(err, ErrStart) {
				t.Errorf("Start(%+v) = %v, want ErrStart", s, err)
			}
		}
	})
}

func TestEnvironment(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.start(Spec{
		ID: "e", Path: "sh", Args: []string{"-c", `echo "$HOME|$USER|$A|$SAMNODE_RUN|$PWD"`},
		Env: []string{"A=1", "A=2"}, Dir: os.TempDir(),
	})
	want := r.config.Home + "|agent|2|1|" + os.TempDir()
	if got := of(r.until(1, exited), Out)[0]; got != want {
		t.Errorf("environment = %q, want %q", got, want)
	}
}
