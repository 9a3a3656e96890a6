package scriptagent

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// The modes of a session.
const (
	modePlan       = "plan"       // shows what it would run
	modeAsk        = "ask"        // asks before each block
	modeEverything = "everything" // runs
)

// session is one conversation. The server's lock guards what moves.
type session struct {
	saved
	cancel context.CancelCauseFunc // of the running prompt; nil: idle
}

// saved is a session on disk.
type saved struct {
	ID    string `json:"id"`
	Cwd   string `json:"cwd"`
	Mode  string `json:"mode"`
	Turns []turn `json:"turns"`
}

// turn is one prompt and what became of its blocks.
type turn struct {
	Prompt string `json:"prompt"`
	Runs   []run  `json:"runs,omitempty"`
	Said   string `json:"said,omitempty"`
}

// run is one block that was run.
type run struct {
	Call   string `json:"call"`
	Code   string `json:"code"`
	Output string `json:"output"` // its end
	Exit   int    `json:"exit"`
}

func (s *server) initialize(params json.RawMessage) (any, error) {
	var p struct {
		Client struct {
			Meta        map[string]any `json:"_meta"`
			Elicitation *struct {
				Form *struct{} `json:"form"`
			} `json:"elicitation"`
		} `json:"clientCapabilities"`
	}
	if err := json.Unmarshal(params, &p); err != nil {
		return nil, &rpcError{codeInvalid, err.Error()}
	}
	s.mu.Lock()
	s.live = p.Client.Meta["terminal_output_delta"] == true
	s.forms = p.Client.Elicitation != nil && p.Client.Elicitation.Form != nil
	s.mu.Unlock()
	return map[string]any{
		"protocolVersion": 1,
		"agentInfo":       map[string]any{"name": "samnode-script", "title": "Script", "version": "1"},
		"authMethods":     []any{},
		"agentCapabilities": map[string]any{
			"loadSession":         true,
			"sessionCapabilities": map[string]any{"resume": map[string]any{}},
		},
	}, nil
}

func (s *server) newSession(params json.RawMessage) (any, error) {
	var p saved
	if err := json.Unmarshal(params, &p); err != nil {
		return nil, &rpcError{codeInvalid, err.Error()}
	}
	if err := checkDir(p.Cwd); err != nil {
		return nil, err
	}
	v := &session{saved: saved{ID: "script-" + strings.ToLower(rand.Text()), Cwd: p.Cwd, Mode: modeAsk}}
	if err := s.store.save(v.saved); err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.sessions[v.ID] = v
	s.mu.Unlock()
	return map[string]any{"sessionId": v.ID, "modes": modes(v.Mode)}, nil
}

func checkDir(dir string) error {
	info, err := os.Stat(dir)
	if err != nil || !info.IsDir() || !filepath.IsAbs(dir) {
		return &rpcError{codeInvalid, fmt.Sprintf("cwd %q is not a folder", dir)}
	}
	return nil
}

// openSession takes up a session, with its history told again or not.
func (s *server) openSession(params json.RawMessage, replay bool) (any, error) {
	var p struct {
		ID  string `json:"sessionId"`
		Cwd string `json:"cwd"`
	}
	if err := json.Unmarshal(params, &p); err != nil {
		return nil, &rpcError{codeInvalid, err.Error()}
	}
	old, err := s.store.load(p.ID)
	if err != nil {
		return nil, err
	}
	if p.Cwd != "" {
		old.Cwd = p.Cwd
	}
	if err := checkDir(old.Cwd); err != nil {
		return nil, err
	}
	s.mu.Lock()
	if s.sessions[p.ID] == nil {
		s.sessions[p.ID] = &session{saved: old}
	}
	s.mu.Unlock()
	if replay {
		s.replay(old)
	}
	return map[string]any{"modes": modes(old.Mode)}, nil
}

func (s *server) replay(old saved) {
	for _, t := range old.Turns {
		s.say(old.ID, "user_message_chunk", t.Prompt)
		for _, r := range t.Runs {
			status := "completed"
			if r.Exit != 0 {
				status = "failed"
			}
			s.update(old.ID, map[string]any{
				"sessionUpdate": "tool_call", "toolCallId": r.Call, "title": title(r.Code), "kind": "execute",
				"status": status, "content": textContent(r.Output),
			})
		}
		if t.Said != "" {
			s.say(old.ID, "agent_message_chunk", t.Said)
		}
	}
}

func (s *server) setMode(params json.RawMessage) (any, error) {
	var p struct {
		ID   string `json:"sessionId"`
		Mode string `json:"modeId"`
	}
	if err := json.Unmarshal(params, &p); err != nil {
		return nil, &rpcError{codeInvalid, err.Error()}
	}
	if p.Mode != modePlan && p.Mode != modeAsk && p.Mode != modeEverything {
		return nil, &rpcError{codeInvalid, "there is no mode " + p.Mode}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.sessions[p.ID]
	if v == nil {
		return nil, noSession(p.ID)
	}
	v.Mode = p.Mode
	return map[string]any{}, s.store.save(v.saved)
}

func (s *server) cancel(params json.RawMessage) {
	var p struct {
		ID string `json:"sessionId"`
	}
	if json.Unmarshal(params, &p) != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if v := s.sessions[p.ID]; v != nil && v.cancel != nil {
		v.cancel(errCancelled)
	}
}

var errCancelled = errors.New("cancelled")

func noSession(id string) error {
	return &rpcError{codeMissing, fmt.Sprintf("there is no session %q", id)}
}

func modes(current string) map[string]any {
	mode := func(id, name, description string) map[string]string {
		return map[string]string{"id": id, "name": name, "description": description}
	}
	return map[string]any{"currentModeId": current, "availableModes": []any{
		mode(modePlan, "Plan", "Shows the blocks, runs nothing"),
		mode(modeAsk, "Ask", "Asks before each block"),
		mode(modeEverything, "Everything", "Runs all blocks"),
	}}
}

// store keeps sessions in files.
type store struct{ dir string }

var idPattern = regexp.MustCompile(`^script-[a-z0-9]{10,40}$`)

func (s store) load(id string) (saved, error) {
	var v saved
	if !idPattern.MatchString(id) {
		return v, noSession(id)
	}
	b, err := os.ReadFile(filepath.Join(s.dir, id+".json"))
	if errors.Is(err, fs.ErrNotExist) {
		return v, noSession(id)
	}
	if err != nil {
		return v, fmt.Errorf("reading the session: %w", err)
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return v, fmt.Errorf("reading the session: %w", err)
	}
	return v, nil
}

// save replaces the session's file whole.
func (s store) save(v saved) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encoding the session: %w", err)
	}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return fmt.Errorf("saving the session: %w", err)
	}
	path := filepath.Join(s.dir, v.ID+".json")
	if err := os.WriteFile(path+".new", b, 0o600); err != nil {
		return fmt.Errorf("saving the session: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("saving the session: %w", err)
	}
	return nil
}
