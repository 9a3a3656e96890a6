// Package files is the way from a node into the files of a live workspace.
//
// [Serve] runs in the container, as the workspace's user, for one call, and
// [Client] starts it there: a call is a line of JSON and what is written, and
// its answer a line of JSON and what is read. All paths go through an os.Root on
// the working copy, so neither "..", nor a link, nor a link that is swapped
// while it is looked at leads out of it. The node opens no file itself.
//
// What runs in the container can be tampered with by the agent, which has the
// same rights there: the client takes its answers as the agent's word.
package files

import (
	"encoding/base64"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Errors that a caller can tell from others. Their texts are for people.
var (
	ErrNotFound = errors.New("no such file")
	ErrExists   = errors.New("it is there already")
	ErrRefused  = errors.New("refused") // by a rule of this package, or by the rights of the file
	ErrInvalid  = errors.New("not a path")
	ErrFull     = errors.New("disk full")
)

// Kind is what something in a folder is.
type Kind string

// The kinds. Only files and folders can be opened.
const (
	File   Kind = "file"
	Folder Kind = "folder"
	Link   Kind = "link"
	FIFO   Kind = "fifo"
	Socket Kind = "socket"
	Device Kind = "device"
)

// Bytes are a name as the file system has it, which need not be UTF-8. In JSON
// they are base64.
type Bytes string

// MarshalText implements encoding.TextMarshaler.
func (b Bytes) MarshalText() ([]byte, error) {
	return base64.StdEncoding.AppendEncode(nil, []byte(b)), nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (b *Bytes) UnmarshalText(text []byte) error {
	raw, err := base64.StdEncoding.AppendDecode(nil, text)
	*b = Bytes(raw)
	return err
}

// Info is one thing in a folder.
type Info struct {
	Name    Bytes     `json:"name"`
	Kind    Kind      `json:"kind"`
	Size    int64     `json:"size,omitempty"` // bytes, of a file
	Mode    uint32    `json:"mode,omitempty"` // permission bits
	Changed time.Time `json:"changed"`
	Link    Bytes     `json:"link,omitempty"`  // where a link points to, up to 512 bytes of it
	Leads   Kind      `json:"leads,omitempty"` // what is there; "": nothing, or it is outside
}

// View is what is at a path.
type View struct {
	Info            // of what a link leads to, when the path is one
	Entries []Info  // of a folder: folders first, .git last
	Total   int     // how many entries there are
	More    bool    // there are more than Total, which nobody counted
	Body    Content // of a file that was asked for with its content; else nil
	Length  int64   // of Body
}

// gitDir is where git keeps its own. It can be read, and not changed from here.
const gitDir = ".git"

const (
	maxPath = 4096
	maxName = 255
)

// Clean checks a path in the working copy and brings it into its shortest form;
// "" is the working copy itself. Every error is an ErrInvalid and has a sentence.
func Clean(p string) (string, error) {
	switch {
	case strings.ContainsRune(p, 0):
		return "", invalid("%s has a zero byte in it, and no file's name does", Quote(p))
	case len(p) > maxPath:
		return "", invalid("%s… is too long for a path: %d bytes are, and %d may be", Quote(p[:40]), len(p), maxPath)
	case strings.HasPrefix(p, "/"):
		return "", invalid("%s is outside the workspace: paths begin in the working copy, without a slash", Quote(p))
	case slices.Contains(strings.Split(p, "/"), ".."):
		return "", invalid("%s is outside the workspace, or goes there by way of “..”", Quote(p))
	}
	if p = path.Clean(p); p == "." {
		p = ""
	}
	return p, nil
}

// CheckName refuses what no new file should be called: what cannot be typed,
// hides, or would be taken for something else.
func CheckName(name string) error {
	switch {
	case name == "" || name == "." || name == ".." || strings.Contains(name, "/"):
		return invalid("%s is no name for a file", Quote(name))
	case name == gitDir:
		return refused("%s is git's own, and is not changed from here", gitDir)
	case len(name) > maxName:
		return invalid("the name %s… is too long: %d bytes are, and %d may be", Quote(cut(name, 40)), len(name), maxName)
	case !utf8.ValidString(name):
		return invalid("the name %s is not UTF-8: give it another", Quote(name))
	case strings.ContainsFunc(name, odd):
		return invalid("the name %s has characters that are not to be seen: give it another", Quote(name))
	}
	return nil
}

func cut(s string, n int) string { return strings.ToValidUTF8(s[:min(n, len(s))], "") }

// odd is a control character, or one that hides or reorders text.
func odd(r rune) bool { return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) }

// Quote shows a name with what hides in it.
func Quote(name string) string {
	if !utf8.ValidString(name) || strings.ContainsFunc(name, odd) {
		q := fmt.Sprintf("%q", name)
		return "“" + q[1:len(q)-1] + "”"
	}
	return "“" + name + "”"
}

// problem is an error whose text is a sentence for people.
type problem struct {
	text string
	is   error
}

func (p *problem) Error() string { return p.text }
func (p *problem) Unwrap() error { return p.is }

func invalid(format string, a ...any) error {
	return &problem{fmt.Sprintf(format, a...), ErrInvalid}
}

func refused(format string, a ...any) error {
	return &problem{fmt.Sprintf(format, a...), ErrRefused}
}

func gone(p string) error {
	return &problem{"there is no " + Quote(p), ErrNotFound}
}

func there(p string) error {
	return &problem{Quote(p) + " is there already", ErrExists}
}
