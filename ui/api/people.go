package api

import (
	"fmt"
	"net/http"
	"slices"

	"github.com/samnode/samnode/chat"
)

// The roles of a person, from most to least; the last is none.
var roles = []string{"owner", "member", "viewer", ""}

// CheckRole refuses what is no role.
func CheckRole(role string) error {
	if !slices.Contains(roles, role) {
		return fmt.Errorf("%w: a role is owner, member or viewer; an empty one takes it away", chat.ErrInvalid)
	}
	return nil
}

func (s *server) people(w http.ResponseWriter, r *request) error {
	if s.c.People == nil {
		return errNotHere
	}
	list, err := s.c.People.People(r.Context())
	if err != nil {
		return fmt.Errorf("reading people: %w", err)
	}
	return answer(w, http.StatusOK, map[string]any{"people": notNil(list)})
}

func (s *server) setRole(w http.ResponseWriter, r *request) error {
	if s.c.People == nil {
		return errNotHere
	}
	var in struct {
		Role *string `json:"role"`
	}
	if err := decode(r, &in); err != nil {
		return err
	}
	if in.Role == nil {
		return fmt.Errorf("the role is missing: %w", chat.ErrInvalid)
	}
	if err := CheckRole(*in.Role); err != nil {
		return err
	}
	person := chat.Person(r.PathValue("person"))
	if err := s.c.People.SetRole(r.Context(), r.by, person, *in.Role); err != nil {
		return fmt.Errorf("setting the role of %.60q: %w", person, err)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (s *server) backup(w http.ResponseWriter, r *request) error {
	if s.c.Backups == nil {
		return errNotHere
	}
	b, err := s.c.Backups.Backup(r.Context())
	if err != nil {
		return fmt.Errorf("reading the state of backups: %w", err)
	}
	return answer(w, http.StatusOK, b)
}

func (s *server) setBackup(w http.ResponseWriter, r *request) error {
	if s.c.Backups == nil {
		return errNotHere
	}
	var in BackupSettings
	if err := decode(r, &in); err != nil {
		return err
	}
	if err := s.c.Backups.SetBackup(r.Context(), r.by, in); err != nil {
		return fmt.Errorf("setting backups: %w", err)
	}
	return s.backup(w, r)
}

func (s *server) backUp(w http.ResponseWriter, r *request) error {
	if s.c.Backups == nil {
		return errNotHere
	}
	made, err := s.c.Backups.BackUp(r.Context(), r.by)
	if err != nil {
		return fmt.Errorf("backing up: %w", err)
	}
	return answer(w, http.StatusOK, made)
}

// setting is a named value of the mesh; not every name has one.
type setting struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

func (s *server) setting(w http.ResponseWriter, r *request) error {
	if s.c.Settings == nil {
		return errNotHere
	}
	name := r.PathValue("name")
	return answer(w, http.StatusOK, setting{name, s.c.Settings.Setting(name)})
}

func (s *server) setSetting(w http.ResponseWriter, r *request) error {
	if s.c.Settings == nil {
		return errNotHere
	}
	var in struct {
		Value string `json:"value"`
	}
	if err := decode(r, &in); err != nil {
		return err
	}
	if err := s.c.Settings.SetSetting(r.Context(), r.by, r.PathValue("name"), in.Value); err != nil {
		return fmt.Errorf("setting %.60q: %w", r.PathValue("name"), err)
	}
	return s.setting(w, r)
}
