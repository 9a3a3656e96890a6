package scriptagent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// job is the work of one prompt.
type job struct {
	s       *server
	v       *session
	ctx     context.Context
	number  int // of the turn, from 0
	blocks  []block
	done    int // blocks that are through
	allowed bool
	env     []string // of later blocks: answers
	turn    turn
}

// prompt begins a prompt. It is ready to be cancelled when prompt returns; its
// run answers the request.
func (s *server) prompt(m incoming) {
	j, err := s.begin(m.Params)
	if err != nil {
		s.respond(m, func(json.RawMessage) (any, error) { return nil, err })
		return
	}
	s.prompts.Go(func() {
		result := j.run()
		err := j.close()
		if s.ctx.Err() != nil {
			return // ended with the agent: nobody knows how far it would have come
		}
		s.respond(m, func(json.RawMessage) (any, error) { return result, err })
	})
}

func (s *server) begin(params json.RawMessage) (*job, error) {
	var p struct {
		ID     string `json:"sessionId"`
		Prompt []struct {
			Type string `json:"type"`
			Text string `json:"text"`
		} `json:"prompt"`
	}
	if err := json.Unmarshal(params, &p); err != nil {
		return nil, &rpcError{codeInvalid, err.Error()}
	}
	var text []string
	for _, b := range p.Prompt {
		if b.Type == "text" {
			text = append(text, b.Text)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.sessions[p.ID]
	if v == nil {
		return nil, noSession(p.ID)
	}
	if v.cancel != nil {
		return nil, &rpcError{codeInvalid, "a prompt is running"}
	}
	j := &job{s: s, v: v, number: len(v.Turns), turn: turn{Prompt: strings.Join(text, "\n")}}
	j.ctx, v.cancel = context.WithCancelCause(s.ctx)
	j.blocks = parse(j.turn.Prompt)
	return j, nil
}

// close ends the job and saves its session.
func (j *job) close() error {
	j.s.mu.Lock()
	defer j.s.mu.Unlock()
	j.v.cancel(nil)
	j.v.cancel = nil
	j.v.Turns = append(j.v.Turns, j.turn)
	return j.s.store.save(j.v.saved)
}

// run is the turn; it returns the response.
func (j *job) run() map[string]any {
	stop := "end_turn"
	switch {
	case len(j.blocks) == 0:
		j.say(help)
	case j.mode() == modePlan:
		j.plan()
		j.say(fmt.Sprintf("I would run %s. In plan mode nothing runs; choose another mode and send it again.", blocksText(len(j.blocks))))
	default:
		stop = j.runAll()
	}
	return map[string]any{
		"stopReason": stop,
		"usage":      map[string]any{"inputTokens": 0, "outputTokens": 0, "totalTokens": 0},
	}
}

func (j *job) runAll() string {
	j.plan()
	for i, b := range j.blocks {
		j.done = i
		if i > 0 {
			j.plan()
		}
		said, err := j.step(i, b)
		switch {
		case j.ctx.Err() != nil || errors.Is(err, errCancelled):
			return "cancelled"
		case err != nil:
			j.say("I could not go on: " + err.Error())
			return "end_turn"
		case said != "":
			if rest := len(j.blocks) - i - 1; rest > 0 {
				said += fmt.Sprintf(" %s after it did not run.", capital(blocksText(rest)))
			}
			j.say(said)
			return "end_turn"
		}
	}
	j.done = len(j.blocks)
	j.plan()
	j.say(fmt.Sprintf("Done: %s ran.", blocksText(len(j.blocks))))
	return "end_turn"
}

// step does one block. It returns a sentence when the turn ends with it.
func (j *job) step(i int, b block) (string, error) {
	if b.verb == "question" {
		return "", j.question(b)
	}
	call := callID(j.number, i)
	j.s.update(j.v.ID, map[string]any{
		"sessionUpdate": "tool_call", "toolCallId": call, "title": title(b.code), "kind": "execute", "status": "pending",
		"rawInput": map[string]any{"command": b.code, "shell": b.shell},
	})
	if j.mode() == modeAsk && !j.allowed {
		ok, err := j.permission(call, b)
		if err != nil || !ok {
			j.update(call, map[string]any{"status": "failed"})
		}
		if err != nil {
			return "", err
		}
		if !ok {
			return fmt.Sprintf("Block %d was not allowed to run.", i+1), nil
		}
	}
	code, err := j.execute(call, b)
	if err != nil {
		return "", err
	}
	if code != 0 {
		return fmt.Sprintf("Block %d failed with exit code %d.", i+1, code), nil
	}
	return "", nil
}

// permission asks the person. An answer that is not among ours is a no.
func (j *job) permission(call string, b block) (bool, error) {
	option := func(id, name, kind string) map[string]string {
		return map[string]string{"optionId": id, "name": name, "kind": kind}
	}
	raw, err := j.s.request(j.ctx, "session/request_permission", map[string]any{
		"sessionId": j.v.ID,
		"toolCall": map[string]any{
			"toolCallId": call, "title": title(b.code), "kind": "execute", "status": "pending",
			"rawInput": map[string]any{"command": b.code, "shell": b.shell},
		},
		"options": []any{
			option("run", "Run", "allow_once"),
			option("run_all", "Run this and the rest", "allow_always"),
			option("skip", "Do not run", "reject_once"),
		},
	})
	if err != nil {
		return false, err
	}
	var p struct {
		Outcome struct {
			Outcome string `json:"outcome"`
			Option  string `json:"optionId"`
		} `json:"outcome"`
	}
	if err := json.Unmarshal(raw, &p); err != nil {
		return false, fmt.Errorf("reading the answer: %w", err)
	}
	if p.Outcome.Outcome == "cancelled" {
		return false, errCancelled
	}
	j.allowed = p.Outcome.Option == "run_all"
	return j.allowed || p.Outcome.Option == "run", nil
}

// question asks the person and hands the answer to the blocks after it, in
// SAMNODE_ANSWER.
func (j *job) question(b block) error {
	text, choices := question(b.code)
	j.s.mu.Lock()
	forms := j.s.forms
	j.s.mu.Unlock()
	if !forms {
		j.say("I have a question, but nobody can be asked here: " + text)
		return nil
	}
	field := map[string]any{"type": "string", "title": "Answer"}
	if len(choices) > 0 {
		field["enum"] = choices
	}
	raw, err := j.s.request(j.ctx, "elicitation/create", map[string]any{
		"sessionId": j.v.ID, "mode": "form", "message": text,
		"requestedSchema": map[string]any{
			"type": "object", "properties": map[string]any{"answer": field}, "required": []string{"answer"},
		},
	})
	if err != nil {
		return err
	}
	var p struct {
		Action  string         `json:"action"`
		Content map[string]any `json:"content"`
	}
	if err := json.Unmarshal(raw, &p); err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	switch p.Action {
	case "accept":
		answer := fmt.Sprint(p.Content["answer"])
		j.env = append(j.env, "SAMNODE_ANSWER="+answer)
		j.say("The answer is: " + answer)
	case "cancel":
		return errCancelled
	default:
		j.say("The question was skipped.")
	}
	return nil
}

func (j *job) mode() string {
	j.s.mu.Lock()
	defer j.s.mu.Unlock()
	return j.v.Mode
}

func (j *job) say(text string) {
	if j.turn.Said != "" {
		j.turn.Said += "\n\n"
	}
	j.turn.Said += text
	j.s.say(j.v.ID, "agent_message_chunk", text)
}

func (j *job) update(call string, fields map[string]any) {
	fields["sessionUpdate"], fields["toolCallId"] = "tool_call_update", call
	j.s.update(j.v.ID, fields)
}

// plan tells how far the blocks are.
func (j *job) plan() {
	entries := []any{}
	for i, b := range j.blocks {
		status := "pending"
		switch {
		case i < j.done:
			status = "completed"
		case i == j.done && j.mode() != modePlan:
			status = "in_progress"
		}
		entries = append(entries, map[string]string{"content": title(b.code), "status": status, "priority": "medium"})
	}
	j.s.update(j.v.ID, map[string]any{"sessionUpdate": "plan", "entries": entries})
}

func callID(turn, block int) string { return fmt.Sprintf("run-%d-%d", turn+1, block+1) }

func blocksText(n int) string {
	if n == 1 {
		return "one block"
	}
	return fmt.Sprintf("%d blocks", n)
}

func capital(s string) string { return strings.ToUpper(s[:1]) + s[1:] }
