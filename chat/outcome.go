package chat

import (
	"errors"
	"fmt"
)

// Code is why a command was refused; one for each sentinel error.
type Code string

// The codes of a refusal. None means that the command was applied.
const (
	CodeNone     Code = ""
	CodeNotFound Code = "not_found"
	CodeRefused  Code = "refused"
	CodeInvalid  Code = "invalid"
	CodeStale    Code = "stale"
	CodeTooLarge Code = "too_large"
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

// refusal is a domain's no. It is an outcome, never an error of Apply.
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
	case CodeTooLarge:
		return ErrTooLarge
	case CodeRefused, CodeNone:
	}
	return ErrRefused
}

func refuse(code Code, format string, args ...any) error {
	return &refusal{code: code, text: fmt.Sprintf(format, args...)}
}

// outcomeOf turns an op's result into its outcome; what is no refusal is an
// error of Apply.
func outcomeOf(index uint64, err error) (Outcome, error) {
	var r *refusal
	switch {
	case err == nil:
		return Outcome{Index: index}, nil
	case errors.As(err, &r):
		return Outcome{Index: index, Code: r.code, Text: r.text}, nil
	}
	return Outcome{}, err
}
