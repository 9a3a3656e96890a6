package acp

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/samnode/samnode/chat"
)

// ErrGap means that a record is missing: the journal was not read in order.
var ErrGap = errors.New("a journal record is missing")

// ConversationConfig says whose conversation it is.
type ConversationConfig struct {
	Workspace int    // number of the workspace; part of every item's id
	Agent     string // the agent's name in sentences: "Claude Code"
	Secret    string // the secret that holds its key, "" if it needs none
	// Metered: somebody else counts tokens and money (the broker); items carry
	// only the share of the model's window then. Turn.Usage has all in any case.
	Metered bool
}

// Conversation is the state of a conversation with an agent, as a reduction of
// its journal. It is not safe for concurrent use; a Driver guards its own.
type Conversation struct {
	c   ConversationConfig
	seq uint64
	at  time.Time
	out []chat.Item // of the record that is being read
	n   int         // items with own ids made by this record

	run     int
	alive   bool
	exit    *Exit
	stderr  []string // last lines of this run
	last    time.Time
	replies map[string]reply // of this run's calls except prompts
	asked   map[string]bool  // our requests of this run that are in the journal
	owed    []owed           // lines that the agent must get
	sets    int              // mode and option changes of this run
	setting setting          // the last of them

	session Session
	loading bool // between session/load and its response
	quiet   bool // after a load, until the first prompt: late parts of its replay

	turns []*Turn // in the order of their prompts
	texts []*stream
	noise *stream
	tools map[string]*tool
	plan  string // item id of this turn's plan
	asks  []*ask
	cost  float64 // the session's cost so far, as this run's agent counts it
}

// Exit is how the agent process ended.
type Exit struct {
	Code   int
	Signal string // "" when it ended by itself
	OOM    bool   // the workspace's memory limit killed a process meanwhile
	Reason string // the shim's own words, if it had any
}

// reply is the response to one of our calls.
type reply struct {
	result json.RawMessage
	err    *rpcError
}

// owed is a line that the agent waits for.
type owed struct {
	id   string
	line []byte
}

// NewConversation is the conversation before its first record.
func NewConversation(c ConversationConfig) *Conversation {
	c.Agent = first(c.Agent, "The agent")
	return &Conversation{c: c, replies: map[string]reply{}, asked: map[string]bool{}, tools: map[string]*tool{}}
}

// Feed takes the next record and returns the items it makes. A record that
// was fed before makes none; ErrGap means that one is missing. No content of
// a record is an error.
func (c *Conversation) Feed(r Record) ([]chat.Item, error) {
	if r.Seq <= c.seq {
		return nil, nil
	}
	if r.Seq != c.seq+1 {
		return nil, fmt.Errorf("record %d after %d: %w", r.Seq, c.seq, ErrGap)
	}
	c.seq, c.at, c.n, c.out = r.Seq, r.At, 0, nil
	if r.Run > c.run {
		c.startRun(r.Run)
	}
	switch r.Dir {
	case In:
		c.input(r)
	case Out:
		c.output(r)
	case Err:
		c.addStderr(string(r.Data))
	case Note:
		c.note(r)
	}
	return c.out, nil
}

// Seq is the last record that was fed.
func (c *Conversation) Seq() uint64 { return c.seq }

// Run is the number of the agent process, 0 before the first, and whether it
// is alive.
func (c *Conversation) Run() (int, bool) { return c.run, c.alive }

// Exit is how the last process ended; nil while it runs.
func (c *Conversation) Exit() *Exit { return c.exit }

// LastOutput is when the agent last said anything. It is the zero time before.
func (c *Conversation) LastOutput() time.Time { return c.last }

// Stderr is the end of what the agent wrote to its standard error.
func (c *Conversation) Stderr() string { return strings.Join(c.stderr, "\n") }

// itemID makes an id from the record; unique in the task, the same at each
// replay.
func (c *Conversation) itemID() string {
	id := "w" + strconv.Itoa(c.c.Workspace) + "." + strconv.FormatUint(c.seq, 10)
	if c.n++; c.n > 1 {
		id += "." + strconv.Itoa(c.n)
	}
	return id
}

// emit adds an item of this record.
func (c *Conversation) emit(it chat.Item) {
	it.Source = c.seq
	c.out = append(c.out, it)
}

// startRun begins a new agent process.
func (c *Conversation) startRun(run int) {
	c.ended(&Exit{Code: -1, Reason: "another process took its place"})
	c.run, c.alive, c.exit, c.stderr = run, true, nil, nil
	clear(c.replies)
	clear(c.asked)
	clear(c.tools)
	c.owed, c.sets, c.cost, c.loading, c.quiet = nil, 0, 0, false, false
}

// noteRecord is what the shim writes about the process.
type noteRecord struct {
	Event  str        `json:"event"`
	Code   maybe[int] `json:"code"`
	Signal str        `json:"signal"`
	OOM    bool       `json:"oom"`
	Text   str        `json:"text"`
}

// The events of notes that matter here; the shim has more.
const (
	NoteExited = "exited" // the process ended and its output is complete
	NoteUnsent = "unsent" // the line with the record's ID may not have reached the agent whole
)

func (c *Conversation) note(r Record) {
	var n noteRecord
	if json.Unmarshal(r.Data, &n) != nil || r.Run != c.run {
		return
	}
	switch n.Event {
	case NoteExited:
		c.ended(&Exit{Code: n.Code.v, Signal: string(n.Signal), OOM: n.OOM, Reason: string(n.Text)})
	case NoteUnsent:
		if turn, ok := cutPrefix(r.ID, "prompt-"); ok {
			c.promptUnsent(turn)
		}
	}
}

// ended closes what the process left open. A turn whose end nobody saw keeps
// its prompt's delivery unknown, unless a person had cancelled it.
func (c *Conversation) ended(e *Exit) {
	if !c.alive {
		return
	}
	c.alive, c.exit, c.owed = false, e, nil
	c.closeAsks("The agent stopped.")
	for _, t := range c.turns {
		switch {
		case t.Stop != "" || t.Delivery == chat.Unknown:
		case t.Cancelling:
			c.endTurn(t, "cancelled", nil)
		default:
			t.Delivery, t.Failure = chat.Unknown, c.crash()
			c.emit(chat.Item{ID: c.itemID(), Kind: chat.KindError, Text: t.Failure.Reason, Detail: t.Failure.Detail, Closed: true})
		}
	}
	c.closeTools()
	c.dropTools()
	c.closeTexts()
}

// maxStderr lines are kept of standard error.
const maxStderr = 30

func (c *Conversation) addStderr(s string) {
	text, _ := cutMiddle(s, maxLine)
	if strings.TrimSpace(text) == "" {
		return
	}
	c.stderr = append(c.stderr, text)
	if len(c.stderr) > maxStderr {
		c.stderr = slices.Delete(c.stderr, 0, len(c.stderr)-maxStderr)
	}
}

// output reads a line of the agent.
func (c *Conversation) output(r Record) {
	c.last = r.At
	e, ok := decode(r.Data)
	switch {
	case !ok:
		c.addNoise(r)
	case e.Method == "":
		c.response(e)
	case e.Method == "session/update":
		c.update(e.Params)
	case e.ID != nil:
		c.request(e)
	case e.Method == "$/cancel_request":
		c.withdraw(e.Params)
	}
}

// addNoise keeps what is not JSON-RPC: the first 4 KiB of a turn, as one item.
func (c *Conversation) addNoise(r Record) {
	text := clean(string(r.Data))
	if r.Size > int64(len(r.Data)) {
		c.emit(chat.Item{ID: c.itemID(), Kind: chat.KindRaw, Text: "A line of the agent was too long to read.", Size: r.Size, Closed: true})
		return
	}
	if strings.TrimSpace(text) == "" {
		return
	}
	if c.noise == nil {
		c.noise = &stream{id: c.itemID(), kind: chat.KindRaw}
	}
	room := maxLive - int(c.noise.n)
	if text = prefix(text+"\n", room); text == "" {
		return
	}
	c.emit(chat.Item{ID: c.noise.id, Kind: chat.KindRaw, Offset: c.noise.n, Text: text})
	c.noise.n += int64(len(text))
}

// response takes the answer to one of our calls.
func (c *Conversation) response(e envelope) {
	id := e.id()
	if turn, ok := cutPrefix(id, "prompt-"); ok {
		c.promptDone(turn, e)
		return
	}
	if !c.asked[id] {
		return
	}
	c.replies[id] = reply{result: e.Result, err: e.Error}
	switch id {
	case sessionID(c.run), freshSessionID(c.run):
		c.sessionDone(e)
	case c.setting.id:
		c.settingDone(e)
	}
}

// input takes a line that we sent.
func (c *Conversation) input(r Record) {
	c.owed = slices.DeleteFunc(c.owed, func(o owed) bool { return o.id == r.ID })
	e, _ := decode(r.Data)
	c.asked[r.ID] = true
	switch e.Method {
	case "session/new", "session/load", "session/resume":
		c.sessionAsked(r, e)
	case "session/prompt":
		if turn, ok := cutPrefix(r.ID, "prompt-"); ok {
			c.promptSent(r, turn)
		}
	case "session/cancel":
		if turn, ok := cutPrefix(r.ID, "cancel-"); ok {
			c.cancelSent(turn)
		}
	case "session/set_mode", "session/set_config_option":
		c.settingAsked(r, e)
	case "":
		if ask, ok := cutPrefix(r.ID, "answer-"); ok {
			c.answered(ask)
		}
	}
}
