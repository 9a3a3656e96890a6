package api

import (
	"fmt"
	"net/http"
	"time"

	"github.com/samnode/samnode/chat"
)

// Port is a port that something in a task's workspace listens on.
type Port struct {
	Port    int       `json:"port"`
	Process string    `json:"process,omitempty"` // its name; "": not known
	Since   time.Time `json:"since,omitzero"`    // when the process started
	Open    string    `json:"open,omitempty"`    // path that leads a browser to its preview
}

func (s *server) ports(w http.ResponseWriter, r *request) error {
	if s.c.Ports == nil {
		return errNotHere
	}
	if r.task.Lease == nil {
		return fmt.Errorf("no workspace of this task is alive; a message starts one: samnode task say %s TEXT: %w", r.task.ID, chat.ErrRefused)
	}
	list, err := s.c.Ports(r.Context(), r.task.ID)
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, map[string]any{"ports": append([]Port{}, list...)})
}
