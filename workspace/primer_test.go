package workspace

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/chat/chattest"
	"github.com/samnode/samnode/workspace/agents"
	"github.com/samnode/samnode/workspace/modeltest"
)

func TestPrimer(t *testing.T) {
	t.Parallel()
	if got := primer([]chat.Message{{Kind: chat.KindStatus, Text: "Workspace 2 starts."}, {Kind: chat.KindUser}}); got != "" {
		t.Errorf("nothing was said, but: %q", got)
	}
	said := []chat.Message{
		{Kind: chat.KindUser, Text: "Build it"},
		{Kind: chat.KindThought, Text: "hm"},
		{Kind: chat.KindAgent, Text: " I built it \n"},
		{Kind: chat.KindUser, Text: "Test it"},
	}
	if got := primer(said); !strings.Contains(got, "<earlier>\nThe user: Build it\n\nYou: I built it\n\nThe user: Test it\n\n</earlier>\n\nNow the user says:\n\n") || strings.Contains(got, "hm") {
		t.Errorf("primer = %q", got)
	}
	said[0].Text = strings.Repeat("ü", 1<<20)
	for range 100 {
		said = append(said, chat.Message{Kind: chat.KindAgent, Text: strings.Repeat("é", 1000)})
	}
	got := primer(said)
	if len(got) > primerTotal+1000 || !utf8.ValidString(got) || !strings.Contains(got, "left out.)\n\nYou: é") {
		t.Errorf("a long primer has %d bytes, valid %v", len(got), utf8.ValidString(got))
	}
	if got := middle(said[0].Text, primerEach); len(got) > primerEach || !utf8.ValidString(got) || !strings.Contains(got, "[…]") {
		t.Errorf("a long text keeps %d bytes", len(got))
	}
}

// claude changes a node's configuration so that the real agent talks to a
// scripted model; the test is skipped where the agent is not installed.
func claude(t *testing.T) (*modeltest.Server, func(*Config)) {
	t.Helper()
	dir := os.Getenv("SAMNODE_AGENTS")
	if cache, err := os.UserCacheDir(); dir == "" && err == nil {
		dir = filepath.Join(cache, "samnode", "agents")
	}
	if err := agents.Ready(dir, "claude"); err != nil {
		t.Skipf("SKIPPED: %v (scripts/setup installs it)", err)
	}
	api := modeltest.New(t)
	return api, func(c *Config) {
		c.Agents, c.Upstream = dir, map[string]string{"anthropic": api.URL}
		c.Secret = func(_ context.Context, _ chat.ProjectID, name string) (string, error) {
			if name == "ANTHROPIC_API_KEY" {
				return "key", nil
			}
			return "", chat.ErrNotFound
		}
	}
}

// claudeTask makes a task for it.
func (m *mesh) claudeTask(text string) chat.TaskID {
	m.t.Helper()
	id := chat.TaskID(chat.NewID())
	m.kit.Must(m.t, chattest.Ana, chat.Op{TaskCreate: &chat.TaskCreate{ID: id, Project: "app", Agent: "claude", Message: chat.NewID(), Text: text}})
	return id
}

// TestAgentOfAnotherNode: a task of an agent with a model goes to another node.
// Its session is not there, so the new one is told what was said, once.
func TestAgentOfAnotherNode(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	api, change := claude(t)
	a, b := m.memberWith("a", change), m.memberWith("b", change)
	id := m.claudeTask(`SCENARIO=edit FILE=one.txt TEXT="by the first"`)
	token := m.place(id, a.name)
	m.idle(id)
	a.lose()
	m.kit.Must(t, chattest.Node, chat.Op{Expire: &chat.Expire{Task: id, Token: token}})
	a.gone()

	seen := len(api.Steps())
	m.kit.Must(t, chattest.Ana, chat.Op{Say: &chat.Say{Task: id, Message: chat.NewID(), Text: "Go on. SCENARIO=hello"}})
	m.place(id, b.name)
	task := m.until(id, "done with turn 2", func(t chat.Task) bool { return t.State == chat.Idle && t.Turns == 2 })
	steps := api.Steps()[seen:]
	if len(steps) == 0 {
		t.Fatal("the model was not asked")
	}
	for _, part := range []string{"whose memory is lost", "The user: SCENARIO=edit FILE=one.txt", "Now the user says:", "Go on. SCENARIO=hello"} {
		if n := bytes.Count(steps[0].Body, []byte(part)); n != 1 {
			t.Errorf("%q is %d times in what the model is asked", part, n)
		}
	}
	for _, msg := range m.kit.Messages.All(id) {
		if strings.Contains(msg.Text, "memory is lost") {
			t.Errorf("the chat shows %+v", msg)
		}
	}
	m.kit.Must(t, chattest.Ana, chat.Op{Say: &chat.Say{Task: id, Message: chat.NewID(), Text: "And on. SCENARIO=hello"}})
	m.until(id, "done with turn 3", func(t chat.Task) bool { return t.State == chat.Idle && t.Turns == 3 })
	if last := api.Steps()[len(api.Steps())-1].Body; bytes.Count(last, []byte("whose memory is lost")) != 1 {
		t.Error("the third turn tells it again, or its session lost the second")
	}
	if task.Workspace != 2 || task.Change.Files != 1 {
		t.Errorf("the task = %+v", task)
	}
}
