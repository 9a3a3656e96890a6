package ui

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/samnode/samnode/chat"
	"github.com/samnode/samnode/ui/api"
)

// personView is a person of the mesh in the settings.
type personView struct {
	Person, Role, Since string
	Self, Waits         bool // Waits: an owner has to give a role
}

var roleChoices = []choice{
	{string(Owner), "Owner", "also nodes, people, secrets and backups"},
	{string(Member), "Member", "starts tasks, writes, answers, opens terminals"},
	{string(Viewer), "Viewer", "reads"},
	{"", "No role", "may not even read"},
}

// backupView is where backups go and what came of them.
type backupView struct {
	Set              api.BackupSettings
	Keep             string // as typed
	Facts            []fact
	Problem          string // of the last attempt, or that there is none
	CanRun, MayWrite bool
}

// schedules are proposed; any other that the field's help names works too.
var schedules = []string{"daily 03:00", "weekly sun 03:00", "every 6h", "hourly", "off"}

// meshSettings fills the parts of the settings that belong to the mesh.
func (s *Server) meshSettings(r *http.Request, v *settingsView) error {
	if s.People != nil {
		list, err := s.People.People(r.Context())
		if err != nil {
			return fmt.Errorf("reading people: %w", err)
		}
		now := s.Room.Now()
		for _, p := range list {
			row := personView{Person: line(string(p.Person), 100), Role: line(p.Role, 20), Waits: p.Role == "", Self: p.Person == callerOf(r).Person}
			if !p.Since.IsZero() {
				row.Since = "first here " + age(now, p.Since)
			}
			v.People = append(v.People, row)
		}
	}
	if s.Backups != nil {
		b, err := s.Backups.Backup(r.Context())
		if err != nil {
			return fmt.Errorf("reading the state of backups: %w", err)
		}
		view := newBackupView(b)
		view.MayWrite = callerOf(r).may(Owner)
		v.Backup = &view
	}
	return nil
}

func newBackupView(b api.Backup) backupView {
	v := backupView{Set: b.BackupSettings, CanRun: b.Destination != ""}
	if b.Keep > 0 {
		v.Keep = strconv.Itoa(b.Keep)
	}
	if b.Last != nil {
		v.Facts = append(v.Facts, fact{"Last", absolute(b.Last.At)}, fact{"Where", line(b.Last.Where, 200)},
			fact{"Size", size(b.Last.Size) + ", everything up to index " + thousands(b.Last.Index)})
	}
	if !b.Next.IsZero() {
		v.Facts = append(v.Facts, fact{"Next", absolute(b.Next)})
	}
	switch {
	case b.Failed != nil:
		v.Problem = "The last attempt, " + absolute(b.Failed.At) + ", failed: " + line(b.Failed.Text, 400)
	case b.Destination == "":
		v.Problem = "There is no backup. If the disks of the core nodes are lost, everything said here is."
	case b.Last == nil:
		v.Problem = "No backup was made yet."
	}
	return v
}

// newcomer is the answer to a person whom nobody gave a role.
func (s *Server) newcomer(r *http.Request) error {
	if s.People == nil {
		return &refusal{Viewer}
	}
	people, err := s.People.People(r.Context())
	if err != nil {
		return fmt.Errorf("reading people: %w", err)
	}
	var owners []string
	for _, p := range people {
		if p.Role == string(Owner) {
			owners = append(owners, line(string(p.Person), 100))
		}
	}
	return fmt.Errorf("%w: an owner has to give you a role first, under Settings, People: ask %s", errNoRight, strings.Join(owners, " or "))
}

func (s *Server) roleSet(w http.ResponseWriter, r *http.Request) error {
	if s.People == nil {
		return errNoPart
	}
	person, role := chat.Person(strings.TrimSpace(r.PostFormValue("person"))), r.PostFormValue("role")
	err := api.CheckRole(role)
	if err == nil {
		err = s.People.SetRole(r.Context(), callerOf(r).author(), person, role)
	}
	return s.settled(w, r, "/settings#people", err, nil)
}

func (s *Server) backupSet(w http.ResponseWriter, r *http.Request) error {
	if s.Backups == nil {
		return errNoPart
	}
	get := func(name string) string { return strings.TrimSpace(normal(r.PostFormValue(name))) }
	set := api.BackupSettings{Destination: get("destination"), Schedule: get("schedule"), Recipient: get("recipient")}
	var err error
	if keep := get("keep"); keep != "" {
		if set.Keep, err = strconv.Atoi(keep); err != nil || set.Keep < 0 {
			err = fmt.Errorf("%w: keep is a number of backups, empty keeps all", chat.ErrInvalid)
		}
	}
	if err == nil {
		err = s.Backups.SetBackup(r.Context(), callerOf(r).author(), set)
	}
	return s.settled(w, r, "/settings#backup", err, func(v *settingsView) {
		if v.Backup != nil {
			v.Backup.Set, v.Backup.Keep = set, get("keep")
		}
	})
}

func (s *Server) backUp(w http.ResponseWriter, r *http.Request) error {
	if s.Backups == nil {
		return errNoPart
	}
	_, err := s.Backups.BackUp(r.Context(), callerOf(r).author())
	return s.settled(w, r, "/settings#backup", err, nil)
}

// settled ends a change of the settings: a refusal shows them with the reason
// and what was typed.
func (s *Server) settled(w http.ResponseWriter, r *http.Request, to string, err error, fill func(*settingsView)) error {
	if err == nil {
		s.lookout.forget()
		return s.did(w, r, to)
	}
	if scripted(r) {
		return err
	}
	p := s.problem(r, err)
	return s.showSettings(w, r, &p, fill)
}

// backupWords are the settings for who cannot change them.
func backupWords(v backupView) string {
	if v.Set.Destination == "" {
		return ""
	}
	return "To " + visible(v.Set.Destination) + ", " + visible(v.Set.Schedule) + "."
}
