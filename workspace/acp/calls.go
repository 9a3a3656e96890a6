package acp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	acp "github.com/coder/acp-go-sdk"

	"github.com/samnode/samnode/chat"
)

// Start makes the agent ready for prompts: initialize, then its session. With
// earlier it takes that session up again, by session/resume or else by
// session/load with the replay left out. The process must run, and Start must
// be called again after each start of it. The session's id is in Session.
func (d *Driver) Start(ctx context.Context, earlier string) error {
	d.Live()
	run, err := d.running(ctx)
	if err != nil {
		return err
	}
	result, err := d.call(ctx, InitializeTimeout, initID(run), acp.AgentMethodInitialize, initialize())
	if err != nil {
		return err
	}
	var caps capabilities
	_ = json.Unmarshal(result, &caps) // what cannot be read is not offered
	if caps.Version > acp.ProtocolVersionNumber {
		return &FailureError{chat.Failure{Reason: fmt.Sprintf("%s speaks version %d of the agent protocol; this samnode speaks 1.", d.conv.c.Agent, int(caps.Version))}}
	}
	return d.startSession(ctx, run, earlier, caps)
}

// Await blocks until the journal shows the process of that run, or a later
// one. Call it between starting a process and Start when the one before it may
// have ended without a note: then Start would take the old one for alive.
func (d *Driver) Await(ctx context.Context, run int) error {
	return d.wait(ctx, func(c *Conversation) (bool, error) { return c.run >= run, nil })
}

// running waits until the journal shows a process.
func (d *Driver) running(ctx context.Context) (run int, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, InitializeTimeout, ErrDead)
	defer cancel()
	err = d.wait(ctx, func(c *Conversation) (bool, error) {
		run = c.run
		return c.run > 0 && c.alive, nil
	})
	return run, err
}

// initialize is our side of the handshake. We serve neither files nor
// terminals: an agent works in its workspace, not on the node.
func initialize() acp.InitializeRequest {
	return acp.InitializeRequest{
		ProtocolVersion: acp.ProtocolVersionNumber,
		ClientInfo:      &acp.Implementation{Name: "samnode", Version: "1"},
		ClientCapabilities: acp.ClientCapabilities{
			Elicitation: &acp.ElicitationCapabilities{Form: &acp.ElicitationFormCapabilities{}},
			// Output of commands as text instead of a fence, in parts where the agent can.
			Meta: map[string]any{"terminal_output": true, "terminal_output_delta": true},
		},
	}
}

// capabilities are the agent's, as far as they matter here.
type capabilities struct {
	Version num `json:"protocolVersion"`
	Agent   maybe[struct {
		Load    bool `json:"loadSession"`
		Session maybe[struct {
			Resume maybe[struct{}] `json:"resume"`
		}] `json:"sessionCapabilities"`
	}] `json:"agentCapabilities"`
}

func (d *Driver) startSession(ctx context.Context, run int, earlier string, caps capabilities) error {
	servers := d.servers()
	id := sessionID(run)
	if earlier != "" {
		var err error
		switch {
		case caps.Agent.v.Session.v.Resume.ok:
			_, err = d.call(ctx, SessionTimeout, id, acp.AgentMethodSessionResume,
				acp.ResumeSessionRequest{SessionId: acp.SessionId(earlier), Cwd: d.c.Cwd, McpServers: servers})
		case caps.Agent.v.Load:
			_, err = d.call(ctx, SessionTimeout, id, acp.AgentMethodSessionLoad,
				acp.LoadSessionRequest{SessionId: acp.SessionId(earlier), Cwd: d.c.Cwd, McpServers: servers})
		default:
			err = &FailureError{chat.Failure{Reason: d.conv.c.Agent + " cannot take up an earlier session."}}
		}
		var failed *FailureError
		if err == nil || !errors.As(err, &failed) || d.c.NeedResume {
			return err
		}
		if _, alive := d.run(); !alive {
			return err
		}
		d.c.Log.Warn("the agent's session begins anew", "session", earlier, "err", err)
		id = freshSessionID(run)
	}
	_, err := d.call(ctx, SessionTimeout, id, acp.AgentMethodSessionNew, acp.NewSessionRequest{Cwd: d.c.Cwd, McpServers: servers})
	if err != nil {
		return err
	}
	if d.Session().ID == "" {
		return &FailureError{chat.Failure{Reason: d.conv.c.Agent + " gave its session no id."}}
	}
	return nil
}

// servers are the MCP servers as the protocol has them; never nil.
func (d *Driver) servers() []acp.McpServer {
	servers := []acp.McpServer{}
	for _, s := range d.c.Servers {
		headers := []acp.HttpHeader{}
		for _, name := range slices.Sorted(maps.Keys(s.Headers)) {
			headers = append(headers, acp.HttpHeader{Name: name, Value: s.Headers[name]})
		}
		servers = append(servers, acp.McpServer{Http: &acp.McpServerHttpInline{Name: s.Name, Url: s.URL, Headers: headers}})
	}
	return servers
}

func (d *Driver) run() (run int, alive bool) {
	d.See(func(c *Conversation) { run, alive = c.Run() })
	return run, alive
}

// SetMode puts the session into the agent's mode for that permission mode. It
// does nothing when the agent is in it, and returns ErrNoMode when the agent
// has none such; the caller says so in the chat.
func (d *Driver) SetMode(ctx context.Context, mode chat.Mode) error {
	want, s := d.c.Modes[mode], d.Session()
	switch {
	case want == "":
		return fmt.Errorf("%w: %s", ErrNoMode, mode)
	case s.Mode == want:
		return nil
	case slices.Contains(s.Modes, want):
		return d.set(ctx, acp.AgentMethodSessionSetMode, acp.SetSessionModeRequest{SessionId: acp.SessionId(s.ID), ModeId: acp.SessionModeId(want)})
	default:
		return d.SetOption(ctx, "mode", want)
	}
}

// SetOption sets the session's option of that category (mode, model,
// thought_level) to one of its values; ErrNoMode when there is none such.
func (d *Driver) SetOption(ctx context.Context, category, value string) error {
	s := d.Session()
	i := slices.IndexFunc(s.Options, func(o Option) bool {
		return (o.Category == category || o.ID == category) && slices.Contains(o.Values, value)
	})
	if i < 0 {
		return fmt.Errorf("%w: %s %q", ErrNoMode, category, value)
	}
	if s.Options[i].Current == value {
		return nil
	}
	return d.set(ctx, acp.AgentMethodSessionSetConfigOption, acp.SetSessionConfigOptionRequest{
		ValueId: &acp.SetSessionConfigOptionValueId{
			SessionId: acp.SessionId(s.ID), ConfigId: acp.SessionConfigId(s.Options[i].ID), Value: acp.SessionConfigValueId(value),
		},
	})
}

// set makes the next change of a setting, one at a time: its number in the
// journal is its id.
func (d *Driver) set(ctx context.Context, method string, params any) error {
	d.setting.Lock()
	defer d.setting.Unlock()
	var id string
	d.See(func(c *Conversation) { id = settingID(c.run, c.sets+1) })
	_, err := d.call(ctx, SettingTimeout, id, method, params)
	return err
}

// Prompt hands the agent a turn's text. It returns when the line was read back
// from the journal; Wait waits for the turn's end. A turn that the journal has already
// is not sent again, whatever became of it.
func (d *Driver) Prompt(ctx context.Context, turn chat.TurnID, text string) error {
	var known, alive bool
	d.See(func(c *Conversation) { known, alive = c.turn(turn) != nil, c.alive })
	if known {
		return nil
	}
	if !alive {
		return ErrDead
	}
	id := promptID(string(turn))
	line, err := requestLine(id, acp.AgentMethodSessionPrompt, acp.PromptRequest{
		SessionId: acp.SessionId(d.Session().ID), Prompt: []acp.ContentBlock{acp.TextBlock(text)},
	})
	if err != nil {
		return err
	}
	if err := d.send(ctx, id, line); err != nil {
		return err
	}
	return d.wait(ctx, func(c *Conversation) (bool, error) { return c.turn(turn) != nil, nil })
}

// Wait blocks until the turn is no longer open and returns it. A turn whose
// delivery is unknown comes with ErrUnknown.
func (d *Driver) Wait(ctx context.Context, id chat.TurnID) (Turn, error) {
	var t Turn
	err := d.wait(ctx, func(c *Conversation) (bool, error) {
		var ok bool
		t, ok = c.TurnOf(id)
		return ok && !t.Open(), nil
	})
	if err == nil && t.Delivery == chat.Unknown {
		err = ErrUnknown
	}
	return t, err
}

// Cancel asks the agent to stop the turn, answers its open requests as
// cancelled, and waits for its end. ErrSilent means that it went on for
// CancelTimeout: the runner then kills the process, which ends the turn as
// cancelled, too.
func (d *Driver) Cancel(ctx context.Context, turn chat.TurnID) error {
	t, ok := Turn{}, false
	d.See(func(c *Conversation) { t, ok = c.TurnOf(turn) })
	if !ok {
		return ErrNoTurn
	}
	if !t.Open() {
		return nil
	}
	line, err := requestLine("", acp.AgentMethodSessionCancel, acp.CancelNotification{SessionId: acp.SessionId(d.Session().ID)})
	if err != nil {
		return err
	}
	if err := d.send(ctx, cancelID(string(turn)), line); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, CancelTimeout, ErrSilent)
	defer cancel()
	_, err = d.Wait(ctx, turn)
	return err
}

// Answer hands a person's answer to the agent. ErrNotOpen means that the agent
// does not wait for it (any more, or it has it).
func (d *Driver) Answer(ctx context.Context, ask string, a chat.Answer) error {
	var line []byte
	var err error
	d.See(func(c *Conversation) { line, err = c.answer(ask, a) })
	if err != nil {
		return err
	}
	return d.send(ctx, answerID(ask), line)
}
