// Package acp holds the conversation with an agent that speaks the Agent
// Client Protocol (version 1) over the shim's journal.
//
// Everything that is known of the conversation is a pure function of the
// journal: [Conversation] takes the records in order and gives the chat items
// each of them makes. A node that restarts feeds the journal again from its
// first record, has the same state as before, and emits only what lies above
// the log's cursor. Nothing else is kept: the ids of our requests say what a
// response in the journal answers, and the lines we owe the agent are sent
// again under the same id, which the shim takes once.
//
// [Driver] makes the calls, [Batcher] joins items into few log entries.
package acp

import (
	"context"
	"strconv"
	"strings"
	"time"
)

// The directions of a record.
const (
	In   = "in"   // a line we sent to the agent
	Out  = "out"  // a line the agent wrote to its standard output
	Err  = "err"  // a line of its standard error
	Note = "note" // what the shim says of the process; see NoteExited
)

// MaxLine is the longest line of an agent that is read, in bytes.
const MaxLine = 64 << 20

// Record is one line of the shim's journal.
type Record struct {
	Seq  uint64    // dense from 1
	At   time.Time // when the shim saw it
	Dir  string    // In, Out, Err or Note
	ID   string    // of In: the id it was sent under
	Run  int       // which start of the agent process, from 1
	Data []byte    // the line without its newline
	Size int64     // bytes the line had if Data was cut; 0: whole
}

// Link sends lines to the agent.
type Link interface {
	// Send writes the line to the agent's standard input and journals it. A
	// second Send with the same id writes nothing and returns the first's seq.
	Send(ctx context.Context, id string, line []byte) (seq uint64, duplicate bool, err error)
}

// The ids of what we send. They are the JSON-RPC ids of requests, too.
func initID(run int) string         { return "init-" + strconv.Itoa(run) }
func sessionID(run int) string      { return "session-" + strconv.Itoa(run) }
func freshSessionID(run int) string { return sessionID(run) + "-new" }
func promptID(turn string) string   { return "prompt-" + turn }
func cancelID(turn string) string   { return "cancel-" + turn }
func answerID(ask string) string    { return "answer-" + ask }
func rejectID(item string) string   { return "reject-" + item }

// settingID names the nth change of a mode or config option of one run.
func settingID(run, n int) string { return "set-" + strconv.Itoa(run) + "-" + strconv.Itoa(n) }

// cutPrefix is strings.CutPrefix that refuses an empty rest.
func cutPrefix(s, prefix string) (string, bool) {
	rest, ok := strings.CutPrefix(s, prefix)
	return rest, ok && rest != ""
}
