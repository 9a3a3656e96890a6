package acp

import (
	"encoding/json"

	"github.com/samnode/samnode/chat"
)

// stream is a text that grows.
type stream struct {
	id   string
	kind chat.Kind
	key  string // the agent's messageId, "" if it gave none
	n    int64  // bytes so far, what was cut away included
}

// maxStreams texts with a messageId may grow at the same time.
const maxStreams = 4

// update takes a session/update.
func (c *Conversation) update(params json.RawMessage) {
	var p struct {
		Update json.RawMessage `json:"update"`
	}
	var u update
	if json.Unmarshal(params, &p) != nil || json.Unmarshal(p.Update, &u) != nil {
		c.unknown("", params)
		return
	}
	switch u.Kind { // what may come at any time
	case "available_commands_update":
		c.setCommands(u.Commands)
		return
	case "current_mode_update":
		c.session.Mode = line(string(u.ModeID))
		return
	case "config_option_update":
		c.setOptions(u.Options)
		return
	case "session_info_update":
		c.session.Title = first(line(string(u.Title)), c.session.Title)
		return
	case "usage_update":
		c.usage(u)
		return
	case "user_message_chunk": // we said it; it comes in replays only
		return
	}
	if c.loading || c.quiet {
		return // the replay of a load: the chat has it
	}
	c.content(u, p.Update)
}

// content takes an update that shows in the chat.
func (c *Conversation) content(u update, raw json.RawMessage) {
	switch u.Kind {
	case "agent_message_chunk":
		c.text(chat.KindAgent, u)
	case "agent_thought_chunk":
		c.text(chat.KindThought, u)
	case "tool_call", "tool_call_update":
		if u.ToolCallID == "" {
			c.unknown(string(u.Kind), raw)
			return
		}
		c.closeRuns()
		c.tool(u)
	case "plan":
		c.setPlan(u.Entries)
	case "plan_update":
		if len(u.Plan.v.Entries) == 0 {
			c.unknown(string(u.Kind), raw)
			return
		}
		c.setPlan(u.Plan.v.Entries)
	default:
		c.unknown(string(u.Kind), raw)
	}
}

// unknown keeps what we do not know, raw.
func (c *Conversation) unknown(kind string, raw json.RawMessage) {
	it := chat.Item{ID: c.itemID(), Kind: chat.KindRaw, Text: line(kind), Closed: true}
	if text := compact(raw); len(text) <= maxDetail {
		it.Raw = []byte(text)
	} else {
		it.Detail, it.Size = cutMiddle(text, maxDetail)
	}
	c.emit(it)
}

// text adds a chunk to its message: by messageId, else to the run of chunks
// of the same kind that nothing visible interrupted.
func (c *Conversation) text(kind chat.Kind, u update) {
	var b block
	if json.Unmarshal(u.Content, &b) != nil {
		b.Text = str(compact(u.Content))
		b.Type = "text"
	}
	text, size := cutMiddle(b.text(), chat.MaxBody)
	if text == "" {
		return
	}
	s := c.stream(kind, string(u.MessageID))
	if s.n > 0 && (size > 0 || s.n+int64(len(text)) > chat.MaxBody) {
		c.closeText(s) // a very long message goes on in the next item
		s = c.stream(kind, string(u.MessageID))
	}
	c.emit(chat.Item{ID: s.id, Kind: kind, Offset: s.n, Text: text, Size: size})
	if s.n += int64(len(text)); size > 0 {
		s.n = size
		c.closeText(s) // the size says how much there was of this one
	}
}

// stream finds the open text, or opens one.
func (c *Conversation) stream(kind chat.Kind, key string) *stream {
	for _, s := range c.texts {
		if s.kind == kind && s.key == key {
			return s
		}
	}
	c.closeRuns()
	if len(c.texts) == maxStreams {
		c.closeText(c.texts[0])
	}
	s := &stream{id: c.itemID(), kind: kind, key: key}
	c.texts = append(c.texts, s)
	return s
}

// closeRuns closes what ends when something else is shown: thoughts, and
// texts without a messageId.
func (c *Conversation) closeRuns() {
	for _, s := range append([]*stream(nil), c.texts...) {
		if s.key == "" || s.kind == chat.KindThought {
			c.closeText(s)
		}
	}
}

func (c *Conversation) closeTexts() {
	for len(c.texts) > 0 {
		c.closeText(c.texts[0])
	}
}

func (c *Conversation) closeText(s *stream) {
	for i, v := range c.texts {
		if v == s {
			c.texts = append(c.texts[:i:i], c.texts[i+1:]...)
		}
	}
	c.emit(chat.Item{ID: s.id, Kind: s.kind, Offset: s.n, Closed: true})
}

// setPlan shows the plan; one item per turn, updated in place.
func (c *Conversation) setPlan(entries list[planEntry]) {
	c.closeRuns()
	if c.plan == "" {
		c.plan = c.itemID()
	}
	var plan []chat.Plan
	for _, e := range entries {
		if len(plan) < maxList {
			plan = append(plan, chat.Plan{
				Text: line(string(e.Content)), Status: line(string(e.Status)), Priority: line(string(e.Priority)),
			})
		}
	}
	if len(plan) > 0 {
		c.emit(chat.Item{ID: c.plan, Kind: chat.KindPlan, Plan: plan})
	}
}
