package chat

import (
	"encoding/json"
	"time"
)

// Messages is the part of the state that lives on disk. State calls it inside
// Apply only, one goroutine at a time; what is put there belongs together with
// the edits of that Apply. An error of it stops the node.
type Messages interface {
	// Get returns the message with that id, or false when there is none. Nobody
	// changes what it returns.
	Get(task TaskID, id string) (Message, bool, error)
	// Put takes the message whole, new or not. Nobody changes it afterwards.
	Put(m Message) error
}

// Kind is what a message is. A page shows an unknown kind raw.
type Kind string

// The kinds of message.
const (
	KindUser    Kind = "user"
	KindAgent   Kind = "agent"
	KindThought Kind = "thought"
	KindTool    Kind = "tool"
	KindPlan    Kind = "plan"
	KindAsk     Kind = "ask"
	KindStatus  Kind = "status"
	KindDiff    Kind = "diff"
	KindError   Kind = "error"
	KindRaw     Kind = "raw" // something the agent said that we do not know
)

// Message is one logical item of a task. It is an upsert by ID: text grows by
// offset, a field that a later update lacks is never blanked.
type Message struct {
	Task  TaskID    `json:"task"`
	Seq   uint64    `json:"seq"` // dense from 1 within the task, given when the message first enters the log
	ID    string    `json:"id"`  // made at the source, unique within the task
	Kind  Kind      `json:"kind"`
	At    time.Time `json:"at"`    // when it first entered the log
	Index uint64    `json:"index"` // log index of its last change: the cursor of streams
	Turn  int       `json:"turn,omitempty"`

	Author    *Author `json:"author,omitempty"`    // of user messages and of what nodes say
	Workspace int     `json:"workspace,omitempty"` // where it was made
	Source    uint64  `json:"source,omitempty"`    // journal record that began it
	Text      string  `json:"text,omitempty"`
	Size      int64   `json:"size,omitempty"` // bytes the text had before it was cut; 0: not cut

	Tool *Tool   `json:"tool,omitempty"`
	Plan []Plan  `json:"plan,omitempty"`
	Ask  *Ask    `json:"ask,omitempty"`
	Diff *Change `json:"diff,omitempty"`

	Delivery Delivery        `json:"delivery,omitempty"` // of user messages
	Level    string          `json:"level,omitempty"`    // of status: info, warn
	Detail   string          `json:"detail,omitempty"`   // raw text below an error or a refusal
	Raw      json.RawMessage `json:"raw,omitempty"`      // of KindRaw
	Closed   bool            `json:"closed,omitempty"`   // no more text will come
}

// Tool is a tool call, merged field by field from the agent's updates.
type Tool struct {
	Title     string     `json:"title,omitempty"`
	Kind      string     `json:"kind,omitempty"`   // ACP: read, edit, delete, move, search, execute, think, fetch, switch_mode, other
	Status    string     `json:"status,omitempty"` // ACP: pending, in_progress, completed, failed; ours: cancelled
	Locations []Location `json:"locations,omitempty"`
	Input     string     `json:"input,omitempty"`  // raw input as JSON, cut at MaxBody
	Output    string     `json:"output,omitempty"` // text output, cut in the middle at MaxBody
	Size      int64      `json:"size,omitempty"`   // bytes the output had; 0: not cut
	Diffs     []FileDiff `json:"diffs,omitempty"`
	Exit      *int       `json:"exit,omitempty"`
	Ended     time.Time  `json:"ended,omitzero"`
}

// Location is a place in a file.
type Location struct {
	Path string `json:"path"`
	Line int    `json:"line,omitempty"`
}

// FileDiff is an edit as the agent reported it. Old is empty for a new file.
type FileDiff struct {
	Path string `json:"path"`
	Old  string `json:"old,omitempty"`
	New  string `json:"new"`
	Size int64  `json:"size,omitempty"` // of both before they were cut; 0: not cut
}

// Plan is one line of an agent's plan.
type Plan struct {
	Text     string `json:"text"`
	Status   string `json:"status"`             // pending, in_progress, completed
	Priority string `json:"priority,omitempty"` // high, medium, low
}
