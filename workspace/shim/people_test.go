package shim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
)

// names says who is at a terminal: "ana*" leads, "(bob)" watches.
func names(info TerminalInfo) string {
	var all []string
	for _, p := range info.People {
		name := p.Person
		if p.Leads {
			name += "*"
		}
		if p.Watches {
			name = "(" + name + ")"
		}
		if p.You {
			name = "me:" + name
		}
		all = append(all, name)
	}
	return strings.Join(all, " ")
}

func who(name string) Who { return Who{Person: name, Device: name + "-laptop", By: "ssh"} }

func TestWhoIsHere(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	ana := r.term(TerminalSpec{ID: "t", Who: who("ana"), Rows: 30, Cols: 100})
	watch(t, ana)
	if got := names(ana.Info()); got != "me:ana*" || ana.Info().Maker.Person != "ana" {
		t.Errorf("the first is told %q, made by %+v", got, ana.Info().Maker)
	}
	bob := r.term(TerminalSpec{ID: "t", Who: who("bob"), Rows: 40, Cols: 120})
	watch(t, bob)
	if got := names(bob.Info()); got != "ana* me:bob" {
		t.Errorf("the second is told %q", got)
	}
	eve := r.term(TerminalSpec{ID: "t", Who: who("eve"), Watch: true, Rows: 10, Cols: 20})
	watch(t, eve)
	told := func(term *Terminal, want string) {
		t.Helper()
		eventually(t, "is told "+want, func() bool { return names(term.Info()) == want })
	}
	told(ana, "me:ana* bob (eve)")
	if info := ana.Info(); info.Rows != 30 || info.Cols != 100 {
		t.Errorf("who only came made it %d×%d", info.Cols, info.Rows)
	}
	r.write(bob, ":\n")
	told(eve, "ana bob* me:(eve)")
	eventually(t, "bob's size", func() bool { i := ana.Info(); return i.Rows == 40 && i.Cols == 120 })
	r.write(ana, "\x1b[?1;2c\x1b[5;1R") // what a terminal says by itself changes nothing
	if err := bob.Resize(41, 121); err != nil {
		t.Fatal(err)
	}
	eventually(t, "bob's new size", func() bool { i := eve.Info(); return i.Rows == 41 && i.Cols == 121 })
	bob.Close()
	told(ana, "me:ana* (eve)")
	eventually(t, "ana's size", func() bool { i := ana.Info(); return i.Rows == 30 && i.Cols == 100 })
	if list, err := r.Terminals(t.Context()); err != nil || len(list) != 1 || list[0].Typists() != 1 || list[0].Attached != 2 {
		t.Errorf("Terminals = %+v, %v", list, err)
	}
}

func TestWatching(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	ctx := t.Context()
	for _, spec := range []TerminalSpec{{ID: "none", Watch: true}, {ID: "none", Join: true}} {
		if _, err := r.OpenTerminal(ctx, spec); !errors.Is(err, ErrNotFound) {
			t.Errorf("watching what is not there: %v, want ErrNotFound", err)
		}
	}
	ana := r.term(TerminalSpec{ID: "t", Who: who("ana"), Rows: 30, Cols: 100})
	shown, _ := watch(t, ana)
	eve := r.term(TerminalSpec{ID: "t", Who: who("eve"), Watch: true})
	seen, _ := watch(t, eve)
	r.write(eve, "echo evil''-typed\n")
	if err := eve.Resize(5, 5); err != nil {
		t.Fatal(err)
	}
	r.write(ana, "echo ana''-typed; stty size\n")
	eventually(t, "the watcher sees", contains(seen, "ana-typed"))
	eventually(t, "the size stays", contains(shown, "30 100"))
	if strings.Contains(shown(), "evil") {
		t.Errorf("a watcher typed: %q", shown())
	}
	alone := r.term(TerminalSpec{ID: "u", Who: who("ana")})
	r.term(TerminalSpec{ID: "u", Who: who("eve"), Watch: true})
	alone.Close()
	eventually(t, "a shell that is only watched is nobody's", func() bool {
		term, err := r.OpenTerminal(ctx, TerminalSpec{ID: "u", Alone: true, Who: who("ana")})
		if err != nil {
			return false
		}
		defer term.Close()
		return true
	})
}

func TestHold(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	ctx := t.Context()
	ana := r.term(TerminalSpec{ID: "t", Who: who("ana"), Rows: 30, Cols: 100})
	shown, _ := watch(t, ana)
	bob := r.term(TerminalSpec{ID: "t", Who: who("bob"), Rows: 40, Cols: 120})
	watch(t, bob)
	if err := r.HoldTerminal(ctx, "t", who("bob"), true); !errors.Is(err, ErrRefused) {
		t.Errorf("a guest holds it: %v, want ErrRefused", err)
	}
	r.write(bob, ":\n")
	eventually(t, "bob leads", func() bool { return names(ana.Info()) == "me:ana bob*" })
	if err := r.HoldTerminal(ctx, "t", who("ana"), true); err != nil {
		t.Fatal(err)
	}
	eventually(t, "ana alone types", func() bool { i := bob.Info(); return i.Held == "ana" && names(i) == "ana* me:bob" })
	r.write(bob, "echo bob''-typed\n")
	owner := Who{Person: "olga", Owner: true}
	if err := r.HoldTerminal(ctx, "t", owner, true); !errors.Is(err, ErrRefused) {
		t.Errorf("an owner who is not there holds it: %v, want ErrRefused", err)
	}
	olga := r.term(TerminalSpec{ID: "t", Who: owner})
	watch(t, olga)
	if err := r.HoldTerminal(ctx, "t", owner, true); err != nil {
		t.Fatal(err)
	}
	r.write(ana, "echo ana''-typed\n")
	r.write(olga, "echo olga''-typed\n")
	eventually(t, "the owner types", contains(shown, "olga-typed"))
	olga.Close()
	eventually(t, "it ends with who holds it", func() bool { return ana.Info().Held == "" })
	r.write(bob, "echo bob''-again\n")
	eventually(t, "all type again", contains(shown, "bob-again"))
	if s := shown(); strings.Contains(s, "ana-typed") || strings.Contains(s, "bob-typed") {
		t.Errorf("somebody typed past who held it: %q", s)
	}
}

// Somebody who comes while output runs sees each line once.
func TestAttachUnderLoad(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	first := r.term(TerminalSpec{ID: "t", Who: who("ana")})
	shown, _ := watch(t, first)
	r.write(first, "i=0; while [ $i -lt 60000 ]; do i=$((i+1)); echo line-$i-; done; echo fin''ished\n")
	eventually(t, "it runs", contains(shown, "line-2000-"))
	for n := range 3 {
		late := r.term(TerminalSpec{ID: "t", Who: who(fmt.Sprint("late", n))})
		seen, _ := watch(t, late)
		eventually(t, "the end", contains(seen, "finished\r\n"))
		text := seen()
		if i := strings.Index(text, "line-1-"); i >= 0 { // nothing was too old
			text = text[i:]
		}
		next := 0
		for l := range strings.SplitSeq(text, "\r\n") {
			var got int
			if _, err := fmt.Sscanf(l, "line-%d-", &got); err != nil {
				continue
			}
			if next != 0 && got != next {
				t.Fatalf("attachment %d: line %d comes where %d belongs", n, got, next)
			}
			next = got + 1
		}
		if next != 60001 {
			t.Errorf("attachment %d ends before line %d", n, next)
		}
	}
}

// A program that was in the alternate screen long ago is shown there, and asked
// to draw anew; what asks a terminal is not asked again.
func TestReplayOfAFullScreenProgram(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	term := r.term(TerminalSpec{ID: "t", Args: []string{"sh", "-c",
		`trap 'printf drawn-anew' WINCH; printf '\033[?1049h\033[?1h\033[?2004h\033[31m'; i=0; ` +
			`while [ $i -lt 120000 ]; do i=$((i+1)); echo line-$i-; done; printf '\033[c\033]11;?\007\007'; echo filled; while :; do sleep 0.05; done`}})
	shown, _ := watch(t, term)
	eventually(t, "the output", contains(shown, "filled"))
	for n := range 2 { // the second's replay has lost what came first
		if n == 1 {
			r.write(term, strings.Repeat("x\r", 100))
		}
		late := r.term(TerminalSpec{ID: "t"})
		seen, _ := watch(t, late)
		eventually(t, "the replay", contains(seen, "filled"))
		eventually(t, "it draws anew", contains(seen, "drawn-anew"))
		text := seen()
		if !strings.HasPrefix(text, "\x1b[?1049h\x1b[?1h\x1b[?2004h\x1b[31m") {
			t.Errorf("the replay begins %q", text[:min(60, len(text))])
		}
		if strings.Contains(text, "\x1b[c") || strings.Contains(text, "?\a") {
			t.Error("the replay asks the terminal")
		}
		late.Close()
	}
}

func TestModes(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, output, want string }{
		{"text", "hello\r\n", ""},
		{"modes that are as ever", "\x1b[?25h\x1b[?2004h\x1b[?2004l", ""},
		{"a hidden cursor", "\x1b[?25l", "\x1b[?25l"},
		{"several at once", "\x1b[?1002;1006h", "\x1b[?1002h\x1b[?1006h"},
		{"colours until the reset", "\x1b[31m\x1b[0m\x1b[1;32mx", "\x1b[0m\x1b[1;32m"},
		{"a region and a character set", "\x1b[2;10r\x1b(0", "\x1b[2;10r\x1b(0"},
		{"all of it reset", "\x1b[?1049h\x1b[31m\x1b[2;10r\x1bc", ""},
		{"a sequence that has only begun", "x\x1b[?10", "\x1b[?10"},
		{"a title is no mode", "\x1b]0;h\x1b\\", ""},
	} {
		for cut := range len(test.output) + 1 {
			var m modes
			m.feed([]byte(test.output[:cut]))
			m.feed([]byte(test.output[cut:]))
			if got := string(m.restore()); got != test.want {
				t.Errorf("%s, cut at %d: %q, want %q", test.name, cut, got, test.want)
			}
		}
	}
}

func FuzzModes(f *testing.F) {
	f.Add([]byte("\x1b[?1049h\x1b]0;x\a\x1bPq\x1b\\\x1b[5n\x1b["))
	f.Fuzz(func(t *testing.T, b []byte) {
		var m modes
		m.feed(b)
		if len(m.restore()) > 2*maxSequence+4096 {
			t.Errorf("%d bytes say how it is", len(m.restore()))
		}
		if len(hushed(b)) > len(b) {
			t.Error("silence is longer")
		}
		answers(b)
	})
}

func TestRecord(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	ctx, cancel := context.WithCancel(t.Context())
	before := r.term(TerminalSpec{ID: "before"})
	if err := r.SetRecording(ctx, true); err != nil {
		t.Fatal(err)
	}
	collect := func(ctx context.Context, got *casts, end string) error {
		return r.Record(ctx, func(e CastEvent) error {
			if e.Kind == CastResize {
				got.add(e.Shell, fmt.Sprintf("<%d×%d>", e.Cols, e.Rows))
			}
			got.add(e.Shell, string(e.Data))
			if e.Kind == CastEnd && e.Shell == end {
				return errEnough
			}
			return nil
		})
	}
	short := r.term(TerminalSpec{ID: "short", Args: []string{"echo", "gone at once"}}) // ends while nobody listens
	if _, err := io.Copy(io.Discard, short); err != nil {
		t.Fatal(err)
	}
	term := r.term(TerminalSpec{ID: "t", Who: who("ana"), Rows: 20, Cols: 70, Args: []string{"sh"}})
	if !term.Info().Recorded || before.Info().Recorded {
		t.Errorf("recorded: %t, and %t what began before", term.Info().Recorded, before.Info().Recorded)
	}
	shown, _ := watch(t, term)
	first, done := &casts{}, make(chan error, 1)
	go func() { done <- collect(ctx, first, "") }()
	r.write(term, "echo o''ne\n")
	eventually(t, "the first", contains(shown, "one"))
	// What is on its way to a listener who leaves is lost, so that has to arrive.
	eventually(t, "all of it is recorded", func() bool { return first.of("t") == shown() })
	cancel()
	<-done
	r.write(term, "echo t''wo\n")
	eventually(t, "the second", contains(shown, "two"))
	if err := term.Resize(33, 77); err != nil {
		t.Fatal(err)
	}
	r.write(term, "exit\n")
	rest := &casts{}
	if err := collect(t.Context(), rest, "t"); !errors.Is(err, errEnough) {
		t.Fatal(err)
	}
	if got := first.of("short"); got != "gone at once\r\n" {
		t.Errorf("the short one is %q", got)
	}
	all := first.of("t") + rest.of("t")
	if !strings.Contains(all, "<77×33>") {
		t.Errorf("the new size is not in %q", all)
	}
	eventually(t, "what is recorded is shown", func() bool { return strings.ReplaceAll(all, "<77×33>", "") == shown() })
	if first.of("before")+rest.of("before") != "" {
		t.Error("what began before it was wanted is recorded")
	}
}

// casts are recordings by shell, read while they grow.
type casts struct {
	mu   sync.Mutex
	text map[string]string
}

func (c *casts) add(shell, text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.text == nil {
		c.text = map[string]string{}
	}
	c.text[shell] += text
}

func (c *casts) of(shell string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.text[shell]
}
