package acp

import (
	"encoding/json"

	"github.com/samnode/samnode/chat"
)

// Session is what the agent said of its session.
type Session struct {
	ID       string // the agent's own id; "" before there is one
	Fresh    bool   // made anew though an earlier one was asked for
	Title    string // the agent's title for it
	Mode     string // id of the mode it is in; "" if the agent has none
	Modes    []string
	Options  []Option  // modes, models and efforts to choose from
	Commands []Command // what a prompt may begin with
}

// Option is something a session lets its client choose.
type Option struct {
	ID       string
	Category string // mode, model, thought_level, model_config
	Current  string
	Values   []string
}

// Command is a slash command of the agent.
type Command struct{ Name, Description string }

// Session is the session of the current run, or of the last one that had one.
func (c *Conversation) Session() Session { return c.session }

// sessionState is what a session's responses have in common.
type sessionState struct {
	SessionID str                `json:"sessionId"`
	Modes     maybe[modeState]   `json:"modes"`
	Options   list[configOption] `json:"configOptions"`
}

type modeState struct {
	Current   str `json:"currentModeId"`
	Available list[struct {
		ID str `json:"id"`
	}] `json:"availableModes"`
}

func (c *Conversation) sessionAsked(r Record, e envelope) {
	var p sessionState
	_ = json.Unmarshal(e.Params, &p) // our own line
	c.loading, c.quiet = e.Method == "session/load", e.Method == "session/load"
	fresh := r.ID == freshSessionID(c.run)
	c.session = Session{ID: string(p.SessionID), Fresh: fresh, Title: c.session.Title}
	if fresh {
		c.emit(chat.Item{
			ID: c.itemID(), Kind: chat.KindStatus, Level: "warn", Closed: true,
			Text: c.c.Agent + " could not take up its earlier session and begins without memory of it. The files and this chat are as they were.",
		})
	}
}

func (c *Conversation) sessionDone(e envelope) {
	c.loading = false
	if e.Error != nil {
		return
	}
	var s sessionState
	_ = json.Unmarshal(e.Result, &s) // what cannot be read stays empty
	if s.SessionID != "" {
		c.session.ID = string(s.SessionID)
	}
	if s.Modes.ok {
		c.session.Mode = string(s.Modes.v.Current)
		for _, m := range s.Modes.v.Available {
			c.session.Modes = append(c.session.Modes, string(m.ID))
		}
	}
	c.setOptions(s.Options)
}

// setOptions takes the whole list of options, as agents send it.
func (c *Conversation) setOptions(options list[configOption]) {
	if len(options) == 0 {
		return
	}
	c.session.Options = nil
	for _, o := range options {
		if o.Category == "mode" {
			c.session.Mode = string(o.Current)
		}
		c.session.Options = append(c.session.Options, Option{
			ID: string(o.ID), Category: string(o.Category), Current: string(o.Current), Values: values(nil, o.Options),
		})
	}
}

// values flattens groups of values.
func values(to []string, from list[configValue]) []string {
	for _, v := range from {
		if v.Value != "" {
			to = append(to, string(v.Value))
		}
		to = values(to, v.Options)
	}
	return to
}

func (c *Conversation) setCommands(commands list[command]) {
	c.session.Commands = nil
	for _, k := range commands {
		if len(c.session.Commands) < maxList {
			c.session.Commands = append(c.session.Commands, Command{line(string(k.Name)), line(string(k.Description))})
		}
	}
}

// setting is a change of the mode or of an option that the agent was asked for.
type setting struct {
	id, mode, option, value string
}

func (c *Conversation) settingAsked(r Record, e envelope) {
	var p struct {
		Mode   str `json:"modeId"`
		Option str `json:"configId"`
		Value  str `json:"value"`
	}
	_ = json.Unmarshal(e.Params, &p) // our own line
	c.sets++
	c.setting = setting{r.ID, string(p.Mode), string(p.Option), string(p.Value)}
}

func (c *Conversation) settingDone(e envelope) {
	if e.Error != nil {
		return
	}
	if c.setting.mode != "" {
		c.session.Mode = c.setting.mode
		return
	}
	for i := range c.session.Options {
		o := &c.session.Options[i]
		if o.ID != c.setting.option {
			continue
		}
		o.Current = c.setting.value
		if o.Category == "mode" {
			c.session.Mode = o.Current
		}
	}
	var s sessionState
	_ = json.Unmarshal(e.Result, &s) // what cannot be read stays as it was
	c.setOptions(s.Options)
}
