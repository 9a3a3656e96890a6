package acp_test

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/workspace/acp"
	"github.com/samnode/samnode/workspace/agents"
)

// installed is the folder of agents, or the test is skipped.
func installed(t *testing.T, name string) string {
	t.Helper()
	dir := os.Getenv("SAMNODE_AGENTS")
	if dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			t.Skip(err)
		}
		dir = filepath.Join(cache, "samnode", "agents")
	}
	if err := agents.Ready(dir, name); err != nil {
		t.Skip(err)
	}
	return dir
}

// process runs an agent's program with nothing inherited.
func process(t *testing.T, j *journal, s agents.Start, home, cwd string) func(context.Context, io.Reader, io.Writer) error {
	t.Helper()
	for _, f := range s.Files {
		path := filepath.Join(home, f.Path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, f.Data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return func(ctx context.Context, in io.Reader, out io.Writer) error {
		cmd := exec.CommandContext(ctx, s.Argv[0], s.Argv[1:]...)
		cmd.Env, cmd.Dir, cmd.Stdin, cmd.Stdout = s.Env, cwd, in, out
		cmd.Stderr = writerFunc(func(b []byte) (int, error) {
			for l := range strings.Lines(string(b)) {
				j.add(acp.Err, "", strings.TrimSpace(l))
			}
			return len(b), nil
		})
		cmd.WaitDelay = 5 * time.Second
		return cmd.Run()
	}
}

// Each installed agent initializes, opens a session and takes every mode. No
// model is there: a prompt fails with a sentence.
func TestRealAgents(t *testing.T) {
	if testing.Short() {
		t.Skip("starts real agents")
	}
	for _, name := range []string{"claude", "codex", "gemini", "opencode", "qwen"} {
		t.Run(name, func(t *testing.T) {
			dir := installed(t, name)
			a, err := agents.Lookup(name)
			if err != nil {
				t.Fatal(err)
			}
			home, cwd, j := lastingDir(t), t.TempDir(), newJournal()
			s := a.Start(agents.Place{Root: dir, Home: home, Cwd: cwd, Broker: "http://127.0.0.1:1"})
			j.start(t, process(t, j, s, home, cwd))
			n := attach(t, j, acp.Config{Cwd: cwd, Modes: a.Modes, Conversation: acp.ConversationConfig{Workspace: 1, Agent: a.Title}})
			defer func() {
				if t.Failed() {
					n.See(func(c *acp.Conversation) { t.Log(c.Stderr()) })
				}
			}()
			if err := n.Start(t.Context(), ""); err != nil {
				t.Fatal(err)
			}
			session := n.Session()
			t.Logf("session %s, mode %q of %v, %d options, %d commands", session.ID, session.Mode, session.Modes, len(session.Options), len(session.Commands))
			for _, o := range session.Options {
				t.Logf("option %+v", o)
			}
			for _, mode := range []chat.Mode{chat.ModePlan, chat.ModeAcceptEdits, chat.ModeEverything, chat.ModeAsk} {
				if err := n.SetMode(t.Context(), mode); err != nil && (len(a.Modes) > 0 || !errors.Is(err, acp.ErrNoMode)) {
					t.Errorf("SetMode(%s) = %v", mode, err)
				} else if got := n.Session().Mode; len(a.Modes) > 0 && got != a.Modes[mode] {
					t.Errorf("mode is %q, want %q", got, a.Modes[mode])
				}
			}
		})
	}
}

// lastingDir is a home for a real agent, which may write to it for some
// seconds after its process was told to end.
func lastingDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "agent-home-") //nolint:usetesting // the clean-up has to try for a while
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for range 100 {
			if err = os.RemoveAll(dir); err == nil {
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
		t.Errorf("removing the agent's home: %v", err)
	})
	return dir
}
