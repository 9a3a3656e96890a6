package provision

import (
	"errors"
	"fmt"
)

// What a refused command's error wraps.
var (
	ErrNotFound = errors.New("not found")
	ErrRefused  = errors.New("refused")
	ErrInvalid  = errors.New("invalid")
	ErrStale    = errors.New("stale")
)

// Code is why a command was refused; one for each sentinel error.
type Code string

// The codes of a refusal. None means that the command was applied.
const (
	CodeNone     Code = ""
	CodeNotFound Code = "not_found"
	CodeRefused  Code = "refused"
	CodeInvalid  Code = "invalid"
	CodeStale    Code = "stale" // a token, or a process, that another has followed
)

// Outcome is what became of a command.
type Outcome struct {
	Index uint64 `json:"index"`          // log index of the entry that was applied first
	Code  Code   `json:"code,omitempty"` // empty: applied
	Text  string `json:"text,omitempty"` // the refusal as a sentence for a person
}

// Err is nil for an applied command, else an error that wraps one of this
// package's sentinels and reads as the outcome's sentence.
func (o Outcome) Err() error {
	if o.Code == CodeNone {
		return nil
	}
	return &refusal{code: o.Code, text: o.Text}
}

// Refusal returns the outcome that a refusal stands for, for one who sends it
// on to another node; false for any other error.
func Refusal(err error) (Outcome, bool) {
	if r, ok := errors.AsType[*refusal](err); ok {
		return Outcome{Code: r.code, Text: r.text}, true
	}
	return Outcome{}, false
}

// refusal is the pool's no. It is an outcome, never an error of Apply.
type refusal struct {
	code Code
	text string
}

func (r *refusal) Error() string { return r.text }

func (r *refusal) Unwrap() error {
	switch r.code {
	case CodeNotFound:
		return ErrNotFound
	case CodeInvalid:
		return ErrInvalid
	case CodeStale:
		return ErrStale
	case CodeRefused, CodeNone:
	}
	return ErrRefused
}

func refuse(code Code, format string, args ...any) error {
	return &refusal{code: code, text: fmt.Sprintf(format, args...)}
}

// MaxCommands is how many commands the state remembers.
const MaxCommands = 4096

// remembered is a command whose outcome can be asked for.
type remembered struct {
	ID      string  `json:"id"`
	Outcome Outcome `json:"outcome"`
}

// window holds the last commands, oldest first.
type window struct {
	list []remembered
	byID map[string]Outcome
}

func (w *window) add(r remembered) {
	if w.byID == nil {
		w.byID = make(map[string]Outcome)
	}
	w.list, w.byID[r.ID] = append(w.list, r), r.Outcome
	if len(w.list) > MaxCommands {
		delete(w.byID, w.list[0].ID)
		w.list[0] = remembered{}
		w.list = w.list[1:]
	}
}
