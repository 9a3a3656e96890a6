package chat

import (
	"time"
)

// Version is the newest command version that this code writes and reads.
// A node that meets a higher one stops and asks to be upgraded.
const Version = 1

// Command is one entry for the chat. Its envelope is written by whoever
// proposes it; the time is the leader's and comes with the log entry, not
// with the command. Exactly one op is set.
type Command struct {
	Version int    `json:"v"`
	ID      string `json:"id"` // ULID; a second apply of the same id changes nothing
	Author  Author `json:"by"`
	Op      Op     `json:"op"`
}

// Op is a union: exactly one field is set. Adding an op is adding a field, a
// case in State.apply and a row in its table test.
type Op struct {
	ProjectPut    *ProjectPut    `json:"project_put,omitempty"`
	ProjectRemove *ProjectRemove `json:"project_remove,omitempty"`
	SecretPut     *SecretPut     `json:"secret_put,omitempty"`
	SecretRemove  *SecretRemove  `json:"secret_remove,omitempty"`
	Arrive        *Arrive        `json:"arrive,omitempty"`
	PersonPut     *PersonPut     `json:"person_put,omitempty"`
	SettingPut    *SettingPut    `json:"setting_put,omitempty"`

	TaskCreate *TaskCreate `json:"task_create,omitempty"`
	TaskEdit   *TaskEdit   `json:"task_edit,omitempty"`
	Say        *Say        `json:"say,omitempty"`
	QueueEdit  *QueueEdit  `json:"queue_edit,omitempty"`
	AskAnswer  *AskAnswer  `json:"ask_answer,omitempty"`
	Stop       *Stop       `json:"stop,omitempty"`
	Retry      *Retry      `json:"retry,omitempty"`
	Release    *Release    `json:"release,omitempty"`

	Place   *Place   `json:"place,omitempty"`
	Expire  *Expire  `json:"expire,omitempty"`
	StepSet *StepSet `json:"step_set,omitempty"`
	Session *Session `json:"session,omitempty"`
	TurnSet *TurnSet `json:"turn_set,omitempty"`
	Items   *Items   `json:"items,omitempty"`
	Note    *Note    `json:"note,omitempty"`
	Branch  *Branch  `json:"branch,omitempty"`
	End     *End     `json:"end,omitempty"`
	Pull    *Pull    `json:"pull,omitempty"`
	Kept    *Kept    `json:"kept,omitempty"`
	Visits  *Visits  `json:"visits,omitempty"`
}

// --- by people ---

// ProjectPut makes a project or replaces its settings (same ID). A name that
// another project has is refused.
type ProjectPut struct {
	Project Project `json:"project"`
}

// ProjectRemove hides a project. Refused while a task of it holds a lease.
type ProjectRemove struct {
	ID ProjectID `json:"id"`
}

// SecretPut stores a sealed value under (scope, name).
type SecretPut struct {
	Secret Secret `json:"secret"`
}

// SecretRemove forgets a value.
type SecretRemove struct {
	Scope ProjectID `json:"scope,omitempty"`
	Name  string    `json:"name"`
}

// Arrive remembers a person who calls for the first time; a core node proposes
// it. The first person of all becomes owner, the others have no role until an
// owner gives one. A second time changes nothing.
type Arrive struct {
	Person Person `json:"person"`
}

// PersonPut sets a person's role; RoleNone takes it away. The last owner cannot
// lose the role.
type PersonPut struct {
	Person Person `json:"person"`
	Role   Role   `json:"role,omitempty"`
}

// SettingPut stores a setting of the mesh; an empty value removes it.
type SettingPut struct {
	Name  string `json:"name"`
	Value string `json:"value,omitempty"`
}

// TaskCreate makes a task with its first message; Draft keeps it from being
// queued. Empty Agent, Mode and Base take the project's.
type TaskCreate struct {
	ID      TaskID    `json:"id"`
	Project ProjectID `json:"project"`
	Message string    `json:"message"` // id of the first message
	Text    string    `json:"text"`
	Agent   string    `json:"agent,omitempty"`
	Model   string    `json:"model,omitempty"`
	Mode    Mode      `json:"mode,omitempty"`
	Base    string    `json:"base,omitempty"`
	Draft   bool      `json:"draft,omitempty"`
}

// TaskEdit changes what is not nil. Mode takes effect in the running agent.
type TaskEdit struct {
	Task     TaskID  `json:"task"`
	Title    *string `json:"title,omitempty"`
	Mode     *Mode   `json:"mode,omitempty"`
	Model    *string `json:"model,omitempty"`
	Archived *bool   `json:"archived,omitempty"` // true also stops the task
}

// Say adds a user's message. It goes into the task's queue; the node sends it
// when the agent is free. In idle, failed and stopped tasks without a
// workspace it also queues the task. A message id that the task already has
// changes nothing: retries are harmless.
type Say struct {
	Task    TaskID `json:"task"`
	Message string `json:"message"`
	Text    string `json:"text"`
	Steer   bool   `json:"steer,omitempty"`
}

// QueueEdit changes or removes a queued message. Refused once its turn is sent.
type QueueEdit struct {
	Task    TaskID  `json:"task"`
	Message string  `json:"message"`
	Text    *string `json:"text,omitempty"` // nil: remove it
}

// AskAnswer answers an open ask. The first answer in the log wins; a later one
// is refused with who was first. For AskDelivery the options are "again" and
// "discard"; for AskBudget "raise" (Values["budget"], the new limit of this
// task) and "stop".
type AskAnswer struct {
	Task   TaskID `json:"task"`
	Ask    string `json:"ask"`
	Answer Answer `json:"answer"` // Author and At are set by Apply
}

// Stop ends the turn. A queued or starting task, or one whose node is gone
// (Force), is Stopped at once and its lease ended; a working one gets Stopping
// and its node cancels the turn. The queue is kept.
type Stop struct {
	Task  TaskID `json:"task"`
	Force bool   `json:"force,omitempty"`
}

// Retry queues a failed or stopped task again, or starts a draft. If no
// message is queued and the last turn did not end, its prompt is queued again
// as a new turn. An idle task without a workspace gets one, for people to look
// into; its agent has nothing to do there.
type Retry struct {
	Task TaskID `json:"task"`
}

// Release gives the workspace of an idle task back; the task stays idle.
// The node sees the lease gone and removes the container, not the volume.
type Release struct {
	Task TaskID `json:"task"`
}

// --- by the leader ---

// Place grants the task a slot: Lease.Token becomes this entry's index,
// Workspace grows by one, Cursor starts at 0, the state goes to Preparing.
// Refused unless the task is queued, placing or booting without a lease. The
// same log entry carries provision's part, which marks the slot.
type Place struct {
	Task TaskID `json:"task"`
	Node Node   `json:"node"`
	Slot string `json:"slot"`
	Note string `json:"note,omitempty"` // "ready slot on this machine": shown in the stepper
}

// Expire ends a lease that its node did not renew (or that has no slot any
// more). The task goes back to queued with Reason as a status message; an open
// turn becomes unknown. Refused if Token is not the task's.
type Expire struct {
	Task   TaskID `json:"task"`
	Token  uint64 `json:"token"`
	Reason string `json:"reason"`
}

// --- by the node that holds the lease; each is refused when Token is stale ---

// StepSet begins, updates or ends a step. The first StepAgent moves the task
// from preparing to starting. Before there is a lease the leader reports the
// steps place, buy and boot with Token 0; they move the task to placing,
// buying and booting, and back to queued when they fail.
type StepSet struct {
	Task     TaskID        `json:"task"`
	Token    uint64        `json:"token"`
	Name     StepName      `json:"name"`
	State    StepState     `json:"state"`
	Deadline time.Duration `json:"deadline,omitempty"` // from its begin, of the one table
	Note     string        `json:"note,omitempty"`
	Log      string        `json:"log,omitempty"`
}

// Session records what the clone and the agent told about themselves.
type Session struct {
	Task    TaskID `json:"task"`
	Token   uint64 `json:"token"`
	Session string `json:"session,omitempty"` // the agent's session id
	Base    string `json:"base,omitempty"`    // resolved base branch
	Title   string `json:"title,omitempty"`   // the agent's title; taken only if no person set one
}

// TurnSet moves a turn. Sent takes the queued message with id Prompt out of
// the queue and makes it the current turn (Working); Delivered says that the
// agent has it; Unknown opens an AskDelivery and moves to NeedsYou. Sent with
// the id of the open turn adds a queued message to it (steering).
type TurnSet struct {
	Task     TaskID   `json:"task"`
	Token    uint64   `json:"token"`
	Turn     TurnID   `json:"turn"`
	Prompt   string   `json:"prompt,omitempty"`
	Delivery Delivery `json:"delivery"`
}

// Items are what the agent said in one workspace since the last Items: the
// journal records (From, Upto]. An op whose Upto is not above the task's
// Cursor changes nothing; one whose From is above it is refused (a gap).
type Items struct {
	Task      TaskID `json:"task"`
	Token     uint64 `json:"token"`
	Workspace int    `json:"workspace"`
	From      uint64 `json:"from"`
	Upto      uint64 `json:"upto"`
	Items     []Item `json:"items"`
}

// Item is an upsert of one message, and what it does to the task.
type Item struct {
	ID     string `json:"id"`
	Kind   Kind   `json:"kind"`
	Source uint64 `json:"source,omitempty"` // journal record that began it; usage of a record at or below the Cursor is not counted again

	Offset int64  `json:"offset,omitempty"` // bytes that the message already has; what overlaps is dropped
	Text   string `json:"text,omitempty"`
	Closed bool   `json:"closed,omitempty"`
	Size   int64  `json:"size,omitempty"`

	Tool   *Tool   `json:"tool,omitempty"`
	Plan   []Plan  `json:"plan,omitempty"`
	Ask    *Ask    `json:"ask,omitempty"` // opens an ask (NeedsYou), or with Closed set closes it
	Diff   *Change `json:"diff,omitempty"`
	Usage  *Usage  `json:"usage,omitempty"` // adds Input, Output, Cached, Cost; sets Context, ContextMax. Alone it makes no message.
	Level  string  `json:"level,omitempty"`
	Detail string  `json:"detail,omitempty"`
	Raw    []byte  `json:"raw,omitempty"`

	// TurnEnd ends the current turn (Publishing; asks are closed).
	TurnEnd *TurnEnd `json:"turn_end,omitempty"`
}

// Note is what the node itself says in a task, outside of the workspace's
// journal: a refused mount, an ask for more budget, usage that the broker
// counted. It is an item without a place in the journal; the command's id
// makes it happen once.
type Note struct {
	Task  TaskID `json:"task"`
	Token uint64 `json:"token"`
	Item  Item   `json:"item"`
}

// TurnEnd says how a turn ended.
type TurnEnd struct {
	Turn TurnID `json:"turn"`
	Stop string `json:"stop"` // ACP stop reason, "cancelled", "crashed", "budget"
}

// Branch reports what git knows after a turn: work in progress is committed
// and pushed. Done moves Publishing to Idle, or to Stopped when the person
// pressed Stop, or to the next queued message's turn. In Preparing and Starting
// it says that there is nothing to send: the task is Idle.
type Branch struct {
	Task   TaskID       `json:"task"`
	Token  uint64       `json:"token"`
	Change Change       `json:"change"`
	Pull   *PullRequest `json:"pull,omitempty"`
	Done   bool         `json:"done,omitempty"`
}

// End ends the lease. With Failure the task is Failed (a clean end: Idle
// stays idle, anything else is queued again or stopped when Stopping).
type End struct {
	Task    TaskID   `json:"task"`
	Token   uint64   `json:"token"`
	Failure *Failure `json:"failure,omitempty"`
	Reason  string   `json:"reason,omitempty"` // status message, when not empty
}

// Pull records what the forge says of the pull request between turns; any
// core node may propose it, so it carries no token.
type Pull struct {
	Task TaskID      `json:"task"`
	Pull PullRequest `json:"pull"`
	Note *Item       `json:"note,omitempty"` // a status message (checks failed, review arrived)
	Head string      `json:"head,omitempty"` // merged from the page: the commit on the base branch
}

// Kept says what a node still holds of a lease that has ended: work in progress
// on a volume, say. It carries the ended lease's token and is refused while
// that lease is the task's; it makes one status message per token and changes
// nothing else.
type Kept struct {
	Task      TaskID `json:"task"`
	Token     uint64 `json:"token"`
	Workspace int    `json:"workspace"`
	Text      string `json:"text"`           // a sentence
	Head      string `json:"head,omitempty"` // commit of what is kept
}
