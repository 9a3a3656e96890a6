package provision

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// Mesh is which mesh this pool is of. The zero value: none was founded yet.
type Mesh struct {
	ID      string    `json:"id"` // ULID
	Founded time.Time `json:"founded"`
}

// Node is a member of the mesh. Its name is its own for as long as it is one.
// What its process said of itself comes with [Start] and [Beat].
type Node struct {
	Name   string    `json:"name"`
	Addr   string    `json:"addr"`
	Core   bool      `json:"core,omitempty"`
	Person string    `json:"person,omitempty"` // who invited it; empty for the founder
	Invite string    `json:"invite,omitempty"` // id of the invitation that it took
	Joined time.Time `json:"joined,omitzero"`

	Version    string    `json:"version,omitempty"`
	URL        string    `json:"url,omitempty"`        // where people reach its pages
	Boot       string    `json:"boot,omitempty"`       // random id of the running process
	Generation uint64    `json:"generation,omitempty"` // grows with each start; the node keeps it in its state directory
	Started    time.Time `json:"started,omitzero"`     // when that process announced itself

	Beat   time.Time `json:"beat,omitzero"`    // its newest sign of life: Start or Beats
	Index  uint64    `json:"index,omitempty"`  // of the entry that held it
	Report *Report   `json:"report,omitempty"` // nil: none yet
}

// fit tells whether a node can run tasks, as far as it has said.
func (n Node) fit() bool { return n.Report == nil || n.Report.Unfit == "" }

// kind is what a person calls a node like this.
func (n Node) kind() string {
	if n.Core {
		return "core node"
	}
	return "worker"
}

// Report is how a node says it is doing. It is small: every node sends one
// every few seconds, and the log holds them all.
type Report struct {
	Used     int      `json:"used"` // slots in use
	Load     float64  `json:"load"` // of the last minute
	CPUs     int      `json:"cpus"`
	Mem      int64    `json:"mem"` // bytes, as the next two
	MemFree  int64    `json:"mem_free"`
	DiskFree int64    `json:"disk_free"`
	Index    uint64   `json:"index"`              // newest log index applied; 0 on a worker
	Unfit    string   `json:"unfit,omitempty"`    // why it cannot run a task now, as a sentence
	Warnings []string `json:"warnings,omitempty"` // sentences for a person
}

// What is kept of a report's warnings.
const (
	maxWarnings = 8
	maxWarning  = 200 // bytes
)

// clip returns a copy of the report as the state keeps it.
func (r *Report) clip() *Report {
	if r == nil {
		return nil
	}
	kept := *r
	kept.Unfit = short(r.Unfit, maxWarning)
	kept.Warnings = nil
	for _, w := range r.Warnings[:min(len(r.Warnings), maxWarnings)] {
		kept.Warnings = append(kept.Warnings, short(w, maxWarning))
	}
	return &kept
}

// Invitation is an [Invite] in the state. It is kept until it has run out.
type Invitation struct {
	Invite
	Made time.Time `json:"made"`
	Node string    `json:"node,omitempty"` // who joined with it; empty: unused
	Used time.Time `json:"used,omitzero"`
}

// MaxInvites bounds the invitations that are open at once.
const MaxInvites = 1000

// Bounds of what a node says of itself.
const (
	maxName  = 63
	maxText  = 1024 // bytes of an address, a URL, a version, an id
	maxSlots = 1024
)

// CheckName says what is wrong with a node's name, or nothing. A name is a DNS
// label, so that each works in a URL.
func CheckName(name string) error {
	odd := func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' }
	if name == "" || len(name) > maxName || strings.ContainsFunc(name, odd) || name[0] == '-' || name[len(name)-1] == '-' {
		return refuse(CodeInvalid, "%q cannot be a node's name: use 1 to %d small letters, digits and hyphens, with a letter or digit at both ends.", short(name, 80), maxName)
	}
	return nil
}

// checkText refuses what is too long to keep in the state.
func checkText(texts ...string) error {
	for _, t := range texts {
		if len(t) > maxText {
			return refuse(CodeInvalid, "%q is too long: at most %d bytes are kept.", short(t, 40), maxText)
		}
	}
	return nil
}

// freeName proposes a name like the one that is taken.
func (p Pool) freeName(name string) string {
	for i := 2; ; i++ {
		end := fmt.Sprintf("-%d", i)
		try := strings.TrimRight(name[:min(len(name), maxName-len(end))], "-") + end
		_, taken := p.Node(try)
		_, bought := p.Machine(try)
		if !taken && !bought && !p.holds(try) {
			return try
		}
	}
}

// short cuts a text between two characters.
func short(s string, most int) string {
	if len(s) <= most {
		return s
	}
	for most > 0 && !utf8.RuneStart(s[most]) {
		most--
	}
	return s[:most] + "…"
}

// when writes a time into a sentence.
func when(t time.Time) string { return t.UTC().Format("2 January 2006 15:04 UTC") }
