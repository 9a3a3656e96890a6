package sshd

import (
	"strings"
	"testing"
	"time"

	"github.com/samnode/samnode/workspace/shim"
)

// Two people in one shell by ssh, one of whom only looks, and who they hear of.
func TestSharedShell(t *testing.T) {
	t.Parallel()
	h, desk := open(t), open(t)
	ana := h.terminal(desk, "ana", 24, 80, "node")
	ana.say("echo re''ady")
	ana.shows("ready")
	if list, err := h.shim.Terminals(t.Context()); err != nil || len(list) != 1 || list[0].Name != "ana's shell" || list[0].Maker.Device != "laptop" {
		t.Fatalf("Terminals = %+v, %v", list, err)
	}
	h.who.Store(&shim.Who{Person: "bob@example.com", Device: "desk", By: "ssh"})
	for n, set := range []string{"SetEnv=SAMNODE_SHELL=ssh-ana-1", `SetEnv=SAMNODE_SHELL="ana's shell"`} {
		bob := h.terminal(desk, "bob"+set, 30, 100, "-o", set, "node")
		bob.shows("[samnode: ana (ssh) is here too]")
		bob.say("echo from-b''ob")
		eventually(t, "ana sees what bob types", func() bool { return strings.Count(ana.out.String(), "from-bob") > n })
		if err := desk.shim.CloseTerminal(t.Context(), "bob"+set); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "bob has left", func() bool {
		list, err := h.shim.Terminals(t.Context())
		return err == nil && len(list) == 1 && list[0].Attached == 1
	})
	eve := h.terminal(desk, "eve", 10, 40, "-o", "SetEnv=SAMNODE_WATCH=ssh-ana-1", "node")
	eve.shows("[samnode: you watch; Ctrl-C leaves]")
	eve.shows("from-bob")
	if _, err := eve.Write([]byte("echo evil\r")); err != nil {
		t.Fatal(err)
	}
	ana.say("stty size; echo wat''ched")
	eve.shows("watched")
	if out := ana.out.String(); strings.Contains(out, "evil") || !strings.Contains(out, "24 80") {
		t.Errorf("who watches changed something: %q", out)
	}
	if _, err := eve.Write([]byte("\x03")); err != nil {
		t.Fatal(err)
	}
	if code := eve.code(); code != 0 {
		t.Errorf("leaving = %d", code)
	}
	none := h.terminal(desk, "none", 24, 80, "-o", "SetEnv=SAMNODE_WATCH=nope", "node")
	none.shows("there is no shell \"nope\"; there are: ana's shell")
	if strings.Contains(ana.out.String(), "samnode:") {
		t.Errorf("a shell in use was written into: %q", ana.out.String())
	}
}

func TestRecordedShellSaysSo(t *testing.T) {
	t.Parallel()
	h, desk := open(t), open(t)
	if err := h.shim.SetRecording(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	h.terminal(desk, "one", 24, 80, "node").shows("[samnode: this shell is recorded]")
	h.terminal(desk, "two", 24, 80, "-t", "node", "sleep 60").shows("[samnode: this shell is recorded]")
}

// Who may not stay is told so, with what they had open.
func TestDismissed(t *testing.T) {
	t.Parallel()
	h, desk := open(t, 50*time.Millisecond), open(t)
	s := h.terminal(desk, "one", 24, 80, "node")
	s.say("echo re''ady")
	s.shows("ready")
	h.throwOut()
	s.shows("samnode: you are a viewer of this project now")
	if code := s.code(); code != 255 {
		t.Errorf("ssh = %d, want 255", code)
	}
	if list, err := h.shim.Terminals(t.Context()); err != nil || len(list) != 1 {
		t.Errorf("the shell did not stay: %+v, %v", list, err)
	}
}

// A connection that does nothing is told of, too.
func TestIdleConnection(t *testing.T) {
	t.Parallel()
	h := open(t)
	c, err := h.connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is told of", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.uses == 1
	})
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is over", func() bool { return len(h.told()) == 1 })
}
