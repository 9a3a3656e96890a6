package chat

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Limits of the decoder. A command beyond them was never proposed by Encode.
const (
	maxEntry    = 512 << 10
	maxLongText = MaxText
)

// Encode writes a command for the log. What Decode would refuse is an
// ErrInvalid or ErrTooLarge here, so that it never enters the log.
func Encode(cmd Command) ([]byte, error) {
	if cmd.Version == 0 {
		cmd.Version = Version
	}
	if err := checkVersion(nil, cmd, nil); err != nil {
		return nil, err
	}
	if err := check(cmd); err != nil {
		return nil, err
	}
	data, err := json.Marshal(cmd)
	if err != nil {
		return nil, fmt.Errorf("encoding command %s: %w", cmd.ID, err)
	}
	if len(data) > maxEntry {
		return nil, refuse(CodeTooLarge, "The command has %d bytes; %d are allowed.", len(data), maxEntry)
	}
	if bytes.Contains(data, []byte(`\ufffd`)) { // cleaning has changed what the caller gave
		if _, err := Decode(data); err != nil {
			return nil, err
		}
	}
	return data, nil
}

// Decode reads a command of the log. Invalid UTF-8 becomes the replacement
// character. Whatever this code does not know is an error: a node that
// skipped it would disagree with the others.
func Decode(data []byte) (Command, error) {
	if cmd, ok := quick(data); ok {
		if err := check(cmd); err != nil {
			return Command{}, fmt.Errorf("decoding a command: %w", err)
		}
		return cmd, nil
	}
	var cmd Command
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	err := dec.Decode(&cmd)
	if err := checkVersion(data, cmd, err); err != nil {
		return Command{}, err
	}
	if err != nil {
		return Command{}, fmt.Errorf("decoding a command: %w (what is not known was %w)", err, ErrNewer)
	}
	if _, err := dec.Token(); err != io.EOF {
		return Command{}, errors.New("decoding a command: something follows it")
	}
	if err := check(cmd); err != nil {
		return Command{}, fmt.Errorf("decoding a command: %w", err)
	}
	return cmd, nil
}

// checkVersion refuses a version that this code does not read. What a newer
// one wrote may fail to decode, and then the version says why.
func checkVersion(data []byte, cmd Command, failed error) error {
	version := cmd.Version
	if failed != nil {
		var head struct {
			Version int `json:"v"`
		}
		if err := json.Unmarshal(data, &head); err != nil {
			return fmt.Errorf("decoding a command: %w", err)
		}
		version = head.Version
	}
	switch {
	case version > Version:
		return fmt.Errorf("decoding a command: this samnode reads versions up to %d, and version %d was %w", Version, version, ErrNewer)
	case version < 1:
		return fmt.Errorf("decoding a command: version %d does not exist", version)
	}
	return nil
}

// check holds what every command must be, whoever wrote it.
func check(cmd Command) error {
	names := cmd.Op.names()
	switch {
	case len(names) != 1:
		return refuse(CodeInvalid, "A command carries exactly one op, this one has %d (%s).", len(names), strings.Join(names, ", "))
	case cmd.ID == "":
		return refuse(CodeInvalid, "A command needs an id.")
	case (cmd.Author.Person == "") == (cmd.Author.Node == ""):
		return refuse(CodeInvalid, "A command has one author: a person or a node.")
	}
	for _, id := range append(cmd.Op.ids(), cmd.ID, string(cmd.Author.Person), string(cmd.Author.Node)) {
		if err := checkID(id); err != nil {
			return err
		}
	}
	for _, text := range cmd.Op.texts() {
		if len(text) > maxLongText {
			return refuse(CodeTooLarge, "The text has %d bytes; %d are allowed. Put more into a file.", len(text), maxLongText)
		}
	}
	return nil
}

// checkID refuses what no id of ours looks like.
func checkID(id string) error {
	if len(id) > MaxID {
		return refuse(CodeTooLarge, "An id has %d bytes; %d are allowed.", len(id), MaxID)
	}
	if strings.ContainsFunc(id, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return refuse(CodeInvalid, "An id holds no spaces or control characters.")
	}
	return nil
}

// ids are the ids an op carries, those of agents' items left out: they are
// shortened where they are applied.
func (o Op) ids() []string {
	switch {
	case o.ProjectPut != nil:
		return []string{string(o.ProjectPut.Project.ID)}
	case o.ProjectRemove != nil:
		return []string{string(o.ProjectRemove.ID)}
	case o.SecretPut != nil:
		return []string{string(o.SecretPut.Secret.Scope), o.SecretPut.Secret.Name}
	case o.SecretRemove != nil:
		return []string{string(o.SecretRemove.Scope), o.SecretRemove.Name}
	case o.TaskCreate != nil:
		return []string{string(o.TaskCreate.ID), string(o.TaskCreate.Project), o.TaskCreate.Message, o.TaskCreate.Agent}
	case o.TaskEdit != nil:
		return []string{string(o.TaskEdit.Task)}
	case o.Say != nil:
		return []string{string(o.Say.Task), o.Say.Message}
	case o.QueueEdit != nil:
		return []string{string(o.QueueEdit.Task), o.QueueEdit.Message}
	case o.AskAnswer != nil:
		return []string{string(o.AskAnswer.Task)}
	case o.TurnSet != nil:
		return []string{string(o.TurnSet.Task), string(o.TurnSet.Turn), o.TurnSet.Prompt}
	case o.Place != nil:
		return []string{string(o.Place.Task), string(o.Place.Node), o.Place.Slot}
	case o.StepSet != nil:
		return []string{string(o.StepSet.Task), string(o.StepSet.Name)}
	case o.Arrive != nil:
		return []string{string(o.Arrive.Person)}
	case o.PersonPut != nil:
		return []string{string(o.PersonPut.Person)}
	case o.SettingPut != nil:
		return []string{o.SettingPut.Name}
	case o.Kept != nil:
		return []string{string(o.Kept.Task), o.Kept.Head}
	case o.Visits != nil:
		return []string{string(o.Visits.Task)}
	}
	return nil
}

// texts are the texts of people that an op carries.
func (o Op) texts() []string {
	switch {
	case o.TaskCreate != nil:
		return []string{o.TaskCreate.Text}
	case o.Say != nil:
		return []string{o.Say.Text}
	case o.QueueEdit != nil && o.QueueEdit.Text != nil:
		return []string{*o.QueueEdit.Text}
	case o.AskAnswer != nil:
		return []string{o.AskAnswer.Answer.Text}
	}
	return nil
}
