package chat

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"
)

// State is the conversation in memory: projects, tasks, who visited their
// workspaces, secrets, people, settings, the outcomes of the last commands. Messages are on disk.
//
// One goroutine applies commands and owns everything but the tables' bases,
// which it shares with the readers of Room: they are changed in Commit only,
// under Room's lock.
type State struct {
	meta, saved meta

	projects table[ProjectID, *Project]
	tasks    table[TaskID, *Task]
	secrets  table[string, Secret] // by secretKey
	people   table[Person, *Member]
	settings table[string, Setting] // by name
	visits   table[TaskID, []Visit]
	usual    table[string, []int64] // by usualKey: milliseconds of the last runs of a step
	numbers  table[string, uint64]  // command id to its number
	commands table[uint64, command] // by number modulo window
	window   uint64
}

// meta is what the state knows of itself.
type meta struct {
	Index    uint64    `json:"index"`    // of the last command that was applied
	Now      time.Time `json:"now"`      // the newest time of an entry
	Commands uint64    `json:"commands"` // how many were remembered so far
}

// command is one remembered command.
type command struct {
	Number  uint64  `json:"n"`
	ID      string  `json:"id"`
	Outcome Outcome `json:"outcome"`
}

// The kinds of row.
const (
	rowMeta    = "meta"
	rowProject = "project"
	rowTask    = "task"
	rowSecret  = "secret"
	rowPerson  = "person"
	rowSetting = "setting"
	rowVisits  = "visits"
	rowUsual   = "usual"
	rowCommand = "command"
)

// NewState is the empty conversation.
func NewState() *State {
	return &State{
		projects: newTable[ProjectID, *Project](),
		tasks:    newTable[TaskID, *Task](),
		secrets:  newTable[string, Secret](),
		people:   newTable[Person, *Member](),
		settings: newTable[string, Setting](),
		visits:   newTable[TaskID, []Visit](),
		usual:    newTable[string, []int64](),
		numbers:  newTable[string, uint64](),
		commands: newTable[uint64, command](),
		window:   MaxCommands,
	}
}

// Apply applies one command of the log. A refusal is an outcome, see
// [State.Outcome]; an error comes from m only and means that the node must
// stop (or drop the batch with [State.Rollback] and try again).
func (s *State) Apply(index uint64, at time.Time, cmd Command, m Messages) error {
	s.Pass(index, at)
	if _, known := s.Outcome(cmd.ID); known {
		return nil
	}
	a := &applier{s: s, index: index, now: s.meta.Now, by: cmd.Author, m: m, tasks: map[TaskID]*Task{}, messages: map[messageKey]Message{}}
	out, err := outcomeOf(index, a.apply(cmd.Op))
	if err != nil {
		return fmt.Errorf("applying command %s: %w", cmd.ID, err)
	}
	if out.Code == CodeNone {
		if err := a.finish(); err != nil {
			return fmt.Errorf("writing messages of command %s: %w", cmd.ID, err)
		}
	}
	s.remember(cmd.ID, out)
	return nil
}

// Pass moves index and time past an entry that holds nothing for the chat.
func (s *State) Pass(index uint64, at time.Time) {
	if at = utc(at); at.After(s.meta.Now) {
		s.meta.Now = at
	}
	s.meta.Index = index
}

// apply calls the op's function.
func (a *applier) apply(op Op) error {
	switch {
	case op.ProjectPut != nil:
		return a.projectPut(op.ProjectPut)
	case op.ProjectRemove != nil:
		return a.projectRemove(op.ProjectRemove)
	case op.SecretPut != nil:
		return a.secretPut(op.SecretPut)
	case op.SecretRemove != nil:
		return a.secretRemove(op.SecretRemove)
	case op.Arrive != nil:
		return a.arrive(op.Arrive)
	case op.PersonPut != nil:
		return a.personPut(op.PersonPut)
	case op.SettingPut != nil:
		return a.settingPut(op.SettingPut)
	case op.TaskCreate != nil:
		return a.taskCreate(op.TaskCreate)
	case op.TaskEdit != nil:
		return a.taskEdit(op.TaskEdit)
	case op.Say != nil:
		return a.say(op.Say)
	case op.QueueEdit != nil:
		return a.queueEdit(op.QueueEdit)
	case op.AskAnswer != nil:
		return a.askAnswer(op.AskAnswer)
	case op.Stop != nil:
		return a.stop(op.Stop)
	case op.Retry != nil:
		return a.retry(op.Retry)
	case op.Release != nil:
		return a.release(op.Release)
	}
	return a.applyLeased(op)
}

// applyLeased calls the functions of the ops of nodes and the leader.
func (a *applier) applyLeased(op Op) error {
	switch {
	case op.Place != nil:
		return a.place(op.Place)
	case op.Expire != nil:
		return a.expire(op.Expire)
	case op.StepSet != nil:
		return a.stepSet(op.StepSet)
	case op.Session != nil:
		return a.session(op.Session)
	case op.TurnSet != nil:
		return a.turnSet(op.TurnSet)
	case op.Items != nil:
		return a.items(op.Items)
	case op.Note != nil:
		return a.note(op.Note)
	case op.Branch != nil:
		return a.branch(op.Branch)
	case op.End != nil:
		return a.end(op.End)
	case op.Pull != nil:
		return a.pull(op.Pull)
	case op.Kept != nil:
		return a.kept(op.Kept)
	case op.Visits != nil:
		return a.visits(op.Visits)
	}
	return refuse(CodeInvalid, "The command carries no op.")
}

// names are the JSON names of the op's set fields; a well-formed one has one.
func (o Op) names() []string {
	var names []string
	v := reflect.ValueOf(o)
	for i := range v.NumField() {
		if !v.Field(i).IsNil() {
			name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
			names = append(names, name)
		}
	}
	return names
}

// remember keeps the outcome and forgets the one that fell out of the window.
func (s *State) remember(id string, out Outcome) {
	slot := s.meta.Commands % s.window
	if old, ok := s.commands.get(slot); ok {
		s.numbers.remove(old.ID)
	}
	s.commands.put(slot, command{Number: s.meta.Commands, ID: id, Outcome: out})
	s.numbers.put(id, s.meta.Commands)
	s.meta.Commands++
}

// Outcome says what became of the command with that id, or false when it is
// not among the last [MaxCommands].
func (s *State) Outcome(id string) (Outcome, bool) {
	n, ok := s.numbers.get(id)
	if !ok {
		return Outcome{}, false
	}
	c, _ := s.commands.get(n % s.window)
	return c.Outcome, true
}

// Index is the log index of the last command applied; Now the newest time.
func (s *State) Index() uint64 { return s.meta.Index }

// Now is the newest time that an applied entry carried; it never goes back.
func (s *State) Now() time.Time { return s.meta.Now }

// Task returns a copy of a task, uncommitted changes included.
func (s *State) Task(id TaskID) (Task, bool) {
	t, ok := s.tasks.get(id)
	if !ok {
		return Task{}, false
	}
	return cloneTask(*t), true
}

// Edits are the small things that changed since the last Commit. A store writes
// them in the transaction that holds the messages.
func (s *State) Edits() []Edit {
	var edits []Edit
	if s.meta != s.saved {
		edits = append(edits, Edit{Kind: rowMeta, ID: rowMeta, value: s.meta})
	}
	return s.appendEdits(edits, false)
}

// Rows returns the whole state, sorted: two equal states give equal rows.
func (s *State) Rows() ([]Row, error) {
	var rows []Row
	for _, e := range s.appendEdits([]Edit{{Kind: rowMeta, ID: rowMeta, value: s.meta}}, true) {
		r, err := e.Row()
		if err != nil {
			return nil, err
		}
		if r.Data != nil {
			rows = append(rows, r)
		}
	}
	slices.SortFunc(rows, func(a, b Row) int { return strings.Compare(a.Kind+"\x00"+a.ID, b.Kind+"\x00"+b.ID) })
	return rows, nil
}

func (s *State) appendEdits(edits []Edit, all bool) []Edit {
	edits = tableEdits(edits, rowProject, &s.projects, all)
	edits = tableEdits(edits, rowTask, &s.tasks, all)
	edits = tableEdits(edits, rowSecret, &s.secrets, all)
	edits = tableEdits(edits, rowPerson, &s.people, all)
	edits = tableEdits(edits, rowSetting, &s.settings, all)
	edits = tableEdits(edits, rowVisits, &s.visits, all)
	edits = tableEdits(edits, rowUsual, &s.usual, all)
	return s.appendCommands(edits, all)
}

// Commit makes what was applied visible to readers and returns the tasks that
// changed. Room calls it under its lock, after the store's commit.
func (s *State) Commit() []TaskID {
	s.projects.commit()
	s.secrets.commit()
	s.people.commit()
	s.settings.commit()
	s.visits.commit()
	s.usual.commit()
	s.numbers.commit()
	s.commands.commit()
	s.saved = s.meta
	return s.tasks.commit()
}

// Rollback forgets what was applied since the last Commit.
func (s *State) Rollback() {
	s.projects.rollback()
	s.tasks.rollback()
	s.secrets.rollback()
	s.people.rollback()
	s.settings.rollback()
	s.visits.rollback()
	s.usual.rollback()
	s.numbers.rollback()
	s.commands.rollback()
	s.meta = s.saved
}

// Load rebuilds a state from the rows of [State.Edits], the last of each (kind,
// id), and the texts of messages that wait for an agent. It is
// committed.
func Load(rows []Row, text func(task TaskID, message string) (string, error)) (*State, error) {
	s := NewState()
	for _, r := range rows {
		if r.Data == nil {
			continue
		}
		if err := s.loadRow(r); err != nil {
			return nil, fmt.Errorf("loading %s %q: %w", r.Kind, r.ID, err)
		}
	}
	if err := s.fill(text); err != nil {
		return nil, err
	}
	s.Commit()
	return s, nil
}

func (s *State) loadRow(r Row) error {
	switch r.Kind {
	case rowMeta:
		return json.Unmarshal(r.Data, &s.meta)
	case rowProject:
		return loadInto(&s.projects, ProjectID(r.ID), r.Data)
	case rowTask:
		return loadInto(&s.tasks, TaskID(r.ID), r.Data)
	case rowSecret:
		return loadInto(&s.secrets, r.ID, r.Data)
	case rowPerson:
		return loadInto(&s.people, Person(r.ID), r.Data)
	case rowSetting:
		return loadInto(&s.settings, r.ID, r.Data)
	case rowVisits:
		return loadInto(&s.visits, TaskID(r.ID), r.Data)
	case rowUsual:
		return loadInto(&s.usual, r.ID, r.Data)
	case rowCommand:
		return s.loadCommands(r.Data)
	}
	return fmt.Errorf("a row of unknown kind: %w", ErrNewer)
}
