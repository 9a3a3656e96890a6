package api

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/samnode/samnode/chat"
)

// Shells are what people have open in workspaces, and what was recorded of it.
type Shells interface {
	Shells(ctx context.Context, task chat.TaskID) ([]Shell, error)
	// HoldShell lets one person alone type, or everybody again. An owner may take
	// that over; the others, where the shell is theirs.
	HoldShell(ctx context.Context, task chat.TaskID, shell string, who chat.Person, owner, on bool) error
	// Recordings are those on the machine that has the workspace, or had it last.
	Recordings(ctx context.Context, task chat.TaskID) ([]Recording, error)
	Recording(ctx context.Context, task chat.TaskID, name string) (io.ReadCloser, error)
}

// Shell is one of a workspace, made in a page or by ssh.
type Shell struct {
	ID       string    `json:"id"`
	Name     string    `json:"name"`
	Created  time.Time `json:"created"`
	Rows     uint16    `json:"rows"`
	Cols     uint16    `json:"cols"`
	Maker    string    `json:"maker,omitempty"` // person
	Held     string    `json:"held,omitempty"`  // the only person who may type
	Recorded bool      `json:"recorded,omitempty"`
	People   []Present `json:"people,omitempty"`
}

// Present is somebody in a shell.
type Present struct {
	Person  string    `json:"person"`
	Device  string    `json:"device,omitempty"`
	By      string    `json:"by,omitempty"` // page or ssh
	Since   time.Time `json:"since"`
	Watches bool      `json:"watches,omitempty"` // does not type
	Leads   bool      `json:"leads,omitempty"`   // typed last: the size is theirs
	You     bool      `json:"you,omitempty"`
}

// Recording is a file of asciicast's version 2.
type Recording struct {
	Name  string    `json:"name"`
	Size  int64     `json:"size"`  // bytes until now
	Ended time.Time `json:"ended"` // when something was written last
}

// Visit is somebody's use of a workspace, as it stands now.
type Visit struct {
	chat.Visit
	State   string  `json:"state"`   // live, over, lost (nobody saw the end) or unknown (its node does not answer)
	Seconds float64 `json:"seconds"` // from the begin to the end, or to now
}

// Visits are visits as they stand, the newest first. Alive says whether a node
// answers; nil: all do.
func Visits(list []chat.Visit, alive func(chat.Node) bool, now time.Time) []Visit {
	out := make([]Visit, 0, len(list))
	for _, v := range list {
		x, end := Visit{Visit: v, State: "live"}, v.Ended
		switch {
		case v.Lost:
			x.State = "lost"
		case !end.IsZero():
			x.State = "over"
		case alive != nil && !alive(v.Node):
			x.State, end = "unknown", v.Seen
		default:
			end = now
		}
		x.Seconds = max(end.Sub(v.Began), 0).Round(time.Millisecond).Seconds()
		out = append([]Visit{x}, out...)
	}
	return out
}

func (s *server) visits(w http.ResponseWriter, r *request) error {
	return answer(w, http.StatusOK, map[string]any{"visits": Visits(s.c.Room.Visits(r.task.ID), s.c.NodeAlive, time.Now())})
}

func (s *server) shells(w http.ResponseWriter, r *request) error {
	if s.c.Shells == nil {
		return errNotHere
	}
	list, err := s.c.Shells.Shells(r.Context(), r.task.ID)
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, map[string]any{"shells": append([]Shell{}, list...)})
}

func (s *server) holdShell(w http.ResponseWriter, r *request) error {
	if s.c.Shells == nil {
		return errNotHere
	}
	var in struct {
		On bool `json:"on"`
	}
	if err := decode(r, &in); err != nil {
		return err
	}
	have, err := s.rightTo(r.who, r.task)
	if err != nil {
		return err
	}
	if err := s.c.Shells.HoldShell(r.Context(), r.task.ID, r.PathValue("shell"), r.by.Person, have >= owns, in.On); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (s *server) recordings(w http.ResponseWriter, r *request) error {
	if s.c.Shells == nil {
		return errNotHere
	}
	list, err := s.c.Shells.Recordings(r.Context(), r.task.ID)
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, map[string]any{"recordings": append([]Recording{}, list...)})
}

func (s *server) recording(w http.ResponseWriter, r *request) error {
	if s.c.Shells == nil {
		return errNotHere
	}
	name := r.PathValue("recording")
	from, err := s.c.Shells.Recording(r.Context(), r.task.ID, name)
	if err != nil {
		return err
	}
	defer from.Close()
	SendRecording(w, name)
	if _, err := io.Copy(w, from); err != nil {
		s.c.Logger.Info("a recording was not sent whole", "task", r.task.ID, "name", name, "err", err)
		panic(http.ErrAbortHandler) // the other side sees that the end is missing
	}
	return nil
}

// SendRecording sets the headers of an answer that is a recording.
func SendRecording(w http.ResponseWriter, name string) {
	w.Header().Set("Content-Type", "application/x-asciicast")
	w.Header().Set("Content-Disposition", fmt.Sprintf("attachment; filename=%q", name))
	w.Header().Set("Cache-Control", "no-store")
}
