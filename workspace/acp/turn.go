package acp

import (
	"encoding/json"
	"math"
	"time"

	"github.com/samnode/samnode/chat"
)

// Turn is one prompt and what is known of it.
type Turn struct {
	ID         chat.TurnID
	Run        int
	Seq        uint64    // record of the prompt
	Began      time.Time // when the prompt was journaled
	Ended      time.Time
	Delivery   chat.Delivery // Delivered, or Unknown when the agent died on it
	Cancelling bool          // session/cancel is in the journal
	Stop       string        // why it ended: an ACP stop reason, "cancelled", "error"; "" while open
	Failure    *chat.Failure // why it went wrong: the agent's error, or its death
	Usage      chat.Usage    // tokens as the agent says, cost from its running total
}

// Open says whether the agent may still work on it.
func (t Turn) Open() bool { return t.Stop == "" && t.Delivery != chat.Unknown }

// Turn is the newest turn; false before the first.
func (c *Conversation) Turn() (Turn, bool) {
	if len(c.turns) == 0 {
		return Turn{}, false
	}
	return *c.turns[len(c.turns)-1], true
}

// TurnOf is the turn with that id; false: its prompt is not in the journal.
func (c *Conversation) TurnOf(id chat.TurnID) (Turn, bool) {
	if t := c.turn(id); t != nil {
		return *t, true
	}
	return Turn{}, false
}

func (c *Conversation) turn(id chat.TurnID) *Turn {
	for _, t := range c.turns {
		if t.ID == id {
			return t
		}
	}
	return nil
}

// current is the turn that the agent works on: the oldest open one.
func (c *Conversation) current() *Turn {
	for _, t := range c.turns {
		if t.Open() {
			return t
		}
	}
	return nil
}

func (c *Conversation) promptSent(r Record, id string) {
	if c.turn(chat.TurnID(id)) != nil {
		return
	}
	t := &Turn{ID: chat.TurnID(id), Run: r.Run, Seq: r.Seq, Began: r.At, Delivery: chat.Delivered}
	if !c.alive {
		t.Delivery, t.Failure = chat.Unknown, c.crash()
	}
	if c.current() == nil {
		c.plan, c.noise, c.quiet = "", nil, false
	}
	c.turns = append(c.turns, t)
}

// promptUnsent: the agent may have got a part of the prompt, or nothing.
func (c *Conversation) promptUnsent(id string) {
	t := c.turn(chat.TurnID(id))
	if t == nil || !t.Open() {
		return
	}
	t.Delivery = chat.Unknown
	t.Failure = &chat.Failure{Reason: "The message may not have reached " + c.c.Agent + " whole.", Retryable: true}
	c.emit(chat.Item{ID: c.itemID(), Kind: chat.KindError, Text: t.Failure.Reason, Closed: true})
}

func (c *Conversation) cancelSent(id string) {
	if t := c.turn(chat.TurnID(id)); t != nil && t.Open() {
		t.Cancelling = true
		c.closeAsks("The turn was stopped.")
	}
}

// promptResult is the part of a PromptResponse that we read.
type promptResult struct {
	Stop  str `json:"stopReason"`
	Usage maybe[struct {
		Input       num `json:"inputTokens"`
		Output      num `json:"outputTokens"`
		CachedRead  num `json:"cachedReadTokens"`
		CachedWrite num `json:"cachedWriteTokens"`
		Thought     num `json:"thoughtTokens"`
	}] `json:"usage"`
}

// promptDone takes the response to a prompt.
func (c *Conversation) promptDone(id string, e envelope) {
	t := c.turn(chat.TurnID(id))
	if t == nil || !t.Open() || t.Run != c.run {
		return
	}
	if e.Error != nil {
		if t.Cancelling {
			c.endTurn(t, "cancelled", nil)
			return
		}
		f := c.failure(e.Error)
		t.Failure = &f
		c.emit(chat.Item{ID: c.itemID(), Kind: chat.KindError, Text: f.Reason, Detail: f.Detail, Closed: true})
		c.endTurn(t, "error", nil)
		return
	}
	var p promptResult
	_ = json.Unmarshal(e.Result, &p) // what cannot be read stays empty
	var u *chat.Usage
	if p.Usage.ok {
		v := p.Usage.v
		u = &chat.Usage{Input: v.Input.count(), Output: v.Output.count(), Cached: v.CachedRead.count()}
		t.Usage.Input, t.Usage.Output, t.Usage.Cached = u.Input, u.Output, u.Cached
	}
	c.endTurn(t, first(line(string(p.Stop)), "end_turn"), u)
}

// endTurn closes what the turn left open and emits its end.
func (c *Conversation) endTurn(t *Turn, stop string, u *chat.Usage) {
	t.Stop, t.Ended = stop, c.at
	if c.current() == nil {
		c.closeAsks("The turn ended.")
		c.closeTexts()
		if stop == "cancelled" || stop == "error" {
			c.closeTools()
		}
		c.dropTools()
	}
	it := chat.Item{ID: c.itemID(), TurnEnd: &chat.TurnEnd{Turn: t.ID, Stop: stop}}
	if u != nil && !c.c.Metered {
		it.Usage = u
	}
	c.emit(it)
}

// usage takes a usage_update: the share of the window, and a running total of
// the cost, which starts again with each process.
func (c *Conversation) usage(u update) {
	v := chat.Usage{Context: u.Used.count(), ContextMax: u.Size.count()}
	if amount := float64(u.Cost.v.Amount); u.Cost.ok && amount >= 0 && amount < 1e6 && (u.Cost.v.Currency == "" || u.Cost.v.Currency == "USD") {
		if amount < c.cost {
			c.cost = 0
		}
		v.Cost = int64(math.Round(amount*1e6)) - int64(math.Round(c.cost*1e6))
		c.cost = amount
	}
	if t := c.current(); t != nil {
		t.Usage.Cost += v.Cost
		t.Usage.Context, t.Usage.ContextMax = v.Context, v.ContextMax
	}
	if c.c.Metered {
		v.Cost = 0
	}
	if v != (chat.Usage{}) {
		c.emit(chat.Item{ID: c.itemID(), Usage: &v})
	}
}
