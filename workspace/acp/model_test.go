package acp_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/workspace/acp"
	"github.com/samnode/samnode/workspace/agents"
	"github.com/samnode/samnode/workspace/modeltest"
)

// real drives an installed agent on the scripted model API.
type real struct {
	*node
	j    *journal
	exit func(string)
	cwd  string
	main func() // starts the next process
}

// noRetry says of a refused key that trying again is of no use, as the vendor
// does. Without it Claude Code tries for three minutes.
type noRetry struct{ http.Handler }

func (h noRetry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Should-Retry", "false")
	h.Handler.ServeHTTP(w, r)
}

func startReal(t *testing.T, name string, mode chat.Mode) *real {
	t.Helper()
	if testing.Short() {
		t.Skip("starts real agents")
	}
	dir := installed(t, name)
	a, err := agents.Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	api := httptest.NewServer(noRetry{modeltest.Handler(modeltest.Options{Key: agents.Key})})
	t.Cleanup(func() { api.CloseClientConnections(); api.Close() })
	home, cwd := lastingDir(t), t.TempDir()
	if out, err := exec.CommandContext(t.Context(), "git", "init", "-q", cwd).CombinedOutput(); err != nil {
		t.Fatalf("git init: %s", out)
	}
	r := &real{j: newJournal(), cwd: cwd}
	s := a.Start(agents.Place{Root: dir, Home: home, Cwd: cwd, Broker: api.URL, Mode: mode})
	r.main = func() { r.exit = r.j.start(t, process(t, r.j, s, home, cwd)) }
	r.main()
	r.node = attach(t, r.j, acp.Config{Cwd: cwd, Modes: a.Modes, Conversation: acp.ConversationConfig{Workspace: 1, Agent: a.Title, Secret: a.Secrets[0]}})
	t.Cleanup(func() {
		if t.Failed() {
			for _, rec := range r.j.all() {
				if len(rec.Data) < 3000 {
					t.Logf("%d %s %s %s", rec.Seq, rec.Dir, rec.ID, rec.Data)
				}
			}
		}
	})
	if err := r.Start(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	if err := r.SetMode(t.Context(), mode); err != nil {
		t.Fatal(err)
	}
	return r
}

// allow answers every permission request until the turn ends.
func (r *real) allow(t *testing.T, turn chat.TurnID) acp.Turn {
	t.Helper()
	answered := map[string]bool{}
	for {
		var ask chat.Ask
		var done bool
		r.until(t, "an ask or the end", func(c *acp.Conversation) bool {
			got, ok := c.TurnOf(turn)
			done = ok && !got.Open()
			for _, a := range c.Asks() {
				if !answered[a.ID] {
					ask = a
					return true
				}
			}
			return done
		})
		if done {
			got, err := r.Wait(t.Context(), turn)
			if err != nil {
				t.Fatal(err)
			}
			return got
		}
		answered[ask.ID] = true
		for _, o := range ask.Options {
			if o.Kind == "allow_once" || ask.Kind == chat.AskQuestion && o.ID == "accept" {
				values := map[string]string{}
				for _, f := range ask.Fields {
					if len(f.Choices) > 0 {
						values[f.Name] = f.Choices[0]
					}
				}
				t.Logf("ask %q (%q): %s %v", ask.Title, ask.Detail, o.ID, values)
				if err := r.Answer(t.Context(), ask.ID, chat.Answer{Option: o.ID, Values: values}); err != nil && !errors.Is(err, acp.ErrNotOpen) {
					t.Fatal(err)
				}
				break
			}
		}
	}
}

func TestRealAgentsWork(t *testing.T) {
	for _, name := range []string{"claude", "codex"} {
		t.Run(name, func(t *testing.T) {
			r := startReal(t, name, chat.ModeEverything)
			prompt(t, r.node, "t1", "SCENARIO=edit FILE=a.txt")
			turn := r.allow(t, "t1")
			if _, err := os.Stat(filepath.Join(r.cwd, "a.txt")); err != nil || turn.Stop != "end_turn" {
				t.Errorf("turn %+v, %v", turn, err)
			}
			prompt(t, r.node, "t2", `SCENARIO=bash CMD="echo out; echo err >&2; seq 3"`)
			if turn := r.allow(t, "t2"); turn.Stop != "end_turn" {
				t.Errorf("turn %+v", turn)
			}
			b := r.board(t)
			var output string
			for _, m := range b.of(chat.KindTool) {
				t.Logf("tool %s %q %s %q %v diffs %d", m.Tool.Kind, m.Tool.Title, m.Tool.Status, m.Tool.Output, m.Tool.Exit, len(m.Tool.Diffs))
				output += m.Tool.Output
				if m.Tool.Status != "completed" {
					t.Errorf("tool %+v", m.Tool)
				}
			}
			if !strings.Contains(output, "out\n") || !strings.Contains(output, "3") {
				t.Errorf("output %q", output)
			}
			if len(b.of(chat.KindAgent)) == 0 || len(b.of(chat.KindRaw)) > 0 {
				t.Errorf("chat:\n%s", b)
			}
			t.Logf("usage %+v", b.usage)

			// The process dies between turns; the next one takes the session up.
			session := r.Session().ID
			r.exit(`{"event":"exited","code":-1,"signal":"killed"}`)
			r.main()
			if err := r.Await(t.Context(), 2); err != nil {
				t.Fatal(err)
			}
			if err := r.Start(t.Context(), session); err != nil {
				t.Fatal(err)
			}
			if s := r.Session(); s.ID != session || s.Fresh {
				t.Errorf("session %+v, want %s", s, session)
			}
			before := len(r.board(t).order)
			prompt(t, r.node, "t3", "SCENARIO=hello")
			if turn := r.allow(t, "t3"); turn.Stop != "end_turn" {
				t.Errorf("turn %+v", turn)
			}
			if after := len(r.board(t).order); after == before || after > before+3 {
				t.Errorf("%d items after the resume, %d before", after, before)
			}
		})
	}
}

func TestRealAgentsAskAndStop(t *testing.T) {
	for _, name := range []string{"claude", "codex"} {
		t.Run(name, func(t *testing.T) {
			r := startReal(t, name, chat.ModeAsk)
			if name == "claude" {
				prompt(t, r.node, "t1", `SCENARIO=bash CMD="touch made"`)
				if turn := r.allow(t, "t1"); turn.Stop != "end_turn" {
					t.Errorf("turn %+v", turn)
				}
				if asks := r.board(t).of(chat.KindAsk); len(asks) != 1 || asks[0].Ask.Detail != "touch made" || asks[0].Ask.Closed != "Answered." {
					t.Errorf("asks %+v", asks)
				}
				prompt(t, r.node, "t2", "SCENARIO=ask")
				if turn := r.allow(t, "t2"); turn.Stop != "end_turn" {
					t.Errorf("turn %+v", turn)
				}
			}
			prompt(t, r.node, "t4", "SCENARIO=slow N=2000 DELAY=50")
			r.until(t, "its words", func(c *acp.Conversation) bool {
				turn, _ := c.Turn()
				return turn.ID == "t4" && c.Seq() > turn.Seq+8
			})
			if err := r.Cancel(t.Context(), "t4"); err != nil {
				t.Fatal(err)
			}
			if turn, _ := r.Turn(); turn.Stop != "cancelled" {
				t.Errorf("turn %+v", turn)
			}
			prompt(t, r.node, "t5", "SCENARIO=badkey")
			turn, err := r.Wait(t.Context(), "t5")
			t.Logf("bad key: %+v %v", turn, err)
			if turn.Failure == nil && len(r.board(t).of(chat.KindAgent)) == 0 {
				t.Errorf("a bad key is not told: %+v", turn)
			} else if turn.Failure != nil {
				t.Logf("%+v", *turn.Failure)
			}
			for _, m := range r.board(t).of(chat.KindAgent) {
				t.Logf("said %.200q", m.Text)
			}
		})
	}
}
