package ui

import (
	"context"
	"io"
	"time"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/ui/api"
)

// Writer changes the conversation. The id makes a second call with the same
// one harmless; the index is that of the log entry, which is applied here when
// Do returns.
type Writer interface {
	Do(ctx context.Context, by chat.Author, id string, op chat.Op) (uint64, error)
}

// Lists are the small things, held in memory.
type Lists interface {
	Projects() []chat.Project
	Project(idOrName string) (chat.Project, error)
}

// Reader reads one task and its messages. Messages gives up to limit of them
// with a Seq below before (0: the newest), oldest first.
type Reader interface {
	Task(id string) (chat.Task, error)
	Messages(ctx context.Context, task chat.TaskID, before uint64, limit int) ([]chat.Message, error)
	Message(ctx context.Context, task chat.TaskID, id string) (chat.Message, error)
}

// Stream blocks until something changed after an index. TasksSince looks before
// it waits: with a context that has ended it returns what is there, or
// context.Canceled when nothing is.
type Stream interface {
	Since(ctx context.Context, task chat.TaskID, after uint64, limit int) (chat.Batch, error)
	TasksSince(ctx context.Context, after uint64) ([]chat.Task, uint64, error)
}

// Clock is how far this node's log is. Wait returns once it has reached index.
type Clock interface {
	Index() uint64
	Wait(ctx context.Context, index uint64) error
	Now() time.Time
}

// Archive is what settings, the log tab and the export links read.
type Archive interface {
	Export(ctx context.Context, w io.Writer, task chat.TaskID, format string) error
	Secrets(scope chat.ProjectID) []chat.Secret
	Visits(task chat.TaskID) []chat.Visit
}

// Room is one node's live view of the conversation, as chat.Room is.
type Room interface {
	Writer
	Lists
	Reader
	Stream
	Clock
	Archive
}

// AgentInfo is an agent that a task can run with.
type AgentInfo struct {
	Name  string // script, claude, codex, gemini, opencode, qwen
	Label string
	Ready bool
	Why   string // why it is not ready, or how it is signed in
}

// TerminalInfo is one terminal of a workspace, and Present somebody at it.
type (
	TerminalInfo = api.Shell
	Present      = api.Present
)

// Attach says who comes to which terminal, and how.
type Attach struct {
	ID         string
	Rows, Cols uint16
	Person     chat.Person
	Owner      bool // may take typing over
	Watch      bool // neither types, nor resizes, nor makes one
}

// Port is a listening port of a workspace.
type Port struct {
	Number  int
	Process string
	Since   time.Time
}

// DiffOptions choose what a diff shows.
type DiffOptions struct {
	Scope       string // "branch" (default): against the base; "turn": the last turn; "now": the live workspace against the base
	Path        string // a file or folder; "": all
	Context     int    // lines around a change
	IgnoreSpace bool
}

// Paths is Path as a list of those that are shown; none: all.
func (o DiffOptions) Paths() []string {
	if o.Path == "" {
		return nil
	}
	return []string{o.Path}
}

// Diff is a change of files.
type Diff struct {
	Files []DiffFile
	Base  string // commit
	Head  string
	Note  string // what the reader should know: "base is 12 commits ahead"
}

// DiffFile is the change of one file.
type DiffFile struct {
	Path    string
	From    string // the old path, when it moved
	Status  string // added, deleted, renamed, modified
	Added   int
	Removed int
	Binary  bool
	Hunks   []Hunk
	Note    string // "mode 100644 → 100755"
}

// Hunk is a run of lines. Title is what git puts behind the second @@.
type Hunk struct {
	Old, New int // first line numbers
	Title    string
	Lines    []DiffLine
}

// DiffLine is one line of a hunk: Op is ' ', '+' or '-'.
type DiffLine struct {
	Op   byte
	Text string
}
