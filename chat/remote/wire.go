// Package remote is the chat's Room of another node, over HTTP between nodes:
// what a worker, which has no log, needs to run the tasks that it has leases
// of.
//
// The server gives a node the tasks whose lease it has, their projects and
// their messages, and nothing of other tasks; and it takes from a node what the
// holder of a lease reports. The client, a [Room], outlives the node that it
// asks: it asks again, or asks another core node, until its context ends.
//
// Every answer says up to which log index its node was when it answered, and
// every call says how far its caller has seen. A core node that is behind that
// waits before it answers, so a client never sees the chat go back.
package remote

import (
	"errors"
	"time"

	"github.com/samnode/samnode/chat"
)

// The calls. Each is a POST of JSON that is answered in JSON.
const (
	pathTasks    = "/tasks"
	pathTask     = "/task"
	pathProject  = "/project"
	pathMessage  = "/message"
	pathMessages = "/messages"
	pathDo       = "/do"
)

// Limits and times of calls.
const (
	maxCall   = 1 << 20  // bytes of a call: one command and its envelope
	maxAnswer = 64 << 20 // bytes of an answer: a task with a full queue of long messages has 13 MiB
	maxKnown  = 10_000   // tasks that a caller knows
	fill      = 8 << 20  // bytes after which an answer takes no further task or message

	pollFor  = 10 * time.Second // a call for changes is answered then, if only with nothing
	doFor    = 8 * time.Second  // a proposal is given up by the server, and made again by the client
	catchUp  = 3 * time.Second  // most that a server waits to reach what its caller has seen
	margin   = 5 * time.Second  // a client waits so much longer than a server
	readFor  = 5 * time.Second  // for the answer to a read
	boundFor = 15 * time.Second // for a read that no context ends, tries included
	bodyWait = 10 * time.Second // for the body of a call to arrive
)

// ErrAway: no core node answered.
var ErrAway = errors.New("no core node of the mesh answers")

// seen is the newest log index of which the caller has an answer.
type seen struct {
	Seen uint64 `json:"seen"`
}

func (s seen) index() uint64 { return s.Seen }

// tasksCall waits for changes after a log index, of tasks that the caller has
// a lease of or, as far as it knows, had.
type tasksCall struct {
	seen
	After uint64        `json:"after"`
	Known []chat.TaskID `json:"known,omitempty"`
}

type taskCall struct {
	seen
	Task chat.TaskID `json:"task"`
}

type projectCall struct {
	seen
	Project chat.ProjectID `json:"project"`
}

type messageCall struct {
	seen
	Task chat.TaskID `json:"task"`
	ID   string      `json:"id"`
}

type messagesCall struct {
	seen
	Task   chat.TaskID `json:"task"`
	Before uint64      `json:"before,omitempty"`
	Limit  int         `json:"limit,omitempty"`
}

type doCall struct {
	seen
	ID string      `json:"id"`
	By chat.Author `json:"by"`
	Op chat.Op     `json:"op"`
}

// answer is that of every call. A refusal is an answer, too: the outcome has
// its sentence.
type answer struct {
	At       uint64         `json:"at"` // log index that the answering node has reached: nothing in here is newer
	Outcome  chat.Outcome   `json:"outcome,omitzero"`
	Next     uint64         `json:"next,omitempty"`  // cursor of tasksCall
	Tasks    []chat.Task    `json:"tasks,omitempty"` // of a task that is not the caller's, a stub
	Projects []chat.Project `json:"projects,omitempty"`
	Messages []chat.Message `json:"messages,omitempty"`
}

// failure is the body of a call that was not answered: ask again.
type failure struct {
	Error string `json:"error"`
}

// stub is all that a node hears of a task whose lease it has not.
func stub(t chat.Task) chat.Task {
	return chat.Task{ID: t.ID, Index: t.Index, Workspace: t.Workspace}
}

// codes are the chat's refusals, which mean the same at both ends.
var codes = map[chat.Code]error{
	chat.CodeNotFound: chat.ErrNotFound,
	chat.CodeRefused:  chat.ErrRefused,
	chat.CodeInvalid:  chat.ErrInvalid,
	chat.CodeStale:    chat.ErrStale,
	chat.CodeTooLarge: chat.ErrTooLarge,
}

// refusal is the outcome that an error of the chat reads as; false: it is none,
// and the call may be tried again.
func refusal(err error) (chat.Outcome, bool) {
	for code, is := range codes {
		if errors.Is(err, is) {
			return chat.Outcome{Code: code, Text: err.Error()}, true
		}
	}
	return chat.Outcome{}, false
}

func refuse(code chat.Code, text string) error { return chat.Outcome{Code: code, Text: text}.Err() }
