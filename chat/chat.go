// Package chat is the conversation that every node of a mesh agrees on:
// projects, tasks, messages, turns, approvals and secrets.
//
// The state is a pure function of the log. [State.Apply] takes one command at
// a time and never reads a clock, draws a random number, iterates a map whose
// order shows, or touches anything outside the state; two replicas that
// applied the same commands are byte-equal. Refusals (a stale lease token, an
// unknown task, an answer that came second) are values in the state, never
// errors; an error of Apply means that this node must stop.
//
// Small things live in memory. Messages live on disk behind [Messages], which
// the sub-package store implements. [Room] is one node's live view: post, wait
// for one's own index, read since a cursor.
//
// The pure part imports the standard library only.
package chat

import "time"

// Limits of what one command may carry. They bound the size of a log entry
// (DESIGN.md: 512 KiB) with room for its envelope.
const (
	MaxText     = 128 << 10 // bytes of one user message; more belongs into a file
	MaxBody     = 64 << 10  // bytes of text or output kept of one item; the rest stays in the journal
	MaxName     = 100       // characters of a name or title
	MaxCommands = 65536     // command ids remembered to make a second apply harmless
	MaxID       = 128       // bytes of an id; longer ones of agents are shortened to a hash
	MaxQueue    = 100       // messages that wait for the agent of one task
	MaxSetting  = 4 << 10   // bytes of the value of a setting
)

// Ids are ULIDs made once at the source. The types keep one from standing
// where another belongs.
type (
	// ProjectID names a project.
	ProjectID string
	// TaskID names a task.
	TaskID string
	// TurnID names a turn of a task.
	TurnID string
)

// An author of a command is a person or a node.
type (
	// Person is a login as the connection gave it, e.g. "ana@example.com".
	Person string
	// Node is a node's name.
	Node string
)

// Author says who proposed a command. Exactly one of the two is set.
type Author struct {
	Person Person `json:"person,omitempty"`
	Node   Node   `json:"node,omitempty"`
}

// Role is what a person may do in the mesh. Who may do what with it is decided
// where people call; a role that the network grants is not in the state.
type Role string

// The roles, from most to least.
const (
	RoleOwner  Role = "owner"
	RoleMember Role = "member"
	RoleViewer Role = "viewer"
	RoleNone   Role = "" // known, and without a role
)

// Member is a person whom the mesh remembers.
type Member struct {
	Person Person    `json:"person"`
	Role   Role      `json:"role,omitempty"`
	Since  time.Time `json:"since"`  // when the mesh first heard of the person
	Author Author    `json:"author"` // who gave the role; of a role of nobody's, the node that was called
}

// Setting is a small value that the whole mesh shares.
type Setting struct {
	Name    string    `json:"name"`
	Value   string    `json:"value"`
	Author  Author    `json:"author"`
	Updated time.Time `json:"updated"`
}

// Mode is what an agent may do without asking.
type Mode string

// The permission modes, from most careful to least.
const (
	ModePlan        Mode = "plan"        // reads and plans, changes nothing
	ModeAsk         Mode = "ask"         // asks before each risky tool
	ModeAcceptEdits Mode = "acceptEdits" // edits files freely, asks for the rest
	ModeEverything  Mode = "everything"  // never asks
)

// Egress is what a workspace may reach on the web.
type Egress string

// The egress modes. The model API, git and nothing else pass in EgressNone.
const (
	EgressNone     Egress = "none"
	EgressPackages Egress = "packages" // the package registries that samnode knows, and where editors come from
	EgressListed   Egress = "listed"   // the project's list, and the registries
	EgressOpen     Egress = "open"
)

// Publish is what happens at the end of a turn that left commits.
type Publish string

// The publish policies of a project.
const (
	PublishBranch Publish = "branch" // push the branch only; a person opens the pull request
	PublishDraft  Publish = "draft"  // draft while the agent works, ready when the task is idle
	PublishReady  Publish = "ready"  // an ordinary pull request at the first push
)

// Project is a repository with its defaults.
type Project struct {
	ID      ProjectID `json:"id"`
	Name    string    `json:"name"`   // unique in the mesh, [a-z0-9][a-z0-9-]*
	Repo    string    `json:"repo"`   // any git URL: https, ssh, or an absolute local path
	Branch  string    `json:"branch"` // base branch; empty: the remote's HEAD
	Agent   string    `json:"agent"`  // default agent: script, claude, codex, gemini
	Mode    Mode      `json:"mode"`
	Publish Publish   `json:"publish"`
	Egress  Egress    `json:"egress"`
	Allow   []string  `json:"allow,omitempty"`  // hosts for EgressListed, "example.com" or "*.example.com"
	Budget  int64     `json:"budget,omitempty"` // most a task may spend on models, in the unit of Usage.Cost; 0: no limit
	Machine Needs     `json:"machine,omitzero"`
	// SSHAgent lets people take their ssh agent with them into a workspace (ssh
	// -A), where the coding agent can use it as well, for as long as they stay.
	SSHAgent bool `json:"ssh_agent,omitempty"`
	// Record keeps what shells of the project's workspaces show, on the machine
	// that has the workspace.
	Record  bool      `json:"record,omitempty"`
	Created time.Time `json:"created"`
	Author  Author    `json:"author"`
	Removed bool      `json:"removed,omitempty"` // kept so that its tasks stay readable
}

// Needs are what the machine of a project's tasks must have, the whole of it. The
// zero value: any will do.
type Needs struct {
	CPUs     int      `json:"cpus,omitempty"`     // at least, as the next two
	Memory   int64    `json:"memory,omitempty"`   // bytes
	Disk     int64    `json:"disk,omitempty"`     // bytes
	Labels   []string `json:"labels,omitempty"`   // all of these: a node was given them, or its size in the pool
	Location string   `json:"location,omitempty"` // the provider's name of it; empty: any
}

// TaskState is where a task stands. The transitions are in DESIGN.md section 4
// and in transitions (state.go); there is no terminal state.
type TaskState string

// The states of a task.
const (
	Draft      TaskState = "draft"
	Queued     TaskState = "queued"
	Placing    TaskState = "placing"
	Buying     TaskState = "buying"
	Booting    TaskState = "booting"
	Preparing  TaskState = "preparing"
	Starting   TaskState = "starting"
	Working    TaskState = "working"
	NeedsYou   TaskState = "needs_you"
	Publishing TaskState = "publishing"
	Idle       TaskState = "idle"
	Failed     TaskState = "failed"
	Stopped    TaskState = "stopped"
)

// Task is one thread of a project's chat: a request, everything said and done
// about it, one branch, at most one pull request.
type Task struct {
	ID      TaskID    `json:"id"`
	Project ProjectID `json:"project"`
	Title   string    `json:"title"`
	Titled  bool      `json:"titled,omitempty"` // a person set the title; the agent's is not taken any more
	Author  Author    `json:"author"`
	Created time.Time `json:"created"`

	Agent  string `json:"agent"`
	Model  string `json:"model,omitempty"` // empty: the agent's own default
	Mode   Mode   `json:"mode"`            // changeable while the agent runs
	Base   string `json:"base"`            // base branch; empty until the clone resolved it
	Branch string `json:"branch"`          // samnode/<slug>-<random tail of the id>

	State    TaskState `json:"state"`
	Since    time.Time `json:"since"`              // when State was entered, or the task archived
	Progress time.Time `json:"progress,omitzero"`  // when output last moved; no heartbeat touches it
	Failure  *Failure  `json:"failure,omitempty"`  // set in Failed only
	Archived bool      `json:"archived,omitempty"` // hidden from the list

	Lease     *Lease    `json:"lease,omitempty"`    // nil: no workspace is alive
	Home      Node      `json:"home,omitempty"`     // node of the current or last workspace: its working copy is there
	Workspace int       `json:"workspace"`          // number of the current or last workspace, 0 before the first
	Session   string    `json:"session,omitempty"`  // the agent's own session id, for resume or load
	Cursor    uint64    `json:"cursor"`             // last journal record of the current workspace that is in the log
	Steps     []Step    `json:"steps,omitempty"`    // of the current or last start
	Turn      *Turn     `json:"turn,omitempty"`     // current or last turn
	Turns     int       `json:"turns"`              // how many there were
	Queue     []Pending `json:"queue,omitempty"`    // messages waiting for the agent, in order
	Asks      []Ask     `json:"asks,omitempty"`     // open permission requests and questions
	Stopping  bool      `json:"stopping,omitempty"` // a person pressed Stop; the node acts on it

	PullRequest *PullRequest `json:"pull_request"` // nil until there is one
	Change      Change       `json:"change"`       // of the whole branch against its base
	Usage       Usage        `json:"usage"`
	Budget      int64        `json:"budget,omitempty"` // raised by an answer to AskBudget; 0: the project's

	Seq   uint64 `json:"seq"`   // of the newest message
	Index uint64 `json:"index"` // log index of the last change to this task or its messages
}

// Lease is a task's right to a slot. Token is the log index that granted it;
// whatever acts under the lease carries the token, and a stale one changes
// nothing.
type Lease struct {
	Token uint64    `json:"token"`
	Node  Node      `json:"node"`
	Slot  string    `json:"slot"`
	Since time.Time `json:"since"`
}

// StepName names a line of the stepper.
type StepName string

// The steps of a start. The inner ones of Prepare carry its prefix.
const (
	StepPlace     StepName = "place"
	StepBuy       StepName = "buy"
	StepBoot      StepName = "boot"
	StepMirror    StepName = "prepare.mirror"    // fetch into the machine's bare mirror
	StepClone     StepName = "prepare.clone"     // clone or update the workspace's volume
	StepImage     StepName = "prepare.image"     // base image or dev container build
	StepContainer StepName = "prepare.container" // create and start, shim answers
	StepHooks     StepName = "prepare.hooks"     // the dev container's lifecycle commands
	StepAgent     StepName = "start"             // agent process, initialize, session
)

// StepState is how a step stands.
type StepState string

// The states of a step.
const (
	StepRunning StepState = "running"
	StepDone    StepState = "done"
	StepFailed  StepState = "failed"
)

// Step is one line of the stepper. It times itself by the leader's clock.
type Step struct {
	Name     StepName  `json:"name"`
	State    StepState `json:"state"`
	Began    time.Time `json:"began"`
	Ended    time.Time `json:"ended,omitzero"`
	Attempt  int       `json:"attempt"`            // from 1
	Deadline time.Time `json:"deadline,omitzero"`  // Began plus the step's deadline of the one table
	Usual    int64     `json:"usual_ms,omitempty"` // median of this mesh's last runs; 0 below 5 samples
	Note     string    `json:"note,omitempty"`     // "3 GB mirror, 41 objects"; what was done, in words
	Log      string    `json:"log,omitempty"`      // last log line
}

// Failure says why a task failed, in words for a person.
type Failure struct {
	Step      StepName `json:"step"`             // empty: in the middle of a turn
	Reason    string   `json:"reason"`           // one sentence: what happened and what to do
	Detail    string   `json:"detail,omitempty"` // the tool's own last lines
	Retryable bool     `json:"retryable"`
}

// Delivery is what is known of a turn's prompt.
type Delivery string

// The deliveries of a turn. Unknown is never replayed without a person's word.
const (
	Sent      Delivery = "sent"
	Delivered Delivery = "delivered"
	Unknown   Delivery = "unknown"
)

// Turn is one prompt handed to the agent and all that comes of it.
type Turn struct {
	ID       TurnID    `json:"id"`
	Number   int       `json:"number"` // from 1
	Prompt   string    `json:"prompt"` // id of the user's message
	Author   Author    `json:"author"`
	Delivery Delivery  `json:"delivery"`
	Began    time.Time `json:"began"`
	Ended    time.Time `json:"ended,omitzero"`
	Stop     string    `json:"stop,omitempty"` // ACP stop reason, "cancelled", "crashed", "budget"
	FromSeq  uint64    `json:"from_seq"`       // the prompt's message
	Usage    Usage     `json:"usage"`          // of this turn alone
	Head     string    `json:"head,omitempty"` // commit at its end
}

// Pending is a message that waits for the agent. It can be edited and removed
// until the turn that carries it is sent.
type Pending struct {
	ID     string    `json:"id"` // the message's id
	Text   string    `json:"text"`
	Author Author    `json:"author"`
	At     time.Time `json:"at"`
	Steer  bool      `json:"steer,omitempty"` // send at once where the agent allows it
}

// AskKind separates what a person is asked.
type AskKind string

// The kinds of ask.
const (
	AskPermission AskKind = "permission" // may the agent run this tool?
	AskQuestion   AskKind = "question"   // the agent's own question (elicitation)
	AskDelivery   AskKind = "delivery"   // a turn's delivery is unknown: check, send again, discard
	AskBudget     AskKind = "budget"     // the task's budget is used up
)

// Ask is something only a person can decide. It is also a message of kind
// KindAsk with the same id; the first answer in the log wins.
type Ask struct {
	ID      string      `json:"id"`
	Kind    AskKind     `json:"kind"`
	Title   string      `json:"title"`
	Detail  string      `json:"detail,omitempty"` // the command, the plan, the question
	Tool    string      `json:"tool,omitempty"`   // tool call id it is about
	Options []AskOption `json:"options,omitempty"`
	Fields  []AskField  `json:"fields,omitempty"` // a question's form
	At      time.Time   `json:"at"`
	Answer  *Answer     `json:"answer,omitempty"` // set by the first answer; the node then hands it to the agent
	Closed  string      `json:"closed,omitempty"` // why it needs no answer any more
}

// AskOption is one button, as the agent offered it.
type AskOption struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	Kind string `json:"kind"` // ACP: allow_once, allow_always, reject_once, reject_always; "" for others
}

// AskField is one input of a question's form.
type AskField struct {
	Name     string   `json:"name"`
	Label    string   `json:"label"`
	Type     string   `json:"type"` // string, number, boolean, choice, choices
	Choices  []string `json:"choices,omitempty"`
	Required bool     `json:"required,omitempty"`
}

// Answer is a person's decision on an Ask.
type Answer struct {
	Option string            `json:"option,omitempty"`
	Values map[string]string `json:"values,omitempty"` // of Fields
	Text   string            `json:"text,omitempty"`   // "request changes": said to the agent after the answer
	Author Author            `json:"author"`
	At     time.Time         `json:"at"`
}

// PullRequest is the task's one pull request, as last seen at the forge. For a
// plain git remote Number is 0 and URL is the task's compare view.
type PullRequest struct {
	Number int       `json:"number"`
	URL    string    `json:"url"`
	State  string    `json:"state"` // open, draft, merged, closed
	Title  string    `json:"title,omitempty"`
	Checks string    `json:"checks,omitempty"` // pending, success, failure; empty: none
	Review string    `json:"review,omitempty"` // approved, changes_requested
	Seen   time.Time `json:"seen,omitzero"`
}

// Change is the size of the branch against its base.
type Change struct {
	Files   int    `json:"files"`
	Added   int    `json:"added"`
	Removed int    `json:"removed"`
	Base    string `json:"base,omitempty"` // merge base commit
	Head    string `json:"head,omitempty"` // tip that is pushed or, unpushed, in the mirror
	Pushed  bool   `json:"pushed,omitempty"`
	Merged  string `json:"merged,omitempty"` // commit on the base branch, once merged from the page
}

// Usage counts model tokens and money.
type Usage struct {
	Input      int64 `json:"input"`
	Output     int64 `json:"output"`
	Cached     int64 `json:"cached"`
	Cost       int64 `json:"cost"`        // millionths of a US dollar, the currency of the models' price lists
	Context    int64 `json:"context"`     // tokens in the model's window now
	ContextMax int64 `json:"context_max"` // 0: unknown
}

// Secret is a value sealed with the mesh key. Scope is "" for the mesh or a
// project's id. The plain value is never in the log.
type Secret struct {
	Scope   ProjectID `json:"scope,omitempty"`
	Name    string    `json:"name"` // ANTHROPIC_API_KEY, OPENAI_API_KEY, GEMINI_API_KEY, GITHUB_TOKEN, ...
	Sealed  []byte    `json:"sealed"`
	Author  Author    `json:"author"`
	Updated time.Time `json:"updated"`
}
