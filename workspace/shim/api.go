package shim

import (
	"io"
	"syscall"
	"time"
)

const maxID = 1024 // bytes of an id

// Info is the shim's answer to Hello.
type Info struct {
	Protocol int       `json:"protocol"`
	Started  time.Time `json:"started"` // of this shim; another time means that it, and all processes, began anew
	Running  bool      `json:"running"` // an agent's process runs
	ID       string    `json:"id,omitempty"`
	PID      int       `json:"pid,omitempty"`
	Run      int       `json:"run"`               // of the running or last agent; 0: there was none
	Last     uint64    `json:"last"`              // newest record; 0: none
	Stderr   []byte    `json:"stderr,omitempty"`  // last 64 KiB of the agents' stderr since the shim started
	Trouble  string    `json:"trouble,omitempty"` // why the journal takes no records, so that the agent has to wait
}

// Spec is an agent to start. Its environment is the container's with HOME,
// USER, LOGNAME, SHELL and then Env on top; PATH of that finds the program.
type Spec struct {
	ID   string   `json:"id"`             // the same id while its process runs starts nothing
	Path string   `json:"path"`           // a name looked up in PATH, or a path
	Args []string `json:"args,omitempty"` // without argv[0]
	Env  []string `json:"env,omitempty"`  // NAME=value
	Dir  string   `json:"dir,omitempty"`  // empty: the home folder
}

// ExecSpec is a command to run in the workspace. Nil readers and writers are
// empty input and discarded output.
type ExecSpec struct {
	Args    []string `json:"args,omitempty"`    // argv; Args[0] is looked up as in Spec
	Command string   `json:"command,omitempty"` // without Args: a line for the shell; empty: a login shell, which reads Stdin
	Env     []string `json:"env,omitempty"`
	Dir     string   `json:"dir,omitempty"`
	// HangUp is what happens when the caller leaves: what still reads the input
	// or writes to the output gets SIGHUP and loses both, and the rest of what the
	// command started lives on. Without it the command and all that it started
	// are killed.
	HangUp bool `json:"hang_up,omitempty"`

	// Signals reach the command's process group while it runs; nil: none.
	Signals <-chan syscall.Signal `json:"-"`

	Stdin  io.Reader `json:"-"`
	Stdout io.Writer `json:"-"`
	Stderr io.Writer `json:"-"` // may be the same as Stdout
}

// TerminalSpec names a terminal, and says how to make it when it is new.
type TerminalSpec struct {
	ID   string   `json:"id"`
	Name string   `json:"name,omitempty"` // shown to people; empty: the id
	Rows uint16   `json:"rows,omitempty"` // 0: as it is, 24 when new
	Cols uint16   `json:"cols,omitempty"` // 0: as it is, 80 when new
	Args []string `json:"args,omitempty"` // empty: a login shell
	Dir  string   `json:"dir,omitempty"`
	Env  []string `json:"env,omitempty"`

	Command string `json:"command,omitempty"` // without Args: a line for the shell, which ends with it
	Alone   bool   `json:"alone,omitempty"`   // refused with ErrBusy while somebody is attached

	Who   Who  `json:"who,omitzero"`
	Watch bool `json:"watch,omitempty"` // what is typed, and sizes, are refused; implies Join
	Join  bool `json:"join,omitempty"`  // ErrNotFound where there is no such terminal
}

// Who is somebody at a terminal, as the node says that let them in. What runs
// in the workspace cannot: it does not reach the shim.
type Who struct {
	Person string `json:"person,omitempty"`
	Device string `json:"device,omitempty"`
	By     string `json:"by,omitempty"`    // "page", "ssh"
	Owner  bool   `json:"owner,omitempty"` // may take typing over from others
}

// Present is one attachment.
type Present struct {
	Who
	Since   time.Time `json:"since"`
	Watches bool      `json:"watches,omitempty"` // does not type
	Leads   bool      `json:"leads,omitempty"`   // typed last: the size is theirs
	You     bool      `json:"you,omitempty"`     // the one that is told
}

// TerminalInfo is an open terminal.
type TerminalInfo struct {
	ID       string    `json:"id"`
	Name     string    `json:"name"`
	PID      int       `json:"pid"`
	Started  time.Time `json:"started"`
	Rows     uint16    `json:"rows"`
	Cols     uint16    `json:"cols"`
	Attached int       `json:"attached"` // how many are there
	Maker    Who       `json:"maker,omitzero"`
	People   []Present `json:"people,omitempty"`   // in the order that they came
	Held     string    `json:"held,omitempty"`     // the only person who may type, until they leave
	Recorded bool      `json:"recorded,omitempty"` // from its begin to its end
}

// Port is a TCP port that a process of the workspace listens on.
type Port struct {
	Port    int       `json:"port"`
	Address string    `json:"address"`           // "127.0.0.1", "::", ...
	PID     int       `json:"pid,omitempty"`     // 0: not ours to see
	Process string    `json:"process,omitempty"` // its name
	Since   time.Time `json:"since,omitzero"`    // when the process started
}

// Typists counts who is there and does not only watch.
func (t TerminalInfo) Typists() (n int) {
	for _, p := range t.People {
		if !p.Watches {
			n++
		}
	}
	return n
}
